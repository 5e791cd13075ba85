//! Cuts a table into parts that are read at once, and takes up the parts of a read that broke off.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use linkspan_core::{Error, ErrorKind, ReadMode, Repeats, Result, Scope, Selected};

use super::{
    catalog::Column,
    connect::{Client, Server},
    errors::PgResult,
    part::{Part, proof},
    snapshot::{Snapshot, below, gone, look_through, unseen},
    states::PartState,
};

/// A chunk is read by one COPY and ends with a checkpoint.
const CHUNK_PAGES: u64 = 4096;
const CHUNK_BYTES: u64 = 32 << 20;

/// Something that rows are selected from in a full read: a table, or one leaf of it.
pub(super) struct Relation {
    pub sql: String,
    pub oid: u32,
    /// Empty for the table itself.
    pub label: String,
    /// Ranges of pages can be read, and a read can go on in the middle.
    pub by_pages: bool,
}

pub(super) struct Cutter<'a> {
    pub server: Arc<Server>,
    pub client: &'a Client,
    pub snapshot: Arc<Snapshot>,
    pub slices: Option<u16>,
    pub selected: &'a Selected,
    pub columns: &'a [Column],
}

/// The lanes of a full read, and the horizon that an incremental read begins behind.
pub(super) struct Cut {
    pub parts: Vec<Part>,
    pub horizon: u64,
}

type Old = BTreeMap<Arc<str>, PartState>;

struct Size {
    file: u32,
    pages: u64,
    bytes: u64,
}

impl Cutter<'_> {
    pub async fn cut(&self, relations: &[Relation], old: &Old) -> Result<Cut> {
        let incremental = self.selected.read != ReadMode::Full;
        let now = &self.snapshot.horizon;
        // What an incremental read began behind stays: rows above it come with the lane behind the parts, exactly once.
        let began = if incremental { old.values().map(|s| s.horizon).min() } else { None };
        let horizon = began.unwrap_or(now.xmin);
        now.reaches(horizon)?;
        let only = (incremental && (began.is_some() || !now.is_settled())).then(|| below(horizon));
        let mut parts = Vec::new();
        // Sizes are taken after the snapshot: all that it shows lies within them.
        let sizes = self.sizes(relations).await?;
        for relation in relations {
            let size = sizes.get(&relation.oid);
            for (label, state) in self.states(relation, size, old, horizon) {
                parts.push(self.part(relation, size, &label, state, only.clone()));
            }
        }
        // A full read whose parts are all done was interrupted before its rows were published: what they hold may be old by now.
        let all_done = incremental && parts.iter().all(|p| p.state.done);
        if !old.is_empty() && !all_done {
            self.take_up(&mut parts, old, &sizes, incremental).await?;
        }
        Ok(Cut { parts, horizon })
    }

    async fn sizes(&self, relations: &[Relation]) -> Result<HashMap<u32, Size>> {
        let oids: Vec<u32> = relations.iter().filter(|r| r.by_pages).map(|r| r.oid).collect();
        let sql = "SELECT oid, pg_relation_filenode(oid), pg_relation_size(oid) / current_setting('block_size')::int8, pg_table_size(oid) \
            FROM pg_class WHERE oid = ANY($1)";
        let rows = self.client.query(sql, &[&oids]).await.pg("measuring the table")?;
        let count = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let size = |r: &tokio_postgres::Row| Size {
            file: r.get::<_, Option<u32>>(1).unwrap_or(0),
            pages: count(r.get(2)),
            bytes: count(r.get(3)),
        };
        Ok(rows.iter().map(|r| (r.get(0), size(r))).collect())
    }

    /// The parts of a relation by name, as they stand: taken up where they were, else from their start.
    fn states(&self, relation: &Relation, size: Option<&Size>, old: &Old, horizon: u64) -> Vec<(Arc<str>, PartState)> {
        let known = old.iter().find(|(name, _)| relation.owns(name)).map(|(_, state)| state);
        let (file, pages) = size.map_or((0, 0), |s| (s.file, s.pages));
        let slices = known.map_or_else(|| self.slice_count(size), |s| s.slices).max(1);
        let cut = known.map_or(pages, |s| s.pages);
        let edge = |i: u16| cut * u64::from(i) / u64::from(slices);
        let fresh = |i: u16| PartState {
            file,
            slices,
            pages: cut,
            from: edge(i),
            to: edge(i + 1),
            next: edge(i),
            rows: 0,
            done: false,
            horizon,
            seen: Vec::new(),
            seen_overflow: false,
            snapshot: self.snapshot.horizon.text.clone(),
        };
        let named = (0..slices).map(|i| {
            let name = relation.part_name(i + 1, slices);
            let mut state = old.get(&name).cloned().unwrap_or_else(|| fresh(i));
            if i + 1 == slices && pages > state.to && self.selected.read == ReadMode::Full && known.is_some() {
                state.to = pages;
            }
            (name, state)
        });
        named.collect()
    }

    fn slice_count(&self, size: Option<&Size>) -> u16 {
        let pages = size.map_or(0, |s| s.pages);
        let by_size = match pages {
            ..CHUNK_PAGES => 1,
            CHUNK_PAGES..65_536 => 2,
            _ => 4,
        };
        let most = u16::try_from(pages.clamp(1, 64)).unwrap_or(64);
        self.slices.unwrap_or(by_size).clamp(1, most)
    }

    fn part(&self, relation: &Relation, size: Option<&Size>, name: &Arc<str>, state: PartState, only: Option<String>) -> Part {
        let stream = self.selected.stream.name.clone();
        let chunk = size.map(|s| (CHUNK_BYTES * s.pages.max(1) / s.bytes.max(1)).clamp(1, CHUNK_PAGES));
        Part {
            server: self.server.clone(),
            snapshot: self.snapshot.clone(),
            scope: Scope::Part(stream.clone(), name.clone()),
            stream,
            relation: relation.sql.clone(),
            oid: relation.oid,
            columns: self.columns.to_vec(),
            schema: self.selected.stream.schema.clone(),
            state,
            chunk,
            only,
            catch_up: None,
            must_prove: self.selected.read == ReadMode::Full && self.selected.repeats == Repeats::Kept,
        }
    }

    /// Goes on with a read whose snapshot is gone: under the new one, what was read must still be what is there, or be caught up.
    async fn take_up(&self, parts: &mut [Part], old: &Old, sizes: &HashMap<u32, Size>, incremental: bool) -> Result<()> {
        let known = |p: &Part| matches!(&p.scope, Scope::Part(_, name) if old.contains_key(name));
        for part in parts.iter().filter(|p| known(p)) {
            if sizes.get(&part.oid).is_some_and(|s| s.file != part.state.file) {
                return Err(lost("the table was rewritten since (TRUNCATE, VACUUM FULL, CLUSTER or ALTER)"));
            }
        }
        if incremental {
            return Ok(());
        }
        if old.len() > parts.iter().filter(|p| known(p)).count() {
            return Err(lost("a partition that was read is gone"));
        }
        let proved = self.take_up_known(parts, old).await;
        // Whatever came of it, the planner goes on.
        let over = self.client.batch_execute("ROLLBACK").await.pg("comparing what was read");
        proved.and(over)
    }

    async fn take_up_known(&self, parts: &mut [Part], old: &Old) -> Result<()> {
        let known = |p: &&mut Part| matches!(&p.scope, Scope::Part(_, name) if old.contains_key(name));
        self.look().await?;
        for part in parts.iter_mut().filter(known) {
            self.snapshot.horizon.reaches(part.state.horizon)?;
            match (part.must_prove, part.chunk) {
                (true, None) => return Err(lost("a table that can only be read in one piece was read under another snapshot")),
                (true, Some(_)) => prove(self.client, part).await?,
                (false, _) if part.state.next > part.state.from => {
                    part.catch_up = Some(unseen(part.state.horizon, &part.state.seen));
                    part.state.seen.clear();
                }
                (false, _) => {}
            }
            part.state.horizon = self.snapshot.horizon.xmin;
            part.state.snapshot = self.snapshot.horizon.text.clone();
            // A finished part with rows to catch up, or with new pages behind it, is not finished under the new snapshot.
            part.state.done = part.state.done && part.catch_up.is_none() && part.state.next >= part.state.to;
        }
        Ok(())
    }

    /// From here on the planner looks through the run's snapshot.
    async fn look(&self) -> Result<()> {
        let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}", look_through(&self.snapshot.id));
        self.client.batch_execute(&sql).await.pg("looking through the snapshot").map_err(gone)
    }
}

async fn prove(client: &Client, part: &Part) -> Result<()> {
    if part.state.next == part.state.from {
        return Ok(());
    }
    let row = client.query_one(&proof(&part.relation, &part.state), &[]).await.pg("comparing what was read")?;
    let (there, came): (i64, i64) = (row.get(0), row.get(1));
    if came == 0 && u64::try_from(there).ok() == Some(part.state.rows) {
        return Ok(());
    }
    Err(lost("rows that were already read have changed since"))
}

fn lost(message: &'static str) -> Error {
    Error::new(ErrorKind::PositionLost, message).fix("the read starts again from the beginning")
}

impl Relation {
    fn prefix(&self) -> String {
        if self.label.is_empty() { String::new() } else { format!("{}:", self.label) }
    }
    fn part_name(&self, nth: u16, of: u16) -> Arc<str> {
        format!("{}{nth}/{of}", self.prefix()).into()
    }
    /// Whether a part of that name is this relation's.
    fn owns(&self, name: &str) -> bool {
        let place = name.strip_prefix(&self.prefix()).and_then(|p| p.split_once('/'));
        place.is_some_and(|(nth, of)| nth.parse::<u16>().is_ok() && of.parse::<u16>().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_belongs_to_one_relation() {
        let relation = |label: &str| Relation { sql: String::new(), oid: 1, label: label.into(), by_pages: true };
        assert_eq!(&*relation("").part_name(1, 4), "1/4");
        assert_eq!(&*relation("s.t").part_name(2, 2), "s.t:2/2");
        assert!(relation("s.t").owns("s.t:2/2") && !relation("").owns("s.t:2/2") && !relation("s").owns("s.t:2/2"));
    }
}
