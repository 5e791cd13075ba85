//! Linkspan's own connectors as programs that speak the Airbyte protocol: what a platform starts, hands files to and reads lines from.
//! It knows connectors by their contracts only.

mod columns;
mod destination;
mod feed;
mod form;
mod keeping;
mod position;
mod reading;
mod singer;
mod source;
mod voice;
mod write;

pub use destination::{Moved, Moving, Pipe, WriteVerb, Writer, write};
pub use form::{secrets, specification};
pub use reading::Encode;
pub use singer::target;
pub use source::{Program, Verb, run};
pub use write::{Lenient, Parked};

pub(crate) use columns::entry as stream_entry;
pub(crate) use feed::{is_feed, records as feed_records};
pub(crate) use write::word as mode_word;
