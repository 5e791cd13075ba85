//! A source of the house as a program: spec, check, discover and read.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use linkspan_core::{
    Connector, ConnectorType, Context, Cursor, Error, ErrorKind, Position, ReadMode, Repeats, Result, Role, Selected, Source, Stream,
};
use serde_json::{Value, json};

use super::{
    columns, form,
    keeping::Telling,
    position,
    reading::{Encode, Reading},
    voice::Voice,
};
use crate::{
    config,
    protocol::{Configured, ConfiguredCatalog, DestinationSyncMode, Failure, Lines, SyncMode},
};

/// What a program is asked, as its arguments say it.
#[derive(Clone, Debug)]
pub enum Verb {
    Spec,
    Check { config: PathBuf },
    Discover { config: PathBuf },
    Read { config: PathBuf, catalog: PathBuf, state: Option<PathBuf> },
}

/// A connector type, and what it runs with.
pub struct Program {
    pub kind: ConnectorType,
    pub context: Context,
    pub encode: Encode,
    /// Lanes at once.
    pub width: usize,
}

/// Runs one verb. Everything is said on `out`; the number is the process's exit code.
pub async fn run<W: Write + Send + 'static>(program: &Program, verb: Verb, out: W) -> u8 {
    let voice = Arc::new(Mutex::new(Voice::new(Lines::new(out, program.context.clock.clone()))));
    let reading = Reading { voice, encode: program.encode, clock: program.context.clock.clone(), width: program.width.max(1) };
    match program.answer(verb, &reading).await {
        Ok(()) => 0,
        // Nobody reads any more: there is nobody to tell.
        Err(error) if error.kind() == ErrorKind::Canceled => 1,
        Err(error) => {
            let _ = reading.voice().lines.error(&Failure::of(&error, None));
            1
        }
    }
}

impl Program {
    async fn answer<W: Write + Send + 'static>(&self, verb: Verb, reading: &Reading<W>) -> Result<()> {
        match verb {
            Verb::Spec => reading.voice().lines.spec(self.spec()),
            Verb::Check { config } => {
                let problem = self.check(&config, reading).await?;
                reading.voice().lines.connection_status(problem.as_deref())
            }
            Verb::Discover { config } => {
                let streams = self.source(&config, reading)?.discover().await?;
                reading.voice().lines.catalog(streams.iter().map(columns::entry).collect())
            }
            Verb::Read { config, catalog, state } => {
                let source = self.source(&config, reading)?;
                let catalog = ConfiguredCatalog::parse(&text(&catalog, "the catalog")?)?;
                let state = state.map(|path| text(&path, "the state")).transpose()?.unwrap_or_default();
                self.read(source, &catalog, position::parse(&state)?, reading).await
            }
        }
    }

    fn spec(&self) -> Value {
        json!({
            "connectionSpecification": form::specification(&self.kind),
            "supportsIncremental": self.kind.has_role(Role::Source),
            "protocol_version": "0.2.0",
        })
    }

    fn open<W: Write + Send + 'static>(&self, config: &Path, reading: &Reading<W>) -> Result<Arc<dyn Connector>> {
        let begin = |given: &Value, secrets| {
            reading.voice().lines.hide(secrets);
            // What it changes is the platform's to keep.
            let keeper = Telling::new(self.kind.clone(), given.clone(), self.context.http.clone(), reading.voice.clone());
            Context { keeper: Arc::new(keeper), ..self.context.clone() }
        };
        open(&self.kind, config, begin).map(|(connector, _)| connector)
    }

    /// Why the connection does not work; `None` when it does.
    async fn check<W: Write + Send + 'static>(&self, config: &Path, reading: &Reading<W>) -> Result<Option<String>> {
        problem(self.open(config, reading)).await
    }

    fn source<W: Write + Send + 'static>(&self, config: &Path, reading: &Reading<W>) -> Result<Arc<dyn Source>> {
        self.open(config, reading)?.source().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("{} cannot be read from", self.kind.spec.title))
                .fix("`linkspan catalog list` shows which types can be a source")
        })
    }

    async fn read<W: Write + Send + 'static>(
        &self,
        source: Arc<dyn Source>,
        catalog: &ConfiguredCatalog,
        from: Position,
        reading: &Reading<W>,
    ) -> Result<()> {
        let streams = source.discover().await?;
        let mut selected = Vec::with_capacity(catalog.streams.len());
        let mut incremental = Position::new();
        for asked in &catalog.streams {
            let wanted = selection(asked, find(&streams, asked)?)?;
            if asked.sync_mode == SyncMode::Incremental {
                let mine = from.iter().filter(|(scope, _)| scope.stream() == Some(&wanted.stream.name));
                incremental.extend(mine.map(|(scope, state)| (scope.clone(), state.clone())));
            }
            reading.voice().expect(&wanted.stream, asked.sync_mode, &incremental);
            selected.push(wanted);
        }
        if selected.iter().any(|s| s.read != ReadMode::Full && s.stream.cursor == Cursor::SourceDefined) {
            incremental
                .extend(from.iter().filter(|(scope, _)| scope.stream().is_none()).map(|(scope, state)| (scope.clone(), state.clone())));
        }
        if incremental.keys().any(|scope| scope.stream().is_none()) {
            reading.voice().share(&incremental);
        }
        // What a platform hands back is durable there.
        source.acknowledge(&incremental).await?;
        let names: Vec<_> = selected.iter().map(|s| s.stream.name.clone()).collect();
        reading.all(source.lanes(selected, incremental)).await?;
        let mut failed = Vec::new();
        for name in &names {
            if !reading.voice().close(name)? {
                failed.push(name.to_string());
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, "some streams were not read to their end").with("streams", failed.join(", ")))
    }
}

fn find<'a>(streams: &'a [Stream], asked: &Configured) -> Result<&'a Stream> {
    let wanted = asked.descriptor();
    streams.iter().find(|s| position::descriptor(&s.name) == wanted).ok_or_else(|| {
        let names = streams.iter().map(|s| s.name.name.as_ref());
        let error = Error::new(ErrorKind::NotFound, "the source has no stream that the catalog asks for").with("stream", asked.name());
        match linkspan_core::suggest::did_you_mean(asked.name(), names) {
            Some(fix) => error.fix(fix),
            None => error.fix("discover again"),
        }
    })
}

fn selection(asked: &Configured, stream: &Stream) -> Result<Selected> {
    let (read, cursor) = match asked.sync_mode {
        SyncMode::FullRefresh => (ReadMode::Full, None),
        SyncMode::Incremental => (ReadMode::Incremental, cursor(asked, stream)?),
    };
    let repeats = match asked.destination_sync_mode {
        Some(DestinationSyncMode::AppendDedup) => Repeats::Folded,
        _ => Repeats::Kept,
    };
    Ok(Selected { stream: stream.clone(), read, cursor, repeats })
}

/// The column that tells what is new: the catalog's, else the source's first.
fn cursor(asked: &Configured, stream: &Stream) -> Result<Option<String>> {
    let named = asked.cursor_field.as_ref().and_then(|path| path.first()).filter(|name| !name.is_empty());
    match (&stream.cursor, named) {
        (Cursor::SourceDefined, _) => Ok(None),
        (Cursor::Columns(columns), Some(named)) if columns.contains(named) => Ok(Some(named.clone())),
        (Cursor::Columns(columns), None) if !columns.is_empty() => Ok(columns.first().cloned()),
        (Cursor::Columns(columns), Some(named)) => {
            Err(Error::new(ErrorKind::ConfigInvalid, "this column cannot be a cursor: its values have no order to go on from")
                .with("stream", &stream.name)
                .with("column", named)
                .fix(format!("columns that can be a cursor here: {}", columns.join(", "))))
        }
        _ => Err(Error::new(ErrorKind::ConfigInvalid, "this stream can only be read in full")
            .with("stream", &stream.name)
            .fix("ask for full_refresh")),
    }
}

/// Opens a type with the config of a file. `begin` is given the config and its secrets before anything else is said, and lends what the
/// connector runs with. With the connector, the config as it was taken.
pub(super) fn open(
    kind: &ConnectorType,
    config: &Path,
    begin: impl FnOnce(&Value, Vec<String>) -> Context,
) -> Result<(Arc<dyn Connector>, Value)> {
    let mut config = config::parse(&text(config, "the config")?)?;
    let context = begin(&config, form::secrets(kind, &config));
    if let Some(fields) = config.as_object_mut() {
        // A platform's own fields.
        fields.retain(|key, value| !key.starts_with("__") && !value.is_null());
    }
    Ok((kind.open(config.clone(), context)?, config))
}

/// Why a connection does not work; `None` when it does.
pub(super) async fn problem(opened: Result<Arc<dyn Connector>>) -> Result<Option<String>> {
    let checked = match opened {
        Ok(connector) => connector.check().await.map(drop),
        Err(e) => Err(e),
    };
    match checked {
        Ok(()) => Ok(None),
        Err(e) if e.kind() == ErrorKind::Internal => Err(e),
        Err(e) => Ok(Some(Failure::of(&e, None).message)),
    }
}

pub(super) fn text(path: &Path, what: &'static str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::ConfigInvalid };
        Error::new(kind, format!("{what} cannot be read")).with("path", path.display()).because(e)
    })
}
