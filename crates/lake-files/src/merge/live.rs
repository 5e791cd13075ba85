//! The files of a table: which of their rows have one of some keys, and those files again without such rows.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_buffer::BooleanBufferBuilder;
use arrow_select::filter::filter_record_batch;
use futures::{StreamExt, TryStreamExt, stream};
use linkspan_core::Result;

use super::{
    Intake,
    form::Form,
    keys::{Keys, Mark, Sorted},
    shelf::Shelf,
    unfit,
};
use crate::{
    source::{DataFile, align},
    storage::{Item, Storage},
};

/// Footers read at once.
const AT_ONCE: usize = 8;

pub(super) struct Live {
    key: Vec<String>,
    files: Vec<LiveFile>,
}

struct LiveFile {
    path: String,
    file: DataFile,
    /// A bit for each row that is changed; none as long as there is no such row.
    changed: Option<BooleanBufferBuilder>,
}

impl Live {
    pub async fn open(storage: &Arc<Storage>, present: &[Item], key: &[String]) -> Result<Self> {
        let opened = stream::iter(present.to_vec()).map(|item| async move {
            let file = DataFile::open(storage, &item).await?;
            Ok::<_, linkspan_core::Error>(LiveFile { path: item.path, file, changed: None })
        });
        Ok(Self { key: key.to_vec(), files: opened.buffered(AT_ONCE).try_collect().await? })
    }

    /// Notes the rows that have one of these keys. A row group that cannot hold one of them, by what its file says, is not read.
    pub async fn look_for(&mut self, wanted: &HashSet<Mark>, keys: &Keys) -> Result<()> {
        let sorted = keys.are_ordered().then(|| Sorted::of(wanted));
        for LiveFile { file, changed, .. } in &mut self.files {
            let ranges = sorted.as_ref().map_or(Ok(Vec::new()), |_| ranges(file, keys, &self.key))?;
            let mut row = 0;
            for group in 0..file.groups() {
                if let (Some(sorted), Some(Some((least, most)))) = (&sorted, ranges.get(group))
                    && !sorted.has_between(*least, *most)
                {
                    row += file.rows_of_group(group);
                    continue;
                }
                let mut rows = file.columns_of_group(group, &self.key)?;
                while let Some(rows) = rows.next().await? {
                    for mark in keys.marks(&rows)? {
                        if wanted.contains(&mark) {
                            let many = file.rows() as usize;
                            changed.get_or_insert_with(|| none_of(many)).set_bit(row, true);
                        }
                        row += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands on the rows that stay of every file with a row that does not; such rows go to `earlier`. Answers the names of those files.
    pub async fn write_again(self, form: &Form, keys: &Keys, mut earlier: Option<&mut Shelf>, out: &mut dyn Intake) -> Result<Vec<String>> {
        let mut removes = Vec::new();
        for LiveFile { path, file, changed } in self.files {
            let Some(mut changed) = changed else { continue };
            let changed = changed.finish();
            let mut at = 0;
            for group in 0..file.groups() {
                let mut rows = file.group(group)?;
                while let Some(rows) = rows.next().await? {
                    let of_these = changed.slice(at, rows.num_rows());
                    at += rows.num_rows();
                    let stays = filter_record_batch(&rows, &BooleanArray::new(!&of_these, None)).map_err(unfit)?;
                    if stays.num_rows() > 0 {
                        out.take(&align(&stays, form.table(), &file.name())?).await?;
                    }
                    if let (Some(earlier), true) = (earlier.as_deref_mut(), of_these.count_set_bits() > 0) {
                        let goes = filter_record_batch(&rows, &BooleanArray::new(of_these, None)).map_err(unfit)?;
                        let goes = form.of_earlier(&goes)?;
                        earlier.put(&goes, &keys.marks(&goes)?)?;
                    }
                }
            }
            removes.push(path);
        }
        Ok(removes)
    }
}

/// Between which keys the rows of each row group are, where that is known.
fn ranges(file: &DataFile, keys: &Keys, key: &[String]) -> Result<Vec<Option<(Mark, Mark)>>> {
    let Some((name, (least, most))) = key.first().and_then(|name| Some((name, file.ranges(name)?))) else { return Ok(Vec::new()) };
    let is_known: Vec<bool> = (0..least.len()).map(|group| least.is_valid(group) && most.is_valid(group)).collect();
    let marks = |values: ArrayRef| keys.marks(&RecordBatch::try_from_iter([(name, values)]).map_err(unfit)?);
    let ends = marks(least)?.into_iter().zip(marks(most)?);
    Ok(ends.zip(is_known).map(|(ends, is_known)| is_known.then_some(ends)).collect())
}

fn none_of(many: usize) -> BooleanBufferBuilder {
    let mut bits = BooleanBufferBuilder::new(many);
    bits.append_n(many, false);
    bits
}
