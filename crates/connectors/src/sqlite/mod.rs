//! The sqlite connector.
