//! An Arrow schema as JSON and back, exactly: names, types, nullability and all metadata, in an order that makes equal schemas
//! equal texts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow_schema::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value, json};

/// `{"fields": [{"name", "type", "nullable", "metadata"?}], "metadata"?}`. A type is a text, or an object for a nested one.
pub fn to_json(schema: &Schema) -> Value {
    let mut out = Map::new();
    out.insert("fields".into(), fields_json(schema.fields()));
    put_metadata(&mut out, schema.metadata());
    out.into()
}

/// The schema that `to_json` wrote.
pub fn from_json(json: &Value) -> Result<Schema> {
    Ok(Schema::new_with_metadata(fields_of(&json["fields"])?, metadata_of(json)?))
}

fn put_metadata(out: &mut Map<String, Value>, metadata: &HashMap<String, String>) {
    if !metadata.is_empty() {
        let sorted: BTreeMap<_, _> = metadata.iter().collect();
        out.insert("metadata".into(), json!(sorted));
    }
}

fn metadata_of(json: &Value) -> Result<HashMap<String, String>> {
    let Some(metadata) = json.get("metadata") else { return Ok(HashMap::new()) };
    serde_json::from_value(metadata.clone()).map_err(|e| not_a_schema("metadata").because(e))
}

fn fields_json(fields: &Fields) -> Value {
    fields.iter().map(|f| field_json(f)).collect()
}

fn field_json(field: &Field) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), field.name().as_str().into());
    out.insert("type".into(), type_json(field.data_type()));
    out.insert("nullable".into(), field.is_nullable().into());
    if field.dict_is_ordered() == Some(true) {
        out.insert("ordered".into(), true.into());
    }
    put_metadata(&mut out, field.metadata());
    out.into()
}

fn type_json(t: &DataType) -> Value {
    use DataType::*;
    match t {
        Null => "null".into(),
        Boolean => "bool".into(),
        Int8 => "int8".into(),
        Int16 => "int16".into(),
        Int32 => "int32".into(),
        Int64 => "int64".into(),
        UInt8 => "uint8".into(),
        UInt16 => "uint16".into(),
        UInt32 => "uint32".into(),
        UInt64 => "uint64".into(),
        Float16 => "float16".into(),
        Float32 => "float32".into(),
        Float64 => "float64".into(),
        Timestamp(u, None) => json!({"timestamp": unit_text(*u)}),
        Timestamp(u, Some(zone)) => json!({"timestamp": unit_text(*u), "zone": &**zone}),
        Date32 => "date32".into(),
        Date64 => "date64".into(),
        Time32(u) => json!({"time32": unit_text(*u)}),
        Time64(u) => json!({"time64": unit_text(*u)}),
        Duration(u) => json!({"duration": unit_text(*u)}),
        Interval(IntervalUnit::YearMonth) => "interval_year_month".into(),
        Interval(IntervalUnit::DayTime) => "interval_day_time".into(),
        Interval(IntervalUnit::MonthDayNano) => "interval_month_day_nano".into(),
        Binary => "binary".into(),
        FixedSizeBinary(n) => json!({"fixed_binary": n}),
        LargeBinary => "large_binary".into(),
        BinaryView => "binary_view".into(),
        Utf8 => "utf8".into(),
        LargeUtf8 => "large_utf8".into(),
        Utf8View => "utf8_view".into(),
        Decimal32(p, s) => json!({"decimal32": [p, s]}),
        Decimal64(p, s) => json!({"decimal64": [p, s]}),
        Decimal128(p, s) => json!({"decimal128": [p, s]}),
        Decimal256(p, s) => json!({"decimal256": [p, s]}),
        List(f) => json!({"list": field_json(f)}),
        ListView(f) => json!({"list_view": field_json(f)}),
        FixedSizeList(f, n) => json!({"fixed_list": field_json(f), "size": n}),
        LargeList(f) => json!({"large_list": field_json(f)}),
        LargeListView(f) => json!({"large_list_view": field_json(f)}),
        Struct(fields) => json!({"struct": fields_json(fields)}),
        Union(fields, mode) => {
            let members: Vec<Value> = fields.iter().map(|(id, f)| json!([id, field_json(f)])).collect();
            json!({"union": members, "mode": if *mode == UnionMode::Sparse { "sparse" } else { "dense" }})
        }
        Dictionary(k, v) => json!({"dictionary": type_json(v), "keys": type_json(k)}),
        Map(f, sorted) => json!({"map": field_json(f), "sorted": sorted}),
        RunEndEncoded(ends, values) => json!({"run_ends": field_json(ends), "values": field_json(values)}),
    }
}

fn unit_text(u: TimeUnit) -> &'static str {
    match u {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

fn not_a_schema(what: &'static str) -> Error {
    Error::new(ErrorKind::DataInvalid, "a kept schema cannot be read").with("part", what)
}

fn fields_of(json: &Value) -> Result<Fields> {
    json.as_array().ok_or_else(|| not_a_schema("fields"))?.iter().map(|f| field_of(f).map(Arc::new)).collect()
}

fn field_of(json: &Value) -> Result<Field> {
    let name = json["name"].as_str().ok_or_else(|| not_a_schema("name"))?;
    let nullable = json["nullable"].as_bool().ok_or_else(|| not_a_schema("nullable"))?;
    let mut field = Field::new(name, type_of(&json["type"])?, nullable);
    if json["ordered"] == true {
        field = field.with_dict_is_ordered(true);
    }
    Ok(field.with_metadata(metadata_of(json)?))
}

fn child(json: &Value) -> Result<FieldRef> {
    field_of(json).map(Arc::new)
}

fn type_of(json: &Value) -> Result<DataType> {
    match json {
        Value::String(text) => plain_type(text),
        Value::Object(_) => nested_type(json),
        _ => Err(not_a_schema("type")),
    }
}

fn plain_type(text: &str) -> Result<DataType> {
    use DataType::*;
    Ok(match text {
        "null" => Null,
        "bool" => Boolean,
        "int8" => Int8,
        "int16" => Int16,
        "int32" => Int32,
        "int64" => Int64,
        "uint8" => UInt8,
        "uint16" => UInt16,
        "uint32" => UInt32,
        "uint64" => UInt64,
        "float16" => Float16,
        "float32" => Float32,
        "float64" => Float64,
        "date32" => Date32,
        "date64" => Date64,
        "interval_year_month" => Interval(IntervalUnit::YearMonth),
        "interval_day_time" => Interval(IntervalUnit::DayTime),
        "interval_month_day_nano" => Interval(IntervalUnit::MonthDayNano),
        "binary" => Binary,
        "large_binary" => LargeBinary,
        "binary_view" => BinaryView,
        "utf8" => Utf8,
        "large_utf8" => LargeUtf8,
        "utf8_view" => Utf8View,
        _ => return Err(not_a_schema("type")),
    })
}

/// Told by the key that only its kind has; keys keep their order in memory but need not in a database.
fn nested_type(json: &Value) -> Result<DataType> {
    use DataType::*;
    let has = |key: &str| json.get(key).is_some();
    let part = |key: &str| json.get(key).unwrap_or(&Value::Null);
    Ok(match () {
        () if has("timestamp") => Timestamp(unit_of(part("timestamp"))?, part("zone").as_str().map(Into::into)),
        () if has("time32") => Time32(unit_of(part("time32"))?),
        () if has("time64") => Time64(unit_of(part("time64"))?),
        () if has("duration") => Duration(unit_of(part("duration"))?),
        () if has("fixed_binary") => FixedSizeBinary(size_of(part("fixed_binary"))?),
        () if has("decimal32") => decimal_of(part("decimal32")).map(|(p, s)| Decimal32(p, s))?,
        () if has("decimal64") => decimal_of(part("decimal64")).map(|(p, s)| Decimal64(p, s))?,
        () if has("decimal128") => decimal_of(part("decimal128")).map(|(p, s)| Decimal128(p, s))?,
        () if has("decimal256") => decimal_of(part("decimal256")).map(|(p, s)| Decimal256(p, s))?,
        () if has("list") => List(child(part("list"))?),
        () if has("list_view") => ListView(child(part("list_view"))?),
        () if has("fixed_list") => FixedSizeList(child(part("fixed_list"))?, size_of(part("size"))?),
        () if has("large_list") => LargeList(child(part("large_list"))?),
        () if has("large_list_view") => LargeListView(child(part("large_list_view"))?),
        () if has("struct") => Struct(fields_of(part("struct"))?),
        () if has("union") => union_of(json)?,
        () if has("dictionary") => Dictionary(Box::new(type_of(part("keys"))?), Box::new(type_of(part("dictionary"))?)),
        () if has("map") => Map(child(part("map"))?, part("sorted") == true),
        () if has("run_ends") => RunEndEncoded(child(part("run_ends"))?, child(part("values"))?),
        () => return Err(not_a_schema("type")),
    })
}

fn union_of(json: &Value) -> Result<DataType> {
    let members = json["union"].as_array().ok_or_else(|| not_a_schema("union"))?;
    let member = |m: &Value| {
        let id = m[0].as_i64().and_then(|id| i8::try_from(id).ok()).ok_or_else(|| not_a_schema("union"))?;
        Ok((id, child(&m[1])?))
    };
    let (ids, fields): (Vec<i8>, Vec<FieldRef>) = members.iter().map(member).collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let fields = UnionFields::try_new(ids, fields).map_err(|e| not_a_schema("union").because(e))?;
    let mode = if json["mode"] == "sparse" { UnionMode::Sparse } else { UnionMode::Dense };
    Ok(DataType::Union(fields, mode))
}

fn unit_of(json: &Value) -> Result<TimeUnit> {
    match json.as_str() {
        Some("s") => Ok(TimeUnit::Second),
        Some("ms") => Ok(TimeUnit::Millisecond),
        Some("us") => Ok(TimeUnit::Microsecond),
        Some("ns") => Ok(TimeUnit::Nanosecond),
        _ => Err(not_a_schema("unit")),
    }
}

fn size_of(json: &Value) -> Result<i32> {
    json.as_i64().and_then(|n| i32::try_from(n).ok()).ok_or_else(|| not_a_schema("size"))
}

fn decimal_of(json: &Value) -> Result<(u8, i8)> {
    serde_json::from_value(json.clone()).map_err(|e| not_a_schema("decimal").because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, t: DataType) -> Field {
        Field::new(name, t, true)
    }

    fn every_type() -> Vec<DataType> {
        use DataType::*;
        let item = Arc::new(field("item", Utf8).with_metadata([("ls.native".to_owned(), "{}".to_owned())].into()));
        let entries = Struct(vec![Field::new("k", Utf8, false), field("v", Int64)].into());
        let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
        let mut all = vec![Null, Boolean, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float16, Float32, Float64];
        all.extend([Date32, Date64, Binary, LargeBinary, BinaryView, Utf8, LargeUtf8, Utf8View, FixedSizeBinary(16)]);
        all.extend([Decimal32(9, 2), Decimal64(18, 3), Decimal128(38, -3), Decimal256(76, 10)]);
        all.extend([IntervalUnit::YearMonth, IntervalUnit::DayTime, IntervalUnit::MonthDayNano].map(Interval));
        for u in units {
            all.extend([Timestamp(u, None), Timestamp(u, Some("Europe/Berlin".into())), Time32(u), Time64(u), Duration(u)]);
        }
        all.extend([List(item.clone()), ListView(item.clone()), LargeList(item.clone()), LargeListView(item.clone())]);
        all.extend([FixedSizeList(item.clone(), 3), Struct(vec![item.as_ref().clone()].into()), Struct(Fields::empty())]);
        all.extend([Dictionary(Box::new(Int32), Box::new(Utf8)), Map(Arc::new(field("entries", entries)), true)]);
        all.push(RunEndEncoded(Arc::new(Field::new("run_ends", Int32, false)), item.clone()));
        let members = UnionFields::try_new([1, 5], [Arc::new(field("a", Int8)), item]).unwrap();
        all.extend([Union(members.clone(), UnionMode::Dense), Union(members, UnionMode::Sparse)]);
        all
    }

    #[test]
    fn every_type_comes_back_as_it_was() {
        let fields: Vec<Field> = every_type().into_iter().enumerate().map(|(i, t)| field(&format!("f\"{i}"), t)).collect();
        let schema = Schema::new_with_metadata(fields, [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into());
        let text = serde_json::to_string(&to_json(&schema)).unwrap();
        assert_eq!(from_json(&serde_json::from_str(&text).unwrap()).unwrap(), schema);
    }

    #[test]
    fn equal_schemas_are_equal_texts_whatever_the_order_of_their_marks() {
        let marks = |keys: &[&str]| keys.iter().map(|k| ((*k).to_owned(), String::new())).collect::<HashMap<_, _>>();
        let text = |keys| to_json(&Schema::new(vec![field("x", DataType::Utf8).with_metadata(marks(keys))])).to_string();
        assert_eq!(text(&["a", "b", "c", "d"]), text(&["d", "c", "b", "a"]));
    }

    #[test]
    fn a_nullable_column_and_one_that_is_not_differ() {
        let text = |nullable| to_json(&Schema::new(vec![Field::new("x", DataType::Utf8, nullable)]));
        assert_ne!(text(true), text(false));
    }
}
