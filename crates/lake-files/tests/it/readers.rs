//! Other tools read what we write.

use std::process::Command;

use linkspan_core::*;

use crate::world::*;

/// A Python with pyarrow and duckdb.
fn python() -> Option<String> {
    let python = std::env::var("LINKSPAN_TEST_PYTHON").ok();
    if python.is_none() {
        skip("LINKSPAN_TEST_PYTHON, a Python with pyarrow and duckdb");
    }
    python
}

fn say(python: &str, script: &str, folder: &std::path::Path) -> String {
    let run = Command::new(python).args(["-c", script]).arg(folder).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn pyarrow_and_duckdb_read_a_table_even_while_a_commit_is_under_way() {
    let Some(python) = python() else { return };
    let world = World::local();
    let stream = append("public.t");
    run(&world, &stream, 3, &Failpoints::default()).await.unwrap();
    let scope = Scope::Stream(stream.stream.clone());
    let mut session = world.destination().open(world.load(2, scope, stream.clone())).await.unwrap();
    session.schema(&stream.stream, &SchemaPlan::as_is(schema())).await.unwrap();
    session.write(batch(&stream.stream, rows(100..200))).await.unwrap();
    let table = world.root().join("public/t");
    let duckdb = "import duckdb,sys; print(duckdb.sql(f\"select count(*), sum(id), count(name) from read_parquet('{sys.argv[1]}/*.parquet', union_by_name=true)\").fetchall()[0])";
    assert_eq!(say(&python, duckdb, &table), "(30, 435, 20)");
    let pyarrow = "import pyarrow.dataset as d,sys; t=d.dataset(sys.argv[1]).to_table(); print(t.num_rows, sum(t['id'].to_pylist()), t['name'].null_count)";
    assert_eq!(say(&python, pyarrow, &table), "30 435 10");
}

#[tokio::test]
async fn pyarrow_and_duckdb_read_every_type() {
    let Some(python) = python() else { return };
    let world = World::local();
    crate::types::write_all_types(&world).await;
    let table = world.root().join("public/types");
    let duckdb = "import duckdb,sys; r=duckdb.sql(f\"select uuid, json, d15, tz is not null, text, ints from read_parquet('{sys.argv[1]}/*.parquet')\"); print(r.types[0], r.types[2], r.fetchall()[0][:3])";
    assert_eq!(
        say(&python, duckdb, &table),
        "UUID DECIMAL(15,2) (UUID('07070707-0707-0707-0707-070707070707'), '{\"a\":1}', Decimal('-0.01'))"
    );
    let pyarrow = "import pyarrow.parquet as p,sys,glob; t=p.read_table(glob.glob(sys.argv[1]+'/*.parquet')[0]); print(t.num_rows, t.schema.field('d76').type, t.schema.field('tz').type)";
    assert_eq!(say(&python, pyarrow, &table), "3 decimal256(76, 0) timestamp[us, tz=UTC]");
}

#[tokio::test]
async fn what_duckdb_and_pyarrow_wrote_is_read_with_its_types() {
    let Some(python) = python() else { return };
    let world = World::local();
    let folder = world.root().join("theirs");
    std::fs::create_dir_all(&folder).unwrap();
    let duckdb = "import duckdb,sys; duckdb.sql(f\"copy (select 1::bigint as id, uuid() as u, '{{}}'::json as j, 1.50::decimal(9,2) as d, timestamptz '2024-01-01 00:00:00+00' as t, [1,2] as l) to '{sys.argv[1]}/a.parquet'\")";
    say(&python, duckdb, &folder);
    let stream = discover_one(&world, "theirs").await;
    let field = |name: &str| stream.schema.field_with_name(name).unwrap().clone();
    assert_eq!(native::native_of(&field("u")).unwrap().type_name, "uuid");
    assert!(native::has_mark(&field("j"), native::JSON_TEXT));
    assert_eq!(world.ids(&stream.name).await, [1]);
    let pyarrow = "import pyarrow as p, pyarrow.parquet as q, sys; q.write_table(p.table({'id': p.array([2,3], p.int64()), 'c': p.array(['x','y']).dictionary_encode(), 's': p.array(['a','b'], p.large_string())}), sys.argv[1]+'/b.parquet')";
    say(&python, pyarrow, &folder);
    let stream = discover_one(&world, "theirs").await;
    assert_eq!(stream.schema.field_with_name("c").unwrap().data_type(), &arrow_schema::DataType::Utf8);
    assert_eq!(stream.schema.field_with_name("s").unwrap().data_type(), &arrow_schema::DataType::Utf8);
    assert_eq!(world.ids(&stream.name).await, [1, 2, 3]);
}
