//! How a stream is read incrementally: what was read, and the windows that are still to be read.

mod build;
mod counting;
mod dates;
mod partitioned;
mod ranged;
mod window;

use std::sync::Arc;

use jiff::SignedDuration;
use linkspan_core::Result;
use serde_json::{Map, Value};

use crate::{slice::Slice, truth::is_true};

pub use build::{Asked, build, catalog_field};
pub use counting::Counting;
pub use dates::{Dates, MinMax, duration};
pub use partitioned::{Again, Opened, Partitioned};
pub use ranged::{Definition, Ranged};
pub use window::{At, Clamping, Ends, Plan, Seen, Window};

/// The key of a state that says: read whole, no position.
pub const NO_CURSOR: &str = "__ab_no_cursor_state_message";

/// A stream's position.
pub enum Cursor {
    /// Read whole each time.
    Whole,
    Ranged(Ranged),
    Counting(Counting),
    Partitioned(Partitioned),
}

/// What the records of one slice said so far.
#[derive(Default)]
pub struct Observed {
    at: Option<At>,
    count: Option<Value>,
    /// Of the page that is being read.
    text: Option<String>,
}

impl Cursor {
    /// The field whose values are the position.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Whole => None,
            Self::Ranged(ranged) => Some(&ranged.definition.field),
            Self::Counting(counting) => Some(&counting.field),
            Self::Partitioned(parts) => Some(&parts.definition.field),
        }
    }

    /// A record was handed on; `value` is its cursor field's. Values that cannot be read move nothing.
    pub fn observe(&self, observed: &mut Observed, value: Option<&Value>) -> Result<()> {
        let Some(value) = value.filter(|v| !v.is_null()) else { return Ok(()) };
        match self {
            Self::Whole => {}
            Self::Ranged(ranged) => {
                ranged.definition.dates.takes(value)?;
                if let Ok(at) = ranged.definition.dates.read(value) {
                    observed.time(at);
                }
            }
            Self::Partitioned(parts) => {
                let dates = &parts.definition.dates;
                dates.takes(value)?;
                if let Ok(at) = dates.read(value) {
                    observed.time(at);
                    let text = dates.write(at);
                    if observed.text.as_ref().is_none_or(|known| *known < text) {
                        observed.text = Some(text);
                    }
                }
            }
            Self::Counting(_) => match &observed.count {
                Some(known) if counting::compare(known, value)?.is_ge() => {}
                _ => observed.count = Some(value.clone()),
            },
        }
        Ok(())
    }

    /// A page was handed on.
    pub fn settle(&self, observed: &mut Observed) {
        if let Self::Partitioned(parts) = self {
            parts.observe(observed.text.take().as_deref());
        }
    }

    /// A slice was read whole. The state to tell, if it is time to.
    pub fn close(&self, slice: &Slice, observed: Observed) -> Result<Option<Map<String, Value>>> {
        match self {
            Self::Whole => Ok(None),
            Self::Ranged(ranged) => {
                ranged.close(ranged.definition.window(slice)?, observed.at);
                Ok(Some(ranged.state()))
            }
            Self::Counting(counting) => Ok(counting.close(observed.count)?.then(|| counting.state())),
            Self::Partitioned(parts) => parts.close(slice, observed.at),
        }
    }

    /// The end of a run, after which every stream tells its state. `parents` is how far the parents were read.
    pub fn finish(&self, parents: impl FnOnce() -> Option<Value>) {
        if let Self::Partitioned(parts) = self {
            parts.finish(parents());
        }
    }

    /// The state as it is kept: one of `many` partitions or more as the text of its JSON.
    pub fn kept(&self, many: usize) -> Value {
        match self {
            Self::Partitioned(parts) => parts.kept(many),
            _ => self.state().into(),
        }
    }

    pub fn state(&self) -> Map<String, Value> {
        match self {
            Self::Whole => [(NO_CURSOR.to_owned(), Value::Bool(true))].into_iter().collect(),
            Self::Ranged(ranged) => ranged.state(),
            Self::Counting(counting) => counting.state(),
            Self::Partitioned(parts) => parts.state(),
        }
    }

    /// Whether the state counts each slice that was read whole. One position for all partitions moves at the stream's end only.
    pub fn counts_slices(&self) -> bool {
        match self {
            Self::Whole => false,
            Self::Ranged(_) | Self::Counting(_) => true,
            Self::Partitioned(parts) => !parts.is_global(),
        }
    }

    /// Whether a record with this cursor value belongs to this read.
    pub fn is_due(&self, value: Option<&Value>, slice: &Slice) -> Result<bool> {
        match self {
            Self::Whole => Ok(true),
            Self::Ranged(ranged) => ranged.is_due(value),
            Self::Counting(counting) => counting.is_due(value),
            Self::Partitioned(parts) => parts.is_due(value, slice),
        }
    }

    /// The slice in two; `None` when it cannot be made smaller.
    pub fn split(&self, slice: &Slice, at_least: Option<SignedDuration>) -> Result<Option<Vec<Slice>>> {
        Ok(match self.definition() {
            Some(definition) => definition.halves(slice, at_least)?.map(Vec::from),
            None => None,
        })
    }

    pub fn definition(&self) -> Option<&Arc<Definition>> {
        match self {
            Self::Ranged(ranged) => Some(&ranged.definition),
            Self::Partitioned(parts) => Some(&parts.definition),
            Self::Whole | Self::Counting(_) => None,
        }
    }

    /// When the state was last up to date, for streams whose API forgets.
    pub fn age(&self, state: &Map<String, Value>) -> Option<At> {
        match self {
            Self::Whole => state.get(NO_CURSOR).filter(|v| is_true(v)).map(|_| At::utc(jiff::civil::DateTime::MAX)),
            Self::Counting(_) => None,
            Self::Ranged(ranged) => saved_time(&ranged.definition, state),
            Self::Partitioned(parts) => saved_time(&parts.definition, state.get("state")?.as_object()?),
        }
    }
}

fn saved_time(definition: &Definition, state: &Map<String, Value>) -> Option<At> {
    let value = match state.get("state_type").and_then(Value::as_str) {
        Some("date-range" | "integer") => {
            let first = state.get("slices")?.get(0)?;
            first.get("most_recent_cursor_value").filter(|v| is_true(v)).or(first.get("end"))
        }
        _ => state.get(&definition.field),
    };
    definition.dates.read(value.filter(|v| is_true(v))?).ok()
}

impl Observed {
    fn time(&mut self, at: At) {
        if self.at.is_none_or(|known| known < at) {
            self.at = Some(at);
        }
    }
    pub fn at(&self) -> Option<At> {
        self.at
    }
}
