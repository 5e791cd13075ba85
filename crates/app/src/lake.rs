//! Where the built-in lake of a project is: a folder of the data dir, or what the operator of the hub said.

use std::path::Path;

use linkspan_core::{Context, Error, ErrorKind, Result, Secret};
use serde_json::{Map, Value, json};

use crate::{
    caller::DEFAULT_PROJECT,
    registry::Registry,
    run::Endpoint,
    secrets::{Redactor, Values},
};

/// The connector type that may leave out where it is.
const TYPE: &str = "lake";
/// What may be said of the built-in lake: nothing that leads elsewhere.
const TUNING: [&str; 3] = ["compression", "row_group_rows", "target_file_mb"];

/// Whether a config means the built-in lake. One that does may say how files are written; where they go, and with which keys, is not its
/// matter.
pub(crate) fn is_built_in(kind: &str, config: &Map<String, Value>) -> Result<bool> {
    if kind != TYPE || config.get("path").is_some_and(|path| !path.is_null()) {
        return Ok(false);
    }
    match config.keys().find(|field| !TUNING.contains(&field.as_str()) && *field != "path") {
        None => Ok(true),
        Some(field) => Err(Error::new(
            ErrorKind::ConfigInvalid,
            "a lake without a `path` is the built-in one, whose place and keys are the operator's",
        )
        .with("field", field)
        .fix("add `path`, such as s3://bucket/prefix, or leave the field out")),
    }
}

/// A place for the built-in lake that the operator chose, each project in its own part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeHome {
    /// `s3://bucket/prefix`, or a folder.
    pub url: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<Secret>,
    pub session_token: Option<Secret>,
    /// An endpoint without TLS is all right.
    pub allow_http: bool,
}

/// What knows where it is.
pub(crate) struct Lake<'a> {
    pub home: Option<&'a LakeHome>,
    pub data_dir: &'a Path,
    pub registry: &'a Registry,
    pub context: &'a Context,
}

impl Lake<'_> {
    /// The project's part of it, as the config of its type.
    pub(crate) fn config(&self, project: &str) -> (Value, Redactor) {
        let Some(home) = self.home else {
            let path = self.data_dir.join("lake").join(project);
            return (json!({ "path": path.display().to_string() }), Redactor::of(&Values::new()));
        };
        let secrets = secrets_of(home);
        let mut config = json!({ "path": format!("{}/{project}", home.url.trim_end_matches('/')), "allow_http": home.allow_http });
        for (field, value) in [("endpoint", &home.endpoint), ("region", &home.region), ("access_key_id", &home.access_key_id)] {
            if let Some(value) = value {
                config[field] = value.as_str().into();
            }
        }
        for (field, value) in &secrets {
            config[field] = value.clone();
        }
        (config, Redactor::of(&secrets))
    }
    /// It, ready to be opened.
    pub(crate) fn endpoint(&self, project: &str) -> Result<(Endpoint, Redactor)> {
        let (config, redactor) = self.config(project);
        let kind = self.registry.named(TYPE, ErrorKind::Unsupported)?.clone();
        Ok((Endpoint::new(kind, config).named(TYPE), redactor))
    }
    /// Whether what the operator said can be one. Nothing is connected to.
    pub(crate) fn check(&self) -> Result<()> {
        if self.home.is_none() {
            return Ok(());
        }
        let (endpoint, redactor) = self.endpoint(DEFAULT_PROJECT)?;
        let checked = endpoint.open_destination(self.context.clone());
        checked.map(drop).map_err(|e| redactor.error(&e).with("setting", "LINKSPAN_LAKE_URL"))
    }
}

fn secrets_of(home: &LakeHome) -> Values {
    let given = [("secret_access_key", &home.secret_access_key), ("session_token", &home.session_token)];
    given.into_iter().filter_map(|(field, secret)| Some((field.to_owned(), secret.as_ref()?.expose().into()))).collect()
}
