//! Configs that must fail, and how.

use linkspan_core::ErrorKind;
use serde_json::Value;

/// What is wrong with a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Case {
    WrongPassword,
    /// Nobody listens there.
    Unreachable,
    /// Somebody listens and never answers.
    BlackHole,
    TlsMismatch,
    /// The login may not do what the role needs.
    NoRights,
    /// The database, file or bucket is not there.
    Missing,
}

/// A config, what is wrong with it, and the kinds of error that say so.
#[derive(Clone, Debug)]
pub struct BadConfig {
    pub case: Case,
    pub config: Value,
    pub expected: Vec<ErrorKind>,
}

impl BadConfig {
    /// With the kinds that SUITES names for the case.
    pub fn new(case: Case, config: Value) -> Self {
        use ErrorKind::*;
        let expected = match case {
            Case::WrongPassword => vec![AuthFailed],
            Case::Unreachable => vec![Unavailable],
            Case::BlackHole => vec![Timeout, Unavailable],
            Case::TlsMismatch => vec![Unavailable, AuthFailed, ConfigInvalid, Unsupported],
            Case::NoRights => vec![PermissionDenied],
            Case::Missing => vec![NotFound],
        };
        Self { case, config, expected }
    }
    pub fn expecting(mut self, expected: impl Into<Vec<ErrorKind>>) -> Self {
        self.expected = expected.into();
        self
    }
}
