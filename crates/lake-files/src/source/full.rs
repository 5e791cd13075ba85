//! A full read of a table's files, or of the share of them that one lane gets.
//!
//! Its position is a file and a row group in the order of names, and a fingerprint of all files before it. When a file that was read
//! has since changed, gone or come, what was sent is no consistent read of the table any more: `PositionLost`, a new generation.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use linkspan_core::{Covers, Ended, Error, ErrorKind, Lane, Output, Position, Result, Scope, Selected, State, Stop, StreamName};
use serde::{Deserialize, Serialize};

use super::{
    files_of,
    reader::{DataFile, align},
};
use crate::{
    schema,
    storage::{Item, Storage},
};

const VERSION: u16 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "read", rename_all = "snake_case", deny_unknown_fields)]
enum At {
    /// Row groups before `group` of this file are sent, and all files before it.
    File {
        file: String,
        id: String,
        group: usize,
        before: String,
    },
    Done,
}

pub(crate) struct FullLane {
    storage: Arc<Storage>,
    stream: StreamName,
    schema: SchemaRef,
    lane: u64,
    lanes: u64,
    scope: Scope,
    from: Option<At>,
}

impl FullLane {
    pub fn new(storage: Arc<Storage>, selected: &Selected, lane: u64, lanes: u64, from: &Position) -> Result<Self> {
        let stream = selected.stream.name.clone();
        let scope = match lanes {
            1 if !from.contains_key(&Scope::Part(stream.clone(), "0/1".into())) => Scope::Stream(stream.clone()),
            _ => Scope::Part(stream.clone(), format!("{lane}/{lanes}").into()),
        };
        let from = from.get(&scope).filter(|s| !s.is_gone()).map(|s| parse(s, &stream)).transpose()?;
        Ok(Self { storage, stream, schema: selected.stream.schema.clone(), lane, lanes, scope, from })
    }

    /// This lane's files: each file belongs to one lane by its name, whatever other files there are.
    async fn files(&self) -> Result<Vec<Item>> {
        let mut files = files_of(&self.storage, &self.stream).await?;
        let mine = |item: &Item| {
            let hash = blake3::hash(item.path.as_bytes());
            let [a, b, ..] = *hash.as_bytes();
            u64::from(u16::from_be_bytes([a, b])) % self.lanes == self.lane
        };
        files.retain(mine);
        Ok(files)
    }

    /// Where to go on: (file, row group).
    fn resume(&self, files: &[Item]) -> Result<(usize, usize)> {
        let (file, id, group, before) = match &self.from {
            None => return Ok((0, 0)),
            Some(At::Done) => return Ok((files.len(), 0)),
            Some(At::File { file, id, group, before }) => (file, id, *group, before),
        };
        let at = files.iter().position(|f| f.path == *file).filter(|at| file_id(&files[*at]) == *id);
        match at {
            Some(at) if fingerprint(&files[..at]) == *before => Ok((at, group)),
            _ => Err(Error::new(ErrorKind::PositionLost, "the table's files changed since the read was interrupted")
                .with("stream", &self.stream)
                .with("file", file)
                .fix("run again: the table is read from its beginning")),
        }
    }
}

fn parse(state: &State, stream: &StreamName) -> Result<At> {
    let parsed = (state.version == VERSION).then(|| state.read());
    match parsed {
        Some(Ok(at)) => Ok(at),
        _ => Err(Error::new(ErrorKind::PositionLost, "the position is not one of a full read of these files")
            .with("stream", stream)
            .fix("`reset` the connection to read from the beginning")),
    }
}

/// What a file is, in one short text: it changes when the content does.
pub(super) fn file_id(item: &Item) -> String {
    let text = format!("{}\n{}\n{}", item.path, item.size, item.identity);
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

fn fingerprint(files: &[Item]) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(file_id(file).as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

#[async_trait]
impl Lane for FullLane {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.stream.clone()], scope: self.scope.clone(), after: Vec::new() }
    }

    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let files = self.files().await?;
        let (first, mut group) = self.resume(&files)?;
        let mut schema = self.schema.clone();
        for (at, item) in files.iter().enumerate().skip(first) {
            let file = DataFile::open(&self.storage, item).await?;
            schema = follow(out, &self.stream, schema, &file).await?;
            let before = fingerprint(&files[..at]);
            while group < file.groups() {
                if stop.requested() {
                    return Ok(Ended::Stopped);
                }
                let mut rows = file.group(group)?;
                while let Some(batch) = rows.next().await? {
                    out.rows(&self.stream, align(&batch, &schema, &file.name())?).await?;
                    if stop.requested() {
                        return Ok(Ended::Stopped);
                    }
                }
                group += 1;
                let at = At::File { file: item.path.clone(), id: file_id(item), group, before: before.clone() };
                out.checkpoint(&self.scope, state(&at)?).await?;
            }
            group = 0;
        }
        out.checkpoint(&self.scope, state(&At::Done)?).await?;
        Ok(Ended::Complete)
    }
}

/// A file that the schema does not cover widens it, before its first rows.
pub(super) async fn follow(out: &mut Output, stream: &StreamName, stands: SchemaRef, file: &DataFile) -> Result<SchemaRef> {
    let sum = schema::sum(&stands, &file.schema()).map_err(|e| e.with("file", file.name()))?;
    let covered = sum.fields().len() == stands.fields().len()
        && sum.fields().iter().zip(stands.fields()).all(|(a, b)| a.data_type() == b.data_type() && (a.is_nullable() == b.is_nullable()));
    if covered {
        return Ok(stands);
    }
    out.schema(stream, sum.clone()).await?;
    Ok(sum)
}

fn state(at: &At) -> Result<State> {
    let value = serde_json::to_value(at).map_err(|e| Error::new(ErrorKind::Internal, "the position cannot be written").because(e))?;
    Ok(State::new(VERSION, value))
}
