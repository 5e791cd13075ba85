//! The spec of a manifest: how a config looks, what is made of it before it is used, and which of its values are secret.

mod rules;
mod secrets;

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::component::Component;
use rules::Transformation;

/// The manifest's `spec`.
pub struct Spec<'a> {
    schema: &'a Value,
    spec: Component<'a>,
}

/// A config as the source uses it.
pub struct Prepared {
    pub config: Value,
    /// The config with the migrations alone, when they changed it: the platform is to keep it.
    pub migrated: Option<Value>,
}

impl<'a> Spec<'a> {
    /// `None` for a manifest without one.
    pub fn of(root: &'a Value) -> Result<Option<Self>> {
        let Some(spec) = root.get("spec").filter(|s| !s.is_null()) else { return Ok(None) };
        let spec = Component::new(spec, "spec")?;
        let schema = spec.field("connection_specification").ok_or_else(|| spec.error("connection_specification is missing"))?;
        Ok(Some(Self { schema, spec }))
    }

    /// JSON Schema of the config, as the manifest has it.
    pub fn schema(&self) -> &'a Value {
        self.schema
    }

    /// The protocol's SPEC message.
    pub fn message(&self) -> Value {
        let mut message = Map::new();
        if let Some(url) = self.spec.field("documentation_url").filter(|u| crate::truth::is_true(u)) {
            message.insert("documentationUrl".into(), url.clone());
        }
        message.insert("connectionSpecification".into(), self.schema.clone());
        if let Some(auth) = self.spec.field("advanced_auth") {
            let mut auth = plain(auth);
            if let Some(Value::Object(input)) = auth.pointer_mut("/oauth_config_specification/oauth_connector_input_specification") {
                input.entry("scopes_join_strategy").or_insert_with(|| "space".into());
            }
            message.insert("advanced_auth".into(), auth);
        }
        message.into()
    }

    /// Migrations, then transformations, in the manifest's order.
    pub fn prepare(&self, given: Value) -> Result<Prepared> {
        let Some(rules) = self.spec.child("config_normalization_rules")? else { return Ok(Prepared { config: given, migrated: None }) };
        let mut config = given.clone();
        for migration in rules.children("config_migrations")? {
            transform(&migration, &mut config)?;
        }
        let migrated = (config != given).then(|| config.clone());
        transform(&rules, &mut config)?;
        Ok(Prepared { config, migrated })
    }

    /// Whether the config is as the spec's schema says. The error names the place and the rule, never a value.
    pub fn check(&self, config: &Value) -> Result<()> {
        let mut config = config.clone();
        if let Some(fields) = config.as_object_mut() {
            fields.retain(|key, _| key != "_limit" && key != "_page_size");
        }
        rules::adheres(&config, self.schema)
            .map_err(|e| e.fix("compare the config with what `linkspan manifest spec` prints, or `linkspan catalog show` for a type"))
    }

    /// The manifest's own validations.
    pub fn validate(&self, config: &Value) -> Result<()> {
        let Some(rules) = self.spec.child("config_normalization_rules")? else { return Ok(()) };
        rules.children("validations")?.iter().try_for_each(|validation| rules::validate(validation, config))
    }

    /// The config's values that must never be shown.
    pub fn secrets(&self, config: &Value) -> Vec<String> {
        secrets::of(self.schema, config)
    }
}

fn transform(holder: &Component<'_>, config: &mut Value) -> Result<()> {
    for component in holder.children("transformations")? {
        Transformation::build(&component)?.apply(config)?;
    }
    Ok(())
}

/// A sign-in's components without what belongs to the manifest. The schemas in them stay as they are.
fn plain(value: &Value) -> Value {
    let Value::Object(fields) = value else { return value.clone() };
    let kept = fields.iter().filter(|(key, value)| *key != "$parameters" && *key != "type" && !value.is_null());
    let plain = |(key, value): (&String, &Value)| {
        let is_component = matches!(key.as_str(), "oauth_config_specification" | "oauth_connector_input_specification");
        (key.clone(), if is_component { plain(value) } else { value.clone() })
    };
    kept.map(plain).collect::<Map<_, _>>().into()
}

/// A config is one JSON object.
pub fn parse(text: &str) -> Result<Value> {
    let wrong = || Error::new(ErrorKind::ConfigInvalid, "the config is not a JSON object");
    let value: Value = serde_json::from_str(text).map_err(|e| wrong().with("line", e.line()))?;
    if value.is_object() { Ok(value) } else { Err(wrong()) }
}
