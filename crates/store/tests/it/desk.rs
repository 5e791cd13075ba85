//! A store on a data dir of its own, opened the way a test wants it.

use std::path::Path;

use linkspan_core::Context;
use linkspan_store::{Options, Role, Store};

/// A data dir, and how a test comes to it.
pub struct Desk {
    dir: tempfile::TempDir,
    role: Role,
}

/// A store that a test asks; the owner behind it lives as long.
pub struct Seat {
    pub store: Store,
    _owner: Option<Store>,
}

impl Desk {
    pub fn owner() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), role: Role::Owner }
    }
    pub fn remote() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), role: Role::Remote }
    }
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
    pub async fn open(&self) -> Seat {
        self.open_with(&Context::real(), Options::default()).await
    }
    pub async fn open_with(&self, ctx: &Context, options: Options) -> Seat {
        let first = Store::open_with(self.path(), ctx, options.clone()).await.unwrap();
        if self.role == Role::Owner {
            return Seat { store: first, _owner: None };
        }
        let store = Store::open_with(self.path(), ctx, options).await.unwrap();
        assert_eq!(store.role(), Some(Role::Remote));
        Seat { store, _owner: Some(first) }
    }
}
