//! Documents: found by id or name, listed in pages, pointed at by others.

use linkspan_core::Result;
use uuid::Uuid;

use super::keys::uuid_of;
use crate::{
    document::{Document, DocumentFilter, DocumentPage, Linked, Sealed},
    driver::{Row, Sql},
    request::Reply,
};

/// Kept in one place with `record`: the order of the columns.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select seq, id, kind, project, name, facet, version, body, observed, created_at, updated_at, ",
            "(select count(*) from secrets where secrets.document = documents.id) from documents ",
            $rest
        )
    };
}

fn record(row: &Row) -> Result<Document> {
    Ok(Document {
        seq: row.int(0)?,
        id: uuid_of(row.text(1)?)?,
        kind: row.text(2)?.to_owned(),
        project: row.text(3)?.to_owned(),
        name: row.optional(4, |r, i| r.text(i).map(str::to_owned))?,
        facet: row.text(5)?.to_owned(),
        version: row.count(6)?,
        body: row.json(7)?,
        observed: row.json(8)?,
        created_at_ms: row.int(9)?,
        updated_at_ms: row.int(10)?,
        has_secret: row.int(11)? != 0,
    })
}

pub(super) async fn by_id(sql: &mut dyn Sql, id: Uuid) -> Result<Option<Document>> {
    const BY_ID: &str = select!("where id = $1");
    sql.query(BY_ID, &[id.to_string().into()]).await?.first().map(record).transpose()
}

async fn by_name(sql: &mut dyn Sql, kind: &str, project: &str, name: &str) -> Result<Option<Document>> {
    const BY_NAME: &str = select!("where kind = $1 and project = $2 and name = $3");
    sql.query(BY_NAME, &[kind.into(), project.into(), name.into()]).await?.first().map(record).transpose()
}

pub(super) async fn get(sql: &mut dyn Sql, id: Uuid) -> Result<Reply> {
    Ok(Reply::Documents(by_id(sql, id).await?.into_iter().collect()))
}

/// By id first, then by name; one of another kind or project does not exist.
pub(super) async fn find(sql: &mut dyn Sql, kind: &str, project: &str, key: &str) -> Result<Reply> {
    let by_id = match Uuid::parse_str(key) {
        Ok(id) => by_id(sql, id).await?.filter(|d| d.kind == kind && d.project == project),
        Err(_) => None,
    };
    let found = match by_id {
        Some(found) => Some(found),
        None => by_name(sql, kind, project, key).await?,
    };
    Ok(Reply::Documents(found.into_iter().collect()))
}

pub(super) async fn list(sql: &mut dyn Sql, filter: DocumentFilter) -> Result<Reply> {
    Ok(Reply::Documents(selected(sql, &filter).await?))
}

async fn selected(sql: &mut dyn Sql, filter: &DocumentFilter) -> Result<Vec<Document>> {
    const ALL: &str = select!("where kind = $1 and seq > $2 and ($3 = '' or facet = $3) order by seq limit $4");
    const OF_PROJECT: &str = select!("where kind = $1 and project = $2 and seq > $3 and ($4 = '' or facet = $4) order by seq limit $5");
    let limit = i64::from(filter.limit.unwrap_or(100).clamp(1, 1000));
    let (kind, after) = (filter.kind.as_str().into(), filter.after.unwrap_or(0).into());
    let facet = filter.facet.as_deref().unwrap_or_default().into();
    let rows = match &filter.project {
        Some(project) => sql.query(OF_PROJECT, &[kind, project.as_str().into(), after, facet, limit.into()]).await?,
        None => sql.query(ALL, &[kind, after, facet, limit.into()]).await?,
    };
    rows.iter().map(record).collect()
}

pub(super) async fn page(sql: &mut dyn Sql, filter: DocumentFilter) -> Result<Reply> {
    let filter = DocumentFilter { project: Some(filter.project.unwrap_or_default()), ..filter };
    let project = filter.project.as_deref().unwrap_or_default();
    let documents = selected(sql, &filter).await?;
    let linked = match (documents.first(), documents.last()) {
        (Some(first), Some(last)) => linked_between(sql, &filter.kind, project, first.seq, last.seq).await?,
        _ => vec![],
    };
    let facets = facets(sql, &filter.kind, project).await?;
    Ok(Reply::PageOfDocuments(DocumentPage { documents, linked, facets }))
}

pub(super) async fn count(sql: &mut dyn Sql, kind: &str, project: &str) -> Result<Reply> {
    Ok(Reply::Facets(facets(sql, kind, project).await?))
}

async fn facets(sql: &mut dyn Sql, kind: &str, project: &str) -> Result<Vec<(String, u64)>> {
    const COUNT: &str = "select facet, count(*) from documents where kind = $1 and project = $2 group by facet order by facet";
    let rows = sql.query(COUNT, &[kind.into(), project.into()]).await?;
    rows.iter().map(|r| Ok((r.text(0)?.to_owned(), r.count(1)?))).collect()
}

/// Who points at any document of a page: one statement for all of them. The page comes first in the join, as it is written.
async fn linked_between(sql: &mut dyn Sql, kind: &str, project: &str, first: i64, last: i64) -> Result<Vec<Linked>> {
    const LINKED: &str = "select l.target, l.role, d.id, d.kind, d.name from documents p cross join links l cross join documents d \
                          where p.kind = $1 and p.project = $2 and p.seq >= $3 and p.seq <= $4 and l.target = p.id and d.id = l.document \
                          order by p.seq, d.seq, l.role";
    let rows = sql.query(LINKED, &[kind.into(), project.into(), first.into(), last.into()]).await?;
    rows.iter().map(linked_row).collect()
}

pub(super) async fn linked(sql: &mut dyn Sql, to: Vec<Uuid>) -> Result<Reply> {
    const LINKED: &str = "select l.target, l.role, d.id, d.kind, d.name from links l join documents d on d.id = l.document \
                          where l.target = $1 order by d.seq, l.role";
    let mut all = Vec::new();
    for to in to {
        for row in sql.query(LINKED, &[to.to_string().into()]).await? {
            all.push(linked_row(&row)?);
        }
    }
    Ok(Reply::Linked(all))
}

fn linked_row(row: &Row) -> Result<Linked> {
    Ok(Linked {
        to: uuid_of(row.text(0)?)?,
        role: row.text(1)?.to_owned(),
        by: uuid_of(row.text(2)?)?,
        by_kind: row.text(3)?.to_owned(),
        by_name: row.optional(4, |r, i| r.text(i).map(str::to_owned))?,
    })
}

fn sealed(row: &Row) -> Result<(Uuid, Sealed)> {
    Ok((uuid_of(row.text(0)?)?, Sealed { data_key: uuid_of(row.text(1)?)?, token: row.text(2)?.to_owned() }))
}

pub(super) async fn secret(sql: &mut dyn Sql, document: Uuid) -> Result<Reply> {
    const SECRET: &str = "select document, data_key, token from secrets where document = $1";
    let rows = sql.query(SECRET, &[document.to_string().into()]).await?;
    Ok(Reply::Sealed(rows.iter().map(sealed).collect::<Result<_>>()?))
}

/// Secrets under one data key, by document.
pub(super) async fn secrets(sql: &mut dyn Sql, under: Uuid, after: Option<Uuid>, limit: u32) -> Result<Reply> {
    const UNDER: &str = "select document, data_key, token from secrets where data_key = $1 and document > $2 order by document limit $3";
    let after = after.map(|a| a.to_string()).unwrap_or_default();
    let rows = sql.query(UNDER, &[under.to_string().into(), after.into(), i64::from(limit.min(10_000)).into()]).await?;
    Ok(Reply::Sealed(rows.iter().map(sealed).collect::<Result<_>>()?))
}
