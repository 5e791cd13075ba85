//! Histories: lines that are only ever added, and cut at their oldest end.

use linkspan_core::Result;

use crate::{
    change::NewEntry,
    document::{Entry, EntryFilter},
    driver::{Param, Row, Sql},
    request::Reply,
};

macro_rules! select {
    ($rest:literal) => {
        concat!("select seq, kind, project, about, at, body from entries ", $rest, " order by seq desc limit ")
    };
}

fn record(row: &Row) -> Result<Entry> {
    Ok(Entry {
        seq: row.int(0)?,
        kind: row.text(1)?.to_owned(),
        project: row.text(2)?.to_owned(),
        about: row.text(3)?.to_owned(),
        at_ms: row.int(4)?,
        body: row.json(5)?,
    })
}

pub(super) async fn append(sql: &mut dyn Sql, entry: NewEntry, at_ms: i64) -> Result<()> {
    const APPEND: &str = "insert into entries (kind, project, about, at, body) values ($1, $2, $3, $4, $5)";
    const CUT: &str = "delete from entries where kind = $1 and about = $2 and seq <= \
        (select seq from entries where kind = $1 and about = $2 order by seq desc limit 1 offset $3)";
    let NewEntry { kind, project, about, body, keep } = entry;
    let params: [Param; 5] = [kind.as_str().into(), project.into(), about.as_str().into(), at_ms.into(), Param::json(&body)?];
    sql.execute(APPEND, &params).await?;
    if let Some(keep) = keep {
        sql.execute(CUT, &[kind.into(), about.into(), i64::from(keep).into()]).await?;
    }
    Ok(())
}

pub(super) async fn list(sql: &mut dyn Sql, filter: EntryFilter) -> Result<Reply> {
    const ALL: &str = concat!(select!("where kind = $1 and seq < $2"), "$3");
    const ABOUT: &str = concat!(select!("where kind = $1 and seq < $2 and about = $3 and ($4 = '' or project = $4)"), "$5");
    const OF_PROJECT: &str = concat!(select!("where kind = $1 and seq < $2 and project = $3"), "$4");
    let limit: Param = i64::from(filter.limit.unwrap_or(50).clamp(1, 1000)).into();
    let (kind, before) = (filter.kind.into(), filter.before.unwrap_or(i64::MAX).into());
    let rows = match (filter.about, filter.project) {
        (Some(about), project) => sql.query(ABOUT, &[kind, before, about.into(), project.unwrap_or_default().into(), limit]).await?,
        (None, Some(project)) => sql.query(OF_PROJECT, &[kind, before, project.into(), limit]).await?,
        (None, None) => sql.query(ALL, &[kind, before, limit]).await?,
    };
    Ok(Reply::Entries(rows.iter().map(record).collect::<Result<_>>()?))
}

/// Entries of a kind that are older than that; answers how many went.
pub(super) async fn forget(sql: &mut dyn Sql, kind: &str, before_ms: i64) -> Result<Reply> {
    const FORGET: &str = "delete from entries where kind = $1 and at < $2";
    sql.execute(FORGET, &[kind.into(), before_ms.into()]).await.map(Reply::Count)
}
