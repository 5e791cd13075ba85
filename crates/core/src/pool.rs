//! What is told of the sessions that a connector keeps open, and what a run asks of them. How they are kept is the connector's matter.

use serde::Serialize;

/// The sessions of one connector in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolState {
    /// Open now: idle, in use, and on their way in or out.
    pub open: usize,
    pub idle: usize,
    pub in_use: usize,
    /// Uses that wait for a session.
    pub waiting: usize,
    /// The most that may be open at once.
    pub max: usize,
    /// Uses that gave up waiting, since the connector was opened.
    pub timeouts: u64,
}

/// Which ends of a run a connector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    Source,
    Destination,
    Both,
}
