//! One partition for every value of a list.

use std::sync::Arc;

use futures::StreamExt;
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::Slices;
use crate::{
    inject::{Inject, RequestOption},
    slice::Slice,
    truth::is_true,
    wiring::Build,
};

/// The values, and the slice's key for them.
pub struct List {
    /// `None` where the config holds no list.
    pub(super) values: Option<Vec<Value>>,
    pub(super) field: String,
    pub(super) option: Option<RequestOption>,
    /// Its place in the manifest.
    pub(super) path: String,
}

impl List {
    pub(super) fn slices(&self) -> Slices {
        let field = self.field.clone();
        let Some(values) = self.values.clone() else {
            let error = Error::new(ErrorKind::ConfigInvalid, "the values of a list of partitions are no list").with("path", &self.path);
            return futures::stream::iter([Err(error.fix("check the field of the config that it names"))]).boxed();
        };
        let slice = move |value| Ok(Arc::new(Slice::of_partition([(field.clone(), value)].into_iter().collect())));
        futures::stream::iter(values.into_iter().map(slice)).boxed()
    }

    pub(super) fn options(&self, into: Inject, slice: &Slice, build: &Build) -> Result<Map<String, Value>> {
        inject(self.option.as_ref(), &self.field, into, slice, build)
    }
}

/// A slice's value where its option wants it; values that are nothing (0, "", null) are left out.
pub(super) fn inject(
    option: Option<&RequestOption>,
    field: &str,
    into: Inject,
    slice: &Slice,
    build: &Build,
) -> Result<Map<String, Value>> {
    let mut options = Map::new();
    let value = slice.get(field).filter(|value| is_true(value));
    if let (Some(option), Some(value)) = (option.filter(|o| o.inject_into() == into), value) {
        option.inject(&mut options, value.clone(), build)?;
    }
    Ok(options)
}
