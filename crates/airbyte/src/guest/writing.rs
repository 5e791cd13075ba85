//! A program as a destination: rows are written to it as messages, and are durable once it has said back the state behind them. A
//! commit is a program that was started, took everything, and ended well.

use std::{collections::BTreeMap, fs::File, io::Read as _, time::Duration};

use async_trait::async_trait;
use linkspan_core::{
    Atomic, Batch, Cadence, Capability, Commit, ConnectionId, Destination, Error, ErrorKind, Load, LoadStream, Publish, Recall, Result,
    Retry, SchemaPlan, Session, StreamName, TableShape, Target, Visible, WriteMode, WriteStats,
};
use tokio::{io::AsyncWriteExt, process::ChildStdin, task::JoinSet};
use uuid::Uuid;

use super::{
    language::Language,
    lines::Said,
    process::Process,
    source::Guest,
    spool::{Spool, Spools},
    told::{self, Described, Streams},
};
use crate::program::Encode;

/// A start of the program costs a second or two: commits are far apart.
const ADVICE: Cadence = Cadence { rows: 500_000, bytes: 256 << 20, age: Duration::from_secs(60) };
/// Bytes of a spool that are handed over at once.
const PIECE: u64 = 1 << 20;

/// The program with what rows are made text with.
pub(super) struct Into {
    pub guest: Guest,
    pub encode: Encode,
}

#[async_trait]
impl Destination for Into {
    fn capability(&self) -> Capability {
        Capability {
            modes: self.guest.modes(),
            // What a program has shown of a commit that failed stays there, and comes again.
            atomic: Atomic::None,
            transactional_ddl: false,
            commit_visible: Visible::Rolling,
            fences: false,
            add_column: true,
            widen_column: true,
            drop_not_null: true,
            specials: false,
            deletes: self.guest.language() == Language::Airbyte,
            parallel: false,
            advice: ADVICE,
        }
    }

    async fn shape(&self, _: &Target) -> Result<Option<TableShape>> {
        Ok(None)
    }
    async fn recall(&self, _: ConnectionId) -> Result<Option<Recall>> {
        Ok(None)
    }

    async fn open(&self, load: Load) -> Result<Box<dyn Session>> {
        self.guest.can_write(&load).await?;
        let spools = Spools::of(&self.guest.spool_folder(), load.connection);
        Ok(Box::new(Writing {
            guest: self.guest.clone(),
            encode: self.encode,
            spools,
            load,
            straight: Streams::new(),
            staged: BTreeMap::new(),
            running: None,
            stats: BTreeMap::new(),
        }))
    }

    async fn publish(&self, publish: &Publish) -> Result<()> {
        let spools = Spools::of(&self.guest.spool_folder(), publish.connection);
        let Some((file, length, entry)) = spools.complete(&publish.stream)? else { return Ok(()) };
        let described = Described { load: publish.stream.clone(), entry };
        let streams: Streams = [(publish.stream.stream.clone(), described)].into();
        let mut running = Running::start(&self.guest, &streams, publish.fence).await?;
        let sent = running.whole(&self.guest, &publish.stream, file, length).await;
        running.finish(&self.guest, &streams, sent).await?;
        spools.published(&publish.stream)
    }

    async fn forget(&self, connection: ConnectionId) -> Result<()> {
        Spools::of(&self.guest.spool_folder(), connection).forget()
    }
}

struct Writing {
    guest: Guest,
    encode: Encode,
    spools: Spools,
    load: Load,
    /// Streams that go straight to the program.
    straight: Streams,
    /// Those that are replaced.
    staged: BTreeMap<StreamName, Spool>,
    running: Option<Running>,
    stats: BTreeMap<StreamName, WriteStats>,
}

impl Writing {
    fn stream(&self, stream: &StreamName) -> Result<LoadStream> {
        let found = self.load.streams.iter().find(|s| s.stream == *stream).cloned();
        found.ok_or_else(|| Error::new(ErrorKind::Internal, "a stream that this session was not opened for"))
    }

    /// A program knows its catalog from its start: with another one it is ended and started again. What it took is durable then,
    /// without a state behind it; should that never come, it comes again.
    async fn end_early(&mut self) -> Result<()> {
        match self.running.take() {
            Some(running) if self.guest.language() == Language::Airbyte => running.finish(&self.guest, &self.straight, Ok(())).await,
            running => {
                self.running = running;
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Session for Writing {
    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        let load = self.stream(stream)?;
        let described = Described::new(load.clone(), plan.schema.clone());
        if load.write == WriteMode::Replace {
            if !self.staged.contains_key(stream) {
                self.staged.insert(stream.clone(), self.spools.open(&load, &self.load.scope, self.load.previous)?);
            }
            if let Some(spool) = self.staged.get_mut(stream) {
                spool.describe(described.entry);
            }
            return Ok(());
        }
        if self.straight.get(stream).is_some_and(|known| known.entry == described.entry) {
            return Ok(());
        }
        self.end_early().await?;
        if let (Some(running), Some(opening)) = (&mut self.running, told::opening(self.guest.language(), &described)) {
            running.say(opening.as_bytes()).await?;
        }
        self.straight.insert(stream.clone(), described);
        Ok(())
    }

    async fn write(&mut self, rows: Batch) -> Result<()> {
        let now = self.guest.now();
        let objects = told::of_batch(self.encode, &rows.rows, now)?;
        let stats = self.stats.entry(rows.stream.clone()).or_default();
        stats.written += rows.rows.len() as u64;
        stats.rejected += rows.changes.rejected.len() as u64;
        if let Some(spool) = self.staged.get_mut(&rows.stream) {
            return spool.write(&objects);
        }
        let load = self.stream(&rows.stream)?;
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(Running::start(&self.guest, &self.straight, self.load.fence).await?),
        };
        running.say(&told::records(self.guest.language(), &load, &objects, now, None)).await
    }

    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "a program cannot be told to empty a table")
            .with("stream", stream)
            .fix("append the changes (--write append), or read the stream in full (--write replace)"))
    }

    async fn commit(&mut self, commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        for spool in self.staged.values_mut() {
            spool.commit(&commit.scope, commit.number)?;
        }
        if self.running.is_none() && commit.previous == 0 && !self.straight.is_empty() {
            // A stream without rows is a table all the same.
            self.running = Some(Running::start(&self.guest, &self.straight, self.load.fence).await?);
        }
        if let Some(running) = self.running.take() {
            running.finish(&self.guest, &self.straight, Ok(())).await?;
        }
        Ok(std::mem::take(&mut self.stats))
    }
}

/// A program that takes messages, and a task that hears what it says meanwhile: both at once, or both would wait for ever.
struct Running {
    stdin: ChildStdin,
    hearing: JoinSet<Result<Heard>>,
    token: String,
}

/// All that the program said, after its end.
struct Heard {
    acknowledged: usize,
    failed: Option<Error>,
}

impl Running {
    async fn start(guest: &Guest, streams: &Streams, sync: u64) -> Result<Self> {
        let token = Uuid::new_v4().to_string();
        let language = guest.language();
        let files = match language {
            Language::Airbyte => vec![("catalog", told::catalog(streams, sync).to_string())],
            Language::Singer => vec![],
        };
        let (process, stdin) = guest.start_taking("write", &files)?;
        let mut hearing = JoinSet::new();
        let (guest, wanted) = (guest.clone(), token.clone());
        hearing.spawn(async move { hear(process, &guest, &wanted).await });
        let mut running = Self { stdin, hearing, token };
        for described in streams.values() {
            if let Some(opening) = told::opening(language, described) {
                running.say(opening.as_bytes()).await?;
            }
        }
        Ok(running)
    }

    async fn say(&mut self, text: &[u8]) -> Result<()> {
        let Err(e) = self.stdin.write_all(text).await else { return Ok(()) };
        // It has ended, and has said why.
        match self.heard().await {
            Ok(Heard { failed: Some(failed), .. }) => Err(failed),
            Ok(_) => {
                Err(Error::new(ErrorKind::Unavailable, "the program ended before it had taken everything").retry(Retry::Never).because(e))
            }
            Err(e) => Err(e),
        }
    }

    async fn heard(&mut self) -> Result<Heard> {
        self.hearing.join_next().await.and_then(std::result::Result::ok).unwrap_or_else(|| Err(nobody_heard()))
    }

    /// A spool, from its start to its end.
    async fn whole(&mut self, guest: &Guest, load: &LoadStream, mut file: File, length: u64) -> Result<()> {
        let (now, language) = (guest.now(), guest.language());
        let (mut left, mut kept) = (length, Vec::new());
        while left > 0 {
            let had = kept.len();
            let read = (&mut file).take(left.min(PIECE)).read_to_end(&mut kept);
            let read =
                read.map_err(|e| Error::new(ErrorKind::Unavailable, "the rows that wait for the program cannot be read").because(e))?;
            if read == 0 {
                return Err(Error::new(ErrorKind::PositionLost, "the rows that waited for the program are gone"));
            }
            left -= read as u64;
            let whole = memchr::memrchr(b'\n', &kept[had..]).map_or(0, |at| had + at + 1);
            let rest = kept.split_off(whole);
            let objects = std::mem::replace(&mut kept, rest);
            self.say(&told::records(language, load, &objects, now, Some(load.generation))).await?;
        }
        Ok(())
    }

    /// Says what ends the flow, and waits for the program's end. `Err` unless it has said back every state and ended well.
    async fn finish(mut self, guest: &Guest, streams: &Streams, sent: Result<()>) -> Result<()> {
        sent?;
        let closing = told::closing(guest.language(), streams, &self.token);
        self.say(closing.as_bytes()).await?;
        let expected = told::expected(guest.language(), streams);
        let Self { stdin, mut hearing, .. } = self;
        drop(stdin);
        let heard = hearing.join_next().await.and_then(std::result::Result::ok).unwrap_or_else(|| Err(nobody_heard()))?;
        match heard.failed {
            Some(failed) => Err(failed),
            None if heard.acknowledged < expected => {
                Err(Error::new(ErrorKind::DataInvalid, "the program ended well and did not say back the state that it was given")
                    .retry(Retry::Never)
                    .fix("see that it is a destination (or a Singer target) that acknowledges states; its rows are not taken as written"))
            }
            None => Ok(()),
        }
    }
}

fn nobody_heard() -> Error {
    Error::new(ErrorKind::Internal, "nobody heard what the program said")
}

/// Listens until the program's end.
async fn hear(mut process: Process, guest: &Guest, token: &str) -> Result<Heard> {
    let language = guest.language();
    let (mut acknowledged, mut failed) = (0, None);
    while let Some(line) = process.line().await? {
        if told::is_acknowledged(language, line, token) {
            acknowledged += 1;
            continue;
        }
        // A Singer target says states and nothing else.
        let said = if language == Language::Airbyte { language.parse(line) } else { None };
        match said {
            Some(Said::Config(config)) => guest.keep(config)?,
            Some(Said::Failed(why)) if failed.is_none() => failed = Some(why.error(process.masked(&why.message))),
            Some(Said::Log(text)) => tracing::info!(target: "linkspan", "program: {}", process.masked(&text)),
            _ => {}
        }
    }
    let status = process.end().await?;
    let failed = match failed {
        Some(failed) => Some(process.told(failed)),
        None => (!status.success()).then(|| process.failed(status)),
    };
    Ok(Heard { acknowledged, failed })
}
