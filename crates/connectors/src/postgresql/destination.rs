//! PostgreSQL as a destination: rows and position in one transaction, a replace staged beside its target, stale runs fenced off.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use linkspan_core::{
    Atomic, Cadence, Capability, ConnectionId, Destination, Load, Publish, Recall, Result, Session, Swap, TableShape, Target, Visible,
    WriteMode,
};

use super::{
    connect::{Client, Server},
    destination_book::{self as book, Book},
    destination_publish::{drop_table, publish},
    destination_shape as shape,
    errors::PgResult,
    session::PgSession,
    session_link::Link,
    session_table::Place,
};

/// A lock that somebody holds for longer than this is an error that says so, never a run that hangs.
const LOCK_TIMEOUT: &str = "60s";

pub(super) struct PgDestination {
    server: Arc<Server>,
    /// The config's own word on how a replace becomes visible; the connection's counts where it has none.
    swap: Option<Swap>,
}

impl PgDestination {
    pub(super) fn new(server: Arc<Server>, swap: Option<Swap>) -> Self {
        Self { server, swap }
    }

    async fn connect(&self) -> Result<Client> {
        let client = self.server.connect().await?;
        client.batch_execute(&format!("SET lock_timeout = '{LOCK_TIMEOUT}'")).await.pg("setting up the session")?;
        Ok(client)
    }
}

#[async_trait]
impl Destination for PgDestination {
    fn capability(&self) -> Capability {
        Capability {
            modes: vec![WriteMode::Append, WriteMode::Replace, WriteMode::Merge],
            atomic: Atomic::Session,
            transactional_ddl: true,
            commit_visible: Visible::Atomic,
            fences: true,
            add_column: true,
            widen_column: true,
            drop_not_null: true,
            specials: true,
            deletes: true,
            parallel: true,
            advice: Cadence { rows: 500_000, bytes: 64 << 20, age: Duration::from_secs(1) },
        }
    }

    async fn shape(&self, target: &Target) -> Result<Option<TableShape>> {
        let client = self.connect().await?;
        let place = place(&client, target).await?;
        let found = shape::table(&client, &place.namespace, &place.name).await?;
        let Some(table) = found else { return Ok(None) };
        let ours = match Book::find(&client).await? {
            Some(book) => book.owns(&client, table.oid).await?,
            None => false,
        };
        client.close().await;
        Ok(Some(table.shape(ours)))
    }

    async fn recall(&self, connection: ConnectionId) -> Result<Option<Recall>> {
        let client = self.connect().await?;
        let recalled = match Book::find(&client).await? {
            Some(book) => book.recall(&client, connection).await?,
            None => None,
        };
        client.close().await;
        Ok(recalled)
    }

    async fn open(&self, load: Load) -> Result<Box<dyn Session>> {
        let client = self.connect().await?;
        let book = Book::make(&client).await?;
        book.install_fence(&client, load.connection, load.fence).await?;
        take_over(&client, &load).await?;
        drop_old_stages(&client, &book, &load).await?;
        prepare(&client, &load).await?;
        let namespace = current_schema(&client).await?;
        self.server.ctx.failpoints.hit("postgresql.open.after").await?;
        Ok(Box::new(PgSession::new(self.server.clone(), Link::new(client, book), load, namespace)))
    }

    async fn publish(&self, request: &Publish) -> Result<()> {
        let client = self.connect().await?;
        let running = client.cancel_on_drop();
        let place = place(&client, &request.stream.target).await?;
        let mut request = request.clone();
        request.stream.swap = self.swap.unwrap_or(request.stream.swap);
        publish(&client, &self.server.ctx, &request, &place).await?;
        running.disarm();
        client.close().await;
        Ok(())
    }

    async fn forget(&self, connection: ConnectionId) -> Result<()> {
        let client = self.connect().await?;
        for (place, _) in stages(&client, connection).await? {
            drop_table(&client, &place).await?;
        }
        if let Some(book) = Book::find(&client).await? {
            book.forget(&client, connection).await?;
            book.forget_dropped(&client).await?;
        }
        client.close().await;
        Ok(())
    }
}

/// Where a target without a schema of its own goes.
async fn current_schema(client: &Client) -> Result<String> {
    let row = client.query_one("SELECT coalesce(current_schema()::text, 'public')", &[]).await.pg("asking for the schema")?;
    Ok(row.get(0))
}

async fn place(client: &Client, target: &Target) -> Result<Place> {
    let namespace = match &target.namespace {
        Some(namespace) => namespace.to_string(),
        None => current_schema(client).await?,
    };
    Ok(Place { namespace, name: target.name.to_string() })
}

/// How the sessions of a connection are known on the server: by connection and fence.
fn session_name(connection: ConnectionId, fence: u64) -> String {
    format!("linkspan/{}/{fence}", &connection.0.simple().to_string()[..16])
}

/// Ends what an earlier run of this connection left on the server: a process that was frozen or killed may still hold locks and rows
/// that nobody can see, and its commits would be refused anyway.
async fn take_over(client: &Client, load: &Load) -> Result<()> {
    let name = session_name(load.connection, load.fence);
    client.execute("SELECT pg_catalog.set_config('application_name', $1, false)", &[&name]).await.pg("naming the session")?;
    let stale = "SELECT pid, application_name::text FROM pg_catalog.pg_stat_activity WHERE datname = current_database() \
        AND usename = current_user AND pid <> pg_catalog.pg_backend_pid() AND starts_with(application_name, $1)";
    let (head, _) = name.rsplit_once('/').unwrap_or((&name, ""));
    for row in client.query(stale, &[&format!("{head}/")]).await.pg("looking for sessions of an earlier run")? {
        let (pid, name): (i32, String) = (row.get(0), row.get(1));
        let fence = name.rsplit('/').next().and_then(|f| f.parse::<u64>().ok());
        if fence.is_some_and(|fence| fence < load.fence) {
            client.execute("SELECT pg_catalog.pg_terminate_backend($1)", &[&pid]).await.pg("ending a session of an earlier run")?;
        }
    }
    Ok(())
}

/// The staging tables of a connection, wherever they are, with their names.
async fn stages(client: &Client, connection: ConnectionId) -> Result<Vec<(Place, String)>> {
    let find = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind = 'r' AND starts_with(c.relname, $1)";
    let rows = client.query(find, &[&book::stage_head(connection)]).await.pg("looking for staging tables")?;
    Ok(rows.iter().map(|row| (Place { namespace: row.get(0), name: row.get(1) }, row.get(1))).collect())
}

/// Drops the staging tables of generations that nobody will publish any more. The positions that speak of those rows go first:
/// a store that was set back to such a generation must not go on behind rows that are gone.
async fn drop_old_stages(client: &Client, book: &Book, load: &Load) -> Result<()> {
    for s in load.streams.iter().filter(|s| s.write == WriteMode::Replace) {
        book.drop_older(client, load.connection, &s.stream, s.generation).await?;
    }
    for (place, name) in stages(client, load.connection).await? {
        let is_old = load.streams.iter().any(|s| {
            let staged = book::staged_generation(&name, load.connection, &s.stream);
            staged.is_some_and(|g| g < s.generation || (g == s.generation && s.write != WriteMode::Replace))
        });
        if is_old {
            drop_table(client, &place).await?;
        }
    }
    Ok(())
}

/// Settings for bulk work; never below what the server's owner chose.
async fn prepare(client: &Client, load: &Load) -> Result<()> {
    // A replace with a key may fold, and then uses temporary tables, too: once a session has, `temp_buffers` can be changed no more, and
    // it may serve a merge next.
    if !load.streams.iter().any(|s| s.write == WriteMode::Merge || !s.key.is_empty()) {
        return Ok(());
    }
    let settings = "SELECT pg_catalog.set_config(name, '64MB', false) FROM (VALUES ('work_mem'), ('maintenance_work_mem'), ('temp_buffers')) s(name) \
        WHERE pg_catalog.pg_size_bytes(pg_catalog.current_setting(name)) < 64 * 1024 * 1024";
    client.batch_execute(&format!("SET jit = off; {settings}")).await.pg("setting up the session")
}
