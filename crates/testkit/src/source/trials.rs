//! The trials of a source (S).

use std::{collections::BTreeSet, ops::Range, sync::Arc, time::Duration};

use arrow_array::Array;
use futures::StreamExt;
use linkspan_core::{
    Cursor, Ended, ErrorKind, MemoryBudget, Message, Output, Position, ReadMode, Repeats, Retry, Selected, Source, State, Stop, Stream,
    StreamName,
};

use super::{Mutated, Mutation, SourceHarness, select};
use crate::{
    StandardRow, Trials,
    drive::{Event, Read, Until, read, read_until},
    rows::assert_same_rows,
};

/// How many rows a stream of the larger trials has: enough for several batches where the harness's config keeps batches small.
const MANY: Range<i64> = 0..3_000;

pub(super) async fn run<H: SourceHarness>(trials: &mut Trials, harness: Arc<H>) {
    let h = Bench { harness };
    trials.run("discovers_the_same_twice", h.discovers()).await;
    trials.run("reads_every_row_once_and_ends_with_a_checkpoint", h.reads_all()).await;
    trials.run("reads_the_same_twice", h.reads_twice()).await;
    trials.run("an_empty_stream_still_checkpoints", h.empty_stream()).await;
    trials.run("an_unselected_stream_is_never_sent", h.unselected()).await;
    trials.run("resumes_a_full_read_from_every_checkpoint", h.resumes(ReadMode::Full, "s6_full", Repeats::Kept)).await;
    trials.run("a_stalled_output_stalls_the_source", h.backpressure()).await;
    trials.run("a_dropped_output_ends_the_read", h.dropped_output()).await;
    trials.run("a_read_dropped_in_the_middle_can_be_repeated", h.dropped_read()).await;
    trials.run("a_stop_ends_the_read_where_it_can_resume", h.stops()).await;
    trials.run("a_cut_connection_is_a_retryable_error", h.cut()).await;
    if h.harness.cursor().is_none() {
        return;
    }
    trials.run("a_second_incremental_read_is_empty", h.second_is_empty()).await;
    trials.run("an_incremental_read_brings_only_the_changes", h.only_changes()).await;
    trials.run("resumes_from_every_checkpoint", h.resumes(ReadMode::Incremental, "s6_incremental", Repeats::Kept)).await;
    trials.run("resumes_a_folded_read_from_every_checkpoint", h.resumes(ReadMode::Incremental, "s6_folded", Repeats::Folded)).await;
    trials.run("ties_on_the_cursor_are_neither_lost_nor_endless", h.ties()).await;
    trials.run("rows_that_arrive_during_the_read_are_in_this_read_or_the_next", h.arrivals()).await;
    trials.run("a_state_that_makes_no_sense_is_never_a_silent_full_read", h.strange_states()).await;
    trials.run("the_state_of_one_stream_does_not_move_another", h.states_are_apart()).await;
}

struct Bench<H> {
    harness: Arc<H>,
}

impl<H: SourceHarness> Bench<H> {
    fn source(&self) -> Arc<dyn Source> {
        let connector = self.harness.connector_type().open(self.harness.config(), self.harness.context());
        let connector = connector.unwrap_or_else(|e| panic!("the harness's config does not open: {e:?}"));
        connector.source().expect("the type has the role")
    }
    async fn stream(&self, source: &Arc<dyn Source>, name: &str) -> Stream {
        let wanted = self.harness.stream_name(name);
        let all = source.discover().await.unwrap_or_else(|e| panic!("discover: {e:?}"));
        let names: Vec<String> = all.iter().map(|s| s.name.to_string()).collect();
        all.into_iter().find(|s| s.name == wanted).unwrap_or_else(|| panic!("discover does not show {wanted}: {names:?}"))
    }
    async fn selected(&self, source: &Arc<dyn Source>, name: &str, mode: ReadMode) -> Selected {
        let cursor = self.harness.cursor().filter(|_| mode == ReadMode::Incremental);
        select(&self.stream(source, name).await, mode, cursor)
    }
    /// Seeds, opens, selects.
    async fn ready(&self, name: &str, rows: &[StandardRow], mode: ReadMode) -> (Arc<dyn Source>, Selected, StreamName) {
        self.harness.seed(name, rows).await;
        let source = self.source();
        let selected = self.selected(&source, name, mode).await;
        (source, selected, self.harness.stream_name(name))
    }

    async fn discovers(&self) {
        self.harness.seed("s1_a", &StandardRow::range(0..10)).await;
        self.harness.seed("s1_b", &StandardRow::range(0..10)).await;
        let source = self.source();
        let describe = |streams: &[Stream]| -> Vec<String> {
            streams.iter().map(|s| format!("{} {:?} {:?} {:?}", s.name, fields(&s.schema), s.key, s.cursor)).collect()
        };
        let (first, second) = (source.discover().await.unwrap(), self.source().discover().await.unwrap());
        assert_eq!(describe(&first), describe(&second), "two discovers differ");
        for name in ["s1_a", "s1_b"] {
            let wanted = self.harness.stream_name(name);
            let found = first.iter().filter(|s| s.name == wanted).collect::<Vec<_>>();
            let [stream] = found.as_slice() else { panic!("{wanted} was discovered {} times", found.len()) };
            self.well_described(stream);
        }
    }
    fn well_described(&self, stream: &Stream) {
        let has = |column: &str| stream.schema.field_with_name(column).is_ok();
        let lacks = self.harness.lacks();
        for column in crate::rows::COLUMNS.into_iter().filter(|c| !lacks.contains(c)) {
            assert!(has(column), "{} lacks {column}: {:?}", stream.name, stream.schema);
        }
        assert!(stream.key.iter().all(|k| has(k)), "the key {:?} is not in the schema", stream.key);
        if self.harness.has_key() {
            assert_eq!(stream.key, ["id"], "the key of {}", stream.name);
        }
        if let Cursor::Columns(columns) = &stream.cursor {
            assert!(columns.iter().all(|c| has(c)), "a cursor of {columns:?} is not in the schema");
        }
        if let (Some(cursor), Cursor::Columns(columns)) = (self.harness.cursor(), &stream.cursor) {
            assert!(columns.iter().any(|c| c == cursor), "{cursor} is not among the cursors {columns:?}");
        }
    }

    async fn reads_all(&self) {
        let rows = StandardRow::range(-5..250);
        let (source, selected, name) = self.ready("s2", &rows, ReadMode::Full).await;
        let result = read(&source, vec![selected.clone()], Position::new()).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_same_rows(&result.table(&name).standard_rows(&self.harness.lacks()), &rows, "the rows");
        assert!(matches!(result.events.last(), Some(Event::Checkpoint { .. })), "the last message is {:?}", result.events.last());
        assert!(result.ended.iter().all(|(_, e)| *e == Ended::Complete), "{:?}", result.ended);
        self.rows_fit_their_schema(&result, &selected);
        round_trips(&result.position);
    }
    fn rows_fit_their_schema(&self, result: &Read, selected: &Selected) {
        let mut schema = selected.stream.schema.clone();
        for event in &result.events {
            match event {
                Event::Schema { schema: next, .. } => schema = next.clone(),
                Event::Rows { rows, .. } => {
                    let shape =
                        |s: &arrow_schema::Schema| s.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>();
                    assert_eq!(shape(rows.schema_ref()), shape(&schema), "rows in another schema than announced");
                    for (field, column) in schema.fields().iter().zip(rows.columns()) {
                        assert!(field.is_nullable() || column.null_count() == 0, "nulls in {}, which is not nullable", field.name());
                    }
                }
                _ => {}
            }
        }
    }

    async fn reads_twice(&self) {
        let (source, selected, name) = self.ready("s4", &StandardRow::range(0..500), ReadMode::Full).await;
        let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap();
        let second = read(&source, vec![selected], Position::new()).await.unwrap();
        let sorted = |r: &Read| r.table(&name).standard_rows(&self.harness.lacks());
        assert_same_rows(&sorted(&second), &sorted(&first), "the second read");
    }

    async fn empty_stream(&self) {
        let mode = if self.harness.cursor().is_some() { ReadMode::Incremental } else { ReadMode::Full };
        let (source, selected, _) = self.ready("s13_empty", &[], mode).await;
        let result = read(&source, vec![selected.clone()], Position::new()).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(result.row_count(), 0);
        assert!(result.ended.iter().all(|(_, e)| *e == Ended::Complete), "{:?}", result.ended);
        assert!(!result.ended.is_empty(), "no lane for an empty stream: nothing would tell that it is complete");
        assert!(result.checkpoints() > 0, "an empty stream has no checkpoint");
        if mode == ReadMode::Incremental
            && self.harness.mutate("s13_empty", Mutation::Insert(StandardRow::range(0..5))).await == Mutated::Done
        {
            let next = read(&source, vec![selected], json_trip(&result.position)).await.unwrap_or_else(|e| panic!("{e:?}"));
            assert_eq!(next.row_count(), 5, "rows that came after an empty read");
        }
    }

    async fn unselected(&self) {
        self.harness.seed("s13_other", &StandardRow::range(0..20)).await;
        let (source, selected, name) = self.ready("s13", &StandardRow::range(0..20), ReadMode::Full).await;
        let result = read(&source, vec![selected], Position::new()).await.unwrap();
        for event in &result.events {
            let stream = match event {
                Event::Rows { stream, .. } | Event::Schema { stream, .. } | Event::Truncated { stream } => Some(stream),
                Event::Checkpoint { scope, .. } => scope.stream(),
            };
            assert!(stream.is_none_or(|s| *s == name), "a message about {stream:?}");
        }
    }

    /// S6: from the first, the last and six sampled checkpoints, what follows is what is missing.
    async fn resumes(&self, mode: ReadMode, name: &str, repeats: Repeats) {
        let rows: Vec<StandardRow> = StandardRow::range(MANY);
        let (source, mut selected, stream) = self.ready(name, &rows, mode).await;
        selected.repeats = repeats;
        let whole = read(&source, vec![selected.clone()], Position::new()).await.unwrap_or_else(|e| panic!("{e:?}"));
        let all: Vec<i64> = MANY.collect();
        assert_eq!(whole.ids(&stream), all, "the whole read");
        for k in sampled(whole.checkpoints()) {
            let (before, at) = whole.until_checkpoint(k, &stream, &Position::new());
            match read(&source, vec![selected.clone()], json_trip(&at)).await {
                Ok(rest) => self.joins(&before, &rest.ids(&stream), &all, repeats, k),
                // A full read may say that it cannot prove its snapshot: the engine then starts a new generation.
                Err(e) if e.kind() == ErrorKind::PositionLost && mode == ReadMode::Full => {}
                Err(e) => panic!("resuming from checkpoint {k} of {}: {e:?}", whole.checkpoints()),
            }
        }
    }
    fn joins(&self, before: &[i64], after: &[i64], all: &[i64], repeats: Repeats, k: usize) {
        let mut both: Vec<i64> = before.iter().chain(after).copied().collect();
        both.sort_unstable();
        if repeats == Repeats::Folded {
            both.dedup();
        }
        let known: BTreeSet<i64> = both.iter().copied().collect();
        let lost: Vec<i64> = all.iter().filter(|id| !known.contains(id)).copied().take(10).collect();
        assert!(lost.is_empty(), "checkpoint {k}: lost rows {lost:?}... of {}", all.len());
        assert_eq!(both.len(), all.len(), "checkpoint {k}: {} rows before it and {} after, of {}", before.len(), after.len(), all.len());
    }

    async fn backpressure(&self) {
        let (source, selected, name) = self.ready("s11", &StandardRow::range(MANY), ReadMode::Full).await;
        let mut lanes = source.clone().lanes(vec![selected], Position::new());
        let mut ids = vec![];
        while let Some(lane) = lanes.next().await {
            let lane = lane.unwrap();
            let budget = MemoryBudget::new(64 << 10);
            let (mut output, mut inbox) = Output::channel(budget.clone(), 1);
            let mut reading = tokio::spawn(async move { lane.read(&mut output, &Stop::never()).await });
            let mut seen = 0;
            while let Some(message) = inbox.recv().await {
                let Message::Rows(batch) = message else { continue };
                seen += 1;
                if seen == 1 {
                    // While this batch is held, at most what the channel and the budget allow is read ahead.
                    let ended = tokio::time::timeout(Duration::from_millis(300), &mut reading).await;
                    let waits = ended.is_err() || inbox.len() <= 1;
                    assert!(waits, "the lane went on although nobody took its rows");
                    if ended.is_ok() {
                        // A small stream fits in what was allowed; a finished task must not be polled again.
                        reading = tokio::spawn(async { Ok(Ended::Complete) });
                    }
                }
                assert_eq!(batch.stream, name);
                if let linkspan_core::Rows::Arrow(rows) = &batch.rows {
                    ids.extend(crate::Table::from_batches([rows]).ids());
                } else if let linkspan_core::Rows::Json(rows) = &batch.rows {
                    ids.extend((0..rows.len()).map(|i| json_id(rows.row(i))));
                }
            }
            reading.await.expect("no panic").unwrap_or_else(|e| panic!("{e:?}"));
        }
        ids.sort_unstable();
        assert_eq!(ids, MANY.collect::<Vec<_>>());
    }

    async fn dropped_output(&self) {
        let (source, selected, _) = self.ready("s12", &StandardRow::range(MANY), ReadMode::Full).await;
        let mut lanes = source.clone().lanes(vec![selected], Position::new());
        let lane = lanes.next().await.expect("a lane").unwrap();
        let (mut output, mut inbox) = Output::channel(MemoryBudget::new(64 << 10), 1);
        let reading = tokio::spawn(async move { lane.read(&mut output, &Stop::never()).await });
        inbox.recv().await.expect("a first message");
        drop(inbox);
        let ended = tokio::time::timeout(Duration::from_secs(10), reading).await.expect("the read goes on although nobody listens");
        if let Err(e) = ended.expect("no panic") {
            assert_eq!(e.kind(), ErrorKind::Canceled, "{e:?}");
        }
        // What a source keeps open for its next use goes with it.
        drop((lanes, source));
        self.no_connection_left().await;
    }
    async fn no_connection_left(&self) {
        let until = tokio::time::Instant::now() + Duration::from_secs(10);
        while let Some(open @ 1..) = self.harness.connections().await {
            assert!(tokio::time::Instant::now() < until, "{open} connections are left");
            tokio::task::yield_now().await;
        }
    }

    async fn dropped_read(&self) {
        let (source, selected, name) = self.ready("s12_kill", &StandardRow::range(MANY), ReadMode::Full).await;
        let half = read_until(&source, vec![selected.clone()], Position::new(), Until::Batches(1)).await.unwrap();
        assert!(half.row_count() > 0);
        let whole = read(&source, vec![selected], Position::new()).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(whole.ids(&name), MANY.collect::<Vec<_>>());
    }

    async fn stops(&self) {
        let mode = if self.harness.cursor().is_some() { ReadMode::Incremental } else { ReadMode::Full };
        let (source, selected, name) = self.ready("stop", &StandardRow::range(MANY), mode).await;
        let first =
            read_until(&source, vec![selected.clone()], Position::new(), Until::StopAfter(1)).await.unwrap_or_else(|e| panic!("{e:?}"));
        let all: Vec<i64> = MANY.collect();
        let (before, at) = first.until_checkpoint(first.checkpoints(), &name, &Position::new());
        match read(&source, vec![selected], json_trip(&at)).await {
            Ok(rest) => self.joins(&before, &rest.ids(&name), &all, Repeats::Kept, first.checkpoints()),
            Err(e) => assert!(e.kind() == ErrorKind::PositionLost && mode == ReadMode::Full, "{e:?}"),
        }
    }

    async fn cut(&self) {
        let (source, selected, name) = self.ready("cut", &StandardRow::range(MANY), ReadMode::Full).await;
        let mut lanes = source.clone().lanes(vec![selected.clone()], Position::new());
        let lane = lanes.next().await.expect("a lane").unwrap();
        let (mut output, mut inbox) = Output::channel(MemoryBudget::new(16 << 10), 1);
        let reading = tokio::spawn(async move { lane.read(&mut output, &Stop::never()).await });
        let first = inbox.recv().await;
        assert!(first.is_some(), "no message");
        if self.harness.break_connections().await {
            drop(first);
            while inbox.recv().await.is_some() {}
            match reading.await.expect("no panic") {
                // All of it may have been under way already.
                Ok(_) => {}
                Err(e) => {
                    assert!(matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{e:?}");
                    assert_ne!(e.retry_hint(), Retry::Never, "a cut connection is worth another try: {e:?}");
                }
            }
        } else {
            reading.abort();
        }
        drop(lanes);
        let whole = read(&source, vec![selected], Position::new()).await.unwrap_or_else(|e| panic!("after the cut: {e:?}"));
        assert_eq!(whole.ids(&name), MANY.collect::<Vec<_>>());
    }

    async fn second_is_empty(&self) {
        let rows = StandardRow::range(0..300);
        let (source, selected, name) = self.ready("s5", &rows, ReadMode::Incremental).await;
        let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_same_rows(&first.table(&name).standard_rows(&self.harness.lacks()), &rows, "the rows");
        let second = read(&source, vec![selected.clone()], json_trip(&first.position)).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(second.ids(&name), Vec::<i64>::new(), "the second read");
        let third = read(&self.source(), vec![selected], json_trip(&second.position)).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(third.ids(&name), Vec::<i64>::new(), "the third read");
    }

    async fn only_changes(&self) {
        let (source, selected, name) = self.ready("s5_changes", &StandardRow::range(0..300), ReadMode::Incremental).await;
        let mut position = read(&source, vec![selected.clone()], Position::new()).await.unwrap_or_else(|e| panic!("{e:?}")).position;
        let changes = [
            (Mutation::Insert(StandardRow::range(300..310)), StandardRow::range(300..310)),
            (Mutation::Update(StandardRow::range_version(5..9, 1)), StandardRow::range_version(5..9, 1)),
        ];
        for (mutation, expected) in changes {
            if self.harness.mutate("s5_changes", mutation.clone()).await == Mutated::Unsupported {
                continue;
            }
            let next = read(&source, vec![selected.clone()], json_trip(&position)).await.unwrap_or_else(|e| panic!("{e:?}"));
            assert_same_rows(&next.table(&name).standard_rows(&self.harness.lacks()), &expected, "the rows");
            position = next.position;
        }
    }

    async fn ties(&self) {
        let same = |ids: Range<i64>| -> Vec<StandardRow> {
            let at = StandardRow::new(0).updated_at;
            ids.map(|id| StandardRow { updated_at: at, ..StandardRow::new(id) }).collect()
        };
        let (source, selected, name) = self.ready("s7", &same(MANY), ReadMode::Incremental).await;
        let first = read(&source, vec![selected.clone()], Position::new()).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(first.ids(&name), MANY.collect::<Vec<_>>());
        // From the middle of the tie too.
        for k in sampled(first.checkpoints()) {
            let (before, at) = first.until_checkpoint(k, &name, &Position::new());
            let rest = read(&source, vec![selected.clone()], json_trip(&at)).await.unwrap_or_else(|e| panic!("{e:?}"));
            self.joins(&before, &rest.ids(&name), &MANY.collect::<Vec<_>>(), Repeats::Kept, k);
        }
        let second = read(&source, vec![selected.clone()], json_trip(&first.position)).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(second.ids(&name), Vec::<i64>::new(), "a tie is read again");
        if self.harness.mutate("s7", Mutation::Insert(same(MANY.end..MANY.end + 2))).await == Mutated::Done {
            let third = read(&source, vec![selected], json_trip(&second.position)).await.unwrap_or_else(|e| panic!("{e:?}"));
            assert_eq!(third.ids(&name), [MANY.end, MANY.end + 1], "rows that came later with the same cursor");
        }
    }

    async fn arrivals(&self) {
        let (source, selected, name) = self.ready("s8", &StandardRow::range(MANY), ReadMode::Incremental).await;
        let mut lanes = source.clone().lanes(vec![selected.clone()], Position::new());
        let (mut ids, mut position, mut seen) = (vec![], Position::new(), 0);
        while let Some(lane) = lanes.next().await {
            let lane = lane.unwrap();
            let (mut output, mut inbox) = Output::channel(MemoryBudget::new(64 << 10), 1);
            let reading = tokio::spawn(async move { lane.read(&mut output, &Stop::never()).await });
            while let Some(message) = inbox.recv().await {
                match message {
                    Message::Rows(batch) => {
                        let rows = match batch.rows {
                            linkspan_core::Rows::Arrow(rows) => rows,
                            linkspan_core::Rows::Json(rows) => rows.to_arrow(&selected.stream.schema).unwrap_or_else(|e| panic!("{e:?}")),
                            _ => continue,
                        };
                        ids.extend(crate::Table::from_batches([&rows]).ids());
                        seen += 1;
                        if seen == 1 {
                            self.harness.mutate("s8", Mutation::Insert(StandardRow::range(MANY.end..MANY.end + 50))).await;
                        }
                    }
                    Message::Checkpoint { scope, state } => linkspan_core::advance(&mut position, &Position::from([(scope, state)])),
                    _ => {}
                }
            }
            reading.await.expect("no panic").unwrap_or_else(|e| panic!("{e:?}"));
        }
        let next = read(&source, vec![selected.clone()], json_trip(&position)).await.unwrap_or_else(|e| panic!("{e:?}"));
        ids.extend(next.ids(&name));
        let whole = read(&source, vec![selected], Position::new()).await.unwrap().ids(&name);
        self.joins(&ids, &[], &whole, Repeats::Kept, 0);
    }

    async fn strange_states(&self) {
        let (source, selected, name) = self.ready("s9", &StandardRow::range(0..100), ReadMode::Incremental).await;
        let good = read(&source, vec![selected.clone()], Position::new()).await.unwrap().position;
        let strange = |change: &dyn Fn(&State) -> State| -> Position { good.iter().map(|(k, s)| (k.clone(), change(s))).collect() };
        let cases = [
            ("a later version", strange(&|s| State { version: s.version + 100, value: s.value.clone() })),
            ("unknown fields", strange(&|s| State::new(s.version, serde_json::json!({ "no_such_field": 1 })))),
            ("a number", strange(&|s| State::new(s.version, serde_json::json!(42)))),
        ];
        for (what, position) in cases {
            match read(&source, vec![selected.clone()], position).await {
                Ok(result) => assert_eq!(result.ids(&name), Vec::<i64>::new(), "{what}: a silent full read"),
                Err(e) => assert_ne!(e.kind(), ErrorKind::Internal, "{what}: {e:?}"),
            }
        }
    }

    async fn states_are_apart(&self) {
        self.harness.seed("s10_b", &StandardRow::range(0..100)).await;
        let (source, a, name_a) = self.ready("s10_a", &StandardRow::range(0..100), ReadMode::Incremental).await;
        let b = self.selected(&source, "s10_b", ReadMode::Incremental).await;
        let name_b = self.harness.stream_name("s10_b");
        let first = read(&source, vec![a.clone(), b.clone()], Position::new()).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!((first.ids(&name_a).len(), first.ids(&name_b).len()), (100, 100));
        let only_a: Position =
            first.position.iter().filter(|(s, _)| s.stream() != Some(&name_b)).map(|(s, v)| (s.clone(), v.clone())).collect();
        let again = read(&source, vec![a.clone(), b.clone()], json_trip(&only_a)).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!((again.ids(&name_a).len(), again.ids(&name_b).len()), (0, 100), "b starts again, a does not");
        self.harness.mutate("s10_b", Mutation::Insert(StandardRow::range(100..110))).await;
        let alone = read(&source, vec![a], json_trip(&first.position)).await.unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(alone.row_count(), 0, "a alone, after a change of b");
    }
}

/// A schema's fields with their marks in order: a field prints its own in any order.
fn fields(schema: &arrow_schema::Schema) -> Vec<String> {
    let marks = |f: &arrow_schema::Field| f.metadata().clone().into_iter().collect::<std::collections::BTreeMap<_, _>>();
    schema.fields().iter().map(|f| format!("{} {} {} {:?}", f.name(), f.data_type(), f.is_nullable(), marks(f))).collect()
}

fn json_id(row: &[u8]) -> i64 {
    let value: serde_json::Value = serde_json::from_slice(row).expect("a JSON row");
    value["id"].as_i64().expect("an id")
}

/// The first, the last, and six in between; counted from 1.
fn sampled(checkpoints: usize) -> Vec<usize> {
    let picked: BTreeSet<usize> = (0..8).map(|i| 1 + i * checkpoints.saturating_sub(1) / 7).filter(|k| *k <= checkpoints).collect();
    picked.into_iter().collect()
}

/// A position as it comes back from a store.
fn json_trip(position: &Position) -> Position {
    let text = serde_json::to_string(position).expect("a position is JSON");
    serde_json::from_str(&text).expect("and back")
}

fn round_trips(position: &Position) {
    assert_eq!(&json_trip(position), position, "a state does not survive JSON");
}
