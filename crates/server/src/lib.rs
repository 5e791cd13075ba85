//! The faces of the operations over HTTP: one router made from the table, one shape of errors, one description of both.
//!
//! What a route takes, who may call it and what it answers stands in its row ([`operations`]); this crate adds no route beside it.

#![forbid(unsafe_code)]

mod answer;
mod compat;
mod docs;
mod door;
mod framing;
mod input;
pub mod limits;
mod listen;
pub mod local;
mod meters;
mod metrics;
pub mod openapi;
pub mod rates;
pub mod refusal;
mod router;
mod seats;
mod table;
mod uploads;

pub use door::{Door, Peer, Trusted};
pub use listen::{Drained, Listener};
pub use meters::Spans;
pub use router::router;
pub use seats::Most;
pub use table::operations;
