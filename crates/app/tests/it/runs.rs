//! Connections and their runs over real connectors.

use std::{sync::Arc, time::Duration};

use linkspan_app::{CallContext, Caller, CallerKind, Reach, Role, Settings, runs};
use linkspan_core::{ErrorKind, Fault};
use serde_json::{Value, json};

use crate::plant::Plant;

/// Enough rows that a run of them does not end by itself within a test.
const ENDLESS: &str = "faker";
fn endless() -> Value {
    json!({"customers": 40_000_000u64, "orders": 1})
}

fn balanced(run: &Value) {
    let n = |v: &Value, f: &str| v[f].as_u64().unwrap();
    assert_eq!(n(run, "rows_read"), n(run, "rows_written") + n(run, "rows_duplicate") + n(run, "rows_rejected"), "{run}");
    for s in run["streams"].as_array().unwrap() {
        assert_eq!(n(s, "rows_read"), n(s, "written") + n(s, "duplicates") + n(s, "rejected"), "{s}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_moves_rows_and_then_only_what_is_new() {
    let plant = Plant::new().await;
    plant.shop(500).await;
    let made = plant
        .local(
            "connections.create",
            json!({"name": "orders", "from": "shop", "streams": "orders", "dest": "copy:sales", "mode": "incremental"}),
        )
        .await;
    assert_eq!(
        (made["from"].as_str(), made["dest"].as_str(), made["mode"].as_str()),
        (Some("shop"), Some("copy:sales"), Some("incremental"))
    );
    let first = plant.run("orders").await;
    assert_eq!((first["status"].as_str(), first["rows_written"].as_u64()), (Some("completed"), Some(500)), "{first}");
    balanced(&first);
    assert_eq!(plant.count("copy.db", "sales"), 500);
    plant.orders(501..=520);
    let second = plant.run(made["id"].as_str().unwrap()).await;
    assert_eq!(second["status"], "completed", "{second}");
    assert!(second["rows_read"].as_u64().unwrap() < 500, "only what is new: {second}");
    balanced(&second);
    assert_eq!(plant.count("copy.db", "sales"), 520);
    let state = plant.local("connections.state", json!({"connection": "orders"})).await;
    assert_eq!(state["positions"][0]["stream"], "orders");
    let listed = plant.local("connections.runs", json!({"connection": "orders"})).await;
    assert_eq!(listed["runs"].as_array().unwrap().len(), 2);
    let messages: Vec<String> =
        plant.log(second["id"].as_str().unwrap()).await.iter().map(|l| l["message"].as_str().unwrap().to_owned()).collect();
    assert!(messages.iter().any(|m| m == "started") && messages.iter().any(|m| m == "completed"), "{messages:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_reads_from_the_start_again() {
    let plant = Plant::new().await;
    plant.shop(50).await;
    plant
        .local("connections.create", json!({"name": "o", "from": "shop", "streams": ["orders"], "dest": "copy", "mode": "incremental"}))
        .await;
    plant.run("o").await;
    let unknown = plant.refused("connections.reset", json!({"connection": "o", "streams": "ordres"})).await;
    assert_eq!((unknown.kind(), unknown.suggested_fix()), (ErrorKind::NotFound, Some("those that have one: orders")));
    let forgotten = plant.local("connections.reset", json!({"connection": "o", "streams": "orders"})).await;
    assert_eq!(forgotten["streams"], json!(["orders"]));
    let again = plant.run("o").await;
    assert_eq!((again["status"].as_str(), again["rows_read"].as_u64()), (Some("completed"), Some(50)), "{again}");
    assert_eq!(plant.count("copy.db", "orders"), 50, "merged by its key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_built_in_lake_takes_rows_without_being_made() {
    let plant = Plant::new().await;
    plant.shop(25).await;
    let made = plant.local("connections.create", json!({"name": "o", "from": "shop", "streams": "orders", "dest": "data:orders"})).await;
    assert_eq!(made["dest"], "lake:orders");
    let run = plant.run("o").await;
    assert_eq!((run["status"].as_str(), run["rows_written"].as_u64()), (Some("completed"), Some(25)), "{run}");
    assert!(plant.path("lake/default").is_dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_passes_is_tried_again_from_the_last_commit() {
    let plant = Plant::new().await;
    plant.shop(200).await;
    let retry = json!({"attempts": 3, "backoff": "0s"});
    plant.local("connections.create", json!({"name": "o", "from": "shop", "streams": "orders", "dest": "copy", "retry": retry})).await;
    plant.rig.app.context.failpoints.arm("pipe.commit.before", Fault::Error, 1);
    let run = plant.run("o").await;
    assert_eq!((run["status"].as_str(), run["attempt"].as_u64()), (Some("completed"), Some(2)), "{run}");
    assert_eq!(run["rows_written"], 200);
    balanced(&run);
    assert_eq!(plant.count("copy.db", "orders"), 200);
    let lines = plant.log(run["id"].as_str().unwrap()).await;
    assert!(lines.iter().any(|l| l["message"] == "it will be tried again" && l["error"]["kind"] == "unavailable"), "{lines:?}");
    assert_eq!(lines.iter().filter(|l| l["message"] == "attempt").count(), 2, "one log for both attempts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_stays_fails_at_once_and_can_be_retried_when_it_is_mended() {
    let plant = Plant::new().await;
    plant.shop(10).await;
    plant.local("connections.create", json!({"name": "o", "from": "shop", "streams": "nothing", "dest": "copy"})).await;
    let run = plant.run("o").await;
    assert_eq!(
        (run["status"].as_str(), run["attempt"].as_u64(), run["error"]["kind"].as_str()),
        (Some("failed"), Some(1), Some("not_found"))
    );
    let failed = plant.local("runs.list", json!({"status": "failed", "connection": "o"})).await;
    assert_eq!(failed["runs"][0]["id"], run["id"]);
    assert_eq!(plant.refused("runs.list", json!({"status": "broken"})).await.kind(), ErrorKind::ConfigInvalid);
    plant.local("connections.update", json!({"connection": "o", "streams": "orders"})).await;
    let next = plant.local("runs.retry", json!({"run": run["id"]})).await;
    let next = plant.over(next["id"].as_str().unwrap()).await;
    assert_eq!((next["status"].as_str(), next["cause"].as_str()), (Some("completed"), Some("retry")), "{next}");
    assert_eq!(plant.refused("runs.retry", json!({"run": next["id"]})).await.kind(), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cancelled_keeps_what_it_committed() {
    let plant = Plant::new().await;
    plant.shop(1).await;
    plant.connector("big", ENDLESS, endless()).await;
    let body = json!({"name": "b", "from": "big", "streams": "customers", "dest": "copy", "mode": "incremental", "write": "append"});
    plant.local("connections.create", body).await;
    let run = plant.local("connections.run", json!({"connection": "b"})).await;
    let id = run["id"].as_str().unwrap();
    assert_eq!(plant.refused("connections.run", json!({"connection": "b"})).await.kind(), ErrorKind::Conflict, "one at a time");
    plant.until(id, |r| r["rows_read"].as_u64() > Some(0)).await;
    assert_eq!(plant.refused("connections.delete", json!({"connection": "b"})).await.kind(), ErrorKind::Conflict);
    plant.local("runs.cancel", json!({"run": id})).await;
    let over = plant.over(id).await;
    assert_eq!(over["status"], "cancelled", "{over}");
    balanced(&over);
    assert!(plant.distinct("copy.db", "customers") >= over["rows_written"].as_u64().unwrap());
    assert_eq!(plant.refused("runs.cancel", json!({"run": id})).await.kind(), ErrorKind::Conflict);
    plant.local("connections.delete", json!({"connection": "b"})).await;
    assert_eq!(plant.refused("runs.show", json!({"run": id})).await.kind(), ErrorKind::NotFound);
    assert!(!plant.path("logs").join(run["connection_id"].as_str().unwrap()).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_runs_than_may_go_wait_for_their_turn_and_can_be_taken_out() {
    let plant = Plant::with(Settings { runs_at_once: 1, ..Settings::default() }).await;
    plant.shop(5).await;
    plant.connector("big", ENDLESS, endless()).await;
    plant
        .local(
            "connections.create",
            json!({"name": "b", "from": "big", "streams": "customers", "dest": "copy", "mode": "incremental", "write": "append"}),
        )
        .await;
    for name in ["first", "second"] {
        plant.local("connections.create", json!({"name": name, "from": "shop", "streams": "orders", "dest": format!("copy:{name}")})).await;
    }
    let big = plant.local("connections.run", json!({"connection": "b"})).await;
    plant.until(big["id"].as_str().unwrap(), |r| r["status"] == "running").await;
    let first = plant.local("connections.run", json!({"connection": "first"})).await;
    let second = plant.local("connections.run", json!({"connection": "second"})).await;
    let waiting = plant.local("runs.list", json!({"status": "queued"})).await;
    assert_eq!(waiting["runs"].as_array().unwrap().len(), 2);
    let taken_out = plant.local("runs.cancel", json!({"run": second["id"]})).await;
    assert_eq!(taken_out["status"], "cancelled");
    plant.local("runs.cancel", json!({"run": big["id"]})).await;
    assert_eq!(plant.over(first["id"].as_str().unwrap()).await["status"], "completed");
    assert_eq!(plant.local("runs.show", json!({"run": second["id"]})).await["started_at"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_takes_too_long_is_stopped_and_says_so() {
    let plant = Plant::new().await;
    plant.shop(1).await;
    plant.connector("big", ENDLESS, endless()).await;
    let body = json!({"name": "b", "from": "big", "streams": "customers", "dest": "copy", "mode": "incremental", "write": "append", "timeout": "1s"});
    plant.local("connections.create", body).await;
    let run = plant.run("b").await;
    assert_eq!((run["status"].as_str(), run["error"]["kind"].as_str()), (Some("failed"), Some("timeout")), "{run}");
    balanced(&run);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_ends_lets_its_runs_go_on_in_the_next_one() {
    let plant = Plant::new().await;
    plant.shop(1).await;
    plant.connector("big", ENDLESS, endless()).await;
    plant
        .local(
            "connections.create",
            json!({"name": "b", "from": "big", "streams": "customers", "dest": "copy", "mode": "incremental", "write": "append"}),
        )
        .await;
    let run = plant.local("connections.run", json!({"connection": "b"})).await;
    let id = run["id"].as_str().unwrap();
    plant.until(id, |r| r["rows_read"].as_u64() > Some(0)).await;
    let began = std::time::Instant::now();
    runs::drain(&plant.rig.app, Duration::from_secs(30)).await;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    let waits = plant.local("runs.show", json!({"run": id})).await;
    assert_eq!((waits["status"].as_str(), waits["attempt"].as_u64()), (Some("queued"), Some(1)), "{waits}");
    balanced(&waits);
    let kept = waits["rows_written"].as_u64().unwrap();
    assert!(plant.distinct("copy.db", "customers") >= kept);
    let plant = plant.reopened(Settings::default()).await;
    plant.until(id, |r| r["rows_written"].as_u64() > Some(kept)).await;
    plant.local("runs.cancel", json!({"run": id})).await;
    let over = plant.over(id).await;
    balanced(&over);
    assert!(plant.distinct("copy.db", "customers") >= over["rows_written"].as_u64().unwrap());
    let gaps = "select max(id) - count(*) from customers";
    assert_eq!(plant.sqlite("copy.db").query_row(gaps, [], |r| r.get::<_, i64>(0)).unwrap(), 0, "none left out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_starts_runs_and_a_patch_stops_it() {
    let plant = Plant::new().await;
    plant.shop(5).await;
    let body = json!({"name": "o", "from": "shop", "streams": "orders", "dest": "copy", "schedule": {"cron": "* * * * * *", "timezone": "Europe/Berlin"}});
    let made = plant.local("connections.create", body).await;
    assert_eq!(made["schedule"]["timezone"], "Europe/Berlin");
    let mut ticked = Value::Null;
    for _ in 0..200 {
        ticked = plant.local("runs.list", json!({"status": "completed"})).await;
        if ticked["runs"].as_array().unwrap().len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let runs = ticked["runs"].as_array().unwrap();
    assert!(runs.len() >= 2 && runs.iter().all(|r| r["cause"] == "schedule"), "{ticked}");
    assert_ne!(runs[0]["scheduled_for"], runs[1]["scheduled_for"]);
    let shown = plant.local("connections.show", json!({"connection": "o"})).await;
    assert!(shown["next_run_at"].is_string(), "{shown}");
    let off = plant.local("connections.update", json!({"connection": "o", "schedule": null})).await;
    assert_eq!((&off["schedule"], &off["next_run_at"]), (&Value::Null, &Value::Null));
    let e = plant.refused("connections.update", json!({"connection": "o", "schedule": "61 * * * *"})).await;
    assert!(e.message().contains("minute takes 0 to 59"), "{e:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_that_nobody_was_there_for_are_written_down_and_not_replayed() {
    let plant = Plant::new().await;
    plant.shop(5).await;
    plant
        .local("connections.create", json!({"name": "o", "from": "shop", "streams": "orders", "dest": "copy", "schedule": "every 10h"}))
        .await;
    plant.rig.clock.forward(Duration::from_secs(29 * 3600));
    let mut shown = Value::Null;
    for _ in 0..200 {
        shown = plant.local("connections.show", json!({"connection": "o"})).await;
        if shown["last_missed"].is_object() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(shown["last_missed"]["missed"].as_u64() >= Some(2), "{shown}");
    assert!(plant.local("runs.list", json!({})).await["runs"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_catch_up_one_run_makes_up_for_all_that_a_stopped_process_missed() {
    let plant = Plant::new().await;
    plant.shop(5).await;
    let schedule = json!({"every": "10h", "catch_up": true});
    plant
        .local("connections.create", json!({"name": "o", "from": "shop", "streams": "orders", "dest": "copy", "schedule": schedule}))
        .await;
    runs::drain(&plant.rig.app, Duration::from_secs(5)).await;
    plant.rig.app.store.close().await;
    // The next process starts when three ticks have passed.
    let clock = Arc::new(crate::rig::Shifted::default());
    clock.forward(Duration::from_secs(31 * 3600));
    let app = crate::rig::open(plant.rig.dir.path(), clock.clone(), crate::plant::registry(), Settings::default()).await.unwrap();
    runs::start(&app, runs::Schedules::On).await.unwrap();
    let plant = plant.on(app, clock);
    let mut all = Value::Null;
    for _ in 0..200 {
        all = plant.local("runs.list", json!({"status": "completed"})).await;
        if all["runs"].as_array().unwrap().len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(all["runs"][0]["cause"], "schedule", "{all}");
    let shown = plant.local("connections.show", json!({"connection": "o"})).await;
    assert!(shown["last_missed"]["missed"].as_u64() >= Some(2), "{shown}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(plant.local("runs.list", json!({})).await["runs"].as_array().unwrap().len(), 1, "one for all of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_whose_run_could_not_be_written_is_tried_again() {
    let plant = Plant::new().await;
    plant.shop(5).await;
    plant.rig.app.context.failpoints.arm("runs.ticks", Fault::Error, 1);
    plant
        .local("connections.create", json!({"name": "o", "from": "shop", "streams": "orders", "dest": "copy", "schedule": "every 1h"}))
        .await;
    let next = plant.local("connections.show", json!({"connection": "o"})).await["next_run_at"].as_str().unwrap().to_owned();
    let due = next.parse::<jiff::Timestamp>().unwrap().duration_since(plant.rig.app.context.clock.now());
    plant.rig.clock.forward(Duration::try_from(due).unwrap_or_default() + Duration::from_secs(1));
    let mut all = Value::Null;
    for _ in 0..400 {
        all = plant.local("runs.list", json!({"status": "completed"})).await;
        if !all["runs"].as_array().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let runs = all["runs"].as_array().unwrap();
    assert_eq!((runs.len(), runs[0]["scheduled_for"].as_str()), (1, Some(next.as_str())), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_project_sees_nothing_and_a_viewer_starts_nothing() {
    let plant = Plant::new().await;
    plant.shop(5).await;
    plant.local("connections.create", json!({"name": "o", "from": "shop", "streams": "orders", "dest": "copy"})).await;
    let run = plant.run("o").await;
    let other = CallContext::new(Caller::local(), "other");
    for (name, input) in [
        ("connections.show", json!({"connection": "o"})),
        ("connections.run", json!({"connection": "o"})),
        ("connections.reset", json!({"connection": run["connection_id"]})),
        ("connections.state", json!({"connection": "o"})),
        ("connections.delete", json!({"connection": "o"})),
        ("runs.show", json!({"run": run["id"]})),
        ("runs.cancel", json!({"run": run["id"]})),
        ("runs.retry", json!({"run": run["id"]})),
        ("connections.create", json!({"name": "x", "from": "shop", "dest": "lake"})),
    ] {
        assert_eq!(plant.call(&other, name, input).await.expect_err(name).kind(), ErrorKind::NotFound, "{name}");
    }
    let viewer = Caller { kind: CallerKind::User, role: Some(Role::Viewer), reach: Reach::Project, ..Caller::local() };
    let viewer = CallContext::new(viewer, "default");
    let refused = plant.call(&viewer, "connections.run", json!({"connection": "o"})).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(plant.call(&viewer, "runs.show", json!({"run": run["id"]})).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_under_one_key_starts_one_run() {
    let plant = Plant::new().await;
    plant.shop(5).await;
    plant.local("connections.create", json!({"name": "o", "from": "shop", "streams": "orders", "dest": "copy"})).await;
    let keyed = CallContext { idempotency_key: Some("k1".into()), ..CallContext::local() };
    let first = plant.call(&keyed, "connections.run", json!({"connection": "o"})).await.unwrap().body;
    plant.over(first["id"].as_str().unwrap()).await;
    let again = plant.call(&keyed, "connections.run", json!({"connection": "o"})).await.unwrap().body;
    assert_eq!(again["id"], first["id"]);
    assert_eq!(plant.local("runs.list", json!({})).await["runs"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_is_changed_only_by_who_saw_it() {
    let plant = Plant::new().await;
    plant.shop(5).await;
    let body = json!({"name": "o", "from": "shop", "streams": "orders", "dest": "copy"});
    plant.local("connections.create", body.clone()).await;
    assert_eq!(plant.refused("connections.create", body).await.kind(), ErrorKind::AlreadyExists);
    let stale = CallContext { if_match: Some("\"7\"".into()), ..CallContext::local() };
    let e = plant.call(&stale, "connections.update", json!({"connection": "o", "name": "p"})).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    let seen = CallContext { if_match: Some("\"1\"".into()), ..CallContext::local() };
    let renamed = plant.call(&seen, "connections.update", json!({"connection": "o", "name": "p"})).await.unwrap();
    assert_eq!((renamed.body["name"].as_str(), renamed.etag.as_deref()), (Some("p"), Some("\"2\"")));
    assert_eq!(plant.run("p").await["connection"], "p");
    let e = plant.refused("connections.create", json!({"name": "q", "from": "nobody", "dest": "copy"})).await;
    assert_eq!(e.kind(), ErrorKind::NotFound);
    let e = plant.refused("connections.create", json!({"name": "q", "from": "shop", "dest": "copy", "strems": "x"})).await;
    assert_eq!(e.suggested_fix(), Some("did you mean \"streams\"?"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_into_the_lake_by_its_url() {
    let Some(database) = linkspan_testkit::servers::TestDatabase::create().await else { return };
    database.execute("create table leads (id bigint primary key, name text); insert into leads select n, 'lead ' || n from generate_series(1, 300) n").await;
    let plant = Plant::new().await;
    plant.connector("pg", "postgresql", json!({"url": database.url})).await;
    plant.local("connections.create", json!({"name": "l", "from": "pg", "streams": "leads", "dest": "lake:leads"})).await;
    let run = plant.run("l").await;
    assert_eq!((run["status"].as_str(), run["rows_written"].as_u64()), (Some("completed"), Some(300)), "{run}");
    let text = plant.log(run["id"].as_str().unwrap()).await.iter().map(Value::to_string).collect::<String>();
    assert!(!text.contains("linkspan-Secret_1"), "no password in a log");
}

/// The dispatcher looks at the queue whenever it is woken, also while the claim of a run that it started is on its way to disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_is_started_once_however_often_the_queue_is_looked_at() {
    const RUNS: u64 = 16;
    let plant = Plant::with(Settings { runs_at_once: 8, ..Settings::default() }).await;
    plant.shop(5).await;
    let app = plant.rig.app.clone();
    let storm = tokio::spawn(async move {
        loop {
            app.desk.wake();
            tokio::task::yield_now().await;
        }
    });
    let mut runs = Vec::new();
    for n in 0..RUNS {
        let name = format!("c{n}");
        plant.local("connections.create", json!({"name": name, "from": "shop", "streams": "orders", "dest": format!("copy:t{n}")})).await;
        runs.push(plant.local("connections.run", json!({"connection": name})).await);
    }
    for run in runs {
        assert_eq!(plant.over(run["id"].as_str().unwrap()).await["status"], "completed");
    }
    storm.abort();
    while !plant.rig.app.desk.all_going().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sums = plant.rig.app.desk.sums();
    assert_eq!((sums.begun, sums.ended.get("completed").copied(), sums.written), (RUNS, Some(RUNS), RUNS * 5), "{sums:?}");
}
