//! Streams that change their shape while they run, and policies that say no.

use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use linkspan_core::{ErrorKind, Gate, ReadMode::*, Scope, StreamName, WriteMode::*};
use linkspan_engine::{
    gate::{Drift, Policies, Policy, PolicyGate},
    run::StreamEnd,
};
use linkspan_testkit::{
    fakes::{
        FakeDestination, FakeTable, ScriptLane, ScriptSource,
        Step::{self, Batch, Checkpoint, Rows},
    },
    rows::standard_schema,
};

use crate::rig::{Rig, assignment, failure, name, target};

fn gate(drift: Drift, to: &FakeDestination) -> Arc<dyn Gate> {
    Arc::new(PolicyGate::new(Policies { drift, ..Policies::default() }, &linkspan_core::Destination::capability(to)))
}
/// Rows with an id and one more column.
fn odd(ids: std::ops::Range<i64>) -> RecordBatch {
    let fields = vec![Field::new("id", DataType::Int64, false), Field::new("surprise", DataType::Utf8, true)];
    let texts = ids.clone().map(|i| (i % 2 == 0).then(|| format!("s{i}")));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(ids.clone())), Arc::new(StringArray::from_iter(texts))];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}
fn surprised(stream: &StreamName) -> Vec<Step> {
    let batch = odd(10..20);
    vec![
        Rows(stream.clone(), 0..10),
        Checkpoint(1),
        Step::Schema(stream.clone(), batch.schema()),
        Batch(stream.clone(), batch),
        Checkpoint(2),
    ]
}
fn rig(drift: Drift) -> Rig {
    let a = name("a");
    let lane = ScriptLane::of(&a, surprised(&a));
    let mut rig = Rig::new(ScriptSource::new(vec![lane]), FakeDestination::atomic(), vec![assignment("a", Incremental, Append)]);
    rig.gate = gate(drift, &rig.to);
    rig
}

#[tokio::test(start_paused = true)]
async fn a_table_follows_its_stream_in_the_middle_of_a_run() {
    let rig = rig(Drift::default());
    rig.complete().await;
    let table = rig.to.table(&target("a")).unwrap().to_table();
    assert_eq!((table.ids(), table.columns.last().unwrap().as_str()), ((0..20).collect(), "surprise"));
    assert_eq!(rig.memory.schemas(&name("a")).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn drift_that_was_not_approved_parks_the_stream_before_any_row_of_it() {
    for policy in [Policy::Freeze, Policy::Block] {
        let rig = rig(Drift::all(policy));
        let outcome = rig.run().await.unwrap();
        assert!(matches!(outcome.streams[&name("a")].ended, StreamEnd::Parked(_)));
        let e = failure(&outcome, "a");
        assert_eq!(e.kind(), ErrorKind::SchemaDrift);
        assert!(e.suggested_fix().is_some());
        assert_eq!(rig.ids("a"), (0..10).collect::<Vec<_>>(), "what came before stays");
        rig.nothing_leaked();
    }
}

/// Keeps what an observer was told.
#[derive(Default)]
struct Seen(Mutex<(usize, usize)>);
impl linkspan_engine::run::Observer for Seen {
    fn changes(&self, _: &StreamName, changes: &linkspan_core::Changes) {
        let mut seen = self.0.lock().unwrap();
        *seen = (seen.0 + changes.changed.len(), seen.1 + changes.rejected.len());
    }
}

#[tokio::test(start_paused = true)]
async fn discarded_rows_are_counted_and_told() {
    let mut rig = rig(Drift { new_column: Some(Policy::DiscardRow), ..Drift::default() });
    let seen = Arc::new(Seen::default());
    rig.observer = seen.clone();
    let outcome = rig.complete().await;
    let a = &outcome.streams[&name("a")];
    assert_eq!((a.read_rows, a.stats.written, a.stats.rejected), (20, 15, 5));
    assert_eq!(*seen.0.lock().unwrap(), (0, 5));
    assert_eq!(rig.ids("a").len(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_parked_stream_leaves_a_shared_lane_and_is_read_anew_later() {
    let (a, b) = (name("a"), name("b"));
    let mut steps = surprised(&a);
    steps.extend([Rows(b.clone(), 0..10), Checkpoint(3), Rows(a.clone(), 20..30), Checkpoint(4)]);
    let streams = vec![assignment("a", Cdc, Merge), assignment("b", Cdc, Merge)];
    let lanes = vec![ScriptLane::shared(&[a.clone(), b.clone()], steps)];
    let mut rig = Rig::new(ScriptSource::new(lanes), FakeDestination::atomic(), streams);
    rig.gate = gate(Drift::all(Policy::Freeze), &rig.to);
    let outcome = rig.run().await.unwrap();
    assert!(matches!(outcome.streams[&a].ended, StreamEnd::Parked(_)));
    assert!(matches!(outcome.streams[&b].ended, StreamEnd::Completed));
    assert_eq!((rig.ids("a").len(), rig.ids("b").len()), (10, 10));
    let kept = rig.memory.remembered();
    assert_eq!(kept.scopes[&Scope::Shared].state.value["n"], 4, "the others' position moves on");
    assert_eq!(kept.generations[&a].number, 2, "and the parked one will be read from its start");
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_table_is_left_alone() {
    let rig = rig(Drift::default());
    let mine = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, false)]));
    rig.to.put_table(&target("a"), FakeTable::foreign(mine));
    let outcome = rig.run().await.unwrap();
    let e = failure(&outcome, "a");
    assert_eq!(e.kind(), ErrorKind::AlreadyExists);
    assert!(e.suggested_fix().unwrap().contains("--target"));
    assert!(rig.ids("a").is_empty());
    let rig = Rig { gate: gate(Drift::all(Policy::DiscardValue), &rig.to), ..rig };
    rig.to.put_table(&target("a"), FakeTable::foreign(standard_schema()));
    rig.complete().await;
    assert_eq!(rig.ids("a").len(), 20, "one that fits is filled");
}

#[tokio::test(start_paused = true)]
async fn a_replaced_table_takes_the_new_shape() {
    let a = name("a");
    let mut rig =
        Rig::new(ScriptSource::new(vec![ScriptLane::rows(&a, 1, 10)]), FakeDestination::atomic(), vec![assignment("a", Full, Replace)]);
    rig.complete().await;
    let retyped = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, false)]));
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..5).map(|i| i.to_string())));
    let batch = RecordBatch::try_new(retyped.clone(), vec![ids]).unwrap();
    rig.streams[0].selected.stream.schema = retyped.clone();
    rig.script.script(vec![ScriptLane::of(&a, vec![Batch(a.clone(), batch), Checkpoint(1)])]);
    rig.complete().await;
    assert_eq!(rig.to.table(&target("a")).unwrap().schema, retyped);
    rig.gate = gate(Drift::all(Policy::Freeze), &rig.to);
    rig.streams[0].selected.stream.schema = standard_schema();
    rig.script.script(vec![ScriptLane::rows(&a, 1, 10)]);
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::SchemaDrift);
    assert_eq!(rig.to.table(&target("a")).unwrap().schema, retyped, "the old table stands");
}

#[tokio::test(start_paused = true)]
async fn a_null_key_is_named_and_nothing_of_its_batch_is_written() {
    let a = name("a");
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("surprise", DataType::Utf8, true)];
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec![Some("x"), Some("y")]))];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let lane = ScriptLane::of(&a, vec![Batch(a.clone(), batch), Checkpoint(1)]);
    let mut rig = Rig::new(ScriptSource::new(vec![lane]), FakeDestination::atomic(), vec![assignment("a", Incremental, Merge)]);
    let outcome = rig.run().await.unwrap();
    let e = failure(&outcome, "a");
    assert_eq!((e.kind(), e.message()), (ErrorKind::DataInvalid, "a key column holds NULL"));
    assert!(e.suggested_fix().unwrap().contains("--key"));
    assert!(rig.ids("a").is_empty());
    rig.gate = gate(Drift { nullability: Some(Policy::DiscardRow), ..Drift::default() }, &rig.to);
    rig.to.put_table(&target("a"), FakeTable::empty(standard_schema(), vec!["id".into()]));
    let outcome = rig.run().await.unwrap();
    assert_eq!(failure(&outcome, "a").kind(), ErrorKind::DataInvalid, "no policy makes a null a key by itself");
}
