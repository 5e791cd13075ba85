//! States of older forms: what they become before a stream reads them, and what of a child's state is its parent's.

use linkspan_core::Result;
use serde_json::{Map, Value, json};

use crate::{component::Component, cursor::NO_CURSOR, template::Scope};

/// The state after the stream's migrations.
pub(super) fn migrated(stream: &Component<'_>, state: Map<String, Value>, scope: &Scope<'_>) -> Result<Map<String, Value>> {
    stream.children("state_migrations")?.iter().try_fold(state, |state, migration| match migration.kind() {
        "LegacyToPerPartitionStateMigration" => legacy(stream, migration, state, scope),
        _ => Err(migration.unknown_kind()),
    })
}

/// `{"13506132": {cursor: value}}` becomes `{"states": [{"partition": {field: "13506132"}, "cursor": {..}}]}`.
fn legacy(stream: &Component<'_>, migration: &Component<'_>, state: Map<String, Value>, scope: &Scope<'_>) -> Result<Map<String, Value>> {
    let retriever = stream.required("retriever")?;
    let no_router = || migration.error("this migration needs a substream or union router");
    if !matches!(retriever.field("partition_router"), Some(Value::Object(_))) {
        return Err(no_router());
    }
    let router = retriever.required("partition_router")?;
    let (holder, parents) = match router.kind() {
        "UnionPartitionRouter" => (router, 1),
        "SubstreamPartitionRouter" => {
            let parents = router.children("parent_stream_configs")?;
            let count = parents.len();
            (parents.into_iter().next().ok_or_else(no_router)?, count)
        }
        _ => return Err(no_router()),
    };
    let incremental = stream.child("incremental_sync")?.ok_or_else(|| migration.error("this migration needs incremental_sync"))?;
    let cursor = incremental.required_template("cursor_field")?.text(scope)?;
    let field = holder.required_template("partition_field")?.text(scope)?;
    let is_position = |value: &Value| value.as_object().is_some_and(|v| v.len() == 1 && v.contains_key(&cursor));
    if state.is_empty() || state.contains_key("states") || parents != 1 || !state.values().all(is_position) {
        return Ok(state);
    }
    let states = state.into_iter().map(|(key, cursor)| json!({"partition": {field.as_str(): key}, "cursor": cursor})).collect();
    Ok([("states".to_owned(), states)].into_iter().collect())
}

/// The parent's part of a child's state, when the parent is read incrementally.
pub(super) fn of_parent(
    config: &Component<'_>,
    child: &Map<String, Value>,
    scope: &Scope<'_>,
) -> Result<Option<(String, Map<String, Value>)>> {
    let mut child = child.clone();
    child.remove(NO_CURSOR);
    if child.is_empty() || !config.flag("incremental_dependency")?.unwrap_or(false) {
        return Ok(None);
    }
    let stream = config.required("stream")?;
    let name = stream.text("name")?.unwrap_or_default().to_owned();
    let own = child.get("parent_state").and_then(|parents| parents.get(&name)).or(child.get("state"));
    if let Some(own) = own {
        return Ok(own.as_object().cloned().map(|own| (name, own)));
    }
    // One value alone is a position from before partitions had their own.
    let Some((_, value)) = child.iter().next().filter(|(_, v)| child.len() == 1 && (v.is_string() || v.is_number())) else {
        return Ok(None);
    };
    let incremental = match stream.kind() {
        "StateDelegatingStream" => stream.required("incremental_stream")?.required("incremental_sync")?,
        _ => stream.required("incremental_sync")?,
    };
    let field = incremental.required_template("cursor_field")?.text(scope)?;
    Ok(Some((name, [(field, value.clone())].into_iter().collect())))
}
