//! YAML as a tree in which every value and key knows its line and column.

use std::{collections::BTreeMap, fmt};

use linkspan_core::{Error, ErrorKind};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

/// Line and column, from one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl From<Location> for Place {
    fn from(l: Location) -> Self {
        Self { line: l.line(), column: l.column() }
    }
}

impl Place {
    /// `file:line:column`, as editors and terminals understand it.
    pub fn at(self, file: &str) -> String {
        format!("{file}:{}:{}", self.line, self.column)
    }
}

/// A value and where it stands.
#[derive(Clone)]
pub struct Node {
    pub place: Place,
    pub tree: Tree,
}

#[derive(Clone)]
pub enum Tree {
    Null,
    Bool(bool),
    /// A number and its spelling, so that `007` given for a text stays `007`.
    Number(Number, String),
    Text(Text),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone)]
pub struct Text {
    pub text: String,
    /// It came out of `${...}`: it may stand for a number or a truth value.
    pub substituted: bool,
}

#[derive(Clone)]
pub struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

/// Reads one YAML document. The error names `file:line:column` and shows nothing of the text.
pub fn parse(text: &str, file: &str) -> Result<Node, Error> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let spanned = serde_saphyr::from_str_with_options::<Option<Spanned<Raw>>>(text, options).map_err(|e| syntax_error(&e, file))?;
    let Some(spanned) = spanned else {
        return Ok(Node { place: Place { line: 1, column: 1 }, tree: Tree::Map(vec![]) });
    };
    let lines: Vec<&str> = text.lines().collect();
    Ok(node(spanned, &lines))
}

fn syntax_error(e: &serde_saphyr::Error, file: &str) -> Error {
    use serde_saphyr::Error as E;
    let message = match e.without_snippet() {
        E::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is there twice"),
        E::UnknownAnchor { .. } => "an alias has no anchor".to_owned(),
        E::MultipleDocuments { .. } => "the file holds more than one YAML document".to_owned(),
        E::Budget { .. } => "the file is larger or deeper than a project file may be".to_owned(),
        _ => "the file is not valid YAML".to_owned(),
    };
    let place: Place = e.location().map(Place::from).unwrap_or_default();
    let mut error = Error::new(ErrorKind::ConfigInvalid, message).with("place", place.at(file));
    if let E::Message { msg, .. } = e.without_snippet() {
        error = error.with("parser", msg.split(" at line").next().unwrap_or_default());
    }
    error.fix("check the indentation, quotes and brackets at this place; values with `{`, `:` or `#` need quotes")
}

/// The tree as the parser hands it over, before spellings are looked up.
enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(raw: Spanned<Raw>, lines: &[&str]) -> Node {
    let place = Place::from(raw.referenced);
    let tree = match raw.value {
        Raw::Null => Tree::Null,
        Raw::Bool(b) => Tree::Bool(b),
        Raw::Number(n) => {
            let spelt = spelling(lines, Place::from(raw.defined)).unwrap_or_else(|| n.to_string());
            Tree::Number(n, spelt)
        }
        Raw::Text(text) => Tree::Text(Text { text, substituted: false }),
        Raw::List(items) => Tree::List(items.into_iter().map(|i| node(i, lines)).collect()),
        Raw::Map(entries) => Tree::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry { place: key.referenced.into(), key: key.value, value: node(value, lines) })
                .collect(),
        ),
    };
    Node { place, tree }
}

/// The plain scalar that starts at a place, as it was written.
fn spelling(lines: &[&str], place: Place) -> Option<String> {
    let line = lines.get(usize::try_from(place.line).ok()?.checked_sub(1)?)?;
    let rest = line.chars().skip(usize::try_from(place.column).ok()?.checked_sub(1)?);
    let spelt: String = rest.take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ']' | '}')).collect();
    let number = spelt.chars().next().is_some_and(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    number.then_some(spelt)
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> de::Visitor<'de> for V {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }
            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Raw, D::Error> {
                Raw::deserialize(d)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(b))
            }
            fn visit_i64<E>(self, n: i64) -> Result<Raw, E> {
                Ok(Raw::Number(n.into()))
            }
            fn visit_u64<E>(self, n: u64) -> Result<Raw, E> {
                Ok(Raw::Number(n.into()))
            }
            fn visit_f64<E>(self, n: f64) -> Result<Raw, E> {
                Ok(Number::from_f64(n).map_or_else(|| Raw::Text(n.to_string()), Raw::Number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::Text(text.to_owned()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }
        d.deserialize_any(V)
    }
}

impl Node {
    /// The value of a key, when this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.value)
    }
    pub fn entries(&self) -> &[Entry] {
        match &self.tree {
            Tree::Map(entries) => entries,
            _ => &[],
        }
    }
    /// Where the value at a path stands, or the nearest thing above it.
    pub fn place_of(&self, path: &[&str]) -> Place {
        let mut at = self;
        for key in path {
            match at.get(key) {
                Some(next) => at = next,
                None => break,
            }
        }
        at.place
    }
    /// Where every key stands, here and anywhere below; of a key that stands several times the first one counts.
    pub fn keys(&self) -> BTreeMap<String, Place> {
        let mut keys = BTreeMap::new();
        for entry in self.entries() {
            keys.entry(entry.key.clone()).or_insert(entry.place);
            for (key, place) in entry.value.keys() {
                keys.entry(key).or_insert(place);
            }
        }
        keys
    }
    /// The JSON that a config with this schema expects: a number written for a text field keeps its spelling, and a
    /// substituted text becomes the number or truth value that the schema asks for.
    pub fn to_json(&self, schema: &Value) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(b) => Value::Bool(*b),
            Tree::Number(n, spelt) => {
                let text_only = takes(schema, "string") && !takes(schema, "number") && !takes(schema, "integer");
                if text_only { Value::String(spelt.clone()) } else { Value::Number(n.clone()) }
            }
            Tree::Text(t) => text_to_json(t, schema),
            Tree::List(items) => items.iter().map(|i| i.to_json(&schema["items"])).collect(),
            Tree::Map(entries) => {
                let fields = entries.iter().map(|e| (e.key.clone(), e.value.to_json(&schema["properties"][&e.key])));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }
}

fn text_to_json(t: &Text, schema: &Value) -> Value {
    if t.substituted && !takes(schema, "string") {
        if (takes(schema, "integer") || takes(schema, "number"))
            && let Ok(n) = t.text.parse::<Number>()
        {
            return Value::Number(n);
        }
        if takes(schema, "boolean")
            && let Ok(b) = t.text.parse::<bool>()
        {
            return Value::Bool(b);
        }
    }
    Value::String(t.text.clone())
}

/// Whether a schema allows a JSON type by name, at its top.
fn takes(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(many) => many.iter().any(|k| k == kind),
        _ => ["anyOf", "oneOf"].iter().any(|k| schema[*k].as_array().is_some_and(|all| all.iter().any(|s| takes(s, kind)))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_and_key_knows_its_place() {
        let tree = parse("a:\n  b: [1, 007]\n  c: x\n", "p.yaml").unwrap();
        assert_eq!(tree.place_of(&["a", "c"]), Place { line: 3, column: 6 });
        assert_eq!(tree.keys().get("c"), Some(&Place { line: 3, column: 3 }));
        let Some(Node { tree: Tree::List(items), .. }) = tree.get("a").unwrap().get("b") else { panic!("a list") };
        assert!(matches!(&items[1].tree, Tree::Number(_, s) if s == "007"));
        assert_eq!(items[1].to_json(&json!({"type": "string"})), json!("007"));
    }

    #[test]
    fn broken_yaml_names_its_place_and_nothing_else() {
        for text in ["a: [canary", "a: 1\na: canary\n", "a: *canary\n"] {
            let e = parse(text, "p.yaml").err().expect("broken");
            assert!(e.context().iter().any(|(k, v)| *k == "place" && v.starts_with("p.yaml:")), "{e:?}");
            assert!(e.suggested_fix().is_some());
        }
    }

    #[test]
    fn strict_truth_values_leave_no_and_yes_alone() {
        let tree = parse("a: no\nb: true\n", "p").unwrap();
        assert_eq!(tree.to_json(&Value::Null), json!({"a": "no", "b": true}));
    }
}
