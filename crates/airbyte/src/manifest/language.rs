//! The language's components: which fields each has, and what may stand in them. `components.txt` is the one table of it.

mod table;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::Value;

static LANGUAGE: LazyLock<HashMap<&str, Shape>> = LazyLock::new(|| table::parsed(include_str!("components.txt")));

/// What may stand in a place.
#[derive(Debug)]
enum Shape {
    Any,
    Text,
    Whole(Least),
    Number(Least),
    Flag,
    Object,
    List,
    Null,
    /// This text and no other.
    Word(&'static str),
    /// As the table says elsewhere.
    Named(&'static str),
    Items {
        of: Box<Shape>,
        least: usize,
        unique: bool,
    },
    /// An object whose values are all of one shape.
    Each(Box<Shape>),
    Fields {
        fields: Vec<Field>,
        is_closed: bool,
    },
    OneOf(Vec<Shape>),
}

#[derive(Clone, Copy, Debug)]
enum Least {
    None,
    At(f64),
    Above(f64),
}

#[derive(Debug)]
struct Field {
    name: &'static str,
    is_required: bool,
    shape: Shape,
}

/// Whether a resolved manifest is one of the language. The error names the first place that is not, and what is expected there.
pub(super) fn check(manifest: &Value) -> Result<()> {
    let root = Place { above: None, step: Step::Root };
    fits(manifest, &LANGUAGE["DeclarativeSource"], &root).map_err(Wrong::error)?;
    if manifest.get("streams").is_none() && manifest.get("dynamic_streams").is_none() {
        return Err(root.wrong("the manifest has no streams".into()).error().fix("add streams or dynamic_streams"));
    }
    Ok(())
}

/// The names of all components that the table has.
#[cfg(test)]
fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = LANGUAGE.keys().copied().collect();
    names.sort_unstable();
    names
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    above: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Item(usize),
}

impl<'a> Place<'a> {
    fn below(&'a self, step: Step<'a>) -> Self {
        Self { above: Some(self), step }
    }
    fn depth(&self) -> usize {
        self.above.map_or(0, |above| above.depth() + 1)
    }
    fn text(&self) -> String {
        let mut text = self.above.map(Place::text).unwrap_or_default();
        match self.step {
            Step::Root => {}
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => {
                text.push('.');
                text.push_str(name);
            }
            Step::Item(at) => {
                let _ = write!(text, "[{at}]");
            }
        }
        text
    }
    fn wrong(&self, what: String) -> Wrong {
        Wrong { depth: self.depth(), path: self.text(), what, expected: None }
    }
    fn expected(&self, shape: &Shape, found: &Value) -> Wrong {
        let what = format!("{} stands where something else is expected", kind_of(found));
        Wrong { expected: Some(words(shape)), ..self.wrong(what) }
    }
}

struct Wrong {
    depth: usize,
    path: String,
    what: String,
    expected: Option<String>,
}

impl Wrong {
    fn error(self) -> Error {
        let path = if self.path.is_empty() { "the manifest's root".to_owned() } else { self.path };
        let error = Error::new(ErrorKind::ConfigInvalid, self.what).with("path", path);
        match self.expected {
            Some(expected) => error.with("expected", expected).fix("correct the manifest at this path"),
            None => error.fix("correct the manifest at this path"),
        }
    }
}

fn fits(value: &Value, shape: &Shape, place: &Place<'_>) -> Result<(), Wrong> {
    let is_fine = match shape {
        Shape::Any => true,
        Shape::Text => value.is_string(),
        Shape::Whole(least) => is_whole(value) && least.admits(value),
        Shape::Number(least) => value.is_number() && least.admits(value),
        Shape::Flag => value.is_boolean(),
        Shape::Object => value.is_object(),
        Shape::List => value.is_array(),
        Shape::Null => value.is_null(),
        Shape::Word(word) => value.as_str() == Some(word),
        Shape::Named(name) => return fits(value, &LANGUAGE[name], place),
        Shape::Items { of, least, unique } => return items(value, shape, (of, *least, *unique), place),
        Shape::Each(of) => return each(value, shape, of, place),
        Shape::Fields { fields, is_closed } => return object(value, shape, fields, *is_closed, place),
        Shape::OneOf(shapes) => return one_of(value, shape, shapes, place),
    };
    if is_fine { Ok(()) } else { Err(place.expected(shape, value)) }
}

fn items(value: &Value, shape: &Shape, (of, least, unique): (&Shape, usize, bool), place: &Place<'_>) -> Result<(), Wrong> {
    let Value::Array(found) = value else { return Err(place.expected(shape, value)) };
    if found.len() < least {
        return Err(place.wrong(format!("a list is too short: {least} at least")));
    }
    if unique && found.iter().enumerate().any(|(at, item)| found[..at].contains(item)) {
        return Err(place.wrong("a list names something twice".into()));
    }
    found.iter().enumerate().try_for_each(|(at, item)| fits(item, of, &place.below(Step::Item(at))))
}

fn each(value: &Value, shape: &Shape, of: &Shape, place: &Place<'_>) -> Result<(), Wrong> {
    let Value::Object(found) = value else { return Err(place.expected(shape, value)) };
    found.iter().try_for_each(|(name, value)| fits(value, of, &place.below(Step::Field(name))))
}

fn object(value: &Value, shape: &Shape, fields: &[Field], is_closed: bool, place: &Place<'_>) -> Result<(), Wrong> {
    let Value::Object(found) = value else { return Err(place.expected(shape, value)) };
    for field in fields {
        match found.get(field.name) {
            // Of another type: that is said of the component, so that a choice of components can be told from a mistake inside one.
            Some(kind) if field.name == "type" && matches!(field.shape, Shape::Word(_)) => {
                if let Shape::Word(word) = field.shape
                    && kind.as_str() != Some(word)
                {
                    return Err(place.expected(shape, value));
                }
            }
            Some(inner) => fits(inner, &field.shape, &place.below(Step::Field(field.name)))?,
            None if field.is_required && field.name == "type" => return Err(place.expected(shape, value)),
            None if field.is_required => {
                return Err(place.below(Step::Field(field.name)).wrong("a required field is missing".into()));
            }
            None => {}
        }
    }
    if is_closed && let Some(unknown) = found.keys().find(|key| fields.iter().all(|field| field.name != **key)) {
        return Err(place.below(Step::Field(unknown)).wrong("the language has no such field here".into()));
    }
    Ok(())
}

/// The mistake furthest inside is the one that is meant.
fn one_of(value: &Value, shape: &Shape, shapes: &[Shape], place: &Place<'_>) -> Result<(), Wrong> {
    let mut furthest: Option<Wrong> = None;
    for one in shapes {
        match fits(value, one, place) {
            Ok(()) => return Ok(()),
            Err(wrong) if furthest.as_ref().is_none_or(|known| wrong.depth > known.depth) => furthest = Some(wrong),
            Err(_) => {}
        }
    }
    match furthest {
        Some(wrong) if wrong.depth > place.depth() || wrong.expected.is_none() => Err(wrong),
        _ => Err(place.expected(shape, value)),
    }
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0)
}

impl Least {
    fn admits(self, value: &Value) -> bool {
        let value = value.as_f64().unwrap_or_default();
        match self {
            Self::None => true,
            Self::At(least) => value >= least,
            Self::Above(least) => value > least,
        }
    }
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(_) => "true or false".into(),
        Value::Number(_) => "a number".into(),
        Value::String(_) => "a text".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(fields) => match fields.get("type").and_then(Value::as_str) {
            Some(kind) => format!("a component of the type {kind}"),
            None => "an object without a type".into(),
        },
    }
}

fn words(shape: &Shape) -> String {
    match shape {
        Shape::Any => "anything".into(),
        Shape::Text => "a text".into(),
        Shape::Whole(least) => format!("a whole number{}", least.words()),
        Shape::Number(least) => format!("a number{}", least.words()),
        Shape::Flag => "true or false".into(),
        Shape::Object | Shape::Each(_) => "an object".into(),
        Shape::List => "a list".into(),
        Shape::Null => "null".into(),
        Shape::Word(word) => (*word).into(),
        Shape::Named(name) => (*name).into(),
        Shape::Items { of, .. } => format!("a list of: {}", words(of)),
        Shape::Fields { fields, .. } => {
            let kind = fields.iter().find(|field| field.name == "type").map(|field| words(&field.shape));
            kind.unwrap_or_else(|| "an object".into())
        }
        Shape::OneOf(shapes) => shapes.iter().map(words).collect::<Vec<_>>().join(", "),
    }
}

impl Least {
    fn words(self) -> String {
        match self {
            Self::None => String::new(),
            Self::At(least) => format!(" of {least} at least"),
            Self::Above(least) => format!(" above {least}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Place, Shape, Step, check, fits, names};

    fn manifest() -> serde_json::Value {
        let requester = json!({"type": "HttpRequester", "url_base": "http://a", "path": "b"});
        let selector = json!({"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": []}});
        let retriever = json!({"type": "SimpleRetriever", "requester": requester, "record_selector": selector});
        json!({"type": "DeclarativeSource", "version": "1", "check": {"type": "CheckStream", "stream_names": ["a"]},
            "streams": [{"type": "DeclarativeStream", "name": "a", "retriever": retriever}]})
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        check(&manifest()).unwrap();
        for (pointer, value, path, expected) in [
            ("/version", json!(1), "version", Some("a text")),
            ("/streams/0/retriever/requester/http_method", json!("PUT"), "streams[0].retriever.requester.http_method", Some("GET, POST")),
            ("/streams/0/retriever/requester/request_headers", json!({"a": 1}), "streams[0].retriever.requester.request_headers.a", None),
            ("/streams/0/retriever/paginator", json!({"type": "NoPager"}), "streams[0].retriever.paginator", None),
            (
                "/streams/0/retriever/record_selector/extractor",
                json!({"type": "DpathExtractor"}),
                "streams[0].retriever.record_selector.extractor.field_path",
                None,
            ),
            ("/surprise", json!(1), "surprise", None),
        ] {
            let mut wrong = manifest();
            let (above, name) = pointer.rsplit_once('/').unwrap();
            wrong.pointer_mut(above).unwrap()[name] = value;
            let e = check(&wrong).unwrap_err();
            assert!(e.context().contains(&("path", path.to_owned())), "{pointer}: {e:?}");
            if let Some(expected) = expected {
                assert!(e.context().contains(&("expected", expected.to_owned())), "{pointer}: {e:?}");
            }
            assert!(e.suggested_fix().is_some());
        }
        let mut wrong = manifest();
        wrong.as_object_mut().unwrap().remove("streams");
        assert!(check(&wrong).is_err());
    }

    #[test]
    fn the_table_has_every_component_and_only_names_that_it_has() {
        assert_eq!(names().len(), 140, "139 definitions and the source itself");
        fn walk(shape: &Shape) {
            match shape {
                Shape::Named(name) => assert!(names().contains(name), "{name}"),
                Shape::Items { of, .. } | Shape::Each(of) => walk(of),
                Shape::Fields { fields, .. } => fields.iter().for_each(|field| walk(&field.shape)),
                Shape::OneOf(shapes) => shapes.iter().for_each(walk),
                _ => {}
            }
        }
        super::LANGUAGE.values().for_each(walk);
    }

    #[test]
    fn numbers_and_lists_have_bounds() {
        let root = Place { above: None, step: Step::Root };
        let fits = |kind: &str, value: serde_json::Value| fits(&value, &super::LANGUAGE[kind], &root).is_ok();
        let reduction = |factor: serde_json::Value| json!({"type": "PageSizeReduction", "reduction_factor": factor});
        assert!(fits("PageSizeReduction", reduction(json!(1.5))) && !fits("PageSizeReduction", reduction(json!(1))));
        assert!(fits("HttpResponseFilter", json!({"type": "HttpResponseFilter", "http_codes": [1, 2.0]})));
        assert!(!fits("HttpResponseFilter", json!({"type": "HttpResponseFilter", "http_codes": [1, 1]})));
        assert!(!fits("CombinedExtractor", json!({"type": "CombinedExtractor", "extractors": []})));
    }
}
