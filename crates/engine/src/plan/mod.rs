//! A plan: which streams are read how, and where their rows go. Pure decisions over what was discovered.

mod choice;
mod select;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use linkspan_core::{
    Capability, Cursor, Error, ErrorKind, ReadMode, Repeats, Result, Selected, Stream, StreamName, Swap, Target, WriteMode, suggest,
};
use serde::{Deserialize, Serialize};

pub use choice::{Choice, Own};
pub use select::matches;

use crate::run::Assignment;

/// Cursor columns that are taken without being named, best first.
const USUAL_CURSORS: [&str; 4] = ["updated_at", "modified_at", "last_modified", "_updated_at"];

/// What the user asked for, as the CLI and project files say it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// Names or patterns (`public.*`, `orders`, `*`), each with what differs for it; empty means all.
    pub streams: Vec<Choice>,
    pub mode: Option<ReadMode>,
    pub cursor: Option<String>,
    pub write: Option<WriteMode>,
    pub key: Vec<String>,
    /// Another name for the target: a table for one stream, `schema.*` or `schema` for several.
    pub target: Option<String>,
    pub swap: Swap,
}

/// The plan, and what the user should know about it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub assignments: Vec<Assignment>,
    pub notes: Vec<String>,
}

/// Resolves patterns, modes, cursors, keys and targets (DESIGN section 6, "Settled").
pub fn plan(discovered: &[Stream], request: &Request, capability: &Capability) -> Result<Plan> {
    let chosen = select::select(discovered, &request.streams)?;
    let several = chosen.len() > 1 || request.streams.is_empty() || request.streams.iter().any(|c| c.name.contains('*'));
    let mut notes = Vec::new();
    if request.cursor.is_some() && request.mode.unwrap_or(ReadMode::Full) == ReadMode::Full {
        notes.push("a full read uses no cursor: add --mode incremental to read only what is new".to_owned());
    }
    let mut assignments = Vec::with_capacity(chosen.len());
    for stream in chosen {
        let (request, alone) = request.of(&stream.name);
        let target = target(stream, request.target.as_deref(), several && !alone)?;
        assignments.push(assign(stream, &request, capability, target, &mut notes).map_err(|e| e.with("stream", &stream.name))?);
    }
    one_stream_per_target(&assignments)?;
    Ok(Plan { assignments, notes })
}

fn assign(stream: &Stream, request: &Request, capability: &Capability, target: Target, notes: &mut Vec<String>) -> Result<Assignment> {
    let (read, cursor) = read_mode(stream, request, notes)?;
    let key = if request.key.is_empty() { stream.key.clone() } else { request.key.clone() };
    columns_exist(stream, &key, "key")?;
    let write = write_mode(stream, request, capability, read, &key, notes)?;
    let repeats = if write == WriteMode::Merge { Repeats::Folded } else { Repeats::Kept };
    // An appended table holds several rows of one key, so no key is asked of it.
    let key = if write == WriteMode::Append { Vec::new() } else { key };
    let selected = Selected { stream: stream.clone(), read, cursor, repeats };
    Ok(Assignment { selected, target, write, key, swap: request.swap })
}

fn read_mode(stream: &Stream, request: &Request, notes: &mut Vec<String>) -> Result<(ReadMode, Option<String>)> {
    match request.mode.unwrap_or(ReadMode::Full) {
        ReadMode::Full => Ok((ReadMode::Full, None)),
        ReadMode::Cdc => Ok((ReadMode::Cdc, None)),
        ReadMode::Incremental => match cursor(stream, request.cursor.as_deref())? {
            Some(cursor) => Ok((ReadMode::Incremental, cursor)),
            None => {
                notes.push(format!("{} has no column that could be its cursor: it is read in full every time", stream.name));
                Ok((ReadMode::Full, None))
            }
        },
    }
}

/// The cursor of an incremental read: a column, the source's own (`Some(None)`), or none at all.
fn cursor(stream: &Stream, named: Option<&str>) -> Result<Option<Option<String>>> {
    let Some(named) = named else {
        return Ok(match &stream.cursor {
            Cursor::SourceDefined => Some(None),
            Cursor::None => None,
            Cursor::Columns(columns) => USUAL_CURSORS.iter().find(|u| columns.iter().any(|c| c == *u)).map(|u| Some((*u).to_owned())),
        });
    };
    columns_exist(stream, std::slice::from_ref(&named.to_owned()), "cursor")?;
    match &stream.cursor {
        Cursor::SourceDefined => Ok(Some(Some(named.to_owned()))),
        Cursor::Columns(columns) if columns.iter().any(|c| c == named) => Ok(Some(Some(named.to_owned()))),
        Cursor::Columns(columns) => {
            let fix = match columns.as_slice() {
                [] => "read it with --mode full".to_owned(),
                some => format!("columns that can be a cursor here: {}", some.join(", ")),
            };
            Err(Error::new(ErrorKind::ConfigInvalid, "this column cannot be a cursor: its values have no order to go on from")
                .with("column", named)
                .fix(fix))
        }
        Cursor::None => {
            Err(Error::new(ErrorKind::Unsupported, "this stream can only be read in full").with("column", named).fix("use --mode full"))
        }
    }
}

fn write_mode(
    stream: &Stream,
    request: &Request,
    capability: &Capability,
    read: ReadMode,
    key: &[String],
    notes: &mut Vec<String>,
) -> Result<WriteMode> {
    let can = |mode| capability.modes.contains(&mode);
    let write = match request.write {
        Some(asked) => asked,
        None if read == ReadMode::Full && can(WriteMode::Replace) => WriteMode::Replace,
        None if read == ReadMode::Full => {
            notes.push(format!("this destination cannot replace: every full read of {} is appended", stream.name));
            WriteMode::Append
        }
        None if key.is_empty() => {
            notes.push(format!("{} has no key: its changes are appended (name one with --key to merge)", stream.name));
            WriteMode::Append
        }
        None if can(WriteMode::Merge) => WriteMode::Merge,
        None => {
            notes.push(format!("this destination cannot merge: changes of {} are appended", stream.name));
            WriteMode::Append
        }
    };
    if !can(write) {
        let known: Vec<&str> = capability.modes.iter().map(|m| word(*m)).collect();
        return Err(Error::new(ErrorKind::Unsupported, format!("this destination cannot {}", word(write)))
            .fix(format!("use --write {}", known.join(" or --write "))));
    }
    match write {
        WriteMode::Replace if read != ReadMode::Full => {
            Err(Error::new(ErrorKind::ConfigInvalid, "a replace needs the whole stream, and this read brings only changes")
                .fix("use --mode full with --write replace, or --write merge"))
        }
        WriteMode::Merge if key.is_empty() => Err(Error::new(ErrorKind::ConfigInvalid, "a merge needs a key, and the stream has none")
            .fix("name its columns with --key, or use --write append")),
        write => Ok(write),
    }
}

fn word(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Append => "append",
        WriteMode::Replace => "replace",
        WriteMode::Merge => "merge",
    }
}

fn columns_exist(stream: &Stream, columns: &[String], role: &'static str) -> Result<()> {
    for column in columns {
        if stream.schema.field_with_name(column).is_ok() {
            continue;
        }
        let known = || stream.schema.fields().iter().map(|f| f.name().as_str());
        let fix = suggest::did_you_mean(column, known())
            .unwrap_or_else(|| format!("its columns are: {}", known().take(30).collect::<Vec<_>>().join(", ")));
        return Err(Error::new(ErrorKind::ConfigInvalid, format!("the {role} column is not in the stream"))
            .with("column", column)
            .fix(fix));
    }
    Ok(())
}

/// `schema.table` or `table` for one stream; `schema.*`, `schema.` or `schema` for several.
fn target(stream: &Stream, asked: Option<&str>, several: bool) -> Result<Target> {
    let Some(asked) = asked else { return Ok(Target::from(&stream.name)) };
    let invalid =
        |message: &'static str, fix: &'static str| Err(Error::new(ErrorKind::ConfigInvalid, message).with("target", asked).fix(fix));
    let within = |schema: &str| Ok(Target { namespace: Some(schema.into()), name: stream.name.name.clone() });
    match asked.split_once('.') {
        _ if asked.is_empty() || asked.starts_with('.') => invalid("the target has no name", "write --target schema.table"),
        Some((schema, "" | "*")) => within(schema),
        Some(_) if several => {
            invalid("several streams cannot go into one table", "name only the schema: --target 'schema.*'; or name one stream")
        }
        None if several => within(asked),
        Some((schema, table)) => Ok(Target { namespace: Some(schema.into()), name: table.into() }),
        None => Ok(Target { namespace: None, name: asked.into() }),
    }
}

fn one_stream_per_target(assignments: &[Assignment]) -> Result<()> {
    let mut taken: BTreeMap<&Target, &StreamName> = BTreeMap::new();
    for assignment in assignments {
        let name = &assignment.selected.stream.name;
        if let Some(other) = taken.insert(&assignment.target, name) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "two streams would be written to one target")
                .with("target", &assignment.target)
                .with("streams", format!("{other}, {name}"))
                .fix("sync them one by one, each with its own --target"));
        }
    }
    Ok(())
}
