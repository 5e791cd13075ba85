//! What it costs to encode rows like those of the benchmark table: CPU per row, bytes per row, and the peak of memory.
//!
//! `cargo run --release -p linkspan-lake-files --example encode_lineitem [ROWS] [zstd|snappy|lz4|none] [FOLDER]`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for the eye")]

use std::{sync::Arc, time::Instant};

use arrow_array::*;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use linkspan_core::*;
use serde_json::json;

const BATCH: usize = 32_768;

fn hash(i: u64) -> u64 {
    let mut x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type, nullable| Field::new(name, data_type, nullable);
    let time = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let uuid = native::with_native(field("l_uid", DataType::FixedSizeBinary(16), false), "postgresql", "uuid");
    let attrs = native::with_native(field("l_attrs", DataType::Utf8, true), "postgresql", "jsonb");
    Arc::new(Schema::new(vec![
        field("l_id", DataType::Int64, false),
        field("l_orderkey", DataType::Int64, false),
        field("l_partkey", DataType::Int32, false),
        field("l_linenumber", DataType::Int16, false),
        field("l_quantity", DataType::Decimal128(12, 2), false),
        field("l_extendedprice", DataType::Decimal128(15, 2), false),
        field("l_discount", DataType::Float64, true),
        field("l_tax", DataType::Decimal128(6, 4), true),
        field("l_returnflag", DataType::Utf8, false),
        field("l_shipdate", DataType::Date32, false),
        field("l_committs", time(Some("UTC")), false),
        field("l_receiptts", time(None), true),
        field("l_gift", DataType::Boolean, false),
        uuid,
        field("l_comment", DataType::Utf8, true),
        native::with_mark(attrs, native::JSON_TEXT, ""),
    ]))
}

fn batch(first: u64) -> RecordBatch {
    let rows: Vec<(u64, u64)> = (first + 1..=first + BATCH as u64).map(|g| (g, hash(g))).collect();
    let int = |f: &dyn Fn(u64, u64) -> i64| Int64Array::from_iter_values(rows.iter().map(|(g, h)| f(*g, *h)));
    let decimal = |p, s, null: u64, f: &dyn Fn(u64) -> i128| {
        let values = rows.iter().map(|(g, h)| (null == 0 || g % null != 0).then(|| f(*h)));
        Decimal128Array::from_iter(values).with_precision_and_scale(p, s).unwrap()
    };
    let micros = |null: u64, f: &dyn Fn(u64, u64) -> i64| {
        TimestampMicrosecondArray::from_iter(rows.iter().map(|(g, h)| (null == 0 || g % null != 0).then(|| f(*g, *h))))
    };
    let comment = |g: u64, h: u64| {
        let m = format!("{:016x}{:016x}", hash(g * 7919), hash(g * 7919 + 1));
        let text = format!("{m} carefully final deposits détroit 東京 {m}");
        text.chars().take(20 + (h >> 8) as usize % 44).collect::<String>()
    };
    let attrs = |g: u64, h: u64| {
        let ship = ["AIR", "RAIL", "SHIP", "TRUCK", "MAIL"][(h >> 10) as usize % 5];
        format!("{{\"w\": {}, \"ship\": \"{ship}\", \"tags\": [\"{:04x}\", {}]}}", (h >> 12) % 1000, hash(g) as u16, h & 7)
    };
    let base = 1_704_067_200_000_000i64;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(int(&|g, _| g as i64)),
        Arc::new(int(&|g, _| (g / 4 + 1) as i64)),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|(_, h)| (h & 199_999) as i32 + 1))),
        Arc::new(Int16Array::from_iter_values(rows.iter().map(|(g, _)| (g % 7 + 1) as i16))),
        Arc::new(decimal(12, 2, 0, &|h| i128::from((h >> 3) % 50 + 1) * 100)),
        Arc::new(decimal(15, 2, 0, &|h| i128::from((h >> 5) % 10_490_000))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|(g, h)| (g % 11 != 0).then(|| ((h >> 7) % 11) as f64 / 100.0)))),
        Arc::new(decimal(6, 4, 13, &|h| i128::from((h >> 9) % 800))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, h)| ["A", "N", "R"][(h >> 11) as usize % 3]))),
        Arc::new(Date32Array::from_iter_values(rows.iter().map(|(_, h)| 8035 + ((h >> 13) % 2526) as i32))),
        Arc::new(micros(0, &|g, h| base + ((h >> 4) % 63_072_000) as i64 * 1_000_000 + (g % 1_000_000) as i64).with_timezone("UTC")),
        Arc::new(micros(9, &|_, h| base + ((h >> 6) % 63_072_000) as i64 * 1_000_000)),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|(_, h)| Some(h & 1 == 1)))),
        Arc::new(
            FixedSizeBinaryArray::try_from_iter(rows.iter().map(|(g, _)| [hash(*g).to_be_bytes(), hash(g + 1).to_be_bytes()].concat()))
                .unwrap(),
        ),
        Arc::new(StringArray::from_iter(rows.iter().map(|(g, h)| (g % 10 != 0).then(|| comment(*g, *h))))),
        Arc::new(StringArray::from_iter(rows.iter().map(|(g, h)| (g % 12 != 0).then(|| attrs(*g, *h))))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// CPU seconds of this thread so far; all the work is done on it.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let rows: usize = args.next().map_or(2_000_000, |a| a.parse().unwrap());
    let codec = args.next().unwrap_or_else(|| "zstd".into());
    let folder = args.next().map_or_else(|| std::env::temp_dir().join("encode_lineitem"), Into::into);
    std::fs::remove_dir_all(&folder).ok();
    let kind = linkspan_lake_files::all().remove(0);
    let destination = kind.open(json!({"path": folder, "compression": codec}), Context::real()).unwrap().destination().unwrap();
    let batches: Vec<RecordBatch> = (0..8).map(|i| batch(i * BATCH as u64)).collect();
    let held = peak_mb();

    let stream = StreamName::parse("public.lineitem");
    let (connection, scope) = (ConnectionId(uuid::Uuid::new_v4()), Scope::Stream(stream.clone()));
    let load = LoadStream {
        target: Target::from(&stream),
        stream: stream.clone(),
        write: WriteMode::Append,
        generation: 1,
        key: vec![],
        swap: Swap::Rename,
    };
    let load = Load { connection, fence: 1, scope: scope.clone(), previous: 0, streams: vec![load] };
    let mut session = destination.open(load).await.unwrap();
    session.schema(&stream, &SchemaPlan::as_is(schema())).await.unwrap();
    let (before, began) = (cpu(), Instant::now());
    let mut written = 0;
    while written < rows {
        let rows = batches[(written / BATCH) % batches.len()].clone();
        written += rows.num_rows();
        let batch = Batch { stream: stream.clone(), rows: Rows::Arrow(rows), changes: Changes::default(), lease: MemoryLease::none() };
        session.write(batch).await.unwrap();
    }
    let encoded = cpu() - before;
    let state = State::new(1, json!(written));
    let commit = Commit { connection, scope, generation: 1, fence: 1, previous: 0, number: 1, state };
    session.commit(&commit).await.unwrap();
    let all = cpu() - before;
    let table = folder.join("public/lineitem");
    let bytes: u64 = std::fs::read_dir(table).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    let per_row = |seconds: f64| seconds * 1e6 / written as f64;
    println!(
        "{codec}: {written} rows, encode {:.3} us CPU/row, with commit {:.3}, wall {:.2} s, {:.1} bytes/row, peak {} MB ({held} MB before)",
        per_row(encoded),
        per_row(all),
        began.elapsed().as_secs_f64(),
        bytes as f64 / written as f64,
        peak_mb()
    );
    if std::env::var_os("KEEP").is_none() {
        std::fs::remove_dir_all(&folder).ok();
    }
}
