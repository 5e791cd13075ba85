//! Every connector type that this binary can speak to.

use linkspan_core::{ConnectorType, Error, ErrorKind, Result, suggest};

/// The types, in the order they are shown.
#[derive(Clone, Default)]
pub struct Catalog(Vec<ConnectorType>);

impl Catalog {
    pub fn new(types: Vec<ConnectorType>) -> Self {
        Self(types)
    }
    pub fn types(&self) -> &[ConnectorType] {
        &self.0
    }
    /// A type by name or alias; the error, of the given kind, names the nearest one.
    pub fn named(&self, name: &str, otherwise: ErrorKind) -> Result<&ConnectorType> {
        self.0.iter().find(|t| t.answers_to(name)).ok_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|t| t.spec.name.as_ref()).collect();
            let every = self.0.iter().flat_map(|t| t.spec.aliases.iter().map(AsRef::as_ref)).chain(names.iter().copied());
            let fix = suggest::did_you_mean(name, every).unwrap_or_else(|| format!("the types are: {}", names.join(", ")));
            Error::new(otherwise, format!("there is no connector type `{name}`")).fix(fix)
        })
    }
}
