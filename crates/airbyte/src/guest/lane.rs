//! One stream's flow out of a program: its records as rows, a checkpoint behind each of its states.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use linkspan_core::{Changes, Clock, Covers, Ended, Error, ErrorKind, JsonRows, Lane, Output, Result, Rows, Scope, Selected, State, Stop};
use serde_json::{Map, Value, json};

use super::{language::Language, lines::Said, process::Process};
use crate::{connector::Shape, protocol::Descriptor};

/// The version of the states that lanes write.
const VERSION: u16 = 1;
/// Rows of one batch, and bytes: whichever is reached first.
const ROWS: usize = 2_000;
const BYTES: usize = 1 << 20;
/// A state is worth a checkpoint this often; a program may say one behind each record.
const BETWEEN: Duration = Duration::from_millis(200);

type Starter = Box<dyn Fn(Option<&Value>) -> Result<Process> + Send + Sync>;
type Keeper = Box<dyn Fn(Map<String, Value>) -> Result<()> + Send + Sync>;

/// How the program's records are understood.
pub(super) struct Told {
    pub language: Language,
    pub names: Vec<Descriptor>,
}

/// How the program is started, and what becomes of a config that it changes.
pub(super) struct Program {
    pub start: Starter,
    pub keep: Keeper,
}

pub(super) struct GuestLane {
    wanted: Selected,
    language: Language,
    /// The names under which its records come.
    names: Vec<Descriptor>,
    shape: Shape,
    /// The state file's content, as the program's last STATE made it.
    state: Option<Value>,
    clock: Arc<dyn Clock>,
    start: Starter,
    keep: Keeper,
    text: Vec<u8>,
    ranges: Vec<(u32, u32)>,
}

/// What a program must be given to go on; `None` from a stream that had no state.
pub(super) fn told(state: &State) -> Result<Option<Value>> {
    match state.value.get("state") {
        Some(told) if state.version == VERSION => Ok(Some(told.clone()).filter(|told| !told.is_null())),
        _ => Err(Error::new(ErrorKind::DataInvalid, "the state is not one of this source").fix("reset the connection")),
    }
}

impl GuestLane {
    pub(super) fn new(wanted: Selected, told: Told, state: Option<Value>, clock: Arc<dyn Clock>, program: Program) -> Self {
        let shape = Shape::of_columns(&wanted.stream.schema);
        let (Told { language, names }, Program { start, keep }) = (told, program);
        Self { wanted, language, names, shape, state, clock, start, keep, text: Vec::new(), ranges: Vec::new() }
    }

    fn scope(&self) -> Scope {
        Scope::Stream(self.wanted.stream.name.clone())
    }

    async fn row(&mut self, data: &Value, out: &mut Output) -> Result<()> {
        if !data.is_object() {
            return Err(Error::new(ErrorKind::DataInvalid, "the program said a record that is no object"));
        }
        if self.shape.learn(data) {
            self.flush(out).await?;
            out.schema(&self.wanted.stream.name, self.shape.schema()).await?;
        }
        let start = self.text.len() as u32;
        self.shape.write(data, &mut self.text);
        self.ranges.push((start, self.text.len() as u32));
        if self.ranges.len() >= ROWS || self.text.len() >= BYTES {
            self.flush(out).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, out: &mut Output) -> Result<()> {
        let (text, ranges) = (std::mem::take(&mut self.text), std::mem::take(&mut self.ranges));
        let rows = Rows::Json(JsonRows::new(Bytes::from(text), ranges));
        out.batch(&self.wanted.stream.name, rows, Changes::default()).await
    }

    async fn checkpoint(&mut self, out: &mut Output) -> Result<()> {
        self.flush(out).await?;
        out.checkpoint(&self.scope(), State::new(VERSION, json!({ "state": self.state }))).await
    }

    /// Reads until the program's output ends. The error that it told of, if any.
    async fn follow(&mut self, process: &mut Process, out: &mut Output) -> Result<Option<Error>> {
        let (mut failed, mut whole) = (None, true);
        let mut last = self.clock.now();
        while let Some(line) = process.line().await? {
            match self.language.parse(line) {
                // Of other streams nobody asked.
                Some(Said::Record { stream, data }) if self.names.contains(&stream) => self.row(&data, out).await?,
                Some(Said::State(state)) => {
                    self.state = Some(state);
                    let now = self.clock.now();
                    if last.duration_until(now).unsigned_abs() >= BETWEEN {
                        last = now;
                        self.checkpoint(out).await?;
                    }
                }
                Some(Said::Refused(why)) => return Err(Error::new(ErrorKind::Unsupported, why)),
                Some(Said::Config(config)) => (self.keep)(config)?,
                Some(Said::Failed(why)) if failed.is_none() => failed = Some(why.error(process.masked(&why.message))),
                Some(Said::Ended { stream, whole: was_whole }) if self.names.contains(&stream) => whole = was_whole,
                Some(Said::Log(text)) => tracing::info!(target: "linkspan", "program: {}", process.masked(&text)),
                _ => {}
            }
        }
        let incomplete =
            || Error::new(ErrorKind::Unavailable, "the program did not read the stream to its end").fix("look into its log (-v)");
        Ok(failed.or_else(|| (!whole).then(incomplete)))
    }

    async fn run(&mut self, out: &mut Output) -> Result<Ended> {
        let mut process = (self.start)(self.state.as_ref())?;
        let failed = match self.follow(&mut process, out).await {
            Ok(failed) => failed,
            Err(e) => {
                process.stop().await;
                return Err(e);
            }
        };
        let status = process.end().await?;
        let failed = match failed {
            Some(failed) => Some(process.told(failed)),
            None => (!status.success()).then(|| process.failed(status)),
        };
        match failed {
            None => {
                self.checkpoint(out).await?;
                Ok(Ended::Complete)
            }
            Some(error) => Err(error),
        }
    }
}

#[async_trait]
impl Lane for GuestLane {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.wanted.stream.name.clone()], scope: self.scope(), after: vec![] }
    }

    async fn read(mut self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let stream = self.wanted.stream.name.clone();
        tokio::select! {
            ended = self.run(out) => ended.map_err(|e| e.with("stream", &stream)),
            // The program goes with the future. What is behind its last checkpoint is read again.
            () = stop.wait() => Ok(Ended::Stopped),
        }
    }
}
