//! Cuts a full read into parts by ranges of the key, and takes up the parts of a read that was broken off.

use std::{collections::BTreeMap, sync::Arc};

use linkspan_core::{Error, ErrorKind, Repeats, Result, Scope};

use super::{
    catalog::{Column, Kind, Table},
    keys::{asked, is_sliceable},
    reading::Subject,
    server::Flavor,
    sql::{ident, literal},
    states::{PartState, Standing},
    wire::Wire,
};

/// A chunk is read by one SELECT and ends with a checkpoint.
const CHUNK_BYTES: u64 = 16 << 20;
const CHUNK_ROWS: std::ops::RangeInclusive<u64> = 1_000..=100_000;
/// So many parts of a big table are read at once when nobody says how many.
pub(super) const READERS: u16 = 4;
const DOING: &str = "cutting the table";

pub(super) type Old = BTreeMap<Arc<str>, PartState>;

/// How a table is cut.
pub(super) struct Cut {
    pub by: Option<Column>,
    pub chunk: u64,
    pub parts: Vec<(Scope, PartState)>,
}

/// The column that a table is cut by: the first of its key.
pub(super) fn slicing(table: &Table) -> Option<&Column> {
    table.column(table.key.first()?).filter(|c| is_sliceable(c))
}

/// Into how many parts a table of so many rows is cut.
pub(super) fn slice_count(table: &Table, wanted: Option<u16>) -> u16 {
    if slicing(table).is_none() {
        return 1;
    }
    let by_size = match table.rows.unwrap_or(0) {
        ..100_000 => 1,
        100_000..1_000_000 => 2,
        _ => READERS,
    };
    wanted.unwrap_or(by_size).clamp(1, 64)
}

pub(super) struct Cutter<'a> {
    pub table: &'a Table,
    pub subject: &'a Subject,
    pub slices: u16,
    pub seen: Standing,
    /// The cursor's value that an initial load stays below.
    pub below: Option<String>,
}

impl Cutter<'_> {
    /// The parts of a read that begins, as this session sees the table.
    pub async fn fresh(&self, wire: &mut Wire) -> Result<Cut> {
        let by = slicing(self.table).cloned();
        let bounds = match &by {
            Some(by) if self.slices > 1 => self.bounds(by, wire).await?,
            _ => Vec::new(),
        };
        let first = PartState {
            by: by.as_ref().map(|c| c.name.clone()),
            bounds,
            after: None,
            to: None,
            done: false,
            seen: self.seen.clone(),
            below: self.below.clone(),
        };
        Ok(self.parts(by, &first, &Old::new()))
    }

    /// The parts of a read that was broken off, where they were.
    pub fn taken_up(&self, old: &Old, known: &PartState) -> Result<Cut> {
        let sliceable = |name: &String| self.table.column(name).filter(|c| is_sliceable(c)).cloned();
        let by = known.by.as_ref().map(|name| sliceable(name).ok_or_else(|| lost("the table's key is another one now"))).transpose()?;
        if by.is_none() && known.below.is_none() && !known.done {
            return Err(lost("a table that can only be read in one piece was not read to its end"));
        }
        Ok(self.parts(by, known, old))
    }

    fn parts(&self, by: Option<Column>, like: &PartState, old: &Old) -> Cut {
        let slices = like.bounds.len() + 1;
        let part = |i: usize| {
            let label = format!("{}/{slices}", i + 1);
            let begins = || PartState {
                after: i.checked_sub(1).and_then(|i| like.bounds.get(i).cloned()),
                to: like.bounds.get(i).cloned(),
                done: false,
                ..like.clone()
            };
            let state = old.get(&*label).cloned().unwrap_or_else(begins);
            (Scope::Part(self.subject.stream.clone(), label.into()), state)
        };
        Cut { by, chunk: self.chunk(), parts: (0..slices).map(part).collect() }
    }

    fn chunk(&self) -> u64 {
        let row = match (self.table.bytes, self.table.rows) {
            (Some(bytes), Some(rows @ 1..)) => (bytes / rows).max(1),
            _ => 200,
        };
        (CHUNK_BYTES / row).clamp(*CHUNK_ROWS.start(), *CHUNK_ROWS.end())
    }

    /// Values that cut the table into parts of about the same size.
    async fn bounds(&self, by: &Column, wire: &mut Wire) -> Result<Vec<String>> {
        let (name, relation) = (ident(&by.name), &self.subject.relation);
        let slices = i128::from(self.slices);
        let mut bounds = Vec::new();
        if by.form.is_integer() {
            let rows = wire.query(&format!("SELECT MIN({name}), MAX({name}) FROM {relation}"), DOING).await?;
            let ends: Vec<i128> = rows.iter().flatten().flatten().filter_map(|v| v.parse().ok()).collect();
            let [first, last] = ends[..] else { return Ok(bounds) };
            bounds.extend((1..slices).map(|i| first + (last - first) * i / slices).map(|v| v.to_string()));
        } else {
            let rows = self.table.rows.unwrap_or(0);
            for i in 1..u64::from(self.slices) {
                let offset = rows * i / u64::from(self.slices);
                let sql = format!("SELECT {} FROM {relation} ORDER BY {name} LIMIT 1 OFFSET {offset}", asked(by));
                let found = wire.query(&sql, DOING).await?.into_iter().next().and_then(|r| r.into_iter().next().flatten());
                bounds.extend(found);
            }
        }
        bounds.dedup();
        Ok(bounds)
    }
}

/// Whether a full read may go on whose snapshot is gone. Rows that are written once each must all be of one moment: nothing may have
/// been written since. Rows that fold by key may be of several: the next full read brings what changed in the meantime.
pub(super) fn may_go_on(old: &Old, now: &Standing, repeats: Repeats) -> Result<()> {
    if repeats == Repeats::Folded || old.values().all(|s| s.seen.is_still(now)) {
        return Ok(());
    }
    Err(lost("it cannot be shown that the table is still the one that was being read"))
}

fn lost(message: &'static str) -> Error {
    Error::new(ErrorKind::PositionLost, message).fix("the read starts again from the beginning")
}

/// What the server says of the table now, to compare later reads with. Ask before the snapshot: what is committed between the two
/// then counts as written since.
pub(super) async fn standing(wire: &mut Wire, table: &Table) -> Result<Standing> {
    let place = format!(
        "TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        literal(table.name.namespace.as_deref().unwrap_or_default()),
        literal(&table.name.name)
    );
    let log = match wire.flavor() {
        Flavor::Mysql => "@@GLOBAL.gtid_executed",
        Flavor::Mariadb => "@@GLOBAL.gtid_binlog_pos",
    };
    // The time of the last write has whole seconds, and a commit of the same second may not be in the snapshot.
    let sql = format!(
        "SELECT (SELECT IF(UPDATE_TIME < NOW() - INTERVAL 2 SECOND, CAST(UPDATE_TIME AS CHAR), NULL) FROM information_schema.TABLES \
         WHERE {place} LIMIT 1), {log}"
    );
    let row = wire.query(&sql, DOING).await?.into_iter().next().unwrap_or_default();
    let mut values = row.into_iter();
    let written = values.next().flatten().filter(|_| table.kind == Kind::Table);
    Ok(Standing { written, transactions: values.next().flatten().filter(|t| !t.is_empty()) })
}
