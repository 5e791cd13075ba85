//! What a manifest does to a config, and what it demands of one.

use jsonschema::Draft;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::{
    component::Component,
    dpath::{self, Step},
    template::{Condition, Mapping, Scope, Template, Types},
};

/// One change of a config.
pub(super) enum Transformation {
    Add { fields: Vec<(Vec<Step>, Value, Template, Types)>, condition: Option<Condition> },
    Remove { pointers: Vec<Vec<Step>>, condition: Option<Condition> },
    Remap { path: Vec<Template>, map: Mapping },
}

impl Transformation {
    pub(super) fn build(component: &Component<'_>) -> Result<Self> {
        let condition = || -> Result<Option<Condition>> {
            let is_empty = matches!(component.field("condition"), Some(Value::String(text)) if text.is_empty());
            if is_empty { Ok(None) } else { component.condition("condition") }
        };
        match component.kind() {
            "ConfigAddFields" => {
                let fields = component.children("fields")?.iter().map(added).collect::<Result<_>>()?;
                Ok(Self::Add { fields, condition: condition()? })
            }
            "ConfigRemoveFields" => {
                let pointers = component.field("field_pointers").and_then(Value::as_array);
                let pointers = pointers.ok_or_else(|| component.error("field_pointers is missing"))?;
                Ok(Self::Remove { pointers: pointers.iter().map(steps).collect(), condition: condition()? })
            }
            "ConfigRemapField" => {
                let path = component.templates("field_path")?;
                let map = component.mapping("map")?;
                match map.filter(|_| !path.is_empty()) {
                    Some(map) => Ok(Self::Remap { path, map }),
                    None => Err(component.error("a remapped field needs field_path and map")),
                }
            }
            _ => Err(component.unknown_kind()),
        }
    }

    pub(super) fn apply(&self, config: &mut Value) -> Result<()> {
        match self {
            Self::Add { fields, condition } => fields.iter().try_for_each(|field| add(config, field, condition.as_ref())),
            Self::Remove { pointers, condition } => {
                if let Some(condition) = condition
                    && !condition.eval(&Scope::at_system_time(config))?
                {
                    return Ok(());
                }
                pointers.iter().try_for_each(|pointer| dpath::delete(config, pointer, None).map(drop))
            }
            Self::Remap { path, map } => remap(config, path, map),
        }
    }
}

fn added(component: &Component<'_>) -> Result<(Vec<Step>, Value, Template, Types)> {
    let path = component.field("path").cloned().unwrap_or_default();
    let way = steps(&path);
    if way.is_empty() {
        return Err(component.error("an added field needs a path"));
    }
    let types = match component.text("value_type")? {
        Some("string") => Types::TEXT,
        Some("number") => Types::FLOAT,
        Some("integer") => Types::INTEGER,
        Some("boolean") => Types::BOOLEAN,
        _ => Types::ANY,
    };
    Ok((way, path, component.required_template("value")?, types))
}

fn steps(path: &Value) -> Vec<Step> {
    path.as_array().into_iter().flatten().map(Step::of).collect()
}

fn add(config: &mut Value, (way, path, value, types): &(Vec<Step>, Value, Template, Types), condition: Option<&Condition>) -> Result<()> {
    let new = value.value_typed(&Scope::at_system_time(config), *types)?;
    if let Some(condition) = condition
        && !condition.eval(&Scope::at_system_time(config).with("value", &new).with("path", path))?
    {
        return Ok(());
    }
    dpath::put(config, way, new)
}

/// A value that the map does not know stays.
fn remap(config: &mut Value, path: &[Template], map: &Mapping) -> Result<()> {
    let scope = Scope::at_system_time(config);
    let names = path.iter().map(|step| step.text(&scope)).collect::<Result<Vec<_>>>()?;
    let map = map.eval(&scope)?;
    let Some((last, way)) = names.split_last() else { return Ok(()) };
    let mut holder = &mut *config;
    for name in way {
        match holder.get_mut(name) {
            Some(next @ Value::Object(_)) => holder = next,
            _ => return Ok(()),
        }
    }
    let Some(current) = holder.get_mut(last) else { return Ok(()) };
    if let Some(new) = current.as_str().and_then(|key| map.get(key)) {
        *current = new.clone();
    }
    Ok(())
}

/// One of the manifest's validations.
pub(super) fn validate(validation: &Component<'_>, config: &Value) -> Result<()> {
    let strategy = validation.required("validation_strategy")?;
    if strategy.kind() != "ValidateAdheresToSchema" {
        return Err(strategy.unknown_kind());
    }
    let nothing = Value::Object(Map::new());
    let schema = strategy.field("base_schema").unwrap_or(&nothing);
    let values = match validation.kind() {
        "PredicateValidator" => validation.field("value").into_iter().collect(),
        "DpathValidator" => {
            let scope = Scope::at_system_time(&nothing);
            let path = validation.templates("field_path")?;
            let path = path.iter().map(|t| Ok(Step::of(&t.value(&scope)?))).collect::<Result<Vec<_>>>()?;
            if path.is_empty() {
                return Err(validation.error("field_path is empty"));
            }
            dpath::values(config, &path)
        }
        _ => return Err(validation.unknown_kind()),
    };
    values.into_iter().try_for_each(|value| validated(value, schema).map_err(|e| e.with("path", validation.path())))
}

/// A text is read as JSON first.
fn validated(value: &Value, schema: &Value) -> Result<()> {
    let Value::String(text) = value else { return adheres(value, schema) };
    let parsed = serde_json::from_str(text).map_err(|_| Error::new(ErrorKind::ConfigInvalid, "a value of the config is not JSON text"))?;
    adheres(&parsed, schema)
}

/// The draft that a schema names; the newest where it names none, or one that nobody knows, as Python's `jsonschema` has it.
fn draft_of(schema: &Value) -> Draft {
    match schema["$schema"].as_str().map(|name| name.trim_end_matches('#')) {
        Some("http://json-schema.org/draft-04/schema") => Draft::Draft4,
        Some("http://json-schema.org/draft-06/schema") => Draft::Draft6,
        Some("http://json-schema.org/draft-07/schema") => Draft::Draft7,
        Some("https://json-schema.org/draft/2019-09/schema") => Draft::Draft201909,
        _ => Draft::Draft202012,
    }
}

/// Against a JSON schema. References lead nowhere but into the schema itself.
pub(super) fn adheres(value: &Value, schema: &Value) -> Result<()> {
    let draft = draft_of(schema);
    let mut schema = schema.clone();
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("$schema");
    }
    let validator = jsonschema::options().with_draft(draft).should_validate_formats(false).build(&schema).map_err(|e| {
        Error::new(ErrorKind::ConfigInvalid, "the manifest has a JSON schema that is none")
            .with("at", e.schema_path())
            .fix("repair the schema in the manifest")
    })?;
    match validator.iter_errors(value).next() {
        None => Ok(()),
        Some(e) => {
            let place = e.instance_path().to_string();
            let at = if place.is_empty() { "the config's root".to_owned() } else { place };
            let mut error = Error::new(ErrorKind::ConfigInvalid, "the config is not as the source's spec says").with("field", at);
            // The name of a field that must be there is no value.
            if let jsonschema::error::ValidationErrorKind::Required { property: Value::String(name) } = e.kind() {
                error = error.with("missing", name);
            }
            Err(error.with("rule", e.schema_path()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_of_no_known_draft_is_one_of_the_newest() {
        for name in ["http://json-schema.org/schema#", "https://json-schema.org/draft-07/schema", "http://127.0.0.1:9/draft-07/schema#", ""]
        {
            let inner = json!({"$schema": name, "type": "object", "required": ["id"]});
            let schema = json!({"$schema": name, "type": "object", "properties": {"a": inner}});
            assert!(adheres(&json!({"a": {"id": 1}}), &schema).is_ok(), "{name}");
            assert!(adheres(&json!({"a": {}}), &schema).is_err(), "{name}");
        }
        let older = json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]});
        assert!(adheres(&json!([1]), &older).is_err(), "draft 7 still has lists of items");
    }
}
