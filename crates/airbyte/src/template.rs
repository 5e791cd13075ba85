//! Templates of the language: Jinja inside texts, the rendered text read as a Python literal.

mod mapping;
mod scope;
mod simple;

use std::sync::Arc;

use linkspan_core::Result;
use serde_json::{Map, Value};

use crate::python::{Literal, literal};

pub use mapping::{Condition, Mapping, NestedMapping};
pub use scope::Scope;

/// Which types a literal may have; one of another type stays the rendered text. As in Python, a boolean is an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types(u8);

impl Types {
    pub const ANY: Self = Self(0);
    pub const TEXT: Self = Self(1);
    pub const INTEGER: Self = Self(2);
    pub const FLOAT: Self = Self(4);
    pub const BOOLEAN: Self = Self(8);
    pub const LIST: Self = Self(16);
    pub const OBJECT: Self = Self(32);

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn allow(self, value: &Literal) -> bool {
        if self == Self::ANY {
            return !matches!(value, Literal::Complex(..));
        }
        let asked = match value {
            Literal::Text(_) => Self::TEXT.0,
            Literal::Int(_) | Literal::BigInt(_) => Self::INTEGER.0,
            Literal::Float(_) => Self::FLOAT.0,
            Literal::Bool(_) => Self::BOOLEAN.0 | Self::INTEGER.0,
            Literal::List(_) => Self::LIST.0,
            Literal::Dict(_) => Self::OBJECT.0,
            _ => 0,
        };
        self.0 & asked != 0
    }
}

/// A text of the manifest, ready to be evaluated many times.
#[derive(Clone, Debug)]
pub struct Template(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    text: String,
    parameters: Value,
    program: simple::Program,
}

impl Template {
    /// `ConfigInvalid` when the text is no template.
    pub fn parse(text: &str, parameters: &Map<String, Value>) -> Result<Self> {
        let parameters = if text.contains("parameters") { parameters.clone() } else { Map::new() };
        let program = simple::Program::parse(text)?;
        Ok(Self(Arc::new(Inner { text: text.to_owned(), parameters: parameters.into(), program })))
    }

    /// The text as it was written.
    pub fn source(&self) -> &str {
        &self.0.text
    }

    /// Whether it is the same in every scope.
    pub fn is_static(&self) -> bool {
        self.0.program.is_static()
    }

    /// The rendered text as a literal; null when it is empty or names something undefined.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value> {
        self.eval_typed(scope, Types::ANY)
    }

    /// The same, keeping only literals of these types.
    pub fn eval_typed(&self, scope: &Scope<'_>, types: Types) -> Result<Value> {
        Ok(self.rendered(scope)?.map_or(Value::Null, |text| read(text, types)))
    }

    /// The same, with a static text read in place of an empty or undefined result.
    pub fn eval_or(&self, scope: &Scope<'_>, default: &str) -> Result<Value> {
        Ok(read(self.rendered(scope)?.unwrap_or_else(|| default.to_owned()), Types::ANY))
    }

    /// As the language's own strings are evaluated: an empty result is an empty text, and what is undefined inside is an error.
    pub fn value(&self, scope: &Scope<'_>) -> Result<Value> {
        self.value_typed(scope, Types::ANY)
    }

    pub fn value_typed(&self, scope: &Scope<'_>, types: Types) -> Result<Value> {
        Ok(read(self.rendered(scope)?.unwrap_or_default(), types))
    }

    /// `value` as text, as Python's `str` writes it.
    pub fn text(&self, scope: &Scope<'_>) -> Result<String> {
        Ok(match self.value(scope)? {
            Value::String(text) => text,
            other => crate::python::text(&other),
        })
    }

    fn rendered(&self, scope: &Scope<'_>) -> Result<Option<String>> {
        let text = self.0.program.render(scope, &self.0.parameters)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

fn read(text: String, types: Types) -> Value {
    match literal(&text).filter(|value| types.allow(value)).and_then(Literal::into_json) {
        Some(value) => value,
        None => text.into(),
    }
}
