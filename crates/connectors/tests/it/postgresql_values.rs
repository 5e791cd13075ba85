//! Values on their way into PostgreSQL that it cannot hold as they are, and those that are larger than any buffer.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Decimal128Array, Decimal256Array, DictionaryArray, Float64Array, Int8Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    types::{Float64Type, Int32Type},
};
use arrow_buffer::i256;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use linkspan_core::{Alter, ErrorKind, JsonRows, Misfit, Rows, SchemaPlan, WriteMode, native};

use crate::postgresql_destination::{Job, World, batch, create, world};

fn table(fields: Vec<Field>, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn one(field: Field, values: ArrayRef) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
    table(vec![Field::new("id", DataType::Int64, false), field], vec![ids, values])
}

fn plan(schema: &SchemaRef, job: &Job, misfit: Misfit) -> SchemaPlan {
    SchemaPlan { misfit, ..create(schema, job) }
}

/// Every way in which a table cannot hold a value: what it is, what stands, and rows of which the second is the misfit.
fn misfits() -> Vec<(&'static str, &'static str, RecordBatch)> {
    let text = |v: [&str; 3]| Arc::new(StringArray::from(v.to_vec())) as ArrayRef;
    let named = |d: DataType| Field::new("v", d, true);
    let json = || native::with_mark(named(DataType::Utf8), native::JSON_TEXT, "");
    let decimals = Decimal128Array::from(vec![100, 123, 200]).with_precision_and_scale(10, 2).unwrap();
    let wide = Decimal256Array::from(vec![i256::from(1), i256::from_string(&"9".repeat(50)).unwrap(), i256::from(2)]);
    let nanos = TimestampNanosecondArray::from(vec![1_000, 1_001, 2_000]);
    let micros = TimestampMicrosecondArray::from(vec![1_000_000, 1, 2_000_000]);
    vec![
        ("a NUL in a text", "text", one(named(DataType::Utf8), text(["a", "b\0", "c"]))),
        ("a NUL in JSON", "jsonb", one(json(), text(["{}", r#"{"a":"\u0000"}"#, r#""\\u0000""#]))),
        ("a text that is too long", "varchar(3)", one(named(DataType::Utf8), text(["äöü", "abcd", "x"]))),
        ("a digit that would be rounded", "numeric(10,1)", one(named(DataType::Decimal128(10, 2)), Arc::new(decimals))),
        (
            "a number that is too large",
            "numeric(40,0)",
            one(named(DataType::Decimal256(76, 0)), Arc::new(wide.with_precision_and_scale(76, 0).unwrap())),
        ),
        ("an integer that is too large", "smallint", one(named(DataType::Int64), Arc::new(Int64Array::from(vec![1, 70_000, 2])))),
        ("a double that rounds", "real", one(named(DataType::Float64), Arc::new(Float64Array::from(vec![0.5, 0.1, 0.25])))),
        ("nanoseconds", "timestamp", one(named(DataType::Timestamp(arrow_schema::TimeUnit::Nanosecond, None)), Arc::new(nanos))),
        (
            "a part of a second",
            "timestamp(0)",
            one(named(DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None)), Arc::new(micros)),
        ),
        ("no decimal", "numeric", one(native::with_mark(named(DataType::Utf8), native::DECIMAL_TEXT, ""), text(["1.5", "x", "NaN"]))),
        (
            "an infinity in a number with limits",
            "numeric(5,2)",
            one(native::with_mark(named(DataType::Utf8), native::DECIMAL_TEXT, ""), text(["1.5", "Infinity", "NaN"])),
        ),
    ]
}

async fn load(
    w: &World,
    job: &mut Job,
    rows: &RecordBatch,
    misfit: Misfit,
) -> linkspan_core::Result<(linkspan_core::Changes, linkspan_core::WriteStats)> {
    let mut session = w.session(job).await?;
    session.schema(&job.stream.stream, &plan(&rows.schema(), job, misfit)).await?;
    session.write(batch(job, rows.clone())).await?;
    let changes = session.take_changes();
    let commit = w.commit(job);
    let stats = session.commit(&commit).await?;
    Ok((changes, stats[&job.stream.stream]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_fit_is_refused_nulled_or_left_out_and_recorded() {
    let Some(w) = world().await else { return };
    for (at, (what, kind, rows)) in misfits().into_iter().enumerate() {
        for mode in [WriteMode::Append, WriteMode::Merge] {
            let name = format!("t{at}_{mode:?}").to_lowercase();
            w.db.execute(&format!("create table {name} (id bigint primary key, v {kind})")).await;
            let mut job = w.job(&name, mode);
            let refused = load(&w, &mut job.clone(), &rows, Misfit::Fail).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::DataInvalid, "{what}: {refused:?}");
            assert!(refused.context().contains(&("row_of_batch", "1".into())) && refused.suggested_fix().is_some(), "{what}: {refused:?}");
            assert_eq!(w.text(&format!("select count(*) from {name}")).await, "0", "{what}");
            let (changes, stats) = load(&w, &mut job, &rows, Misfit::Null).await.unwrap_or_else(|e| panic!("{what}: {e:?}"));
            assert_eq!((changes.changed.len(), changes.changed[0].row, stats.written), (1, 1, 3), "{what}");
            assert_eq!(w.text(&format!("select id from {name} where v is null")).await, "1", "{what}");
            w.db.execute(&format!("truncate {name}")).await;
            let (changes, stats) = load(&w, &mut job, &rows, Misfit::Reject).await.unwrap();
            assert_eq!((changes.rejected.len(), stats.written, stats.rejected), (1, 2, 1), "{what}");
            assert_eq!(w.text(&format!("select count(*), count(v) from {name}")).await, "2,2", "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_null_where_none_may_be_takes_its_row_along_when_the_policy_lets_it() {
    let Some(w) = world().await else { return };
    w.db.execute("create table t (id bigint, v text not null)").await;
    let rows = one(Field::new("v", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("a"), None])));
    let mut job = w.job("t", WriteMode::Append);
    assert_eq!(load(&w, &mut job.clone(), &rows, Misfit::Fail).await.unwrap_err().kind(), ErrorKind::DataInvalid);
    let (changes, stats) = load(&w, &mut job, &rows, Misfit::Null).await.unwrap();
    assert_eq!((changes.rejected.len(), stats.rejected, stats.written), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn specials_of_a_decimal_are_folded_back_into_it() {
    let Some(w) = world().await else { return };
    let decimal = Field::new("n", DataType::Decimal128(20, 3), true);
    let special = native::with_mark(Field::new("n__special", DataType::Int8, true), native::SPECIAL_OF, "n");
    let values = Decimal128Array::from(vec![Some(1_500), None, None]).with_precision_and_scale(20, 3).unwrap();
    let columns: Vec<ArrayRef> = vec![Arc::new(values), Arc::new(Int8Array::from(vec![None, Some(0), None]))];
    let mut job = w.job("t", WriteMode::Append);
    w.load(&mut job, table(vec![decimal.clone(), special.clone()], columns)).await.unwrap();
    assert_eq!(w.text("select n from t").await, "1.500 NaN -");
    // A numeric without limits holds the infinities too, in both formats.
    w.db.execute("create table open (n numeric); create table texts (n numeric, addresses inet)").await;
    let values = Decimal128Array::from(vec![None, None, Some(-1)]).with_precision_and_scale(20, 3).unwrap();
    let columns: Vec<ArrayRef> = vec![Arc::new(values), Arc::new(Int8Array::from(vec![Some(1), Some(-1), None]))];
    w.load(&mut w.job("open", WriteMode::Append), table(vec![decimal.clone(), special.clone()], columns.clone())).await.unwrap();
    assert_eq!(w.text("select n from open").await, "Infinity -Infinity -0.001");
    let inet: ArrayRef = Arc::new(StringArray::from(vec!["::1", "10.0.0.0/8", "1.2.3.4"]));
    let fields = vec![decimal, special, Field::new("addresses", DataType::Utf8, true)];
    w.load(&mut w.job("texts", WriteMode::Append), table(fields, [columns, vec![inet]].concat())).await.unwrap();
    assert_eq!(w.text("select * from texts").await, "Infinity,::1 -Infinity,10.0.0.0/8 -0.001,1.2.3.4");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_larger_than_a_buffer_leave_in_pieces() {
    let Some(w) = world().await else { return };
    let big = "é".repeat(3 << 20);
    let json = format!("{{\"a\": \"{}\"}}", "x".repeat(5 << 20));
    let bytes: Vec<u8> = (0..4_000_000u32).map(|i| i as u8).collect();
    for (name, extra) in [("binary", None), ("text", Some("inet"))] {
        let mut fields = vec![
            Field::new("t", DataType::Utf8, true),
            native::with_mark(Field::new("j", DataType::Utf8, true), native::JSON_TEXT, ""),
            Field::new("b", DataType::Binary, true),
        ];
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("small"), Some(big.as_str()), None, Some(big.as_str())])),
            Arc::new(StringArray::from(vec![Some(json.as_str()), Some("1"), Some(json.as_str()), None])),
            Arc::new(BinaryArray::from(vec![Some(&bytes[..]), None, Some(&b""[..]), Some(&bytes[..])])),
        ];
        if let Some(kind) = extra {
            fields.push(native::with_native(Field::new("a", DataType::Utf8, true), "postgresql", kind));
            columns.push(Arc::new(StringArray::from(vec!["::1"; 4])));
        }
        let mut job = w.job(name, WriteMode::Append);
        w.load(&mut job, table(fields, columns)).await.unwrap();
        let sums = w.text(&format!("select md5(t), md5(j->>'a'), md5(b) from \"{name}\" order by t, j")).await;
        let whole = w.text(&format!("select md5(repeat('é', {})), md5(repeat('x', {}))", 3 << 20, 5 << 20)).await;
        let (t, j) = whole.split_once(',').unwrap();
        assert_eq!((sums.matches(t).count(), sums.matches(j).count()), (2, 2), "{name}");
        assert_eq!(w.text(&format!("select distinct length(b) from \"{name}\" where b <> '' ")).await, "4000000");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dictionaries_lists_structs_and_json_rows_find_their_columns() {
    let Some(w) = world().await else { return };
    let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
    let list = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(1.5), None]), None, Some(vec![])]);
    let inner = Arc::new(Field::new("x", DataType::Int64, true));
    let nested = StructArray::from(vec![(inner, Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef)]);
    let fields = vec![
        Field::new("d", dictionary_type(), true),
        Field::new("l", list_type(), true),
        Field::new("s", DataType::Struct(vec![Field::new("x", DataType::Int64, true)].into()), true),
    ];
    let rows = table(fields, vec![Arc::new(dictionary), Arc::new(list), Arc::new(nested)]);
    w.load(&mut w.job("t", WriteMode::Append), rows.clone()).await.unwrap();
    assert_eq!(w.text("select d, l, s from t").await, r#"a,[1.5, null],{"x": 1} -,-,{"x": null} a,[],{"x": 3}"#);
    // Where an array stands, a list becomes one.
    w.db.execute("create table arrays (d text, l float8[], s json)").await;
    w.load(&mut w.job("arrays", WriteMode::Append), rows).await.unwrap();
    assert_eq!(w.text("select l from arrays").await, "{1.5,NULL} - {}");

    let mut job = w.job("json", WriteMode::Append);
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("n", DataType::Utf8, true)]));
    let mut session = w.session(&job).await.unwrap();
    let ddl = vec![Alter::Create { schema: schema.clone(), key: vec![] }];
    session.schema(&job.stream.stream, &SchemaPlan { ddl, schema, misfit: Misfit::Fail }).await.unwrap();
    let text = bytes::Bytes::from_static(br#"{"id":1,"n":"a"}{"id":2}"#);
    let rows = Rows::Json(JsonRows::new(text, vec![(0, 16), (16, 24)]));
    session.write(linkspan_core::Batch { rows, ..batch(&job, RecordBatch::new_empty(Arc::new(Schema::empty()))) }).await.unwrap();
    let commit = w.commit(&mut job);
    session.commit(&commit).await.unwrap();
    assert_eq!(w.text("select * from json").await, "1,a 2,-");
}

fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}
fn list_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Float64, true)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_columns_and_an_empty_batch_are_fine() {
    let Some(w) = world().await else { return };
    let mut job = w.job("bare", WriteMode::Append);
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(3));
    let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    assert_eq!(w.load(&mut job, rows).await.unwrap().written, 3);
    assert_eq!(w.text("select count(*) from bare").await, "3");
    let mut job = w.job("empty", WriteMode::Append);
    let none = one(Field::new("v", DataType::Utf8, true), Arc::new(StringArray::from(Vec::<&str>::new())));
    let mut session = w.session(&job).await.unwrap();
    session.schema(&job.stream.stream, &create(&none.schema(), &job)).await.unwrap();
    session.write(batch(&job, none)).await.unwrap();
    let commit = w.commit(&mut job);
    session.commit(&commit).await.unwrap();
    assert_eq!(w.text("select count(*) from empty").await, "0");
}
