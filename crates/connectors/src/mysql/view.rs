//! One view of the server for all full reads of a run: several sessions whose snapshots show the same moment. No session can look
//! through another's snapshot here, so they are opened together, and it is proved that nothing was committed in between: MariaDB says
//! where in its log a snapshot stands; elsewhere the run's tables are locked against writes for that moment.

use std::sync::{Arc, Mutex};

use linkspan_core::{Error, ErrorKind, Result, StreamName};
use tokio::sync::Semaphore;

use super::{
    reading::LOOK,
    server::{Flavor, Server},
    sql,
    wire::Wire,
};

const DOING: &str = "taking a snapshot";
/// How often snapshots are compared before the tables are locked instead.
const TRIES: usize = 5;
/// How long the lock may wait for writers, and new writers for it, in seconds.
const LOCK_SECONDS: u32 = 3;

/// The sessions that look at one moment, and are not in use.
pub(super) struct View {
    idle: Mutex<Vec<Wire>>,
    free: Semaphore,
}

impl View {
    /// Opens at most `sessions` of them; fewer, when they cannot be made to agree.
    pub async fn take(server: &Arc<Server>, sessions: usize, tables: &[StreamName]) -> Result<Self> {
        let mut wires = Vec::with_capacity(sessions);
        for _ in 0..sessions.max(1) {
            wires.push(server.connect().await?);
        }
        if wires.len() > 1 && !(agree(&mut wires).await? || locked(server, &mut wires, tables).await?) {
            wires.truncate(1);
        }
        if let [only] = wires.as_mut_slice() {
            only.query(LOOK, DOING).await?;
        }
        Ok(Self { free: Semaphore::new(wires.len()), idle: Mutex::new(wires) })
    }

    /// A session of the view, as soon as one is free. Give it back when the read on it is over.
    pub async fn session(&self) -> Result<Wire> {
        let gone = || {
            Error::new(ErrorKind::Unavailable, "the sessions that held the snapshot have ended")
                .fix("run the same command again: the read goes on where it stopped")
        };
        self.free.acquire().await.map_err(|_| gone())?.forget();
        self.idle.lock().expect("no panic while held").pop().ok_or_else(gone)
    }

    pub fn give_back(&self, wire: Wire) {
        self.idle.lock().expect("no panic while held").push(wire);
        self.free.add_permits(1);
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().expect("no panic while held");
        idle.drain(..).for_each(Wire::leave);
    }
}

/// Opens all snapshots at once and compares where in the log they stand.
async fn agree(wires: &mut [Wire]) -> Result<bool> {
    if wires[0].flavor() != Flavor::Mariadb {
        return Ok(false);
    }
    for _ in 0..TRIES {
        look(wires).await?;
        let mut places = Vec::with_capacity(wires.len());
        for wire in wires.iter_mut() {
            places.push(wire.query("SHOW STATUS LIKE 'binlog\\_snapshot\\_%'", DOING).await?);
        }
        let known =
            places[0].len() >= 2 && places[0].iter().all(|row| row.get(1).is_some_and(|v| v.as_deref().is_some_and(|v| !v.is_empty())));
        if !known {
            return Ok(false);
        }
        if places.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn look(wires: &mut [Wire]) -> Result<()> {
    let all = futures::future::join_all(wires.iter_mut().map(|wire| wire.query(LOOK, DOING))).await;
    all.into_iter().try_for_each(|done| done.map(drop))
}

/// Opens the snapshots while nobody can write the tables. Whoever has written one and not committed makes this wait. `false` when the
/// login may not lock, or the wait was too long.
async fn locked(server: &Arc<Server>, wires: &mut [Wire], tables: &[StreamName]) -> Result<bool> {
    if tables.is_empty() {
        return Ok(false);
    }
    let mut holder = server.connect().await?;
    holder.query(&format!("SET lock_wait_timeout = {LOCK_SECONDS}"), DOING).await?;
    let tables = sql::list(tables.iter().map(|t| format!("{} READ", sql::stream(t))));
    let done = match holder.query(&format!("LOCK TABLES {tables}"), DOING).await {
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Conflict) => return Ok(false),
        Err(e) => Err(e),
        Ok(_) => look(wires).await,
    };
    holder.close().await;
    done.map(|()| true)
}
