//! Transformations: what is changed in a record before it leaves.

mod fields;
mod keys;
mod patch;

use linkspan_core::Result;
use serde_json::Value;

use crate::{component::Component, slice::Slice, wiring::Build};

use fields::{AddFields, RemoveFields};
use keys::{DpathFlatten, KeysReplace};
pub use patch::{Plan, Rules};

pub enum Transform {
    AddFields(AddFields),
    RemoveFields(RemoveFields),
    KeysToLower,
    KeysToSnakeCase,
    KeysReplace(KeysReplace),
    FlattenFields { flattens_lists: bool },
    DpathFlatten(DpathFlatten),
}

impl Transform {
    pub fn build(component: &Component<'_>) -> Result<Self> {
        match component.kind() {
            "AddFields" => AddFields::build(component).map(Self::AddFields),
            "RemoveFields" => RemoveFields::build(component).map(Self::RemoveFields),
            "KeysToLower" => Ok(Self::KeysToLower),
            "KeysToSnakeCase" => Ok(Self::KeysToSnakeCase),
            "KeysReplace" => KeysReplace::build(component).map(Self::KeysReplace),
            "FlattenFields" => Ok(Self::FlattenFields { flattens_lists: component.flag("flatten_lists")?.unwrap_or(true) }),
            "DpathFlattenFields" => DpathFlatten::build(component).map(Self::DpathFlatten),
            _ => Err(component.unknown_kind()),
        }
    }

    pub fn apply(&self, record: &mut Value, slice: &Slice, build: &Build) -> Result<()> {
        match self {
            Self::AddFields(add) => add.apply(record, slice, build),
            Self::RemoveFields(remove) => remove.apply(record, build),
            Self::KeysReplace(replace) => replace.apply(record, slice, build),
            Self::DpathFlatten(flatten) => flatten.apply(record, build),
            Self::KeysToLower => {
                keys::to_lower(record);
                Ok(())
            }
            Self::KeysToSnakeCase => {
                *record = keys::renamed(record.take(), &keys::snake_case);
                Ok(())
            }
            Self::FlattenFields { flattens_lists } => {
                *record = keys::flatten(record.take(), *flattens_lists);
                Ok(())
            }
        }
    }
}
