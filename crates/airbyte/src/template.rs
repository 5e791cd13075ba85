//! Templates of the language: Jinja inside texts, the rendered text read as a Python literal.

mod mapping;
mod scope;

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::{
    jinja::{self, Fault, Program},
    python::{Literal, literal},
};

pub use mapping::{Condition, Mapping, NestedMapping};
pub use scope::Scope;

use scope::Names;

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
    program: Program,
    /// Why it cannot be evaluated. As in the reference, that is an error only when somebody asks.
    refused: Option<String>,
    /// What the first `value` told: the reference takes a template that gives its own text for plain text ever after.
    plain: AtomicU8,
}

const UNKNOWN: u8 = 0;
const PLAIN: u8 = 1;
const LIVING: u8 = 2;

/// What rendering comes to, where the language goes on.
enum Rendered {
    Text(String),
    /// Nothing, or something undefined was used.
    Nothing,
}

impl Template {
    /// Never fails for what is written: a template that cannot be read is an error of its evaluation.
    pub fn parse(text: &str, parameters: &Map<String, Value>) -> Result<Self> {
        let parameters = if text.contains("parameters") { parameters.clone() } else { Map::new() };
        let (program, refused) = match Program::parse(text) {
            _ if text.contains("stream_state") => {
                (Program::default(), Some("stream_state cannot be used in templates any more".to_owned()))
            }
            Ok(program) => (program, None),
            Err(why) => (Program::default(), Some(why)),
        };
        let inner = Inner { text: text.to_owned(), parameters: parameters.into(), program, refused, plain: AtomicU8::new(UNKNOWN) };
        Ok(Self(Arc::new(inner)))
    }

    /// The text as it was written.
    pub fn source(&self) -> &str {
        &self.0.text
    }

    /// Whether it is the same in every scope.
    pub fn is_static(&self) -> bool {
        self.0.refused.is_none() && self.0.program.fixed().is_some()
    }

    /// Why the template can never be evaluated, if so.
    pub fn refused(&self) -> Option<Error> {
        self.0.refused.as_ref().map(|why| self.error(why.clone()))
    }

    /// The rendered text as a literal; null when it is empty or uses something undefined.
    pub fn eval(&self, scope: &Scope<'_>) -> Result<Value> {
        self.eval_typed(scope, Types::ANY)
    }

    /// The same, keeping only literals of these types.
    pub fn eval_typed(&self, scope: &Scope<'_>, types: Types) -> Result<Value> {
        Ok(match self.rendered(scope)? {
            Rendered::Text(text) => read(text, types),
            Rendered::Nothing => Value::Null,
        })
    }

    /// The same, with a static text read in place of an empty or undefined result.
    pub fn eval_or(&self, scope: &Scope<'_>, default: &str) -> Result<Value> {
        Ok(match self.rendered(scope)? {
            Rendered::Text(text) => read(text, Types::ANY),
            Rendered::Nothing => read(default.to_owned(), Types::ANY),
        })
    }

    /// As the language's own strings are evaluated: an empty result is an empty text, and an operation on what is undefined is an error.
    pub fn value(&self, scope: &Scope<'_>) -> Result<Value> {
        self.value_typed(scope, Types::ANY)
    }

    pub fn value_typed(&self, scope: &Scope<'_>, types: Types) -> Result<Value> {
        if self.0.plain.load(Ordering::Relaxed) == PLAIN {
            return Ok(self.0.text.as_str().into());
        }
        let value = match self.rendered(scope)? {
            Rendered::Text(text) => read(text, types),
            // The default is the template itself, evaluated once more: the same again, where an undefined operand is no way out any more.
            Rendered::Nothing => read(self.render(scope).map_err(|fault| self.failed(fault))?, types),
        };
        if self.0.plain.load(Ordering::Relaxed) == UNKNOWN {
            let is_plain = value.as_str() == Some(&self.0.text);
            self.0.plain.store(if is_plain { PLAIN } else { LIVING }, Ordering::Relaxed);
        }
        Ok(value)
    }

    /// `value` as text, as Python's `str` writes it.
    pub fn text(&self, scope: &Scope<'_>) -> Result<String> {
        Ok(match self.value(scope)? {
            Value::String(text) => text,
            other => crate::python::text(&other),
        })
    }

    fn rendered(&self, scope: &Scope<'_>) -> Result<Rendered> {
        match self.render(scope) {
            Ok(text) if text.is_empty() => Ok(Rendered::Nothing),
            Ok(text) => Ok(Rendered::Text(text)),
            Err(Fault::Undefined(_)) => Ok(Rendered::Nothing),
            Err(fault) => Err(self.failed(fault)),
        }
    }

    /// A TypeError gives back the template's own text.
    fn render(&self, scope: &Scope<'_>) -> Result<String, Fault> {
        if let Some(why) = &self.0.refused {
            return Err(Fault::Other(why.clone()));
        }
        if let Some(text) = self.0.program.fixed() {
            return Ok(text.to_owned());
        }
        let names = Names { scope, parameters: &self.0.parameters };
        if let Some(name) = self.0.program.names().iter().find(|name| !names.knows(name)) {
            return Err(Fault::Other(format!("there is nothing called {name:?} where this template is used")));
        }
        match jinja::render(&self.0.program, &names, scope.now()) {
            Err(Fault::Type(_)) => Ok(self.0.text.clone()),
            result => result,
        }
    }

    fn failed(&self, fault: Fault) -> Error {
        let (Fault::Undefined(why) | Fault::Type(why) | Fault::Other(why)) = fault;
        self.error(why)
    }

    fn error(&self, why: String) -> Error {
        let shown: String = self.0.text.chars().take(200).collect();
        Error::new(ErrorKind::ConfigInvalid, "a template of the manifest cannot be evaluated").with("template", shown).because(why)
    }
}

fn read(text: String, types: Types) -> Value {
    match literal(&text).filter(|value| types.allow(value)).and_then(Literal::into_json) {
        Some(value) => value,
        None => text.into(),
    }
}
