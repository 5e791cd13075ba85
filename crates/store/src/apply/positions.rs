//! Positions, generations and schemas of a connection: written only by the run that holds it.

use std::{cmp::Ordering, collections::BTreeMap};

use linkspan_core::{Commit, ConnectionId, Error, ErrorKind, Generation, Recalled, Result, Scope, State, StreamName, Target};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    connections,
    keys::{no_connection, stream_key, stream_of, uuid_of},
    leases::{check_lease, refuse_while_running},
};
use crate::{
    driver::{Param, Row, Sql},
    record::{PositionRecord, ResetOf, RunId, SchemaRecord},
    request::{LeaseKey, Reply},
};

/// Draws the stream's next generation and forgets its states. Asked twice with one id it draws once.
pub(super) async fn draw_generation(sql: &mut dyn Sql, by: LeaseKey, stream: &StreamName, id: Uuid) -> Result<Reply> {
    check_lease(sql, by).await?;
    draw(sql, by.connection, &stream_key(stream), id).await.map(Reply::Generation)
}

async fn draw(sql: &mut dyn Sql, connection: ConnectionId, stream: &str, id: Uuid) -> Result<u64> {
    const DRAWN: &str = "select number from generations where connection = $1 and stream = $2 and drawn_by = $3";
    const DRAW: &str = "insert into generations (connection, stream, number, complete, drawn_by) values ($1, $2, 1, 0, $3) \
        on conflict (connection, stream) do update set number = generations.number + 1, complete = 0, drawn_by = excluded.drawn_by, target = null \
        returning number";
    const FORGET: &str = "delete from scopes where connection = $1 and stream = $2";
    let key: [Param; 3] = [connection.to_string().into(), stream.into(), id.to_string().into()];
    if let Some(row) = sql.query(DRAWN, &key).await?.first() {
        return row.count(0);
    }
    let rows = sql.query(DRAW, &key).await?;
    let number = rows.first().ok_or_else(|| Error::new(ErrorKind::Internal, "a generation was drawn but not answered"))?.count(0)?;
    sql.execute(FORGET, &key[..2]).await?;
    Ok(number)
}

/// Where the newest generations of these streams go.
pub(super) async fn aim(sql: &mut dyn Sql, by: LeaseKey, targets: Vec<(StreamName, Target)>) -> Result<Reply> {
    const AIM: &str = "update generations set target = $1 where connection = $2 and stream = $3";
    check_lease(sql, by).await?;
    for (stream, target) in targets {
        sql.execute(AIM, &[Param::json(&target)?, by.connection.to_string().into(), stream_key(&stream).into()]).await?;
    }
    Ok(Reply::Done)
}

/// Where a scope stands. The state stays the text it was saved as: numbers in it are compared exactly.
struct Stands {
    generation: u64,
    number: u64,
    state: String,
}

async fn scope_at(sql: &mut dyn Sql, connection: ConnectionId, scope: &Scope) -> Result<Option<Stands>> {
    const SCOPE: &str = "select generation, number, state from scopes where connection = $1 and scope = $2";
    let rows = sql.query(SCOPE, &[connection.to_string().into(), scope.to_string().into()]).await?;
    let read = |r: &Row| Ok(Stands { generation: r.count(0)?, number: r.count(1)?, state: r.text(2)?.to_owned() });
    rows.first().map(read).transpose()
}

fn state_text(state: &State) -> Result<String> {
    serde_json::to_string(state).map_err(|e| Error::new(ErrorKind::Internal, "a state is not JSON").because(e))
}

async fn generation_at(sql: &mut dyn Sql, connection: ConnectionId, stream: &StreamName) -> Result<Option<u64>> {
    const NUMBER: &str = "select number from generations where connection = $1 and stream = $2";
    let rows = sql.query(NUMBER, &[connection.to_string().into(), stream_key(stream).into()]).await?;
    rows.first().map(|r| r.count(0)).transpose()
}

/// Remembers commits. The same commit again changes nothing; one that lies behind what is remembered is refused.
pub(super) async fn save(sql: &mut dyn Sql, by: LeaseKey, commits: Vec<Commit>) -> Result<Reply> {
    check_lease(sql, by).await?;
    let mut next: BTreeMap<Scope, Stands> = BTreeMap::new();
    for commit in commits {
        if commit.connection != by.connection {
            return Err(Error::new(ErrorKind::Internal, "a commit of another connection was to be saved").with("scope", &commit.scope));
        }
        if let Some(stream) = commit.scope.stream()
            && generation_at(sql, by.connection, stream).await?.is_some_and(|drawn| commit.generation < drawn)
        {
            return Err(behind(&commit, "its generation was replaced by a newer one"));
        }
        let stored = if next.contains_key(&commit.scope) { None } else { scope_at(sql, by.connection, &commit.scope).await? };
        let state = state_text(&commit.state)?;
        if advances(&commit, &state, next.get(&commit.scope).or(stored.as_ref()))? {
            next.insert(commit.scope, Stands { generation: commit.generation, number: commit.number, state });
        }
    }
    if next.is_empty() {
        return Ok(Reply::Done);
    }
    put_scopes(sql, by.connection, next).await?;
    mark_known(sql, by.connection).await?;
    Ok(Reply::Done)
}

/// Whether the commit is news. Pure: the rule of saves in one place.
fn advances(commit: &Commit, state: &str, stands: Option<&Stands>) -> Result<bool> {
    let Some(stands) = stands else { return Ok(true) };
    match (commit.generation, commit.number).cmp(&(stands.generation, stands.number)) {
        Ordering::Greater => Ok(true),
        Ordering::Equal if state == stands.state => Ok(false),
        Ordering::Equal => Err(behind(commit, "another state is remembered under its number")),
        Ordering::Less => Err(behind(commit, "a later one is remembered")),
    }
}

fn behind(commit: &Commit, why: &'static str) -> Error {
    Error::new(ErrorKind::Conflict, format!("a commit cannot be remembered: {why}"))
        .with("scope", &commit.scope)
        .with("generation", commit.generation)
        .with("number", commit.number)
        .fix("run the same command again: it goes on from what the destination holds")
}

async fn put_scopes(sql: &mut dyn Sql, connection: ConnectionId, scopes: BTreeMap<Scope, Stands>) -> Result<()> {
    let now = sql.now_ms().await?;
    let row = |(scope, at): (Scope, Stands)| {
        let stream = scope.stream().map(stream_key);
        json!({"scope": scope, "stream": stream, "generation": at.generation, "number": at.number, "state": at.state})
    };
    let rows: Vec<Value> = scopes.into_iter().map(row).collect();
    let statement = sql.dialect().put_scopes;
    sql.execute(statement, &[connection.to_string().into(), now.into(), Param::json(&rows)?]).await.map(drop)
}

async fn mark_known(sql: &mut dyn Sql, connection: ConnectionId) -> Result<()> {
    const KNOWN: &str = "update connections set known = 1 where id = $1 and known = 0";
    sql.execute(KNOWN, &[connection.to_string().into()]).await.map(drop)
}

/// The generation ended complete. One that was replaced meanwhile is `Conflict`.
pub(super) async fn complete(sql: &mut dyn Sql, by: LeaseKey, stream: &StreamName, generation: u64) -> Result<Reply> {
    const COMPLETE: &str = "update generations set complete = 1 where connection = $1 and stream = $2 and number = $3";
    check_lease(sql, by).await?;
    let touched = sql.execute(COMPLETE, &[by.connection.to_string().into(), stream_key(stream).into(), generation.into()]).await?;
    if touched == 1 {
        return Ok(Reply::Done);
    }
    Err(Error::new(ErrorKind::Conflict, "the generation that ended is not the one that was drawn last")
        .with("stream", stream)
        .with("generation", generation)
        .fix("run the same command again"))
}

/// Takes over what the destination recalls, forwards or backwards: there it is the truth.
pub(super) async fn adopt(
    sql: &mut dyn Sql,
    by: LeaseKey,
    scopes: BTreeMap<Scope, Recalled>,
    generations: Vec<(StreamName, Generation)>,
) -> Result<Reply> {
    const PUT: &str = "insert into generations (connection, stream, number, complete, drawn_by) values ($1, $2, $3, $4, '') \
        on conflict (connection, stream) do update set number = excluded.number, complete = excluded.complete, drawn_by = '', \
        target = case when generations.number = excluded.number then generations.target end";
    check_lease(sql, by).await?;
    for (stream, generation) in generations {
        let key = stream_key(&stream).into();
        sql.execute(PUT, &[by.connection.to_string().into(), key, generation.number.into(), generation.complete.into()]).await?;
    }
    let stands =
        |(scope, r): (Scope, Recalled)| Ok((scope, Stands { generation: r.generation, number: r.number, state: state_text(&r.state)? }));
    put_scopes(sql, by.connection, scopes.into_iter().map(stands).collect::<Result<_>>()?).await?;
    mark_known(sql, by.connection).await?;
    Ok(Reply::Done)
}

/// Keeps the schema when it differs from the last one kept.
pub(super) async fn saw_schema(sql: &mut dyn Sql, by: LeaseKey, stream: &StreamName, schema: Value) -> Result<Reply> {
    const LAST: &str = "select version, schema_json from schemas where connection = $1 and stream = $2 order by version desc limit 1";
    const PUT: &str = "insert into schemas (connection, stream, version, schema_json, seen_at, run) values ($1, $2, $3, $4, $5, $6)";
    check_lease(sql, by).await?;
    let (connection, stream) = (by.connection.to_string(), stream_key(stream));
    let rows = sql.query(LAST, &[connection.as_str().into(), stream.as_str().into()]).await?;
    let version = match rows.first() {
        Some(row) if row.json::<Value>(1)? == schema => return Ok(Reply::Done),
        Some(row) => row.count(0)? + 1,
        None => 1,
    };
    let now = sql.now_ms().await?;
    let params = [connection.into(), stream.into(), version.into(), Param::json(&schema)?, now.into(), by.run.to_string().into()];
    sql.execute(PUT, &params).await?;
    Ok(Reply::Done)
}

/// Draws new generations, so that what destinations recall of older ones is ignored, and forgets states. Rows stay.
pub(super) async fn reset(sql: &mut dyn Sql, connection: ConnectionId, of: ResetOf, id: Uuid) -> Result<Reply> {
    const STREAMS: &str = "select stream from generations where connection = $1 \
        union select stream from scopes where connection = $2 and stream is not null";
    const FORGET_ALL: &str = "delete from scopes where connection = $1";
    refuse_while_running(sql, connection).await?;
    let key: Param = connection.to_string().into();
    let streams: Vec<String> = match &of {
        ResetOf::Streams(streams) => streams.iter().map(stream_key).collect(),
        ResetOf::All => {
            let rows = sql.query(STREAMS, &[key.clone(), key.clone()]).await?;
            rows.iter().map(|r| r.text(0).map(str::to_owned)).collect::<Result<_>>()?
        }
    };
    for stream in streams {
        draw(sql, connection, &stream, id).await?;
    }
    if of == ResetOf::All {
        sql.execute(FORGET_ALL, &[key]).await?;
    }
    Ok(Reply::Done)
}

async fn positions(sql: &mut dyn Sql, connection: ConnectionId) -> Result<Vec<PositionRecord>> {
    const SCOPES: &str = "select scope, generation, number, state, saved_at from scopes where connection = $1 order by scope";
    let rows = sql.query(SCOPES, &[connection.to_string().into()]).await?;
    let read = |row: &Row| {
        let recalled = Recalled { generation: row.count(1)?, number: row.count(2)?, state: row.json(3)? };
        Ok(PositionRecord { scope: row.text(0)?.parse()?, recalled, saved_at_ms: row.int(4)? })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn list(sql: &mut dyn Sql, connection: ConnectionId) -> Result<Reply> {
    positions(sql, connection).await.map(Reply::Positions)
}

pub(super) async fn load(sql: &mut dyn Sql, connection: ConnectionId) -> Result<Reply> {
    const GENERATIONS: &str = "select stream, number, complete, target from generations where connection = $1 order by stream";
    let record = connections::by_id(sql, connection).await?.ok_or_else(|| no_connection(connection))?;
    let positions = positions(sql, connection).await?;
    let rows = sql.query(GENERATIONS, &[connection.to_string().into()]).await?;
    let (mut generations, mut targets) = (Vec::new(), Vec::new());
    for row in &rows {
        let stream = stream_of(row.text(0)?)?;
        generations.push((stream.clone(), Generation { number: row.count(1)?, complete: row.flag(2)? }));
        targets.extend(row.optional(3, Row::json)?.map(|target| (stream, target)));
    }
    Ok(Reply::Memory { positions, generations, targets, known: record.known })
}

pub(super) async fn schema_history(sql: &mut dyn Sql, connection: ConnectionId, stream: &StreamName) -> Result<Reply> {
    const SCHEMAS: &str = "select version, schema_json, seen_at, run from schemas where connection = $1 and stream = $2 order by version";
    let rows = sql.query(SCHEMAS, &[connection.to_string().into(), stream_key(stream).into()]).await?;
    let read = |row: &Row| {
        let run = RunId(uuid_of(row.text(3)?)?);
        Ok(SchemaRecord { stream: stream.clone(), version: row.count(0)?, schema: row.json(1)?, seen_at_ms: row.int(2)?, run })
    };
    Ok(Reply::Schemas(rows.iter().map(read).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(generation: u64, number: u64, value: i64) -> Commit {
        Commit {
            connection: ConnectionId(Uuid::nil()),
            scope: Scope::Shared,
            generation,
            fence: 1,
            previous: number.saturating_sub(1),
            number,
            state: State::new(1, value.into()),
        }
    }

    #[test]
    fn a_save_moves_forwards_or_repeats_and_never_goes_back() {
        let text = |c: &Commit| state_text(&c.state).unwrap();
        let stands = Stands { generation: 2, number: 5, state: text(&commit(2, 5, 50)) };
        let news = |c: Commit, at: Option<&Stands>| advances(&c, &text(&c), at);
        assert!(news(commit(1, 1, 0), None).unwrap());
        assert!(news(commit(2, 6, 60), Some(&stands)).unwrap());
        assert!(news(commit(3, 1, 0), Some(&stands)).unwrap());
        assert!(!news(commit(2, 5, 50), Some(&stands)).unwrap());
        for wrong in [commit(2, 5, 51), commit(2, 4, 40), commit(1, 9, 90)] {
            assert_eq!(news(wrong, Some(&stands)).unwrap_err().kind(), ErrorKind::Conflict);
        }
    }
}
