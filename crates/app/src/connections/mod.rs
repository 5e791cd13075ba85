//! Connections: a source connector's streams into a destination connector, with schedule and policies. Stored as documents; what
//! running one needs is made here. It knows no run.

mod change;
mod ends;
mod fields;
mod job;
mod kept;
mod operations;
mod shown;

pub(crate) use ends::{destination, expect_ends, written_to};
pub use ends::{destination_end, source_end};
pub use fields::{New, Options, Retries, Streams};
pub use job::job;
pub use kept::{KIND, Kept, RetryPolicy, To, run_name, schedule_entry};
pub(crate) use operations::busy;
pub use operations::{Deleted, Reschedule, Rescheduled, draft, named, operations, reschedule, scheduled};
pub use shown::Shown;
