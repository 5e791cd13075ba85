//! The faces of the operations over HTTP.

#![forbid(unsafe_code)]

pub mod limits;
pub mod rates;
pub mod refusal;
