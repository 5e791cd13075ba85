//! Conditions, and objects whose keys and values are templates.

use linkspan_core::Result;
use serde_json::{Map, Value};

use super::{Scope, Template, Types};

/// A template read as true or false.
#[derive(Clone, Debug)]
pub enum Condition {
    Always(bool),
    Asked(Template),
}

impl Condition {
    pub fn parse(value: &Value, parameters: &Map<String, Value>) -> Result<Self> {
        Ok(match value {
            Value::Bool(fixed) => Self::Always(*fixed),
            Value::String(text) => Self::Asked(Template::parse(text, parameters)?),
            other => Self::Asked(Template::parse(&other.to_string(), parameters)?),
        })
    }

    /// False for what is empty, zero, null or undefined; everything else is true, also the texts "no" and " ".
    pub fn eval(&self, scope: &Scope<'_>) -> Result<bool> {
        match self {
            Self::Always(fixed) => Ok(*fixed),
            Self::Asked(template) => Ok(!is_false(&template.eval_or(scope, "False")?)),
        }
    }
}

fn is_false(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => matches!(text.as_str(), "" | "False" | "false" | "{}" | "[]" | "()" | "0" | "0.0" | "set()"),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// An object of one level: keys and texts are templates, keys stay texts.
#[derive(Clone, Debug)]
pub struct Mapping(Vec<(Template, Node)>);

#[derive(Clone, Debug)]
enum Node {
    Fixed(Value),
    Template(Template),
    List(Vec<Node>),
    Object(Vec<(Template, Node)>),
}

impl Mapping {
    pub fn parse(fields: &Map<String, Value>, parameters: &Map<String, Value>) -> Result<Self> {
        let value = |value: &Value| match value {
            Value::String(text) => Template::parse(text, parameters).map(Node::Template),
            other => Ok(Node::Fixed(other.clone())),
        };
        let pair = |(name, field): (&String, &Value)| Ok((Template::parse(name, parameters)?, value(field)?));
        fields.iter().map(pair).collect::<Result<_>>().map(Self)
    }

    pub fn eval(&self, scope: &Scope<'_>) -> Result<Map<String, Value>> {
        self.eval_typed(scope, Types::ANY)
    }

    /// The same, with values kept as texts unless they are of these types. What is empty or undefined becomes null.
    pub fn eval_typed(&self, scope: &Scope<'_>, types: Types) -> Result<Map<String, Value>> {
        let mut out = Map::new();
        for (name, node) in &self.0 {
            let value = match node {
                Node::Template(template) => template.eval_typed(scope, types)?,
                Node::Fixed(value) => value.clone(),
                other => other.eval(scope)?,
            };
            out.insert(key(name.eval_typed(scope, Types::TEXT)?), value);
        }
        Ok(out)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A tree whose keys and texts are templates, at every depth.
#[derive(Clone, Debug)]
pub struct NestedMapping(Node);

impl NestedMapping {
    pub fn parse(value: &Value, parameters: &Map<String, Value>) -> Result<Self> {
        Node::parse(value, parameters).map(Self)
    }

    /// Null members of objects are left out, those of lists stay.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value> {
        self.0.eval(scope)
    }
}

impl Node {
    fn parse(value: &Value, parameters: &Map<String, Value>) -> Result<Self> {
        Ok(match value {
            Value::String(text) => Self::Template(Template::parse(text, parameters)?),
            Value::Array(items) => Self::List(items.iter().map(|item| Self::parse(item, parameters)).collect::<Result<_>>()?),
            Value::Object(fields) => {
                let pair = |(name, value): (&String, &Value)| Ok((Template::parse(name, parameters)?, Self::parse(value, parameters)?));
                Self::Object(fields.iter().map(pair).collect::<Result<_>>()?)
            }
            other => Self::Fixed(other.clone()),
        })
    }

    fn eval(&self, scope: &Scope<'_>) -> Result<Value> {
        Ok(match self {
            Self::Fixed(value) => value.clone(),
            Self::Template(template) => template.eval(scope)?,
            Self::List(items) => items.iter().map(|item| item.eval(scope)).collect::<Result<Vec<_>>>()?.into(),
            Self::Object(fields) => {
                let mut out = Map::new();
                for (name, node) in fields {
                    let value = node.eval(scope)?;
                    let name = key(name.eval(scope)?);
                    match value.is_null() {
                        true => out.shift_remove(&name),
                        false => out.insert(name, value),
                    };
                }
                out.into()
            }
        })
    }
}

/// A key that is no text is written as JSON would write it as a key.
fn key(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
