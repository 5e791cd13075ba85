//! The faker connector.
