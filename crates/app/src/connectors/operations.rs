//! The rows of connectors.

use std::sync::Arc;

use linkspan_core::{Error, ErrorKind, Result};
use linkspan_store::{DocumentFilter, EntryFilter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    KIND,
    config::secret_fields,
    discover::{Age, DiscoveredStreams, discovered},
    find,
    manage::{self, ConnectorPatch, Deleted, Direction},
    shown::{self, ConnectorShown, all_shown, shown_one},
    test::{self, HISTORY, Tested},
};
use crate::{
    app::App,
    caller::{Access, CallContext, Scope},
    moment::moment,
    operation::{Operation, Reply},
    paging::Cursor,
};

pub fn operations() -> Vec<Operation> {
    let (read, usage) = (Access::Scoped(Scope::ConnectorsRead), Access::Scoped(Scope::ConnectorsUse));
    let (write, secrets) = (Access::Scoped(Scope::ConnectorsWrite), Access::Scoped(Scope::ConnectorsSecrets));
    vec![
        Operation::get("connectors.list", "/v1/connectors", read, "The connectors of the project, secrets masked.")
            .cli("connectors list", &[])
            .call(list),
        Operation::post("connectors.create", "/v1/connectors", write, "Makes a connector. Nothing is connected to.")
            .creates()
            .cli("connectors create", &["name"])
            .call(manage::create),
        Operation::post("connectors.test_unsaved", "/v1/connectors/test", write, "Tests a config without saving it.")
            .reads()
            .cli("connectors test", &[])
            .call(test_unsaved),
        Operation::get("connectors.show", "/v1/connectors/{connector}", read, "One connector, by id or name, secrets masked.")
            .cli("connectors show", &["connector"])
            .call(show),
        Operation::delete("connectors.delete", "/v1/connectors/{connector}", write, "Deletes a connector and erases its credentials.")
            .cli("connectors delete", &["connector"])
            .call(delete),
        Operation::post("connectors.enable", "/v1/connectors/{connector}/enable", write, "Enables a connector.")
            .cli("connectors enable", &["connector"])
            .call(enable),
        Operation::post(
            "connectors.disable",
            "/v1/connectors/{connector}/disable",
            write,
            "Disables a connector: nothing uses it until it is enabled.",
        )
        .cli("connectors disable", &["connector"])
        .call(disable),
        Operation::put("connectors.credentials", "/v1/connectors/{connector}/credentials", secrets, "Sets a connector's credentials.")
            .cli("connectors credentials", &["connector"])
            .call(credentials),
        Operation::post(
            "connectors.test",
            "/v1/connectors/{connector}/test",
            usage,
            "Tests a connector; the result goes into its history.",
        )
        .reads()
        .cli("connectors check", &["connector"])
        .call(test_saved),
        Operation::get("connectors.tests", "/v1/connectors/{connector}/tests", read, "The tests of a connector, newest first.")
            .cli("connectors tests", &["connector"])
            .call(tests),
        Operation::get("connectors.health", "/v1/connectors/{connector}/health", read, "The health of a connector as it was last seen.")
            .cli("connectors health", &["connector"])
            .call(health),
        Operation::post(
            "connectors.discover",
            "/v1/connectors/{connector}/discover",
            usage,
            "The streams of a connector; an hour old at most.",
        )
        .reads()
        .cli("connectors discover", &["connector"])
        .call(discover),
        Operation::get("connectors.models", "/v1/connectors/{connector}/models", usage, "The tables and collections of a connector.")
            .cli("connectors models", &["connector"])
            .call(models),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    direction: Option<Direction>,
    /// How many at most: 1 to 1000, 100 when not said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$"))]
    cursor: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Connectors {
    connectors: Vec<ConnectorShown>,
    /// Of the whole project, not of the page.
    inbound_count: u64,
    outbound_count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct One {
    /// Id or name.
    connector: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Unsaved {
    /// Taken and ignored, so that the body of a creation can be tested as it is.
    #[serde(default)]
    #[allow(dead_code, reason = "taken and ignored")]
    name: Option<String>,
    /// A type of the catalog, by name or alias.
    #[serde(rename = "type", alias = "kind", alias = "connector_type")]
    type_name: String,
    #[serde(default, alias = "connection_config")]
    config: Map<String, Value>,
}

/// The credentials themselves stand beside the connector: `{"password": "..."}`.
#[derive(Debug, Deserialize, JsonSchema)]
struct Credentials {
    /// Id or name.
    connector: String,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Discover {
    /// Id or name.
    connector: String,
    /// Asks the system again instead of taking what is known from the last hour.
    #[serde(default)]
    refresh: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TestsOf {
    /// Id or name.
    connector: String,
    /// How many at most: 1 to 1000, 100 when not said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{10}[AEIMQUYcgkosw048]$"))]
    cursor: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Tests {
    tests: Vec<PastTest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct PastTest {
    at: String,
    /// Who tested; `local` for the background checks.
    by: String,
    #[serde(flatten)]
    result: Tested,
}

/// A connector's health as it was last seen.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Health {
    connector: String,
    /// `healthy`, `degraded`, `unhealthy`, `unknown`, `needs_credentials` or `credential_unreadable`.
    status: String,
    enabled: bool,
    last_check: Option<String>,
    latency_ms: Option<u64>,
    server_version: Option<String>,
    /// What the last check failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Models {
    models: Vec<Model>,
    discovered_at: String,
}

/// A table or collection.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Model {
    name: String,
    schema: Option<String>,
    /// With its schema, as streams are named.
    stream: String,
    columns: Vec<super::discover::ColumnShown>,
    estimated_rows: Option<u64>,
}

async fn list(app: Arc<App>, context: CallContext, which: Which) -> Result<Reply<Connectors>> {
    let at = Cursor::of(which.limit, which.cursor.as_deref())?;
    let facet = which.direction.map(|d| d.as_str().to_owned());
    let filter = DocumentFilter { after: at.seq, facet, limit: Some(at.fetch()), ..DocumentFilter::of(KIND, &context.project) };
    let found = app.store.page_of_documents(filter).await?;
    let page = at.cut(found.documents, |d| d.seq);
    let count = |direction: &str| found.facets.iter().find(|(facet, _)| facet == direction).map_or(0, |(_, n)| *n);
    let (inbound_count, outbound_count) = (count("inbound"), count("outbound"));
    let connectors = all_shown(&app, &page.items, found.linked)?;
    Ok(Reply::ok(Connectors { connectors, inbound_count, outbound_count, next_cursor: page.next }))
}

async fn show(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<ConnectorShown>> {
    let (document, connector) = find(&app, &context, &one.connector).await?;
    Ok(Reply::ok(shown_one(&app, &document, &connector).await?).version(document.version))
}

async fn delete(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<Deleted>> {
    manage::delete(app, context, one.connector).await
}

async fn enable(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<ConnectorShown>> {
    manage::update(app, context, ConnectorPatch { connector: one.connector, enabled: Some(true), ..ConnectorPatch::default() }).await
}

async fn disable(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<ConnectorShown>> {
    manage::update(app, context, ConnectorPatch { connector: one.connector, enabled: Some(false), ..ConnectorPatch::default() }).await
}

async fn credentials(app: Arc<App>, context: CallContext, given: Credentials) -> Result<Reply<ConnectorShown>> {
    if given.fields.is_empty() {
        let (_, connector) = find(&app, &context, &given.connector).await?;
        let kind = app.kind(&context.project, &connector.kind, ErrorKind::Unsupported).await?;
        return Err(no_credentials(&given.connector, &kind.config_schema()));
    }
    let patch = ConnectorPatch { connector: given.connector, config: Some(given.fields), ..ConnectorPatch::default() };
    manage::update(app, context, patch).await
}

/// A request without any would change nothing and look as if it had.
fn no_credentials(connector: &str, schema: &Value) -> Error {
    let error = Error::new(ErrorKind::ConfigInvalid, "no credentials are given").with("connector", connector);
    match secret_fields(schema).as_slice() {
        [] => error.fix("connectors of this type have none"),
        fields => error
            .with("fields", fields.join(", "))
            .fix(format!("linkspan connectors credentials '{connector}' --input '{{\"{}\": \"...\"}}'", fields[0])),
    }
}

async fn test_unsaved(app: Arc<App>, context: CallContext, given: Unsaved) -> Result<Reply<Tested>> {
    Ok(Reply::ok(test::unsaved(&app, &context, &given.type_name, given.config).await?))
}

async fn test_saved(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<Tested>> {
    let (document, connector) = find(&app, &context, &one.connector).await?;
    Ok(Reply::ok(test::saved(&app, &context, document, connector).await?))
}

async fn tests(app: Arc<App>, context: CallContext, of: TestsOf) -> Result<Reply<Tests>> {
    let (document, _) = find(&app, &context, &of.connector).await?;
    let at = Cursor::of(of.limit, of.cursor.as_deref())?;
    let about = Some(document.id.to_string());
    let filter = EntryFilter { kind: HISTORY.into(), project: None, about, before: at.seq, limit: Some(at.fetch()) };
    let page = at.cut(app.store.entries(filter).await?, |e| e.seq);
    let past = |e: &linkspan_store::Entry| {
        let by = e.body["by"].as_str().unwrap_or_default().to_owned();
        Ok(PastTest { at: moment(e.at_ms), by, result: serde_json::from_value(e.body.clone()).map_err(unreadable)? })
    };
    Ok(Reply::ok(Tests { tests: page.items.iter().map(past).collect::<Result<_>>()?, next_cursor: page.next }))
}

fn unreadable(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::DataInvalid, "a test's result is of another version of linkspan").because(e)
}

async fn health(app: Arc<App>, context: CallContext, one: One) -> Result<Reply<Health>> {
    let (document, connector) = find(&app, &context, &one.connector).await?;
    let seen = &document.observed;
    Ok(Reply::ok(Health {
        connector: document.name.clone().unwrap_or_default(),
        status: shown::status(&document, &connector),
        enabled: connector.enabled,
        last_check: seen["last_check_ms"].as_i64().map(moment),
        latency_ms: seen["latency_ms"].as_u64(),
        server_version: seen["server_version"].as_str().map(str::to_owned),
        error: seen.get("error").filter(|e| !e.is_null()).cloned(),
    }))
}

async fn discover(app: Arc<App>, context: CallContext, of: Discover) -> Result<Reply<DiscoveredStreams>> {
    let (document, connector) = find(&app, &context, &of.connector).await?;
    let age = if of.refresh { Age::Fresh } else { Age::Cached };
    Ok(Reply::ok(discovered(&app, &context, document, connector, age).await?))
}

async fn models(app: Arc<App>, context: CallContext, of: Discover) -> Result<Reply<Models>> {
    let (document, connector) = find(&app, &context, &of.connector).await?;
    let age = if of.refresh { Age::Fresh } else { Age::Cached };
    let found = discovered(&app, &context, document, connector, age).await?;
    let models = found.streams.into_iter().map(|s| Model {
        name: s.name.rsplit_once('.').filter(|_| s.namespace.is_some()).map_or_else(|| s.name.clone(), |(_, n)| n.to_owned()),
        schema: s.namespace,
        stream: s.name,
        columns: s.columns,
        estimated_rows: s.estimated_rows,
    });
    Ok(Reply::ok(Models { models: models.collect(), discovered_at: found.discovered_at }))
}
