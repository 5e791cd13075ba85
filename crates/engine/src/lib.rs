//! What happens: plans are made, schemas pass the gate, rows go through the pipe, positions are remembered.
//! It knows no connector, no store driver and no face.

#![forbid(unsafe_code)]

pub mod gate;
mod pipe;
pub mod plan;
mod project;
mod reconcile;
pub mod run;
