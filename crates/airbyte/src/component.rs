//! One component of a resolved manifest, with the place it stands in, so that every error can name it.

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::template::{Condition, Mapping, NestedMapping, Template};

/// Borrowed from the resolved manifest; cheap to clone.
#[derive(Clone, Debug)]
pub struct Component<'a> {
    fields: &'a Map<String, Value>,
    path: String,
}

impl<'a> Component<'a> {
    /// `ConfigInvalid` when the value is no object.
    pub fn new(value: &'a Value, path: impl Into<String>) -> Result<Self> {
        let path = path.into();
        match value {
            Value::Object(fields) => Ok(Self { fields, path }),
            other => Err(wrong("a component is expected here", &path).with("found", name_of(other))),
        }
    }

    /// The component's type; "" for one that has none.
    pub fn kind(&self) -> &'a str {
        self.fields.get("type").and_then(Value::as_str).unwrap_or_default()
    }
    /// Where it stands, as `streams[0].retriever.requester`.
    pub fn path(&self) -> &str {
        &self.path
    }
    pub fn fields(&self) -> &'a Map<String, Value> {
        self.fields
    }
    /// The `$parameters` that reached it.
    pub fn parameters(&self) -> &'a Map<String, Value> {
        match self.fields.get("$parameters") {
            Some(Value::Object(parameters)) => parameters,
            _ => none(),
        }
    }

    /// A field that is there and not null.
    pub fn field(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }
    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        self.field(name).map(|value| value.as_str().ok_or_else(|| self.mistyped(name, "a text", value))).transpose()
    }
    pub fn required_text(&self, name: &str) -> Result<&'a str> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.field(name).map(|value| value.as_bool().ok_or_else(|| self.mistyped(name, "true or false", value))).transpose()
    }
    /// A whole number, also one written as a float.
    pub fn integer(&self, name: &str) -> Result<Option<i64>> {
        let whole = |value: &Value| value.as_i64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64));
        self.field(name).map(|value| whole(value).ok_or_else(|| self.mistyped(name, "a whole number", value))).transpose()
    }
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.field(name).map(|value| value.as_f64().ok_or_else(|| self.mistyped(name, "a number", value))).transpose()
    }
    /// A list of texts; none when the field is absent.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(value) = self.field(name) else { return Ok(None) };
        let items = value.as_array().ok_or_else(|| self.mistyped(name, "a list of texts", value))?;
        let text = |item: &'a Value| item.as_str().ok_or_else(|| self.mistyped(name, "a list of texts", item));
        items.iter().map(text).collect::<Result<_>>().map(Some)
    }

    pub fn child(&self, name: &str) -> Result<Option<Component<'a>>> {
        self.field(name).map(|value| Component::new(value, self.place(name))).transpose()
    }
    pub fn required(&self, name: &str) -> Result<Component<'a>> {
        self.child(name)?.ok_or_else(|| self.missing(name))
    }
    /// The components of a list; a single component counts as a list of one, nothing as an empty list.
    pub fn children(&self, name: &str) -> Result<Vec<Component<'a>>> {
        match self.field(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                items.iter().enumerate().map(|(at, item)| Component::new(item, format!("{}[{at}]", self.place(name)))).collect()
            }
            Some(one) => Ok(vec![Component::new(one, self.place(name))?]),
        }
    }

    /// The field as a template; numbers and booleans become their text.
    pub fn template(&self, name: &str) -> Result<Option<Template>> {
        let Some(value) = self.field(name) else { return Ok(None) };
        self.template_of(name, value).map(Some)
    }
    pub fn required_template(&self, name: &str) -> Result<Template> {
        self.template(name)?.ok_or_else(|| self.missing(name))
    }
    pub fn templates(&self, name: &str) -> Result<Vec<Template>> {
        match self.field(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items.iter().map(|item| self.template_of(name, item)).collect(),
            Some(one) => Ok(vec![self.template_of(name, one)?]),
        }
    }
    pub fn condition(&self, name: &str) -> Result<Option<Condition>> {
        let condition = |value| Condition::parse(value, self.parameters()).map_err(|e| self.placed(e, name));
        self.field(name).map(condition).transpose()
    }
    pub fn mapping(&self, name: &str) -> Result<Option<Mapping>> {
        let Some(value) = self.field(name) else { return Ok(None) };
        let fields = value.as_object().ok_or_else(|| self.mistyped(name, "an object", value))?;
        Mapping::parse(fields, self.parameters()).map(Some).map_err(|e| self.placed(e, name))
    }
    pub fn nested_mapping(&self, name: &str) -> Result<Option<NestedMapping>> {
        let nested = |value| NestedMapping::parse(value, self.parameters()).map_err(|e| self.placed(e, name));
        self.field(name).map(nested).transpose()
    }

    /// `ConfigInvalid`, placed at this component.
    pub fn error(&self, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        wrong(message, &self.path)
    }
    /// For a kind that this place does not know, or that Linkspan cannot run.
    pub fn unknown_kind(&self) -> Error {
        let kind = match self.kind() {
            "" => "none",
            kind => kind,
        };
        self.error("a component of another type is expected here").with("type", kind)
    }

    fn template_of(&self, name: &str, value: &Value) -> Result<Template> {
        match value {
            Value::String(text) => Template::parse(text, self.parameters()),
            Value::Number(number) => Template::parse(&number.to_string(), self.parameters()),
            Value::Bool(true) => Template::parse("True", self.parameters()),
            Value::Bool(false) => Template::parse("False", self.parameters()),
            other => return Err(self.mistyped(name, "a text", other)),
        }
        .map_err(|e| self.placed(e, name))
    }
    fn place(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
    fn placed(&self, error: Error, name: &str) -> Error {
        error.with("path", self.place(name))
    }
    fn missing(&self, name: &str) -> Error {
        wrong("a required field is missing", &self.place(name)).with("type", self.kind())
    }
    fn mistyped(&self, name: &str, expected: &'static str, found: &Value) -> Error {
        wrong(format!("{expected} is expected here"), &self.place(name)).with("found", name_of(found))
    }
}

fn none() -> &'static Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    &NONE
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>, path: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message).with("path", if path.is_empty() { "the manifest's root" } else { path })
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
