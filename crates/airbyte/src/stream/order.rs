//! What a stream's retriever asks of its cursor and its partition router.

use std::sync::Arc;

use jiff::SignedDuration;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::{
    component::Component,
    cursor::{Cursor, Observed},
    inject::{Inject, RequestOption},
    partition::Router,
    record::Record,
    retrieve::{Order, Tracker},
    slice::Slice,
    wiring::Build,
};

/// A stream's cursor and router together.
pub(super) struct Ordered {
    pub cursor: Arc<Cursor>,
    pub router: Arc<Router>,
    pub stretch: Option<Stretch>,
    pub build: Build,
}

/// Where requests say which stretch of the cursor they want.
pub(super) struct Stretch {
    start: Option<RequestOption>,
    end: Option<RequestOption>,
    keys: (String, String),
}

impl Stretch {
    pub fn build(incremental: &Component<'_>, cursor: &Cursor) -> Result<Self> {
        let option = |name: &str| incremental.child(name)?.map(|o| RequestOption::build(&o)).transpose();
        Ok(match cursor.definition() {
            Some(definition) => {
                Self { start: option("start_time_option")?, end: option("end_time_option")?, keys: definition.bounds.clone() }
            }
            None => Self { start: option("start_value_option")?, end: None, keys: ("start".into(), "end".into()) },
        })
    }

    fn options(&self, into: Inject, stretch: &Map<String, Value>, build: &Build) -> Result<Map<String, Value>> {
        let mut options = Map::new();
        for (option, key) in [(&self.start, &self.keys.0), (&self.end, &self.keys.1)] {
            if let Some(option) = option.as_ref().filter(|o| o.inject_into() == into) {
                option.inject(&mut options, stretch.get(key).cloned().unwrap_or_default(), build)?;
            }
        }
        Ok(options)
    }
}

/// The options of a router alone, for retrievers that follow no cursor.
pub fn of_router(router: Arc<Router>, build: &Build) -> Arc<dyn Order> {
    Arc::new(Ordered { cursor: Arc::new(Cursor::Whole), router, stretch: None, build: build.clone() })
}

impl Order for Ordered {
    fn options(&self, into: Inject, slice: &Slice) -> Result<Map<String, Value>> {
        let Some(stretch) = &self.stretch else {
            return self.router.options(into, slice, &self.build);
        };
        let mut options = match &*self.cursor {
            Cursor::Partitioned(_) => self.router.options(into, &Slice::of_partition(slice.partition().clone()), &self.build)?,
            _ => Map::new(),
        };
        if slice.is_truthy() {
            options.extend(stretch.options(into, slice.cursor(), &self.build)?);
        }
        Ok(options)
    }

    fn is_due(&self, record: &Record, slice: &Slice) -> Result<bool> {
        let Some(field) = self.cursor.field() else { return Ok(true) };
        if !record.is_object() {
            return Err(Error::new(ErrorKind::DataInvalid, "a record of the API is no object, so it has no cursor field")
                .fix("check the extractor's field_path and its record_expander"));
        }
        self.cursor.is_due(record.field(field).as_deref(), slice)
    }

    fn split(&self, slice: &Slice, at_least: Option<SignedDuration>) -> Result<Option<Vec<Slice>>> {
        self.cursor.split(slice, at_least)
    }

    fn tracker(&self) -> Option<Box<dyn Tracker>> {
        self.cursor.definition()?;
        Some(Box::new(Tracked { cursor: self.cursor.clone(), observed: Observed::default() }))
    }
}

/// The largest value of one request loop, from which it can start again.
struct Tracked {
    cursor: Arc<Cursor>,
    observed: Observed,
}

impl Tracker for Tracked {
    fn observe(&mut self, record: &Record, _: &Slice) {
        let Some(field) = self.cursor.field() else { return };
        // Only counting cursors can fail, and none is tracked.
        let _ = self.cursor.observe(&mut self.observed, record.field(field).as_deref());
    }

    fn reduced(&self, slice: &Slice) -> Slice {
        let (Some(definition), Some(at)) = (self.cursor.definition(), self.observed.at()) else { return slice.clone() };
        let (start, end) = &definition.bounds;
        let mut stretch = Map::new();
        stretch.insert(start.clone(), definition.dates.write(at).into());
        stretch.insert(end.clone(), slice.get(end).cloned().unwrap_or_default());
        Slice::new(slice.partition().clone(), stretch, slice.extra().clone()).unwrap_or_else(|_| slice.clone())
    }
}
