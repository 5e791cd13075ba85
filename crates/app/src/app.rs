//! What every operation works with.

use std::sync::Arc;

use linkspan_core::Context;
use linkspan_store::Store;

use crate::registry::Registry;

/// Cheap to share: made once by the binary, handed to every operation.
pub struct App {
    pub store: Store,
    pub registry: Registry,
    /// Lent to every connector that is opened.
    pub context: Context,
    pub settings: Settings,
}

/// What the binary decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    /// `X.Y.Z`, for health.
    pub version: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mode: Mode::Development, version: env!("CARGO_PKG_VERSION") }
    }
}

/// Production = a bind beyond loopback or `LINKSPAN_ENV=production`: refuses to start without an encryption key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Development,
    Production,
}

impl App {
    pub fn new(store: Store, registry: Registry, context: Context, settings: Settings) -> Arc<Self> {
        Arc::new(Self { store, registry, context, settings })
    }
}
