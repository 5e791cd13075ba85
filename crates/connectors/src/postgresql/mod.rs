//! The postgresql connector.
