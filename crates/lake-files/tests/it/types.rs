//! Every type goes through a file and comes back equal.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{IntervalMonthDayNano, i256};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use linkspan_core::{native, *};

use crate::world::*;

fn columns() -> Vec<(Field, ArrayRef)> {
    let text = |v: Vec<Option<&str>>| Arc::new(StringArray::from(v)) as ArrayRef;
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("i8", Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX)]))),
        ("i16", Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)]))),
        ("i32", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)]))),
        ("i64", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("u64", Arc::new(UInt64Array::from(vec![Some(0), None, Some(u64::MAX)]))),
        ("f32", Arc::new(Float32Array::from(vec![Some(f32::NEG_INFINITY), None, Some(f32::MIN_POSITIVE)]))),
        ("f64", Arc::new(Float64Array::from(vec![Some(f64::INFINITY), None, Some(-0.0)]))),
        ("d9", Arc::new(Decimal128Array::from(vec![Some(-99_999), None, Some(1)]).with_precision_and_scale(6, 4).unwrap())),
        ("d15", Arc::new(Decimal128Array::from(vec![Some(-1), None, Some(999_999_999_999_999)]).with_precision_and_scale(15, 2).unwrap())),
        (
            "d38",
            Arc::new(Decimal128Array::from(vec![Some(-(10i128.pow(38) - 1)), None, Some(1)]).with_precision_and_scale(38, 10).unwrap()),
        ),
        (
            "d76",
            Arc::new(
                Decimal256Array::from(vec![Some(i256::MINUS_ONE), None, Some(i256::from_i128(i128::MAX))])
                    .with_precision_and_scale(76, 0)
                    .unwrap(),
            ),
        ),
        ("date", Arc::new(Date32Array::from(vec![Some(-719_162), None, Some(2_932_896)]))),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![Some(0), None, Some(86_399_999_999)]))),
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![Some(-62_135_596_800_000_000), None, Some(253_402_300_799_999_999)]))),
        ("tz", Arc::new(TimestampMicrosecondArray::from(vec![Some(i64::MIN), None, Some(i64::MAX)]).with_timezone("UTC"))),
        ("ns", Arc::new(TimestampNanosecondArray::from(vec![Some(1), None, Some(-1)]))),
        ("s", Arc::new(TimestampSecondArray::from(vec![Some(1), None, Some(-1)]))),
        ("text", text(vec![Some(""), None, Some("détroit 東京 🚢 \u{0}")])),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b""[..]), None, Some(&[0u8, 255][..])]))),
        (
            "fixed",
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([0u8; 3]), None, Some([9u8; 3])].into_iter(), 3).unwrap()),
        ),
        ("ints", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]))),
        (
            "struct",
            Arc::new(StructArray::from(vec![
                (Arc::new(Field::new("a", DataType::Int32, true)), Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
                (Arc::new(Field::new("b", DataType::Utf8, true)), text(vec![Some("x"), None, None])),
            ])),
        ),
    ];
    let mut fields: Vec<(Field, ArrayRef)> =
        columns.drain(..).map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array)).collect();
    let uuid = FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([7u8; 16]), None, Some([255u8; 16])].into_iter(), 16).unwrap();
    let uuid = (native::with_native(Field::new("uuid", uuid.data_type().clone(), true), "postgresql", "uuid"), Arc::new(uuid) as ArrayRef);
    let json = native::with_native(Field::new("json", DataType::Utf8, true), "postgresql", "jsonb");
    let json = (native::with_mark(json, native::JSON_TEXT, ""), text(vec![Some("{\"a\":1}"), None, Some("[]")]));
    let unbounded = native::with_mark(Field::new("numeric", DataType::Utf8, true), native::DECIMAL_TEXT, "");
    fields.extend([uuid, json, (unbounded, text(vec![Some("NaN"), None, Some("1e-9")]))]);
    fields
}

fn table() -> (SchemaRef, RecordBatch) {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns().into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    (schema.clone(), RecordBatch::try_new(schema, arrays).unwrap())
}

async fn through(world: &World, schema: &SchemaRef, rows: &RecordBatch) -> RecordBatch {
    let stream = append("public.types");
    let scope = Scope::Stream(stream.stream.clone());
    let mut session = world.destination().open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
    session.schema(&stream.stream, &SchemaPlan::as_is(schema.clone())).await.unwrap();
    session.write(batch(&stream.stream, rows.clone())).await.unwrap();
    session.commit(&world.commit(1, &scope, 1, 0)).await.unwrap();
    let mut back = world.rows(&stream.stream).await;
    assert_eq!(back.len(), 1);
    back.remove(0)
}

pub async fn write_all_types(world: &World) {
    let (schema, rows) = table();
    through(world, &schema, &rows).await;
}

#[tokio::test]
async fn every_type_comes_back_equal_with_its_marks() {
    for codec in ["zstd", "snappy", "lz4", "gzip", "none"] {
        let world = World::local().with("compression", codec);
        let (schema, rows) = table();
        let back = through(&world, &schema, &rows).await;
        for (i, field) in schema.fields().iter().enumerate() {
            assert_eq!(back.schema().field(i), field.as_ref(), "{codec}");
            assert_eq!(back.column(i), rows.column(i), "{codec} {}", field.name());
        }
    }
}

#[tokio::test]
async fn the_table_remembers_every_type_with_its_marks() {
    for world in World::all() {
        let (schema, rows) = table();
        through(&world, &schema, &rows).await;
        let shape = world.destination().shape(&append("public.types").target).await.unwrap().unwrap();
        assert_eq!(shape.schema, schema);
    }
}

#[tokio::test]
async fn an_interval_travels_as_text() {
    let world = World::local();
    let values = IntervalMonthDayNanoArray::from(vec![Some(IntervalMonthDayNano::new(14, 3, 4_000_000_000)), None]);
    let schema = Arc::new(Schema::new(vec![Field::new("i", values.data_type().clone(), true)]));
    let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(values)]).unwrap();
    let back = through(&world, &schema, &rows).await;
    assert_eq!(back.schema().field(0).data_type(), &DataType::Utf8);
    let text: &StringArray = cast::AsArray::as_string(back.column(0));
    assert_eq!((text.value(0), text.is_null(1)), ("14 mons 3 days 4.000000000 secs", true));
}

#[tokio::test]
async fn json_rows_become_columns_here() {
    let world = World::local();
    let stream = append("public.t");
    let scope = Scope::Stream(stream.stream.clone());
    let mut session = world.destination().open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
    session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
    let rows = JsonRows::new(bytes::Bytes::from_static(br#"{"id":1,"name":"a"}{"id":2}"#), vec![(0, 19), (19, 27)]);
    let json = Batch { stream: stream.stream.clone(), rows: Rows::Json(rows), changes: Changes::default(), lease: MemoryLease::none() };
    session.write(json).await.unwrap();
    session.commit(&world.commit(1, &scope, 1, 0)).await.unwrap();
    assert_eq!(world.ids(&stream.stream).await, [1, 2]);
}

#[tokio::test]
async fn a_huge_value_in_the_middle_of_small_ones_comes_back() {
    let world = World::local();
    let stream = append("public.t");
    let scope = Scope::Stream(stream.stream.clone());
    let mut session = world.destination().open(world.load(1, scope.clone(), stream.clone())).await.unwrap();
    session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
    session.write(batch(&stream.stream, rows(0..1000))).await.unwrap();
    let huge = "x".repeat(20 << 20);
    let wide = RecordBatch::try_new(
        schema(),
        vec![Arc::new(Int64Array::from(vec![1000, 1001])), Arc::new(StringArray::from(vec![Some(huge.as_str()), Some("small")]))],
    );
    session.write(batch(&stream.stream, wide.unwrap())).await.unwrap();
    session.commit(&world.commit(1, &scope, 1, 0)).await.unwrap();
    assert_eq!(world.ids(&stream.stream).await, (0..1002).collect::<Vec<_>>());
}
