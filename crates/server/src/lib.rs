//! The faces of the operations over HTTP.

#![forbid(unsafe_code)]
