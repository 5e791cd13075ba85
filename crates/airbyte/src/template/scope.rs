//! The names that a template sees.

use linkspan_core::{Clock, SystemClock};
use serde_json::Value;

use crate::{
    jinja::{self, Py},
    slice::Slice,
};

/// Borrowed values by name, and the moment that counts as now. Cheap to build for every record.
#[derive(Clone)]
pub struct Scope<'a> {
    names: Vec<(&'a str, Bound<'a>)>,
    now: jiff::Timestamp,
}

#[derive(Clone, Copy)]
enum Bound<'a> {
    Json(&'a Value),
    Slice(&'a Slice),
    /// Names are found whatever their case.
    Headers(&'a Value),
    /// With the attributes of the reference's own class.
    Record(&'a Value),
    Integer(i64),
}

impl<'a> Scope<'a> {
    pub fn new(config: &'a Value, now: jiff::Timestamp) -> Self {
        let mut names = Vec::with_capacity(6);
        names.push(("config", Bound::Json(config)));
        Self { names, now }
    }
    /// For what is evaluated once and has no clock at hand.
    pub fn at_system_time(config: &'a Value) -> Self {
        Self::new(config, SystemClock.now())
    }

    /// `stream_slice`, `stream_interval` and `stream_partition`.
    pub fn slice(self, slice: &'a Slice) -> Self {
        self.bind("stream_slice", Bound::Slice(slice))
    }
    pub fn record(self, record: &'a Value) -> Self {
        self.with("record", record)
    }
    pub fn response(self, response: &'a Value) -> Self {
        self.with("response", response)
    }
    pub fn headers(self, headers: &'a Value) -> Self {
        self.bind("headers", Bound::Headers(headers))
    }
    pub fn next_page_token(self, token: &'a Value) -> Self {
        self.with("next_page_token", token)
    }
    pub fn last_record(self, record: &'a Value) -> Self {
        self.bind("last_record", Bound::Record(record))
    }
    pub fn last_page_size(self, size: i64) -> Self {
        self.bind("last_page_size", Bound::Integer(size))
    }
    /// Any name; a later binding of the same name replaces the earlier one.
    pub fn with(self, name: &'a str, value: &'a Value) -> Self {
        self.bind(name, Bound::Json(value))
    }
    pub fn now(&self) -> jiff::Timestamp {
        self.now
    }

    fn bind(mut self, name: &'a str, bound: Bound<'a>) -> Self {
        match self.names.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = bound,
            None => self.names.push((name, bound)),
        }
        self
    }

    fn get(&self, name: &str) -> Option<Bound<'a>> {
        let name = match name {
            "stream_interval" | "stream_partition" => "stream_slice",
            name => name,
        };
        self.names.iter().find(|(known, _)| *known == name).map(|(_, bound)| *bound)
    }
}

/// A scope beside the parameters of the template that looks into it.
pub(super) struct Names<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) parameters: &'a Value,
}

impl Names<'_> {
    pub(super) fn knows(&self, name: &str) -> bool {
        name == "parameters" || self.scope.get(name).is_some()
    }
}

impl<'a> jinja::Names<'a> for Names<'a> {
    fn get(&self, name: &str) -> Option<Py<'a>> {
        if let Some(bound) = self.scope.get(name) {
            return Some(match bound {
                Bound::Json(value) => Py::json(value),
                Bound::Slice(slice) => Py::Slice(slice),
                Bound::Headers(Value::Object(fields)) => Py::Headers(fields),
                Bound::Record(Value::Object(fields)) => Py::Record(fields),
                Bound::Headers(value) | Bound::Record(value) => Py::json(value),
                Bound::Integer(n) => Py::Int(n.into()),
            });
        }
        (name == "parameters").then(|| Py::json(self.parameters))
    }
}
