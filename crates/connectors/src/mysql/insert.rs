//! Rows into a table: as a file that the server loads, where it allows that, else as INSERTs of many rows. A merge goes through a
//! temporary table, from which two statements bring the rows to their keys.

use arrow_array::{BinaryArray, RecordBatch, StringArray, cast::AsArray};
use arrow_schema::{DataType, Field};
use linkspan_core::{Error, ErrorKind, OP_COLUMN, Result, UNSET_COLUMN, is_feed_column};

use super::{
    books::text,
    columns::{SqlType, Way},
    encode::Values,
    record::{Column, Table},
    sql::{ident, list},
    tables::NO_COLUMNS,
    wire::Wire,
};

const DOING: &str = "writing rows";
/// How much is gathered before it is sent.
const PIECE: usize = 1 << 20;

/// How rows get to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    Load,
    /// With so many bytes at most in a packet of the server.
    Insert(usize),
}

/// The path that the server allows.
pub(super) async fn path(wire: &mut Wire) -> Result<Path> {
    let rows = wire.query("SELECT @@GLOBAL.local_infile, @@max_allowed_packet", "asking for the server's limits").await?;
    let row = rows.into_iter().next().unwrap_or_default();
    let most = text(&row, 1).parse().unwrap_or(PIECE);
    Ok(if text(&row, 0) == "1" { Path::Load } else { Path::Insert(most) })
}

/// Where rows go, and which of a batch's columns.
struct Into<'a> {
    table: String,
    /// The ordinal in the batch, the stored name, the column.
    columns: Vec<(usize, String, &'a Column)>,
}

/// Every row becomes one more row.
pub(super) async fn append(wire: &mut Wire, path: Path, table: &Table, batches: &[RecordBatch]) -> Result<u64> {
    let Some(first) = batches.first() else { return Ok(0) };
    let columns = matched(table, first)?;
    let columns = columns.into_iter().map(|(at, column)| (at, column.stored.clone(), column)).collect();
    send(wire, path, &Into { table: table.place.sql(), columns }, batches).await
}

/// The columns of a batch that the table has, by ordinal.
fn matched<'a>(table: &'a Table, rows: &RecordBatch) -> Result<Vec<(usize, &'a Column)>> {
    let mut columns = Vec::with_capacity(rows.num_columns());
    for (at, field) in rows.schema_ref().fields().iter().enumerate() {
        match table.column(field.name()) {
            Some(column) => columns.push((at, column)),
            None if is_feed_column(field.name()) => {}
            None => {
                return Err(Error::new(ErrorKind::Internal, "the rows have a column that was not planned").with("column", field.name()));
            }
        }
    }
    Ok(columns)
}

async fn send(wire: &mut Wire, path: Path, into: &Into<'_>, batches: &[RecordBatch]) -> Result<u64> {
    let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let taken = match path {
        Path::Load => load(wire, into, batches).await?,
        Path::Insert(most) => insert(wire, most, into, batches).await?,
    };
    if taken == count as u64 {
        return Ok(taken);
    }
    Err(Error::new(ErrorKind::DataInvalid, "the server did not take all rows: some share a key")
        .with("sent", count)
        .with("taken", taken)
        .fix("choose a key that is unique, with --key"))
}

fn values(into: &Into<'_>, rows: &RecordBatch) -> Result<Vec<Values>> {
    into.columns
        .iter()
        .map(|(at, _, column)| Values::of(rows.column(*at), column).map_err(|e| e.with("column", column.field.name())))
        .collect()
}

async fn load(wire: &mut Wire, into: &Into<'_>, batches: &[RecordBatch]) -> Result<u64> {
    wire.start_load(&load_sql(into), DOING).await?;
    let (mut piece, mut scratch) = (Vec::with_capacity(PIECE + PIECE / 4), Vec::new());
    for rows in batches {
        let values = values(into, rows)?;
        for row in 0..rows.num_rows() {
            if values.is_empty() {
                piece.extend_from_slice(b"\\N");
            }
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    piece.push(b'\t');
                }
                value.line(row, &mut piece, &mut scratch);
            }
            piece.push(b'\n');
            if piece.len() >= PIECE {
                wire.load(&piece).await?;
                piece.clear();
            }
        }
    }
    wire.load(&piece).await?;
    let (taken, warnings) = wire.finish_load(DOING).await?;
    // With LOCAL the server bends values and leaves rows out with a warning, where any other statement would fail.
    if warnings > 0 {
        refuse_warnings(wire).await?;
    }
    Ok(taken)
}

async fn refuse_warnings(wire: &mut Wire) -> Result<()> {
    for row in wire.query("SHOW WARNINGS LIMIT 64", DOING).await? {
        if text(&row, 0) != "Note" {
            let code = text(&row, 1).parse().unwrap_or(0);
            return Err(super::errors::Said { code, sqlstate: String::new() }.into_error(DOING));
        }
    }
    Ok(())
}

/// Bytes are read as they are; what is no text or bytes goes through a variable and the function that makes it.
fn load_sql(into: &Into<'_>) -> String {
    let (mut names, mut sets) = (Vec::new(), Vec::new());
    for (at, (_, stored, column)) in into.columns.iter().enumerate() {
        let made = match column.made.way {
            Way::Json => format!("CONVERT(@v{at} USING utf8mb4)"),
            Way::Bits => format!("CAST(@v{at} AS UNSIGNED)"),
            Way::Flag if column.made.text.starts_with("bit") => format!("CAST(@v{at} AS UNSIGNED)"),
            Way::Spatial(_) => format!("@v{at}"),
            Way::Text if !column.made.text.contains("CHARACTER SET") => format!("CONVERT(@v{at} USING utf8mb4)"),
            _ => {
                names.push(ident(stored));
                continue;
            }
        };
        names.push(format!("@v{at}"));
        sets.push(format!("{} = {made}", ident(stored)));
    }
    if names.is_empty() {
        names.push(ident(NO_COLUMNS));
    }
    let sets = if sets.is_empty() { String::new() } else { format!(" SET {}", sets.join(", ")) };
    format!(
        "LOAD DATA LOCAL INFILE 'linkspan' INTO TABLE {} CHARACTER SET binary FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' \
         LINES TERMINATED BY '\\n' ({}){sets}",
        into.table,
        names.join(", ")
    )
}

async fn insert(wire: &mut Wire, most: usize, into: &Into<'_>, batches: &[RecordBatch]) -> Result<u64> {
    let names = match into.columns.as_slice() {
        [] => ident(NO_COLUMNS),
        columns => list(columns.iter().map(|(_, stored, _)| ident(stored))),
    };
    let head = format!("INSERT INTO {} ({names}) VALUES ", into.table).into_bytes();
    let piece = PIECE.min(most / 2);
    let (mut sql, mut scratch, mut one, mut taken) = (head.clone(), Vec::new(), Vec::new(), 0);
    for rows in batches {
        let values = values(into, rows)?;
        for row in 0..rows.num_rows() {
            one.clear();
            one.push(b'(');
            if values.is_empty() {
                one.extend_from_slice(b"NULL");
            }
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    one.push(b',');
                }
                value.literal(row, &mut one, &mut scratch);
            }
            one.push(b')');
            if head.len() + one.len() >= most {
                return Err(too_long().with("row_of_batch", row));
            }
            if sql.len() > head.len() && sql.len() + one.len() > piece {
                taken += wire.change(&sql, DOING).await?.0;
                sql.truncate(head.len());
            }
            if sql.len() > head.len() {
                sql.push(b',');
            }
            sql.extend_from_slice(&one);
        }
    }
    if sql.len() > head.len() {
        taken += wire.change(&sql, DOING).await?.0;
    }
    Ok(taken)
}

/// The server would end the session in the middle of such a row, without a word.
fn too_long() -> Error {
    Error::new(ErrorKind::DataInvalid, "a row is longer than the server takes in one statement")
        .fix("raise max_allowed_packet on the server, or let it take files (local_infile = 1)")
}

/// The temporary table of a merge. Its columns are named by their place, so that no name of the user's can be in the way.
const STAGE: &str = "_ls_merge";

/// Rows replace the row of their key, or delete it. The batch holds each key once. Commits nothing: temporary tables are made and
/// dropped inside of a transaction.
pub(super) async fn merge(wire: &mut Wire, path: Path, table: &Table, rows: &RecordBatch, key: &[String]) -> Result<()> {
    if rows.num_rows() == 0 {
        return Ok(());
    }
    let columns = matched(table, rows)?;
    let feed = Feed::of(rows);
    let stage = super::sql::qualified(Some(&table.place.database), STAGE);
    run(wire, &format!("DROP TEMPORARY TABLE IF EXISTS {stage}")).await?;
    let mut made: Vec<String> = columns.iter().enumerate().map(|(n, (_, c))| format!("c{n} {} NULL", c.made.text)).collect();
    let keyed: Vec<usize> = (0..columns.len()).filter(|n| key.contains(columns[*n].1.field.name())).collect();
    if keyed.len() != key.len() {
        let missing = key.iter().find(|k| !columns.iter().any(|(_, c)| c.field.name() == *k));
        return Err(Error::new(ErrorKind::DataInvalid, "the key column is not in the rows").with("column", missing.map_or("", |k| k)));
    }
    for n in &keyed {
        made[*n] = made[*n].replace(" NULL", " NOT NULL");
    }
    let (op, unset) = (helper(OP_COLUMN, "op"), helper(UNSET_COLUMN, "unset_bits"));
    let mut into: Vec<(usize, String, &Column)> = columns.iter().enumerate().map(|(n, (at, c))| (*at, format!("c{n}"), *c)).collect();
    if let Some(at) = feed.op {
        made.push("op varchar(1) CHARACTER SET ascii".to_owned());
        into.push((at, "op".to_owned(), &op));
    }
    if let Some(at) = feed.unset {
        made.push("unset_bits varbinary(1024)".to_owned());
        into.push((at, "unset_bits".to_owned(), &unset));
    }
    made.push(format!("PRIMARY KEY ({})", list(keyed.iter().map(|n| format!("c{n}")))));
    run(wire, &format!("CREATE TEMPORARY TABLE {stage} ({}) ENGINE=InnoDB CHARACTER SET utf8mb4", made.join(", "))).await?;
    send(wire, path, &Into { table: stage.clone(), columns: into }, std::slice::from_ref(rows)).await?;
    for sql in statements(table, &stage, &columns, &keyed, &feed, rows) {
        run(wire, &sql).await?;
    }
    run(wire, &format!("DROP TEMPORARY TABLE {stage}")).await
}

async fn run(wire: &mut Wire, sql: &str) -> Result<()> {
    wire.query(sql, "merging rows").await.map(drop)
}

/// A column of the feed's own, in the stage.
fn helper(name: &str, stored: &str) -> Column {
    let (data_type, way) = if name == OP_COLUMN { (DataType::Utf8, Way::Text) } else { (DataType::Binary, Way::Bytes) };
    let made = SqlType { text: "CHARACTER SET ascii".to_owned(), way, most: None };
    Column { field: Field::new(name, data_type, true), stored: stored.to_owned(), made }
}

/// Where a feed's own columns are in a batch, as far as the rows use them.
struct Feed {
    op: Option<usize>,
    unset: Option<usize>,
}

impl Feed {
    fn of(rows: &RecordBatch) -> Self {
        let at = |name: &str| rows.schema_ref().index_of(name).ok();
        let ops: Option<&StringArray> = rows.column_by_name(OP_COLUMN).and_then(|c| c.as_string_opt());
        let unset: Option<&BinaryArray> = rows.column_by_name(UNSET_COLUMN).and_then(|c| c.as_binary_opt());
        let deletes = ops.is_some_and(|ops| ops.iter().any(|op| op == Some("d")));
        let partial = unset.is_some_and(|u| u.iter().flatten().any(|bits| bits.iter().any(|b| *b != 0)));
        Self { op: at(OP_COLUMN).filter(|_| deletes), unset: at(UNSET_COLUMN).filter(|_| partial) }
    }
}

/// What brings the staged rows to their keys.
fn statements(table: &Table, stage: &str, columns: &[(usize, &Column)], keyed: &[usize], feed: &Feed, rows: &RecordBatch) -> Vec<String> {
    let target = table.place.sql();
    let name = |n: usize| ident(&columns[n].1.stored);
    let mut all = Vec::new();
    let alive = if feed.op.is_some() {
        let on = keyed.iter().map(|n| format!("t.{} = s.c{n}", name(*n))).collect::<Vec<_>>().join(" AND ");
        all.push(format!("DELETE t FROM {target} AS t JOIN {stage} AS s ON {on} WHERE s.op = 'd'"));
        " WHERE s.op <> 'd'"
    } else {
        ""
    };
    let bit = |n: usize| {
        // The ordinal among the batch's data columns, as the bitmap counts them.
        let at = columns[n].0;
        let ordinal = rows.schema_ref().fields()[..at].iter().filter(|f| !is_feed_column(f.name())).count();
        format!("ASCII(SUBSTRING(s.unset_bits, {}, 1)) & {}", ordinal / 8 + 1, 1 << (ordinal % 8))
    };
    let is_key = |n: &usize| keyed.contains(n);
    let new = |n: usize| match feed.unset {
        Some(_) if !is_key(&n) => format!("IF({}, NULL, s.c{n})", bit(n)),
        _ => format!("s.c{n}"),
    };
    let set = |n: usize| match feed.unset {
        Some(_) => format!("{0} = IF({1}, {target}.{0}, s.c{n})", name(n), bit(n)),
        None => format!("{} = s.c{n}", name(n)),
    };
    let mut sets: Vec<String> = (0..columns.len()).filter(|n| !is_key(n)).map(set).collect();
    if sets.is_empty() {
        sets.push(format!("{0} = {target}.{0}", name(keyed[0])));
    }
    all.push(format!(
        "INSERT INTO {target} ({}) SELECT {} FROM {stage} AS s{alive} ON DUPLICATE KEY UPDATE {}",
        list((0..columns.len()).map(name)),
        list((0..columns.len()).map(new)),
        sets.join(", ")
    ));
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};
    use arrow_schema::Schema;

    use super::*;
    use crate::mysql::{columns::sql_type, record::Place, server::Flavor};

    fn merge_sql(names: &[&str], feed: Feed) -> Vec<String> {
        let fields: Vec<Field> = names.iter().map(|n| Field::new(*n, DataType::Int64, true)).collect();
        let column = |f: &Field| Column { field: f.clone(), stored: f.name().clone(), made: sql_type(f, Flavor::Mysql, None) };
        let place = Place { database: "d".into(), name: "t.x".into() };
        let table = Table { place, token: String::new(), key: vec![names[0].into()], columns: fields.iter().map(column).collect() };
        let values: Vec<ArrayRef> = names.iter().map(|_| Arc::new(Int64Array::from(vec![1])) as ArrayRef).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), values).unwrap();
        statements(&table, "`d`.`_ls_merge`", &matched(&table, &rows).unwrap(), &[0], &feed, &rows)
    }

    #[test]
    fn a_merge_deletes_and_then_upserts_and_keeps_what_was_not_sent() {
        insta::assert_snapshot!(merge_sql(&["id", "cost.total"], Feed { op: Some(2), unset: Some(3) }).join(";\n"), @r"
        DELETE t FROM `d`.`t.x` AS t JOIN `d`.`_ls_merge` AS s ON t.`id` = s.c0 WHERE s.op = 'd';
        INSERT INTO `d`.`t.x` (`id`, `cost.total`) SELECT s.c0, IF(ASCII(SUBSTRING(s.unset_bits, 1, 1)) & 2, NULL, s.c1) FROM `d`.`_ls_merge` AS s WHERE s.op <> 'd' ON DUPLICATE KEY UPDATE `cost.total` = IF(ASCII(SUBSTRING(s.unset_bits, 1, 1)) & 2, `d`.`t.x`.`cost.total`, s.c1)
        ");
        insta::assert_snapshot!(merge_sql(&["id"], Feed { op: None, unset: None }).join(";\n"), @"INSERT INTO `d`.`t.x` (`id`) SELECT s.c0 FROM `d`.`_ls_merge` AS s ON DUPLICATE KEY UPDATE `id` = `d`.`t.x`.`id`");
    }
}
