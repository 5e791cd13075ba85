//! What every component of a source is built with: its config, the ways out of the process, and what its streams share.

use std::{
    any::Any,
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use linkspan_core::{Clock, Http, Result};
use serde_json::{Map, Value};

use crate::{
    budget::Budget,
    cache::AnswerCache,
    dpath::{self, Step},
    kept::Kept,
    template::{Scope, Template},
    tokens::Tokens,
};

/// Something that the sync wants to say besides records and states.
#[derive(Clone, Debug)]
pub enum Note {
    /// Of a stream.
    Warning(String, String),
    Info(String, String),
    /// The config as it is now, after a token was rotated. It carries secrets.
    Config(Value),
    /// The named stream waits for a quota.
    RateLimited(String),
}

/// Lent to every component while a source is built. Cheap to clone.
#[derive(Clone)]
pub struct Build {
    pub config: Arc<Value>,
    pub http: Arc<dyn Http>,
    pub clock: Arc<dyn Clock>,
    /// Where the manifest lies: files of schemas are beside it.
    pub folder: Option<PathBuf>,
    /// Where files of records go; `None` where records cannot have any.
    pub files: Option<PathBuf>,
    /// The configured catalog: property selectors ask it which fields are wanted.
    pub catalog: Arc<Value>,
    pub notes: Arc<dyn Fn(Note) + Send + Sync>,
    pub shared: Arc<Shared>,
    pub sleeps: Sleeps,
    /// Where tokens are kept that replace others; without it they are told as notes.
    pub kept: Option<Arc<Kept>>,
    /// The manifest's `api_budget`; every call goes through it.
    pub budget: Option<Arc<Budget>>,
}

/// What the streams of one source have in common.
#[derive(Default)]
pub struct Shared {
    pub cache: AnswerCache,
    /// The config with the tokens that were rotated since the start; `None` until one was.
    pub rotated: Mutex<Option<Value>>,
    /// Access tokens, by the request that brings them.
    pub tokens: Tokens,
    /// What streams that are configured alike have in common, by what it is made of: tokens with their counters.
    pub alike: Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>,
    /// Places for jobs at the other side.
    pub jobs: JobPlaces,
    /// One refresh at a time, over all streams: they share their refresh tokens.
    pub refreshing: tokio::sync::Mutex<()>,
}

impl Build {
    /// Notes a credential that was just given: nobody tells of it.
    pub fn hush(&self, credential: &str) {
        if let Some(kept) = &self.kept {
            kept.hush(credential);
        }
    }
    pub fn new(config: Arc<Value>, http: Arc<dyn Http>, clock: Arc<dyn Clock>) -> Self {
        Self {
            config,
            http,
            clock,
            folder: None,
            files: None,
            catalog: Arc::new(Value::Null),
            notes: Arc::new(|_| {}),
            shared: Arc::default(),
            sleeps: Sleeps::default(),
            kept: None,
            budget: None,
        }
    }
    pub fn scope(&self) -> Scope<'_> {
        Scope::new(&self.config, self.clock.now())
    }
    /// A template that depends on the config alone.
    pub fn text(&self, template: &Template) -> Result<String> {
        template.text(&self.scope())
    }
    pub fn note(&self, note: Note) {
        (self.notes)(note);
    }
    /// A value of the config as it is now, with what was rotated.
    pub fn config_now(&self, path: &[Step]) -> Option<Value> {
        let rotated = self.shared.rotated.lock().unwrap_or_else(PoisonError::into_inner);
        dpath::get(rotated.as_ref().unwrap_or(&self.config), path).ok().flatten().cloned()
    }
    /// The config as it is kept now.
    pub fn adopt(&self, config: Value) {
        *self.shared.rotated.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
    }
    /// Writes values into the config and hands it out before anybody uses them: a token that only this process knows is lost with it.
    pub fn rotate(&self, values: Vec<(&[Step], Value)>) -> Result<()> {
        let config = {
            let mut rotated = self.shared.rotated.lock().unwrap_or_else(PoisonError::into_inner);
            let mut config = rotated.clone().unwrap_or_else(|| Value::clone(&self.config));
            if !config.is_object() {
                config = Value::Object(Map::new());
            }
            for (path, value) in values {
                dpath::put(&mut config, path, value)?;
            }
            *rotated = Some(config.clone());
            config
        };
        self.note(Note::Config(config));
        Ok(())
    }
    /// Waits as long as a backoff says, times the scale.
    pub async fn wait(&self, seconds: f64) {
        let scaled = seconds * self.sleeps.scale;
        if scaled > 0.0 {
            self.clock.sleep(Duration::try_from_secs_f64(scaled).unwrap_or(Duration::MAX)).await;
        }
    }
}

/// How long waits really last: a factor on every one of them. Tests set it to 0.
#[derive(Clone, Copy, Debug)]
pub struct Sleeps {
    pub scale: f64,
}

impl Default for Sleeps {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

impl Sleeps {
    /// Reads a factor as `LINKSPAN_SLEEP_SCALE` holds it; what is no number from 0 on counts as 1.
    pub fn of(text: Option<&str>) -> Self {
        let scale = text.and_then(|t| t.trim().parse().ok()).filter(|s: &f64| s.is_finite() && *s >= 0.0);
        Self { scale: scale.unwrap_or(1.0) }
    }
}

/// How many jobs may run at the other side at once, over all streams.
pub struct JobPlaces {
    most: AtomicUsize,
    taken: AtomicUsize,
}

impl Default for JobPlaces {
    fn default() -> Self {
        Self { most: AtomicUsize::new(1), taken: AtomicUsize::new(0) }
    }
}

impl JobPlaces {
    /// As the manifest allows; at least one.
    pub fn allow(&self, most: usize) {
        self.most.store(most.max(1), Ordering::Relaxed);
    }
    /// Takes a place, if one is free.
    pub fn take(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < most).then_some(taken + 1)).is_ok()
    }
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}
