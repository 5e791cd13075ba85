//! The two languages that programs speak, where they differ: arguments, catalogs, lines.

use linkspan_core::{Result, Selected, Stream, StreamName};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{discovered, lines, lines::Said, singer};
use crate::protocol::Descriptor;

/// What the program speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Language {
    /// The Airbyte protocol.
    #[default]
    Airbyte,
    /// Singer: the program is a tap.
    Singer,
}

impl Language {
    /// What comes before the program's files.
    pub(super) fn verb(self, verb: &str) -> Option<String> {
        match self {
            Self::Airbyte => Some(verb.to_owned()),
            Self::Singer => (verb == "discover").then(|| "--discover".to_owned()),
        }
    }
    pub(super) fn parse(self, line: &[u8]) -> Option<Said> {
        match self {
            Self::Airbyte => lines::parse(line),
            Self::Singer => singer::parse(line),
        }
    }
    pub(super) fn name(self, described: &Value) -> Option<StreamName> {
        match self {
            Self::Airbyte => discovered::name(described),
            Self::Singer => singer::name(described),
        }
    }
    pub(super) fn stream(self, described: &Value) -> Result<Stream> {
        match self {
            Self::Airbyte => discovered::stream(described),
            Self::Singer => singer::stream(described),
        }
    }
    /// The catalog that asks for one stream.
    pub(super) fn asked(self, described: &Value, wanted: &Selected) -> Value {
        match self {
            Self::Airbyte => discovered::asked(described, wanted),
            Self::Singer => singer::asked(described, wanted),
        }
    }
    /// The names under which the stream's records come.
    pub(super) fn descriptors(self, described: &Value, name: &StreamName) -> Vec<Descriptor> {
        match self {
            Self::Airbyte => vec![discovered::descriptor(name)],
            Self::Singer => singer::descriptors(described),
        }
    }
}
