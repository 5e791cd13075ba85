//! One table's flow: a read transaction on a thread of its own, in an order that a later read can go on from.

use std::collections::HashSet;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use linkspan_core::{
    Changes, Covers, Ended, Error, ErrorKind, Lane, Output, ReadMode, Repeats, Result, Rows, Scope, Selected, State, Stop, StreamName,
    suggest,
};
use rusqlite::{
    Connection, InterruptHandle, Row, ToSql,
    types::{ToSqlOutput, Value, ValueRef},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    columns::{Decoder, select_list},
    discover::{self, Order, Relation, orders},
    file::{Database, quoted, sql_error, stands},
};
use crate::blocking::blocking;

const VERSION: u16 = 1;
const BATCH_BYTES: usize = 4 << 20;
/// How many keys of the last cursor value a state holds, so that later rows of the same value are told from those that were sent.
const MOST_TIES: usize = 1_000;

/// A value as SQLite orders it, in a form that JSON keeps exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Cell {
    Null,
    Int(i64),
    /// The bits: JSON's decimal form of a double need not read back the same.
    Real(u64),
    Text(String),
    Blob(Vec<u8>),
}

/// How far a read has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// The cursor column; absent in a full read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    column: Option<String>,
    /// The cursor value reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<Cell>,
    /// The order key of the last row sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    after: Vec<Cell>,
    /// Keys of rows sent that hold the cursor value reached; absent when they are too many to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ties: Option<Vec<Vec<Cell>>>,
    /// A full read that came to its end.
    #[serde(default)]
    done: bool,
    /// What the file was when a full read began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

pub(super) struct SqliteLane {
    file: Database,
    selected: Selected,
    batch_rows: usize,
    from: Option<Place>,
}

impl SqliteLane {
    pub fn new(file: Database, selected: Selected, batch_rows: usize, state: Option<State>) -> Result<Self> {
        let from = state.map(|s| place_of(&s, &selected)).transpose().map_err(|e| e.with("stream", &selected.stream.name))?;
        Ok(Self { file, selected, batch_rows, from })
    }
}

fn place_of(state: &State, selected: &Selected) -> Result<Place> {
    let unknown = || Error::new(ErrorKind::DataInvalid, "the state is not one of this source").fix("reset the connection");
    if state.version != VERSION {
        return Err(unknown().with("version", state.version));
    }
    let place: Place = state.read().map_err(|_| unknown())?;
    let column = (selected.read == ReadMode::Incremental).then_some(selected.cursor.as_ref()).flatten();
    if place.column.as_ref() != column {
        return Err(Error::new(ErrorKind::PositionLost, "the position belongs to another way of reading this stream")
            .with("cursor", place.column.as_deref().unwrap_or("none"))
            .fix("read as before, or reset the connection"));
    }
    Ok(place)
}

/// What the reading thread says.
enum Piece {
    Schema(SchemaRef),
    Rows(RecordBatch, Changes),
    Checkpoint(Place),
}

/// Stops a statement that is still running when nobody waits for it any more.
struct Interrupt(InterruptHandle);

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

#[async_trait]
impl Lane for SqliteLane {
    fn covers(&self) -> Covers {
        let stream = self.selected.stream.name.clone();
        Covers { streams: vec![stream.clone()], scope: Scope::Stream(stream), after: vec![] }
    }
    async fn read(self: Box<Self>, out: &mut Output, stop: &Stop) -> Result<Ended> {
        let stream = self.selected.stream.name.clone();
        let file = self.file.clone();
        let db = blocking(move || file.reader()).await?;
        let _interrupt = Interrupt(db.get_interrupt_handle());
        let (pieces, mut inbox) = mpsc::channel(2);
        let place = self.file.path.display().to_string();
        let thread = blocking(move || Scan::start(&self, &db)?.run(&db, &pieces).map_err(|e| e.with("path", place)));
        let thread = tokio::spawn(thread);
        while let Some(piece) = inbox.recv().await {
            match piece {
                Piece::Schema(schema) => out.schema(&stream, schema).await?,
                Piece::Rows(rows, changes) => out.batch(&stream, Rows::Arrow(rows), changes).await?,
                Piece::Checkpoint(place) => {
                    out.checkpoint(&Scope::Stream(stream.clone()), state(&place)?).await?;
                    if stop.requested() {
                        return Ok(Ended::Stopped);
                    }
                }
            }
        }
        let ended = thread.await.map_err(|e| Error::new(ErrorKind::Internal, "the reading thread failed").because(e))?;
        ended.map_err(|e| e.with("stream", &stream))?;
        Ok(Ended::Complete)
    }
}

fn state(place: &Place) -> Result<State> {
    let value = serde_json::to_value(place).map_err(|e| Error::new(ErrorKind::Internal, "the state cannot be written").because(e))?;
    Ok(State::new(VERSION, value))
}

/// A read under way.
struct Scan {
    stream: StreamName,
    relation: Relation,
    announced: SchemaRef,
    place: Place,
    batch_rows: usize,
    /// Rows of the cursor value `place.cursor` that an earlier read has sent.
    sent: HashSet<Vec<Cell>>,
    finished: bool,
}

impl Scan {
    fn start(lane: &SqliteLane, db: &Connection) -> Result<Self> {
        let name = &lane.selected.stream.name;
        db.execute_batch("BEGIN").map_err(sql_error)?;
        if !stands(db, &name.name).map_err(sql_error)? {
            return Err(Error::new(ErrorKind::NotFound, "the table is not there").with("stream", name).fix("run discover to see what is"));
        }
        let relation = discover::describe(db, &name.name).map_err(sql_error)?;
        let identity = lane.file.identity()?;
        let place = match lane.selected.read {
            ReadMode::Full => full_place(lane, identity)?,
            ReadMode::Incremental => incremental_place(lane, &relation)?,
            ReadMode::Cdc => {
                return Err(
                    Error::new(ErrorKind::Unsupported, "SQLite keeps no log of changes").fix("read with --mode incremental or full")
                );
            }
        };
        let finished = place.done;
        let sent = place.ties.iter().flatten().cloned().collect();
        Ok(Self {
            stream: name.clone(),
            relation,
            announced: lane.selected.stream.schema.clone(),
            place,
            batch_rows: lane.batch_rows,
            sent,
            finished,
        })
    }
    fn run(mut self, db: &Connection, pieces: &mpsc::Sender<Piece>) -> Result<()> {
        if self.finished {
            return say(pieces, Piece::Checkpoint(self.place));
        }
        let mut decoder = Decoder::new(&self.relation.columns);
        self.announce(decoder.schema(), pieces)?;
        let (sql, parameters) = self.query();
        let lead = self.lead();
        let mut statement = db.prepare(&sql).map_err(sql_error)?;
        let mut rows = statement.query(rusqlite::params_from_iter(parameters)).map_err(sql_error)?;
        while let Some(row) = rows.next().map_err(sql_error)? {
            let (cursor, key) = self.lead_cells(row)?;
            if cursor.is_some() && cursor == self.place.cursor && self.sent.contains(&key) {
                continue;
            }
            while let Some(column) = decoder.push(row, lead).map_err(sql_error)? {
                self.flush(&mut decoder, pieces)?;
                decoder.widen(column);
                self.announce(decoder.schema(), pieces)?;
            }
            self.reach(cursor, key);
            if decoder.rows() >= self.batch_rows || decoder.bytes() >= BATCH_BYTES {
                self.flush(&mut decoder, pieces)?;
                if self.relation.order != Order::None {
                    say(pieces, Piece::Checkpoint(self.place.clone()))?;
                }
            }
        }
        self.flush(&mut decoder, pieces)?;
        self.place.done = self.place.column.is_none();
        say(pieces, Piece::Checkpoint(self.place))
    }
    fn announce(&mut self, schema: SchemaRef, pieces: &mpsc::Sender<Piece>) -> Result<()> {
        if schema != self.announced {
            self.announced = schema.clone();
            say(pieces, Piece::Schema(schema))?;
        }
        Ok(())
    }
    fn flush(&self, decoder: &mut Decoder, pieces: &mpsc::Sender<Piece>) -> Result<()> {
        let (rows, changes) = decoder.take().map_err(|e| e.with("stream", &self.stream))?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        say(pieces, Piece::Rows(rows, changes))
    }
    /// Moves the place behind a row.
    fn reach(&mut self, cursor: Option<Cell>, key: Vec<Cell>) {
        if cursor.is_some() {
            if cursor != self.place.cursor {
                self.sent.clear();
                self.place.ties = Some(Vec::new());
                self.place.cursor = cursor;
            }
            match &mut self.place.ties {
                Some(ties) if ties.len() < MOST_TIES => ties.push(key.clone()),
                ties => *ties = None,
            }
        }
        self.place.after = key;
    }
    /// How many columns of the select come before the stream's own.
    fn lead(&self) -> usize {
        usize::from(self.place.column.is_some()) + self.order_columns().len()
    }
    fn lead_cells(&self, row: &Row<'_>) -> Result<(Option<Cell>, Vec<Cell>)> {
        let cell = |i| row.get_ref(i).map(Cell::of).map_err(sql_error);
        let with_cursor = self.place.column.is_some();
        let cursor = if with_cursor { Some(cell(0)?) } else { None };
        let key: Result<Vec<Cell>> = (usize::from(with_cursor)..self.lead()).map(cell).collect();
        Ok((cursor, key?))
    }
    /// The columns of the order, as SQL.
    fn order_columns(&self) -> Vec<String> {
        match &self.relation.order {
            Order::Rowid(alias) => vec![(*alias).to_owned()],
            Order::Key(columns) => columns.iter().map(|c| quoted(c)).collect(),
            Order::None => vec![],
        }
    }
    fn cursor_sql(&self) -> Option<String> {
        let column = self.place.column.as_ref()?;
        let stored = self.relation.columns.iter().find(|c| c.field.name() == column)?;
        // A column's own collation may call different texts equal; the order of bytes never does.
        Some(format!("{} COLLATE BINARY", quoted(&stored.stored)))
    }
    fn query(&self) -> (String, Vec<Cell>) {
        let keys = self.order_columns();
        let cursor = self.cursor_sql();
        let lead: Vec<String> = cursor.iter().chain(&keys).cloned().collect();
        let (condition, parameters) = self.condition(cursor.as_deref(), &keys);
        let select = if lead.is_empty() { String::new() } else { format!("{}, ", lead.join(", ")) };
        let order = if lead.is_empty() { String::new() } else { format!(" ORDER BY {}", lead.join(", ")) };
        let columns = select_list(&self.relation.columns);
        (format!("SELECT {select}{columns} FROM {}{condition}{order}", quoted(&self.relation.name)), parameters)
    }
    /// Rows behind the place.
    fn condition(&self, cursor: Option<&str>, keys: &[String]) -> (String, Vec<Cell>) {
        let places = |from: usize, n: usize| (from..from + n).map(|i| format!("?{i}")).collect::<Vec<_>>().join(", ");
        let behind_key = |from: usize| format!("({}) > ({})", keys.join(", "), places(from, keys.len()));
        let after = &self.place.after;
        match (cursor, &self.place.cursor) {
            (None, _) if after.is_empty() => (String::new(), vec![]),
            (None, _) => (format!(" WHERE {}", behind_key(1)), after.clone()),
            (Some(_), None) => (String::new(), vec![]),
            (Some(c), Some(Cell::Null)) if keys.is_empty() => (format!(" WHERE {c} IS NOT NULL"), vec![]),
            (Some(c), Some(Cell::Null)) => (format!(" WHERE ({c} IS NULL AND {}) OR {c} IS NOT NULL", behind_key(1)), after.clone()),
            (Some(c), Some(reached)) if keys.is_empty() => (format!(" WHERE {c} > ?1"), vec![reached.clone()]),
            (Some(c), Some(reached)) if self.place.ties.is_some() => (format!(" WHERE {c} >= ?1"), vec![reached.clone()]),
            (Some(c), Some(reached)) => {
                let parameters = std::iter::once(reached).chain(after).cloned().collect();
                (format!(" WHERE {c} > ?1 OR ({c} = ?1 AND {})", behind_key(2)), parameters)
            }
        }
    }
}

/// Where a full read starts. Rows that may not be sent twice are gone on with only while the file is still the same.
fn full_place(lane: &SqliteLane, identity: String) -> Result<Place> {
    let fresh = Place { column: None, cursor: None, after: vec![], ties: None, done: false, file: Some(identity) };
    let Some(from) = &lane.from else { return Ok(fresh) };
    if !from.done && lane.selected.repeats == Repeats::Kept && from.file != fresh.file {
        return Err(Error::new(ErrorKind::PositionLost, "the database changed while the full read was interrupted")
            .with("stream", &lane.selected.stream.name)
            .fix("run it again: the read starts anew"));
    }
    Ok(from.clone())
}

fn incremental_place(lane: &SqliteLane, relation: &Relation) -> Result<Place> {
    let known = || relation.columns.iter().map(|c| c.field.name().as_str());
    let wanted = lane.selected.cursor.as_deref().unwrap_or_default();
    let Some(column) = relation.columns.iter().find(|c| c.field.name() == wanted) else {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the cursor column is not in the table").with("column", wanted).fix(
            suggest::did_you_mean(wanted, known()).unwrap_or_else(|| "name a column that rises with every change, with --cursor".into()),
        ));
    };
    if !orders(&column.field) {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the cursor column's type has no order that can be read on from")
            .with("column", wanted)
            .with("type", column.field.data_type())
            .fix("choose a column of numbers or times"));
    }
    Ok(lane.from.clone().unwrap_or(Place {
        column: Some(wanted.to_owned()),
        cursor: None,
        after: vec![],
        ties: None,
        done: false,
        file: None,
    }))
}

fn say(pieces: &mpsc::Sender<Piece>, piece: Piece) -> Result<()> {
    pieces.blocking_send(piece).map_err(|_| Error::new(ErrorKind::Canceled, "the run stopped"))
}

impl Cell {
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(n) => Self::Int(n),
            // SQLite holds 1 and 1.0 equal; so must the cells.
            ValueRef::Real(x) if x.fract() == 0.0 && x.abs() < 9e15 => Self::Int(x as i64),
            ValueRef::Real(x) => Self::Real(x.to_bits()),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::Blob(text.to_vec()),
            },
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Int(n) => ToSqlOutput::Owned(Value::Integer(*n)),
            Self::Real(bits) => ToSqlOutput::Owned(Value::Real(f64::from_bits(*bits))),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}
