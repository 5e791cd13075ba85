//! MySQL and MariaDB as a source: what streams there are, and which lanes read them.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use linkspan_core::{Cursor, Error, ErrorKind, Lane, Position, ReadMode, Result, Scope, Selected, Source, Stream, StreamName, suggest};
use tokio::sync::{Mutex, OnceCell};

use super::{
    catalog::{self, Column, Kind, Table, Wanted},
    config::MysqlConfig,
    cutter::{self, Cutter, Old},
    part::Part,
    pull::Pull,
    query::Query,
    reading::Subject,
    server::Server,
    sql,
    states::{self, StreamState, WindowState},
    view::View,
    window::Window,
    wire::Wire,
};
use crate::cursors::{cursor_of, of_another_kind};

pub(super) struct MysqlSource {
    pub server: Arc<Server>,
    pub config: Arc<MysqlConfig>,
}

#[async_trait]
impl Source for MysqlSource {
    async fn discover(&self) -> Result<Vec<Stream>> {
        let mut wire = self.server.connect().await?;
        let databases = self.databases();
        check_databases(&mut wire, &databases).await?;
        let tables = catalog::load(&mut wire, Wanted::In(&databases), self.config.choices()).await?;
        let mut streams: Vec<Stream> = tables.iter().map(Table::stream).collect();
        if let Some(text) = &self.config.query {
            streams.push(self.query_stream(&mut wire, text).await?);
        }
        wire.close().await;
        Ok(streams)
    }

    async fn missing(&self, stream: &StreamName) -> Option<Error> {
        let mut wire = self.server.connect().await.ok()?;
        let why = self.why(&mut wire, stream).await;
        wire.close().await;
        why
    }

    fn lanes(self: Arc<Self>, selected: Vec<Selected>, from: Position) -> BoxStream<'static, Result<Box<dyn Lane>>> {
        let all = selected.clone();
        let run = Arc::new(Run { source: self, from, all, wire: Mutex::new(None), planned: OnceCell::new() });
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

impl MysqlSource {
    fn databases(&self) -> Vec<String> {
        match self.config.databases.as_slice() {
            [] => self.server.endpoint.database.iter().cloned().collect(),
            databases => databases.to_vec(),
        }
    }

    /// How many tables and views there are to read.
    pub async fn count(&self, wire: &mut Wire) -> Result<Option<usize>> {
        catalog::count(wire, Wanted::In(&self.databases())).await
    }

    async fn query_stream(&self, wire: &mut Wire, text: &str) -> Result<Stream> {
        let query = Query::parse(text);
        let table = query_table(self.config.query_stream(), query.columns(wire, self.config.choices()).await?);
        let mut stream = table.stream();
        if query.parameters > 0 {
            stream.cursor = Cursor::SourceDefined;
        }
        Ok(stream)
    }

    /// The server says of a table that the login may not see whatever it says of one that is not there.
    async fn why(&self, wire: &mut Wire, stream: &StreamName) -> Option<Error> {
        let place = sql::stream(stream);
        let refused = wire.query(&format!("SELECT 1 FROM {place} LIMIT 0"), "looking for the table").await.err();
        match refused {
            Some(e) if e.kind() == ErrorKind::PermissionDenied => Some(
                Error::new(ErrorKind::PermissionDenied, "this login may not read the table, if there is one of that name")
                    .with("stream", stream)
                    .fix(format!("let an administrator run: GRANT SELECT ON {place} TO the login"))
                    .because(e),
            ),
            Some(_) => None,
            None => {
                let database = stream.namespace.as_deref().unwrap_or_default();
                Some(
                    Error::new(ErrorKind::ConfigInvalid, "the table is there, but its database is not among those that are shown")
                        .with("stream", stream)
                        .fix(format!("add `{database}` to `databases` in the config")),
                )
            }
        }
    }
}

/// A query's answer, seen as a table without a place.
fn query_table(name: &str, columns: Vec<Column>) -> Table {
    Table { name: StreamName::new(None, name), kind: Kind::View, columns, key: Vec::new(), rows: None, bytes: None }
}

async fn check_databases(wire: &mut Wire, wanted: &[String]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let rows = wire.query("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA", "listing the databases").await?;
    let there: Vec<&str> = rows.iter().filter_map(|r| r[0].as_deref()).collect();
    let Some(missing) = wanted.iter().find(|w| !there.contains(&w.as_str())) else { return Ok(()) };
    let fix = suggest::did_you_mean(missing, there).unwrap_or_else(|| "check `output_schemas`, or `databases` in the config".to_owned());
    Err(Error::new(ErrorKind::NotFound, "there is no such database that the login may see").with("database", missing).fix(fix))
}

/// The planning of one run's lanes. Its sessions are opened when the first stream needs them.
struct Run {
    source: Arc<MysqlSource>,
    from: Position,
    all: Vec<Selected>,
    wire: Mutex<Option<Wire>>,
    planned: OnceCell<Arc<Planned>>,
}

/// What all full reads of a run share.
struct Planned {
    view: Arc<View>,
    /// What the server said of the tables before the view was taken.
    standings: BTreeMap<StreamName, states::Standing>,
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.get_mut().take() {
            wire.leave();
        }
    }
}

impl Run {
    async fn plan(&self, selected: &Selected) -> Result<Vec<Box<dyn Lane>>> {
        if selected.read == ReadMode::Cdc {
            return Err(Error::new(ErrorKind::Unsupported, "change data capture of MySQL and MariaDB is not supported yet")
                .fix("use mode incremental with a cursor column"));
        }
        let mut slot = self.wire.lock().await;
        let mut wire = match slot.take() {
            Some(wire) => wire,
            None => self.source.server.connect().await?,
        };
        let lanes = self.plan_with(selected, &mut wire).await;
        // A session on which a statement failed is as good as before; one whose connection broke is not kept.
        if !matches!(&lanes, Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)) {
            *slot = Some(wire);
        }
        lanes
    }

    async fn plan_with(&self, selected: &Selected, wire: &mut Wire) -> Result<Vec<Box<dyn Lane>>> {
        if let Some(query) = self.query_of(&selected.stream.name) {
            return self.plan_query(selected, &query, wire).await;
        }
        let table = self.table(wire, &selected.stream.name).await?;
        let subject = self.subject(selected, &table, sql::stream(&table.name))?;
        match selected.read {
            ReadMode::Full => self.plan_full(selected, &table, subject).await,
            _ => self.plan_incremental(selected, &table, subject, wire).await,
        }
    }

    fn subject(&self, selected: &Selected, table: &Table, relation: String) -> Result<Subject> {
        let columns = catalog::chosen(table, &selected.stream.schema)?;
        let odd_dates = self.source.config.odd_dates;
        Ok(Subject { stream: selected.stream.name.clone(), relation, columns, schema: selected.stream.schema.clone(), odd_dates })
    }

    /// The config's query, if that is the stream's name.
    fn query_of(&self, name: &StreamName) -> Option<Query> {
        let config = &self.source.config;
        let text = config.query.as_ref().filter(|_| name.namespace.is_none() && *name.name == *config.query_stream())?;
        Some(Query::parse(text))
    }

    async fn table(&self, wire: &mut Wire, name: &StreamName) -> Result<Table> {
        let found = catalog::load(wire, Wanted::These(std::slice::from_ref(name)), self.source.config.choices()).await?.pop();
        match found {
            Some(table) => Ok(table),
            None => Err(catalog::no_such_table(wire, name).await),
        }
    }

    fn old_parts(&self, name: &StreamName) -> Result<Old> {
        let mut old = Old::new();
        for (scope, state) in &self.from {
            if let Scope::Part(stream, part) = scope
                && stream == name
            {
                old.insert(part.clone(), states::load(state)?);
            }
        }
        Ok(old)
    }

    /// The view of the run's full reads, taken once, with as many sessions as their parts can use.
    async fn planned(&self) -> Result<Arc<Planned>> {
        self.planned.get_or_try_init(|| self.take_view()).await.cloned()
    }

    async fn take_view(&self) -> Result<Arc<Planned>> {
        let config = &self.source.config;
        let full: Vec<StreamName> = self
            .all
            .iter()
            .filter(|s| s.read == ReadMode::Full && self.query_of(&s.stream.name).is_none())
            .map(|s| s.stream.name.clone())
            .collect();
        let mut wire = self.source.server.connect().await?;
        let tables = catalog::load(&mut wire, Wanted::These(&full), config.choices()).await?;
        let mut standings = BTreeMap::new();
        for table in &tables {
            standings.insert(table.name.clone(), cutter::standing(&mut wire, table).await?);
        }
        wire.close().await;
        let parts: usize = tables.iter().map(|t| usize::from(cutter::slice_count(t, config.slices))).sum();
        let rows: u64 = tables.iter().filter_map(|t| t.rows).sum();
        // Small tables are read one after the other: that is faster than to make several sessions agree.
        let worth =
            if config.slices.is_some_and(|s| s > 1) { parts } else { parts.min(1 + usize::try_from(rows / 50_000).unwrap_or(usize::MAX)) };
        let sessions = self.source.server.viewers(worth.min(usize::from(config.slices.unwrap_or(cutter::READERS).max(1))));
        let names: Vec<StreamName> = tables.into_iter().map(|t| t.name).collect();
        let view = Arc::new(View::take(&self.source.server, sessions, &names).await?);
        Ok(Arc::new(Planned { view, standings }))
    }

    async fn plan_full(&self, selected: &Selected, table: &Table, subject: Subject) -> Result<Vec<Box<dyn Lane>>> {
        let config = &self.source.config;
        let old = self.old_parts(&selected.stream.name)?;
        let planned = self.planned().await?;
        let seen = planned.standings.get(&selected.stream.name).cloned().unwrap_or_default();
        let slices = cutter::slice_count(table, config.slices);
        let subject = Arc::new(subject);
        let cutter = Cutter { table, subject: &subject, slices, seen: seen.clone(), below: None };
        let cut = match old.values().next() {
            None => {
                let mut wire = planned.view.session().await?;
                let cut = cutter.fresh(&mut wire).await?;
                planned.view.give_back(wire);
                cut
            }
            Some(known) => {
                cutter::may_go_on(&old, &seen, selected.repeats)?;
                cutter.taken_up(&old, known)?
            }
        };
        let part = |(scope, state)| Part {
            server: self.source.server.clone(),
            view: Some(planned.view.clone()),
            subject: subject.clone(),
            scope,
            state,
            by: cut.by.clone(),
            chunk: cut.chunk,
            below: None,
        };
        Ok(cut.parts.into_iter().map(|p| Box::new(part(p)) as Box<dyn Lane>).collect())
    }

    /// The initial load's parts and the lane behind them; only that lane once it has a position of its own, and where the table
    /// cannot be cut.
    async fn plan_incremental(&self, selected: &Selected, table: &Table, subject: Subject, wire: &mut Wire) -> Result<Vec<Box<dyn Lane>>> {
        let stands = self.window_state(selected)?;
        let begun = stands.is_some();
        let mut window = self.window(selected, table, subject, stands.unwrap_or_default())?;
        if begun {
            return Ok(vec![Box::new(window)]);
        }
        let old = self.old_parts(&selected.stream.name)?;
        let config = &self.source.config;
        let subject = Arc::new(window.subject.clone());
        let slices = cutter::slice_count(table, config.slices);
        let mut cutter = Cutter { table, subject: &subject, slices, seen: states::Standing::default(), below: None };
        let cut = match old.values().next() {
            Some(known) if known.below.is_some() => cutter.taken_up(&old, known)?,
            _ => {
                cutter.below = if cutter::slicing(table).is_some() { window.first_bound().await? } else { None };
                if cutter.below.is_none() {
                    return Ok(vec![Box::new(window)]);
                }
                cutter.fresh(wire).await?
            }
        };
        let Some(below) = cut.parts.first().and_then(|(_, state)| state.below.clone()) else { return Ok(vec![Box::new(window)]) };
        window.from.low = Some(below.clone());
        window.after = cut.parts.iter().map(|(scope, _)| scope.clone()).collect();
        let part = |(scope, state)| Part {
            server: self.source.server.clone(),
            view: None,
            subject: subject.clone(),
            scope,
            state,
            by: cut.by.clone(),
            chunk: cut.chunk,
            below: Some((window.cursor.clone(), below.clone())),
        };
        let mut lanes: Vec<Box<dyn Lane>> = cut.parts.into_iter().map(|p| Box::new(part(p)) as Box<dyn Lane>).collect();
        lanes.push(Box::new(window));
        Ok(lanes)
    }

    fn window_state(&self, selected: &Selected) -> Result<Option<WindowState>> {
        let state = self.from.get(&Scope::Stream(selected.stream.name.clone())).map(states::load).transpose()?;
        match state {
            None => Ok(None),
            Some(StreamState::Window(state)) if Some(&state.cursor) == selected.cursor.as_ref() => Ok(Some(state)),
            Some(StreamState::Window(state)) => Err(states::other_cursor(&state.cursor, selected.cursor.as_deref().unwrap_or("none"))),
            Some(StreamState::Pull { .. }) => Err(of_another_kind()),
        }
    }

    fn window(&self, selected: &Selected, table: &Table, subject: Subject, from: WindowState) -> Result<Window> {
        let identity = match table.key.is_empty() {
            true => table.columns.iter().map(|c| c.name.clone()).collect(),
            false => table.key.clone(),
        };
        Ok(Window {
            server: self.source.server.clone(),
            cursor: cursor_of(selected, &table.columns, catalog::cursor(&table.columns))?.clone(),
            subject,
            identity,
            from,
            repeats: selected.repeats,
            window_seconds: self.source.config.late_window_seconds,
            after: Vec::new(),
        })
    }

    async fn plan_query(&self, selected: &Selected, query: &Query, wire: &mut Wire) -> Result<Vec<Box<dyn Lane>>> {
        let name = &selected.stream.name;
        let table = query_table(&name.name, query.columns(wire, self.source.config.choices()).await?);
        let subject = self.subject(selected, &table, query.as_relation())?;
        let full = selected.read == ReadMode::Full;
        if !full && query.parameters == 0 {
            let from = self.window_state(selected)?.unwrap_or_default();
            return Ok(vec![Box::new(self.window(selected, &table, subject, from)?)]);
        }
        let scope = if full { Scope::Part(name.clone(), "1/1".into()) } else { Scope::Stream(name.clone()) };
        let from = match self.from.get(&scope).map(states::load).transpose()? {
            None => None,
            Some(StreamState::Pull { last_pull, seen }) => Some((last_pull, seen)),
            Some(StreamState::Window(_)) => return Err(of_another_kind()),
        };
        Ok(vec![Box::new(Pull {
            server: self.source.server.clone(),
            // A full read that has a position is complete.
            done: full && from.is_some(),
            subject,
            scope,
            parameters: query.parameters,
            from,
            repeats: selected.repeats,
            window_seconds: self.source.config.late_window_seconds,
        })])
    }
}
