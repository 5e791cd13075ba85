//! Decoders: an answer's body as the elements that extractors look into.

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::{answer::Answer, component::Component, page_text};

/// How bodies are read.
pub enum Decoder {
    Json,
}

/// The elements of a body, one after the other.
pub type Elements<'a> = Box<dyn Iterator<Item = Result<Value>> + Send + 'a>;

impl Decoder {
    /// The decoder of a component; JSON where there is none.
    pub fn build(component: Option<&Component<'_>>) -> Result<Self> {
        let Some(component) = component else { return Ok(Self::Json) };
        match component.kind() {
            "JsonDecoder" => Ok(Self::Json),
            _ => Err(component.unknown_kind()),
        }
    }

    /// Whether bodies are read as they come: paginators see nothing of such a body.
    pub fn is_streaming(&self) -> bool {
        false
    }

    pub fn elements<'a>(&'a self, answer: &'a Answer) -> Result<Elements<'a>> {
        match self {
            Self::Json => json(answer),
        }
    }

    /// What a paginator sees of the body: its first element.
    pub fn first(&self, answer: &Answer) -> Result<Value> {
        if self.is_streaming() {
            return Ok(Value::Object(Map::new()));
        }
        self.elements(answer)?.next().unwrap_or_else(|| Ok(Value::Object(Map::new())))
    }
}

/// A list gives its items, all else itself. What is empty or no JSON gives one empty object.
fn json(answer: &Answer) -> Result<Elements<'_>> {
    let empty = || Box::new(std::iter::once(Ok(Value::Object(Map::new())))) as Elements<'_>;
    Ok(match answer.json() {
        Some(Value::Array(items)) if !items.is_empty() => Box::new(items.iter().cloned().map(Ok)),
        Some(Value::Array(_) | Value::Null) => empty(),
        Some(one) => Box::new(std::iter::once(Ok(one.clone()))),
        None if page_text::is_too_deep(&answer.body) => {
            return Err(Error::new(ErrorKind::DataInvalid, "the answer is nested too deeply to be read"));
        }
        None => empty(),
    })
}
