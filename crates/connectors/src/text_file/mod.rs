//! Destinations that are plain text files, whatever the format: rows are appended to a file per stream, and a log beside the files
//! holds how much of each is committed. What a crash leaves behind that length is cut off again, so no row is lost or doubled.

mod log;
mod place;
mod session;
mod spool;

use std::{io, sync::Arc, time::Duration};

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema};
use async_trait::async_trait;
use linkspan_core::{
    Atomic, Cadence, Capability, ConnectionId, Context, Destination, Error, ErrorKind, Load, Publish, Recall, Result, Session, TableShape,
    Target, Visible, WriteMode,
};

pub(crate) use self::place::{Place, check_folder};
use self::{
    log::{Books, FileEntry, Locked},
    session::TextSession,
};
use crate::blocking::blocking;

/// How rows become bytes of a file.
pub(crate) trait Format: Send + Sync + 'static {
    /// What a new file starts with.
    fn header(&self, columns: &[Field]) -> Vec<u8>;
    /// Appends the rows; `columns` are the file's, of which the rows may lack some.
    fn encode(&self, rows: &RecordBatch, columns: &[Field], out: &mut Vec<u8>) -> Result<()>;
    /// Copies rows that were written under `old` columns so that they stand under `new` ones. Neither side has a header.
    fn rewrite(&self, from: &mut dyn io::BufRead, old: &[Field], new: &[Field], to: &mut dyn io::Write) -> Result<()>;
    /// Whether a row's values are found by their place in it, so that a further column needs the rows before it rewritten.
    fn positional(&self) -> bool;
}

/// A destination of files of one format.
#[derive(Clone)]
pub(crate) struct TextFiles {
    pub place: Place,
    pub format: Arc<dyn Format>,
    pub ctx: Context,
    /// Why these settings can be read with but not written with, and what to do.
    pub refusal: Option<(&'static str, &'static str)>,
}

impl TextFiles {
    /// Work under the place's lock, on a thread that may block.
    async fn locked<T: Send + 'static>(&self, work: impl FnOnce(&mut Locked) -> Result<T> + Send + 'static) -> Result<T> {
        let (place, ctx) = (self.place.clone(), self.ctx.clone());
        blocking(move || work(&mut Locked::open(&place, &ctx)?)).await
    }
    /// The same where nothing is to be made: `None` when there is no log yet.
    async fn look<T: Send + 'static>(&self, work: impl FnOnce(&mut Locked) -> Result<Option<T>> + Send + 'static) -> Result<Option<T>> {
        let (place, ctx) = (self.place.clone(), self.ctx.clone());
        blocking(move || if place.log().exists() { work(&mut Locked::open(&place, &ctx)?) } else { Ok(None) }).await
    }
}

#[async_trait]
impl Destination for TextFiles {
    fn capability(&self) -> Capability {
        Capability {
            modes: vec![WriteMode::Append, WriteMode::Replace],
            atomic: Atomic::Session,
            transactional_ddl: true,
            commit_visible: Visible::Rolling,
            fences: true,
            add_column: true,
            widen_column: true,
            drop_not_null: true,
            specials: false,
            deletes: false,
            parallel: true,
            advice: Cadence { rows: 1_000_000, bytes: 64 << 20, age: Duration::from_secs(10) },
        }
    }
    async fn shape(&self, target: &Target) -> Result<Option<TableShape>> {
        let name = self.place.name_of(target)?;
        let path = self.place.path(&name);
        let entry = self
            .look({
                let name = name.clone();
                move |locked| Ok(locked.books.files.get(&name).cloned())
            })
            .await?;
        let exists = path.try_exists().map_err(|e| linkspan_core::file_error("the file cannot be looked at", &path, e))?;
        Ok(match (entry, exists) {
            (Some(entry), true) if entry.stands() => {
                Some(TableShape { schema: Arc::new(Schema::new(entry.fields()?)), key: vec![], ours: true })
            }
            // An empty file is nobody's: a shell's redirection or a touch made it.
            (None, true) if path.metadata().is_ok_and(|m| m.len() > 0) => {
                Some(TableShape { schema: Arc::new(Schema::empty()), key: vec![], ours: false })
            }
            _ => None,
        })
    }
    async fn recall(&self, connection: ConnectionId) -> Result<Option<Recall>> {
        self.look(move |locked| {
            locked.cut_tails()?;
            locked.drop_orphans()?;
            Ok(locked.books.recall(connection))
        })
        .await
    }
    async fn open(&self, load: Load) -> Result<Box<dyn Session>> {
        if let Some((why, fix)) = self.refusal {
            return Err(Error::new(ErrorKind::Unsupported, why).with("path", self.place.folder().display()).fix(fix));
        }
        for stream in &load.streams {
            if stream.write == WriteMode::Merge {
                return Err(Error::new(ErrorKind::Unsupported, "a text file has no keys to merge by")
                    .with("stream", &stream.stream)
                    .fix("write with --write append or replace, or merge into a database"));
            }
            self.place.name_of(&stream.target)?;
        }
        let opened = load.clone();
        let place = self.place.clone();
        let entries = self
            .locked(move |locked| {
                locked.books.install_fence(opened.connection, opened.fence)?;
                locked.cut_tails()?;
                for stream in &opened.streams {
                    let name = place.name_of(&stream.target)?;
                    if stream.write == WriteMode::Replace {
                        locked.books.drop_older(opened.connection, &stream.stream, stream.generation);
                    }
                    locked.drop_staging(&place.staging_prefix(opened.connection, &name), Some(stream.generation))?;
                }
                locked.drop_orphans()?;
                locked.save()?;
                let entry = |s| place.written_name(opened.connection, s).map(|n| locked.books.files.get(&n).cloned());
                opened.streams.iter().map(entry).collect::<Result<Vec<Option<FileEntry>>>>()
            })
            .await?;
        Ok(Box::new(TextSession::new(self.clone(), load, entries)?))
    }
    async fn publish(&self, publish: &Publish) -> Result<()> {
        self.ctx.failpoints.hit("text.publish.before").await?;
        let (publish, place, format) = (publish.clone(), self.place.clone(), self.format.clone());
        self.locked(move |locked| {
            let stream = &publish.stream;
            locked.drop_orphans()?;
            locked.books.install_fence(publish.connection, publish.fence)?;
            if locked.books.published(publish.connection, &stream.stream) >= stream.generation {
                return Ok(());
            }
            let (name, staged) = (place.name_of(&stream.target)?, place.written_name(publish.connection, stream)?);
            locked.refuse_foreign(&name)?;
            match locked.books.files.remove(&staged) {
                Some(entry) => locked.rename_with_commit(&staged, &name, entry),
                // A generation without rows staged nothing: what stands becomes empty.
                None => locked.empty(&name, format.as_ref())?,
            }
            locked.books.set_published(publish.connection, &stream.stream, stream.generation);
            locked.save()
        })
        .await?;
        self.ctx.failpoints.hit("text.publish.after").await
    }
    async fn forget(&self, connection: ConnectionId) -> Result<()> {
        let prefix = self.place.connection_prefix(connection);
        self.look(move |locked| {
            locked.books.forget(connection);
            locked.drop_staging(&prefix, None)?;
            locked.save().map(Some)
        })
        .await
        .map(drop)
    }
}

impl Books {
    fn install_fence(&mut self, connection: ConnectionId, fence: u64) -> Result<()> {
        let known = self.connections.entry(connection.to_string()).or_default();
        if known.fence > fence {
            return Err(log::stale(known.fence, fence));
        }
        known.fence = fence;
        Ok(())
    }
}
