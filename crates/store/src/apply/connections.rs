//! Connections: found by id or name, made once.

use linkspan_core::{ConnectionId, Error, ErrorKind, Result};
use uuid::Uuid;

use super::{
    keys::{no_connection, uuid_of},
    leases::refuse_while_running,
};
use crate::{
    driver::{Param, Row, Sql},
    record::{ConnectionRecord, NewConnection},
    request::Reply,
};

/// Kept in one place with `record`: the order of the columns.
macro_rules! select {
    ($rest:literal) => {
        concat!("select id, name, source, destination, spec, known, created_at, updated_at from connections ", $rest)
    };
}

fn record(row: &Row) -> Result<ConnectionRecord> {
    Ok(ConnectionRecord {
        id: ConnectionId(uuid_of(row.text(0)?)?),
        name: row.text(1)?.to_owned(),
        from: row.text(2)?.to_owned(),
        to: row.text(3)?.to_owned(),
        spec: row.json(4)?,
        known: row.flag(5)?,
        created_at_ms: row.int(6)?,
        updated_at_ms: row.int(7)?,
    })
}

pub(super) async fn put(sql: &mut dyn Sql, new: NewConnection, drawn: Uuid) -> Result<Reply> {
    if new.name.trim().is_empty() {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a connection needs a name").fix("give it one"));
    }
    let named = by_name(sql, &new.name).await?;
    let same_id = match new.id {
        Some(id) => by_id(sql, ConnectionId(id)).await?,
        None => None,
    };
    match (named, same_id) {
        (Some(named), Some(same)) if named.id != same.id => Err(name_taken(&named)),
        (Some(named), None) if new.id.is_some() => Err(name_taken(&named)),
        (_, Some(stands)) | (Some(stands), None) => update(sql, stands, new).await,
        (None, None) => insert(sql, new, drawn).await,
    }
}

fn name_taken(by: &ConnectionRecord) -> Error {
    Error::new(ErrorKind::Conflict, "the name belongs to another connection")
        .with("connection", &by.name)
        .with("connection_id", by.id)
        .fix("choose another name, or put this id into the project file")
}

async fn insert(sql: &mut dyn Sql, new: NewConnection, drawn: Uuid) -> Result<Reply> {
    const INSERT: &str =
        "insert into connections (id, name, source, destination, spec, created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7)";
    let now = sql.now_ms().await?;
    let id = ConnectionId(new.id.unwrap_or(drawn));
    let params: [Param; 7] = [
        id.to_string().into(),
        new.name.as_str().into(),
        new.from.as_str().into(),
        new.to.as_str().into(),
        Param::json(&new.spec)?,
        now.into(),
        now.into(),
    ];
    sql.execute(INSERT, &params).await?;
    let NewConnection { name, from, to, spec, .. } = new;
    Ok(Reply::Connection(ConnectionRecord { id, name, from, to, spec, known: false, created_at_ms: now, updated_at_ms: now }))
}

/// Writes only when something differs: the same command again is no change.
async fn update(sql: &mut dyn Sql, stands: ConnectionRecord, new: NewConnection) -> Result<Reply> {
    const UPDATE: &str = "update connections set name = $1, source = $2, destination = $3, spec = $4, updated_at = $5 where id = $6";
    let NewConnection { name, from, to, spec, .. } = new;
    if (&stands.name, &stands.from, &stands.to, &stands.spec) == (&name, &from, &to, &spec) {
        return Ok(Reply::Connection(stands));
    }
    let now = sql.now_ms().await?;
    let params: [Param; 6] =
        [name.as_str().into(), from.as_str().into(), to.as_str().into(), Param::json(&spec)?, now.into(), stands.id.to_string().into()];
    sql.execute(UPDATE, &params).await?;
    Ok(Reply::Connection(ConnectionRecord { name, from, to, spec, updated_at_ms: now, ..stands }))
}

/// Forgets the connection with its runs, positions and schemas. Refused while a run of it is going; a second call finds it done.
pub(super) async fn delete(sql: &mut dyn Sql, connection: ConnectionId) -> Result<Reply> {
    const DELETE: &str = "delete from connections where id = $1";
    refuse_while_running(sql, connection).await?;
    sql.execute(DELETE, &[connection.to_string().into()]).await?;
    Ok(Reply::Done)
}

pub(super) async fn list(sql: &mut dyn Sql, after: Option<String>, limit: Option<u32>) -> Result<Reply> {
    const LIST: &str = select!("where name > $1 order by name limit $2");
    let limit = i64::from(limit.unwrap_or(i32::MAX as u32));
    let rows = sql.query(LIST, &[after.unwrap_or_default().into(), limit.into()]).await?;
    Ok(Reply::Connections(rows.iter().map(record).collect::<Result<_>>()?))
}

pub(super) async fn find(sql: &mut dyn Sql, name: &str) -> Result<Reply> {
    Ok(Reply::Connections(by_name(sql, name).await?.into_iter().collect()))
}

pub(super) async fn get(sql: &mut dyn Sql, connection: ConnectionId) -> Result<Reply> {
    by_id(sql, connection).await?.map(Reply::Connection).ok_or_else(|| no_connection(connection))
}

async fn by_name(sql: &mut dyn Sql, name: &str) -> Result<Option<ConnectionRecord>> {
    const BY_NAME: &str = select!("where name = $1");
    sql.query(BY_NAME, &[name.into()]).await?.first().map(record).transpose()
}

pub(super) async fn by_id(sql: &mut dyn Sql, connection: ConnectionId) -> Result<Option<ConnectionRecord>> {
    const BY_ID: &str = select!("where id = $1");
    sql.query(BY_ID, &[connection.to_string().into()]).await?.first().map(record).transpose()
}
