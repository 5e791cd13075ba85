//! Linkspan's own connectors as programs that speak the Airbyte protocol: what a platform starts, hands files to and reads lines from.
//! It knows connectors by their contracts only.

mod columns;
mod feed;
mod form;
mod position;
mod reading;
mod source;
mod voice;

pub use form::{secrets, specification};
pub use reading::Encode;
pub use source::{Program, Verb, run};
