//! A server as one config names it, shared by all sessions of a connector.

use std::sync::Arc;

use linkspan_core::Context;

use super::{config::Endpoint, packet::LocalFiles};

pub(super) struct Server {
    pub endpoint: Endpoint,
    pub ctx: Context,
    /// What its sessions say of themselves.
    pub files: LocalFiles,
}

impl Server {
    pub fn new(endpoint: Endpoint, ctx: Context) -> Arc<Self> {
        Arc::new(Self { endpoint, ctx, files: LocalFiles::Refused })
    }

    /// The same server for sessions that write.
    pub fn writer(&self) -> Arc<Self> {
        Arc::new(Self { endpoint: self.endpoint.clone(), ctx: self.ctx.clone(), files: LocalFiles::Sent })
    }
}

/// The two families; they differ in what their catalogs and settings are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavor {
    Mysql,
    Mariadb,
}

impl Flavor {
    pub fn of(version: &str) -> Self {
        if version.to_ascii_lowercase().contains("mariadb") { Self::Mariadb } else { Self::Mysql }
    }
}
