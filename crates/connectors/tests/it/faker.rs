//! The faker as a source: deterministic, resumable from every checkpoint, one round of changes per later read.

use std::{collections::BTreeMap, time::Instant};

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use futures::StreamExt;
use linkspan_connectors::faker;
use linkspan_core::{
    Context, Cursor, Ended, ErrorKind, MemoryBudget, Message, OP_COLUMN, Output, Position, ReadMode, Repeats, Rows, SEQ_COLUMN, Scope,
    Selected, Source, State, Stop,
};
use serde_json::{Value, json};

struct Read {
    batches: Vec<RecordBatch>,
    /// How many batches came before each checkpoint.
    checkpoints: Vec<(usize, State)>,
}

impl Read {
    fn ids(&self) -> Vec<i64> {
        self.batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }
    fn last(&self) -> State {
        self.checkpoints.last().unwrap().1.clone()
    }
}

fn source(config: Value) -> std::sync::Arc<dyn Source> {
    faker::connector_type().open(config, Context::real()).unwrap().source().unwrap()
}

async fn read(config: &Value, stream: &str, mode: ReadMode, from: Option<State>) -> linkspan_core::Result<Read> {
    let source = source(config.clone());
    let stream = source.discover().await?.into_iter().find(|s| &*s.name.name == stream).unwrap();
    let name = stream.name.clone();
    let selected = Selected { stream, read: mode, cursor: None, repeats: Repeats::Kept };
    let position: Position = from.map(|s| (Scope::Stream(name), s)).into_iter().collect();
    let lane = source.lanes(vec![selected], position).next().await.unwrap()?;
    let (mut out, mut inbox) = Output::channel(MemoryBudget::new(64 << 20), 4);
    let reader = tokio::spawn(async move { lane.read(&mut out, &Stop::never()).await });
    let mut read = Read { batches: vec![], checkpoints: vec![] };
    while let Some(message) = inbox.recv().await {
        match message {
            Message::Rows(batch) => match batch.rows {
                Rows::Arrow(rows) => read.batches.push(rows),
                _ => panic!("the faker sends Arrow"),
            },
            Message::Checkpoint { state, .. } => read.checkpoints.push((read.batches.len(), state)),
            _ => {}
        }
    }
    assert_eq!(reader.await.unwrap()?, Ended::Complete);
    Ok(read)
}

/// The source suite seeds rows of its own, which a faker cannot hold; the trials of its type it passes like all others.
#[tokio::test]
async fn the_faker_is_a_well_behaved_type() {
    let mut trials = linkspan_testkit::Trials::new("faker", "source");
    let config = json!({"customers": 10, "orders": 10});
    linkspan_testkit::typed::trials(&mut trials, &faker::connector_type(), &config, Context::real(), &[]).await;
    trials.finish();
}

#[tokio::test]
async fn two_full_reads_are_equal_and_have_the_discovered_schema() {
    let config = json!({"customers": 20_000, "orders": 30_000});
    for stream in source(config.clone()).discover().await.unwrap() {
        assert_eq!((stream.cursor, stream.key.as_slice()), (Cursor::SourceDefined, ["id".to_owned()].as_slice()));
        let one = read(&config, &stream.name.name, ReadMode::Full, None).await.unwrap();
        let two = read(&config, &stream.name.name, ReadMode::Full, None).await.unwrap();
        assert_eq!(one.batches, two.batches);
        assert!(one.batches.iter().all(|b| b.schema() == stream.schema));
        assert_eq!(one.ids(), (1..=stream.estimated_rows.unwrap() as i64).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn every_checkpoint_resumes_with_the_exact_suffix() {
    let config = json!({"customers": 30_000, "orders": 0, "rounds": 2, "change_every": 2});
    let first = read(&config, "customers", ReadMode::Incremental, None).await.unwrap();
    let second = read(&config, "customers", ReadMode::Incremental, Some(first.last())).await.unwrap();
    for whole in [&first, &second] {
        for (seen, state) in &whole.checkpoints {
            if *seen == whole.batches.len() {
                continue;
            }
            let text = serde_json::to_string(state).unwrap();
            let rest = read(&config, "customers", ReadMode::Incremental, Some(serde_json::from_str(&text).unwrap())).await.unwrap();
            assert_eq!(rest.batches, whole.batches[*seen..]);
        }
    }
    let third = read(&config, "customers", ReadMode::Incremental, Some(second.last())).await.unwrap();
    let fourth = read(&config, "customers", ReadMode::Incremental, Some(third.last())).await.unwrap();
    assert!(!third.ids().is_empty() && fourth.ids().is_empty(), "two rounds, then rest");
    assert_eq!(fourth.last(), third.last());
}

#[tokio::test]
async fn later_reads_bring_inserts_updates_and_deletes_in_rising_sequence() {
    let config = json!({"customers": 10, "orders": 50_000});
    let mut seen = BTreeMap::new();
    let mut state = None;
    let mut last_seq = vec![0; 16];
    for round in 0..4 {
        let read = read(&config, "orders", ReadMode::Cdc, state).await.unwrap();
        let mut counts = BTreeMap::new();
        for batch in &read.batches {
            let ids = batch.column(0).as_primitive::<Int64Type>();
            let ops = batch.column_by_name(OP_COLUMN).unwrap().as_string::<i32>();
            let seqs = batch.column_by_name(SEQ_COLUMN).unwrap().as_fixed_size_binary();
            for i in 0..batch.num_rows() {
                assert!(seqs.value(i) > last_seq.as_slice());
                last_seq = seqs.value(i).to_vec();
                *counts.entry(ops.value(i).to_owned()).or_insert(0) += 1;
                match ops.value(i) {
                    "i" => assert!(seen.insert(ids.value(i), round).is_none()),
                    "u" => assert!(seen.insert(ids.value(i), round).is_some()),
                    _ => assert!(seen.remove(&ids.value(i)).is_some()),
                }
            }
        }
        if round > 0 {
            assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["d", "i", "u"], "round {round}");
        }
        state = Some(read.last());
    }
}

#[tokio::test]
async fn a_position_of_other_settings_is_lost_and_a_strange_one_is_refused() {
    let config = json!({"customers": 100, "orders": 0});
    let state = read(&config, "customers", ReadMode::Incremental, None).await.unwrap().last();
    let kind =
        async |config: Value, state: State| read(&config, "customers", ReadMode::Incremental, Some(state)).await.err().unwrap().kind();
    assert_eq!(kind(json!({"customers": 100, "seed": 8}), state.clone()).await, ErrorKind::PositionLost);
    assert_eq!(kind(config.clone(), State { version: 9, value: state.value.clone() }).await, ErrorKind::DataInvalid);
    assert_eq!(kind(config, State::new(1, json!({"lsn": 5}))).await, ErrorKind::DataInvalid);
}

#[tokio::test]
async fn an_empty_stream_still_checkpoints() {
    let read = read(&json!({"customers": 0, "orders": 0}), "customers", ReadMode::Incremental, None).await.unwrap();
    assert_eq!((read.batches.len(), read.checkpoints.len()), (0, 1));
}

/// Not a gate: prints the speed, for a release build (`--ignored --nocapture`).
#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let config = json!({"customers": 2_000_000, "orders": 4_000_000});
    for stream in ["customers", "orders"] {
        let start = Instant::now();
        let rows: usize = read(&config, stream, ReadMode::Incremental, None).await.unwrap().batches.iter().map(RecordBatch::num_rows).sum();
        println!("{stream}: {:.2} M rows/s", rows as f64 / start.elapsed().as_secs_f64() / 1e6);
    }
}
