//! One entry of a connection's `streams`: a name or pattern, alone or with what differs for the streams it means.

use std::{borrow::Cow, fmt};

use linkspan_core::{ReadMode, StreamName, WriteMode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{Request, select::matches};

/// Streams, and what is asked of them alone. Written as text when nothing differs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    pub name: String,
    pub own: Own,
}

/// What a stream has otherwise than its connection. What is left out is the connection's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Own {
    pub mode: Option<ReadMode>,
    pub cursor: Option<String>,
    pub write: Option<WriteMode>,
    pub key: Vec<String>,
    pub target: Option<String>,
}

/// The long form. No `flatten`: it would forget where a mistake stands.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// A name or a pattern (`public.*`, `orders`, `*`).
    name: String,
    /// How these streams are read: `full`, `incremental` or `cdc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<ReadMode>,
    /// The column that tells what is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// How rows are written: `append`, `replace` or `merge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write: Option<WriteMode>,
    /// The columns that identify a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    key: Vec<String>,
    /// Another name at the destination: a table for a name, `schema.*` for a pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl From<&str> for Choice {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), own: Own::default() }
    }
}

impl Choice {
    /// Whether it names one stream rather than a pattern.
    fn is_name(&self) -> bool {
        !self.name.contains('*')
    }
}

impl Request {
    /// What is asked of one stream: the connection's words, over them those of the patterns that mean it, over them those of its name.
    /// With it, whether the target was given for this stream alone.
    pub(super) fn of(&self, stream: &StreamName) -> (Cow<'_, Self>, bool) {
        let mine = |names: bool| move |c: &&Choice| c.is_name() == names && c.own != Own::default() && matches(&c.name, stream);
        let mut own = self.streams.iter().filter(mine(false)).chain(self.streams.iter().filter(mine(true))).peekable();
        if own.peek().is_none() {
            return (Cow::Borrowed(self), false);
        }
        let (mut request, mut alone) = (self.clone(), false);
        for choice in own {
            let Own { mode, cursor, write, key, target } = choice.own.clone();
            request.mode = mode.or(request.mode);
            request.cursor = cursor.or(request.cursor);
            request.write = write.or(request.write);
            request.key = if key.is_empty() { request.key } else { key };
            alone = if target.is_some() { choice.is_name() } else { alone };
            request.target = target.or(request.target);
        }
        (Cow::Owned(request), alone)
    }
}

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.own == Own::default() {
            return s.serialize_str(&self.name);
        }
        let Own { mode, cursor, write, key, target } = self.own.clone();
        Written { name: self.name.clone(), mode, cursor, write, key, target }.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Choice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a stream's name, or a map with its `name`")
            }
            fn visit_str<E>(self, name: &str) -> Result<Choice, E> {
                Ok(Choice::from(name))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Choice, A::Error> {
                let Written { name, mode, cursor, write, key, target } = Written::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Choice { name, own: Own { mode, cursor, write, key, target } })
            }
        }
        d.deserialize_any(Either)
    }
}

impl JsonSchema for Choice {
    fn schema_name() -> Cow<'static, str> {
        "Stream".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let written = generator.subschema_for::<Written>();
        schemars::json_schema!({
            "description": "A stream's name or a pattern; or a map with its `name` and what differs for it.",
            "anyOf": [{ "type": "string" }, written]
        })
    }
}
