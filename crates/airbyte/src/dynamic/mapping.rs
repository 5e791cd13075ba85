//! What is put where in a stream's template.

use linkspan_core::Result;
use serde_json::Value;

use crate::{
    component::Component,
    slice::Slice,
    template::{Condition, Scope, Template, Types},
    wiring::Build,
    yaml,
};

/// A stream's template and its mappings, ready for many sets of values.
pub(super) struct Filling {
    build: Build,
    template: Value,
    mappings: Vec<Mapping>,
}

pub(super) struct Mapping {
    way: Vec<Template>,
    value: Template,
    types: Types,
    pub(super) creates: bool,
    condition: Option<Condition>,
}

impl Filling {
    pub(super) fn build(resolver: &Component<'_>, template: &Value, build: Build) -> Result<Self> {
        let takes_conditions = resolver.kind() == "ConfigComponentsResolver";
        let mappings = resolver.children("components_mapping")?;
        let mappings = mappings.iter().map(|m| Mapping::build(m, takes_conditions)).collect::<Result<_>>()?;
        Ok(Self { build, template: template.clone(), mappings })
    }

    pub(super) fn fill(
        &self,
        values: &Value,
        slice: Option<&Slice>,
        put: impl Fn(&mut Value, &Mapping, &[String], Value) -> Result<()>,
    ) -> Result<Value> {
        let mut scope = self.build.scope().with("components_values", values).with("stream_template_config", &self.template);
        if let Some(slice) = slice {
            scope = scope.slice(slice);
        }
        let mut filled = self.template.clone();
        for mapping in &self.mappings {
            if let Some((way, value)) = mapping.eval(&scope)? {
                put(&mut filled, mapping, &way, value)?;
            }
        }
        Ok(filled)
    }
}

impl Mapping {
    fn build(component: &Component<'_>, takes_conditions: bool) -> Result<Self> {
        let condition = component.condition("condition")?;
        if condition.is_some() && !takes_conditions {
            return Err(component.error("a condition is possible only where streams come from the config"));
        }
        let types = match component.text("value_type")? {
            None => Types::ANY,
            Some("string") => Types::TEXT,
            Some("number") => Types::FLOAT,
            Some("integer") => Types::INTEGER,
            Some("boolean") => Types::BOOLEAN,
            Some("array") => Types::LIST,
            Some("object") => Types::OBJECT,
            Some(other) => return Err(component.error("no such value type").with("value_type", other)),
        };
        Ok(Self {
            way: component.templates("field_path")?,
            value: component.required_template("value")?,
            types,
            creates: component.flag("create_or_update")?.unwrap_or(false),
            condition,
        })
    }

    fn eval(&self, scope: &Scope<'_>) -> Result<Option<(Vec<String>, Value)>> {
        if let Some(condition) = &self.condition
            && !condition.eval(scope)?
        {
            return Ok(None);
        }
        let way = self.way.iter().map(|step| step.text(scope)).collect::<Result<_>>()?;
        Ok(Some((way, self.value.value_typed(scope, self.types)?)))
    }

    /// A text may be YAML, unless a text is what was asked for.
    pub(super) fn parsed(&self, value: Value) -> Value {
        match value {
            Value::String(text) if self.types != Types::TEXT => yaml::parse(&text).unwrap_or(Value::String(text)),
            other => other,
        }
    }
}
