//! Where secrets rest, and that they are nowhere else.

use linkspan_app::{
    App, CallContext, Mode, Settings, connectors,
    secrets::{Key, VaultServer},
};
use linkspan_core::{ErrorKind, Secret};
use serde_json::{Value, json};

use crate::{
    kv2::{self, Kv2},
    rig::{Rig, Shifted, kind, open, types},
};

const SECRET: &str = "wrong-canary-7d1f/é+\"x\"";

fn spellings() -> Vec<String> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let percent: String = SECRET
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'-' { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect();
    let hex: String = SECRET.bytes().map(|b| format!("{b:02x}")).collect();
    let json = serde_json::to_string(SECRET).unwrap();
    let basic = BASE64_STANDARD.encode(format!("user:{SECRET}"));
    vec![SECRET.into(), percent, hex, json.trim_matches('"').into(), BASE64_STANDARD.encode(SECRET), basic]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_secret_is_in_no_answer_no_trail_and_no_file() {
    let rig = Rig::real().await;
    let keyed = CallContext { idempotency_key: Some("k".into()), ..CallContext::local() };
    let body = json!({"name": "v", "type": "vendor", "config": {"api_key": SECRET, "host": "h"}});
    let mut said: Vec<Value> = vec![rig.call(&keyed, "connectors.create", body.clone()).await.unwrap().body];
    said.push(rig.call(&keyed, "connectors.create", body.clone()).await.unwrap().body);
    let unsaved = json!({"type": "vendor", "config": body["config"]});
    said.push(rig.local("connectors.test_unsaved", unsaved).await);
    for (name, input) in [
        ("connectors.show", json!({"connector": "v"})),
        ("connectors.list", json!({})),
        ("connectors.test", json!({"connector": "v"})),
        ("connectors.update", json!({"connector": "v", "description": "x", "config": {"host": "i"}})),
        ("connectors.test", json!({"connector": "v"})),
        ("connectors.tests", json!({"connector": "v"})),
        ("connectors.health", json!({"connector": "v"})),
        ("audit.list", json!({"all_projects": true})),
    ] {
        said.push(rig.local(name, input).await);
    }
    let local = CallContext::local();
    let errors = [
        rig.refused(&local, "connectors.discover", json!({"connector": "v"})).await,
        rig.refused(&local, "connectors.update", json!({"connector": "v", "config": {"host": {"x": SECRET}}})).await,
        rig.refused(&local, "connectors.create", json!({"name": "w", "type": "vendor", "config": {"api_kye": SECRET}})).await,
        rig.refused(&local, "connectors.create", json!({"name": "w", "type": "vendor", "config": {"api_key": [SECRET]}})).await,
    ];
    said.extend(errors.iter().flat_map(|e| [e.to_json(), format!("{e:?}").into()]));
    assert!(said.iter().any(|s| s.to_string().contains("REDACTED")));
    for spelling in spellings() {
        for text in &said {
            assert!(!text.to_string().contains(&spelling), "{spelling} in {text}");
        }
        assert!(!rig.files_hold(&spelling), "{spelling} in a file");
    }
    assert_eq!(connectors::opened(&rig.app, "default", "v").await.unwrap().endpoint.config()["api_key"], SECRET, "and yet it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_or_replaced_secret_leaves_no_ciphertext() {
    let rig = Rig::real().await;
    let made = rig.local("connectors.create", json!({"name": "v", "type": "vendor", "config": {"api_key": SECRET}})).await;
    let id = made["id"].as_str().unwrap().parse().unwrap();
    let token = async || rig.app.store.sealed(id).await.unwrap().unwrap().token;
    let first = token().await;
    assert!(rig.files_hold(&first));
    rig.local("connectors.credentials", json!({"connector": "v", "api_key": "good-key-0123456789"})).await;
    let second = token().await;
    assert_eq!((rig.files_hold(&first), rig.files_hold(&second)), (false, true));
    rig.local("connectors.delete", json!({"connector": "v"})).await;
    assert!(!rig.files_hold(&second));
}

async fn reopened(rig: &Rig, encryption_key: &str) -> std::sync::Arc<App> {
    let settings = Settings { encryption_key: Some(Secret::new(encryption_key)), ..Settings::default() };
    open(rig.dir.path(), Shifted::default().into(), types(), settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_secret_marks_its_connector_and_is_replaced() {
    let settings = Settings { encryption_key: Some(Secret::new(Key::generate().unwrap().expose().as_str())), ..Settings::default() };
    let mut rig = Rig::with(types(), settings).await;
    let body = json!({"name": "v", "type": "vendor", "config": {"api_key": "good-key-0123456789"}});
    rig.local("connectors.create", body).await;
    rig.app = reopened(&rig, &Key::generate().unwrap().expose()).await;
    let local = CallContext::local();
    let e = rig.refused(&local, "connectors.test", json!({"connector": "v"})).await;
    assert_eq!(kind(&e), ErrorKind::DataInvalid);
    assert!(e.suggested_fix().unwrap().contains("CONNECTOR_ENCRYPTION_KEY"), "{e:?}");
    assert_eq!(rig.local("connectors.list", json!({})).await["connectors"][0]["status"], "credential_unreadable");
    assert_eq!(connectors::check_all(&rig.app, std::time::Duration::ZERO).await.unwrap(), 1);
    assert_eq!(rig.local("connectors.health", json!({"connector": "v"})).await["status"], "credential_unreadable");
    let half = rig.refused(&local, "connectors.update", json!({"connector": "v", "config": {"host": "x"}})).await;
    assert_eq!(kind(&half), ErrorKind::DataInvalid);
    // What has no secret can still be changed, and a new connector can still be made.
    rig.local("connectors.update", json!({"connector": "v", "description": "d"})).await;
    rig.local("connectors.create", json!({"name": "w", "type": "vendor", "config": {"api_key": "good-key-0123456789"}})).await;
    rig.local("connectors.credentials", json!({"connector": "v", "api_key": "good-key-0123456789"})).await;
    assert_eq!(rig.local("connectors.test", json!({"connector": "v"})).await["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_moved_to_another_connector_opens_nothing() {
    let rig = Rig::real().await;
    for name in ["a", "b"] {
        rig.local(
            "connectors.create",
            json!({"name": name, "type": "vendor", "config": {"api_key": format!("good-key-{name}-0123456789")}}),
        )
        .await;
    }
    let ids: Vec<uuid::Uuid> = futures::future::join_all(["a", "b"].map(|n| rig.local("connectors.show", json!({"connector": n}))))
        .await
        .iter()
        .map(|c| c["id"].as_str().unwrap().parse().unwrap())
        .collect();
    let (of_a, of_b) = (rig.app.store.sealed(ids[0]).await.unwrap().unwrap(), rig.app.store.sealed(ids[1]).await.unwrap().unwrap());
    let moved = linkspan_store::Edit::Turn { id: ids[1], was: of_b.token, secret: of_a };
    rig.app.store.change(linkspan_store::Change::new(1).edit(moved)).await.unwrap();
    let e = rig.refused(&CallContext::local(), "connectors.test", json!({"connector": "b"})).await;
    assert_eq!(kind(&e), ErrorKind::DataInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn production_wants_a_key_and_a_key_given_later_still_opens_what_the_file_sealed() {
    let mut rig = Rig::real().await;
    rig.local("connectors.create", json!({"name": "v", "type": "vendor", "config": {"api_key": "good-key-0123456789"}})).await;
    let production = Settings { mode: Mode::Production, ..Settings::default() };
    let dir = tempfile::tempdir().unwrap();
    let e = open(dir.path(), Shifted::default().into(), types(), production).await.err().unwrap();
    assert_eq!(kind(&e), ErrorKind::ConfigInvalid);
    assert!(e.context().iter().any(|(_, v)| v == "CONNECTOR_ENCRYPTION_KEY"));
    rig.app = reopened(&rig, &Key::generate().unwrap().expose()).await;
    assert_eq!(rig.local("connectors.test", json!({"connector": "v"})).await["ok"], true);
}

fn at(vault: &Kv2, namespace: Option<&str>) -> Settings {
    let server = VaultServer { address: vault.address.clone(), token: Secret::new(kv2::TOKEN), namespace: namespace.map(str::to_owned) };
    Settings { vault: Some(server), ..Settings::default() }
}

fn of(reference: &str) -> Value {
    json!({"name": "v", "type": "vendor", "config": {"api_key": reference}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_is_shown_and_read_anew_each_time_it_is_used() {
    let vault = Kv2::start().await;
    vault.write("", "kv", "shop/db", &json!({"key": "good-key-1-0123456789", "other": 7}));
    let rig = Rig::with(types(), at(&vault, None)).await;
    let made = rig.local("connectors.create", of("vault://kv/shop/db#key")).await;
    assert_eq!((&made["config"]["api_key"], &made["status"]), (&json!("vault://kv/shop/db#key"), &json!("unknown")));
    assert_eq!(vault.asked(), 0, "creating asks nobody");
    assert_eq!(rig.local("connectors.test", json!({"connector": "v"})).await["ok"], true);
    let used = connectors::opened(&rig.app, "default", "v").await.unwrap();
    assert_eq!(used.endpoint.config()["api_key"], "good-key-1-0123456789");
    vault.write("", "kv", "shop/db", &json!({"key": "good-key-2-0123456789"}));
    let used = connectors::opened(&rig.app, "default", "v").await.unwrap();
    assert_eq!(used.endpoint.config()["api_key"], "good-key-2-0123456789", "nothing of it is kept");
    assert!(!rig.files_hold("good-key-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_comes_back_is_asked_again_and_one_that_refuses_is_not() {
    let vault = Kv2::start().await;
    vault.write("team", "kv", "shop/db", &json!({"key": "good-key-1-0123456789", "empty": ""}));
    vault.write("team", "kv", "locked/db", &json!({"key": "good-key-1-0123456789"}));
    let rig = Rig::with(types(), at(&vault, Some("team"))).await;
    rig.local("connectors.create", of("vault://kv/shop/db#key")).await;
    let test = async |reference: &str| {
        let (before, body) = (vault.asked(), json!({"type": "vendor", "config": {"api_key": reference}}));
        let e = rig.refused(&CallContext::local(), "connectors.test_unsaved", body).await;
        let named = e.context().iter().any(|(k, v)| *k == "reference" && v == reference);
        assert!(named && e.suggested_fix().is_some() && !format!("{e:?}").contains(kv2::TOKEN), "{e:?}");
        (e.kind(), vault.asked() - before)
    };
    vault.fail(2);
    assert_eq!(rig.local("connectors.test", json!({"connector": "v"})).await["ok"], true);
    assert_eq!(vault.asked(), 3);
    vault.seal(true);
    assert_eq!(test("vault://kv/shop/db#key").await, (ErrorKind::Unavailable, 3));
    vault.seal(false);
    vault.standby(true);
    assert_eq!(test("vault://kv/shop/db#key").await, (ErrorKind::ConfigInvalid, 1));
    vault.standby(false);
    assert_eq!(test("vault://kv/locked/db#key").await, (ErrorKind::PermissionDenied, 1));
    assert_eq!(test("vault://kv/gone/db#key").await, (ErrorKind::NotFound, 1));
    assert_eq!(test("vault://kv/shop/db#nothing").await, (ErrorKind::NotFound, 1));
    assert_eq!(test("vault://kv/shop/db#empty").await, (ErrorKind::DataInvalid, 1), "an empty secret is none");
    vault.delete("team", "kv", "shop/db");
    assert_eq!(test("vault://kv/shop/db#key").await, (ErrorKind::NotFound, 1));
    vault.silent(true);
    let began = std::time::Instant::now();
    assert_eq!(test("vault://kv/shop/db#key").await, (ErrorKind::Timeout, 3));
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
    // Another namespace is another vault.
    let vault = Kv2::start().await;
    vault.write("team", "kv", "shop/db", &json!({"key": "good-key-1-0123456789"}));
    let rig = Rig::with(types(), at(&vault, None)).await;
    let body = json!({"type": "vendor", "config": {"api_key": "vault://kv/shop/db#key"}});
    assert_eq!(kind(&rig.refused(&CallContext::local(), "connectors.test_unsaved", body).await), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_may_lie_in_a_file_or_a_variable_and_an_empty_one_is_none() {
    let rig = Rig::real().await;
    let secrets = rig.dir.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("vendor"), "good-key-0123456789\n").unwrap();
    std::fs::write(secrets.join("empty"), "\n").unwrap();
    rig.local("connectors.create", of("file://vendor")).await;
    assert_eq!(rig.local("connectors.test", json!({"connector": "v"})).await["ok"], true);
    for (reference, expected) in [
        ("env://LINKSPAN_SECRET_NOT_SET", ErrorKind::NotFound),
        ("file://gone", ErrorKind::NotFound),
        ("file://empty", ErrorKind::DataInvalid),
        ("vault://kv/shop/db#key", ErrorKind::ConfigInvalid),
    ] {
        rig.local("connectors.credentials", json!({"connector": "v", "api_key": reference})).await;
        let e = rig.refused(&CallContext::local(), "connectors.test", json!({"connector": "v"})).await;
        assert!(e.kind() == expected && e.context().iter().any(|(k, v)| *k == "reference" && v == reference), "{e:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_admin_names_no_other_projects_secrets() {
    let rig = Rig::real().await;
    let token = rig.user("ada@example.com", "admin").await;
    let ada = rig.bearer(&token).await.unwrap();
    let body = |reference: &str| json!({"name": "v", "type": "vendor", "config": {"api_key": reference, "host": "evil"}});
    for foreign in ["file://other/pw", "file://pw", "env://LINKSPAN_SECRET_OTHER_PW", "vault://kv/other/db#pw"] {
        assert_eq!(kind(&rig.refused(&ada, "connectors.create", body(foreign)).await), ErrorKind::PermissionDenied, "{foreign}");
        let unsaved = json!({"type": "vendor", "config": {"api_key": foreign}});
        assert_eq!(kind(&rig.refused(&ada, "connectors.test_unsaved", unsaved).await), ErrorKind::PermissionDenied);
    }
    rig.call(&ada, "connectors.create", body("file://default/pw")).await.unwrap();
    let moved = json!({"connector": "v", "api_key": "file://other/pw"});
    assert_eq!(kind(&rig.refused(&ada, "connectors.credentials", moved.clone()).await), ErrorKind::PermissionDenied);
    rig.local("connectors.credentials", moved).await;
    // What an admin of the installation wrote may stay when others change the rest.
    let kept = json!({"connector": "v", "config": {"api_key": "file://other/pw"}, "description": "d"});
    rig.call(&ada, "connectors.update", kept).await.unwrap();
    let moved = json!({"connector": "v", "config": {"host": "worse"}});
    assert_eq!(kind(&rig.refused(&ada, "connectors.update", moved).await), ErrorKind::PermissionDenied);
}
