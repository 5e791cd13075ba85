//! Names: of streams, of connections, and of the scopes that a position is kept for.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind};

/// A stream's name; `Some("")` and `None` are different namespaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StreamName {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    pub name: Arc<str>,
}

impl StreamName {
    pub fn new(namespace: Option<&str>, name: &str) -> Self {
        Self { namespace: namespace.map(Into::into), name: name.into() }
    }
    /// `schema.table`, or `table` when there is no namespace. Split at the first dot; a name with dots needs `new`.
    pub fn parse(text: &str) -> Self {
        match text.split_once('.') {
            Some((ns, name)) => Self::new(Some(ns), name),
            None => Self::new(None, text),
        }
    }
}
impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(ns) => write!(f, "{ns}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Which connection a commit belongs to. It is stable over renames and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub uuid::Uuid);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a state is the state of. `Part` is a slice or a partition of a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Shared,
    Stream(StreamName),
    Part(StreamName, Arc<str>),
}

impl Scope {
    pub fn stream(&self) -> Option<&StreamName> {
        match self {
            Self::Shared => None,
            Self::Stream(s) | Self::Part(s, _) => Some(s),
        }
    }
}

/// A JSON array text, so that any name survives: `[]`, `[ns|null, name]`, `[ns|null, name, part]`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<Option<&str>> = match self {
            Self::Shared => vec![],
            Self::Stream(s) => vec![s.namespace.as_deref(), Some(&s.name)],
            Self::Part(s, p) => vec![s.namespace.as_deref(), Some(&s.name), Some(p)],
        };
        f.write_str(&serde_json::to_string(&parts).map_err(|_| fmt::Error)?)
    }
}
impl FromStr for Scope {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::new(ErrorKind::DataInvalid, "not a scope").with("scope", text);
        let parts: Vec<Option<String>> = serde_json::from_str(text).map_err(|e| bad().because(e))?;
        match parts.as_slice() {
            [] => Ok(Self::Shared),
            [ns, Some(name)] => Ok(Self::Stream(StreamName::new(ns.as_deref(), name))),
            [ns, Some(name), Some(part)] => Ok(Self::Part(StreamName::new(ns.as_deref(), name), part.as_str().into())),
            _ => Err(bad()),
        }
    }
}
impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_survive_any_name() {
        for scope in [
            Scope::Shared,
            Scope::Stream(StreamName::new(None, "a.b")),
            Scope::Stream(StreamName::new(Some(""), "x\"y")),
            Scope::Part(StreamName::new(Some("s"), "t"), "1/4".into()),
        ] {
            assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope);
        }
    }
}
