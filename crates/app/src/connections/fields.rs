//! What people write about a connection.

use std::{borrow::Cow, time::Duration};

use linkspan_core::{Error, ErrorKind, ReadMode, Result, Swap, WriteMode};
use linkspan_engine::{
    gate::{Drift, Policies, Policy},
    plan::Choice,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kept::RetryPolicy;
use crate::{
    operation::Patch,
    schedule::{self, Form},
};

/// A connection that is to be made.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{"name": "orders", "from": "shop", "dest": "lake", "streams": ["orders"], "mode": "incremental",
    "schedule": "*/15 * * * *"}]))]
pub struct New {
    /// Unique in its project: 1 to 100 characters that can stand in an address.
    #[schemars(length(min = 1, max = 100), regex(pattern = r"^[^\s/\\?#\x00-\x1f]+$"))]
    pub name: String,
    /// The source connector, by name or id.
    pub from: String,
    /// The destination: `connector`, or `connector:name` with a table's name for one stream and a schema's for several. `lake` is
    /// built in, `data` the project's default destination.
    pub dest: String,
    /// Names and patterns; all streams when empty.
    #[serde(default)]
    pub streams: Streams,
    /// `full` when not said.
    #[serde(default)]
    pub mode: Option<ReadMode>,
    /// The column that tells what is new, for `incremental`.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Without it: merge when the stream has a key and only changes are read, append when it has none, replace for a full read.
    #[serde(default)]
    pub write: Option<WriteMode>,
    /// The columns that identify a row, where the source does not say.
    #[serde(default)]
    pub key: Vec<String>,
    #[serde(default)]
    pub swap: Option<Swap>,
    /// When it runs by itself: a cron expression, `every 15m`, or an object with time zone, jitter and catch_up.
    #[serde(default)]
    pub schedule: Option<Form>,
    #[serde(default)]
    pub policies: Option<Policies>,
    #[serde(default)]
    pub options: Option<Options>,
    /// True when not said. A disabled connection does not run by itself.
    #[serde(default)]
    pub enabled: Option<bool>,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default)]
    pub retry: Option<Retries>,
    /// How long one attempt may take: `2h`. Without it a run takes as long as it needs.
    #[serde(default)]
    pub timeout: Option<String>,
    /// How many lanes move at once, 1 to 1024; the number of cores, 2 to 8, when not said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: Option<u32>,
    /// Memory for rows in flight, in MB, 1 to 1048576; 64 when not said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub memory: Option<u32>,
}

/// What is to be different of a connection: a field that is left out stays, null takes it away.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Changes {
    /// Id or name.
    pub connection: String,
    pub name: Patch<String>,
    /// Another source starts from its beginning.
    pub from: Patch<String>,
    /// Another destination is filled from the beginning.
    pub dest: Patch<String>,
    pub streams: Patch<Streams>,
    pub mode: Patch<ReadMode>,
    pub cursor: Patch<String>,
    pub write: Patch<WriteMode>,
    pub key: Patch<Vec<String>>,
    pub swap: Patch<Swap>,
    pub schedule: Patch<Form>,
    pub policies: Patch<Policies>,
    pub options: Patch<Options>,
    pub enabled: Patch<bool>,
    pub description: Patch<String>,
    pub retry: Patch<Retries>,
    pub timeout: Patch<String>,
    pub concurrency: Patch<u32>,
    pub memory: Patch<u32>,
}

/// Other words for policies.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// What happens when a stream's columns change, for all streams.
    pub schema_drift: Option<Policy>,
}

impl Options {
    pub(super) fn into_policies(self, mut policies: Policies) -> Policies {
        if let Some(policy) = self.schema_drift {
            policies.drift = Drift::all(policy);
        }
        policies
    }
}

/// How a run is tried again after an error that may pass: a server that is down, a limit, a timeout.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// 1 to 20, the first try included; 3 when not said.
    pub attempts: Option<u32>,
    /// How long to wait before the second try; doubled each time. `10s` when not said.
    pub backoff: Option<String>,
    /// The longest wait: `10m` when not said.
    pub max_backoff: Option<String>,
}

impl Retries {
    pub(super) fn policy(self) -> Result<RetryPolicy> {
        let usual = RetryPolicy::default();
        let attempts = self.attempts.unwrap_or(usual.attempts);
        if !(1..=20).contains(&attempts) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a run has 1 to 20 attempts").with("field", "retry.attempts").fix("write 3"));
        }
        let length = |field, text: Option<String>, usual| text.map_or(Ok(usual), |t| length(field, &t));
        let first = length("retry.backoff", self.backoff, usual.first)?;
        Ok(RetryPolicy { attempts, first, longest: length("retry.max_backoff", self.max_backoff, usual.longest)? })
    }
    /// As the hub shows it: what is not said filled in, lengths spelled in one way.
    pub fn shown(self) -> Result<Self> {
        self.policy().map(|policy| Self::of(&policy))
    }
    pub(super) fn of(policy: &RetryPolicy) -> Self {
        let spelled = |d| Some(schedule::spelled(d));
        Self { attempts: Some(policy.attempts), backoff: spelled(policy.first), max_backoff: spelled(policy.longest) }
    }
}

pub(super) fn length(field: &'static str, text: &str) -> Result<Duration> {
    schedule::duration(text).map_err(|e| e.with("field", field))
}

/// Names and patterns of streams, as a list, or as one text with commas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Streams(pub Vec<Choice>);

impl<'de> Deserialize<'de> for Streams {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(d)? {
            serde_json::Value::String(text) => {
                Ok(Self(text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Choice::from).collect()))
            }
            list => serde_json::from_value(list).map(Self).map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for Streams {
    fn schema_name() -> Cow<'static, str> {
        "Streams".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let list = generator.subschema_for::<Vec<Choice>>();
        schemars::json_schema!({ "anyOf": [list, { "type": "string", "description": "Names with commas between them." }] })
    }
}
