//! The one thread that owns the write connection. What is asked while a commit is on its way to disk shares the next commit.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use linkspan_core::{Error, ErrorKind, Failpoints, Result};
use tokio::sync::{mpsc, oneshot, watch};

use super::session::{Session, closed, failed};
use crate::{
    driver::Counts,
    request::{Reply, Request},
    wire::Wire,
};

/// Requests that wait; beyond it askers wait too.
const QUEUE: usize = 1024;
/// Requests that share one commit at most, so that no answer waits for ever.
const GROUP: usize = 256;

struct Asked {
    request: Request,
    answer: oneshot::Sender<Result<Reply>>,
}

/// The asking end.
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Asked>>>,
    counters: Arc<Counters>,
    ended: watch::Receiver<bool>,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    commits: AtomicU64,
}

impl Writer {
    /// `held` is dropped after the database is closed, whatever happens to the thread.
    pub(super) fn start(session: Session, path: PathBuf, failpoints: Failpoints, held: impl Send + 'static) -> Result<Self> {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let (end, ended) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let thread = Thread { session, path, failpoints, counters: counters.clone(), poisoned: false, owes_erasure: false };
        let body = move || {
            thread.run(inbox);
            drop(held);
            end.send_replace(true);
        };
        std::thread::Builder::new()
            .name("linkspan-store".into())
            .spawn(body)
            .map_err(|e| Error::new(ErrorKind::Unavailable, "the store's thread could not be started").because(e))?;
        Ok(Self { queue: Mutex::new(Some(queue)), counters, ended })
    }
    pub(super) async fn ask(&self, request: Request) -> Result<Reply> {
        let queue = self.queue.lock().expect("no panic while held").clone().ok_or_else(closed)?;
        let (answer, answered) = oneshot::channel();
        queue.send(Asked { request, answer }).await.map_err(|_| closed())?;
        drop(queue);
        answered.await.map_err(|_| Error::new(ErrorKind::Unavailable, "the store's thread ended"))?
    }
    pub(super) fn counts(&self) -> Counts {
        Counts { requests: self.counters.requests.load(Ordering::Relaxed), commits: self.counters.commits.load(Ordering::Relaxed) }
    }
    pub(super) async fn close(&self) {
        self.queue.lock().expect("no panic while held").take();
        let mut ended = self.ended.clone();
        // An error means that the thread is gone: closed as well.
        ended.wait_for(|e| *e).await.ok();
    }
}

struct Thread {
    session: Session,
    path: PathBuf,
    failpoints: Failpoints,
    counters: Arc<Counters>,
    /// A failed sync may have lost pages that later syncs no longer report.
    poisoned: bool,
    /// Something deleted may still stand in the WAL.
    owes_erasure: bool,
}

impl Thread {
    fn run(mut self, mut inbox: mpsc::Receiver<Asked>) {
        while let Some(first) = inbox.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = inbox.try_recv()
            {
                group.push(next);
            }
            let (requests, answers): (Vec<_>, Vec<_>) = group.into_iter().map(|a| (a.request, a.answer)).unzip();
            self.counters.requests.fetch_add(requests.len() as u64, Ordering::Relaxed);
            self.owes_erasure |= requests.iter().any(Request::erases);
            match self.commit(requests) {
                Ok(replies) => {
                    self.erase();
                    answers.into_iter().zip(replies).for_each(|(answer, reply)| drop(answer.send(reply)));
                }
                Err(e) => answers.into_iter().for_each(|answer| drop(answer.send(Err(again(&e).with("path", self.path.display()))))),
            }
        }
    }

    /// Each request in its savepoint, all in one commit. `Err` when nothing of the group is durable.
    fn commit(&mut self, requests: Vec<Request>) -> Result<Vec<Result<Reply>>> {
        if self.poisoned {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the disk of the data dir failed to sync; nothing more is written by this process",
            )
            .fix("look at the disk, then run the same command again"));
        }
        self.session.db.execute_batch("begin immediate").map_err(failed)?;
        let done = self.fill(requests).and_then(|replies| {
            self.failpoints.hit_sync("store.commit")?;
            self.session.db.execute_batch("commit").map_err(|e| self.sync_failed(e))?;
            Ok(replies)
        });
        if done.is_ok() {
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
        } else if !self.session.db.is_autocommit() {
            self.session.db.execute_batch("rollback").map_err(failed)?;
        }
        done
    }

    fn fill(&mut self, requests: Vec<Request>) -> Result<Vec<Result<Reply>>> {
        let mut replies = Vec::with_capacity(requests.len());
        for request in requests {
            self.session.db.execute_batch("savepoint request").map_err(failed)?;
            let reply = self.session.answer(request);
            match &reply {
                Ok(_) => self.session.db.execute_batch("release request").map_err(failed)?,
                // A full disk ends the whole transaction, with what the requests before did.
                Err(e) if self.session.db.is_autocommit() => return Err(again(e)),
                Err(_) => self.session.db.execute_batch("rollback to request; release request").map_err(failed)?,
            }
            replies.push(reply.map_err(|e| if e.kind() == ErrorKind::DataInvalid { e.with("path", self.path.display()) } else { e }));
        }
        Ok(replies)
    }

    /// Moves the WAL into the database and cuts it to nothing, so that what was deleted is in neither. A reader that stays longer
    /// than the busy timeout postpones it to the next commit.
    fn erase(&mut self) {
        if !self.owes_erasure {
            return;
        }
        let done = self.session.db.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get::<_, i64>(0));
        self.owes_erasure = !matches!(done, Ok(0));
        if self.owes_erasure {
            tracing::warn!("what was deleted is not yet erased from the write-ahead log; tried again at the next change");
        }
    }

    fn sync_failed(&mut self, e: rusqlite::Error) -> Error {
        const IO_FSYNC: i32 = 10 | (4 << 8);
        const IO_DIR_FSYNC: i32 = 10 | (5 << 8);
        if let rusqlite::Error::SqliteFailure(f, _) = &e {
            self.poisoned = matches!(f.extended_code, IO_FSYNC | IO_DIR_FSYNC);
        }
        failed(e)
    }
}

/// The same error for each of a group.
fn again(e: &Error) -> Error {
    Wire::from(e).into()
}
