//! Takes secrets out of texts by their value, in every spelling that systems repeat them in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aho_corasick::AhoCorasick;
use linkspan_core::{Error, secrets_of_url, spellings};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{hidden, vault::Values};

/// Knows the spellings of a connector's secrets. Never printed.
#[derive(Clone, Default)]
pub struct Redactor {
    finder: Option<AhoCorasick>,
    drawn: Drawn,
}

/// Credentials that a connector came by while it works. Clones are one.
#[derive(Clone, Default)]
pub struct Drawn(Arc<Mutex<Tokens>>);

/// The newest ones; a run that draws more has done with the oldest.
const MOST_DRAWN: usize = 64;
/// Shorter ones stand in many a text by themselves.
const SHORTEST_DRAWN: usize = 8;

#[derive(Default)]
struct Tokens {
    known: Vec<Zeroizing<String>>,
    finder: Option<Arc<AhoCorasick>>,
}

impl Drawn {
    pub fn add(&self, credential: &str) {
        let mut tokens = self.held();
        if credential.len() < SHORTEST_DRAWN || tokens.known.iter().any(|known| known.as_str() == credential) {
            return;
        }
        if tokens.known.len() == MOST_DRAWN {
            tokens.known.remove(0);
        }
        tokens.known.push(Zeroizing::new(credential.to_owned()));
        let needles: Vec<_> = tokens.known.iter().flat_map(|t| spellings(t)).map(Zeroizing::new).collect();
        hidden::add(&needles);
        tokens.finder = hidden::finder(needles.iter().map(|n| n.as_bytes())).map(Arc::new);
    }
    fn held(&self) -> MutexGuard<'_, Tokens> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Redactor {
    pub fn of(values: &Values) -> Self {
        let mut texts = Vec::new();
        values.values().for_each(|v| collect(v, &mut texts));
        let needles: Vec<_> = texts.iter().flat_map(|t| spellings(t)).map(Zeroizing::new).collect();
        hidden::add(&needles);
        Self { finder: hidden::finder(needles.iter().map(|n| n.as_bytes())), drawn: Drawn::default() }
    }
    /// The same, which knows as well what is drawn from now on.
    pub fn and(self, drawn: &Drawn) -> Self {
        Self { drawn: drawn.clone(), ..self }
    }
    pub fn text(&self, text: &str) -> String {
        let drawn = self.drawn.held().finder.clone();
        let found = [self.finder.as_ref(), drawn.as_deref()].into_iter().flatten();
        found.fold(text.to_owned(), |text, finder| hidden::taken_out(finder, &text).into_owned())
    }
    pub fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(all) => all.into_iter().map(|v| self.value(v)).collect(),
            Value::Object(fields) => fields.into_iter().map(|(k, v)| (self.text(&k), self.value(v))).collect(),
            other => other,
        }
    }
    /// The same error without the secrets and without its causes, which are others' words.
    pub fn error(&self, e: &Error) -> Error {
        let mut clean = Error::new(e.kind(), self.text(e.message())).retry(e.retry_hint());
        if let Some(fix) = e.suggested_fix() {
            clean = clean.fix(self.text(fix));
        }
        if let Some(docs) = e.docs_url() {
            clean = clean.docs(docs.to_owned());
        }
        e.context().iter().fold(clean, |clean, (key, value)| clean.with(key, self.text(value)))
    }
}

/// Every secret text in a value; of a URL its password and its secret query fields too, which systems repeat without the rest.
fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            for part in secrets_of_url(text) {
                texts.push(percent_decoded(part));
                texts.push(part.to_owned());
            }
            texts.push(text.clone());
        }
        Value::Array(all) => all.iter().for_each(|v| collect(v, texts)),
        Value::Object(fields) => fields.values().for_each(|v| collect(v, texts)),
        Value::Number(n) => texts.push(n.to_string()),
        Value::Null | Value::Bool(_) => {}
    }
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let pair = || {
            let mut ahead = bytes.clone();
            let (high, low) = ((ahead.next()? as char).to_digit(16)?, (ahead.next()? as char).to_digit(16)?);
            u8::try_from(high * 16 + low).ok()
        };
        match (b, if b == b'%' { pair() } else { None }) {
            (b'%', Some(byte)) => {
                out.push(byte);
                bytes.nth(1);
            }
            _ => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use linkspan_core::{ErrorKind, MASK};
    use serde_json::json;

    use super::*;

    fn redactor(value: Value) -> Redactor {
        Redactor::of(&Values::from_iter([("x".to_owned(), value)]))
    }

    /// Those that are published; elsewhere there may be more.
    fn vectors() -> Vec<Value> {
        let Some(shared) = std::env::var_os("LINKSPAN_SHARED") else { return vec![] };
        let sets = std::fs::read_dir(std::path::Path::new(&shared).join("vectors")).into_iter().flatten().flatten();
        let texts = sets.filter_map(|set| std::fs::read_to_string(set.path().join("redaction.json")).ok());
        texts.flat_map(|text| serde_json::from_str::<Vec<Value>>(&text).unwrap()).collect()
    }

    #[test]
    fn no_spelling_of_a_vectors_secret_survives() {
        for vector in vectors() {
            let redactor = redactor(vector["secret"].clone());
            for needle in vector["must_not_appear"].as_array().unwrap() {
                let needle = needle.as_str().unwrap();
                let shown = redactor.text(&format!("before {needle} after"));
                assert!(!shown.contains(needle) && shown.starts_with("before "), "{}: {shown}", vector["name"]);
            }
        }
    }

    #[test]
    fn a_secret_goes_in_every_spelling_and_with_any_user_before_it() {
        let secret = "p&ss w/rd+\"é";
        let redactor = redactor(json!(secret));
        let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        let mut texts = vec![secret.to_owned(), hex, serde_json::to_string(secret).unwrap(), "p%26ss%20w%2Frd%2B%22%C3%A9".into()];
        texts.extend(["a", "ab", "abc"].map(|user| base64::prelude::BASE64_STANDARD.encode(format!("{user}:{secret}"))));
        for text in texts {
            assert!(redactor.text(&format!("x {text} y")).contains(MASK), "{text}");
        }
        assert_eq!(redactor.text("nothing here"), "nothing here");
    }

    #[test]
    fn what_is_drawn_later_is_taken_out_from_then_on_by_every_clone() {
        let (drawn, first) = (Drawn::default(), redactor(json!("password-1")));
        let redactor = first.and(&drawn);
        let clone = redactor.clone();
        assert_eq!(clone.text("session-token-77 password-1"), format!("session-token-77 {MASK}"));
        drawn.add("session-token-77");
        drawn.add("short");
        assert_eq!(clone.text("session-token-77 password-1 short"), format!("{MASK} {MASK} short"));
        (0..MOST_DRAWN).for_each(|n| drawn.add(&format!("another-token-{n:04}")));
        assert_eq!(redactor.text("session-token-77 another-token-0063"), format!("session-token-77 {MASK}"), "a bounded number is known");
    }

    #[test]
    fn a_urls_password_goes_without_its_url() {
        let redactor = redactor(json!("postgres://u:p%40ssword@h/db"));
        let e =
            Error::new(ErrorKind::AuthFailed, "p@ssword is wrong").with("given", "p%40ssword").because(std::io::Error::other("p@ssword"));
        let clean = redactor.error(&e);
        assert!(!format!("{clean:?}{}", clean.to_json()).contains("ssword"), "{clean:?}");
    }
}
