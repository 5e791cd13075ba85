//! Changes of documents: edits, histories and the remembered answer, together or not at all.

use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{connections, documents::by_id, entries, positions, queue};
use crate::{
    change::{Change, Edit, Outcome, Remember, Remembered, SecretEdit},
    document::{AUDIT, Document, Link, Sealed},
    driver::{Param, Sql},
    request::Reply,
};

/// How long an answer is remembered for its key: longer than any client retries.
const REMEMBER_MS: i64 = 48 * 3600 * 1000;
/// How long a change's id is remembered: longer than a broken socket is asked again.
const REPEAT_MS: i64 = 3600 * 1000;

pub(super) async fn change(sql: &mut dyn Sql, change: Change) -> Result<Reply> {
    const SEEN: &str = "select 1 from changes where id = $1";
    const DONE: &str = "insert into changes (id, at) values ($1, $2)";
    const OLD: &str = "delete from changes where at < $1";
    let now = sql.now_ms().await?;
    if !sql.query(SEEN, &[change.id.to_string().into()]).await?.is_empty() {
        return Ok(Reply::Changed(Outcome::Done));
    }
    if let Some(remember) = &change.remember
        && let Some(answer) = repeated(sql, remember).await?
    {
        return Ok(Reply::Changed(Outcome::Repeated(answer)));
    }
    for edit in change.edits {
        apply(sql, edit).await?;
    }
    for entry in change.entries {
        entries::append(sql, entry, change.at_ms).await?;
    }
    if let Some(remember) = change.remember {
        keep_answer(sql, remember, now).await?;
    }
    sql.execute(OLD, &[(now - REPEAT_MS).into()]).await?;
    sql.execute(DONE, &[change.id.to_string().into(), now.into()]).await?;
    Ok(Reply::Changed(Outcome::Done))
}

async fn apply(sql: &mut dyn Sql, edit: Edit) -> Result<()> {
    match edit {
        Edit::Insert { document, links, secret } => insert(sql, document, links, secret).await,
        Edit::Update { document, if_version, links, secret } => update(sql, document, if_version, links, secret).await,
        Edit::Delete { id, if_version } => delete(sql, id, if_version).await,
        Edit::Observe { id, merge } => observe(sql, id, merge).await,
        Edit::Expect { id, version } => standing(sql, id, version).await.map(drop),
        Edit::ExpectSecret { id, token } => standing_secret(sql, id, token).await,
        Edit::Turn { id, was, secret } => turn(sql, id, was, secret).await,
        Edit::PutConnection { new } => {
            let drawn = new.id.unwrap_or_else(Uuid::now_v7);
            connections::put(sql, new, drawn).await.map(drop)
        }
        Edit::ForgetConnection { connection } => connections::delete(sql, connection).await.map(drop),
        Edit::QueueRun { run } => queue::put_alone(sql, &run).await,
        Edit::CancelRun { run } => queue::cancel(sql, run).await.map(drop),
        Edit::Reset { connection, of } => positions::reset(sql, connection, of, Uuid::now_v7()).await.map(drop),
    }
}

async fn insert(sql: &mut dyn Sql, document: Document, links: Vec<Link>, secret: Option<Sealed>) -> Result<()> {
    const INSERT: &str = "insert into documents (id, kind, project, name, facet, version, body, observed, created_at, updated_at) \
                          values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    refuse_taken_name(sql, &document).await?;
    let params: [Param; 10] = [
        document.id.to_string().into(),
        document.kind.as_str().into(),
        document.project.as_str().into(),
        document.name.clone().into(),
        document.facet.as_str().into(),
        document.version.into(),
        Param::json(&document.body)?,
        Param::json(&document.observed)?,
        document.created_at_ms.into(),
        document.updated_at_ms.into(),
    ];
    sql.execute(INSERT, &params).await?;
    link(sql, document.id, links).await?;
    match secret {
        Some(sealed) => put_secret(sql, document.id, sealed).await,
        None => Ok(()),
    }
}

async fn update(sql: &mut dyn Sql, document: Document, if_version: u64, links: Option<Vec<Link>>, secret: SecretEdit) -> Result<()> {
    const UPDATE: &str = "update documents set name = $1, facet = $2, version = $3, body = $4, updated_at = $5 where id = $6";
    const UNLINK: &str = "delete from links where document = $1";
    let stands = standing(sql, document.id, if_version).await?;
    if stands.name != document.name {
        refuse_taken_name(sql, &document).await?;
    }
    let params: [Param; 6] = [
        document.name.clone().into(),
        document.facet.as_str().into(),
        (if_version + 1).into(),
        Param::json(&document.body)?,
        document.updated_at_ms.into(),
        document.id.to_string().into(),
    ];
    sql.execute(UPDATE, &params).await?;
    if let Some(links) = links {
        sql.execute(UNLINK, &[document.id.to_string().into()]).await?;
        link(sql, document.id, links).await?;
    }
    match secret {
        SecretEdit::Keep => Ok(()),
        SecretEdit::Set(sealed) => put_secret(sql, document.id, sealed).await,
        SecretEdit::Remove => drop_secret(sql, document.id).await,
    }
}

async fn delete(sql: &mut dyn Sql, id: Uuid, if_version: Option<u64>) -> Result<()> {
    const NEEDED: &str = "select 1 from secrets where data_key = $1 limit 1";
    const DELETE: &str = "delete from documents where id = $1";
    const HISTORIES: &str = "delete from entries where about = $1 and kind <> $2";
    if let Some(version) = if_version
        && by_id(sql, id).await?.is_some_and(|d| d.version != version)
    {
        return Err(stale(id));
    }
    // A key that secrets lie under stays: they would be lost with it.
    if !sql.query(NEEDED, &[id.to_string().into()]).await?.is_empty() {
        return Err(Error::new(ErrorKind::Conflict, "secrets still lie under this key")
            .with("id", id)
            .fix("move them to another key first"));
    }
    // Links and secret go with it by the tables' own rules.
    sql.execute(DELETE, &[id.to_string().into()]).await?;
    sql.execute(HISTORIES, &[id.to_string().into(), AUDIT.into()]).await.map(drop)
}

async fn observe(sql: &mut dyn Sql, id: Uuid, merge: Value) -> Result<()> {
    const OBSERVE: &str = "update documents set observed = $1 where id = $2";
    let Some(document) = by_id(sql, id).await? else { return Ok(()) };
    let seen = merged(document.observed, merge);
    sql.execute(OBSERVE, &[Param::json(&seen)?, id.to_string().into()]).await.map(drop)
}

fn merged(stands: Value, merge: Value) -> Value {
    let mut fields = match stands {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    if let Value::Object(news) = merge {
        for (name, value) in news {
            match value {
                Value::Null => drop(fields.shift_remove(&name)),
                value => drop(fields.insert(name, value)),
            }
        }
    }
    Value::Object(fields)
}

async fn standing(sql: &mut dyn Sql, id: Uuid, version: u64) -> Result<Document> {
    match by_id(sql, id).await? {
        Some(document) if document.version == version => Ok(document),
        Some(_) => Err(stale(id)),
        None => Err(Error::new(ErrorKind::NotFound, "it was deleted meanwhile").with("id", id).fix("read what stands now")),
    }
}

fn stale(id: Uuid) -> Error {
    Error::new(ErrorKind::Conflict, "somebody else changed it since it was read")
        .with("id", id)
        .fix("read it again, and apply the change to what stands now")
}

async fn refuse_taken_name(sql: &mut dyn Sql, document: &Document) -> Result<()> {
    const TAKEN: &str = "select id from documents where kind = $1 and project = $2 and name = $3 and id <> $4";
    let Some(name) = &document.name else { return Ok(()) };
    let params = [document.kind.as_str().into(), document.project.as_str().into(), name.as_str().into(), document.id.to_string().into()];
    if sql.query(TAKEN, &params).await?.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::AlreadyExists, format!("there is a {} of this name already", document.kind))
        .with("name", name)
        .fix("choose another name, or change the one that stands"))
}

async fn link(sql: &mut dyn Sql, document: Uuid, links: Vec<Link>) -> Result<()> {
    const LINK: &str = "insert into links (document, role, target) values ($1, $2, $3) on conflict do nothing";
    for Link { role, to } in links {
        sql.execute(LINK, &[document.to_string().into(), role.into(), to.to_string().into()]).await?;
    }
    Ok(())
}

async fn put_secret(sql: &mut dyn Sql, document: Uuid, sealed: Sealed) -> Result<()> {
    const PUT: &str = "insert into secrets (document, data_key, token) values ($1, $2, $3) \
                       on conflict (document) do update set data_key = excluded.data_key, token = excluded.token";
    sql.execute(PUT, &[document.to_string().into(), sealed.data_key.to_string().into(), sealed.token.into()]).await.map(drop)
}

async fn standing_secret(sql: &mut dyn Sql, document: Uuid, token: Option<String>) -> Result<()> {
    const TOKEN: &str = "select token from secrets where document = $1";
    let rows = sql.query(TOKEN, &[document.to_string().into()]).await?;
    let stands = rows.first().map(|row| row.text(0)).transpose()?;
    if stands == token.as_deref() { Ok(()) } else { Err(stale(document)) }
}

async fn drop_secret(sql: &mut dyn Sql, document: Uuid) -> Result<()> {
    const DROP: &str = "delete from secrets where document = $1";
    sql.execute(DROP, &[document.to_string().into()]).await.map(drop)
}

async fn turn(sql: &mut dyn Sql, document: Uuid, was: String, sealed: Sealed) -> Result<()> {
    const TURN: &str = "update secrets set data_key = $1, token = $2 where document = $3 and token = $4";
    let params = [sealed.data_key.to_string().into(), sealed.token.into(), document.to_string().into(), was.into()];
    sql.execute(TURN, &params).await.map(drop)
}

/// The answer of the same request before; `Conflict` when the key was used for another.
async fn repeated(sql: &mut dyn Sql, asked: &Remember) -> Result<Option<Value>> {
    const OLD: &str = "delete from idempotency where at < $1";
    let oldest = sql.now_ms().await? - REMEMBER_MS;
    sql.execute(OLD, &[oldest.into()]).await?;
    match remembered_of(sql, &asked.project, &asked.caller, &asked.key).await? {
        Some(known) if known.hash == asked.hash => Ok(Some(known.answer)),
        Some(_) => Err(other_request()),
        None => Ok(None),
    }
}

pub(crate) fn other_request() -> Error {
    Error::new(ErrorKind::Conflict, "this Idempotency-Key was used for another request")
        .with("precondition", "idempotency-key")
        .fix("use a new key for each new request")
}

async fn remembered_of(sql: &mut dyn Sql, project: &str, caller: &str, key: &str) -> Result<Option<Remembered>> {
    const REMEMBERED: &str =
        "select hash, answer from idempotency where project = $1 and caller = $2 and idempotency_key = $3 and at >= $4";
    let oldest = sql.now_ms().await? - REMEMBER_MS;
    let rows = sql.query(REMEMBERED, &[project.into(), caller.into(), key.into(), oldest.into()]).await?;
    rows.first().map(|row| Ok(Remembered { hash: row.text(0)?.to_owned(), answer: row.json(1)? })).transpose()
}

pub(super) async fn remembered(sql: &mut dyn Sql, project: &str, caller: &str, key: &str) -> Result<Reply> {
    Ok(Reply::Remembered(remembered_of(sql, project, caller, key).await?))
}

async fn keep_answer(sql: &mut dyn Sql, remember: Remember, now: i64) -> Result<()> {
    const KEEP: &str = "insert into idempotency (project, caller, idempotency_key, hash, answer, at) values ($1, $2, $3, $4, $5, $6)";
    let params: [Param; 6] = [
        remember.project.into(),
        remember.caller.into(),
        remember.key.into(),
        remember.hash.into(),
        Param::json(&remember.answer)?,
        now.into(),
    ];
    sql.execute(KEEP, &params).await.map(drop)
}
