//! Who answers: the owner's database in this process, or the owner's socket; and the way from one to the other.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use linkspan_core::{Context, Error, ErrorKind, Failpoints, Result};

use crate::{
    data_dir::{DataDir, OwnerLock},
    driver::{Counts, Driver},
    listener::Listener,
    remote::{Gone, Remote},
    request::{Reply, Request},
    sqlite::Sqlite,
};

/// How a store behaves; the defaults are what the product uses.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a lease lives without renewal.
    pub lease: Duration,
    /// How long to look for an owner, or for the lock, before giving up.
    pub patience: Duration,
    /// The most that one run's log, or its rejects, may take.
    pub log_bytes: u64,
    /// Logs kept per connection.
    pub keep_logs: u32,
    pub keep_logs_for: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            patience: Duration::from_secs(20),
            log_bytes: 10 << 20,
            keep_logs: 50,
            keep_logs_for: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

/// Whether this process owns the data dir or asks the one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Owner,
    Remote,
}

/// The way to the data dir's owner, whoever it is.
pub(crate) struct Link {
    pub dir: DataDir,
    pub ctx: Context,
    pub options: Options,
    backing: Mutex<Backing>,
    /// One task at a time looks for the next owner.
    moving: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
enum Backing {
    Owner(Arc<Owner>),
    Remote(Arc<Remote>),
    Closed,
}

/// Dropped in this order: the ear first, then the database with the lock.
struct Owner {
    listener: Mutex<Option<Listener>>,
    driver: Arc<dyn Driver>,
}

impl Link {
    pub(crate) async fn open(dir: DataDir, ctx: &Context, options: Options) -> Result<Self> {
        let backing = Mutex::new(settle(&dir, ctx, options.patience).await?);
        Ok(Self { dir, ctx: ctx.clone(), options, backing, moving: tokio::sync::Mutex::default() })
    }
    pub(crate) async fn close(&self) {
        let backing = std::mem::replace(&mut *self.backing.lock().expect("no panic while held"), Backing::Closed);
        if let Backing::Owner(owner) = backing {
            owner.listener.lock().expect("no panic while held").take();
            owner.driver.close().await;
        }
    }
    pub(crate) fn role(&self) -> Option<Role> {
        match &*self.backing.lock().expect("no panic while held") {
            Backing::Owner(_) => Some(Role::Owner),
            Backing::Remote(_) => Some(Role::Remote),
            Backing::Closed => None,
        }
    }
    pub(crate) fn counts(&self) -> Counts {
        match &*self.backing.lock().expect("no panic while held") {
            Backing::Owner(owner) => owner.driver.counts(),
            _ => Counts::default(),
        }
    }
    pub(crate) fn failpoints(&self) -> &Failpoints {
        &self.ctx.failpoints
    }
    /// Asks the owner, whoever it is by now. Every request may be asked twice, so one that was under way when the owner died is
    /// simply asked again.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply> {
        loop {
            let backing = self.backing.lock().expect("no panic while held").clone();
            match backing {
                Backing::Owner(owner) => return owner.driver.ask(request).await,
                Backing::Closed => return Err(Error::new(ErrorKind::Canceled, "the store is closed")),
                Backing::Remote(remote) => match remote.ask(request.clone()).await {
                    Ok(reply) => return reply,
                    Err(Gone) => self.move_on(&remote).await?,
                },
            }
        }
    }
    /// The owner went away: takes its place, or finds who did.
    async fn move_on(&self, gone: &Arc<Remote>) -> Result<()> {
        let _one = self.moving.lock().await;
        let still = matches!(&*self.backing.lock().expect("no panic while held"), Backing::Remote(r) if Arc::ptr_eq(r, gone));
        if !still {
            return Ok(());
        }
        let next = settle(&self.dir, &self.ctx, self.options.patience).await?;
        let mut backing = self.backing.lock().expect("no panic while held");
        if !matches!(&*backing, Backing::Closed) {
            *backing = next;
        }
        Ok(())
    }
}

/// Owner or remote, whichever comes first.
async fn settle(dir: &DataDir, ctx: &Context, patience: Duration) -> Result<Backing> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(lock) = dir.try_own()? {
            return own(dir, ctx, lock).await;
        }
        if let Some(remote) = Remote::connect(dir).await? {
            return Ok(Backing::Remote(Arc::new(remote)));
        }
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::Unavailable, "another process owns the data dir but does not listen")
                .with("owner", dir.owner())
                .with("path", dir.root().display())
                .fix("wait for that process to start or end, or choose another data dir"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

async fn own(dir: &DataDir, ctx: &Context, lock: OwnerLock) -> Result<Backing> {
    let (path, context) = (dir.database(), ctx.clone());
    let open = tokio::task::spawn_blocking(move || Sqlite::open(&path, &context, lock));
    let sqlite = open.await.map_err(|e| Error::new(ErrorKind::Internal, "the store could not be opened").because(e))??;
    let driver: Arc<dyn Driver> = Arc::new(sqlite);
    // Some file systems have no sockets: then this process works alone, and others wait for it to end.
    let listener = Listener::start(dir, driver.clone()).inspect_err(|e| {
        tracing::warn!(error = %e, "other processes cannot use the data dir while this one does: its socket could not be made");
    });
    Ok(Backing::Owner(Arc::new(Owner { listener: Mutex::new(listener.ok()), driver })))
}

pub(crate) fn unexpected() -> Error {
    Error::new(ErrorKind::Internal, "the store gave another kind of answer than was asked for")
}
