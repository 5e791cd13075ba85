//! The changes of a commit until it comes: in memory, and beyond a size in a file that has no name.

use arrow_array::{RecordBatch, cast::AsArray};
use arrow_schema::SchemaRef;
use linkspan_core::{Result, UNSET_COLUMN};

use super::{
    keys,
    shelf::{Shelf, Spot},
};

/// Bytes of changes that stay in memory.
const MOST_BYTES: usize = 16 << 20;
/// The most parts that changes are divided into.
const MOST_PARTS: usize = 256;

pub(crate) struct Pending {
    spot: Spot,
    key: Vec<String>,
    rows: Vec<RecordBatch>,
    bytes: usize,
    /// What did not fit, each with rows of one schema.
    spilled: Vec<(SchemaRef, Shelf)>,
    spilled_bytes: usize,
    many: u64,
    leaves_out: bool,
}

impl Pending {
    pub fn new(spot: Spot, key: Vec<String>) -> Self {
        Self { spot, key, rows: Vec::new(), bytes: 0, spilled: Vec::new(), spilled_bytes: 0, many: 0, leaves_out: false }
    }

    pub fn put(&mut self, rows: RecordBatch) -> Result<()> {
        keys::refuse_nulls(&rows, &self.key)?;
        let unset = rows.column_by_name(UNSET_COLUMN).and_then(|column| column.as_binary_opt::<i32>());
        self.leaves_out |= unset.is_some_and(|unset| unset.iter().flatten().any(|bits| bits.iter().any(|byte| *byte != 0)));
        self.many += rows.num_rows() as u64;
        self.bytes += rows.get_array_memory_size();
        self.rows.push(rows);
        if self.bytes >= MOST_BYTES { self.spill() } else { Ok(()) }
    }

    /// Lets go of that memory.
    pub fn spill(&mut self) -> Result<()> {
        for rows in std::mem::take(&mut self.rows) {
            if self.spilled.last().is_none_or(|(schema, _)| schema != rows.schema_ref()) {
                self.spilled.push((rows.schema(), Shelf::new(self.spot.clone(), 1)));
            }
            if let Some((_, shelf)) = self.spilled.last_mut() {
                shelf.put(&rows, &[])?;
            }
        }
        self.spilled_bytes += std::mem::take(&mut self.bytes);
        Ok(())
    }

    pub fn clear(&mut self) {
        *self = Self::new(self.spot.clone(), std::mem::take(&mut self.key));
    }

    /// Rows that came.
    pub fn many(&self) -> u64 {
        self.many
    }
    pub fn key(&self) -> &[String] {
        &self.key
    }
    pub fn spot(&self) -> &Spot {
        &self.spot
    }
    /// Bytes that the changes hold in memory.
    pub fn memory(&self) -> usize {
        self.bytes
    }
    /// Whether some change does not bring all of its columns.
    pub fn leaves_out(&self) -> bool {
        self.leaves_out
    }
    pub fn schemas(&self) -> impl Iterator<Item = &SchemaRef> {
        self.spilled.iter().map(|(schema, _)| schema).chain(self.rows.iter().map(RecordBatch::schema_ref))
    }
    /// All rows, when none is on disk.
    pub fn in_memory(&self) -> Option<&[RecordBatch]> {
        self.spilled.is_empty().then_some(&self.rows)
    }
    /// So many parts that each has its place in memory.
    pub fn parts(&self) -> usize {
        (self.spilled_bytes + self.bytes).div_ceil(MOST_BYTES / 2).clamp(2, MOST_PARTS)
    }

    /// All rows in the order in which they came.
    pub fn each(&mut self, mut take: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        for (_, shelf) in &mut self.spilled {
            shelf.seal()?;
            for rows in shelf.rows(0)? {
                take(rows?)?;
            }
        }
        self.rows.iter().cloned().try_for_each(take)
    }
}
