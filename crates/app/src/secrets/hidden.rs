//! The secrets that this process has had in its hands, for what leaves it without knowing whose words it repeats: diagnostics, and
//! what a command says to a person. Answers and logs of runs are cleaned nearer by, by the secrets of their own connectors.

use std::{
    borrow::Cow,
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use aho_corasick::{AhoCorasick, MatchKind};
use linkspan_core::{MASK, spellings};
use zeroize::Zeroizing;

/// Spellings that are kept; the oldest go. A thousand connectors with some secrets each have about thirty thousand.
const MOST: usize = 100_000;

const SHORTEST: usize = 8;

static LISTENING: AtomicBool = AtomicBool::new(false);
static HIDDEN: Mutex<Hidden> = Mutex::new(Hidden { known: None, order: VecDeque::new(), finder: None });

struct Hidden {
    /// Fingerprints of those below.
    known: Option<HashSet<[u8; 32]>>,
    order: VecDeque<Zeroizing<String>>,
    /// Made when the first text comes after a change.
    finder: Option<Arc<AhoCorasick>>,
}

/// From now on secrets are noted. Before that nobody would ask for them, and noting costs nothing.
pub fn listen() {
    LISTENING.store(true, Ordering::Release);
}

/// One that is no connector's: a key of this process itself.
pub fn hide(secret: &str) {
    add(&spellings(secret).into_iter().map(Zeroizing::new).collect::<Vec<_>>());
}

/// Spellings of secrets.
pub(super) fn add(needles: &[Zeroizing<String>]) {
    if LISTENING.load(Ordering::Acquire) {
        let mut hidden = held();
        needles.iter().filter(|needle| tells(needle)).for_each(|needle| hidden.add(needle));
    }
}

/// A short one, or one that is a plain word, stands in many a text by itself: to take it out of all of them would say what it is. (What
/// is told about its own connector is cleaned of it all the same.)
fn tells(needle: &str) -> bool {
    needle.len() >= SHORTEST && !needle.bytes().all(|b| b.is_ascii_lowercase())
}

/// The text without any of them.
pub fn without(text: &str) -> Cow<'_, str> {
    if !LISTENING.load(Ordering::Acquire) {
        return Cow::Borrowed(text);
    }
    let Some(finder) = held().finder() else { return Cow::Borrowed(text) };
    taken_out(&finder, text)
}

/// Finds the longest of those that begin at one place, so that a part of a spelling does not spoil the whole.
pub(super) fn finder<'a>(needles: impl Iterator<Item = &'a [u8]>) -> Option<AhoCorasick> {
    let needles: Vec<&[u8]> = needles.collect();
    if needles.is_empty() {
        return None;
    }
    // It fails for more needles than fit into 31 bits only.
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(needles).ok()
}

pub(super) fn taken_out<'a>(finder: &AhoCorasick, text: &'a str) -> Cow<'a, str> {
    let mut out = String::new();
    let mut from = 0;
    for found in finder.find_iter(text) {
        out.push_str(&text[from..found.start()]);
        out.push_str(MASK);
        from = found.end();
    }
    if from == 0 { Cow::Borrowed(text) } else { Cow::Owned(out + &text[from..]) }
}

fn held() -> MutexGuard<'static, Hidden> {
    HIDDEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hidden {
    fn add(&mut self, needle: &Zeroizing<String>) {
        let known = self.known.get_or_insert_default();
        if !known.insert(*blake3::hash(needle.as_bytes()).as_bytes()) {
            return;
        }
        self.order.push_back(needle.clone());
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            known.remove(blake3::hash(oldest.as_bytes()).as_bytes());
        }
        self.finder = None;
    }
    fn finder(&mut self) -> Option<Arc<AhoCorasick>> {
        if self.finder.is_none() {
            self.finder = finder(self.order.iter().map(|n| n.as_bytes())).map(Arc::new);
        }
        self.finder.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_noted_is_taken_out_in_every_spelling() {
        listen();
        hide("hidden-canary/1");
        hide("hidden-canary/1-and-more");
        hide("postgres");
        for (text, shown) in [
            ("say hidden-canary/1 twice: hidden-canary/1", "say ***REDACTED*** twice: ***REDACTED***"),
            ("hidden-canary/1-and-more", "***REDACTED***"),
            ("?k=hidden-canary%2F1&x", "?k=***REDACTED***&x"),
            ("nothing", "nothing"),
            ("the password of postgres is postgres", "the password of postgres is postgres"),
        ] {
            assert_eq!(without(text), shown);
        }
    }
}
