//! One error for the whole house. A kind says what the caller can do about it.

use std::{borrow::Cow, fmt, time::Duration};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, named by the remedy. HTTP statuses and exit codes are derived from it in tables outside core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    ConfigInvalid,
    AuthFailed,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    /// Somebody else moved first: a stale fence, a commit on another number, two runs of one connection.
    Conflict,
    RateLimited,
    Timeout,
    Unavailable,
    Unsupported,
    SchemaDrift,
    DataInvalid,
    /// The source can no longer serve the position that the destination holds.
    PositionLost,
    /// No room at the destination: disk, quota, budget.
    StorageFull,
    SignatureInvalid,
    Canceled,
    Internal,
}

/// Whether trying the same thing again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Never,
    Backoff,
    After(Duration),
    /// A lower layer already retried and gave up; do not multiply its attempts.
    Exhausted,
}

/// What failed, what it means for the caller, and what the caller can do. Never holds a secret, a row's value or a body.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    retry: Retry,
    suggested_fix: Option<Cow<'static, str>>,
    docs_url: Option<Cow<'static, str>>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let retry = match kind {
            ErrorKind::RateLimited | ErrorKind::Timeout | ErrorKind::Unavailable => Retry::Backoff,
            _ => Retry::Never,
        };
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            retry,
            suggested_fix: None,
            docs_url: None,
            context: Vec::new(),
            source: None,
        }))
    }
    /// What the user can do about it, in the imperative.
    pub fn fix(mut self, fix: impl Into<Cow<'static, str>>) -> Self {
        self.0.suggested_fix = Some(fix.into());
        self
    }
    pub fn docs(mut self, url: impl Into<Cow<'static, str>>) -> Self {
        self.0.docs_url = Some(url.into());
        self
    }
    /// A fact that places the error: stream, table, file, line. Setting a key again keeps the first value, the one nearest to the cause.
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        if !self.0.context.iter().any(|(k, _)| *k == key) {
            self.0.context.push((key, value.to_string()));
        }
        self
    }
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
    pub fn message(&self) -> &str {
        &self.0.message
    }
    pub fn retry_hint(&self) -> Retry {
        self.0.retry
    }
    pub fn suggested_fix(&self) -> Option<&str> {
        self.0.suggested_fix.as_deref()
    }
    pub fn docs_url(&self) -> Option<&str> {
        self.0.docs_url.as_deref()
    }
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }
    /// The causes, outermost first, as plain text.
    pub fn causes(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut next = std::error::Error::source(self);
        while let Some(e) = next {
            out.push(e.to_string());
            next = e.source();
        }
        out
    }
    /// The shape every face shows: `{kind, message, suggested_fix?, docs_url?, context, causes?}`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut o = serde_json::Map::new();
        o.insert("kind".into(), serde_json::to_value(self.0.kind).unwrap_or_default());
        o.insert("message".into(), self.0.message.as_ref().into());
        if let Some(f) = self.suggested_fix() {
            o.insert("suggested_fix".into(), f.into());
        }
        if let Some(d) = self.docs_url() {
            o.insert("docs_url".into(), d.into());
        }
        let context: serde_json::Map<_, _> = self.0.context.iter().map(|(k, v)| ((*k).to_owned(), v.as_str().into())).collect();
        o.insert("context".into(), context.into());
        let causes = self.causes();
        if !causes.is_empty() {
            o.insert("causes".into(), causes.into());
        }
        o.into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (i, (k, v)) in self.0.context.iter().enumerate() {
            write!(f, "{}{k}={v}", if i == 0 { " [" } else { " " })?;
        }
        if !self.0.context.is_empty() {
            f.write_str("]")?;
        }
        Ok(())
    }
}
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        if let Some(fix) = self.suggested_fix() {
            write!(f, " (fix: {fix})")?;
        }
        if let Some(s) = &self.0.source {
            write!(f, " <- {s}")?;
        }
        Ok(())
    }
}
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_kind_fix_and_place() {
        let e = Error::new(ErrorKind::NotFound, "no such table").with("table", "a").with("table", "b").fix("run discover");
        assert_eq!(e.to_string(), "no such table [table=a]");
        assert_eq!(e.to_json()["kind"], "not_found");
        assert_eq!(e.to_json()["suggested_fix"], "run discover");
    }
}
