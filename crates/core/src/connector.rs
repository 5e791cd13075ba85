//! Connector types: data plus one function. Nothing registers itself; the binary's registry lists them.

use std::{borrow::Cow, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Context, Destination, Ends, Error, ErrorKind, MASK, PoolState, Result, Source, mask_url, misfit, suggest};

/// A catalog entry: what it is, and how to open one.
#[derive(Clone)]
pub struct ConnectorType {
    pub spec: Spec,
    schema: Arc<dyn Fn() -> Value + Send + Sync>,
    open: Arc<Open>,
    maker: Maker,
}

/// Whose words a type's config is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    House,
    Guest,
}

/// Opens a connector from its config; does no I/O.
type Open = dyn Fn(Value, Context) -> Result<Arc<dyn Connector>> + Send + Sync;

#[derive(Clone, Debug, Serialize)]
pub struct Spec {
    /// `[a-z0-9_]+`.
    pub name: Cow<'static, str>,
    pub title: Cow<'static, str>,
    /// Markdown with Setup and Limits headings.
    pub docs: Cow<'static, str>,
    pub aliases: Vec<Cow<'static, str>>,
    pub roles: Vec<Role>,
    pub is_queryable: bool,
    /// A config that validates, for docs and tests. Holds no real secret.
    pub example: Value,
    /// URL schemes of the shorthand (`postgres://...`, `csv:./file`), and how a URL becomes a config.
    #[serde(skip)]
    pub url: Option<UrlForm>,
    /// Files that may be uploaded into a connector of the type; then its config's `path` may be left out.
    #[serde(skip)]
    pub uploads: Option<Uploads>,
}

/// What a type takes as uploaded files: it reads a folder of them.
#[derive(Clone, Copy, Debug)]
pub struct Uploads {
    /// How the names of such files end, in small letters (`.csv`).
    pub endings: &'static [&'static str],
    /// Judges a file that is here whole and is to bear this name, by blocking reads. `DataInvalid` when it is not what its name says, or
    /// when it would unpack to more than that many bytes; then the error's context has `unpacked_limit_bytes`.
    pub judge: fn(file: &Path, name: &str, unpacked: u64) -> Result<()>,
}

/// The shorthand of a type.
#[derive(Clone, Copy, Debug)]
pub struct UrlForm {
    pub schemes: &'static [&'static str],
    /// File name endings that name this type without a scheme (`.csv`, `.parquet`).
    pub extensions: &'static [&'static str],
    /// Gets the text as the user wrote it, scheme included when there was one.
    pub config: fn(&str) -> Result<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Source,
    Destination,
    Actions,
    Webhooks,
    Query,
}

impl Spec {
    pub fn empty() -> Self {
        Self {
            name: "".into(),
            title: "".into(),
            docs: "".into(),
            aliases: vec![],
            roles: vec![],
            is_queryable: false,
            example: Value::Null,
            url: None,
            uploads: None,
        }
    }
}

impl ConnectorType {
    /// The config struct is the single source: its derives give the schema that validates, documents, redacts and draws the form.
    /// It must carry `#[serde(deny_unknown_fields)]`. `open` does no I/O.
    pub fn new<C, K>(spec: Spec, open: impl Fn(C, Context) -> Result<K> + Send + Sync + 'static) -> Self
    where
        C: DeserializeOwned + JsonSchema,
        K: Connector + 'static,
    {
        let name = spec.name.clone();
        Self {
            spec,
            schema: Arc::new(|| schemars::schema_for!(C).to_value()),
            maker: Maker::House,
            open: Arc::new(move |value, ctx| {
                let config = C::deserialize(&value).map_err(|e| {
                    let error = config_error(&name, &schemars::schema_for!(C).to_value(), &e);
                    match misfit::field_at_fault::<C>(&value, &e) {
                        Some(field) if !error.context().iter().any(|(k, _)| *k == "field") => error.with("field", field),
                        _ => error,
                    }
                })?;
                Ok(Arc::new(open(config, ctx)?) as Arc<dyn Connector>)
            }),
        }
    }
    /// A type that is known only at run time, from what somebody else wrote: its config is described by a JSON Schema in which secret
    /// fields carry `x-secret`. A field means what its author says: none is taken for one of the house's own. `open` does no I/O.
    pub fn guest(spec: Spec, schema: Value, open: impl Fn(Value, Context) -> Result<Arc<dyn Connector>> + Send + Sync + 'static) -> Self {
        Self { spec, schema: Arc::new(move || schema.clone()), open: Arc::new(open), maker: Maker::Guest }
    }
    pub fn is_guest(&self) -> bool {
        self.maker == Maker::Guest
    }
    /// Whether the config's `path` is one of a file; a field of that name may also mark itself as part of an address (`x-address`).
    pub fn names_files(&self) -> bool {
        let path = |schema: &Value| schema["properties"].get("path").is_some_and(|path| path["x-address"] != true);
        !self.is_guest() && path(&self.config_schema())
    }
    pub fn open(&self, config: Value, ctx: Context) -> Result<Arc<dyn Connector>> {
        (self.open)(config, ctx)
    }
    /// The config's JSON Schema; secret fields carry `x-secret` (`true`, or `"password"` for a URL that holds one).
    pub fn config_schema(&self) -> Value {
        (self.schema)()
    }
    /// The config as it may be shown: every secret masked.
    pub fn redact(&self, config: &Value) -> Value {
        redact(config, &self.config_schema())
    }
    pub fn has_role(&self, role: Role) -> bool {
        self.spec.roles.contains(&role)
    }
    /// Whether `name` is this type's name or one of its aliases.
    pub fn answers_to(&self, name: &str) -> bool {
        self.spec.name == name || self.spec.aliases.iter().any(|a| a == name)
    }
}

fn redact(config: &Value, schema: &Value) -> Value {
    let Value::Object(fields) = config else { return config.clone() };
    let properties = &schema["properties"];
    let shown = fields.iter().map(|(k, v)| {
        let secret = &properties[k]["x-secret"];
        let shown = match (secret, v) {
            (Value::Bool(true), Value::Null) => Value::Null,
            (Value::Bool(true), _) => MASK.into(),
            (Value::String(_), Value::String(url)) => mask_url(url).into(),
            // A field that the schema does not know may be a misspelt secret: its value is not shown.
            _ if properties.get(k).is_none() => MASK.into(),
            // Something inside is secret: which part that is depends on the value's shape, so that nothing of it is shown.
            (_, Value::Object(_) | Value::Array(_)) if holds_secret(schema, &properties[k], 0) => MASK.into(),
            _ => v.clone(),
        };
        (k.clone(), shown)
    });
    Value::Object(shown.collect())
}

fn holds_secret(root: &Value, schema: &Value, depth: usize) -> bool {
    const DEEPEST: usize = 16;
    match schema {
        _ if depth > DEEPEST => true,
        Value::Object(fields) => {
            let is_marked = fields.get("x-secret").is_some_and(|mark| *mark != Value::Bool(false));
            let target = fields.get("$ref").and_then(Value::as_str).and_then(|r| root.pointer(r.trim_start_matches('#')));
            is_marked || target.into_iter().chain(fields.values()).any(|inner| holds_secret(root, inner, depth + 1))
        }
        Value::Array(all) => all.iter().any(|inner| holds_secret(root, inner, depth + 1)),
        _ => false,
    }
}

fn config_error(name: &str, schema: &Value, e: &serde_json::Error) -> Error {
    let known: Vec<&str> = schema["properties"].as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
    let text = e.to_string();
    // serde's texts name fields in backquotes and may quote the value that is wrong; a value may be a secret, so only names are kept.
    let field = text.split('`').nth(1).unwrap_or_default().to_owned();
    let mut error = match text.split(' ').next() {
        // Of an unknown variant serde quotes the value; that one is told with what was expected, below.
        Some("unknown") if text.starts_with("unknown field") => {
            let fix =
                suggest::did_you_mean(&field, known.iter().copied()).unwrap_or_else(|| format!("the fields are: {}", known.join(", ")));
            Error::new(ErrorKind::ConfigInvalid, "the config has a field that this connector does not know").with("field", &field).fix(fix)
        }
        Some("missing") => Error::new(ErrorKind::ConfigInvalid, "the config lacks a field")
            .with("field", &field)
            .fix(format!("add `{field}`; `linkspan catalog show {name}` describes it")),
        _ => Error::new(ErrorKind::ConfigInvalid, "a field of the config has a value of the wrong kind")
            .with("expected", misfit::expected(&text))
            .fix(format!("compare the config with `linkspan catalog show {name}`")),
    };
    error = error.with("connector_type", name);
    error
}

/// An open connector. Opening does no I/O; `check` does.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Reaches the system and proves that the credentials work.
    async fn check(&self) -> Result<Checked>;
    fn source(&self) -> Option<Arc<dyn Source>> {
        None
    }
    fn destination(&self) -> Option<Arc<dyn Destination>> {
        None
    }
    /// The sessions that it keeps between uses; `None` for one that keeps none. Whoever opened it closes it.
    fn pool(&self) -> Option<PoolState> {
        None
    }
    /// Sets sessions aside for one run of at most `lanes` lanes at once, waiting for other runs to end where it must. The answer is the
    /// same connector, whose source and destination draw on these alone. `None`: nothing limits it. Two connectors are reserved in the
    /// order of their addresses, so that no two runs wait for each other.
    async fn reserve(&self, _ends: Ends, _lanes: usize) -> Result<Option<Reserved>> {
        Ok(None)
    }
    /// Ends the sessions that lie idle; those in use end when they are given back. What is used after that keeps nothing.
    async fn close(&self) {}
}

/// A connector whose sessions are set aside for one run; dropping it and all that was made of it gives them back.
pub struct Reserved {
    pub connector: Arc<dyn Connector>,
    /// So many lanes at once always find their sessions.
    pub lanes: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Checked {
    pub server_version: Option<String>,
    pub database: Option<String>,
    pub streams: Option<usize>,
    pub latency: Duration,
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::{Secret, SecretUrl};

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        /// Where.
        url: Option<SecretUrl>,
        /// The key.
        api_key: Option<Secret>,
        /// A secret with a name.
        login: Option<Login>,
    }
    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Login {
        user: String,
        token: Secret,
    }
    struct Nothing;
    #[async_trait]
    impl Connector for Nothing {
        async fn check(&self) -> Result<Checked> {
            Ok(Checked::default())
        }
    }
    fn acme() -> ConnectorType {
        ConnectorType::new(Spec { name: "acme".into(), ..Spec::empty() }, |_: Config, _| Ok(Nothing))
    }

    #[test]
    fn an_unknown_field_is_named_with_the_nearest_right_one() {
        let e = acme().open(json!({"api_kee": "canary"}), Context::real()).err().unwrap();
        assert_eq!((e.kind(), e.suggested_fix()), (ErrorKind::ConfigInvalid, Some("did you mean \"api_key\"?")));
        assert!(!format!("{e:?}").contains("canary"));
    }

    #[test]
    fn a_field_with_a_wrong_value_is_named_and_the_value_is_not_shown() {
        for wrong in [json!({"login": {"user": 7, "token": "t"}, "url": "x://u:canary@h"}), json!({"api_key": null, "login": "canary"})] {
            let e = acme().open(wrong, Context::real()).err().unwrap();
            assert!(e.context().iter().any(|(k, v)| *k == "field" && v == "login"), "{e:?}");
            assert!(!format!("{e:?}").contains("canary"), "{e:?}");
        }
    }

    #[test]
    fn a_shown_config_has_no_secret() {
        let shown = acme().redact(
            &json!({"url": "x://u:canary@h", "api_key": "canary", "misspelt": "canary", "login": {"user": "u", "token": "canary"}}),
        );
        assert!(!shown.to_string().contains("canary"), "{shown}");
    }
}
