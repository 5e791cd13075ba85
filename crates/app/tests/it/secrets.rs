//! Where secrets rest, and that they are nowhere else.

use linkspan_app::{App, CallContext, Mode, Settings, connectors, secrets::Key};
use linkspan_core::{ErrorKind, Secret};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::rig::{Rig, Shifted, kind, open, types};

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

/// One KV version 2 answer, as the vendor documents it.
async fn vault_that_answers(status: &'static str, body: Value) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let body = body.to_string();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    (address, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_is_shown_read_when_used_and_named_when_it_fails() {
    let body = json!({"data": {"data": {"key": "good-key-0123456789"}, "metadata": {"version": 3}}});
    let (address, heard) = vault_that_answers("200 OK", body).await;
    let server = |address: &str| linkspan_app::secrets::VaultServer {
        address: address.into(),
        token: Secret::new("s.vault-token"),
        namespace: None,
    };
    let rig = Rig::with(types(), Settings { vault: Some(server(&address)), ..Settings::default() }).await;
    let made =
        rig.local("connectors.create", json!({"name": "v", "type": "vendor", "config": {"api_key": "vault://kv/shop/db#key"}})).await;
    assert_eq!((&made["config"]["api_key"], &made["status"]), (&json!("vault://kv/shop/db#key"), &json!("unknown")));
    assert_eq!(rig.local("connectors.test", json!({"connector": "v"})).await["ok"], true);
    let head = heard.await.unwrap().to_lowercase();
    assert!(head.starts_with("get /v1/kv/data/shop/db http/1.1") && head.contains("x-vault-token: s.vault-token"), "{head}");
    // The vault is gone now.
    let e = rig.refused(&CallContext::local(), "connectors.test", json!({"connector": "v"})).await;
    assert!(e.context().iter().any(|(k, v)| *k == "reference" && v == "vault://kv/shop/db#key"), "{e:?}");

    for (status, body, expected) in [
        ("403 Forbidden", json!({"errors": ["permission denied"]}), ErrorKind::PermissionDenied),
        ("404 Not Found", json!({"errors": []}), ErrorKind::NotFound),
        ("503 Service Unavailable", json!({"errors": ["sealed"]}), ErrorKind::Unavailable),
        ("200 OK", json!({"data": {"data": {"other": "x"}}}), ErrorKind::NotFound),
    ] {
        let (address, _heard) = vault_that_answers(status, body).await;
        let rig = Rig::with(types(), Settings { vault: Some(server(&address)), ..Settings::default() }).await;
        let unsaved = json!({"type": "vendor", "config": {"api_key": "vault://kv/shop/db#key"}});
        let e = rig.refused(&CallContext::local(), "connectors.test_unsaved", unsaved).await;
        assert_eq!(kind(&e), expected, "{status}");
    }

    let secrets = rig.dir.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("vendor"), "good-key-0123456789\n").unwrap();
    rig.local("connectors.credentials", json!({"connector": "v", "api_key": "file://vendor"})).await;
    assert_eq!(rig.local("connectors.test", json!({"connector": "v"})).await["ok"], true);
    rig.local("connectors.credentials", json!({"connector": "v", "api_key": "env://LINKSPAN_SECRET_NOT_SET"})).await;
    let e = rig.refused(&CallContext::local(), "connectors.test", json!({"connector": "v"})).await;
    assert_eq!(kind(&e), ErrorKind::NotFound);
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
