//! What the interpreter says besides records, on its way to the lane of its stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use linkspan_core::Note;
use tokio::sync::watch;

use crate::wiring;

/// More different texts of one stream are no news.
const MOST: usize = 100;
/// Who waits for an API is told so once in a while, not with each answer.
const BETWEEN: Duration = Duration::from_secs(30);

/// Notes of the streams of a run.
pub(super) struct Heard {
    streams: Mutex<BTreeMap<String, Notes>>,
    news: watch::Sender<()>,
}

#[derive(Default)]
struct Notes {
    fresh: Vec<Note>,
    told: BTreeSet<String>,
    waited: Option<Instant>,
}

impl Notes {
    /// Whether it is news.
    fn add(&mut self, note: Note) -> bool {
        let is_news = match &note {
            Note::Waits => self.waited.is_none_or(|at| at.elapsed() >= BETWEEN),
            Note::Warning(text) => self.told.len() < MOST && !self.told.contains(text),
        };
        if is_news {
            match &note {
                Note::Waits => self.waited = Some(Instant::now()),
                Note::Warning(text) => drop(self.told.insert(text.clone())),
            }
            self.fresh.push(note);
        }
        is_news
    }
}

impl Heard {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { streams: Mutex::default(), news: watch::Sender::new(()) })
    }

    pub(super) fn note(&self, note: wiring::Note) {
        let (stream, note) = match note {
            wiring::Note::Warning(stream, text) | wiring::Note::Info(stream, text) => (stream, Note::Warning(text)),
            wiring::Note::RateLimited(stream) => (stream, Note::Waits),
            // It went to the keeper.
            wiring::Note::Config(_) => return,
        };
        if self.streams.lock().unwrap_or_else(PoisonError::into_inner).entry(stream).or_default().add(note) {
            self.news.send_replace(());
        }
    }

    pub(super) fn of(self: &Arc<Self>, stream: &str) -> Listener {
        Listener { heard: self.clone(), stream: stream.to_owned(), news: self.news.subscribe() }
    }
}

/// A stream's notes, for its lane.
pub(super) struct Listener {
    heard: Arc<Heard>,
    stream: String,
    news: watch::Receiver<()>,
}

impl Listener {
    /// Returns when there may be something new. Dropped halfway it misses nothing.
    pub(super) async fn news(&mut self) {
        if self.news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn take(&self) -> Vec<Note> {
        let mut streams = self.heard.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.get_mut(&self.stream).map(|notes| std::mem::take(&mut notes.fresh)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_hears_its_own_notes_and_each_once() {
        let heard = Heard::new();
        let (mut orders, users) = (heard.of("orders"), heard.of("users"));
        let warning = |stream: &str, text: &str| heard.note(wiring::Note::Warning(stream.into(), text.into()));
        warning("orders", "cut");
        warning("orders", "cut");
        heard.note(wiring::Note::RateLimited("orders".into()));
        heard.note(wiring::Note::RateLimited("orders".into()));
        heard.note(wiring::Note::Info("users".into(), "403".into()));
        orders.news().await;
        assert_eq!(orders.take(), [Note::Warning("cut".into()), Note::Waits]);
        assert_eq!((orders.take(), users.take()), (vec![], vec![Note::Warning("403".into())]));
        for at in 0..2 * MOST {
            warning("users", &at.to_string());
        }
        assert_eq!(users.take().len(), MOST - 1);
    }
}
