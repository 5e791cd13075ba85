//! The words and the contracts of Linkspan: what rows, positions and commits are, and what a connector promises.
//! It does no I/O of its own and knows no other crate of the house.

#![forbid(unsafe_code)]

mod connector;
mod context;
mod destination;
mod error;
pub mod fold;
mod gate;
mod http;
mod keeper;
mod memory;
pub mod misfit;
mod name;
pub mod native;
pub mod nested;
mod pool;
mod remember;
pub mod rows;
mod secret;
mod source;
mod spelling;
mod state;
pub mod suggest;
pub mod widen;
mod zone;

pub use connector::*;
pub use context::*;
pub use destination::*;
pub use error::*;
pub use gate::*;
pub use http::*;
pub use keeper::*;
pub use memory::*;
pub use name::*;
pub use pool::*;
pub use remember::*;
pub use rows::{Batch, Change, ChangeKind, Changes, JsonRows, Reason, Rejected, Rows};
pub use secret::*;
pub use source::*;
pub use spelling::spellings;
pub use state::*;
pub use zone::time_zone;

/// The target of `tracing` spans that may leave the process as traces. Their fields are counts, ids and names that people gave: never
/// a secret, a row's value, a body, or another system's words.
pub const TRACES: &str = "linkspan::traces";

/// A change feed's operation column (`Utf8`: `i`, `u` or `d`). Only change feeds carry it.
pub const OP_COLUMN: &str = "_ls_op";
/// A change feed's order column: `FixedSizeBinary(16)`, big-endian (commit position u64, ordinal u64).
pub const SEQ_COLUMN: &str = "_ls_seq";
/// A change feed's bitmap (`Binary`) over the ordinals of the data columns that were *not* sent (an unchanged TOAST value).
pub const UNSET_COLUMN: &str = "_ls_unset";

/// Whether a column is the feed's own and not the user's.
pub fn is_feed_column(name: &str) -> bool {
    matches!(name, OP_COLUMN | SEQ_COLUMN | UNSET_COLUMN)
}
