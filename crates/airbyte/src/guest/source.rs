//! An open guest: nothing is started before somebody asks.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{
    Checked, Context, Error, ErrorKind, Lane, Load, Position, ReadMode, Result, Scope, Selected, Source, Stream, WriteMode,
};
use serde_json::{Map, Value};
use tokio::{process::ChildStdin, sync::OnceCell};

use super::{
    config::{ExecConfig, Part},
    container::{Container, Containers},
    lane::{self, GuestLane, Program, Told},
    language::Language,
    lines::Said,
    process::{Folder, Input, Mask, Process, Start, write_private},
    singer,
};

/// A program of somebody else with its config. A clone is the same guest.
#[derive(Clone)]
pub(super) struct Guest(Arc<Inner>);

struct Inner {
    config: ExecConfig,
    context: Context,
    containers: Containers,
    /// What the program made of its config; until then what was given.
    changed: Mutex<Option<Map<String, Value>>>,
    described: OnceCell<Vec<Value>>,
    /// The sync modes that it says it supports as a destination.
    supported: OnceCell<Vec<String>>,
}

impl Guest {
    pub(super) fn new(config: ExecConfig, context: Context, containers: Containers) -> Self {
        Self(Arc::new(Inner {
            config,
            context,
            containers,
            changed: Mutex::default(),
            described: OnceCell::new(),
            supported: OnceCell::new(),
        }))
    }

    pub(super) fn now(&self) -> jiff::Timestamp {
        self.0.context.clock.now()
    }
    pub(super) fn spool_folder(&self) -> PathBuf {
        self.0.config.spool_folder.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// How rows can be written. Which of them an Airbyte destination supports only its spec knows; it is asked before anything is written.
    pub(super) fn modes(&self) -> Vec<WriteMode> {
        if !self.0.config.writes.is_empty() {
            return self.0.config.writes.clone();
        }
        match self.language() {
            Language::Airbyte => vec![WriteMode::Append, WriteMode::Replace, WriteMode::Merge],
            // Not every target empties a table when a new version of it is activated.
            Language::Singer => vec![WriteMode::Append, WriteMode::Merge],
        }
    }

    async fn supported(&self) -> Result<&[String]> {
        let ask = || self.ask("spec", |said| if let Said::Spec(modes) = said { Some(modes) } else { None });
        Ok(self.0.supported.get_or_try_init(ask).await?)
    }

    /// Refuses what the program does not support.
    pub(super) async fn can_write(&self, load: &Load) -> Result<()> {
        if self.language() == Language::Singer {
            return Ok(());
        }
        let supported = self.supported().await?;
        for stream in &load.streams {
            let mode = crate::program::mode_word(stream.write);
            if !supported.iter().any(|known| known == mode) {
                return Err(Error::new(ErrorKind::Unsupported, format!("the program does not support {mode}"))
                    .with("stream", &stream.stream)
                    .fix(format!(
                        "it supports: {}",
                        if supported.is_empty() { "nothing (it is no destination)".into() } else { supported.join(", ") }
                    )));
            }
        }
        Ok(())
    }

    pub(super) fn language(&self) -> Language {
        self.0.config.speaks
    }

    fn given(&self) -> Result<Map<String, Value>> {
        if let Some(changed) = &*self.0.changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return Ok(changed.clone());
        }
        let Some(path) = &self.0.config.config_file else { return Ok(self.0.config.config.clone()) };
        let text = std::fs::read_to_string(path).map_err(|e| linkspan_core::file_error("the program's config cannot be read", path, e))?;
        let wrong = || Error::new(ErrorKind::ConfigInvalid, "the program's config is not a JSON object").with("path", path.display());
        match serde_json::from_str(&text) {
            Ok(Value::Object(config)) => Ok(config),
            _ => Err(wrong()),
        }
    }

    /// Keeps a config that the program changed: where it came from, before anything is started with it.
    pub(super) fn keep(&self, config: Map<String, Value>) -> Result<()> {
        let mut changed = self.0.changed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(path) = &self.0.config.config_file {
            replace(path, &Value::Object(config.clone()).to_string())?;
        }
        *changed = Some(config);
        Ok(())
    }

    /// Starts the program with a verb and what belongs to it.
    pub(super) fn start(&self, verb: &str, files: &[(&str, String)]) -> Result<Process> {
        self.started(verb, files, Input::Nothing)
    }

    /// Starts it to be written to.
    pub(super) fn start_taking(&self, verb: &str, files: &[(&str, String)]) -> Result<(Process, ChildStdin)> {
        let mut process = self.started(verb, files, Input::Messages)?;
        let stdin = process.take_stdin().ok_or_else(|| Error::new(ErrorKind::Internal, "the program has no input"))?;
        Ok((process, stdin))
    }

    fn started(&self, verb: &str, files: &[(&str, String)], input: Input) -> Result<Process> {
        let folder = Folder::make()?;
        let given = self.given()?;
        let mut secrets = Vec::new();
        given.values().for_each(|value| texts(value, &mut secrets));
        secrets.extend(self.0.config.env.values().cloned());
        let mut arguments: Vec<String> = self.language().verb(verb).into_iter().collect();
        let config = (verb != "spec").then(|| ("config", Value::Object(given).to_string()));
        for (name, text) in config.iter().chain(files) {
            let path = folder.file(&format!("{name}.json"), text)?;
            arguments.extend([format!("--{name}"), path.display().to_string()]);
        }
        let ExecConfig { command, image, env, .. } = &self.0.config;
        let container = image.as_ref().map(|_| self.0.containers.client().map(Container::new)).transpose()?;
        let user = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let of_image = container.as_ref().zip(image.as_ref()).map(|(c, image)| c.command(image, folder.path(), env, user));
        let command = of_image.as_ref().unwrap_or(command);
        let (silence, line_bytes) = (self.0.config.silence_time(), self.0.config.line_bytes());
        Process::start(
            Start { container, command, arguments: &arguments, env, mask: Mask::of(secrets), silence, line_bytes, input },
            folder,
        )
    }

    /// Runs a verb whose answer is one message, and takes it.
    async fn ask<T>(&self, verb: &str, wanted: impl Fn(Said) -> Option<T>) -> Result<T> {
        let mut process = self.start(verb, &[])?;
        let (mut answer, mut failed) = (None, None);
        while let Some(line) = process.line().await? {
            match self.language().parse(line) {
                Some(Said::Failed(why)) => failed = Some(why.error(process.masked(&why.message))),
                Some(Said::Config(config)) => self.keep(config)?,
                Some(said) => answer = wanted(said).or(answer),
                None => {}
            }
        }
        let status = process.end().await?;
        match (answer, failed) {
            (Some(answer), None) => Ok(answer),
            (_, Some(failed)) => Err(process.told(failed)),
            (None, None) if !status.success() => Err(process.failed(status)),
            (None, None) => Err(process.told(
                Error::new(ErrorKind::DataInvalid, format!("the program did not answer `{verb}`"))
                    .fix("see that it is a source that speaks the Airbyte protocol"),
            )),
        }
    }

    /// The catalog of a tap is all that it prints.
    async fn tap_streams(&self) -> Result<Vec<Value>> {
        let mut process = self.start("discover", &[])?;
        let (mut document, most) = (String::new(), self.0.config.line_bytes());
        while let Some(line) = process.line().await? {
            document.push_str(&String::from_utf8_lossy(line));
            document.push('\n');
            if document.len() > most {
                return Err(Error::new(ErrorKind::DataInvalid, "the tap's catalog is larger than a line may be").fix("raise `line_mb`"));
            }
        }
        let status = process.end().await?;
        if !status.success() {
            return Err(process.failed(status));
        }
        singer::streams(&document).map_err(|e| process.told(e))
    }

    /// A target has no check either: that it starts with its config, and takes nothing, is all it can show.
    async fn take_nothing(&self) -> Result<()> {
        let (mut process, stdin) = self.start_taking("write", &[])?;
        drop(stdin);
        while process.line().await?.is_some() {}
        let status = process.end().await?;
        if status.success() { Ok(()) } else { Err(process.failed(status)) }
    }

    async fn described(&self) -> Result<&[Value]> {
        if self.language() == Language::Singer {
            return Ok(self.0.described.get_or_try_init(|| self.tap_streams()).await?);
        }
        let ask = || self.ask("discover", |said| if let Said::Catalog(streams) = said { Some(streams) } else { None });
        Ok(self.0.described.get_or_try_init(ask).await?)
    }

    async fn made(&self, selected: Vec<Selected>, from: &Position) -> Result<Vec<GuestLane>> {
        let described = self.described().await?;
        let mut lanes = Vec::with_capacity(selected.len());
        for wanted in selected {
            let name = &wanted.stream.name;
            let found = described.iter().find(|d| self.language().name(d).as_ref() == Some(name));
            let described =
                found.ok_or_else(|| Error::new(ErrorKind::NotFound, "the program has no such stream any more").with("stream", name))?;
            let state = match from.get(&Scope::Stream(name.clone())) {
                Some(_) if wanted.read == ReadMode::Full => {
                    return Err(Error::new(ErrorKind::PositionLost, "a full read of a program begins anew").with("stream", name));
                }
                state => state.map(lane::told).transpose()?.flatten(),
            };
            let catalog = self.language().asked(described, &wanted).to_string();
            let guest = self.clone();
            let start = Box::new(move |state: Option<&Value>| {
                let mut files = vec![("catalog", catalog.clone())];
                files.extend(state.map(|state| ("state", state.to_string())));
                guest.start("read", &files)
            });
            let guest = self.clone();
            let keep = Box::new(move |config| guest.keep(config));
            let told = Told { language: self.language(), names: self.language().descriptors(described, name) };
            lanes.push(GuestLane::new(wanted, told, state, self.0.context.clock.clone(), Program { start, keep }));
        }
        Ok(lanes)
    }
}

/// Every text and number: which of them are secret only the program knows.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(all) => all.iter().for_each(|one| texts(one, found)),
        Value::Object(all) => all.values().for_each(|one| texts(one, found)),
        _ => {}
    }
}

/// The file as a whole or as it was.
fn replace(path: &Path, text: &str) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    let beside = Path::new(&beside);
    write_private(beside, text)?;
    std::fs::rename(beside, path).map_err(|e| {
        let _ = std::fs::remove_file(beside);
        linkspan_core::file_error("the program's changed config cannot be kept", path, e)
    })
}

impl Guest {
    pub(super) async fn check(&self) -> Result<Checked> {
        let began = Instant::now();
        let checked = |streams| Checked { streams, latency: began.elapsed().max(Duration::from_micros(1)), ..Checked::default() };
        match (self.language(), self.0.config.is) {
            // A tap has no check of its own: that it can discover is all it can show.
            (Language::Singer, Part::Source) => return Ok(checked(Some(self.tap_streams().await?.len()))),
            (Language::Singer, Part::Destination) => return self.take_nothing().await.map(|()| checked(None)),
            (Language::Airbyte, Part::Destination) if self.supported().await?.is_empty() => {
                return Err(Error::new(ErrorKind::ConfigInvalid, "the program says of itself that it is no destination")
                    .fix("leave out `is: destination`, or name another program"));
            }
            (Language::Airbyte, _) => {}
        }
        let mask = Mask::of({
            let mut found = Vec::new();
            self.given()?.values().for_each(|value| texts(value, &mut found));
            found
        });
        match self.ask("check", |said| if let Said::Status(status) = said { Some(status) } else { None }).await? {
            None => Ok(checked(None)),
            Some(why) => Err(Error::new(ErrorKind::ConfigInvalid, format!("the program's check failed: {}", mask.hide(&why)))
                .fix("look into the program's own config")),
        }
    }
}

#[async_trait]
impl Source for Guest {
    async fn discover(&self) -> Result<Vec<Stream>> {
        self.described().await?.iter().map(|described| self.language().stream(described)).collect()
    }

    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let made = async move {
            match self.made(selected, &from).await {
                Ok(lanes) => lanes.into_iter().map(|lane| Ok(Box::new(lane) as Box<dyn Lane>)).collect(),
                Err(e) => vec![Err(e)],
            }
        };
        futures::stream::once(made).flat_map(futures::stream::iter).boxed()
    }
}
