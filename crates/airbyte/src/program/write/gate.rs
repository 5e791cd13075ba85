//! A gate that a schema never stops: the table follows where it can, and where it cannot, values that do not fit are left out and told.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use linkspan_core::{Admission, ErrorKind, Gate, Misfit, StreamName, TableShape};

use super::states::Parked;

pub struct Lenient {
    /// Lets a table follow its stream, also to other types.
    follows: Arc<dyn Gate>,
    /// Keeps the table as it is, and leaves out what does not fit.
    leaves: Arc<dyn Gate>,
    parked: Arc<Parked>,
}

impl Lenient {
    pub fn new(follows: Arc<dyn Gate>, leaves: Arc<dyn Gate>, parked: Arc<Parked>) -> Self {
        Self { follows, leaves, parked }
    }

    fn settle(&self, stream: &StreamName, first: Admission, second: impl FnOnce() -> Admission) -> Admission {
        let admission = match first {
            Admission::Park(e) if e.kind() == ErrorKind::SchemaDrift => second(),
            admission => admission,
        };
        match admission {
            Admission::Load(mut plan) => {
                // A value that only the destination knows that it cannot hold.
                plan.misfit = if plan.misfit == Misfit::Fail { Misfit::Null } else { plan.misfit };
                Admission::Load(plan)
            }
            Admission::Park(e) => {
                self.parked.park(stream);
                Admission::Park(e)
            }
        }
    }
}

impl Gate for Lenient {
    fn admit(&self, stream: &StreamName, stands: Option<&TableShape>, next: &SchemaRef) -> Admission {
        self.settle(stream, self.follows.admit(stream, stands, next), || self.leaves.admit(stream, stands, next))
    }
    fn replace(&self, stream: &StreamName, stands: &TableShape, next: &SchemaRef) -> Admission {
        self.settle(stream, self.follows.replace(stream, stands, next), || self.leaves.replace(stream, stands, next))
    }
}
