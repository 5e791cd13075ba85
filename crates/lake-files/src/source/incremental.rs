//! Rows that are new by a cursor column.
//!
//! A file never changes under its identity, so a row is new when its cursor is above the highest value that the last read saw, or at
//! it in a file that the last read did not see: ties are neither lost nor sent twice. Within one read (a pass) the position also
//! names the files that are done, so that an interrupted pass goes on at its row group.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use async_trait::async_trait;
use linkspan_core::{Covers, Ended, Error, ErrorKind, Lane, Output, Position, Repeats, Result, Scope, Selected, State, Stop, suggest};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use serde::{Deserialize, Serialize};

use super::{
    cursor::{High, Order, Ties, is_orderable},
    files_of,
    full::{file_id, follow},
    reader::{DataFile, align},
};
use crate::storage::{Item, Storage};

const VERSION: u16 = 1;

/// The highest cursor value seen, and the files that hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    high: Option<String>,
    at_high: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    column: String,
    /// What the last complete pass reached.
    low: Mark,
    pass: Option<Pass>,
}

/// A pass under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pass {
    done: Vec<String>,
    file: Option<String>,
    /// The next row group of `file`.
    group: usize,
    reached: Mark,
}

pub(crate) struct IncrementalLane {
    storage: Arc<Storage>,
    selected: Selected,
    column: String,
    scope: Scope,
    from: Option<At>,
}

impl IncrementalLane {
    pub fn new(storage: Arc<Storage>, selected: Selected, from: &Position) -> Result<Self> {
        let stream = selected.stream.name.clone();
        let column = selected.cursor.clone().ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "an incremental read of files needs a cursor column")
                .with("stream", &stream)
                .fix("name one: `--cursor updated_at`")
        })?;
        check_column(&selected, &column)?;
        let scope = Scope::Stream(stream);
        let from = from.get(&scope).filter(|s| !s.is_gone()).map(|s| parse(s, &column, &scope)).transpose()?;
        Ok(Self { storage, selected, column, scope, from })
    }

    /// Files that an interrupted pass has sent must still be what they were, unless a row sent twice is one row.
    fn check_sent(&self, pass: &Pass, files: &[Item]) -> Result<()> {
        let ids: std::collections::HashSet<String> = files.iter().map(file_id).collect();
        let all_there = pass.done.iter().chain(&pass.file).all(|id| ids.contains(id));
        if all_there || self.selected.repeats == Repeats::Folded {
            return Ok(());
        }
        Err(Error::new(ErrorKind::PositionLost, "files changed since the read was interrupted, and their rows were partly sent")
            .with("stream", &self.selected.stream.name)
            .fix("`reset` the connection, or write with `--write merge --key ...`, where a row sent twice is one row"))
    }
}

fn check_column(selected: &Selected, column: &str) -> Result<()> {
    let schema = &selected.stream.schema;
    let Ok(field) = schema.field_with_name(column) else {
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let fix = suggest::did_you_mean(column, names.iter().copied()).unwrap_or_else(|| format!("the columns are: {}", names.join(", ")));
        return Err(Error::new(ErrorKind::ConfigInvalid, "the stream has no such cursor column")
            .with("stream", &selected.stream.name)
            .with("cursor", column)
            .fix(fix));
    };
    if is_orderable(field.data_type()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "values of this type do not tell which row is newer")
        .with("stream", &selected.stream.name)
        .with("cursor", column)
        .with("type", field.data_type())
        .fix("choose a timestamp, date, integer, decimal or text column"))
}

fn parse(state: &State, column: &str, scope: &Scope) -> Result<At> {
    let parsed = (state.version == VERSION).then(|| state.read::<At>());
    match parsed {
        Some(Ok(at)) if at.column == column => Ok(at),
        _ => Err(Error::new(ErrorKind::PositionLost, "the position is not one of this cursor column")
            .with("stream", scope.stream().map(ToString::to_string).unwrap_or_default())
            .with("cursor", column)
            .fix("use the cursor column of the earlier runs, or `reset` the connection")),
    }
}

/// One read under way.
struct Reading<'a> {
    lane: &'a IncrementalLane,
    order: Order,
    low: Option<High>,
    low_mark: Mark,
    reached: Option<High>,
    pass: Pass,
}

impl Reading<'_> {
    fn ties(&self, id: &str) -> Ties {
        if self.low_mark.at_high.iter().any(|known| known == id) { Ties::Skip } else { Ties::Count }
    }

    /// By the statistics of a row group: whether it may hold a row that counts.
    fn may_count(&self, maxima: Option<&ArrayRef>, group: usize, id: &str) -> Result<bool> {
        let (Some(low), Some(maxima)) = (&self.low, maxima) else { return Ok(true) };
        let Some(bound) = self.order.bound(&maxima.slice(group, 1))? else { return Ok(true) };
        Ok(bound > *low || (bound == *low && self.ties(id) == Ties::Count))
    }

    fn reach(&mut self, high: High, id: &str) -> Result<()> {
        let above = self.reached.as_ref().is_none_or(|r| high > *r);
        if above {
            self.pass.reached = Mark { high: Some(self.order.text(&high)?), at_high: vec![id.to_owned()] };
            self.reached = Some(high);
        } else if self.reached.as_ref() == Some(&high) && !self.pass.reached.at_high.iter().any(|known| known == id) {
            self.pass.reached.at_high.push(id.to_owned());
        }
        Ok(())
    }

    /// Sends what counts of one file, from the row group where an earlier pass stopped.
    async fn file(&mut self, item: &Item, id: &str, schema: &mut SchemaRef, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let (stream, column) = (&self.lane.selected.stream.name, &self.lane.column);
        let first = if self.pass.file.as_deref() == Some(id) { self.pass.group } else { 0 };
        let file = DataFile::open(&self.lane.storage, item).await?;
        *schema = follow(out, stream, schema.clone(), &file).await?;
        let cursor_type = schema.field_with_name(column).map_err(|_| missing(column))?.data_type();
        if cursor_type != self.order.data_type() {
            return Err(retyped(column, &file.name()));
        }
        let maxima = maxima(&file, column, cursor_type);
        for group in first..file.groups() {
            if !self.may_count(maxima.as_ref(), group, id)? {
                continue;
            }
            let mut rows = file.group(group)?;
            while let Some(batch) = rows.next().await? {
                if stop.requested() {
                    return Ok(Ended::Stopped);
                }
                let counted = self.counted(&align(&batch, schema, &file.name())?, id)?;
                out.rows(stream, counted).await?;
            }
            (self.pass.file, self.pass.group) = (Some(id.to_owned()), group + 1);
            out.checkpoint(&self.lane.scope, self.state()?).await?;
        }
        Ok(Ended::Complete)
    }

    /// The rows that are new.
    fn counted(&mut self, batch: &RecordBatch, id: &str) -> Result<RecordBatch> {
        let column = batch.column_by_name(&self.lane.column).ok_or_else(|| missing(&self.lane.column))?;
        let (mask, high) = self.order.above(column, self.low.as_ref(), self.ties(id))?;
        if let Some(high) = high {
            self.reach(high, id)?;
        }
        filter_record_batch(batch, &mask).map_err(|e| Error::new(ErrorKind::Internal, "the rows cannot be filtered").because(e))
    }

    fn state(&self) -> Result<State> {
        state(&At { column: self.lane.column.clone(), low: self.low_mark.clone(), pass: Some(self.pass.clone()) })
    }
}

/// The maxima of a file's row groups in the stream's own type; nothing where they are missing or cut short.
fn maxima(file: &DataFile, column: &str, order: &arrow_schema::DataType) -> Option<ArrayRef> {
    // A text bound may be cut short, which only makes it larger; but other tools cut it both ways, so text is not judged by it.
    if matches!(order, arrow_schema::DataType::Utf8) {
        return None;
    }
    let footer = file.footer();
    let converter = StatisticsConverter::try_new(column, footer.schema(), footer.parquet_schema()).ok()?;
    let maxima = converter.row_group_maxes(footer.metadata().row_groups().iter()).ok()?;
    arrow_cast::cast(&maxima, order).ok()
}

#[async_trait]
impl Lane for IncrementalLane {
    fn covers(&self) -> Covers {
        Covers { streams: vec![self.selected.stream.name.clone()], scope: self.scope.clone(), after: Vec::new() }
    }

    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let files = files_of(&self.storage, &self.selected.stream.name).await?;
        let mut schema = self.selected.stream.schema.clone();
        let cursor_type = schema.field_with_name(&self.column).map_err(|_| missing(&self.column))?.data_type().clone();
        let mut reading = self.begin(&files, &cursor_type)?;
        for item in &files {
            let id = file_id(item);
            if reading.pass.done.contains(&id) {
                continue;
            }
            let ended = reading.file(item, &id, &mut schema, out, stop).await.map_err(|e| match e.kind() {
                // Where the read stands is still known: the next one lists the files anew and judges whether it can go on.
                ErrorKind::PositionLost => {
                    Error::new(ErrorKind::Unavailable, "a file was replaced while it was read").fix("run again").because(e)
                }
                _ => e,
            })?;
            if ended == Ended::Stopped {
                return Ok(Ended::Stopped);
            }
            reading.pass.done.push(id);
            (reading.pass.file, reading.pass.group) = (None, 0);
        }
        let at = At { column: self.column.clone(), low: reading.pass.reached.clone(), pass: None };
        out.checkpoint(&self.scope, state(&at)?).await?;
        Ok(Ended::Complete)
    }
}

impl IncrementalLane {
    fn begin(&self, files: &[Item], cursor_type: &arrow_schema::DataType) -> Result<Reading<'_>> {
        let order = Order::new(cursor_type)?;
        let low_mark = self.from.as_ref().map(|f| f.low.clone()).unwrap_or_default();
        let pass = match self.from.as_ref().and_then(|f| f.pass.clone()) {
            Some(pass) => {
                self.check_sent(&pass, files)?;
                pass
            }
            None => Pass { reached: low_mark.clone(), ..Pass::default() },
        };
        let value = |mark: &Mark| mark.high.as_deref().map(|text| order.parse(text)).transpose();
        let (low, reached) = (value(&low_mark)?, value(&pass.reached)?);
        Ok(Reading { lane: self, order, low, low_mark, reached, pass })
    }
}

fn missing(column: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the stream has no such cursor column").with("cursor", column).fix("discover the stream again")
}

fn retyped(column: &str, file: &str) -> Error {
    Error::new(ErrorKind::SchemaDrift, "the cursor column has another type in this file")
        .with("cursor", column)
        .with("file", file)
        .fix("run again: discovery reads the file now and widens the type")
}

fn state(at: &At) -> Result<State> {
    let value = serde_json::to_value(at).map_err(|e| Error::new(ErrorKind::Internal, "the position cannot be written").because(e))?;
    Ok(State::new(VERSION, value))
}
