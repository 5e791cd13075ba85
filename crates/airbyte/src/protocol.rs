//! The Airbyte protocol as a source speaks it: one JSON message a line. What is read (catalog, state) is told in words of
//! the protocol; what is written keeps the order of fields and the mixed casing that readers know.

mod catalog;
mod lines;
mod raw;
mod state;

pub use catalog::{Configured, ConfiguredCatalog, DestinationSyncMode, SyncMode};
pub use lines::{Failure, FailureType, Level, Lines, StreamStatus};
pub use state::{Descriptor, StateInput};
