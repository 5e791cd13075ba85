use std::sync::Arc;

use DataType::*;
use arrow_array::{
    BinaryArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray, TimestampMillisecondArray, cast::AsArray,
    types::*,
};
use arrow_schema::{DataType, Field, TimeUnit};

use super::*;

fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}
fn plan(fields: Vec<Field>, misfit: Misfit) -> SchemaPlan {
    SchemaPlan { ddl: vec![], schema: schema(fields), misfit }
}
fn column(array: ArrayRef) -> RecordBatch {
    RecordBatch::try_new(schema(vec![Field::new("c", array.data_type().clone(), true)]), vec![array]).unwrap()
}
fn cast(array: ArrayRef, to: DataType, misfit: Misfit) -> Result<(ArrayRef, Changes)> {
    let rows = column(array);
    let mut changes = Changes::default();
    let projection = Projection::new(&rows.schema(), &plan(vec![Field::new("c", to, true)], misfit))?;
    let rows = projection.apply(rows, &mut changes)?;
    Ok((rows.column(0).clone(), changes))
}

#[test]
fn a_schema_that_fits_copies_nothing() {
    let rows = column(Arc::new(Int64Array::from(vec![1, 2, 3])));
    let required = plan(vec![Field::new("c", Int64, false)], Misfit::Fail);
    let projection = Projection::new(&rows.schema(), &required).unwrap();
    let out = projection.apply(rows.clone(), &mut Changes::default()).unwrap();
    assert_eq!(out.column(0).to_data().buffers()[0].as_ptr(), rows.column(0).to_data().buffers()[0].as_ptr());
    assert_eq!(out.schema(), required.schema);
}

#[test]
fn casts_that_hold_every_value_are_exact() {
    let text = |array: &ArrayRef| array.as_string::<i32>().iter().map(|v| v.unwrap_or("-").to_owned()).collect::<Vec<_>>();
    let exact = |array: ArrayRef, to| {
        let (array, changes) = cast(array, to, Misfit::Fail).unwrap();
        assert!(changes.is_empty());
        array
    };
    let ints = || Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(7)])) as ArrayRef;
    assert_eq!(exact(ints(), Int64).as_primitive::<Int64Type>().value(0), i64::from(i32::MIN));
    assert_eq!(exact(ints(), Decimal128(12, 2)).as_primitive::<Decimal128Type>().value(2), 700);
    assert_eq!(text(&exact(ints(), Utf8)), ["-2147483648", "-", "7"]);
    let cents = Decimal128Array::from(vec![1250, -1]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(exact(Arc::new(cents.clone()), Decimal128(12, 4)).as_primitive::<Decimal128Type>().value(0), 125_000);
    assert_eq!(text(&exact(Arc::new(cents), Utf8)), ["12.50", "-0.01"]);
    let days = exact(Arc::new(Date32Array::from(vec![1])), Timestamp(TimeUnit::Microsecond, None));
    assert_eq!(days.as_primitive::<TimestampMicrosecondType>().value(0), 86_400_000_000);
    assert_eq!(text(&exact(Arc::new(Float64Array::from(vec![0.1, 1e300])), Utf8)), ["0.1", "1e300"]);
}

#[test]
fn what_would_be_rounded_or_cut_is_a_misfit() {
    let tick = TimestampMillisecondArray::from(vec![i64::MAX, 0]);
    let cases: Vec<(ArrayRef, DataType, usize)> = vec![
        (Arc::new(Int64Array::from(vec![i64::MAX, 5])), Int32, 0),
        (Arc::new(Float64Array::from(vec![1.5, 2.0])), Int64, 0),
        (Arc::new(Int64Array::from(vec![(1 << 53) + 1, 1])), Float64, 0),
        (Arc::new(StringArray::from(vec!["007", "7"])), Int64, 0),
        (Arc::new(StringArray::from(vec!["abc", "7"])), Int64, 0),
        (Arc::new(Decimal128Array::from(vec![125, 100]).with_precision_and_scale(10, 2).unwrap()), Decimal128(10, 0), 0),
        (Arc::new(tick), Timestamp(TimeUnit::Nanosecond, None), 0),
    ];
    for (array, to, misfit) in cases {
        let name = format!("{} -> {to}", array.data_type());
        let e = cast(array.clone(), to.clone(), Misfit::Fail).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DataInvalid, "{name}");
        assert!(e.suggested_fix().is_some());
        let (nulled, changes) = cast(array.clone(), to.clone(), Misfit::Null).unwrap();
        assert!(nulled.is_null(misfit) && nulled.is_valid(1 - misfit), "{name}");
        assert_eq!((changes.changed.len(), changes.changed[0].row as usize), (1, misfit), "{name}");
        let (left, changes) = cast(array, to, Misfit::Reject).unwrap();
        assert_eq!((left.len(), changes.rejected.len()), (1, 1), "{name}");
    }
}

#[test]
fn a_null_in_a_required_column_is_refused_or_its_row_left_out() {
    let rows = column(Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])));
    let apply = |misfit| {
        let mut changes = Changes::default();
        changes.changed.push(Change { row: 2, field: "c".into(), kind: ChangeKind::Recast, reason: Reason::Invalid });
        let projection = Projection::new(&rows.schema(), &plan(vec![Field::new("c", Int64, false)], misfit)).unwrap();
        projection.apply(rows.clone(), &mut changes).map(|rows| (rows.num_rows(), changes))
    };
    assert_eq!(apply(Misfit::Fail).unwrap_err().kind(), ErrorKind::DataInvalid);
    let (left, changes) = apply(Misfit::Null).unwrap();
    assert_eq!((left, changes.rejected.len()), (2, 1));
    assert_eq!(changes.changed[0].row, 1, "what was recorded of later rows follows them");
}

#[test]
fn a_column_that_the_plan_leaves_out_takes_its_rows_along_only_when_rows_are_discarded() {
    let from = schema(vec![Field::new("id", Int64, false), Field::new("x", Utf8, true)]);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec![None, Some("v")]))];
    let rows = RecordBatch::try_new(from.clone(), columns).unwrap();
    let left = |misfit| {
        let mut changes = Changes::default();
        let projection = Projection::new(&from, &plan(vec![Field::new("id", Int64, false)], misfit)).unwrap();
        assert_eq!(projection.left_out(), ["x"]);
        projection.apply(rows.clone(), &mut changes).unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()
    };
    assert_eq!(left(Misfit::Null), [1, 2]);
    assert_eq!(left(Misfit::Reject), [1]);
}

#[test]
fn unset_bits_follow_their_columns() {
    let from = schema(vec![
        Field::new("id", Int64, false),
        Field::new("gone", Int64, true),
        Field::new("toast", Utf8, true),
        Field::new(OP_COLUMN, Utf8, false),
        Field::new(UNSET_COLUMN, Binary, true),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2])),
        Arc::new(Int64Array::from(vec![None, None])),
        Arc::new(StringArray::from(vec![None::<&str>, None])),
        Arc::new(StringArray::from(vec!["u", "d"])),
        Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0b100]), None])),
    ];
    let rows = RecordBatch::try_new(from.clone(), columns).unwrap();
    let to = plan(
        vec![
            Field::new("id", Int64, false),
            Field::new("toast", Utf8, false),
            Field::new(OP_COLUMN, Utf8, false),
            Field::new(UNSET_COLUMN, Binary, true),
        ],
        Misfit::Null,
    );
    let loose = SchemaPlan { schema: schema(to.schema.fields().iter().map(|f| linkspan_core::nullable(f)).collect()), ..to };
    let out = Projection::new(&from, &loose).unwrap().apply(rows, &mut Changes::default()).unwrap();
    let unset: &BinaryArray = out.column(3).as_binary();
    assert_eq!((unset.value(0), unset.is_null(1)), (&[0b10][..], true));
    assert_eq!(out.num_rows(), 2, "a feed's nulls are no misfits");
}
