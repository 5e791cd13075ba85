//! Standard output as a destination: rows leave with the commit and are flushed before the position counts. Nothing is remembered here.

use std::{collections::BTreeMap, io::Write, sync::Mutex, time::Duration};

use async_trait::async_trait;
use linkspan_core::{
    Atomic, Batch, Cadence, Capability, Commit, ConnectionId, Context, Destination, Error, ErrorKind, Load, Publish, Recall, Result, Rows,
    SchemaPlan, Session, StreamName, TableShape, Target, Visible, WriteMode, WriteStats,
};

use super::encode;
use crate::blocking::blocking;

/// Encoded bytes kept before they are written. There is no way to take a row back here, so there is none to wait for.
const BUFFER: usize = 256 << 10;

pub(super) struct Stdout {
    stream_field: Option<String>,
    ctx: Context,
    /// The stream that rows without a stream field belong to.
    only: Mutex<Option<StreamName>>,
}

impl Stdout {
    pub fn new(stream_field: Option<String>, ctx: Context) -> Self {
        Self { stream_field, ctx, only: Mutex::default() }
    }
    /// Rows that do not say their stream are all of one.
    fn claim(&self, stream: &StreamName) -> Result<()> {
        if self.stream_field.is_some() {
            return Ok(());
        }
        let mut only = self.only.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match only.get_or_insert_with(|| stream.clone()) {
            first if first == stream => Ok(()),
            first => {
                Err(Error::new(ErrorKind::ConfigInvalid, "rows of several streams on standard output need a field that tells them apart")
                    .with("stream", stream)
                    .with("first", first)
                    .fix("write to 'stdout:?stream_field=_stream', or select one stream"))
            }
        }
    }
}

#[async_trait]
impl Destination for Stdout {
    fn capability(&self) -> Capability {
        Capability {
            modes: vec![WriteMode::Append, WriteMode::Replace],
            atomic: Atomic::None,
            transactional_ddl: false,
            commit_visible: Visible::Rolling,
            fences: false,
            add_column: true,
            widen_column: true,
            drop_not_null: true,
            specials: false,
            deletes: false,
            parallel: true,
            advice: Cadence { rows: 100_000, bytes: 8 << 20, age: Duration::from_millis(500) },
        }
    }
    async fn shape(&self, _target: &Target) -> Result<Option<TableShape>> {
        Ok(None)
    }
    async fn recall(&self, _connection: ConnectionId) -> Result<Option<Recall>> {
        Ok(None)
    }
    async fn open(&self, load: Load) -> Result<Box<dyn Session>> {
        for stream in &load.streams {
            if stream.write == WriteMode::Merge {
                return Err(Error::new(ErrorKind::Unsupported, "standard output has no keys to merge by")
                    .with("stream", &stream.stream)
                    .fix("write with --write append"));
            }
            self.claim(&stream.stream)?;
        }
        Ok(Box::new(StdoutSession {
            stream_field: self.stream_field.clone(),
            ctx: self.ctx.clone(),
            schemas: BTreeMap::new(),
            lines: Vec::new(),
            stats: BTreeMap::new(),
        }))
    }
    async fn publish(&self, _publish: &Publish) -> Result<()> {
        Ok(())
    }
    async fn forget(&self, _connection: ConnectionId) -> Result<()> {
        Ok(())
    }
}

struct StdoutSession {
    stream_field: Option<String>,
    ctx: Context,
    schemas: BTreeMap<StreamName, arrow_schema::SchemaRef>,
    lines: Vec<u8>,
    stats: BTreeMap<StreamName, WriteStats>,
}

impl StdoutSession {
    /// Whole lines leave together, so that lanes never mix within one.
    async fn flush(&mut self) -> Result<()> {
        let lines = std::mem::take(&mut self.lines);
        blocking(move || {
            let mut out = std::io::stdout().lock();
            out.write_all(&lines).and_then(|()| out.flush()).map_err(broken)
        })
        .await
    }
}

fn broken(e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::BrokenPipe => Error::new(ErrorKind::Canceled, "whoever read standard output has stopped reading"),
        _ => linkspan_core::file_error("standard output cannot be written", std::path::Path::new("-"), e),
    }
}

#[async_trait]
impl Session for StdoutSession {
    async fn schema(&mut self, stream: &StreamName, plan: &SchemaPlan) -> Result<()> {
        self.schemas.insert(stream.clone(), plan.schema.clone());
        Ok(())
    }
    async fn write(&mut self, rows: Batch) -> Result<()> {
        let stats = self.stats.entry(rows.stream.clone()).or_default();
        stats.rejected += rows.changes.rejected.len() as u64;
        let arrow = match rows.rows {
            Rows::Arrow(arrow) => arrow,
            Rows::Json(json) => {
                let schema = self.schemas.get(&rows.stream);
                json.to_arrow(schema.ok_or_else(|| Error::new(ErrorKind::Internal, "rows came before their schema"))?)?
            }
            _ => return Err(Error::new(ErrorKind::Unsupported, "rows of this form cannot be written here").fix("update Linkspan")),
        };
        stats.written += arrow.num_rows() as u64;
        let name = rows.stream.to_string();
        encode::objects(&arrow, self.stream_field.as_deref().map(|f| (f, name.as_str())), &mut self.lines)?;
        if self.lines.len() > BUFFER { self.flush().await } else { Ok(()) }
    }
    async fn truncate(&mut self, stream: &StreamName) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "what was printed cannot be taken back: the source emptied the stream")
            .with("stream", stream)
            .fix("write to a file or a database instead"))
    }
    async fn commit(&mut self, _commit: &Commit) -> Result<BTreeMap<StreamName, WriteStats>> {
        self.ctx.failpoints.hit("stdout.flush").await?;
        self.flush().await?;
        Ok(std::mem::take(&mut self.stats))
    }
}
