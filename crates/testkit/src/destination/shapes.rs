//! Trials of tables: what stands, how it changes, odd names.

use std::{ops::Range, sync::Arc};

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use linkspan_core::{Alter, ErrorKind, Misfit, Result, SchemaPlan, Target, WriteMode};

use super::{
    DestinationHarness,
    bench::{Bench, Lane, batch, commit, load, open, open_standard, write},
};
use crate::{
    StandardRow, Table,
    rows::{self, assert_same_rows},
};

impl<H: DestinationHarness> Bench<H> {
    pub(super) async fn says_what_stands(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("shape", mode);
        load(&destination, &mut lane, &StandardRow::range(0..3)).await;
        self.publish_if_replace(&destination, &lane).await;
        let shape = self.destination().shape(&lane.stream.target).await.unwrap_or_else(|e| panic!("{e:?}")).expect("a table stands");
        let names: Vec<&str> = shape.schema.fields().iter().map(|f| f.name().as_str()).collect();
        let expected: Vec<&str> = rows::COLUMNS.into_iter().filter(|c| !self.harness.lacks().contains(c)).collect();
        assert_eq!(names, expected);
        assert!(shape.ours, "a table that we made is not ours");
        if mode == WriteMode::Merge {
            assert_eq!(shape.key, ["id"]);
        }
        let theirs = self.lane("theirs", mode);
        if self.harness.foreign_table(&theirs.stream.target).await {
            let shape = destination.shape(&theirs.stream.target).await.unwrap_or_else(|e| panic!("{e:?}")).expect("a table stands");
            assert!(!shape.ours, "somebody else's table is said to be ours");
        }
    }

    pub(super) async fn fewer_columns(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("fewer", mode);
        let whole = rows::standard_schema();
        let sent: SchemaRef = Arc::new(whole.project(&[0, 3]).expect("two columns"));
        let create = Alter::Create { schema: whole, key: lane.stream.key.clone() };
        let mut session = destination.open(lane.load()).await.unwrap_or_else(|e| panic!("{e:?}"));
        let plan = SchemaPlan { ddl: vec![create], schema: sent, misfit: Misfit::Fail };
        session.schema(&lane.stream.stream, &plan).await.unwrap_or_else(|e| panic!("{e:?}"));
        let part = rows::standard_batch(&StandardRow::range(1..4)).project(&[0, 3]).expect("two columns");
        session.write(batch(&lane.stream.stream, part)).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        self.publish_if_replace(&destination, &lane).await;
        let table = self.table_of(&lane).await;
        assert_eq!(table.ids(), [1, 2, 3]);
        if let Some(amounts) = table.column("amount") {
            assert!(amounts.iter().all(|a| a.is_none_or(str::is_empty)), "{amounts:?}");
        }
    }

    pub(super) async fn adds_a_column(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("add", mode);
        load(&destination, &mut lane, &StandardRow::range(0..5)).await;
        let mut session = open_standard(&destination, &lane).await;
        // In the middle of a commit: rows of the old and of the new schema.
        write(&mut session, &lane, &StandardRow::range(5..7)).await.unwrap_or_else(|e| panic!("{e:?}"));
        let added = Arc::new(Field::new("note", DataType::Utf8, true));
        let mut fields: Vec<_> = rows::standard_schema().fields().iter().cloned().collect();
        fields.push(added.clone());
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let plan = SchemaPlan { ddl: vec![Alter::Add(added)], schema: schema.clone(), misfit: Misfit::Fail };
        session.schema(&lane.stream.stream, &plan).await.unwrap_or_else(|e| panic!("{e:?}"));
        let mut columns = rows::standard_batch(&StandardRow::range(7..9)).columns().to_vec();
        columns.push(Arc::new(StringArray::from(vec!["seven", "eight"])));
        session.write(batch(&lane.stream.stream, RecordBatch::try_new(schema, columns).unwrap())).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        assert_same_rows(&self.rows_in(&lane).await, &StandardRow::range(0..9), "the rows");
        let notes = by_id(&self.table_of(&lane).await, "note");
        let expected = (0..9).map(|id| (id, ["seven", "eight"].get((id - 7) as usize).map(|t| (*t).to_owned())));
        assert_eq!(notes, expected.collect::<Vec<_>>());
        let shape = destination.shape(&lane.stream.target).await.unwrap_or_else(|e| panic!("{e:?}")).expect("a table");
        assert!(shape.schema.field_with_name("note").is_ok(), "{:?}", shape.schema);
    }

    pub(super) async fn widens_a_column(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("widen", mode);
        let schema =
            |v: DataType| -> SchemaRef { Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("v", v, true)])) };
        let (narrow, wide) = (schema(DataType::Int32), schema(DataType::Int64));
        let ids = |ids: Range<i64>| -> ArrayRef { Arc::new(Int64Array::from_iter_values(ids)) };
        let mut session = open(&destination, &lane, &narrow).await.unwrap_or_else(|e| panic!("{e:?}"));
        let rows = RecordBatch::try_new(narrow.clone(), vec![ids(0..2), Arc::new(Int32Array::from(vec![i32::MAX, -1]))]).unwrap();
        session.write(batch(&lane.stream.stream, rows)).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        let widen = Alter::Widen { from: narrow.fields()[1].clone(), to: wide.fields()[1].clone() };
        let plan = SchemaPlan { ddl: vec![widen], schema: wide.clone(), misfit: Misfit::Fail };
        session.schema(&lane.stream.stream, &plan).await.unwrap_or_else(|e| panic!("{e:?}"));
        let rows = RecordBatch::try_new(wide, vec![ids(2..4), Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN]))]).unwrap();
        session.write(batch(&lane.stream.stream, rows)).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        let values = by_id(&self.table_of(&lane).await, "v");
        let expected = [i64::from(i32::MAX), -1, i64::MAX, i64::MIN].into_iter().enumerate().map(|(i, v)| (i as i64, Some(v.to_string())));
        assert_eq!(values, expected.collect::<Vec<_>>());
    }

    pub(super) async fn drops_not_null(&self, mode: WriteMode) {
        let destination = self.destination();
        let mut lane = self.lane("nullable", mode);
        let schema = |nullable: bool| -> SchemaRef {
            Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("v", DataType::Utf8, nullable)]))
        };
        let (strict, lenient) = (schema(false), schema(true));
        let rows = |schema: &SchemaRef, id: i64, v: Option<&str>| {
            RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![id])), Arc::new(StringArray::from(vec![v]))]).unwrap()
        };
        let mut session = open(&destination, &lane, &strict).await.unwrap_or_else(|e| panic!("{e:?}"));
        session.write(batch(&lane.stream.stream, rows(&strict, 0, Some("a")))).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        let ddl = vec![Alter::DropNotNull(lenient.fields()[1].clone())];
        let plan = SchemaPlan { ddl, schema: lenient.clone(), misfit: Misfit::Fail };
        session.schema(&lane.stream.stream, &plan).await.unwrap_or_else(|e| panic!("{e:?}"));
        session.write(batch(&lane.stream.stream, rows(&lenient, 1, None))).await.unwrap_or_else(|e| panic!("{e:?}"));
        commit(&mut session, &mut lane).await.unwrap_or_else(|e| panic!("{e:?}"));
        drop(session);
        assert_eq!(by_id(&self.table_of(&lane).await, "v"), [(0, Some("a".into())), (1, None)]);
    }

    /// D10: a name is kept as it is or refused with a reason; two names are never one table.
    pub(super) async fn odd_names(&self, mode: WriteMode) {
        let namespace = self.harness.target("odd").namespace;
        let long = "long_".repeat(14);
        let (long_a, long_b) = (format!("{long}a"), format!("{long}b"));
        let names = [
            "select",
            "Mixed Case",
            "mixed case",
            "dots.in.it",
            "quo\"te",
            "back\\slash",
            "ünïcode_表",
            "sp ace ",
            "semi;colon--",
            "",
            &long_a,
            &long_b,
        ];
        let mut kept = vec![];
        for (i, name) in names.iter().enumerate() {
            let target = Target { namespace: namespace.clone(), name: (*name).into() };
            let lane = self.lane_to(&self.harness.stream_name(name), target, mode);
            let row = StandardRow::new(i as i64);
            match self.try_load(lane, &row).await {
                Ok(lane) => kept.push((*name, lane, row)),
                Err(e) => {
                    assert_ne!(e.kind(), ErrorKind::Internal, "the name {name:?}: {e:?}");
                    assert!(e.suggested_fix().is_some(), "the name {name:?} is refused without a fix: {e:?}");
                }
            }
        }
        assert!(kept.iter().any(|(n, ..)| *n == "select"), "a reserved word is a fine name");
        for (name, lane, row) in kept {
            assert_eq!(self.rows_in(&lane).await, [row], "the table {name:?}");
        }
        self.odd_columns(mode).await;
    }
    async fn try_load(&self, mut lane: Lane, row: &StandardRow) -> Result<Lane> {
        let destination = self.destination();
        let mut session = open(&destination, &lane, &rows::standard_schema()).await?;
        write(&mut session, &lane, std::slice::from_ref(row)).await?;
        commit(&mut session, &mut lane).await?;
        drop(session);
        if lane.stream.write == WriteMode::Replace {
            destination.publish(&lane.publish()).await?;
        }
        Ok(lane)
    }
    async fn odd_columns(&self, mode: WriteMode) {
        let long = "column_".repeat(11);
        for name in ["select", "Mixed Case", "a.b", "quo\"te", "ünï表", "ctid", &long] {
            let destination = self.destination();
            let mut lane = self.lane("columns", mode);
            let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new(name, DataType::Utf8, true)]));
            let rows =
                RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec!["x"]))]);
            let result = async {
                let mut session = open(&destination, &lane, &schema).await?;
                session.write(batch(&lane.stream.stream, rows.expect("one row"))).await?;
                commit(&mut session, &mut lane).await
            };
            match result.await {
                Ok(_) => {
                    self.publish_if_replace(&destination, &lane).await;
                    let table = self.table_of(&lane).await;
                    let expected = table.columns.iter().filter(|c| *c != "id").cloned().collect::<Vec<_>>();
                    assert_eq!(expected, [name], "the column's name");
                    assert_eq!(table.column(name), Some(vec![Some("x")]));
                }
                Err(e) => {
                    assert_ne!(e.kind(), ErrorKind::Internal, "the column {name:?}: {e:?}");
                    assert!(e.suggested_fix().is_some(), "the column {name:?} is refused without a fix: {e:?}");
                }
            }
        }
    }
}

/// A column's values by id.
fn by_id(table: &Table, column: &str) -> Vec<(i64, Option<String>)> {
    let values = table.column(column).unwrap_or_else(|| panic!("no column {column} in {:?}", table.columns));
    let ids = table.column("id").expect("an id column");
    let number = |id: &Option<&str>| id.and_then(|t| t.parse::<i64>().ok()).expect("an id");
    let mut rows: Vec<_> = ids.iter().map(number).zip(values.into_iter().map(|v| v.map(str::to_owned))).collect();
    rows.sort();
    rows
}
