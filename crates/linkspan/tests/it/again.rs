//! The same command again moves only what is new.

use linkspan_testkit::servers::TestDatabase;

use crate::program::{Place, counts, said};

const SMALL: &str = "faker:?customers=2000&orders=8000";

#[test]
fn the_same_command_again_moves_only_what_is_new() {
    let place = Place::new();
    let args = ["sync", SMALL, "sqlite:./shop.db", "--mode", "incremental", "--output", "json"];
    let first = place.run(&args).succeeds().summary();
    assert_eq!((counts(&first, "customers"), counts(&first, "orders")), ((2000, 2000), (8000, 8000)), "{first:#}");
    let second = place.run(&args).succeeds().summary();
    let (read, _) = counts(&second, "orders");
    assert!(read > 0 && read < 400, "a round of changes, not everything: {second:#}");
    let ids = place.sqlite("shop.db", "SELECT count(*), count(DISTINCT id) FROM orders");
    let (rows, distinct) = ids.split_once('|').unwrap();
    assert_eq!(rows, distinct);
}

#[test]
fn a_full_sync_replaces() {
    let place = Place::new();
    for _ in 0..2 {
        let summary = place.run(&["sync", SMALL, "sqlite:./shop.db", "--output", "json"]).succeeds().summary();
        assert_eq!(counts(&summary, "orders"), (8000, 8000));
        assert_eq!(place.sqlite("shop.db", "SELECT count(*) FROM orders"), "8000");
    }
}

#[test]
fn another_selection_shares_the_connection_and_another_name_does_not() {
    let place = Place::new();
    let sync = |more: &[&str]| {
        let args = [&["sync", SMALL, "sqlite:./shop.db", "--mode", "incremental", "--output", "json"], more].concat();
        place.run(&args).succeeds().summary()
    };
    let one = sync(&["--stream", "customers"]);
    let both = sync(&["--stream", "customers", "--stream", "orders"]);
    assert_eq!(one["connection"], both["connection"]);
    assert!(counts(&both, "customers").0 < 2000, "{both:#}");
    assert_eq!(counts(&both, "orders").0, 8000);
    let named = sync(&["--stream", "customers", "--name", "other", "--target", "other.*"]);
    assert_eq!((named["connection"].as_str(), counts(&named, "customers").0), (Some("other"), 2000), "{named:#}");
}

#[test]
fn another_target_is_filled_from_the_start() {
    let place = Place::new();
    let sync = |more: &[&str]| {
        let args = [&["sync", SMALL, "sqlite:./shop.db", "--stream", "orders", "--mode", "incremental", "--output", "json"], more].concat();
        place.run(&args).succeeds()
    };
    sync(&[]);
    let moved = sync(&["--target", "sales"]);
    assert!(moved.out.contains("it was written to orders and goes to sales now"), "{}", moved.out);
    assert_eq!(place.sqlite("shop.db", "SELECT (SELECT count(*) >= 8000 FROM sales), (SELECT count(*) FROM orders)"), "1|8000");
    let again = sync(&["--target", "sales"]).summary();
    assert!(counts(&again, "orders").0 < 400, "{again:#}");
    let back = sync(&[]).summary();
    assert!(counts(&back, "orders").0 >= 8000, "{back:#}");
    assert_eq!(place.sqlite("shop.db", "SELECT count(*) = count(DISTINCT id) FROM orders"), "1");
}

#[test]
fn the_folder_one_stands_in_does_not_matter() {
    let place = Place::new();
    std::fs::create_dir(place.path("sub")).unwrap();
    let sync = |line: &str| place.shell(&format!("{line} --stream customers --mode incremental --output json")).succeeds().summary();
    let first = sync(&format!("linkspan sync '{SMALL}' ./shop.db"));
    let second = sync(&format!("cd sub; linkspan sync '{SMALL}' sqlite:.././shop.db"));
    assert_eq!(first["connection"], second["connection"]);
    assert!(counts(&second, "customers").0 < 2000);
    let other = sync(&format!("cd sub; linkspan sync '{SMALL}' ./shop.db"));
    assert_eq!(counts(&other, "customers").0, 2000, "another file is another connection: {other:#}");
}

/// A free query cannot prove that what it answered before a crash is what it would answer now.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_was_read_but_not_published_is_asked_again() {
    let Some(database) = TestDatabase::create().await else { return };
    database.execute("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'old')").await;
    let place = Place::new();
    place
        .write("p.yaml", "connectors:\n  shop: {type: postgresql, config: {url: '${URL}', query: 'SELECT id, v FROM t', query_name: q}}\n");
    let sync = |failpoints: &str| {
        let mut command = place.command(&["sync", "-f", "p.yaml", "shop", "./out.db", "--stream", "q", "--output", "json"]);
        said(command.env("URL", &database.url).env("LINKSPAN_FAILPOINTS", failpoints))
    };
    assert_ne!(sync("pipe.publish.before=abort@1").code, 0, "it died before the publish");
    database.execute("UPDATE t SET v = 'new'").await;
    assert_eq!(sync("").code, 0);
    assert_eq!(place.sqlite("out.db", "SELECT id, v FROM q"), "1|new");
}

#[test]
fn a_stream_is_not_written_onto_itself() {
    let place = Place::new();
    place.run(&["sync", SMALL, "sqlite:./shop.db"]).succeeds();
    place.run(&["sync", "sqlite:./shop.db", "./shop.db", "--stream", "orders"]).refuses(2, &["onto itself", "--target"]);
    place.run(&["sync", "sqlite:./shop.db", "./shop.db", "--stream", "orders", "--target", "copy"]).succeeds();
    assert_eq!(place.sqlite("shop.db", "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM copy)"), "8000|8000");
}

#[test]
fn a_dry_run_touches_nothing() {
    let place = Place::new();
    let said = place.run(&["sync", SMALL, "sqlite:./shop.db", "--mode", "incremental", "--dry-run"]).succeeds();
    for word in ["customers", "incremental", "merge", "id", "a table of 10 columns is made", "nothing was changed"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    assert!(!place.path("data").exists() && !place.path("shop.db").exists());
    let plan = place.run(&["sync", SMALL, "sqlite:./shop.db", "--dry-run", "--output", "json"]).succeeds().json();
    assert_eq!((&plan["event"], &plan["streams"][0]["write"]), (&"plan".into(), &"replace".into()), "{plan:#}");
}

#[test]
fn a_reset_reads_everything_again() {
    let place = Place::new();
    let args = ["sync", SMALL, "sqlite:./shop.db", "--mode", "incremental", "--stream", "customers", "--output", "json"];
    place.run(&args).succeeds();
    let again = place.run(&[&args[..], &["--reset"]].concat()).succeeds().summary();
    assert_eq!(counts(&again, "customers").0, 2000, "{again:#}");
    assert_eq!(place.sqlite("shop.db", "SELECT count(*) FROM customers"), "2000");
}

#[test]
fn rows_on_stdout_are_alone_there() {
    let place = Place::new();
    let said = place.run(&["sync", "faker:?customers=3&orders=0", "stdout:", "--stream", "customers"]).succeeds();
    assert_eq!(said.lines().len(), 3, "{said:#?}");
    assert_eq!(said.lines()[0]["id"], 1);
}

#[test]
fn piped_progress_is_lines_without_control_characters() {
    let place = Place::new();
    let said = place.run(&["sync", SMALL, "sqlite:./shop.db"]).succeeds();
    assert!(!said.err.contains(['\u{1b}', '\r']), "{:?}", said.err);
    assert!(said.out.contains("8,000") && said.out.contains("rows/s"), "{}", said.out);
}

#[test]
fn the_demo_shows_both_runs_and_three_answers() {
    let place = Place::new();
    let said = place.run(&["demo", "--output", "json"]).succeeds();
    let lines = said.lines();
    let summaries: Vec<_> = lines.iter().filter(|l| l["event"] == "summary").collect();
    assert_eq!(summaries.len(), 4, "{said:#?}");
    assert_eq!(counts(summaries[0], "orders").0, 800_000);
    assert!(counts(summaries[3], "orders").0 < 80_000);
    assert_eq!(lines.iter().filter(|l| l["event"] == "query" && l["rows"].as_array().is_some_and(|r| !r.is_empty())).count(), 3);
    assert!(place.path("linkspan-demo/shop.db").exists() && !place.path("data").exists());
}

/// The run that follows a crash shows the source as it is then, not as the crashed run had read it.
#[test]
fn a_replace_that_died_before_its_publish_shows_what_is_there_now() {
    let place = Place::new();
    let source = rusqlite::Connection::open(place.path("from.db")).unwrap();
    source.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'old'), (2, 'old')").unwrap();
    let line = "linkspan sync ./from.db ./to.db --output json";
    place.shell(&format!("LINKSPAN_FAILPOINTS=pipe.publish.before=abort {line}"));
    assert_eq!(place.sqlite("to.db", "SELECT count(*) FROM sqlite_schema WHERE name = 't'"), "0", "it died before");
    source.execute_batch("UPDATE t SET v = 'new'; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3, 'new')").unwrap();
    place.shell(line).succeeds();
    assert_eq!(place.sqlite("to.db", "SELECT group_concat(id || v, ' ') FROM (SELECT id, v FROM t ORDER BY id)"), "1new 3new");
}
