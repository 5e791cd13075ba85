//! Making and changing tables. The server commits with every such statement, so all of it is done before a commit's transaction
//! begins, only ever adds or widens, and may be done twice.

use arrow_schema::{DataType, Field, SchemaRef};
use linkspan_core::{Alter, Error, ErrorKind, LoadStream, Result, SchemaPlan, WriteMode, is_feed_column, widen};

use super::{
    books::Books,
    columns::check_name,
    record::{Column, Place, TOKEN, Table, kept, record},
    sql::{ident, list, literal},
    tables::{self, NO_COLUMNS},
    wire::Wire,
};

/// The columns that a write mode keeps: a merge applies the feed's columns, the others store them.
fn stored_fields(schema: &SchemaRef, write: WriteMode) -> impl Iterator<Item = &Field> {
    schema.fields().iter().map(AsRef::as_ref).filter(move |f| write != WriteMode::Merge || !is_feed_column(f.name()))
}

pub(super) struct Making<'a> {
    pub wire: &'a mut Wire,
    pub books: &'a Books,
    pub load: &'a LoadStream,
    /// Where the target is, and where the rows go: the same, but for a replace.
    pub target: &'a Place,
    pub place: &'a Place,
}

impl Making<'_> {
    /// Brings the stream's table (a replace: its staging table) into the planned shape. What is already so is left alone, since another
    /// lane of the stream may have done it.
    pub async fn apply(&mut self, plan: &SchemaPlan) -> Result<Table> {
        if self.load.write == WriteMode::Replace {
            tables::refuse_foreign(self.wire, self.books, self.target, &self.load.target).await?;
            let mut table = self.create_missing(&plan.schema, &self.load.key).await?;
            self.reconcile(&mut table, stored_fields(&plan.schema, self.load.write)).await?;
            return Ok(table);
        }
        let mut table = tables::find(self.wire, self.books, self.place).await?;
        if table.is_none() {
            tables::refuse_foreign(self.wire, self.books, self.target, &self.load.target).await?;
        }
        for alter in &plan.ddl {
            match (alter, &mut table) {
                (Alter::Create { schema, key: planned }, None) => {
                    let merge_key = if self.load.key.is_empty() { planned } else { &self.load.key };
                    let key: &[String] = if self.load.write == WriteMode::Merge { merge_key } else { &[] };
                    table = Some(self.create_missing(schema, key).await?);
                }
                (Alter::Create { schema, .. }, Some(table)) => self.reconcile(table, stored_fields(schema, self.load.write)).await?,
                (Alter::Add(field), Some(table)) => self.reconcile(table, [field.as_ref()].into_iter()).await?,
                (Alter::Widen { to, .. } | Alter::DropNotNull(to), Some(table)) => {
                    self.reconcile(table, [to.as_ref()].into_iter()).await?;
                }
                (_, None) => return Err(self.not_there()),
            }
        }
        let table = table.ok_or_else(|| self.not_there())?;
        let lacks = |f: &&Field| !is_feed_column(f.name()) && table.column(f.name()).is_none();
        if let Some(field) = stored_fields(&plan.schema, self.load.write).find(lacks) {
            return Err(Error::new(ErrorKind::SchemaDrift, "the table lacks a column of the rows")
                .with("table", &self.load.target)
                .with("column", field.name())
                .fix("let the drift policy evolve the table, or add the column"));
        }
        if self.load.write == WriteMode::Merge && table.key != self.load.key {
            return self.enforce_key(table).await;
        }
        Ok(table)
    }

    fn not_there(&self) -> Error {
        Error::new(ErrorKind::NotFound, "the table is not there")
            .with("table", &self.load.target)
            .fix("run it again: the table is planned anew")
    }

    async fn create_missing(&mut self, schema: &SchemaRef, key: &[String]) -> Result<Table> {
        if let Some(table) = tables::find(self.wire, self.books, self.place).await? {
            return Ok(table);
        }
        check_name("database", &self.place.database)?;
        check_name("table", &self.place.name)?;
        let flavor = self.wire.flavor();
        let token = format!("{}{}", TOKEN, uuid::Uuid::new_v4().simple());
        let mut table = Table { place: self.place.clone(), token, key: key.to_vec(), columns: Vec::new() };
        for field in stored_fields(schema, self.load.write) {
            check_name("column", field.name())?;
            table.add(field, flavor);
        }
        self.make_database().await?;
        // The record comes first: a table that stands without one would be somebody else's for ever.
        record(self.wire, self.books, &table).await?;
        let sql = create_sql(&table)?;
        self.run(&sql, "making the table").await?;
        Ok(table)
    }

    async fn make_database(&mut self) -> Result<()> {
        let name = &self.place.database;
        let sql = format!("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}", literal(name));
        if !self.wire.query(&sql, "looking for the database").await?.is_empty() {
            return Ok(());
        }
        let sql = format!("CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4", ident(name));
        self.wire.query(&sql, "making the database").await.map(drop).map_err(|e| match e.kind() {
            ErrorKind::PermissionDenied => Error::new(
                ErrorKind::PermissionDenied,
                "the target's database is not there, and the login may not make it",
            )
            .with("database", name)
            .fix("write to a database that is there, with --target database.table; or CREATE DATABASE it and grant the login its rights")
            .because(e),
            _ => e,
        })
    }

    /// Adds the columns that are missing and widens those that cannot hold the new values.
    async fn reconcile<'f>(&mut self, table: &mut Table, fields: impl Iterator<Item = &'f Field>) -> Result<()> {
        let flavor = self.wire.flavor();
        let (mut next, mut changes) = (table.clone(), Vec::new());
        for field in fields {
            let Some(at) = table.columns.iter().position(|c| c.field.name() == field.name()) else {
                check_name("column", field.name())?;
                next.add(&field.clone().with_nullable(true), flavor);
                changes.extend(next.columns.last().map(|c| format!("ADD COLUMN {} {} NULL", ident(&c.stored), c.made.text)));
                continue;
            };
            let stands = &table.columns[at];
            let wanted = field.clone().with_data_type(kept(field.data_type()));
            if stands.field.data_type() == wanted.data_type()
                && stands.field.metadata() == wanted.metadata()
                && stands.field.is_nullable() >= wanted.is_nullable()
            {
                continue;
            }
            let wider = widen::widen_field(&stands.field, &wanted).filter(|w| keeps_its_meaning(&stands.field, w));
            let Some(wider) = wider else { return Err(self.cannot_widen(field)) };
            let made = table.type_of(&wider, flavor);
            if made.text != stands.made.text {
                let null = if table.key.contains(field.name()) { "NOT NULL" } else { "NULL" };
                changes.push(format!("MODIFY COLUMN {} {} {null}", ident(&stands.stored), made.text));
            }
            next.columns[at] = Column { field: wider, stored: stands.stored.clone(), made };
        }
        if !changes.is_empty() {
            self.alter(&next, &changes).await?;
        }
        record(self.wire, self.books, &next).await?;
        *table = next;
        Ok(())
    }

    /// A change that another lane, or an earlier try of ours, has made already is made.
    async fn alter(&mut self, next: &Table, changes: &[String]) -> Result<()> {
        for change in changes {
            let sql = format!("ALTER TABLE {} {change}", next.place.sql());
            match self.run(&sql, "changing the table").await {
                Err(e) if e.context().iter().any(|(k, v)| *k == "code" && v == "1060") => {}
                done => done?,
            }
        }
        Ok(())
    }

    fn cannot_widen(&self, field: &Field) -> Error {
        Error::new(ErrorKind::SchemaDrift, "the table's column cannot hold both the old and the new type")
            .with("table", &self.load.target)
            .with("column", field.name())
            .fix("load the stream anew with --write replace")
    }

    /// A merge finds rows by a unique index on the key; a table that an append made, or one of another key, gets one now.
    async fn enforce_key(&mut self, mut table: Table) -> Result<Table> {
        let key = self.load.key.clone();
        if !table.key.is_empty() {
            return Err(Error::new(ErrorKind::SchemaDrift, "the table is kept unique by another key")
                .with("table", &self.load.target)
                .with("key", table.key.join(", "))
                .fix("name that key with --key, or load the stream anew with --write replace"));
        }
        table.key_columns(&key)?;
        let flavor = self.wire.flavor();
        let keyed = Table { key: key.clone(), ..table.clone() };
        let mut changes = Vec::new();
        for column in table.columns.iter_mut().filter(|c| key.contains(c.field.name())) {
            let made = keyed.type_of(&column.field, flavor);
            changes.push(format!("MODIFY COLUMN {} {} NOT NULL", ident(&column.stored), made.text));
            column.made = made;
        }
        let columns = list(table.key_columns(&key)?.iter().map(|c| ident(&c.stored)));
        let name = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, columns.as_bytes()).simple().to_string();
        changes.push(format!("ADD UNIQUE INDEX {} ({columns})", ident(&format!("_linkspan_{}", &name[..16]))));
        let sql = format!("ALTER TABLE {} {}", table.place.sql(), changes.join(", "));
        self.run(&sql, "making the key's index").await.map_err(|e| match e.kind() {
            ErrorKind::DataInvalid => {
                Error::new(ErrorKind::DataInvalid, "the table holds several rows of one key, or a key that is null or too long")
                    .with("table", &self.load.target)
                    .fix("choose a key that is unique with --key, or load the stream anew with --write replace")
                    .because(e)
            }
            _ => e,
        })?;
        table.key = key;
        record(self.wire, self.books, &table).await?;
        Ok(table)
    }

    async fn run(&mut self, sql: &str, doing: &'static str) -> Result<()> {
        self.wire.query(sql, doing).await.map(drop).map_err(|e| e.with("table", &self.load.target))
    }
}

/// Whether the server's own conversion of stored values is ours.
fn keeps_its_meaning(from: &Field, to: &Field) -> bool {
    !(matches!(to.data_type(), DataType::Utf8) && matches!(from.data_type(), DataType::Boolean | DataType::Binary | DataType::Float32))
}

fn create_sql(table: &Table) -> Result<String> {
    let column = |c: &Column| {
        let null = if table.key.contains(c.field.name()) { "NOT NULL" } else { "NULL" };
        format!("{} {} {null}", ident(&c.stored), c.made.text)
    };
    let mut parts: Vec<String> = table.columns.iter().map(column).collect();
    if parts.is_empty() {
        parts.push(format!("{} tinyint NULL", ident(NO_COLUMNS)));
    }
    if !table.key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", list(table.key_columns(&table.key)?.iter().map(|c| ident(&c.stored)))));
    }
    Ok(format!(
        "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE=InnoDB CHARACTER SET utf8mb4 COMMENT={}",
        table.place.sql(),
        parts.join(", "),
        literal(&table.token)
    ))
}
