//! The records at the newest moment that was read. APIs give them again when they are asked for what is new since then.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
};

use linkspan_core::Result;
use serde_json::{Map, Value, json};

use super::written::foreign;
use crate::{
    cursor::{At, Cursor},
    record::Record,
    slice::Slice,
};

/// Beyond this many records at one moment they are not remembered, and come again.
const MOST_RECORDS: usize = 10_000;
const MOST_PARTITIONS: usize = 10_000;

/// By partition: the moment, and what its records are told apart by.
#[derive(Clone, Debug, Default)]
pub(super) struct Edge(BTreeMap<String, Newest>);

#[derive(Clone, Debug, Default)]
pub(super) struct Newest {
    at: Option<At>,
    seen: HashSet<u64>,
}

fn mark(record: &Record) -> u64 {
    let hash = blake3::hash(&record.text());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash is longer"))
}

pub(super) fn key(slice: &Slice) -> String {
    if slice.partition().is_empty() { String::new() } else { Value::Object(slice.partition().clone()).to_string() }
}

impl Newest {
    /// Notes a record.
    fn note(&mut self, at: At, record: &Record) {
        if self.at.is_none_or(|known| known < at) {
            self.at = Some(at);
            self.seen.clear();
        }
        if self.at == Some(at) && self.seen.len() < MOST_RECORDS {
            self.seen.insert(mark(record));
        }
    }
}

impl Edge {
    /// What an earlier run wrote.
    pub(super) fn read(written: Option<&Value>, cursor: &Cursor) -> Result<Self> {
        let (Some(Value::Object(parts)), Some(definition)) = (written, cursor.definition()) else { return Ok(Self::default()) };
        let mut edge = Self::default();
        for (key, newest) in parts {
            // A moment in another format belongs to an earlier manifest: its records come again.
            let Ok(at) = definition.dates.read(&newest["at"]) else { continue };
            let marks = newest["seen"].as_array().ok_or_else(foreign)?;
            let seen = marks.iter().map(|mark| mark.as_str().and_then(|mark| u64::from_str_radix(mark, 16).ok()).ok_or_else(foreign));
            edge.0.insert(key.clone(), Newest { at: Some(at), seen: seen.collect::<Result<_>>()? });
        }
        Ok(edge)
    }

    /// What the next run reads; of `many` partitions or more as the text of its JSON.
    pub(super) fn write(&self, cursor: &Cursor, many: usize) -> Value {
        let Some(definition) = cursor.definition() else { return Value::Null };
        let parts = self.0.iter().filter(|(_, newest)| newest.seen.len() < MOST_RECORDS).take(MOST_PARTITIONS);
        let written = parts.filter_map(|(key, newest)| {
            let mut seen: Vec<String> = newest.seen.iter().map(|mark| format!("{mark:016x}")).collect();
            seen.sort();
            Some((key.clone(), json!({"at": definition.dates.write(newest.at?), "seen": seen})))
        });
        if self.0.len() < many {
            return written.collect::<Map<_, _>>().into();
        }
        let mut text = String::from("{");
        for (at, (key, newest)) in written.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(text, "{comma}{}:{newest}", Value::from(key));
        }
        text.push('}');
        text.into()
    }

    /// The records that were not sent before; `newest` learns of all.
    pub(super) fn fresh(&self, key: &str, records: Vec<Record>, cursor: &Cursor, newest: &mut Newest) -> Vec<Record> {
        let Some(definition) = cursor.definition() else { return records };
        let known = self.0.get(key);
        let is_new = |record: &Record| {
            let at = record.field(&definition.field).and_then(|value| definition.dates.read(&value).ok());
            let Some(at) = at else { return true };
            newest.note(at, record);
            !known.is_some_and(|known| known.at == Some(at) && known.seen.contains(&mark(record)))
        };
        let mut is_new = is_new;
        records.into_iter().filter(|record| is_new(record)).collect()
    }

    /// A slice of the partition was read whole.
    pub(super) fn close(&mut self, key: &str, newest: Newest) {
        let Some(at) = newest.at else { return };
        if self.0.len() >= MOST_PARTITIONS && !self.0.contains_key(key) {
            return;
        }
        let known = self.0.entry(key.to_owned()).or_default();
        match known.at {
            Some(earlier) if earlier > at => {}
            Some(same) if same == at => known.seen.extend(newest.seen),
            _ => *known = newest,
        }
    }
}
