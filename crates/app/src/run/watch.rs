//! Sees a run for those who watch, the log and the rejects file at once.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use linkspan_core::{Changes, StreamName, WriteStats};
use linkspan_engine::run::{Observer, StreamEnd, StreamOutcome};
use linkspan_store::{Claim, Level, RunLog, Store};
use serde_json::{Value, json};

use super::tally::Tally;

/// The observer of a real run. It holds the claim, because only a claimed run has files.
pub struct Watch {
    pub tally: Arc<Tally>,
    log: Option<RunLog>,
    store: Store,
    claim: Mutex<Option<Claim>>,
    cleaner: OnceLock<Box<Clean>>,
}

/// Takes out of what is told whatever must not be told.
type Clean = dyn Fn(Value) -> Value + Send + Sync;

impl Watch {
    pub fn new(tally: Arc<Tally>, store: Store, claim: Claim) -> Self {
        // A log that cannot be made (a full disk) is no reason not to move rows.
        let log = store.run_log(&claim).inspect_err(|e| tally.note(format!("this run has no log: {e}"))).ok();
        Self { tally, log, store, claim: Mutex::new(Some(claim)), cleaner: OnceLock::new() }
    }
    pub fn log(&self, level: Level, message: &str, fields: &[(&str, Value)]) {
        self.line(level, None, message, fields);
    }
    /// From now on everything that is logged passes through this.
    pub fn clean_with(&self, clean: impl Fn(Value) -> Value + Send + Sync + 'static) {
        self.cleaner.set(Box::new(clean)).ok();
    }
    /// What may be told of a value.
    pub fn cleaned(&self, value: Value) -> Value {
        self.cleaner.get().map_or(value.clone(), |clean| clean(value))
    }
    fn cleaned_text(&self, text: &str) -> String {
        match self.cleaned(text.into()) {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }
    /// Reasons are a destination's words where it refused a row.
    fn cleaned_changes<'a>(&self, changes: &'a Changes) -> Cow<'a, Changes> {
        if self.cleaner.get().is_none() || changes.rejected.is_empty() {
            return Cow::Borrowed(changes);
        }
        let mut clean = changes.clone();
        clean.rejected.iter_mut().for_each(|r| r.reason = self.cleaned_text(&r.reason));
        Cow::Owned(clean)
    }
    /// Brings what was logged to the file, for those who follow it.
    pub fn flush(&self) {
        if let Some(log) = &self.log {
            log.flush();
        }
    }
    /// The claim, to finish it; from then on nothing is written.
    pub fn release(&self) -> Option<Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
    fn line(&self, level: Level, stream: Option<&StreamName>, message: &str, fields: &[(&str, Value)]) {
        let Some(log) = &self.log else { return };
        if self.cleaner.get().is_none() {
            return log.write(level, stream, message, fields);
        }
        let clean: Vec<(&str, Value)> = fields.iter().map(|(k, v)| (*k, self.cleaned(v.clone()))).collect();
        log.write(level, stream, &self.cleaned_text(message), &clean);
    }
}

impl Observer for Watch {
    fn lanes(&self, stream: &StreamName, estimated_rows: Option<u64>, estimated_bytes: Option<u64>) {
        self.tally.expect(stream, estimated_rows, estimated_bytes);
    }
    fn read(&self, stream: &StreamName, rows: u64, bytes: u64) {
        self.tally.read(stream, rows, bytes);
    }
    fn committed(&self, stream: &StreamName, stats: WriteStats) {
        self.tally.committed(stream, stats);
        let fields = [("written", json!(stats.written)), ("duplicates", json!(stats.duplicates)), ("rejected", json!(stats.rejected))];
        self.line(Level::Debug, Some(stream), "committed", &fields);
    }
    fn note(&self, stream: Option<&StreamName>, text: &str) {
        self.line(Level::Info, stream, text, &[]);
        let text = self.cleaned_text(text);
        self.tally.note(stream.map_or_else(|| format!("note: {text}"), |s| format!("note: {s}: {text}")));
    }
    fn changes(&self, stream: &StreamName, changes: &Changes) {
        if changes.is_empty() {
            return;
        }
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(claim) = claim.as_ref() else { return };
        match self.store.rejects(claim) {
            Ok(rejects) => rejects.write(stream, &self.cleaned_changes(changes)),
            Err(e) => tracing::warn!(error = %e, "the rejects file cannot be made"),
        }
    }
    fn ended(&self, stream: &StreamName, outcome: &StreamOutcome) {
        self.tally.ended(stream);
        let fields = [("read", json!(outcome.read_rows)), ("written", json!(outcome.stats.written))];
        match &outcome.ended {
            StreamEnd::Completed => self.line(Level::Info, Some(stream), "completed", &fields),
            StreamEnd::Stopped => self.line(Level::Info, Some(stream), "stopped", &fields),
            StreamEnd::Parked(e) => self.line(Level::Warn, Some(stream), "parked", &[("error", e.to_json())]),
            StreamEnd::Failed(e) => self.line(Level::Error, Some(stream), "failed", &[("error", e.to_json())]),
        }
    }
}
