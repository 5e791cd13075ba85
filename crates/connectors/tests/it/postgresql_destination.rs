//! PostgreSQL as a destination, against the real server: what is visible when, and what survives what.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use linkspan_connectors::postgresql;
use linkspan_core::{
    Alter, Batch, Changes, Commit, ConnectionId, Context, Destination, ErrorKind, Failpoints, Fault, Load, LoadStream, MemoryLease, Misfit,
    Publish, Result, Rows, SchemaPlan, Scope, Session, State, StreamName, Swap, Target, WriteMode, WriteStats,
};
use linkspan_testkit::servers::TestDatabase;
use serde_json::json;

/// A database of one's own, and a destination in it.
pub struct World {
    pub db: TestDatabase,
    pub destination: Arc<dyn Destination>,
    pub failpoints: Failpoints,
    pub connection: ConnectionId,
}

pub async fn world() -> Option<World> {
    let db = TestDatabase::create().await?;
    let failpoints = Failpoints::default();
    let destination = open(&db.url, &failpoints);
    Some(World { db, destination, failpoints, connection: ConnectionId(uuid::Uuid::new_v4()) })
}

fn open(url: &str, failpoints: &Failpoints) -> Arc<dyn Destination> {
    let context = Context::with_failpoints(failpoints.clone());
    postgresql::connector_type().open(json!({ "url": url }), context).unwrap().destination().unwrap()
}

/// One stream into one table, as a run would drive it.
#[derive(Clone)]
pub struct Job {
    pub stream: LoadStream,
    pub fence: u64,
    pub previous: u64,
    pub scope: Scope,
}

impl World {
    pub fn job(&self, table: &str, write: WriteMode) -> Job {
        let name = StreamName::new(Some("src"), table);
        let key = if write == WriteMode::Merge { vec!["id".to_owned()] } else { vec![] };
        let target = Target { namespace: Some("public".into()), name: table.into() };
        let stream = LoadStream { stream: name.clone(), target, write, generation: 1, key, swap: Swap::Rename };
        Job { stream, fence: 1, previous: 0, scope: Scope::Stream(name) }
    }
    pub async fn session(&self, job: &Job) -> Result<Box<dyn Session>> {
        let load = Load {
            connection: self.connection,
            fence: job.fence,
            scope: job.scope.clone(),
            previous: job.previous,
            streams: vec![job.stream.clone()],
        };
        self.destination.open(load).await
    }
    pub fn commit(&self, job: &mut Job) -> Commit {
        let previous = job.previous;
        job.previous += 1;
        Commit {
            connection: self.connection,
            scope: job.scope.clone(),
            generation: job.stream.generation,
            fence: job.fence,
            previous,
            number: previous + 1,
            state: State::new(1, json!({ "at": previous + 1 })),
        }
    }
    pub async fn publish(&self, job: &Job) -> Result<()> {
        let publish = Publish { connection: self.connection, fence: job.fence, stream: job.stream.clone() };
        self.destination.publish(&publish).await
    }
    /// Loads rows with one commit, from opening to closing.
    pub async fn load(&self, job: &mut Job, rows: RecordBatch) -> Result<WriteStats> {
        let mut session = self.session(job).await?;
        session.schema(&job.stream.stream, &create(&rows.schema(), job)).await?;
        session.write(batch(job, rows)).await?;
        let commit = self.commit(job);
        let stats = session.commit(&commit).await?;
        Ok(stats[&job.stream.stream])
    }
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.db.query(sql).await.rows
    }
    pub async fn text(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        let line = |r: &Vec<Option<String>>| r.iter().map(|v| v.as_deref().unwrap_or("-")).collect::<Vec<_>>().join(",");
        rows.iter().map(line).collect::<Vec<_>>().join(" ")
    }
    pub async fn staging(&self) -> String {
        self.text("select relname from pg_class where relpersistence <> 't' and relname like '\\_ls%' order by 1").await
    }
    pub async fn exists(&self, table: &str) -> bool {
        self.text(&format!("select to_regclass('{table}') is not null")).await == "t"
    }
}

pub fn create(schema: &SchemaRef, job: &Job) -> SchemaPlan {
    let ddl = vec![Alter::Create { schema: schema.clone(), key: job.stream.key.clone() }];
    SchemaPlan { ddl, schema: schema.clone(), misfit: Misfit::Fail }
}

pub fn batch(job: &Job, rows: RecordBatch) -> Batch {
    Batch { stream: job.stream.stream.clone(), rows: Rows::Arrow(rows), changes: Changes::default(), lease: MemoryLease::none() }
}

pub fn people(rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
    let names: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1)));
    RecordBatch::try_new(Arc::new(schema), vec![ids, names]).unwrap()
}

fn written(written: u64) -> WriteStats {
    WriteStats { written, ..WriteStats::default() }
}

#[tokio::test]
async fn rows_and_position_become_visible_together() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Append);
    assert_eq!(w.destination.recall(w.connection).await.unwrap(), None, "never heard of");
    let mut session = w.session(&job).await.unwrap();
    let rows = people(&[(1, Some("a")), (2, None)]);
    session.schema(&job.stream.stream, &create(&rows.schema(), &job)).await.unwrap();
    session.write(batch(&job, rows.clone())).await.unwrap();
    assert!(!w.exists("public.t").await, "nothing is visible before the commit, not even the table");
    let commit = w.commit(&mut job);
    let stats = session.commit(&commit).await.unwrap();
    assert_eq!(stats[&job.stream.stream], written(2));
    assert_eq!(w.text("select * from t order by id").await, "1,a 2,-");
    let recalled = w.destination.recall(w.connection).await.unwrap().unwrap();
    assert_eq!((recalled.fence, recalled.scopes[&job.scope].number, &recalled.scopes[&job.scope].state), (1, 1, &commit.state));
    // The session goes on: the next interval is its own transaction.
    session.write(batch(&job, rows)).await.unwrap();
    assert_eq!(w.text("select count(*) from t").await, "2");
    let commit = w.commit(&mut job);
    session.commit(&commit).await.unwrap();
    assert_eq!(w.text("select count(*) from t").await, "4");
    let shape = w.destination.shape(&job.stream.target).await.unwrap().unwrap();
    assert!(shape.ours && shape.schema.field(0).data_type() == &DataType::Int64);
}

#[tokio::test]
async fn an_idle_checkpoint_moves_the_position_without_rows() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Append);
    let mut session = w.session(&job).await.unwrap();
    let commit = w.commit(&mut job);
    assert!(session.commit(&commit).await.unwrap().is_empty());
    assert_eq!(w.destination.recall(w.connection).await.unwrap().unwrap().scopes[&job.scope].number, 1);
}

#[tokio::test]
async fn a_session_that_is_dropped_before_its_commit_leaves_nothing() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Append);
    w.load(&mut job, people(&[(1, None)])).await.unwrap();
    let mut session = w.session(&job).await.unwrap();
    let rows = people(&[(2, None)]);
    session.schema(&job.stream.stream, &SchemaPlan::as_is(rows.schema())).await.unwrap();
    session.write(batch(&job, rows)).await.unwrap();
    drop(session);
    assert_eq!(w.text("select id from t").await, "1");
    assert_eq!(w.destination.recall(w.connection).await.unwrap().unwrap().scopes[&job.scope].number, 1);
}

#[tokio::test]
async fn a_failure_at_any_step_of_a_commit_shows_all_or_nothing() {
    let Some(w) = world().await else { return };
    for (point, done) in [("postgresql.commit.before", false), ("postgresql.commit.rows", false), ("postgresql.commit.after", true)] {
        let table = point.rsplit('.').next().unwrap();
        let mut job = w.job(table, WriteMode::Append);
        w.failpoints.arm(point, Fault::Error, 1);
        assert_eq!(w.load(&mut job, people(&[(1, None)])).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(w.exists(&format!("public.{table}")).await, done, "{point}");
        let recall = w.destination.recall(w.connection).await.unwrap().unwrap();
        assert_eq!(recall.scopes.contains_key(&job.scope), done, "{point}");
    }
}

#[tokio::test]
async fn a_stale_previous_is_refused_and_nothing_of_it_stays() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Append);
    w.load(&mut job, people(&[(1, None)])).await.unwrap();
    let mut stale = Job { previous: 0, ..job.clone() };
    let error = w.load(&mut stale, people(&[(2, None)])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.to_string().contains("generation 1 number 1"), "{error}");
    let mut ahead = Job { previous: 5, ..job.clone() };
    assert_eq!(w.load(&mut ahead, people(&[(2, None)])).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(w.text("select id from t").await, "1");
    // A newer generation starts to count anew.
    let mut newer = Job { previous: 0, ..job.clone() };
    newer.stream.generation = 2;
    w.load(&mut newer, people(&[(3, None)])).await.unwrap();
    assert_eq!(w.destination.recall(w.connection).await.unwrap().unwrap().scopes[&job.scope].generation, 2);
}

#[tokio::test]
async fn a_run_that_was_overtaken_cannot_commit() {
    let Some(w) = world().await else { return };
    let mut old = w.job("t", WriteMode::Append);
    let mut session = w.session(&old).await.unwrap();
    let rows = people(&[(1, None)]);
    session.schema(&old.stream.stream, &create(&rows.schema(), &old)).await.unwrap();
    session.write(batch(&old, rows)).await.unwrap();
    let mut newer = Job { fence: 2, ..old.clone() };
    w.load(&mut newer, people(&[(2, None)])).await.unwrap();
    let commit = w.commit(&mut old);
    assert_eq!(session.commit(&commit).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(w.text("select id from t").await, "2");
    let error = w.session(&old).await.err().unwrap();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "a newer run took over"));
    let replaced = Job { stream: LoadStream { write: WriteMode::Replace, ..old.stream.clone() }, ..old.clone() };
    assert_eq!(w.publish(&replaced).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn two_sessions_load_one_stream_in_parallel() {
    let Some(w) = world().await else { return };
    for mode in [WriteMode::Append, WriteMode::Merge, WriteMode::Replace] {
        let table = format!("t_{mode:?}").to_lowercase();
        let job = w.job(&table, mode);
        let parts: Vec<Job> =
            (0..4).map(|p| Job { scope: Scope::Part(job.stream.stream.clone(), p.to_string().into()), ..job.clone() }).collect();
        let loads = parts.into_iter().enumerate().map(|(p, mut part)| {
            let w = &w;
            async move {
                let start = p as i64 * 1000;
                let mut session = w.session(&part).await.unwrap();
                let rows = |from: i64| people(&(from..from + 100).map(|id| (id, Some("x"))).collect::<Vec<_>>());
                session.schema(&part.stream.stream, &create(&rows(0).schema(), &part)).await.unwrap();
                for step in 0..3 {
                    session.write(batch(&part, rows(start + step * 100))).await.unwrap();
                    let commit = w.commit(&mut part);
                    session.commit(&commit).await.unwrap();
                }
            }
        });
        futures::future::join_all(loads).await;
        if mode == WriteMode::Replace {
            w.publish(&job).await.unwrap();
        }
        assert_eq!(w.text(&format!("select count(*), count(distinct id) from {table}")).await, "1200,1200", "{mode:?}");
    }
}

#[tokio::test]
async fn old_rows_stand_until_a_replace_is_published_once() {
    let Some(w) = world().await else { return };
    w.db.execute("create table t (id bigint primary key, name text, old int); insert into t values (7, 'old', 1)").await;
    let mut job = w.job("t", WriteMode::Replace);
    job.stream.key = vec!["id".into()];
    w.load(&mut job, people(&[(1, Some("a")), (2, Some("b"))])).await.unwrap();
    assert_eq!(w.text("select * from t").await, "7,old,1");
    for point in ["postgresql.publish.before", "postgresql.publish.mid"] {
        w.failpoints.arm(point, Fault::Error, 1);
        w.publish(&job).await.unwrap_err();
        assert_eq!(w.text("select * from t").await, "7,old,1", "{point}");
    }
    w.failpoints.arm("postgresql.publish.after", Fault::Error, 1);
    w.publish(&job).await.unwrap_err();
    assert_eq!(w.text("select * from t order by id").await, "1,a 2,b");
    w.publish(&job).await.unwrap();
    assert_eq!(w.text("select * from t order by id").await, "1,a 2,b");
    assert_eq!(w.staging().await, "");
    let recall = w.destination.recall(w.connection).await.unwrap().unwrap();
    assert_eq!(recall.published[&job.stream.stream], 1);
    let shape = w.destination.shape(&job.stream.target).await.unwrap().unwrap();
    assert_eq!((shape.ours, shape.key), (true, vec!["id".to_owned()]));
    assert_eq!(w.text("select indexrelid::regclass from pg_index where indrelid = 't'::regclass").await, "t_pkey");
}

#[tokio::test]
async fn an_interrupted_replace_goes_on_and_an_abandoned_one_is_cleaned_up() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Replace);
    w.load(&mut job, people(&[(1, None)])).await.unwrap();
    job.fence = 2;
    w.load(&mut job, people(&[(2, None)])).await.unwrap();
    assert_ne!(w.staging().await, "");
    let mut next = w.job("t", WriteMode::Replace);
    (next.stream.generation, next.fence) = (2, 3);
    w.load(&mut next, people(&[(9, None)])).await.unwrap();
    assert_eq!(w.text("select count(*) from pg_class where relname like '\\_ls%'").await, "1", "the older generation's staging is gone");
    w.publish(&next).await.unwrap();
    assert_eq!(w.text("select id from t").await, "9");
    assert_eq!(w.staging().await, "");
}

#[tokio::test]
async fn a_rename_keeps_grants_and_owner() {
    let Some(w) = world().await else { return };
    let role = linkspan_testkit::servers::unique("ls_role");
    w.db.execute(&format!("create role {role}; create table t (id bigint, name text); grant select on t to {role} with grant option; grant update (name) on t to public; alter table t owner to {role}")).await;
    let before = w.text("select relowner::regrole, relacl from pg_class where oid = 't'::regclass").await;
    let mut job = w.job("t", WriteMode::Replace);
    w.load(&mut job, people(&[(1, None)])).await.unwrap();
    w.publish(&job).await.unwrap();
    assert_eq!(w.text("select id from t").await, "1");
    assert_eq!(
        w.text("select relowner::regrole, relacl from pg_class where oid = 't'::regclass").await.split(',').next(),
        before.split(',').next()
    );
    assert_eq!(
        w.text(&format!("select has_column_privilege('{role}', 't', 'name', 'update'), has_table_privilege('{role}', 't', 'select')"))
            .await,
        "t,t"
    );
    assert_eq!(w.text("select count(*) from information_schema.column_privileges where table_name = 't' and grantee = 'PUBLIC' and privilege_type = 'UPDATE'").await, "1");
    w.db.execute(&format!("drop table t; drop role {role}")).await;
}

#[tokio::test]
async fn a_view_stops_a_rename_and_survives_a_rewrite() {
    let Some(w) = world().await else { return };
    w.db.execute("create table t (id int, name text not null, extra int not null); insert into t values (7, 'old', 1); create view v as select name from t").await;
    let mut job = w.job("t", WriteMode::Replace);
    w.load(&mut job, people(&[(1, Some("a")), (2, None)])).await.unwrap();
    let error = w.publish(&job).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.suggested_fix().unwrap().contains("swap: rewrite"));
    assert_eq!(w.text("select * from t").await, "7,old,1");
    job.stream.swap = Swap::Rewrite;
    w.publish(&job).await.unwrap();
    w.publish(&job).await.unwrap();
    assert_eq!(w.text("select id, name, extra from t order by id").await, "1,a,- 2,-,-");
    assert_eq!(w.text("select count(*) from v").await, "2");
    assert_eq!(
        w.text("select format_type(atttypid, null) from pg_attribute where attrelid = 't'::regclass and attname = 'id'").await,
        "bigint"
    );
    assert_eq!(w.staging().await, "");
}

#[tokio::test]
async fn a_table_with_row_security_is_not_replaced_behind_its_back() {
    let Some(w) = world().await else { return };
    w.db.execute("create table t (id bigint); alter table t enable row level security").await;
    let mut job = w.job("t", WriteMode::Replace);
    w.load(&mut job, people(&[(1, None)])).await.unwrap();
    assert_eq!(w.publish(&job).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_publish_does_not_hang_behind_a_reader_but_waits_for_a_short_one() {
    let Some(w) = world().await else { return };
    w.db.execute("create table t (id bigint)").await;
    let mut job = w.job("t", WriteMode::Replace);
    w.load(&mut job, people(&[(1, None)])).await.unwrap();
    let reader = w.db.client().await;
    reader.batch_execute("begin; select * from t").await.unwrap();
    let publishing = w.publish(&job);
    tokio::pin!(publishing);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(2600), &mut publishing).await;
    assert!(waited.is_err(), "the reader is still there");
    assert_eq!(w.text("select count(*) from t").await, "0", "others still read the old table meanwhile");
    reader.batch_execute("commit").await.unwrap();
    publishing.await.unwrap();
    assert_eq!(w.text("select id from t").await, "1");
}

#[tokio::test]
async fn rows_of_two_keys_fail_a_keyed_replace_with_a_reason() {
    let Some(w) = world().await else { return };
    let mut job = w.job("t", WriteMode::Replace);
    job.stream.key = vec!["id".into()];
    w.load(&mut job, people(&[(1, None), (1, None)])).await.unwrap();
    let error = w.publish(&job).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataInvalid, "{error:?}");
    assert!(!w.exists("t").await);
}

#[tokio::test]
async fn the_schema_changes_in_the_middle_of_a_run() {
    let Some(w) = world().await else { return };
    for mode in [WriteMode::Append, WriteMode::Merge, WriteMode::Replace] {
        let table = format!("t_{mode:?}").to_lowercase();
        let mut job = w.job(&table, mode);
        let narrow = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("n", DataType::Int32, false)]));
        let wide = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("n", DataType::Int64, true),
            Field::new("more", DataType::Utf8, true),
        ]));
        let first = RecordBatch::try_new(
            narrow.clone(),
            vec![Arc::new(Int64Array::from(vec![1])), Arc::new(arrow_array::Int32Array::from(vec![10]))],
        );
        let second = RecordBatch::try_new(
            wide.clone(),
            vec![
                Arc::new(Int64Array::from(vec![2, 3])),
                Arc::new(Int64Array::from(vec![Some(1 << 40), None])),
                Arc::new(StringArray::from(vec!["x", "y"])),
            ],
        );
        let mut session = w.session(&job).await.unwrap();
        session.schema(&job.stream.stream, &create(&narrow, &job)).await.unwrap();
        session.write(batch(&job, first.unwrap())).await.unwrap();
        let (from, to) = (narrow.field(1).clone(), wide.field(1).clone());
        let ddl = vec![
            Alter::Widen { from: from.clone().into(), to: to.clone().into() },
            Alter::DropNotNull(to.into()),
            Alter::Add(wide.field(2).clone().into()),
        ];
        session.schema(&job.stream.stream, &SchemaPlan { ddl, schema: wide, misfit: Misfit::Fail }).await.unwrap();
        session.write(batch(&job, second.unwrap())).await.unwrap();
        if mode != WriteMode::Replace {
            assert!(!w.exists(&table).await, "the whole interval is one transaction");
        }
        let commit = w.commit(&mut job);
        let stats = session.commit(&commit).await.unwrap();
        assert_eq!(stats[&job.stream.stream], written(3), "{mode:?}");
        if mode == WriteMode::Replace {
            w.publish(&job).await.unwrap();
        }
        assert_eq!(w.text(&format!("select * from {table} order by id")).await, format!("1,10,- 2,{},x 3,-,y", 1i64 << 40), "{mode:?}");
    }
}

#[tokio::test]
async fn a_truncate_takes_effect_with_the_commit() {
    let Some(w) = world().await else { return };
    for mode in [WriteMode::Append, WriteMode::Merge] {
        let table = format!("t_{mode:?}").to_lowercase();
        let mut job = w.job(&table, mode);
        w.load(&mut job, people(&[(1, None), (2, None)])).await.unwrap();
        let mut session = w.session(&job).await.unwrap();
        let rows = people(&[(2, Some("gone"))]);
        session.schema(&job.stream.stream, &SchemaPlan::as_is(rows.schema())).await.unwrap();
        session.write(batch(&job, rows)).await.unwrap();
        session.truncate(&job.stream.stream).await.unwrap();
        session.write(batch(&job, people(&[(3, Some("after"))]))).await.unwrap();
        let commit = w.commit(&mut job);
        session.commit(&commit).await.unwrap();
        assert_eq!(w.text(&format!("select * from {table}")).await, "3,after", "{mode:?}");
    }
}

#[tokio::test]
async fn odd_names_are_kept_and_too_long_ones_refused() {
    let Some(w) = world().await else { return };
    for (schema, table, column) in [
        ("select", "order", "from"),
        ("a.b", "quote\"d", "col\"umn"),
        ("Übergröße", "東京 表", "sp ace"),
        ("Case", "CASE", "Case"),
        ("case", "case", "case"),
    ] {
        let mut job = w.job(table, WriteMode::Append);
        job.stream.target = Target { namespace: Some(schema.into()), name: table.into() };
        let fields = Schema::new(vec![Field::new(column, DataType::Int64, true)]);
        let rows = RecordBatch::try_new(Arc::new(fields), vec![Arc::new(Int64Array::from(vec![5]))]).unwrap();
        w.load(&mut job, rows).await.unwrap();
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        assert_eq!(w.text(&format!("select {} from {}.{}", quote(column), quote(schema), quote(table))).await, "5");
        assert!(w.destination.shape(&job.stream.target).await.unwrap().unwrap().ours);
    }
    for name in ["", &"x".repeat(64), &"東".repeat(22)] {
        let mut job = w.job("t", WriteMode::Append);
        job.stream.target.name = name.into();
        let error = w.load(&mut job, people(&[(1, None)])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
        assert!(error.suggested_fix().is_some());
    }
}

#[tokio::test]
async fn many_first_openings_at_once_make_one_record() {
    let Some(w) = world().await else { return };
    let opens = (0..8).map(|i| {
        let w = &w;
        async move {
            let mut job = w.job(&format!("t{i}"), WriteMode::Append);
            w.load(&mut job, people(&[(i, None)])).await.unwrap();
        }
    });
    futures::future::join_all(opens).await;
    assert_eq!(w.destination.recall(w.connection).await.unwrap().unwrap().scopes.len(), 8);
}

#[tokio::test]
async fn a_login_without_the_right_to_make_schemas_keeps_the_record_beside_its_tables() {
    let Some(w) = world().await else { return };
    let role = linkspan_testkit::servers::unique("ls_role");
    w.db.execute(&format!("create role {role} login password 'secret'; grant create on schema public to {role}")).await;
    let host = w.db.url.split_once('@').unwrap().1.to_owned();
    let destination = open(&format!("postgres://{role}:secret@{host}"), &Failpoints::default());
    let poor =
        World { db: TestDatabase::create().await.unwrap(), destination, failpoints: Failpoints::default(), connection: w.connection };
    let mut job = w.job("t", WriteMode::Merge);
    poor.load(&mut job, people(&[(1, None)])).await.unwrap();
    assert_eq!(w.text("select id from t").await, "1");
    assert!(w.exists("public._linkspan_commits").await);
    assert_eq!(poor.destination.recall(w.connection).await.unwrap().unwrap().scopes[&job.scope].number, 1);
    w.db.execute(&format!("drop owned by {role}; revoke create on schema public from {role}")).await;
    let error = poor.session(&job).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(error.suggested_fix().is_some());
    w.db.execute(&format!("drop role {role}")).await;
}

#[tokio::test]
async fn forgetting_drops_positions_and_staging_and_keeps_rows() {
    let Some(w) = world().await else { return };
    let mut kept = w.job("kept", WriteMode::Append);
    w.load(&mut kept, people(&[(1, None)])).await.unwrap();
    let mut staged = w.job("staged", WriteMode::Replace);
    w.load(&mut staged, people(&[(1, None)])).await.unwrap();
    w.destination.forget(w.connection).await.unwrap();
    w.destination.forget(w.connection).await.unwrap();
    assert_eq!(w.destination.recall(w.connection).await.unwrap(), None);
    assert_eq!((w.staging().await, w.text("select id from kept").await), (String::new(), "1".into()));
    assert!(w.destination.shape(&kept.stream.target).await.unwrap().unwrap().ours);
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let Some(w) = world().await else { return };
    w.db.execute("create view v as select 1::bigint as id, 'x'::text as name; create table strict (id bigint, name text, must int not null); create table other (id bytea, name text)").await;
    let rows = people(&[(1, Some("a"))]);
    for (table, kind, word) in [
        ("v", ErrorKind::AlreadyExists, "view"),
        ("strict", ErrorKind::SchemaDrift, "must not be null"),
        ("other", ErrorKind::SchemaDrift, "cannot take"),
    ] {
        let mut job = w.job(table, WriteMode::Append);
        let error = w.load(&mut job, rows.clone()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.message().contains(word) && error.suggested_fix().is_some(), "{error:?}");
    }
    let target = Target { namespace: Some("public".into()), name: "strict".into() };
    assert!(!w.destination.shape(&target).await.unwrap().unwrap().ours);
    let none = Target { namespace: None, name: "nothing".into() };
    assert_eq!(w.destination.shape(&none).await.unwrap(), None);
}

#[tokio::test]
async fn generated_and_identity_columns_are_respected() {
    let Some(w) = world().await else { return };
    w.db.execute("create table t (id bigint generated always as identity primary key, name text, twice bigint generated always as (id * 2) stored, at timestamptz not null default now())").await;
    for mode in [WriteMode::Append, WriteMode::Merge] {
        let mut job = w.job("t", mode);
        job.stream.stream = StreamName::new(None, &format!("{mode:?}"));
        job.scope = Scope::Stream(job.stream.stream.clone());
        let fields = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("twice", DataType::Int64, true),
        ]);
        let base = if mode == WriteMode::Append { 40 } else { 41 };
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(vec![base])), Arc::new(StringArray::from(vec!["x"])), Arc::new(Int64Array::from(vec![0]))];
        w.load(&mut job, RecordBatch::try_new(Arc::new(fields), columns).unwrap()).await.unwrap();
    }
    assert_eq!(w.text("select id, name, twice from t order by id").await, "40,x,80 41,x,82");
}

#[tokio::test]
async fn several_streams_share_a_session_and_its_commit() {
    let Some(w) = world().await else { return };
    let (a, b) = (w.job("a", WriteMode::Append), w.job("b", WriteMode::Merge));
    let load =
        Load { connection: w.connection, fence: 1, scope: Scope::Shared, previous: 0, streams: vec![a.stream.clone(), b.stream.clone()] };
    let mut session = w.destination.open(load).await.unwrap();
    let rows = people(&[(1, None)]);
    session.schema(&a.stream.stream, &create(&rows.schema(), &a)).await.unwrap();
    session.schema(&b.stream.stream, &create(&rows.schema(), &b)).await.unwrap();
    for id in 1..=5 {
        session.write(batch(&a, people(&[(id, None)]))).await.unwrap();
        session.write(batch(&b, people(&[(6 - id, None), (id, Some("again"))]))).await.unwrap();
    }
    let mut shared = Job { scope: Scope::Shared, ..a.clone() };
    let commit = w.commit(&mut shared);
    let stats: BTreeMap<StreamName, WriteStats> = session.commit(&commit).await.unwrap();
    assert_eq!(stats[&a.stream.stream], written(5));
    let merged = stats[&b.stream.stream];
    assert_eq!(merged.written + merged.duplicates, 10);
    assert_eq!(
        w.text("select count(*) from a").await + &w.text("select count(*), count(name) from b").await,
        "55,3",
        "the last change of a key wins"
    );
}
