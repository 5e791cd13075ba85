//! Parquet in local folders and object stores: as a source of rows, and as a destination whose commit log makes rows and
//! position one step. It knows no engine and no store.

#![forbid(unsafe_code)]

mod config;
mod connector;
mod destination;
mod errors;
mod house;
mod lake;
mod log;
mod merge;
mod part;
mod place;
mod roll;
mod schema;
mod session;
mod source;
mod storage;
mod table;
mod tune;

use linkspan_core::ConnectorType;

pub use config::{Compression, ParquetConfig};

/// Every connector type of this crate.
pub fn all() -> Vec<ConnectorType> {
    vec![connector::connector_type(), lake::connector_type()]
}
