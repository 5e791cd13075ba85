//! A manifest as an Airbyte source program: spec, check, discover and read, one protocol message a line.

use std::{
    collections::HashSet,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use linkspan_core::{Clock, Error, ErrorKind, Http, Result};
use serde_json::{Map, Value};

use crate::{
    check,
    config::{self, Spec},
    protocol::{ConfiguredCatalog, Descriptor, Failure, Level, Lines, StateInput, StreamStatus},
    read::{self, Listener},
    record::Record,
    source::{self, Source},
    wiring::{Build, Note, Sleeps},
};

/// What a program is asked, as its arguments say it.
#[derive(Clone, Debug)]
pub enum Verb {
    Spec,
    Check { config: PathBuf },
    Discover { config: PathBuf },
    Read { config: PathBuf, catalog: PathBuf, state: Option<PathBuf> },
}

/// What a program runs with.
pub struct World {
    pub http: Arc<dyn Http>,
    pub clock: Arc<dyn Clock>,
    pub sleeps: Sleeps,
}

/// Runs one verb. Everything is said on `out`; the number is the process's exit code.
pub async fn run<W: Write + Send + 'static>(manifest: &Path, verb: Verb, world: World, out: W) -> u8 {
    let speaker = Arc::new(Speaker { lines: Mutex::new(Lines::new(out, world.clock.clone())), running: Mutex::default() });
    match answer(manifest, verb, world, &speaker).await {
        Ok(()) => 0,
        // Nobody reads any more: there is nobody to tell.
        Err(error) if error.kind() == ErrorKind::Canceled => 1,
        Err(error) => {
            let _ = speaker.lines().error(&Failure::of(&error, None));
            1
        }
    }
}

async fn answer<W: Write + Send + 'static>(manifest: &Path, verb: Verb, world: World, speaker: &Arc<Speaker<W>>) -> Result<()> {
    let root = opened(manifest)?;
    match verb {
        Verb::Spec => speaker.lines().spec(spec(&root)?),
        Verb::Check { config } => {
            let outcome = match source(root, manifest, config, world, speaker) {
                Ok(source) => check::check(&source).await?,
                // A config that does not fit is a connection that does not work, not a program that failed.
                Err(error) if matches!(error.kind(), ErrorKind::ConfigInvalid | ErrorKind::Unsupported) => Err(error),
                Err(error) => return Err(error),
            };
            let problem = outcome.err().map(|e| Failure::of(&e, None).message);
            speaker.lines().connection_status(problem.as_deref())
        }
        Verb::Discover { config } => {
            let source = source(root, manifest, config, world, speaker)?;
            let mut described = Vec::new();
            for stream in source.streams(&StateInput::default(), None).await? {
                described.push(stream.describe().await?);
            }
            speaker.lines().catalog(described)
        }
        Verb::Read { config, catalog, state } => {
            let catalog_text = text(&catalog, "the catalog")?;
            let state = state.map(|path| text(&path, "the state")).transpose()?.unwrap_or_default();
            let mut source = source(root, manifest, config, world, speaker)?;
            let value = serde_json::from_str(&catalog_text).unwrap_or_default();
            source.know_catalog(value);
            read_streams(&source, &ConfiguredCatalog::parse(&catalog_text)?, &StateInput::parse(&state)?, speaker).await
        }
    }
}

async fn read_streams<W: Write + Send + 'static>(
    source: &Source,
    catalog: &ConfiguredCatalog,
    state: &StateInput,
    speaker: &Arc<Speaker<W>>,
) -> Result<()> {
    let streams = source.streams(state, Some(Arc::new(catalog.clone()))).await?;
    let (chosen, missing) = source::selected(&streams, catalog);
    for name in &missing {
        speaker.status(name, StreamStatus::Incomplete)?;
    }
    let failed = read::read(chosen, source.width()?, speaker.clone()).await?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "some streams were not read to their end").with("streams", failed.join(", ")))
}

fn opened(manifest: &Path) -> Result<Value> {
    crate::manifest::opened(&text(manifest, "the manifest")?)
}

fn spec(root: &Value) -> Result<Value> {
    match Spec::of(root)? {
        Some(spec) => Ok(spec.message()),
        None => Err(Error::new(ErrorKind::ConfigInvalid, "the manifest has no spec").fix("add `spec` with connection_specification")),
    }
}

fn source<W: Write + Send + 'static>(
    root: Value,
    manifest: &Path,
    config: PathBuf,
    world: World,
    speaker: &Arc<Speaker<W>>,
) -> Result<Source> {
    crate::manifest::refuse_python(&root)?;
    let config = prepared(&root, config::parse(&text(&config, "the config")?)?, speaker)?;
    let mut build = Build::new(Arc::new(config), world.http, world.clock);
    build.sleeps = world.sleeps;
    build.files = Some(crate::retrieve::staging(std::env::var_os("AIRBYTE_STAGING_DIRECTORY").as_deref()));
    build.folder = manifest.parent().map(Path::to_path_buf);
    let notes = speaker.clone();
    build.notes = Arc::new(move |note| notes.note(note));
    Source::new(Arc::new(root), build)
}

/// Secrets are known before anything else is said. A config that the manifest migrated is told, so that the platform keeps it.
fn prepared<W: Write + Send + 'static>(root: &Value, given: Value, speaker: &Arc<Speaker<W>>) -> Result<Value> {
    let Some(spec) = Spec::of(root)? else { return Ok(given) };
    speaker.lines().hide(spec.secrets(&given));
    let prepared = spec.prepare(given)?;
    speaker.lines().hide(spec.secrets(&prepared.config));
    if let Some(migrated) = &prepared.migrated {
        speaker.lines().control(migrated, spec.secrets(migrated))?;
    }
    spec.check(&prepared.config)?;
    spec.validate(&prepared.config)?;
    Ok(prepared.config)
}

fn text(path: &Path, what: &'static str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::ConfigInvalid };
        Error::new(kind, format!("{what} cannot be read")).with("path", path.display()).because(e)
    })
}

/// The one mouth of a run. Its lock is held for whole messages only.
struct Speaker<W> {
    lines: Mutex<Lines<W>>,
    running: Mutex<HashSet<String>>,
}

impl<W: Write + Send + 'static> Speaker<W> {
    fn lines(&self) -> MutexGuard<'_, Lines<W>> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    fn is_running(&self, stream: &str) -> bool {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(stream)
    }

    /// A note is out before whoever makes it goes on: a rotated token must not be used before the platform has it.
    fn note(&self, note: Note) {
        let mut lines = self.lines();
        // An error here means that nobody reads; the next record or state finds out.
        let _ = match note {
            Note::Warning(stream, text) => lines.log(Level::Warn, &format!("{stream}: {text}")),
            Note::Info(stream, text) => lines.log(Level::Info, &format!("{stream}: {text}")),
            Note::Config(config) => lines.control(&config, []),
            Note::RateLimited(stream) if self.is_running(&stream) => lines.rate_limited(&descriptor(&stream), None),
            // A parent that nobody asked for: the platform does not know it.
            Note::RateLimited(_) => Ok(()),
        };
    }
}

fn descriptor(stream: &str) -> Descriptor {
    Descriptor { name: stream.to_owned(), namespace: None }
}

impl<W: Write + Send + 'static> Listener for Speaker<W> {
    fn records(&self, stream: &str, records: &[Record]) -> Result<()> {
        if let Some(at) = records.iter().position(|record| record.file().is_some()) {
            let (before, rest) = records.split_at(at);
            let texts: Vec<_> = before.iter().map(Record::text).collect();
            let mut lines = self.lines();
            lines.records(&descriptor(stream), texts.iter().map(AsRef::as_ref))?;
            return rest.iter().try_for_each(|record| match record.file() {
                Some(file) => lines.record_with_file(&descriptor(stream), &record.text(), file),
                None => lines.records(&descriptor(stream), [&*record.text()]),
            });
        }
        let texts: Vec<_> = records.iter().map(Record::text).collect();
        self.lines().records(&descriptor(stream), texts.iter().map(AsRef::as_ref))
    }
    fn state(&self, stream: &str, state: &Map<String, Value>) -> Result<()> {
        self.lines().state(&descriptor(stream), state)
    }
    fn status(&self, stream: &str, status: StreamStatus) -> Result<()> {
        let mut running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match status {
            StreamStatus::Started | StreamStatus::Running => running.insert(stream.to_owned()),
            StreamStatus::Complete | StreamStatus::Incomplete => running.remove(stream),
        };
        drop(running);
        self.lines().status(&descriptor(stream), status)
    }
    fn failed(&self, stream: &str, error: &Error) -> Result<()> {
        self.lines().error(&Failure::of(error, Some(descriptor(stream))))
    }
    fn log(&self, level: Level, text: &str) -> Result<()> {
        self.lines().log(level, text)
    }
}

/// The clock of a program: the machine's, or one that stands at a moment while sleeps still take their time.
pub fn clock(now: Option<&str>) -> Result<Arc<dyn Clock>> {
    let Some(now) = now else { return Ok(Arc::new(linkspan_core::SystemClock)) };
    let at = now
        .parse()
        .map_err(|_| Error::new(ErrorKind::ConfigInvalid, "the time that counts as now is not an RFC 3339 time").with("now", now))?;
    Ok(Arc::new(Standing(at)))
}

struct Standing(jiff::Timestamp);

#[async_trait::async_trait]
impl Clock for Standing {
    fn now(&self) -> jiff::Timestamp {
        self.0
    }
    async fn sleep(&self, duration: std::time::Duration) {
        linkspan_core::SystemClock.sleep(duration).await;
    }
}
