//! Where a value goes in a request: the parts of one, and the options that name a place in them.

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::{component::Component, template::Template, wiring::Build};

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inject {
    Parameter,
    Header,
    BodyJson,
    BodyData,
}

/// A place in a request for one value: a part, and a name in it (or a path of names in a JSON body).
#[derive(Clone, Debug)]
pub struct RequestOption {
    into: Inject,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Name(Template),
    Path(Vec<Template>),
}

impl RequestOption {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        let into = match component.required_text("inject_into")? {
            "request_parameter" => Inject::Parameter,
            "header" => Inject::Header,
            "body_json" => Inject::BodyJson,
            "body_data" => Inject::BodyData,
            other => return Err(component.error("not a part of a request").with("inject_into", other)),
        };
        let name = component.template("field_name")?.filter(|name| !name.source().is_empty());
        let path = component.field("field_path").filter(|path| path.as_array().is_none_or(|steps| !steps.is_empty()));
        let place = match (name, path) {
            (Some(_), Some(_)) => return Err(component.error("field_name and field_path exclude each other")),
            (Some(name), None) => Place::Name(name),
            (None, Some(_)) if into == Inject::BodyJson => Place::Path(component.templates("field_path")?),
            (None, Some(_)) => return Err(component.error("only a JSON body has paths").fix("use field_name")),
            (None, None) => return Err(component.error("a request option needs field_name or field_path")),
        };
        Ok(Self { into, place })
    }
    /// An option made by the program: a header of this name.
    pub fn header(name: Template) -> Self {
        Self { into: Inject::Header, place: Place::Name(name) }
    }
    pub fn inject_into(&self) -> Inject {
        self.into
    }
    /// Puts the value at its place.
    pub fn inject(&self, target: &mut Map<String, Value>, value: Value, build: &Build) -> Result<()> {
        match &self.place {
            Place::Name(name) => {
                target.insert(build.text(name)?, value);
                Ok(())
            }
            Place::Path(path) => {
                let names = path.iter().map(|step| build.text(step)).collect::<Result<Vec<_>>>()?;
                let Some((last, way)) = names.split_last() else { return Ok(()) };
                let mut map = target;
                for name in way {
                    let next = map.entry(name.clone()).or_insert_with(|| Map::new().into());
                    map = next.as_object_mut().ok_or_else(|| collision(name))?;
                }
                map.insert(last.clone(), value);
                Ok(())
            }
        }
    }
}

/// What one part of a request is made of: a text, or named values.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Text(String),
    Fields(Map<String, Value>),
}

impl Default for Part {
    fn default() -> Self {
        Self::Fields(Map::new())
    }
}

impl Part {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Fields(fields) if fields.is_empty())
    }
}

/// Whether equal values of one key are one value (JSON bodies) or a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    Distinct,
    SameIsFine,
}

impl Inject {
    /// What becomes of a key that two components set.
    pub fn merge(self) -> Merge {
        if self == Self::BodyJson { Merge::SameIsFine } else { Merge::Distinct }
    }
}

/// Joins what several components say about one part. A key that two of them set is an error.
pub fn combine(parts: impl IntoIterator<Item = Part>, merge: Merge) -> Result<Part> {
    let (mut text, mut fields, mut others) = (None, Map::new(), 0);
    for part in parts {
        others += usize::from(!part.is_empty());
        match part {
            Part::Text(_) if text.is_some() => return Err(invalid("two components set the body's text")),
            Part::Text(found) => text = Some(found),
            Part::Fields(found) => join(&mut fields, found, merge)?,
        }
    }
    match text {
        Some(_) if others > 1 => Err(invalid("a body that is a text takes no further fields")),
        Some(text) => Ok(Part::Text(text)),
        None => Ok(Part::Fields(fields)),
    }
}

fn join(target: &mut Map<String, Value>, source: Map<String, Value>, merge: Merge) -> Result<()> {
    for (key, value) in source {
        match target.get_mut(&key) {
            None => {
                target.insert(key, value);
            }
            Some(Value::Object(known)) if merge == Merge::SameIsFine && value.is_object() => {
                let Value::Object(value) = value else { continue };
                join(known, value, merge)?;
            }
            Some(known) if merge == Merge::SameIsFine && *known == value => {}
            Some(_) => return Err(collision(&key)),
        }
    }
    Ok(())
}

fn collision(key: &str) -> Error {
    invalid("two components set the same key of a request")
        .with("key", key)
        .fix("give every key one owner: options, authenticator, paginator or cursor")
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn part(value: Value) -> Part {
        Part::Fields(value.as_object().cloned().unwrap())
    }

    #[test]
    fn a_key_has_one_owner() {
        assert_eq!(combine([part(json!({"a": 1})), part(json!({"b": 2}))], Merge::Distinct).unwrap(), part(json!({"a": 1, "b": 2})));
        assert!(combine([part(json!({"a": 1})), part(json!({"a": 1}))], Merge::Distinct).is_err());
        assert!(combine([part(json!({"a": {"b": 1}})), part(json!({"a": {"b": 2}}))], Merge::SameIsFine).is_err());
        let joined = combine([part(json!({"a": {"b": 1, "c": 2}})), part(json!({"a": {"b": 1, "d": 3}}))], Merge::SameIsFine).unwrap();
        assert_eq!(joined, part(json!({"a": {"b": 1, "c": 2, "d": 3}})));
    }

    #[test]
    fn a_text_stands_alone() {
        assert_eq!(combine([Part::Text("x".into()), Part::default()], Merge::Distinct).unwrap(), Part::Text("x".into()));
        assert!(combine([Part::Text("x".into()), part(json!({"a": 1}))], Merge::Distinct).is_err());
    }
}
