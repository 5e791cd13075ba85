//! Connectors over a real store: what is kept, what is refused, what is remembered.

use std::time::Duration;

use linkspan_app::{CallContext, Caller, CallerKind, LocalFiles, Reach, Role, Settings, connectors};
use linkspan_core::ErrorKind;
use serde_json::{Value, json};

use crate::rig::{Rig, kind, types};

const MASK: &str = "***REDACTED***";

fn vendor(name: &str, key: &str) -> Value {
    json!({"name": name, "type": "vendor", "config": {"api_key": key, "host": "h"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_taken_once_and_some_names_never() {
    let rig = Rig::real().await;
    let local = CallContext::local();
    rig.local("connectors.create", vendor("a", "good-key-0123456789")).await;
    assert_eq!(kind(&rig.refused(&local, "connectors.create", vendor("a", "good-key-0123456789")).await), ErrorKind::AlreadyExists);
    let id = uuid::Uuid::now_v7().to_string();
    for name in ["", " a", "catalog", "test", "a/b", "a:b", "a\nb", id.as_str(), &"x".repeat(201)] {
        assert_eq!(
            kind(&rig.refused(&local, "connectors.create", vendor(name, "good-key-0123456789")).await),
            ErrorKind::ConfigInvalid,
            "{name:?}"
        );
    }
    for config in [
        json!({"api_key": MASK}),
        json!({"api_key": "k", "hots": "x"}),
        json!({"api_key": "k", "host": 7}),
        json!({"api_key": "env://PATH"}),
    ] {
        let e = rig.refused(&local, "connectors.create", json!({"name": "b", "type": "vendor", "config": config})).await;
        assert_eq!(kind(&e), ErrorKind::ConfigInvalid);
    }
    let typo = rig.refused(&local, "connectors.create", json!({"name": "b", "type": "postgrsql"})).await;
    assert!(typo.suggested_fix().unwrap().contains("postgresql"));
    let there = CallContext::new(Caller::local(), "other");
    rig.local("projects.create", json!({"name": "other"})).await;
    let made = rig.call(&there, "connectors.create", vendor("a", "good-key-0123456789")).await.unwrap().body;
    for name in [
        "connectors.show",
        "connectors.delete",
        "connectors.test",
        "connectors.discover",
        "connectors.tests",
        "connectors.health",
        "connectors.enable",
    ] {
        assert_eq!(kind(&rig.refused(&local, name, json!({"connector": made["id"]})).await), ErrorKind::NotFound, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_merges_and_a_mask_that_comes_back_keeps_the_secret() {
    let rig = Rig::real().await;
    let made = rig.local("connectors.create", vendor("v", "good-key-0123456789")).await;
    let key = |config: &Value| config["api_key"].as_str().unwrap().to_owned();
    let opened = async || {
        let opened = connectors::opened(&rig.app, "default", "v").await.unwrap();
        opened.endpoint.config().clone()
    };
    // What was read is sent back whole, as a form does.
    let same = rig.local("connectors.update", json!({"connector": "v", "config": made["config"]})).await;
    assert_eq!((&same, key(&opened().await).as_str()), (&made, "good-key-0123456789"));
    let moved =
        rig.local("connectors.update", json!({"connector": "v", "config": {"api_key": MASK, "host": "i"}, "description": "d"})).await;
    assert_eq!((&moved["config"]["host"], &moved["description"]), (&json!("i"), &json!("d")));
    assert_eq!(key(&opened().await), "good-key-0123456789");
    rig.local("connectors.update", json!({"connector": "v", "config": {"host": null}, "description": null})).await;
    assert_eq!(opened().await, json!({"api_key": "good-key-0123456789"}));
    rig.local("connectors.update", json!({"connector": "v", "config": {"api_key": "other-key-0123456789"}})).await;
    assert_eq!(key(&opened().await), "other-key-0123456789");
    let local = CallContext::local();
    let bad = rig.refused(&local, "connectors.update", json!({"connector": "v", "config": {"api_key": format!("{MASK}!")}})).await;
    assert_eq!(kind(&bad), ErrorKind::ConfigInvalid);
    for assigned in [
        json!({"connector": "v", "id": "x"}),
        json!({"connector": "v", "project": "x"}),
        json!({"connector": "v", "created_at": "x"}),
        json!({"connector": "v", "type": "csv"}),
    ] {
        assert_eq!(kind(&rig.refused(&local, "connectors.update", assigned).await), ErrorKind::ConfigInvalid);
    }
    // Without the credentials a required one is missing again.
    let empty = rig.local("connectors.update", json!({"connector": "v", "config": {"api_key": null}})).await;
    assert_eq!(empty["status"], "needs_credentials");
    let stale = CallContext { if_match: Some("\"1\"".into()), ..CallContext::local() };
    assert_eq!(kind(&rig.refused(&stale, "connectors.update", json!({"connector": "v", "enabled": false})).await), ErrorKind::Conflict);
    assert_eq!(kind(&rig.refused(&stale, "connectors.delete", json!({"connector": "v"})).await), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_touch_secrets_cannot_send_one_elsewhere() {
    let rig = Rig::real().await;
    rig.local("connectors.create", vendor("v", "good-key-0123456789")).await;
    let caller = Caller {
        kind: CallerKind::Key,
        role: Some(Role::Admin),
        reach: Reach::Project,
        scopes: Some(vec!["connectors:write".into(), "connectors:read".into()]),
        ..Caller::local()
    };
    let limited = CallContext::new(caller, "default");
    let e = rig.refused(&limited, "connectors.update", json!({"connector": "v", "config": {"host": "evil"}})).await;
    assert_eq!(kind(&e), ErrorKind::PermissionDenied);
    rig.call(&limited, "connectors.update", json!({"connector": "v", "enabled": false})).await.unwrap();
    let whole = json!({"connector": "v", "config": {"host": "evil", "api_key": "their-own-0123456789"}});
    rig.call(&limited, "connectors.update", whole).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_creation_makes_one_and_a_race_of_many_makes_one() {
    let rig = Rig::real().await;
    let keyed = CallContext { idempotency_key: Some("k".into()), ..CallContext::local() };
    let body = vendor("v", "good-key-0123456789");
    let same = (0..8).map(|_| rig.call(&keyed, "connectors.create", body.clone()));
    let done: Vec<_> = futures::future::join_all(same).await.into_iter().map(|r| r.unwrap().body["id"].clone()).collect();
    assert!(done.iter().all(|id| *id == done[0]));
    let other = rig.refused(&keyed, "connectors.create", vendor("v", "other-key-0123456789")).await;
    assert_eq!(kind(&other), ErrorKind::Conflict);
    let local = CallContext::local();
    let patches = (0..10).map(|n| rig.call(&local, "connectors.update", json!({"connector": "v", "description": n.to_string()})));
    assert!(futures::future::join_all(patches).await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_kept_and_makes_the_health() {
    let rig = Rig::real().await;
    rig.local("connectors.create", vendor("v", "good-key-0123456789")).await;
    assert_eq!(rig.local("connectors.health", json!({"connector": "v"})).await["status"], "unknown");
    assert_eq!(rig.local("connectors.test", json!({"connector": "v"})).await["ok"], true);
    let healthy = rig.local("connectors.show", json!({"connector": "v"})).await;
    assert_eq!(healthy["status"], "healthy");
    assert!(healthy["last_check"].is_string());
    // A new config: what was seen of the old one does not count.
    let changed = rig.local("connectors.update", json!({"connector": "v", "config": {"api_key": "wrong-key-9876543210"}})).await;
    assert_eq!(changed["status"], "unknown");
    for expected in ["unhealthy", "unhealthy"] {
        let tested = rig.local("connectors.test", json!({"connector": "v"})).await;
        assert_eq!((&tested["ok"], &tested["status"]), (&json!(false), &json!("failed")));
        assert!(!tested.to_string().contains("wrong-key-9876543210"), "{tested}");
        assert_eq!(rig.local("connectors.show", json!({"connector": "v"})).await["status"], expected);
    }
    let health = rig.local("connectors.health", json!({"connector": "v"})).await;
    assert_eq!(health["error"]["kind"], "auth_failed");
    let tests = rig.local("connectors.tests", json!({"connector": "v", "limit": 2})).await;
    assert_eq!(tests["tests"].as_array().unwrap().iter().map(|t| t["ok"].clone()).collect::<Vec<_>>(), [json!(false), json!(false)]);
    let rest = rig.local("connectors.tests", json!({"connector": "v", "cursor": tests["next_cursor"]})).await;
    assert_eq!((&rest["tests"][0]["ok"], rest["tests"].as_array().unwrap().len()), (&json!(true), 1));
    let trail = rig.local("audit.list", json!({"about": healthy["id"]})).await;
    let used = trail["entries"].as_array().unwrap().iter().filter(|e| e["secret"] == "used").count();
    assert_eq!(used, 3, "every use of a secret is in the trail");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_elsewhere_that_cannot_be_read_is_seen_in_the_health() {
    let rig = Rig::real().await;
    rig.local("connectors.create", vendor("v", "file://no-such-secret")).await;
    assert_eq!(connectors::check_all(&rig.app, Duration::from_secs(3600)).await.unwrap(), 1);
    let health = rig.local("connectors.health", json!({"connector": "v"})).await;
    assert_eq!(
        (&health["status"], &health["error"]["context"]["reference"]),
        (&json!("unhealthy"), &json!("file://no-such-secret")),
        "{health}"
    );
    assert!(health["error"]["suggested_fix"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_background_checks_whom_it_may_and_no_more_often_than_asked() {
    let rig = Rig::real().await;
    rig.local("connectors.create", vendor("good", "good-key-0123456789")).await;
    rig.local("connectors.create", vendor("bad", "wrong-key-9876543210")).await;
    rig.local("connectors.create", json!({"name": "waiting", "type": "vendor"})).await;
    rig.local("connectors.create", vendor("off", "good-key-0123456789")).await;
    rig.local("connectors.disable", json!({"connector": "off"})).await;
    let pulled =
        json!({"name": "pulled", "type": "postgresql", "config": {"host": "127.0.0.1", "port": 1, "username": "u"}, "query": "select 1"});
    rig.local("connectors.create", pulled).await;
    let hour = Duration::from_secs(3600);
    assert_eq!(connectors::check_all(&rig.app, hour).await.unwrap(), 2);
    let all = rig.local("connectors.list", json!({})).await;
    let of = |name: &str| {
        all["connectors"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap()["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        [of("good"), of("bad"), of("waiting"), of("off"), of("pulled")],
        ["healthy", "unhealthy", "needs_credentials", "unknown", "unknown"]
    );
    assert_eq!(connectors::check_all(&rig.app, hour).await.unwrap(), 0);
    rig.clock.forward(hour + Duration::from_secs(1));
    assert_eq!(connectors::check_all(&rig.app, hour).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_remembered_for_an_hour() {
    let rig = Rig::real().await;
    let path = rig.dir.path().join("shop.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("create table a (id integer primary key, name text)").unwrap();
    rig.local("connectors.create", json!({"name": "shop", "type": "sqlite", "config": {"path": path}})).await;
    let found = rig.local("connectors.discover", json!({"connector": "shop"})).await;
    assert_eq!((&found["cached"], &found["streams"][0]["name"], &found["streams"][0]["key"]), (&json!(false), &json!("a"), &json!(["id"])));
    db.execute_batch("create table b (id integer primary key)").unwrap();
    let count = async |input: Value| rig.local("connectors.discover", input).await["streams"].as_array().unwrap().len();
    assert_eq!(count(json!({"connector": "shop"})).await, 1);
    assert_eq!(count(json!({"connector": "shop", "refresh": true})).await, 2);
    assert_eq!(rig.local("connectors.models", json!({"connector": "shop"})).await["models"][1]["name"], "b");
    db.execute_batch("create table c (id integer primary key)").unwrap();
    rig.clock.forward(Duration::from_secs(3601));
    assert_eq!(count(json!({"connector": "shop"})).await, 3);
    rig.local("connectors.disable", json!({"connector": "shop"})).await;
    let e = rig.refused(&CallContext::local(), "connectors.discover", json!({"connector": "shop"})).await;
    assert_eq!(kind(&e), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_schemas_limit_what_is_discovered() {
    let rig = Rig::real().await;
    let Some(url) = crate::rig::postgres("output_schemas_limit_what_is_discovered") else { return };
    let config = json!({"url": url, "sslmode": "disable"});
    let both = json!({"name": "pg", "type": "postgresql", "config": config, "output_schemas": ["pg_catalog"]});
    rig.local("connectors.create", both).await;
    let found = rig.local("connectors.discover", json!({"connector": "pg"})).await;
    let streams = found["streams"].as_array().unwrap();
    assert!(streams.iter().all(|s| s["namespace"] == "pg_catalog"), "{streams:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_connector_reads_no_file_outside_of_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let files = root.path().canonicalize().unwrap().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("in.csv"), "id\n1\n").unwrap();
    std::fs::write(root.path().join("out.csv"), "id\n1\n").unwrap();
    let rig = Rig::with(types(), Settings { files: LocalFiles::Under(files), ..Settings::default() }).await;
    for path in [root.path().join("out.csv").display().to_string(), "../out.csv".into(), "/etc/passwd".into()] {
        let body = json!({"name": "c", "type": "csv", "config": {"path": path}});
        assert_eq!(kind(&rig.refused(&CallContext::local(), "connectors.create", body.clone()).await), ErrorKind::PermissionDenied);
        assert_eq!(kind(&rig.refused(&CallContext::local(), "connectors.test_unsaved", body).await), ErrorKind::PermissionDenied);
    }
    rig.local("connectors.create", json!({"name": "c", "type": "csv", "config": {"path": "in.csv"}})).await;
    let found = rig.local("connectors.discover", json!({"connector": "c"})).await;
    assert_eq!(found["streams"].as_array().unwrap().len(), 1, "{found}");
}
