//! The source's face: streams to discover and one lane per stream.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use linkspan_core::{Cursor, Lane, Position, Result, Scope, Selected, Source, Stream, StreamName};
use rusqlite::Connection;

use super::{
    Sqlite,
    discover::{self, Order, Relation, orders},
    file::{quoted, sql_error},
    lane::SqliteLane,
};
use crate::blocking::blocking;

/// Names that usually hold the time of the last change, best first.
const CURSORS: [&str; 6] = ["updated_at", "modified_at", "last_modified", "_updated_at", "created_at", "id"];

#[async_trait]
impl Source for Sqlite {
    async fn discover(&self) -> Result<Vec<Stream>> {
        let file = self.file.clone();
        blocking(move || {
            let db = file.reader()?;
            let names = discover::relations(&db).map_err(|e| file.error(e))?;
            names.iter().map(|name| stream(&db, name).map_err(|e| e.with("path", file.path.display()))).collect()
        })
        .await
    }
    fn lanes(self: Arc<Self>, selected: Vec<Selected>, mut from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let lanes = selected.into_iter().map(move |s| {
            let state = from.remove(&Scope::Stream(s.stream.name.clone()));
            Ok(Box::new(SqliteLane::new(self.file.clone(), s, self.batch_rows, state)?) as Box<dyn Lane>)
        });
        futures::stream::iter(lanes.collect::<Vec<_>>()).boxed()
    }
}

fn stream(db: &Connection, name: &str) -> Result<Stream> {
    let relation = discover::describe(db, name).map_err(|e| sql_error(e).with("table", name))?;
    let cursors = cursors(&relation);
    Ok(Stream {
        name: StreamName::new(None, name),
        schema: Arc::new(Schema::new(relation.fields())),
        cursor: if cursors.is_empty() { Cursor::None } else { Cursor::Columns(cursors) },
        estimated_rows: estimate(db, &relation),
        estimated_bytes: None,
        key: relation.key,
    })
}

/// Columns that can order rows, the likely ones first.
fn cursors(relation: &Relation) -> Vec<String> {
    let mut names: Vec<&Field> = relation.columns.iter().map(|c| &c.field).filter(|f| orders(f)).collect();
    let rank = |f: &Field| {
        let named = CURSORS.iter().position(|c| f.name().eq_ignore_ascii_case(c)).unwrap_or(CURSORS.len());
        (named, !f.data_type().is_temporal(), !f.data_type().is_integer())
    };
    names.sort_by_key(|f| rank(f));
    names.into_iter().map(|f| f.name().clone()).collect()
}

/// The highest rowid is found at once; it counts too much where rows were deleted.
fn estimate(db: &Connection, relation: &Relation) -> Option<u64> {
    let Order::Rowid(rowid) = relation.order else { return None };
    let sql = format!("SELECT max({rowid}) FROM {}", quoted(&relation.name));
    db.query_row(&sql, [], |row| row.get::<_, Option<i64>>(0)).ok().flatten().and_then(|n| u64::try_from(n).ok())
}
