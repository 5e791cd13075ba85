//! Native connectors, one file or folder each. Adding one is that file, its docs, one line in `all` and one harness.

mod blocking;
pub mod csv;
mod cursors;
mod dsn;
pub mod faker;
mod gather;
pub mod http_json;
pub mod jsonl;
pub mod mysql;
mod pool;
mod positions;
pub mod postgresql;
mod records;
mod spill;
pub mod sqlite;
mod text;
mod text_file;
mod tls;
mod url_config;
mod web;
mod whole;

use linkspan_core::ConnectorType;
use url_config::url_config;

/// Every native connector type, in catalog order.
pub fn all() -> Vec<ConnectorType> {
    vec![
        csv::connector_type(),
        faker::connector_type(),
        http_json::connector_type(),
        jsonl::connector_type(),
        mysql::mariadb(),
        mysql::mysql(),
        postgresql::connector_type(),
        sqlite::connector_type(),
    ]
}
