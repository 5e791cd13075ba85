//! Transformations: what is changed in a record before it leaves.

mod fields;

use linkspan_core::Result;
use serde_json::Value;

use crate::{component::Component, slice::Slice, wiring::Build};

use fields::{AddFields, RemoveFields};

pub enum Transform {
    AddFields(AddFields),
    RemoveFields(RemoveFields),
}

impl Transform {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        match component.kind() {
            "AddFields" => AddFields::build(component).map(Self::AddFields),
            "RemoveFields" => RemoveFields::build(component).map(Self::RemoveFields),
            _ => Err(component.unknown_kind()),
        }
    }

    pub fn apply(&self, record: &mut Value, slice: &Slice, build: &Build) -> Result<()> {
        match self {
            Self::AddFields(add) => add.apply(record, slice, build),
            Self::RemoveFields(remove) => remove.apply(record, build),
        }
    }
}
