//! Making and changing tables. Everything here runs inside the transaction of the rows.

use arrow_schema::{Field, SchemaRef};
use linkspan_core::{
    Alter, Error, ErrorKind, LoadStream, Publish, Result, SchemaPlan, Swap, Target, WriteMode, is_feed_column, native, widen,
};
use rusqlite::{Connection, params};

use super::{
    books, columns, discover,
    file::{quoted, sql_error},
    insert::Inserter,
    tables::{self, NO_COLUMNS, Table},
    types,
};

/// The columns that a write mode keeps: a merge applies the feed's columns, the others store them.
pub(super) fn stored_fields(schema: &SchemaRef, write: WriteMode) -> impl Iterator<Item = &Field> {
    schema.fields().iter().map(AsRef::as_ref).filter(move |f| write != WriteMode::Merge || !is_feed_column(f.name()))
}

/// Brings the stream's table (a replace: its staging table) into the planned shape. What is already so is left alone, since another
/// lane of the stream may have done it.
pub(super) fn apply(db: &Connection, load: &LoadStream, key: &str, staged_as: Option<&str>, plan: &SchemaPlan) -> Result<Table> {
    if let Some(name) = staged_as {
        refuse_foreign(db, &load.target)?;
        let mut table = create_missing(db, key, name, &plan.schema, &load.key, load.write)?;
        reconcile(db, &mut table, stored_fields(&plan.schema, load.write))?;
        return Ok(table);
    }
    let mut table = tables::find(db, key)?;
    for alter in &plan.ddl {
        match (alter, &mut table) {
            (Alter::Create { schema, key: planned }, None) => {
                refuse_foreign(db, &load.target)?;
                let name = tables::name_for(db, &load.target)?;
                let merge_key = if load.key.is_empty() { planned } else { &load.key };
                let enforced: &[String] = if load.write == WriteMode::Merge { merge_key } else { &[] };
                table = Some(create_missing(db, key, &name, schema, enforced, load.write)?);
            }
            (Alter::Create { schema, .. }, Some(table)) => reconcile(db, table, stored_fields(schema, load.write))?,
            (Alter::Add(field), Some(table)) => reconcile(db, table, [field.as_ref()].into_iter())?,
            (Alter::Widen { to, .. } | Alter::DropNotNull(to), Some(table)) => reconcile(db, table, [to.as_ref()].into_iter())?,
            (_, None) => return Err(not_there(load)),
        }
    }
    let table = match table {
        Some(table) => table,
        None => {
            refuse_foreign(db, &load.target)?;
            return Err(not_there(load));
        }
    };
    if let Some(field) = stored_fields(&plan.schema, load.write).find(|f| !is_feed_column(f.name()) && table.column(f.name()).is_none()) {
        return Err(Error::new(ErrorKind::SchemaDrift, "the table lacks a column of the rows")
            .with("table", &load.target)
            .with("column", field.name())
            .fix("let the drift policy evolve the table, or add the column"));
    }
    if load.write == WriteMode::Merge && table.key != load.key {
        enforce_key(db, &table, &load.key)?;
    }
    Ok(table)
}

fn not_there(load: &LoadStream) -> Error {
    Error::new(ErrorKind::NotFound, "the table is not there").with("table", &load.target).fix("run it again: the table is planned anew")
}

/// Somebody else's table is never written, renamed or dropped.
fn refuse_foreign(db: &Connection, target: &Target) -> Result<()> {
    match discover::shape(db, target)? {
        Some(shape) if !shape.ours => Err(Error::new(ErrorKind::AlreadyExists, "a table that Linkspan did not make is in the way")
            .with("table", target)
            .fix("choose another table with --target, or rename or drop that one")),
        _ => Ok(()),
    }
}

fn create_missing(db: &Connection, target: &str, name: &str, schema: &SchemaRef, key: &[String], write: WriteMode) -> Result<Table> {
    if let Some(table) = tables::find(db, target)? {
        return Ok(table);
    }
    // A record without its table is left when somebody dropped the table.
    tables::unrecord(db, target)?;
    let mut table = Table { target: target.to_owned(), name: name.to_owned(), key: key.to_vec(), columns: Vec::new() };
    for field in stored_fields(schema, write) {
        table.add(field.clone());
    }
    db.execute_batch(&create_sql(&table, name)?).map_err(sql_error)?;
    tables::record(db, &table)?;
    Ok(table)
}

fn create_sql(table: &Table, name: &str) -> Result<String> {
    let mut parts: Vec<String> =
        table.columns.iter().map(|c| format!("{} {}", quoted(&c.stored), types::declared(&c.field)).trim_end().to_owned()).collect();
    if parts.is_empty() {
        parts.push(NO_COLUMNS.into());
    }
    if !table.key.is_empty() {
        let key: Vec<String> = table.stored_key(&table.key)?.iter().map(|c| quoted(c)).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    Ok(format!("CREATE TABLE {} ({})", quoted(name), parts.join(", ")))
}

/// Adds the columns that are missing and widens those that cannot hold the new values.
fn reconcile<'a>(db: &Connection, table: &mut Table, fields: impl Iterator<Item = &'a Field>) -> Result<()> {
    let mut next = table.clone();
    let mut rebuilt = false;
    for field in fields {
        let Some(at) = table.columns.iter().position(|c| c.field.name() == field.name()) else {
            next.add(field.clone().with_nullable(true));
            let added = next.columns.last().map(|c| format!("{} {}", quoted(&c.stored), types::declared(&c.field)));
            let sql = format!("ALTER TABLE {} ADD COLUMN {}", quoted(&table.name), added.unwrap_or_default());
            db.execute_batch(&sql).map_err(sql_error)?;
            continue;
        };
        let stands = &table.columns[at].field;
        let wanted = field.clone().with_data_type(types::kept(field.data_type()));
        if stands.data_type() == wanted.data_type()
            && stands.metadata() == wanted.metadata()
            && stands.is_nullable() >= wanted.is_nullable()
        {
            continue;
        }
        let Some(wider) = widen::widen_field(stands, &wanted) else { return Err(cannot_widen(table, field)) };
        rebuilt |= must_rebuild(stands, &wider);
        next.columns[at].field = wider;
    }
    if rebuilt {
        rebuild(db, table, &next)?;
    }
    tables::record(db, &next)?;
    *table = next;
    Ok(())
}

/// Whether stored values of the old type read wrongly, or are stored wrongly, under the new one. Integers grow in place, and the text of
/// a decimal or a time is the same text at more digits.
fn must_rebuild(from: &Field, to: &Field) -> bool {
    types::declared(from) != types::declared(to)
        || (from.data_type() != to.data_type() && matches!(to.data_type(), arrow_schema::DataType::Utf8))
        || native::has_mark(from, native::INFINITY) != native::has_mark(to, native::INFINITY)
}

fn cannot_widen(table: &Table, field: &Field) -> Error {
    Error::new(ErrorKind::SchemaDrift, "the table's column cannot hold both the old and the new type")
        .with("table", &table.name)
        .with("column", field.name())
        .fix("load the stream anew with --write replace")
}

/// SQLite cannot change a column's type: the table is written again under the new types, with its indexes and triggers.
fn rebuild(db: &Connection, old: &Table, new: &Table) -> Result<()> {
    let extras = extras(db, &old.name)?;
    let temporary = Table { name: format!("{}rebuild", tables::RESERVED), ..new.clone() };
    db.execute_batch(&create_sql(&temporary, &temporary.name)?).map_err(sql_error)?;
    let schema = new.shape().schema;
    columns::read_all(db, old, &mut |rows| {
        let rows = columns::cast(&rows, &schema)?;
        Inserter::append(&temporary, &rows)?.run(db, &rows).map(drop)
    })?;
    let (old_name, new_name) = (quoted(&old.name), quoted(&temporary.name));
    db.execute_batch(&format!("DROP TABLE {old_name}; ALTER TABLE {new_name} RENAME TO {old_name};")).map_err(sql_error)?;
    make_again(db, &extras)
}

/// The statements that made the table's indexes and triggers.
fn extras(db: &Connection, table: &str) -> Result<Vec<String>> {
    let sql = "SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 AND type IN ('index', 'trigger') AND sql IS NOT NULL";
    let mut statement = db.prepare(sql).map_err(sql_error)?;
    statement.query_map([table], |row| row.get(0)).and_then(Iterator::collect).map_err(sql_error)
}

fn make_again(db: &Connection, extras: &[String]) -> Result<()> {
    for sql in extras {
        if let Err(e) = db.execute_batch(sql) {
            // An index over a column that is gone cannot be made again; the rows must not fail for it.
            tracing::warn!(error = %e, "an index or trigger of the replaced table could not be made again");
        }
    }
    Ok(())
}

/// A merge finds rows by a unique index on the key; tables made by an append or a foreign key choice get one now.
fn enforce_key(db: &Connection, table: &Table, key: &[String]) -> Result<()> {
    let stored = table.stored_key(key)?;
    let columns: Vec<String> = stored.iter().map(|c| quoted(c)).collect();
    let name = format!("{}key_{}_{}", tables::RESERVED, table.name, stored.join("_"));
    let sql = format!("CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} ({})", quoted(&name), quoted(&table.name), columns.join(", "));
    db.execute_batch(&sql).map_err(|e| match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => Error::new(ErrorKind::DataInvalid, "the table holds several rows of one key")
            .with("table", &table.name)
            .fix("choose a key that is unique with --key, or load the stream anew with --write replace")
            .because(e),
        _ => sql_error(e),
    })
}

/// Shows a complete generation: the staged table takes the target's place, or its rows do.
pub(super) fn publish(db: &Connection, publish: &Publish) -> Result<()> {
    let load = &publish.stream;
    if books::published(db, publish.connection, &load.stream)? >= load.generation {
        return Ok(());
    }
    let target = tables::target_key(&load.target);
    refuse_foreign(db, &load.target)?;
    let stands = tables::find(db, &target)?;
    let staged = tables::find(db, &tables::staging_key(publish.connection, load))?;
    match (staged, stands) {
        (Some(staged), Some(stands)) if load.swap == Swap::Rewrite => rewrite(db, &staged, stands)?,
        (Some(staged), stands) => rename(db, &staged, stands.as_ref(), &target, &load.target)?,
        // A generation without rows never staged a table: what stands becomes empty.
        (None, Some(stands)) => db.execute_batch(&format!("DELETE FROM {}", quoted(&stands.name))).map_err(sql_error)?,
        (None, None) => {}
    }
    tables::drop_staging(db, publish.connection, Some((&load.target, load.generation + 1)))?;
    books::set_published(db, publish.connection, &load.stream, load.generation)
}

fn rewrite(db: &Connection, staged: &Table, mut stands: Table) -> Result<()> {
    reconcile(db, &mut stands, staged.columns.iter().map(|c| &c.field))?;
    let mut to = Vec::new();
    for column in &staged.columns {
        to.extend(stands.column(column.field.name()).map(|c| quoted(&c.stored)));
    }
    let from: Vec<String> = staged.columns.iter().map(|c| quoted(&c.stored)).collect();
    let (stands, staged_name) = (quoted(&stands.name), quoted(&staged.name));
    let sql = format!("DELETE FROM {stands}; INSERT INTO {stands} ({}) SELECT {} FROM {staged_name}", to.join(", "), from.join(", "));
    db.execute_batch(&sql).map_err(sql_error)?;
    tables::drop(db, &staged.target, &staged.name)
}

fn rename(db: &Connection, staged: &Table, stands: Option<&Table>, target: &str, place: &Target) -> Result<()> {
    let mut indexes = Vec::new();
    let name = match stands {
        Some(old) => {
            indexes = extras(db, &old.name)?;
            tables::drop(db, target, &old.name)?;
            old.name.clone()
        }
        None => {
            tables::unrecord(db, target)?;
            tables::name_for(db, place)?
        }
    };
    db.execute_batch(&format!("ALTER TABLE {} RENAME TO {}", quoted(&staged.name), quoted(&name))).map_err(sql_error)?;
    tables::unrecord(db, &staged.target)?;
    tables::record(db, &Table { target: target.to_owned(), name, ..staged.clone() })?;
    make_again(db, &indexes)
}

/// Empties the table, if it is there.
pub(super) fn truncate(db: &Connection, key: &str) -> Result<()> {
    match tables::find(db, key)? {
        Some(table) => db.execute(&format!("DELETE FROM {}", quoted(&table.name)), params![]).map(drop).map_err(sql_error),
        None => Ok(()),
    }
}
