//! The tables that Linkspan made: which target each holds, and what stands in the way of one. A table carries a token in its comment:
//! one that somebody dropped and made again is not ours.

use linkspan_core::{ConnectionId, Error, ErrorKind, Result, TableShape, Target};

use super::{
    books::{Books, RESERVED, text},
    catalog::{self, Wanted},
    record::{Place, TOKEN, Table, id, recorded, recorded_by_token},
    sql::literal,
    types::Choices,
    wire::Wire,
};

/// A table needs a column: this one stands in a table whose stream has none.
pub(super) const NO_COLUMNS: &str = "_linkspan_no_columns";
const DOING: &str = "reading the record of tables";

/// The staging table of one generation of a target: within 64 characters whatever the names are.
pub(super) fn staging(connection: ConnectionId, target: &Place, generation: u64) -> Place {
    Place { database: target.database.clone(), name: format!("{}{generation}", staging_prefix(connection, target)) }
}

pub(super) fn staging_prefix(connection: ConnectionId, target: &Place) -> String {
    let mark = uuid::Uuid::new_v5(&connection.0, id(target).as_bytes()).simple().to_string();
    format!("{}{}_", connection_prefix(connection), &mark[..12])
}

/// How every staging table of a connection begins.
pub(super) fn connection_prefix(connection: ConnectionId) -> String {
    format!("_ls_{}_", &connection.0.simple().to_string()[..12])
}

/// What the old table of a replace is called until it is dropped.
pub(super) fn old_name(stage: &Place) -> Place {
    Place { database: stage.database.clone(), name: format!("{}_old", stage.name) }
}

/// The table at that place, if it stands there as we made it.
pub(super) async fn find(wire: &mut Wire, books: &Books, place: &Place) -> Result<Option<Table>> {
    if !books.present(wire).await? {
        return Ok(None);
    }
    let sql = format!("SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE {}", place.literals());
    let comment = wire.query(&sql, DOING).await?.first().map(|row| text(row, 0).to_owned());
    let Some(token) = comment.filter(|c| c.starts_with(TOKEN)) else { return Ok(None) };
    let table = match recorded(wire, books, place).await?.filter(|t| t.token == token) {
        Some(table) => table,
        // A crash between the rename of a replace and its record: what is recorded of the staged table is true of this one.
        None => match recorded_by_token(wire, books, &token).await? {
            Some(table) => Table { place: place.clone(), ..table },
            None => return Ok(None),
        },
    };
    let sql = format!("SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE {}", place.literals());
    let names: Vec<String> = wire.query(&sql, DOING).await?.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect();
    let whole = table.columns.iter().all(|c| names.contains(&c.stored));
    Ok(whole.then_some(table))
}

/// Drops a table of ours with its record. Nothing happens when it is not there.
pub(super) async fn drop_table(wire: &mut Wire, books: &Books, place: &Place) -> Result<()> {
    wire.query(&format!("DROP TABLE IF EXISTS {}", place.sql()), "dropping a staging table").await?;
    let sql = format!("DELETE FROM {} WHERE id = '{}'", books.table("tables"), id(place));
    wire.query(&sql, "dropping a staging table").await.map(drop)
}

/// The tables in all databases whose names begin so.
pub(super) async fn named_like(wire: &mut Wire, prefix: &str) -> Result<Vec<Place>> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE LEFT(TABLE_NAME, {}) = {}",
        prefix.chars().count(),
        literal(prefix)
    );
    let rows = wire.query(&sql, "looking for staging tables").await?;
    Ok(rows.iter().map(|row| Place { database: text(row, 0).to_owned(), name: text(row, 1).to_owned() }).collect())
}

/// What stands at a place: ours as it was made, somebody else's by the server's catalog.
pub(super) async fn shape(wire: &mut Wire, books: &Books, place: &Place) -> Result<Option<TableShape>> {
    if let Some(table) = find(wire, books, place).await? {
        return Ok(Some(table.shape()));
    }
    let name = linkspan_core::StreamName::new(Some(&place.database), &place.name);
    let found = catalog::load(wire, Wanted::These(std::slice::from_ref(&name)), Choices::default()).await?.pop();
    Ok(found.map(|table| TableShape { schema: table.stream().schema, key: table.key, ours: false }))
}

/// Somebody else's table is never written, renamed or dropped.
pub(super) async fn refuse_foreign(wire: &mut Wire, books: &Books, place: &Place, target: &Target) -> Result<()> {
    match shape(wire, books, place).await? {
        Some(shape) if !shape.ours => Err(Error::new(ErrorKind::AlreadyExists, "a table that Linkspan did not make is in the way")
            .with("table", target)
            .fix("choose another table with --target, or rename or drop that one")),
        _ => Ok(()),
    }
}

/// The same where the table may be the one that an earlier call has renamed and not recorded.
pub(super) async fn refuse_foreign_or_staged(wire: &mut Wire, books: &Books, place: &Place, stage: &Place, target: &Target) -> Result<()> {
    if let Some(staged) = recorded(wire, books, stage).await?
        && has_token(wire, place, &staged.token).await?
    {
        return Ok(());
    }
    refuse_foreign(wire, books, place, target).await
}

/// Whether the table that stands there was made with this token.
pub(super) async fn has_token(wire: &mut Wire, place: &Place, token: &str) -> Result<bool> {
    let sql = format!("SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE {}", place.literals());
    Ok(wire.query(&sql, DOING).await?.iter().any(|row| text(row, 0) == token))
}

/// Refuses targets that are our own record or staging.
pub(super) fn refuse_reserved(target: &Target) -> Result<()> {
    if !target.name.starts_with(RESERVED) && !target.name.starts_with("_ls_") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "table names that start with _linkspan_ or _ls_ are Linkspan's own")
        .with("table", target)
        .fix("choose another table with --target"))
}
