//! One stream's way into its table within one lane: the announced schema, what stands, the plan that the gate made of both,
//! and the projection that follows from it.

use std::sync::Arc;

use arrow_array::Array;
use arrow_schema::{FieldRef, Schema, SchemaRef};
use linkspan_core::{
    Admission, Alter, Changes, Error, ErrorKind, JsonRows, Misfit, OP_COLUMN, Result, Rows, SchemaPlan, StreamName, TableShape, Target,
    WriteMode, fold, is_feed_column, rows::Rejected,
};

use super::books::Pipe;
use crate::{gate::planned, project::Projection, run::Assignment};

pub(super) struct Table {
    target: Target,
    write: WriteMode,
    key: Vec<String>,
    /// The schema of the rows that come.
    announced: SchemaRef,
    /// What stands, with what this session planned; `None` until the destination was asked.
    stands: Option<Option<TableShape>>,
    /// Whether this session planned anything yet.
    begun: bool,
    projection: Option<Projection>,
}

pub(super) enum Gated {
    Load(SchemaPlan),
    Park(Error),
}

impl Table {
    pub fn new(assignment: &Assignment) -> Self {
        Self {
            target: assignment.target.clone(),
            write: assignment.write,
            key: assignment.key.clone(),
            announced: assignment.selected.stream.schema.clone(),
            stands: None,
            begun: false,
            projection: None,
        }
    }

    pub fn announced(&self) -> &SchemaRef {
        &self.announced
    }
    pub fn is_admitted(&self) -> bool {
        self.projection.is_some()
    }
    /// The table as this session leaves it.
    pub fn shape(&self) -> Option<TableShape> {
        self.stands.clone().flatten()
    }
    pub fn left_out(&self) -> Vec<&str> {
        self.projection.as_ref().map(Projection::left_out).unwrap_or_default()
    }

    /// Rows after this have this schema.
    pub fn announce(&mut self, schema: SchemaRef) {
        if !Arc::ptr_eq(&self.announced, &schema) && self.announced != schema {
            self.projection = None;
            self.announced = schema;
        }
    }
    /// Arrow rows carry their schema with them: a source that forgot to announce it is not taken at its word.
    pub fn announce_of(&mut self, rows: &Rows) {
        if let Rows::Arrow(rows) = rows {
            self.announce(rows.schema());
        }
    }

    /// Asks the gate about the announced schema.
    pub async fn ask(&mut self, pipe: &Pipe, stream: &StreamName) -> Result<Gated> {
        if self.stands.is_none() {
            self.stands = Some(pipe.shape(stream, &self.target).await?);
        }
        let stands = self.stands.as_ref().and_then(Option::as_ref);
        let (data, feed) = self.split(stands);
        let fresh = self.write == WriteMode::Replace && !self.begun;
        let admission = match stands {
            Some(stands) if fresh => pipe.run.gate.replace(stream, stands, &data),
            stands => pipe.run.gate.admit(stream, stands, &data),
        };
        match admission {
            Admission::Park(e) => Ok(Gated::Park(e)),
            Admission::Load(plan) => self.accept(plan, feed, fresh).map(Gated::Load),
        }
    }

    fn accept(&mut self, mut plan: SchemaPlan, feed: Vec<FieldRef>, fresh: bool) -> Result<SchemaPlan> {
        if fresh {
            plan.ddl = vec![Alter::Create { schema: plan.schema.clone(), key: Vec::new() }];
        }
        self.demand_key(&mut plan);
        let stands = self.stands.as_ref().and_then(Option::as_ref).filter(|_| !fresh);
        self.stands = Some(Some(planned(stands, &plan)));
        self.begun = true;
        if !feed.is_empty() {
            plan.schema = self.with_feed(&plan.schema, feed);
        }
        self.projection = Some(Projection::new(&self.announced, &plan)?);
        Ok(plan)
    }

    /// A table that is made gets the key; and where rows are found by it, it holds no null.
    fn demand_key(&self, plan: &mut SchemaPlan) {
        let strict = self.write == WriteMode::Merge && self.announced.field_with_name(OP_COLUMN).is_err();
        let demanded = |f: &FieldRef| match self.key.contains(f.name()) && f.is_nullable() {
            true => Arc::new(f.as_ref().clone().with_nullable(false)),
            false => f.clone(),
        };
        if strict && plan.schema.fields().iter().any(|f| self.key.contains(f.name()) && f.is_nullable()) {
            plan.schema = Arc::new(Schema::new(plan.schema.fields().iter().map(demanded).collect::<Vec<_>>()));
        }
        for alter in &mut plan.ddl {
            if let Alter::Create { key, schema } = alter {
                key.clone_from(&self.key);
                if strict {
                    schema.clone_from(&plan.schema);
                }
            }
        }
    }

    /// A null key is its own mistake, with its own remedy.
    fn check_key(&self, rows: &arrow_array::RecordBatch, misfit: Misfit) -> Result<()> {
        if self.write != WriteMode::Merge || misfit != Misfit::Fail {
            return Ok(());
        }
        let null = |key: &&String| rows.column_by_name(key).is_some_and(|c| c.null_count() > 0);
        self.key.iter().find(null).map_or(Ok(()), |key| Err(fold::null_key(key)))
    }

    /// The data columns as the gate is to see them, and a change feed's own columns where they are no columns of the table.
    fn split(&self, stands: Option<&TableShape>) -> (SchemaRef, Vec<FieldRef>) {
        if self.write != WriteMode::Merge || self.announced.field_with_name(OP_COLUMN).is_err() {
            return (self.announced.clone(), Vec::new());
        }
        let (feed, data): (Vec<FieldRef>, Vec<FieldRef>) = self.announced.fields().iter().cloned().partition(|f| is_feed_column(f.name()));
        // A feed's columns are null in a delete and where unset; that says nothing about the table.
        let as_it_stands = |f: FieldRef| match stands.map(|s| s.schema.field_with_name(f.name())) {
            Some(Ok(standing)) if !standing.is_nullable() => Arc::new(f.as_ref().clone().with_nullable(false)),
            _ => f,
        };
        (Arc::new(Schema::new(data.into_iter().map(as_it_stands).collect::<Vec<_>>())), feed)
    }

    fn with_feed(&self, data: &SchemaRef, feed: Vec<FieldRef>) -> SchemaRef {
        let as_announced = |f: &FieldRef| match self.announced.field_with_name(f.name()) {
            Ok(announced) if announced.is_nullable() => Arc::new(linkspan_core::nullable(f)),
            _ => f.clone(),
        };
        Arc::new(Schema::new(data.fields().iter().map(as_announced).chain(feed).collect::<Vec<_>>()))
    }

    /// The rows as the plan wants them; what could not travel is added to `changes`.
    pub fn fit(&self, rows: Rows, changes: &mut Changes) -> Result<Rows> {
        let Some(projection) = &self.projection else {
            return Err(Error::new(ErrorKind::Internal, "rows met no plan"));
        };
        let rows = match rows {
            Rows::Arrow(rows) => rows,
            Rows::Json(rows) => self.to_arrow(&rows, projection.misfit(), changes)?,
            _ => return Err(Error::new(ErrorKind::Unsupported, "the engine does not know this form of rows")),
        };
        self.check_key(&rows, projection.misfit())?;
        projection.apply(rows, changes).map(Rows::Arrow)
    }

    /// JSON becomes columns once. Where one row is bad and the policy lets it go, the others still come.
    fn to_arrow(&self, rows: &JsonRows, misfit: Misfit, changes: &mut Changes) -> Result<arrow_array::RecordBatch> {
        let whole = rows.to_arrow(&self.announced);
        if whole.is_ok() || misfit == Misfit::Fail {
            return whole;
        }
        let mut good = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            let text = bytes::Bytes::copy_from_slice(rows.row(row));
            let end = u32::try_from(text.len()).unwrap_or(u32::MAX);
            match JsonRows::new(text, vec![(0, end)]).to_arrow(&self.announced) {
                Ok(row) => good.push(row),
                Err(e) => changes.rejected.push(Rejected { place: format!("row {row} of its batch"), reason: e.message().to_owned() }),
            }
        }
        let internal = |e| Error::new(ErrorKind::Internal, "rows of one schema could not be joined").because(e);
        arrow_select::concat::concat_batches(&self.announced, &good).map_err(internal)
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};
    use linkspan_core::{Cursor, ReadMode, Repeats, Selected, Stream, Swap};

    use super::*;

    fn table(misfit: Misfit) -> Table {
        let schema: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("n", DataType::Int32, true)]));
        let name = StreamName::parse("a");
        let stream = Stream {
            name: name.clone(),
            schema: schema.clone(),
            key: vec![],
            cursor: Cursor::None,
            estimated_rows: None,
            estimated_bytes: None,
        };
        let selected = Selected { stream, read: ReadMode::Full, cursor: None, repeats: Repeats::Kept };
        let assignment = Assignment { selected, target: Target::from(&name), write: WriteMode::Append, key: vec![], swap: Swap::Rename };
        let mut table = Table::new(&assignment);
        table.accept(SchemaPlan { ddl: vec![], schema, misfit }, vec![], false).unwrap();
        table
    }
    fn json() -> Rows {
        let rows = [r#"{"id":1,"n":2}"#, r#"{"id":2,"n":"many"}"#, r#"{"id":3}"#];
        let mut ranges = Vec::new();
        let mut text = String::new();
        for row in rows {
            ranges.push((text.len() as u32, (text.len() + row.len()) as u32));
            text.push_str(row);
        }
        Rows::Json(JsonRows::new(text.into(), ranges))
    }

    #[test]
    fn a_json_row_that_does_not_fit_stops_the_stream_or_is_left_out_alone() {
        let e = table(Misfit::Fail).fit(json(), &mut Changes::default()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DataInvalid);
        let mut changes = Changes::default();
        let rows = table(Misfit::Reject).fit(json(), &mut changes).unwrap();
        assert_eq!((rows.len(), changes.rejected.len()), (2, 1));
        assert_eq!(changes.rejected[0].place, "row 1 of its batch");
    }
}
