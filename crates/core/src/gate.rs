//! The gate decides whether rows of a schema may enter a table that stands. Policies live in the engine; this is their contract.

use arrow_schema::SchemaRef;

use crate::{Error, SchemaPlan, StreamName, TableShape};

pub trait Gate: Send + Sync {
    /// `stands` is the table as it is now (with what this session already planned), `next` the schema of the rows to come.
    fn admit(&self, stream: &StreamName, stands: Option<&TableShape>, next: &SchemaRef) -> Admission;
}

#[derive(Debug)]
pub enum Admission {
    Load(SchemaPlan),
    /// The stream stops here; the others go on.
    Park(Error),
}
