//! One stream's rows on their way into its table: copied straight in, or staged and merged by key.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, Int64Array, RecordBatch, builder::BinaryBuilder, cast::AsArray};
use arrow_schema::{Schema, SchemaRef};
use linkspan_core::{Changes, Error, ErrorKind, OP_COLUMN, Result, StreamName, UNSET_COLUMN, fold, is_feed_column};

use super::{
    connect::Client,
    destination_shape::{self, Table},
    encode::{self, Column, Sent, Values},
    errors::PgResult,
    merge::{Merge, MergeColumn, Range},
    merge_keys::{KeyTracker, Novelty},
    session_link::{Into, Link},
    session_rows::{Fits, Settled},
    session_table::Place,
    sql,
};

/// A stream as it is being loaded, from one schema to the next.
pub(super) struct Loading {
    stream: StreamName,
    pub place: Place,
    pub schema: SchemaRef,
    fits: Fits,
    copy: String,
    merging: Option<Merging>,
}

impl Loading {
    pub(super) fn new(stream: StreamName, place: Place, schema: SchemaRef, fits: Fits, merging: Option<Merging>) -> Self {
        let columns = sql::list(fits.columns.iter().map(|c| c.name.as_str()));
        let copy = format!("COPY {} ({columns}) FROM STDIN {}", place.sql(), fits.format.sql());
        Self { stream, place, schema, fits, copy, merging }
    }

    /// Rows must be as the plan said: names, types and order.
    pub(super) fn check_schema(&self, rows: &RecordBatch) -> Result<()> {
        let (planned, sent) = (self.schema.fields(), rows.schema_ref().fields());
        let same = planned.len() == sent.len()
            && planned.iter().zip(sent.iter()).all(|(p, s)| p.name() == s.name() && p.data_type() == s.data_type());
        if same {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Internal, "rows came in another schema than the plan's").with("stream", &self.stream))
    }

    /// Sends rows on their way; the batch is not needed afterwards. Tells what had to be changed.
    pub(super) async fn write(&mut self, link: &mut Link, rows: RecordBatch) -> Result<Changes> {
        let settled = match &mut self.merging {
            Some(merging) => merging.write(link, &self.stream, &self.fits, &self.copy, rows).await?,
            None => {
                let settled = self.fits.settle(rows)?;
                insert(link, &self.stream, Into::Table, &self.copy, &self.place, &self.fits, &settled).await?;
                settled
            }
        };
        link.stats(&self.stream).rejected += settled.changes.rejected.len() as u64;
        Ok(settled.changes)
    }

    /// Takes staged rows into the table.
    pub(super) async fn flush(&mut self, link: &mut Link) -> Result<()> {
        match &mut self.merging {
            Some(merging) => merging.flush(link, &self.stream).await,
            None => Ok(()),
        }
    }

    /// Empties the table and what is staged for it.
    pub(super) async fn truncate(&mut self, link: &mut Link) -> Result<()> {
        link.finish_copy().await?;
        link.begin().await?;
        truncate(link, &self.place).await?;
        match &mut self.merging {
            Some(merging) => merging.emptied(link, &self.stream).await,
            None => Ok(()),
        }
    }
}

/// Empties a table, if it is there.
pub(super) async fn truncate(link: &Link, place: &Place) -> Result<()> {
    if destination_shape::table(&link.client, &place.namespace, &place.name).await?.is_none() {
        return Ok(());
    }
    // TRUNCATE would lock readers out until the commit, and show them an empty table where they are to see the old rows.
    let empty = format!("DELETE FROM {}", place.sql());
    link.client.batch_execute(&empty).await.pg("emptying the table")
}

async fn insert(link: &mut Link, stream: &StreamName, into: Into, copy: &str, place: &Place, fits: &Fits, settled: &Settled) -> Result<()> {
    let rows = settled.rows.num_rows();
    if rows == 0 {
        return Ok(());
    }
    if fits.columns.is_empty() {
        // Rows without columns: there is nothing to copy, but they are rows.
        link.finish_copy().await?;
        let insert = format!("INSERT INTO {} SELECT FROM pg_catalog.generate_series(1, {rows})", place.sql());
        link.stats(stream).written += link.client.execute(&insert, &[]).await.pg("inserting rows without columns")?;
        return Ok(());
    }
    link.copy(stream, into, copy, fits.format).await?.rows(settled.columns()?, rows).await
}

/// How a stream is merged.
pub(super) struct Merging {
    merge: Merge,
    place: Place,
    key: Vec<String>,
    tracker: KeyTracker,
    /// How many columns of the batch are the user's: the width of the bitmap of unset ones.
    width: usize,
    has_feed: bool,
    stage_copy: String,
    is_stage_made: bool,
    staged: u64,
    ordinal: i64,
}

impl Merging {
    /// `number` tells the stages of one session apart.
    pub(super) async fn start(
        client: &Client,
        place: &Place,
        table: &Table,
        fits: &Fits,
        schema: &Schema,
        key: &[String],
        number: usize,
    ) -> Result<Self> {
        let merge = plan(place, table, fits, schema, key, number)?;
        let exact = key.iter().all(|k| table.column(k).is_some_and(|c| c.exact));
        let mut tracker = KeyTracker::new(key, exact);
        let has_feed = schema.fields().iter().any(|f| is_feed_column(f.name()));
        if !has_feed {
            look_at_table(client, place, table, schema, key, &mut tracker).await?;
        }
        let extra = [("ord", true), ("del", merge.deletes), ("unset", merge.unset)];
        let columns = (0..merge.columns.len()).map(|at| format!("c{at}"));
        let extra = extra.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned());
        let columns: Vec<String> = columns.chain(extra).collect();
        let stage_copy = format!("COPY {} ({}) FROM STDIN {}", merge.stage, columns.join(", "), fits.format.sql());
        let width = schema.fields().iter().filter(|f| !is_feed_column(f.name())).count();
        let (place, key) = (place.clone(), key.to_vec());
        Ok(Self { merge, place, key, tracker, width, has_feed, stage_copy, is_stage_made: false, staged: 0, ordinal: 0 })
    }

    async fn write(&mut self, link: &mut Link, stream: &StreamName, fits: &Fits, copy: &str, rows: RecordBatch) -> Result<Settled> {
        let rows = if self.has_feed {
            let (folded, gone) = fold::fold(&rows, &self.key)?;
            link.stats(stream).duplicates += gone;
            folded
        } else {
            rows
        };
        let (keys, novelty) = self.tracker.look(&rows)?;
        let settled = fits.settle(rows)?;
        if novelty == Novelty::Fresh && self.staged == 0 {
            insert(link, stream, Into::Fresh, copy, &self.place, fits, &settled).await?;
            return Ok(settled);
        }
        if settled.rows.num_rows() > 0 {
            self.stage(link, stream, fits, &settled, &keys).await?;
        }
        Ok(settled)
    }

    async fn stage(&mut self, link: &mut Link, stream: &StreamName, fits: &Fits, settled: &Settled, keys: &arrow_row::Rows) -> Result<()> {
        let feed = Feed::of(&settled.rows, &self.merge, self.width)?;
        // A row that leaves columns as they are builds on what stands before it: earlier rows go in first.
        if feed.leaves_unset && self.staged > 0 {
            self.flush(link, stream).await?;
        }
        if !self.is_stage_made {
            link.finish_copy().await?;
            link.client.batch_execute(&self.merge.create_stage()).await.pg("making the stage")?;
            self.is_stage_made = true;
        }
        self.tracker.stage(keys);
        let rows = settled.rows.num_rows();
        let mut columns = settled.columns()?;
        columns.push(Column { nulls: None, values: Values::Ordinal(self.ordinal) });
        columns.extend(feed.deletes.as_ref().map(encode::flags));
        columns.extend(feed.unset.as_ref().map(|unset| encode::bytea(unset)));
        link.copy(stream, Into::Stage, &self.stage_copy, fits.format).await?.rows(columns, rows).await?;
        self.ordinal += rows as i64;
        self.staged += rows as u64;
        Ok(())
    }

    async fn flush(&mut self, link: &mut Link, stream: &StreamName) -> Result<()> {
        if self.staged == 0 {
            return Ok(());
        }
        link.finish_copy().await?;
        let keys = self.tracker.flushed();
        let mut taken = 0;
        let range = self.range(link).await?;
        for statement in self.merge.statements(keys, range.as_ref(), link.client.version) {
            taken += link.client.execute_typed(&statement, &[]).await.pg("merging rows").map_err(|e| e.with("table", self.place.sql()))?;
        }
        self.empty_stage(link).await?;
        let stats = link.stats(stream);
        stats.written += taken;
        stats.duplicates += self.staged.saturating_sub(taken);
        self.staged = 0;
        Ok(())
    }

    async fn range(&self, link: &Link) -> Result<Option<Range>> {
        let Some(ask) = self.merge.ask_range() else { return Ok(None) };
        let row = link.client.query_one(&ask, &[]).await.pg("looking at the staged keys")?;
        Ok(row.get::<_, Option<String>>(0).zip(row.get(1)))
    }

    async fn emptied(&mut self, link: &mut Link, stream: &StreamName) -> Result<()> {
        if self.staged > 0 {
            self.empty_stage(link).await?;
        }
        link.stats(stream).written += std::mem::take(&mut self.staged);
        self.tracker.flushed();
        if !self.has_feed {
            self.tracker.start_empty();
        }
        Ok(())
    }

    async fn empty_stage(&self, link: &Link) -> Result<()> {
        link.client.batch_execute(&format!("TRUNCATE {}", self.merge.stage)).await.pg("emptying the stage")
    }
}

fn plan(place: &Place, table: &Table, fits: &Fits, schema: &Schema, key: &[String], number: usize) -> Result<Merge> {
    let data: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).filter(|n| !is_feed_column(n)).collect();
    let mut columns = Vec::with_capacity(fits.columns.len());
    for fit in &fits.columns {
        let Some(column) = table.column(&fit.name) else { continue };
        let ordinal = data.iter().position(|n| *n == fit.name).unwrap_or(0);
        columns.push(MergeColumn {
            name: fit.name.clone(),
            sql_type: column.sql_type_with_collation(),
            in_key: key.contains(&fit.name),
            ordinal,
            ordered: matches!(column.sent, Sent::Int2 | Sent::Int4 | Sent::Int8 | Sent::Date | Sent::Timestamp { .. }),
        });
    }
    if let Some(missing) = key.iter().find(|k| !columns.iter().any(|c| c.name == **k)) {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a key column is not in the stream")
            .with("column", missing)
            .fix("name key columns that the stream has, with --key"));
    }
    let has = |name: &str| schema.fields().iter().any(|f| f.name() == name);
    let stage = format!("pg_temp._ls_stage_{number}");
    Ok(Merge { target: place.sql(), stage, columns, deletes: has(OP_COLUMN), unset: has(UNSET_COLUMN) })
}

/// Learns which keys cannot be in the table: all of them while it is empty, and those above the largest where the key is one integer.
async fn look_at_table(
    client: &Client,
    place: &Place,
    table: &Table,
    schema: &Schema,
    key: &[String],
    tracker: &mut KeyTracker,
) -> Result<()> {
    let empty = format!("SELECT NOT EXISTS (SELECT FROM {})", place.sql());
    if client.query_one(&empty, &[]).await.pg("looking at the table")?.get::<_, bool>(0) {
        tracker.start_empty();
        return Ok(());
    }
    let [name] = key else { return Ok(()) };
    let is_integer = table.column(name).is_some_and(|c| matches!(c.sent, Sent::Int2 | Sent::Int4 | Sent::Int8));
    let Some(field) = schema.fields().iter().find(|f| f.name() == name).filter(|f| is_integer && f.data_type().is_integer()) else {
        return Ok(());
    };
    let highest = format!("SELECT max({})::bigint FROM {}", sql::ident(name), place.sql());
    let highest: Option<i64> = client.query_one(&highest, &[]).await.pg("looking at the table")?.get(0);
    let Some(highest) = highest else { return Ok(()) };
    let array: ArrayRef = Arc::new(Int64Array::from(vec![highest]));
    let internal = |e| Error::new(ErrorKind::Internal, "the table's largest key could not be compared").because(e);
    let array = arrow_cast::cast(&array, field.data_type()).map_err(internal)?;
    // A table may hold keys that the stream's type cannot: then nothing is known.
    if array.is_null(0) { Ok(()) } else { tracker.start_above(&array).map_err(internal) }
}

/// The feed's instructions for a batch, in the form in which they are staged.
struct Feed {
    deletes: Option<BooleanArray>,
    unset: Option<BinaryArray>,
    leaves_unset: bool,
}

impl Feed {
    fn of(rows: &RecordBatch, merge: &Merge, width: usize) -> Result<Self> {
        let column = |name: &str, there: bool| if there { rows.column_by_name(name) } else { None };
        let wrong = |name: &str| Error::new(ErrorKind::DataInvalid, "a feed column has the wrong type").with("column", name);
        let deletes = match column(OP_COLUMN, merge.deletes) {
            Some(ops) => {
                let ops = ops.as_string_opt::<i32>().ok_or_else(|| wrong(OP_COLUMN))?;
                let mut deletes = Vec::with_capacity(ops.len());
                for op in ops {
                    deletes.push(fold::Op::parse(op.unwrap_or_default())? == fold::Op::Delete);
                }
                Some(BooleanArray::from(deletes))
            }
            None => None,
        };
        let unset = match column(UNSET_COLUMN, merge.unset) {
            Some(bits) => Some(padded(bits.as_binary_opt::<i32>().ok_or_else(|| wrong(UNSET_COLUMN))?, width.div_ceil(8))),
            None => None,
        };
        let leaves_unset = unset.as_ref().is_some_and(|u| u.value_data().iter().any(|b| *b != 0));
        Ok(Self { deletes, unset, leaves_unset })
    }
}

/// Bitmaps of one length: the server's `get_bit` refuses to look behind the end.
fn padded(bits: &BinaryArray, length: usize) -> BinaryArray {
    let mut out = BinaryBuilder::with_capacity(bits.len(), bits.len() * length);
    let mut map = vec![0u8; length];
    for value in bits {
        map.fill(0);
        let value = value.unwrap_or_default();
        let shared = value.len().min(length);
        map[..shared].copy_from_slice(&value[..shared]);
        out.append_value(&map);
    }
    out.finish()
}
