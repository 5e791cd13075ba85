//! The gate decides whether rows of a schema may enter a table that stands. Policies live in the engine; this is their contract.

use arrow_schema::SchemaRef;

use crate::{Error, SchemaPlan, StreamName, TableShape};

pub trait Gate: Send + Sync {
    /// `stands` is the table as it is now (with what this session already planned), `next` the schema of the rows to come.
    fn admit(&self, stream: &StreamName, stands: Option<&TableShape>, next: &SchemaRef) -> Admission;
    /// The same for a table that will be replaced whole by rows of `next`: nothing in it must fit, but a policy may still
    /// refuse the change. The plan's `ddl` is one `Create`.
    fn replace(&self, stream: &StreamName, stands: &TableShape, next: &SchemaRef) -> Admission {
        self.admit(stream, Some(stands), next)
    }
}

#[derive(Debug)]
pub enum Admission {
    Load(SchemaPlan),
    /// The stream stops here; the others go on.
    Park(Error),
}
