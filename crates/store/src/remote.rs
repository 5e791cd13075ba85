//! The store as seen from a process that does not own the data dir: the same requests, asked through the owner's socket.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use linkspan_core::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncBufRead, BufReader},
    net::unix::OwnedWriteHalf,
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use crate::{
    data_dir::DataDir,
    request::{Reply, Request},
    wire::{Answer, Hello, PROTOCOL, Question, read_line, write_line},
};

/// How long an owner may take to say hello: one that is frozen accepts callers but never speaks.
const HELLO: Duration = Duration::from_secs(5);
/// How long an owner may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

type Waiting = HashMap<u64, oneshot::Sender<Result<Reply>>>;

/// The owner went away; whether it did what was asked is not known.
pub(crate) struct Gone;

pub(crate) struct Remote {
    next: AtomicU64,
    questions: mpsc::Sender<Question>,
    /// None once the owner is gone.
    waiting: Arc<Mutex<Option<Waiting>>>,
    owner: u32,
    tasks: [AbortHandle; 2],
}

impl Remote {
    /// Nothing when nobody listens.
    pub(crate) async fn connect(dir: &DataDir) -> Result<Option<Self>> {
        let Some(stream) = dir.reach().await? else { return Ok(None) };
        let (input, mut output) = stream.into_split();
        let mut input = BufReader::new(input);
        let greeting = async {
            write_line(&mut output, &Hello { linkspan_store: PROTOCOL, pid: std::process::id() }).await?;
            read_line::<Hello>(&mut input).await
        };
        let hello = match tokio::time::timeout(HELLO, greeting).await {
            Ok(Ok(Some(hello))) => hello,
            // It ended while we spoke; a line that is not understood is another matter.
            Ok(Err(e)) if e.kind() != ErrorKind::Unavailable => return Err(e),
            Ok(_) => return Ok(None),
            Err(_) => return Err(frozen(dir)),
        };
        if hello.linkspan_store != PROTOCOL {
            return Err(Error::new(ErrorKind::Unsupported, "the process that owns the data dir is of another version")
                .with("owner", format!("process {}", hello.pid))
                .fix("stop that process, or use the same version of linkspan"));
        }
        Ok(Some(Self::start(input, output, hello.pid)))
    }

    fn start(input: impl AsyncBufRead + Unpin + Send + 'static, output: OwnedWriteHalf, owner: u32) -> Self {
        let waiting = Arc::new(Mutex::new(Some(Waiting::new())));
        let (questions, queue) = mpsc::channel(64);
        let ask = tokio::spawn(ask_all(queue, output)).abort_handle();
        let hear = tokio::spawn(hear_all(input, waiting.clone())).abort_handle();
        Self { next: AtomicU64::new(1), questions, waiting, owner, tasks: [ask, hear] }
    }

    pub(crate) async fn ask(&self, request: Request) -> std::result::Result<Result<Reply>, Gone> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match self.waiting.lock().expect("no panic while held").as_mut() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(Gone),
        };
        let exchange = async {
            self.questions.send(Question { id, request }).await.map_err(|_| Gone)?;
            answered.await.map_err(|_| Gone)
        };
        match tokio::time::timeout(ANSWER, exchange).await {
            Ok(done) => done,
            Err(_) => Ok(Err(Error::new(ErrorKind::Timeout, "the process that owns the data dir does not answer")
                .with("owner", format!("process {}", self.owner))
                .fix("look whether that process is stopped or its disk is stuck"))),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn frozen(dir: &DataDir) -> Error {
    Error::new(ErrorKind::Timeout, "the process that owns the data dir does not answer")
        .with("owner", dir.owner())
        .with("path", dir.root().display())
        .fix("look whether that process is stopped; end it, or choose another data dir")
}

async fn ask_all(mut queue: mpsc::Receiver<Question>, mut output: OwnedWriteHalf) {
    while let Some(question) = queue.recv().await {
        if write_line(&mut output, &question).await.is_err() {
            return;
        }
    }
}

async fn hear_all(mut input: impl AsyncBufRead + Unpin, waiting: Arc<Mutex<Option<Waiting>>>) {
    loop {
        match read_line::<Answer>(&mut input).await {
            Ok(Some(Answer { id, answer })) => {
                let asked = waiting.lock().expect("no panic while held").as_mut().and_then(|w| w.remove(&id));
                if let Some(asked) = asked {
                    asked.send(answer.map_err(Error::from)).ok();
                }
            }
            // Dropping what waits tells every asker that the owner is gone.
            _ => return drop(waiting.lock().expect("no panic while held").take()),
        }
    }
}
