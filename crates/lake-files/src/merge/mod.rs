//! A merge by key into files that never change: a file that holds rows with the keys of a commit is written again without them, and
//! the commit's own rows are written beside it. Old files and new ones change places with the log's entry.

mod form;
mod keys;
mod live;
mod pending;
mod shelf;

use std::{collections::HashSet, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use async_trait::async_trait;
use linkspan_core::{Error, ErrorKind, Result, fold};

use crate::storage::{Item, Storage};

use form::Form;
use keys::Keys;
use live::Live;
pub(crate) use pending::Pending;
use shelf::Shelf;
pub(crate) use shelf::Spot;

/// Keys that are looked for in one pass over the table's files.
const MOST_KEYS: usize = 1 << 20;

/// Takes the rows that the table holds from now on.
#[async_trait]
pub(crate) trait Intake: Send {
    async fn take(&mut self, rows: &RecordBatch) -> Result<()>;
}

/// What a merge did.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// Files of which every row that stays was written again.
    pub removes: Vec<String>,
    /// Keys that were changed.
    pub keys: u64,
}

/// Hands on the rows that the table holds after these changes and that no file of it holds which stays. `schema` is the table's, and
/// `present` are its files. `pending` is as it was, so that this can be done again when other files are there by then.
pub(crate) async fn merge(
    storage: &Arc<Storage>,
    pending: &mut Pending,
    schema: &SchemaRef,
    present: &[Item],
    out: &mut dyn Intake,
) -> Result<Merged> {
    let keys = Keys::new(schema, pending.key())?;
    let form = Form::new(schema, pending);
    let mut changes = Parts::of(pending, &form, &keys)?;
    let mut live = Live::open(storage, present, pending.key()).await?;
    let mut wanted = HashSet::new();
    for part in 0..changes.count() {
        for rows in changes.rows(part)? {
            wanted.extend(keys.marks(&rows)?);
        }
        if wanted.len() >= MOST_KEYS || part + 1 == changes.count() {
            live.look_for(&wanted, &keys).await?;
            wanted.clear();
        }
    }
    let mut earlier = form.needs_earlier().then(|| Shelf::new(pending.spot().clone(), changes.count()));
    let mut merged = Merged { removes: live.write_again(&form, &keys, earlier.as_mut(), out).await?, keys: 0 };
    for part in 0..changes.count() {
        let mut rows = match &mut earlier {
            Some(earlier) => earlier.rows(part)?.collect::<Result<Vec<_>>>()?,
            None => Vec::new(),
        };
        rows.extend(changes.rows(part)?);
        let Some(first) = rows.first() else { continue };
        let together = concat_batches(&first.schema(), &rows).map_err(unfit)?;
        drop(rows);
        let (folded, _) = fold::fold(&together, pending.key())?;
        drop(together);
        merged.keys += folded.num_rows() as u64;
        out.take(&form.remaining(folded)?).await?;
    }
    Ok(merged)
}

/// The changes of a commit in the form of the table, divided by key so that each part fits into memory; within a part in the order in
/// which they came.
enum Parts {
    One(Vec<RecordBatch>),
    Many(Box<Shelf>),
}

impl Parts {
    fn of(pending: &mut Pending, form: &Form, keys: &Keys) -> Result<Self> {
        if let Some(rows) = pending.in_memory() {
            return rows.iter().map(|rows| form.of_change(rows)).collect::<Result<_>>().map(Self::One);
        }
        let mut shelf = Shelf::new(pending.spot().clone(), pending.parts());
        pending.each(|rows| {
            let rows = form.of_change(&rows)?;
            shelf.put(&rows, &keys.marks(&rows)?)
        })?;
        shelf.seal()?;
        Ok(Self::Many(Box::new(shelf)))
    }
    fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(shelf) => shelf.count(),
        }
    }
    fn rows(&mut self, part: usize) -> Result<Vec<RecordBatch>> {
        match self {
            Self::One(rows) => Ok(rows.clone()),
            Self::Many(shelf) => shelf.rows(part)?.collect(),
        }
    }
}

fn unfit(e: arrow_schema::ArrowError) -> Error {
    Error::new(ErrorKind::DataInvalid, "rows cannot be merged into the table").because(e)
}
