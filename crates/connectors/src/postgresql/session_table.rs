//! Tables made and changed as a plan says: inside the session's transaction, or at once where several lanes share one table.

use arrow_schema::FieldRef;
use linkspan_core::{Alter, Error, ErrorKind, Result, SchemaPlan, WriteMode, is_feed_column, native};

use super::{
    connect::Client,
    ddl::{self, NewColumn, Wanted},
    destination_shape::{self as shape, Table},
    encode::Sent,
    errors::PgResult,
    sql,
};

/// A table by schema and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub namespace: String,
    pub name: String,
}

impl Place {
    pub(super) fn sql(&self) -> String {
        sql::qualified(Some(&self.namespace), &self.name)
    }
}

/// A table that a plan is about.
pub(super) struct Making<'a> {
    pub client: &'a Client,
    pub place: &'a Place,
    pub mode: WriteMode,
    pub key: &'a [String],
}

/// Whether the table was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    New,
    Standing,
}

impl Making<'_> {
    /// Brings the table to what the plan asks for. Idempotent: what is there already is left alone.
    pub(super) async fn apply(&self, plan: &SchemaPlan) -> Result<Made> {
        let mut made = Made::Standing;
        if self.mode == WriteMode::Replace && shape::table(self.client, &self.place.namespace, &self.place.name).await?.is_none() {
            // A generation's staging table starts from the rows to come, whatever stands at the target.
            let created = plan.ddl.iter().find_map(|alter| match alter {
                Alter::Create { schema, .. } => Some(schema),
                _ => None,
            });
            self.create(created.unwrap_or(&plan.schema).fields()).await?;
            made = Made::New;
        }
        for alter in &plan.ddl {
            match alter {
                Alter::Create { schema, .. } => {
                    if self.create(schema.fields()).await? == Made::New {
                        made = Made::New;
                    }
                }
                Alter::Add(field) => self.add(field).await?,
                Alter::Widen { to, .. } => self.widen(to).await?,
                Alter::DropNotNull(field) => self.drop_not_null(field).await?,
            }
        }
        if self.mode == WriteMode::Replace {
            self.complete(plan).await?;
        }
        Ok(made)
    }

    /// A staging table of an earlier run, or of another lane, may lack what this one sends.
    async fn complete(&self, plan: &SchemaPlan) -> Result<()> {
        let Some(table) = self.table().await? else { return Ok(()) };
        for field in plan.schema.fields().iter().filter(|f| self.is_column(f)) {
            match table.column(field.name()) {
                None => self.add(field).await?,
                Some(column) if column.not_null && field.is_nullable() => self.drop_not_null(field).await?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn create(&self, fields: &[FieldRef]) -> Result<Made> {
        ddl::check_name("schema", &self.place.namespace)?;
        ddl::check_name("table", &self.place.name)?;
        // Two sessions that make the same table at once would trip over each other in the catalog.
        let lock = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))";
        self.client.execute(lock, &[&format!("linkspan:{}", self.place.sql())]).await.pg("waiting for another lane")?;
        if let Some(table) = self.table().await? {
            table.check_kind(&self.place.sql())?;
            for field in fields.iter().filter(|f| self.is_column(f) && table.column(f.name()).is_none()) {
                self.add(field).await?;
            }
            return Ok(Made::Standing);
        }
        self.make_schema().await?;
        let mut columns = Vec::with_capacity(fields.len());
        for field in fields.iter().filter(|f| self.is_column(f)) {
            ddl::check_name("column", field.name())?;
            // A feed's deletes carry only keys, and its rows go through a stage that has no constraints.
            let not_null = !field.is_nullable() || (self.mode != WriteMode::Append && self.key.contains(field.name()));
            columns.push(NewColumn { name: field.name().clone(), sql_type: self.sql_type(field).await?, not_null });
        }
        let key = if self.mode == WriteMode::Merge { self.key } else { &[] };
        self.run(&ddl::create_table(&self.place.sql(), &columns, key), "making the table").await?;
        Ok(Made::New)
    }

    async fn make_schema(&self) -> Result<()> {
        let there = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1::text";
        if self.client.query_opt(there, &[&self.place.namespace]).await.pg("looking for the schema")?.is_some() {
            return Ok(());
        }
        let lock = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 1))";
        self.client.execute(lock, &[&format!("linkspan:{}", self.place.namespace)]).await.pg("waiting for another lane")?;
        self.run(&format!("CREATE SCHEMA IF NOT EXISTS {}", sql::ident(&self.place.namespace)), "making the schema").await
    }

    async fn add(&self, field: &FieldRef) -> Result<()> {
        if !self.is_column(field) {
            return Ok(());
        }
        ddl::check_name("column", field.name())?;
        let sql_type = self.sql_type(field).await?;
        self.run(&ddl::add_column(&self.place.sql(), field.name(), &sql_type), "adding a column").await
    }

    async fn widen(&self, to: &FieldRef) -> Result<()> {
        let wanted = self.sql_type(to).await?;
        let table = self.table().await?.ok_or_else(|| self.gone())?;
        let Some(column) = table.column(to.name()) else { return self.add(to).await };
        let is_limited = matches!(column.sent, Sent::Text(Some(_)));
        if column.sql_type != wanted && (is_limited || column.form.data_type() != *to.data_type()) {
            let widened = self.run(&ddl::change_type(&self.place.sql(), to.name(), &wanted), "widening a column").await;
            widened.map_err(|e| e.with("column", to.name()).with("to", &wanted))?;
        }
        if to.is_nullable() { self.drop_not_null(to).await } else { Ok(()) }
    }

    async fn drop_not_null(&self, field: &FieldRef) -> Result<()> {
        let Some(table) = self.table().await? else { return Err(self.gone()) };
        if !table.column(field.name()).is_some_and(|c| c.not_null) || self.key.contains(field.name()) {
            return Ok(());
        }
        self.run(&ddl::drop_not_null(&self.place.sql(), field.name()), "allowing nulls in a column").await
    }

    /// The type that this server has for the field.
    async fn sql_type(&self, field: &FieldRef) -> Result<String> {
        let (name, otherwise) = match ddl::wanted(field) {
            Wanted::Builtin(name) => return Ok(name),
            Wanted::Custom(name, otherwise) => (name, otherwise),
        };
        // The name is compared, never spliced in: what comes back is this server's own spelling. Modifiers of such a type only
        // narrow what it holds.
        let find = "SELECT pg_catalog.format_type(t.oid, NULL) FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
            LEFT JOIN (pg_catalog.pg_type e JOIN pg_catalog.pg_namespace m ON m.oid = e.typnamespace) ON e.typarray = t.oid \
            WHERE $1 IN (format('%I.%I', n.nspname, t.typname), quote_ident(m.nspname) || '.' || quote_ident(e.typname) || '[]', pg_catalog.format_type(t.oid, NULL)) LIMIT 1";
        let plain = without_modifiers(&name);
        let found = self.client.query_opt(find, &[&plain]).await.pg("looking for a type")?.map(|row| row.get::<_, String>(0));
        if found.is_none() {
            tracing::info!(column = field.name(), "the destination has no type {name}: the column is made as {otherwise}");
        }
        Ok(found.unwrap_or(otherwise))
    }

    /// Merge finds rows by key: the server must keep them unique by it.
    pub(super) async fn ensure_key(&self, table: &Table) -> Result<()> {
        for column in self.key {
            if table.column(column).is_none() {
                return Err(Error::new(ErrorKind::ConfigInvalid, "a key column is not in the table")
                    .with("column", column)
                    .fix("name key columns that the stream has, with --key"));
            }
        }
        if table.has_key(self.key) {
            return Ok(());
        }
        let columns = sql::list(self.key.iter().map(String::as_str));
        let made = self.run(&format!("CREATE UNIQUE INDEX ON {} ({columns})", self.place.sql()), "making the key's index").await;
        made.map_err(|e| match e.kind() {
            ErrorKind::DataInvalid => Error::new(ErrorKind::DataInvalid, "rows that stand in the table share a key")
                .with("table", self.place.sql())
                .with("key", &columns)
                .fix("choose a key that is unique, or remove the double rows from the table")
                .because(e),
            ErrorKind::PermissionDenied => {
                let fix = format!("as the table's owner: CREATE UNIQUE INDEX ON {} ({columns})", self.place.sql());
                Error::new(ErrorKind::PermissionDenied, "the table has no unique index on the key, and the login may not make one")
                    .fix(fix)
                    .because(e)
            }
            _ => e,
        })
    }

    pub(super) async fn table(&self) -> Result<Option<Table>> {
        shape::table(self.client, &self.place.namespace, &self.place.name).await
    }

    /// Whether a field of the rows is a column of the table.
    fn is_column(&self, field: &FieldRef) -> bool {
        let is_instruction = self.mode != WriteMode::Append && is_feed_column(field.name());
        !is_instruction && !native::has_mark(field, native::SPECIAL_OF)
    }

    pub(super) fn gone(&self) -> Error {
        Error::new(ErrorKind::NotFound, "the target table is not there")
            .with("table", self.place.sql())
            .fix("run the same command again; the table is made anew")
    }

    async fn run(&self, statement: &str, doing: &'static str) -> Result<()> {
        let done = self.client.batch_execute(statement).await.pg(doing);
        done.map_err(|e| e.with("table", self.place.sql()))
    }
}

/// `public.geometry(Point,4326)` is a `public.geometry`.
fn without_modifiers(type_name: &str) -> String {
    match (type_name.find('('), type_name.rfind(')')) {
        (Some(open), Some(close)) if open < close => format!("{}{}", &type_name[..open], &type_name[close + 1..]),
        _ => type_name.to_owned(),
    }
}
