//! PostgreSQL as a source: what streams there are, and which lanes read them.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use linkspan_core::{Cursor, Error, ErrorKind, Lane, Position, ReadMode, Result, Scope, Selected, Source, Stream, StreamName, suggest};
use tokio::sync::OnceCell;
use tokio_postgres::GenericClient;

use super::{
    catalog::{self, Column, Kind, Leaf, Sizes, Table, Wanted},
    config::PostgresConfig,
    connect::{Client, Server},
    cutter::{Cut, Cutter, Relation},
    errors::PgResult,
    missing,
    part::Part,
    query::Query,
    snapshot::Snapshot,
    sql,
    states::{self, StreamState, TailState, WindowState},
    tail::Tail,
    window::{Pull, Window},
};
use crate::cursors::{cursor_of, of_another_kind};

pub(super) struct PostgresSource {
    pub server: Arc<Server>,
    pub config: Arc<PostgresConfig>,
}

#[async_trait]
impl Source for PostgresSource {
    async fn discover(&self) -> Result<Vec<Stream>> {
        let mut client = self.server.connect().await?;
        let tables = match self.tables(&mut client, Sizes::Measured).await {
            // A table that somebody has locked must not hold everything up.
            Err(e) if e.kind() == ErrorKind::Conflict => self.tables(&mut client, Sizes::Estimated).await?,
            other => other?,
        };
        let mut streams: Vec<Stream> = tables.iter().map(Table::stream).collect();
        if let Some(text) = &self.config.query {
            streams.push(self.query_stream(&client, text).await?);
        }
        client.close().await;
        Ok(streams)
    }

    async fn missing(&self, stream: &StreamName) -> Option<Error> {
        let client = self.server.connect().await.ok()?;
        let why = missing::why(&*client, stream).await;
        client.close().await;
        why
    }

    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let run = Arc::new(Run { source: self, from, client: OnceCell::new(), snapshot: OnceCell::new() });
        // Each stream is planned when its turn comes; one that cannot be read is an error of its own.
        stream::iter(selected)
            .then(move |selected| {
                let run = run.clone();
                async move {
                    let name = selected.stream.name.clone();
                    let lanes = run.plan(&selected).await.map_err(|e| e.with("stream", name));
                    stream::iter(match lanes {
                        Ok(lanes) => lanes.into_iter().map(Ok).collect(),
                        Err(e) => vec![Err(e)],
                    })
                }
            })
            .flatten()
            .boxed()
    }
}

impl PostgresSource {
    async fn tables(&self, client: &mut Client, sizes: Sizes) -> Result<Vec<Table>> {
        let tx = client.transaction().await.pg("discovering")?;
        // With this search path names of types are spelt with their schema.
        tx.batch_execute("SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = '2s'").await.pg("discovering")?;
        check_schemas(&tx, &self.config.schemas).await?;
        let tables = catalog::load(&tx, Wanted::Readable(&self.config.schemas, sizes)).await?;
        tx.rollback().await.pg("discovering")?;
        Ok(tables)
    }

    async fn query_stream(&self, client: &Client, text: &str) -> Result<Stream> {
        let query = Query::parse(text);
        let table = query_table(self.config.query_stream(), query.columns(&**client).await?);
        let mut stream = table.stream();
        if query.uses_last_pull {
            stream.cursor = Cursor::SourceDefined;
        }
        Ok(stream)
    }
}

/// A query's answer, seen as a table without a place.
fn query_table(name: &str, columns: Vec<Column>) -> Table {
    Table {
        oid: 0,
        name: StreamName::new(None, name),
        kind: Kind::View,
        columns,
        key: Vec::new(),
        rows: None,
        bytes: None,
        row_security: false,
    }
}

async fn check_schemas(client: &impl GenericClient, wanted: &[String]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let rows = client.query("SELECT nspname::text FROM pg_namespace", &[]).await.pg("listing the schemas")?;
    let there: Vec<String> = rows.iter().map(|r| r.get(0)).collect();
    let Some(missing) = wanted.iter().find(|w| !there.contains(w)) else { return Ok(()) };
    let fix = suggest::did_you_mean(missing, there.iter().map(String::as_str));
    let fix = fix.unwrap_or_else(|| "check `output_schemas`, or `schemas` in the config".to_owned());
    Err(Error::new(ErrorKind::NotFound, "there is no such schema").with("schema", missing).fix(fix))
}

/// The planning of one run's lanes. Its sessions are opened when the first stream needs them.
struct Run {
    source: Arc<PostgresSource>,
    from: Position,
    client: OnceCell<Client>,
    snapshot: OnceCell<Arc<Snapshot>>,
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            client.leave();
        }
    }
}

impl Run {
    fn server(&self) -> &Arc<Server> {
        &self.source.server
    }
    async fn client(&self) -> Result<&Client> {
        self.client.get_or_try_init(|| self.server().connect()).await
    }
    /// One snapshot for all full reads of the run: its tables agree with each other.
    async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        let take = async || Snapshot::take(self.server()).await.map(Arc::new);
        self.snapshot.get_or_try_init(take).await.cloned()
    }

    async fn plan(&self, selected: &Selected) -> Result<Vec<Box<dyn Lane>>> {
        if selected.read == ReadMode::Cdc {
            return Err(Error::new(ErrorKind::Unsupported, "change data capture of PostgreSQL is not supported yet")
                .fix("use mode incremental with a cursor column"));
        }
        if let Some(query) = self.query_of(&selected.stream.name) {
            return self.plan_query(selected, &query).await;
        }
        let client = self.client().await?;
        let table = self.table(client, &selected.stream.name).await?;
        let columns = catalog::chosen(&table, &selected.stream.schema)?;
        let relations = relations(client, &table).await?;
        match selected.read {
            ReadMode::Full => Ok(boxed(self.parts(selected, &relations, &columns).await?.parts)),
            _ if relations.knows_transactions => self.plan_tail(selected, &table, &relations, columns).await,
            _ => {
                let relation = relations.whole.clone();
                Ok(vec![Box::new(self.window(selected, &table, relation, columns)?)])
            }
        }
    }

    /// The config's query, if that is the stream's name.
    fn query_of(&self, name: &StreamName) -> Option<Query> {
        let config = &self.source.config;
        let text = config.query.as_ref().filter(|_| name.namespace.is_none() && *name.name == *config.query_stream())?;
        Some(Query::parse(text))
    }

    async fn table(&self, client: &Client, name: &StreamName) -> Result<Table> {
        let mut found = catalog::load(&**client, Wanted::One(name)).await?;
        let Some(table) = found.pop() else { return Err(catalog::no_such_table(&**client, name).await) };
        let usable = "SELECT has_schema_privilege(relnamespace, 'USAGE') AND (has_table_privilege(oid, 'SELECT') \
            OR has_any_column_privilege(oid, 'SELECT')) FROM pg_class WHERE oid = $1";
        let may: Option<bool> = client.query_opt(usable, &[&table.oid]).await.pg("asking for rights")?.and_then(|row| row.get(0));
        if may == Some(false) {
            return Err(Error::new(ErrorKind::PermissionDenied, "the login may not read the table")
                .fix(format!("GRANT USAGE ON SCHEMA and SELECT ON {} to the login", sql::stream(name))));
        }
        Ok(table)
    }

    /// The lanes of a table's full read.
    async fn parts(&self, selected: &Selected, relations: &Relations, columns: &[Column]) -> Result<Cut> {
        let name = &selected.stream.name;
        let mut old = BTreeMap::new();
        for (scope, state) in &self.from {
            if let Scope::Part(stream, part) = scope
                && stream == name
            {
                old.insert(part.clone(), states::load(state)?);
            }
        }
        let snapshot = self.snapshot().await?;
        let slices = self.source.config.slices;
        let cutter = Cutter { server: self.server().clone(), client: self.client().await?, snapshot, slices, selected, columns };
        cutter.cut(&relations.parts, &old).await
    }

    fn stream_state(&self, name: &StreamName) -> Result<Option<StreamState>> {
        self.from.get(&Scope::Stream(name.clone())).map(states::load).transpose()
    }

    /// The initial load's parts and the lane behind them; only that lane once it has a position of its own.
    async fn plan_tail(
        &self,
        selected: &Selected,
        table: &Table,
        relations: &Relations,
        columns: Vec<Column>,
    ) -> Result<Vec<Box<dyn Lane>>> {
        let name = &selected.stream.name;
        let cursor = cursor_of(selected, &table.columns, catalog::cursor(&table.columns))?.clone();
        let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
        let mut after = Vec::new();
        let from = match self.stream_state(name)? {
            Some(StreamState::Tail(state)) if state.cursor == cursor.name => state,
            Some(StreamState::Tail(state)) => return Err(states::other_cursor(&state.cursor, &cursor.name)),
            Some(_) => return Err(of_another_kind()),
            None => {
                let cut = self.parts(selected, relations, &columns).await?;
                after = cut.parts.iter().map(|p| p.scope.clone()).collect();
                lanes = boxed(cut.parts);
                TailState {
                    cursor: cursor.name.clone(),
                    value: None,
                    low: None,
                    horizon: cut.horizon,
                    seen: Vec::new(),
                    history: Vec::new(),
                }
            }
        };
        lanes.push(Box::new(Tail {
            server: self.server().clone(),
            stream: name.clone(),
            relation: relations.whole.clone(),
            columns,
            schema: selected.stream.schema.clone(),
            cursor,
            from,
            repeats: selected.repeats,
            window_seconds: self.source.config.late_window_seconds,
            after,
        }));
        Ok(lanes)
    }

    fn window(&self, selected: &Selected, table: &Table, relation: String, columns: Vec<Column>) -> Result<Window> {
        let cursor = cursor_of(selected, &table.columns, catalog::cursor(&table.columns))?.clone();
        let from: Option<WindowState> = match self.stream_state(&selected.stream.name)? {
            None => None,
            Some(StreamState::Window(state)) if state.cursor == cursor.name => Some(state),
            Some(StreamState::Window(state)) => return Err(states::other_cursor(&state.cursor, &cursor.name)),
            Some(_) => return Err(of_another_kind()),
        };
        let identity = match table.key.is_empty() {
            true => table.columns.iter().map(|c| c.name.clone()).collect(),
            false => table.key.clone(),
        };
        Ok(Window {
            server: self.server().clone(),
            stream: selected.stream.name.clone(),
            relation,
            columns,
            schema: selected.stream.schema.clone(),
            cursor,
            identity,
            from,
            repeats: selected.repeats,
            window_seconds: self.source.config.late_window_seconds,
        })
    }

    async fn plan_query(&self, selected: &Selected, query: &Query) -> Result<Vec<Box<dyn Lane>>> {
        let name = &selected.stream.name;
        let table = query_table(&name.name, query.columns(&**self.client().await?).await?);
        let columns = catalog::chosen(&table, &selected.stream.schema)?;
        let full = selected.read == ReadMode::Full;
        if !full && !query.uses_last_pull {
            return Ok(vec![Box::new(self.window(selected, &table, query.as_relation(), columns)?)]);
        }
        let scope = if full { Scope::Part(name.clone(), "1/1".into()) } else { Scope::Stream(name.clone()) };
        let from = match self.from.get(&scope).map(states::load).transpose()? {
            None => None,
            Some(StreamState::Pull { last_pull, seen }) => Some((last_pull, seen)),
            Some(_) => return Err(of_another_kind()),
        };
        Ok(vec![Box::new(Pull {
            server: self.server().clone(),
            stream: name.clone(),
            // A full read that has a position is complete.
            done: full && from.is_some(),
            scope,
            relation: query.as_relation(),
            uses_last_pull: query.uses_last_pull,
            columns,
            schema: selected.stream.schema.clone(),
            from,
            repeats: selected.repeats,
            window_seconds: self.source.config.late_window_seconds,
        })])
    }
}

fn boxed(parts: Vec<Part>) -> Vec<Box<dyn Lane>> {
    parts.into_iter().map(|p| Box::new(p) as Box<dyn Lane>).collect()
}

/// How a table is read: as one, and in its parts.
struct Relations {
    whole: String,
    parts: Vec<Relation>,
    /// Rows carry the id of their transaction.
    knows_transactions: bool,
}

async fn relations(client: &Client, table: &Table) -> Result<Relations> {
    let name = sql::stream(&table.name);
    let part = |sql: String, oid, label: &str, by_pages| Relation { sql, oid, label: label.to_owned(), by_pages };
    let by_pages = client.version >= 140_000;
    match table.kind {
        Kind::Heap => {
            // Children of plain inheritance are streams of their own.
            let only = format!("ONLY {name}");
            Ok(Relations { whole: only.clone(), parts: vec![part(only, table.oid, "", by_pages)], knows_transactions: true })
        }
        Kind::Partitioned => {
            let leaves = catalog::leaves(&**client, table.oid).await?;
            let knows_transactions = leaves.iter().all(|l| l.heap);
            let open = |l: &Leaf| l.heap && l.readable;
            let parts = match !leaves.is_empty() && !table.row_security && leaves.iter().all(open) {
                true => {
                    leaves.iter().map(|l| part(format!("ONLY {}", sql::stream(&l.name)), l.oid, &l.name.to_string(), by_pages)).collect()
                }
                false => vec![part(name.clone(), table.oid, "", false)],
            };
            Ok(Relations { whole: name, parts, knows_transactions })
        }
        _ => Ok(Relations { whole: name.clone(), parts: vec![part(name, table.oid, "", false)], knows_transactions: false }),
    }
}
