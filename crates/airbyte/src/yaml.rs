//! YAML as PyYAML's safe loader reads it: version 1.1's plain scalars, merge keys, the last of equal keys. Aliases are counted before they are copied.

mod scalar;

use std::collections::HashMap;

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Tag};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// A few lines of aliases can mean more nodes than memory holds.
const MOST_NODES: usize = 2_000_000;
const MOST_BYTES: usize = 64 << 20;
const TAGS: &str = "tag:yaml.org,2002:";
const MERGE: &str = "<<";

/// The one document of a text; null for an empty one. `ConfigInvalid` with line and column for what is no YAML, has several documents,
/// tags without meaning here, references to itself, or grows beyond all measure. An anchor may be defined twice, which PyYAML refuses.
pub fn parse(text: &str) -> Result<Value> {
    if text.len() > MOST_BYTES {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the YAML is too large").with("bytes", text.len()));
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text.trim_start_matches('\u{feff}'), options) {
        let (event, span) = next.map_err(|e| at(*e.marker(), "this is no YAML").because(e))?;
        builder.take(event).map_err(|problem| problem.error(span.start))?;
    }
    Ok(builder.document.unwrap_or_default())
}

/// What is wrong with a node; the caller knows where it stands.
pub(crate) enum Problem {
    Words(&'static str),
    Fix(&'static str, &'static str),
}

impl Problem {
    fn error(self, marker: Marker) -> Error {
        match self {
            Self::Words(words) => at(marker, words),
            Self::Fix(words, fix) => at(marker, words).fix(fix),
        }
    }
}

fn at(marker: Marker, message: &'static str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with("line", marker.line()).with("column", marker.col() + 1)
}

#[derive(Default)]
struct Builder {
    open: Vec<Frame>,
    anchors: HashMap<usize, Anchored>,
    document: Option<Value>,
    documents: usize,
    nodes: usize,
}

struct Anchored {
    node: Node,
    nodes: usize,
}

struct Frame {
    shape: Shape,
    anchor: usize,
    nodes_before: usize,
}

enum Shape {
    List(Vec<Value>),
    Object(Fields),
}

#[derive(Default)]
struct Fields {
    own: Map<String, Value>,
    merged: Map<String, Value>,
    key: Option<Key>,
    /// Keys that are numbers in Python, where 1, 1.0 and true are one key, written as the first of them.
    numbers: Vec<(f64, String)>,
}

enum Key {
    Merge,
    Name(String),
}

/// A value, or a scalar that means something only as a key.
#[derive(Clone)]
enum Node {
    Value(Value),
    Merge,
    Equals,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                self.anchors.clear();
                if self.documents > 1 {
                    return Err(Problem::Fix("the YAML has more than one document", "keep one document"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = scalar_node(&text, style, tag.as_deref())?;
                self.node(node, anchor, 1)
            }
            Event::SequenceStart(_, anchor, tag) => {
                only_plain(tag.as_deref(), "seq")?;
                self.open(Shape::List(Vec::new()), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                only_plain(tag.as_deref(), "map")?;
                self.open(Shape::Object(Fields::default()), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => self.alias(id),
            _ => Ok(()),
        }
    }

    fn open(&mut self, shape: Shape, anchor: usize) -> Result<(), Problem> {
        self.count(1)?;
        self.open.push(Frame { shape, anchor, nodes_before: self.nodes - 1 });
        Ok(())
    }

    fn count(&mut self, nodes: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES {
            return Err(Problem::Fix("the YAML is too large once its aliases are put in place", "use fewer aliases of aliases"));
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(frame) = self.open.pop() else { return Ok(()) };
        let value = match frame.shape {
            Shape::List(items) => items.into(),
            Shape::Object(fields) => fields.finished().into(),
        };
        let nodes = self.nodes - frame.nodes_before;
        self.put(Node::Value(value), frame.anchor, nodes)
    }

    fn node(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), Problem> {
        self.count(nodes)?;
        self.put(node, anchor, nodes)
    }

    fn alias(&mut self, id: usize) -> Result<(), Problem> {
        let anchored = self.anchors.get(&id).ok_or(Problem::Fix("an alias stands inside its own anchor", "write the part out"))?;
        let nodes = anchored.nodes;
        // Counted first: the copy is what costs.
        self.count(nodes)?;
        let node = self.anchors[&id].node.clone();
        self.put(node, 0, nodes)
    }

    fn put(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), Problem> {
        if anchor > 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes });
            self.count(nodes)?;
        }
        match self.open.last_mut().map(|frame| &mut frame.shape) {
            None => self.document = Some(node.into_value()?),
            Some(Shape::List(items)) => items.push(node.into_value()?),
            Some(Shape::Object(fields)) => fields.take(node)?,
        }
        Ok(())
    }
}

impl Fields {
    fn take(&mut self, node: Node) -> Result<(), Problem> {
        match self.key.take() {
            None => self.key = Some(self.named(node)?),
            Some(Key::Merge) => self.merge(node.into_value()?)?,
            Some(Key::Name(name)) => {
                self.own.insert(name, node.into_value()?);
            }
        }
        Ok(())
    }

    fn named(&mut self, node: Node) -> Result<Key, Problem> {
        let number = match &node {
            Node::Value(Value::Bool(b)) => Some(f64::from(u8::from(*b))),
            Node::Value(Value::Number(n)) => n.as_f64(),
            _ => None,
        };
        let key = key(node)?;
        let (Some(number), Key::Name(name)) = (number, &key) else { return Ok(key) };
        if let Some((_, first)) = self.numbers.iter().find(|(known, _)| *known == number) {
            return Ok(Key::Name(first.clone()));
        }
        self.numbers.push((number, name.clone()));
        Ok(key)
    }

    fn merge(&mut self, value: Value) -> Result<(), Problem> {
        let all = match value {
            Value::Array(items) => items,
            one => vec![one],
        };
        for one in all {
            let Value::Object(fields) = one else {
                return Err(Problem::Fix("only objects can be merged", "let << name an object or a list of objects"));
            };
            for (name, value) in fields {
                // The later object wins, except for names of one character: those PyYAML takes for the same node.
                if !self.merged.contains_key(&name) || !is_shared(&name) {
                    self.merged.insert(name, value);
                }
            }
        }
        Ok(())
    }

    fn finished(self) -> Map<String, Value> {
        if self.merged.is_empty() {
            return self.own;
        }
        let mut fields = self.merged;
        fields.extend(self.own);
        fields
    }
}

/// Python keeps one object for each short text, and PyYAML compares objects.
fn is_shared(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_none_or(|c| (c as u32) < 256 && chars.next().is_none())
}

impl Node {
    fn into_value(self) -> Result<Value, Problem> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Merge | Self::Equals => Err(Problem::Fix("a plain << or = means nothing as a value", "put it in quotes")),
        }
    }
}

fn key(node: Node) -> Result<Key, Problem> {
    Ok(match node {
        Node::Merge => Key::Merge,
        Node::Equals => Key::Name("=".into()),
        Node::Value(Value::String(name)) => Key::Name(name),
        Node::Value(value) if value.is_array() || value.is_object() => return Err(Problem::Words("a list or an object cannot be a key")),
        Node::Value(Value::Number(n)) if n.is_f64() => Key::Name(crate::python::float_text(n.as_f64().unwrap_or_default())),
        Node::Value(other) => Key::Name(other.to_string()),
    })
}

fn scalar_node(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Node, Problem> {
    match tag {
        None if style != ScalarStyle::Plain => Ok(Node::Value(text.into())),
        None => Ok(match text {
            MERGE => Node::Merge,
            "=" => Node::Equals,
            text => Node::Value(scalar::plain(text)?),
        }),
        Some(tag) if tag.original() == "!" && text.is_empty() => Ok(Node::Value("".into())),
        Some(tag) if tag.original() == "!" => scalar_node(text, style, None),
        Some(tag) => match tag.suffix_in_namespace(TAGS) {
            Some(kind) => scalar::tagged(&kind, text).map(Node::Value),
            None => Err(unknown_tag()),
        },
    }
}

fn unknown_tag() -> Problem {
    Problem::Fix("the tag means nothing here", "remove it, or use one of !!str, !!int, !!float, !!bool, !!null")
}

fn only_plain(tag: Option<&Tag>, allowed: &str) -> Result<(), Problem> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.original() == "!" || tag.suffix_in_namespace(TAGS).is_some_and(|kind| kind == allowed) => Ok(()),
        Some(_) => Err(unknown_tag()),
    }
}
