//! One run of a connection, from both ends to the written-down result. It knows no terminal and no face: who watches gets a tally,
//! who ends it has a stop.

mod endpoint;
mod ends;
mod execute;
mod job;
mod limited;
mod opened;
mod report;
mod tally;
mod totals;
mod watch;

pub(crate) use endpoint::showing;
pub use endpoint::{Declared, Endpoint, connection_id, derived_name};
pub use execute::{Claimed, Held, Moved, Prepared, prepare, unless_stopped};
pub use job::{Consent, Job};
pub use opened::{OpenConnectors, Pools};
pub use report::{Line, Report, Verdict, end_word, mode_word, write_word};
pub use tally::{Counter, Tally, rate};
pub use totals::{LATE, Sums, Totals};
pub use watch::Watch;
