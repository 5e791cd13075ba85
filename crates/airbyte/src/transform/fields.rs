//! Fields that are added and fields that are taken away.

use linkspan_core::Result;
use serde_json::Value;

use crate::{
    component::Component,
    dpath::{self, Step},
    slice::Slice,
    template::{Condition, Scope, Template, Types},
    wiring::Build,
};

pub struct AddFields {
    fields: Vec<Added>,
    condition: Option<Condition>,
}

struct Added {
    path: Vec<Step>,
    shown_path: Value,
    value: Template,
    types: Types,
}

/// An empty condition is none.
fn condition(component: &Component<'_>) -> Result<Option<Condition>> {
    match component.field("condition") {
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        _ => component.condition("condition"),
    }
}

impl AddFields {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        let fields = component.children("fields")?.iter().map(Added::build).collect::<Result<_>>()?;
        Ok(Self { fields, condition: condition(component)? })
    }

    pub fn apply(&self, record: &mut Value, slice: &Slice, build: &Build) -> Result<()> {
        for field in &self.fields {
            let value = self.evaluated(field, &build.scope().slice(slice).record(record))?;
            if let Some(value) = value {
                dpath::put(record, &field.path, value)?;
            }
        }
        Ok(())
    }

    /// How many fields it adds.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// One of its fields by its place: the name at the top, and the value in this scope; `None` when the condition refuses it.
    pub fn value(&self, at: usize, scope: &Scope<'_>) -> Result<Option<(String, Value)>> {
        let Some(field) = self.fields.get(at) else { return Ok(None) };
        let name = field.path.first().map(Step::shown).unwrap_or_default();
        Ok(self.evaluated(field, scope)?.map(|value| (name, value)))
    }

    fn evaluated(&self, field: &Added, scope: &Scope<'_>) -> Result<Option<Value>> {
        let value = field.value.value_typed(scope, field.types)?;
        Ok(self.is_wanted(scope, field, &value)?.then_some(value))
    }

    fn is_wanted(&self, scope: &Scope<'_>, field: &Added, value: &Value) -> Result<bool> {
        let Some(condition) = &self.condition else { return Ok(true) };
        condition.eval(&scope.clone().with("value", value).with("path", &field.shown_path))
    }
}

impl Added {
    fn build(component: &Component<'_>) -> Result<Self> {
        let names = component.texts("path")?.unwrap_or_default();
        if names.is_empty() {
            return Err(component.error("an added field needs a path"));
        }
        let types = match component.text("value_type")? {
            None => Types::ANY,
            Some("string") => Types::TEXT,
            Some("number") => Types::FLOAT,
            Some("integer") => Types::INTEGER,
            Some("boolean") => Types::BOOLEAN,
            Some(other) => return Err(component.error("not a type of values").with("value_type", other)),
        };
        Ok(Self {
            path: names.iter().map(|name| Step::Name((*name).to_owned())).collect(),
            shown_path: names.into(),
            value: component.required_template("value")?,
            types,
        })
    }
}

pub struct RemoveFields {
    pointers: Vec<Vec<Step>>,
    condition: Option<Condition>,
}

impl RemoveFields {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        let pointers = component.field("field_pointers").and_then(Value::as_array).into_iter().flatten();
        let pointer = |steps: &Value| steps.as_array().map(|s| s.iter().map(Step::of).collect());
        let pointers =
            pointers.map(|p| pointer(p).ok_or_else(|| component.error("a field pointer is a list of names"))).collect::<Result<_>>()?;
        Ok(Self { pointers, condition: condition(component)? })
    }

    pub fn apply(&self, record: &mut Value, build: &Build) -> Result<()> {
        for pointer in &self.pointers {
            match &self.condition {
                None => drop(dpath::delete(record, pointer, None)?),
                // With a condition every value that it accepts goes, wherever it stands, as in the reference.
                Some(condition) => {
                    let accepts = |value: &Value| condition.eval(&build.scope().with("property", value));
                    dpath::delete(record, pointer, Some(&accepts))?;
                }
            }
        }
        Ok(())
    }
}
