//! Typed values out of a located tree. Every fault names file, line and column; values are never shown.

use std::fmt;

use linkspan_core::{Error, ErrorKind, misfit, suggest};
use serde::{
    Deserialize,
    de::{self, IntoDeserializer, Visitor, value::StrDeserializer},
};

use super::tree::{Node, Place, Tree};

/// Decodes a whole tree.
pub fn decode<'a, T: Deserialize<'a>>(node: &'a Node, file: &str) -> Result<T, Error> {
    T::deserialize(At(node)).map_err(|fault| fault.explain(file))
}

/// What does not fit, and where.
#[derive(Debug)]
struct Fault {
    what: What,
    place: Option<Place>,
}

#[derive(Debug)]
enum What {
    UnknownField(String, &'static [&'static str]),
    UnknownVariant(String, &'static [&'static str]),
    Missing(&'static str),
    Wrong { expected: String },
    Other(String),
}

impl Fault {
    fn new(what: What) -> Self {
        Self { what, place: None }
    }
    /// The innermost place wins.
    fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }
    fn explain(self, file: &str) -> Error {
        let place = self.place.unwrap_or_default().at(file);
        let bad = |message: String| Error::new(ErrorKind::ConfigInvalid, message).with("place", &place);
        match self.what {
            What::UnknownField(field, known) => bad(format!("unknown field `{field}`")).with("field", &field).fix(nearest(&field, known)),
            What::UnknownVariant(word, known) => bad(format!("`{word}` is not one of the words that go here")).fix(nearest(&word, known)),
            What::Missing(field) => {
                bad(format!("the field `{field}` is missing")).with("field", field).fix(format!("add `{field}: ...` here"))
            }
            What::Wrong { expected } => {
                bad("the value has the wrong type".into()).with("expected", &expected).fix(format!("give {expected}"))
            }
            What::Other(text) => bad(text).fix("see `linkspan project schema` for what goes here"),
        }
    }
}

fn nearest(wrong: &str, known: &[&str]) -> String {
    suggest::did_you_mean(wrong, known.iter().copied()).unwrap_or_else(|| format!("use one of: {}", known.join(", ")))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
impl std::error::Error for Fault {}
impl de::Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(What::Other(text.to_string()))
    }
    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Wrong { expected: misfit::plainly(&expected.to_string()) })
    }
    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(What::Wrong { expected: misfit::plainly(&expected.to_string()) })
    }
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::UnknownVariant(variant.to_owned(), expected))
    }
    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::UnknownField(field.to_owned(), expected))
    }
    fn missing_field(field: &'static str) -> Self {
        Self::new(What::Missing(field))
    }
}

struct At<'a>(&'a Node);

impl<'a> At<'a> {
    fn any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.0.tree {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(b) => visitor.visit_bool(*b),
            Tree::Number(n, _) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                (Some(n), ..) => visitor.visit_u64(n),
                (_, Some(n), _) => visitor.visit_i64(n),
                (.., n) => visitor.visit_f64(n.unwrap_or_default()),
            },
            Tree::Text(t) => visitor.visit_borrowed_str(&t.text),
            Tree::List(items) => visitor.visit_seq(Items(items.iter())),
            Tree::Map(entries) => visitor.visit_map(Entries { left: entries.iter(), value: None }),
        };
        result.map_err(|f: Fault| f.at(self.0.place))
    }
    /// A text that came from a variable may be a number.
    fn number<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.0.tree {
            Tree::Text(t) if t.substituted => match (t.text.parse::<u64>(), t.text.parse::<i64>(), t.text.parse::<f64>()) {
                (Ok(n), ..) => visitor.visit_u64(n),
                (_, Ok(n), _) => visitor.visit_i64(n),
                (.., Ok(n)) => visitor.visit_f64(n),
                _ => Err(de::Error::invalid_type(de::Unexpected::Other("text"), &visitor)),
            },
            _ => return self.any(visitor),
        };
        result.map_err(|f: Fault| f.at(self.0.place))
    }
}

macro_rules! numbers {
    ($($name:ident)*) => { $(
        fn $name<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Fault> { self.number(visitor) }
    )* };
}

impl<'a> de::Deserializer<'a> for At<'a> {
    type Error = Fault;
    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.any(visitor)
    }
    numbers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    deserialize_f32 deserialize_f64 }
    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.tree {
            Tree::Text(t) if t.substituted && (t.text == "true" || t.text == "false") => visitor.visit_bool(t.text == "true"),
            _ => self.any(visitor),
        }
    }
    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.tree {
            Tree::Number(_, spelt) => visitor.visit_borrowed_str(spelt).map_err(|f: Fault| f.at(self.0.place)),
            _ => self.any(visitor),
        }
    }
    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }
    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.tree {
            Tree::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }
    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'a>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Fault> {
        let place = self.0.place;
        let result = match &self.0.tree {
            Tree::Text(t) => visitor.visit_enum(StrDeserializer::<Fault>::new(&t.text)),
            Tree::Map(entries) if entries.len() == 1 => {
                visitor.visit_enum(de::value::MapAccessDeserializer::new(Entries { left: entries.iter(), value: None }))
            }
            _ => Err(Fault::new(What::Wrong { expected: "one word".into() })),
        };
        result.map_err(|f: Fault| f.at(place))
    }
    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        i128 u128 char bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'a> de::SeqAccess<'a> for Items<'a> {
    type Error = Fault;
    fn next_element_seed<T: de::DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|node| seed.deserialize(At(node))).transpose()
    }
}

struct Entries<'a> {
    left: std::slice::Iter<'a, super::tree::Entry>,
    value: Option<&'a Node>,
}

impl<'a> de::MapAccess<'a> for Entries<'a> {
    type Error = Fault;
    fn next_key_seed<K: de::DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.left.next() else { return Ok(None) };
        self.value = Some(&entry.value);
        let key: StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|f| f.at(entry.place))
    }
    fn next_value_seed<V: de::DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let node = self.value.take().ok_or_else(|| Fault::new(What::Other("a value without a key".into())))?;
        seed.deserialize(At(node))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tree::parse, *};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        inner: Inner,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        count: u32,
        word: Option<Word>,
        name: Option<String>,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Append,
        Merge,
    }

    fn fault(yaml: &str) -> String {
        let e = decode::<Outer>(&parse(yaml, "p.yaml").unwrap(), "p.yaml").unwrap_err();
        format!("{e} | {}", e.suggested_fix().unwrap())
    }

    #[test]
    fn faults_name_place_and_the_nearest_right_word() {
        assert_eq!(fault("inner:\n  count: 1\n  wrod: x"), "unknown field `wrod` [place=p.yaml:3:3 field=wrod] | did you mean \"word\"?");
        assert!(fault("inner:\n  count: 1\n  word: appendd").contains("[place=p.yaml:3:9] | did you mean \"append\"?"));
        assert!(
            fault("inner:\n  count: canary")
                .starts_with("the value has the wrong type [place=p.yaml:2:10 expected=a whole number, 0 or more]")
        );
        assert!(fault("inner: {word: append}").starts_with("the field `count` is missing [place=p.yaml:1:8"));
        assert!(fault("inner: 5").contains("p.yaml:1:8"));
    }

    #[test]
    fn numbers_keep_their_spelling_as_text() {
        let tree = parse("inner: {count: 1, name: 007}", "p").unwrap();
        assert_eq!(decode::<Outer>(&tree, "p").unwrap().inner.name.as_deref(), Some("007"));
    }
}
