//! What is known about the keys of rows on their way: whether any came twice, and whether they only rise. It lets a merge skip
//! work that would change nothing; when in doubt it says "perhaps".

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::{RowConverter, SortField};
use arrow_schema::ArrowError;
use linkspan_core::{Result, fold};

use super::merge::Keys;

/// Above this many staged keys no more are remembered, and the server sorts the stage instead.
const MOST: usize = 1 << 20;

/// The keys of one stream in one session.
#[derive(Debug)]
pub(super) struct KeyTracker {
    key: Vec<String>,
    /// Whether different bytes are different keys for the server too.
    exact: bool,
    /// The largest key that the table can hold; none for an empty table. Absent when nobody knows.
    highest: Option<Option<Vec<u8>>>,
    staged: HashSet<u64, BuildHasherDefault<AsIs>>,
    keys: Keys,
}

/// How a batch's keys stand to what is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    /// Every key is above everything in the table, and none comes twice.
    Fresh,
    Unknown,
}

impl KeyTracker {
    pub(super) fn new(key: &[String], exact: bool) -> Self {
        Self { key: key.to_vec(), exact, highest: None, staged: HashSet::default(), keys: Keys::Unique }
    }

    /// The table is empty.
    pub(super) fn start_empty(&mut self) {
        self.highest = self.exact.then_some(None);
    }

    /// The largest key of the table, as an array of one value of the key column's type.
    pub(super) fn start_above(&mut self, highest: &ArrayRef) -> Result<(), ArrowError> {
        let converter = RowConverter::new(vec![SortField::new(highest.data_type().clone())])?;
        let rows = converter.convert_columns(std::slice::from_ref(highest))?;
        self.highest = self.exact.then(|| Some(rows.row(0).as_ref().to_vec()));
        Ok(())
    }

    /// Looks at a batch that is about to be written; a null key is an error. Where the batch is fresh, the caller may write it straight
    /// into the table; it must stage it otherwise, and then says so with `stage`.
    pub(super) fn look(&mut self, rows: &RecordBatch) -> Result<(arrow_row::Rows, Novelty)> {
        let keys = fold::key_rows(rows, &self.key)?;
        let Some(highest) = &mut self.highest else { return Ok((keys, Novelty::Unknown)) };
        let mut rises = true;
        let mut last: Option<&[u8]> = highest.as_deref();
        let mut most = last;
        for row in &keys {
            let key = row.data();
            rises &= last.is_none_or(|last| key > last);
            if most.is_none_or(|most| key > most) {
                most = Some(key);
            }
            last = Some(key);
        }
        let most = most.map(<[u8]>::to_vec);
        *highest = most;
        Ok((keys, if rises { Novelty::Fresh } else { Novelty::Unknown }))
    }

    /// Remembers the keys of rows that go to the stage.
    pub(super) fn stage(&mut self, keys: &arrow_row::Rows) {
        if self.keys == Keys::Repeated {
            return;
        }
        if !self.exact || self.staged.len() + keys.num_rows() > MOST {
            self.keys = Keys::Repeated;
            self.staged = HashSet::default();
            return;
        }
        for row in keys {
            if !self.staged.insert(hash(row.data())) {
                self.keys = Keys::Repeated;
                return;
            }
        }
    }

    /// The stage is empty again; tells how its keys were.
    pub(super) fn flushed(&mut self) -> Keys {
        self.staged.clear();
        std::mem::replace(&mut self.keys, Keys::Unique)
    }
}

/// Two different keys may share a hash: then they count as repeated, which costs time and changes nothing.
fn hash(bytes: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut h = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        h = (h ^ u64::from_le_bytes(word)).wrapping_mul(K);
        h ^= h >> 29;
    }
    h = h.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h ^ (h >> 32)
}

/// The set's elements are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes);
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    fn batch(ids: &[i64]) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(ids.to_vec()))]).unwrap()
    }
    fn tracker() -> KeyTracker {
        KeyTracker::new(&["id".to_owned()], true)
    }
    fn novelty(t: &mut KeyTracker, ids: &[i64]) -> Novelty {
        t.look(&batch(ids)).unwrap().1
    }

    #[test]
    fn only_keys_above_everything_are_fresh() {
        let mut t = tracker();
        assert_eq!(novelty(&mut t, &[1, 2]), Novelty::Unknown, "nobody said that the table is empty");
        t.start_empty();
        assert_eq!(novelty(&mut t, &[-5, 1, 2]), Novelty::Fresh);
        assert_eq!(novelty(&mut t, &[2]), Novelty::Unknown);
        assert_eq!(novelty(&mut t, &[9, 3]), Novelty::Unknown);
        assert_eq!(novelty(&mut t, &[5]), Novelty::Unknown, "nine was seen");
        assert_eq!(novelty(&mut t, &[10]), Novelty::Fresh);
        t.start_above(&(Arc::new(Int64Array::from(vec![100])) as ArrayRef)).unwrap();
        assert_eq!((novelty(&mut t, &[100]), novelty(&mut t, &[101])), (Novelty::Unknown, Novelty::Fresh));
    }

    #[test]
    fn a_repeated_key_is_noticed_across_batches() {
        let mut t = tracker();
        for (ids, keys) in [(&[1i64, 2][..], Keys::Unique), (&[3], Keys::Unique), (&[2], Keys::Repeated)] {
            let (rows, _) = t.look(&batch(ids)).unwrap();
            t.stage(&rows);
            assert_eq!(t.keys, keys);
        }
        assert_eq!((t.flushed(), t.flushed()), (Keys::Repeated, Keys::Unique));
    }

    #[test]
    fn keys_that_the_server_may_find_equal_count_as_repeated() {
        let mut t = KeyTracker::new(&["k".to_owned()], false);
        t.start_empty();
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec!["a", "b"]))]).unwrap();
        let (keys, novelty) = t.look(&rows).unwrap();
        t.stage(&keys);
        assert_eq!((novelty, t.flushed()), (Novelty::Unknown, Keys::Repeated));
    }
}
