//! A complete generation becomes visible. The server renames tables in one step, but not inside of a transaction: the record of it
//! comes right after, and a second call that finds the staged table under the target's name only writes that record.

use linkspan_core::{Alter, Context, LoadStream, Publish, Result, SchemaPlan, Swap, WriteMode};

use super::{
    books::Books,
    ddl::Making,
    record::{Place, Table, record, recorded},
    session::{lock, place, unlock},
    sql::{ident, list},
    tables,
    wire::Wire,
};

pub(super) struct Publishing<'a> {
    pub ctx: &'a Context,
    pub books: &'a Books,
    pub request: &'a Publish,
}

impl Publishing<'_> {
    /// `guard` holds the fence while tables are renamed on `wire`: no newer run can begin in between.
    pub async fn run(&self, wire: &mut Wire, guard: &mut Wire) -> Result<()> {
        const DOING: &str = "publishing";
        let Publish { connection, fence, stream } = self.request;
        self.ctx.failpoints.hit("mysql.publish.before").await?;
        self.books.install_fence(wire, *connection, *fence).await?;
        guard.query("START TRANSACTION", DOING).await?;
        self.books.hold_fence(guard, *connection, *fence).await?;
        lock(wire, self.books).await?;
        let target = place(self.books, &stream.target);
        let stage = tables::staging(*connection, &target, stream.generation);
        if self.books.published(wire, *connection, &stream.stream).await? < stream.generation {
            self.show(wire, &target, &stage).await?;
        }
        for table in [&stage, &tables::old_name(&stage)] {
            tables::drop_table(wire, self.books, table).await?;
        }
        unlock(wire, self.books).await?;
        guard.query("COMMIT", DOING).await?;
        self.ctx.failpoints.hit("mysql.publish.after").await
    }

    async fn show(&self, wire: &mut Wire, target: &Place, stage: &Place) -> Result<()> {
        let stream = &self.request.stream;
        tables::refuse_foreign_or_staged(wire, self.books, target, stage, &stream.target).await?;
        let stands = tables::find(wire, self.books, target).await?;
        let staged = tables::find(wire, self.books, stage).await?;
        match (staged, stands) {
            (Some(staged), Some(stands)) if stream.swap == Swap::Rewrite => self.rewrite(wire, &staged, stands).await,
            (Some(staged), stands) => {
                self.rename(wire, target, stage, stands.is_some()).await?;
                self.ctx.failpoints.hit("mysql.publish.mid").await?;
                self.renamed(wire, target, &staged).await
            }
            (None, stands) => match recorded(wire, self.books, stage).await? {
                // An earlier call renamed the table and came no further.
                Some(staged) if tables::has_token(wire, target, &staged.token).await? => self.renamed(wire, target, &staged).await,
                // A generation without rows never staged a table: what stands becomes empty.
                _ => self.emptied(wire, stands).await,
            },
        }
    }

    async fn rename(&self, wire: &mut Wire, target: &Place, stage: &Place, stands: bool) -> Result<()> {
        let old = tables::old_name(stage);
        let away = if stands { format!("{} TO {}, ", target.sql(), old.sql()) } else { String::new() };
        let sql = format!("RENAME TABLE {away}{} TO {}", stage.sql(), target.sql());
        wire.query(&sql, "renaming the tables").await.map(drop)
    }

    async fn renamed(&self, wire: &mut Wire, target: &Place, staged: &Table) -> Result<()> {
        self.recorded(wire, async |wire| {
            let table = Table { place: target.clone(), ..staged.clone() };
            record(wire, self.books, &table).await
        })
        .await
    }

    async fn emptied(&self, wire: &mut Wire, stands: Option<Table>) -> Result<()> {
        self.recorded(wire, async |wire| match &stands {
            Some(table) => wire.query(&format!("DELETE FROM {}", table.place.sql()), "emptying the table").await.map(drop),
            None => Ok(()),
        })
        .await
    }

    /// The old table is emptied and filled: grants, indexes and triggers stay.
    async fn rewrite(&self, wire: &mut Wire, staged: &Table, stands: Table) -> Result<()> {
        let place = stands.place.clone();
        let fields: Vec<_> = staged.columns.iter().map(|c| c.field.clone()).collect();
        let schema = std::sync::Arc::new(arrow_schema::Schema::new(fields));
        let plan = SchemaPlan { ddl: vec![Alter::Create { schema: schema.clone(), key: stands.key.clone() }], ..SchemaPlan::as_is(schema) };
        let load = LoadStream { write: WriteMode::Append, ..self.request.stream.clone() };
        let table = Making { wire, books: self.books, load: &load, target: &place, place: &place }.apply(&plan).await?;
        let pairs: Vec<_> = staged.columns.iter().filter_map(|c| Some((&table.column(c.field.name())?.stored, &c.stored))).collect();
        let (to, from) = (list(pairs.iter().map(|(to, _)| ident(to))), list(pairs.iter().map(|(_, from)| ident(from))));
        self.recorded(wire, async |wire| {
            wire.query(&format!("DELETE FROM {}", place.sql()), "emptying the table").await?;
            let fill = format!("INSERT INTO {} ({to}) SELECT {from} FROM {}", place.sql(), staged.place.sql());
            wire.query(&fill, "filling the table").await.map(drop)
        })
        .await
    }

    /// Does it in one transaction with the record that it is done.
    async fn recorded(&self, wire: &mut Wire, work: impl AsyncFnOnce(&mut Wire) -> Result<()>) -> Result<()> {
        const DOING: &str = "recording the publication";
        let Publish { connection, stream, .. } = self.request;
        wire.query("START TRANSACTION", DOING).await?;
        work(wire).await?;
        self.books.set_published(wire, *connection, &stream.stream, stream.generation).await?;
        wire.query("COMMIT", DOING).await.map(drop)
    }
}
