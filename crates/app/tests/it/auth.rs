//! Who may come in, and what they may do.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use linkspan_app::{Access, CallContext, Caller, CallerKind, Reach, Role, Settings, operations, registry::Registry};
use linkspan_core::{ErrorKind, Secret};
use serde_json::{Value, json};

use crate::rig::{Rig, Shifted, kind, open};

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_key_is_made_for_its_user_only_and_opens_the_installation() {
    let rig = Rig::new().await;
    let file = rig.dir.path().join("admin.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let key = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let context = rig.bearer(&key).await.unwrap();
    assert_eq!((context.caller.reach, context.project.as_str()), (Reach::Installation, "default"));
    assert!(rig.headers(&[("x-api-key", &key)]).await.is_ok());
    let elsewhere = rig.headers(&[("x-api-key", &key), ("linkspan-project", "nowhere")]).await.unwrap_err();
    assert_eq!(kind(&elsewhere), ErrorKind::NotFound);
    for wrong in [
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", "Basic YTpi")],
        vec![("authorization", "Bearer ")],
        vec![("authorization", key.as_str())],
        vec![("x-api-key", "lk_dev_0_0")],
        vec![("x-api-key", &key[..key.len() - 1])],
        vec![("x-api-key", &key), ("authorization", "Bearer other")],
    ] {
        assert_eq!(kind(&rig.headers(&wrong).await.unwrap_err()), ErrorKind::AuthFailed, "{wrong:?}");
    }
    let twice = format!("Bearer {key}");
    let e = rig.headers(&[("authorization", &twice), ("authorization", &twice)]).await.unwrap_err();
    assert_eq!(kind(&e), ErrorKind::ConfigInvalid);
    assert_eq!(rig.headers(&[]).await.unwrap().caller.kind, CallerKind::Anonymous);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_admin_key_takes_the_files_place_and_a_short_one_is_refused() {
    let given = |key: &str| Settings { admin_key: Some(Secret::new(key)), ..Settings::default() };
    let long = "0123456789abcdef0123456789abcdef";
    let rig = Rig::with(Registry::of(vec![]), given(long)).await;
    assert!(rig.bearer(long).await.is_ok());
    assert!(!rig.dir.path().join("admin.key").exists());
    let dir = tempfile::tempdir().unwrap();
    let short = open(dir.path(), Shifted::default().into(), Registry::of(vec![]), given("short")).await.err().unwrap();
    assert_eq!(kind(&short), ErrorKind::ConfigInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_and_every_end_of_a_session_is_felt_at_once() {
    let rig = Rig::new().await;
    let token = rig.user("Ada@Example.com", "operator").await;
    let ada = rig.bearer(&token).await.unwrap();
    assert_eq!((ada.caller.role, ada.caller.name.as_str()), (Some(Role::Operator), "ada@example.com"));
    let me = rig.call(&ada, "auth.me", json!({})).await.unwrap().body;
    assert_eq!((&me["kind"], &me["role"], &me["installation"]), (&json!("user"), &json!("operator"), &json!(false)));
    assert_eq!(kind(&rig.refused(&ada, "users.list", json!({})).await), ErrorKind::PermissionDenied);

    // A new role counts for the session that is open.
    rig.local("users.update", json!({"user": "ada@example.com", "roles": {"default": "admin"}})).await;
    assert_eq!(rig.bearer(&token).await.unwrap().caller.role, Some(Role::Admin));
    // A new password ends it.
    let wrong = json!({"current": "not this one", "new": "battery staple"});
    assert_eq!(kind(&rig.refused(&ada, "auth.password", wrong).await), ErrorKind::AuthFailed);
    let changed = json!({"current": "correct horse", "new": "battery staple"});
    let fresh = rig.call(&ada, "auth.password", changed).await.unwrap().body["token"].as_str().unwrap().to_owned();
    assert_eq!(kind(&rig.bearer(&token).await.unwrap_err()), ErrorKind::AuthFailed);
    let ada = rig.bearer(&fresh).await.unwrap();
    rig.call(&ada, "auth.logout", json!({})).await.unwrap();
    assert!(rig.bearer(&fresh).await.is_err());
    let again = rig.login("ada@example.com", "battery staple").await.unwrap();
    rig.local("users.update", json!({"user": "ada@example.com", "disabled": true})).await;
    assert!(rig.bearer(&again).await.is_err());
    assert_eq!(kind(&rig.login("ada@example.com", "battery staple").await.unwrap_err()), ErrorKind::AuthFailed);
    rig.local("users.update", json!({"user": "ada@example.com", "disabled": false})).await;
    let last = rig.login("ada@example.com", "battery staple").await.unwrap();
    rig.clock.forward(Duration::from_secs(12 * 3600 + 31));
    assert!(rig.bearer(&last).await.is_err(), "sessions end by themselves");
    let fresh = rig.login("ada@example.com", "battery staple").await.unwrap();
    rig.local("users.delete", json!({"user": "ada@example.com"})).await;
    assert!(rig.bearer(&fresh).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guesser_waits_after_ten_and_hears_the_same_for_any_name() {
    let rig = Rig::new().await;
    rig.user("ada@example.com", "viewer").await;
    let said = [rig.login("ada@example.com", "wrong password").await, rig.login("nobody@example.com", "wrong password").await];
    let [a, b] = said.map(|r| r.unwrap_err().to_json());
    assert_eq!(a, b);
    for _ in 0..9 {
        assert_eq!(kind(&rig.login("ada@example.com", "wrong password").await.unwrap_err()), ErrorKind::AuthFailed);
    }
    assert_eq!(kind(&rig.login("ada@example.com", "correct horse").await.unwrap_err()), ErrorKind::RateLimited);
    rig.clock.forward(Duration::from_secs(61));
    assert!(rig.login("ada@example.com", "correct horse").await.is_ok());
    let id = rig.local("users.show", json!({"user": "ada@example.com"})).await["id"].as_str().unwrap().to_owned();
    assert!(rig.login(&id, "correct horse").await.is_err(), "an id is no email");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_shown_once_and_ends_when_it_should() {
    let rig = Rig::new().await;
    let local = CallContext { idempotency_key: Some("k1".into()), ..CallContext::local() };
    let new = json!({"name": "ci", "role": "editor", "scopes": ["connections:*", "syncs:run"], "expires_in_days": 2});
    let made = rig.call(&local, "keys.create", new.clone()).await.unwrap().body;
    let text = made["key"].as_str().unwrap().to_owned();
    assert!(text.starts_with(made["prefix"].as_str().unwrap()) && text.starts_with("lk_dev_"));
    let secret = text.rsplit('_').next().unwrap();
    // The same request again: the same key, not shown again.
    let again = rig.call(&local, "keys.create", new.clone()).await.unwrap().body;
    assert_eq!((&again["id"], &again["key"]), (&made["id"], &json!("***REDACTED***")));
    let other = rig.refused(&local, "keys.create", json!({"name": "cd"})).await;
    assert_eq!(kind(&other), ErrorKind::Conflict);
    assert_eq!(kind(&rig.refused(&CallContext::local(), "keys.create", new).await), ErrorKind::AlreadyExists);
    assert!(!rig.local("keys.list", json!({})).await.to_string().contains(secret));
    assert!(!rig.files_hold(secret));

    let ci = rig.bearer(&text).await.unwrap();
    assert_eq!((ci.caller.role, ci.caller.reach), (Some(Role::Editor), Reach::Project));
    assert_eq!(kind(&rig.refused(&ci, "keys.list", json!({})).await), ErrorKind::PermissionDenied);
    assert!(rig.local("keys.show", json!({"key": "ci"})).await["last_used_at"].is_string());
    let mut bent = text.clone();
    let end = if text.ends_with('0') { "1" } else { "0" };
    bent.replace_range(text.len() - 1.., end);
    assert_eq!(kind(&rig.bearer(&bent).await.unwrap_err()), ErrorKind::AuthFailed);
    rig.clock.forward(Duration::from_secs(2 * 24 * 3600 + 1));
    assert_eq!(kind(&rig.bearer(&text).await.unwrap_err()), ErrorKind::AuthFailed);

    let short = rig.local("keys.create", json!({"name": "short"})).await;
    let text = short["key"].as_str().unwrap();
    assert_eq!(rig.bearer(text).await.unwrap().caller.role, Some(Role::Viewer), "the least role when none is said");
    rig.local("keys.revoke", json!({"key": "short"})).await;
    assert_eq!(kind(&rig.bearer(text).await.unwrap_err()), ErrorKind::AuthFailed);
    for bad in [json!({"name": " "}), json!({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}), json!({"name": "x", "role": "root"})] {
        assert_eq!(kind(&rig.refused(&CallContext::local(), "keys.create", bad).await), ErrorKind::ConfigInvalid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_project_does_not_exist() {
    let rig = Rig::new().await;
    rig.local("projects.create", json!({"name": "other"})).await;
    let token = rig.user("ada@example.com", "admin").await;
    let with =
        |project: &str| [("authorization".to_owned(), format!("Bearer {token}")), ("linkspan-project".to_owned(), project.to_owned())];
    let call = async |project: &str| {
        let headers = with(project);
        let headers: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        rig.headers(&headers).await
    };
    assert_eq!(kind(&call("other").await.unwrap_err()), ErrorKind::NotFound);
    assert_eq!(call("other").await.unwrap_err().to_json(), call("nowhere").await.unwrap_err().to_json());
    let ada = call("default").await.unwrap();
    for (name, input) in [("projects.show", json!({"project": "other"})), ("keys.show", json!({"key": "there"}))] {
        assert_eq!(kind(&rig.refused(&ada, name, input).await), ErrorKind::NotFound);
    }
    assert_eq!(rig.call(&ada, "projects.list", json!({})).await.unwrap().body["projects"].as_array().unwrap().len(), 1);

    // A key of the other project, named by its id from here.
    let there = CallContext::new(Caller::local(), "other");
    let made = rig.call(&there, "keys.create", json!({"name": "there", "role": "admin"})).await.unwrap().body;
    for name in ["keys.show", "keys.revoke"] {
        assert_eq!(kind(&rig.refused(&ada, name, json!({"key": made["id"]})).await), ErrorKind::NotFound);
    }
    let key = made["key"].as_str().unwrap();
    let crossing = rig.headers(&[("x-api-key", key), ("linkspan-project", "default")]).await.unwrap_err();
    assert_eq!(kind(&crossing), ErrorKind::NotFound);

    assert_eq!(kind(&rig.refused(&CallContext::local(), "projects.delete", json!({"project": "other"})).await), ErrorKind::Conflict);
    rig.call(&there, "keys.revoke", json!({"key": made["id"]})).await.unwrap();
    rig.local("users.update", json!({"user": "ada@example.com", "roles": {"other": "admin"}})).await;
    rig.local("projects.delete", json!({"project": "other"})).await;
    rig.local("projects.create", json!({"name": "other"})).await;
    assert_eq!(kind(&call("other").await.unwrap_err()), ErrorKind::NotFound, "a later project inherits nobody");
    assert_eq!(kind(&rig.refused(&CallContext::local(), "projects.delete", json!({"project": "default"})).await), ErrorKind::Conflict);
    rig.local("users.update", json!({"user": "ada@example.com", "roles": {"default": null}})).await;
    assert_eq!(kind(&call("other").await.unwrap_err()), ErrorKind::NotFound, "nor does somebody without any role see it");
    let alone = rig.bearer(&token).await.unwrap();
    assert!(rig.call(&alone, "auth.me", json!({})).await.unwrap().body["role"].is_null());
    assert_eq!(kind(&rig.refused(&alone, "keys.list", json!({})).await), ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_version_changes_nothing_and_a_race_without_one_is_settled() {
    let rig = Rig::new().await;
    rig.user("ada@example.com", "viewer").await;
    let stale = CallContext { if_match: Some("\"7\"".into()), ..CallContext::local() };
    let input = json!({"user": "ada@example.com", "admin": true});
    assert_eq!(kind(&rig.refused(&stale, "users.update", input.clone()).await), ErrorKind::Conflict);
    let context = CallContext::local();
    let roles =
        (0..8).map(|n| rig.call(&context, "users.update", json!({"user": "ada@example.com", "roles": {"default": Role::ALL[n % 4]}})));
    let done = futures::future::join_all(roles).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let etags: std::collections::HashSet<_> = done.into_iter().map(|r| r.unwrap().etag).collect();
    assert_eq!(etags.len(), 8, "each one stands on the one before");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_says_who_did_what_and_holds_no_secret() {
    let rig = Rig::new().await;
    let token = rig.user("ada@example.com", "admin").await;
    let ada = rig.bearer(&token).await.unwrap();
    let made = rig.call(&ada, "keys.create", json!({"name": "ci"})).await.unwrap().body;
    rig.login("ada@example.com", "wrong password").await.unwrap_err();
    let trail = rig.call(&ada, "audit.list", json!({"about": made["id"]})).await.unwrap().body;
    let line = &trail["entries"][0];
    assert_eq!((&line["operation"], &line["by"]["name"], &line["name"]), (&json!("keys.create"), &json!("ada@example.com"), &json!("ci")));
    let all = rig.local("audit.list", json!({"all_projects": true})).await;
    let said: Vec<&Value> = all["entries"].as_array().unwrap().iter().map(|e| &e["outcome"]).collect();
    assert_eq!(said[0], &json!("refused"));
    let text = all.to_string();
    for secret in [made["key"].as_str().unwrap(), "correct horse", "wrong password", &token, "argon2"] {
        assert!(!text.contains(secret));
    }
    assert_eq!(kind(&rig.refused(&ada, "audit.list", json!({"all_projects": true})).await), ErrorKind::PermissionDenied);
    assert!(!rig.files_hold("correct horse") && !rig.files_hold(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_is_kept_for_400_days() {
    let rig = Rig::new().await;
    rig.local("projects.create", json!({"name": "other"})).await;
    rig.clock.forward(Duration::from_secs(399 * 24 * 3600));
    rig.local("projects.delete", json!({"project": "other"})).await;
    assert_eq!(linkspan_app::audit::trim(&rig.app).await.unwrap(), 0);
    rig.clock.forward(Duration::from_secs(2 * 24 * 3600));
    assert_eq!(linkspan_app::audit::trim(&rig.app).await.unwrap(), 1);
    assert_eq!(rig.local("audit.list", json!({"all_projects": true})).await["entries"].as_array().unwrap().len(), 1);
}

/// Every row, every role: admitted exactly when the row's rule says so.
#[test]
fn every_role_meets_every_operation_as_its_rule_says() {
    for operation in operations() {
        let with = |role: Option<Role>, reach: Reach| {
            let kind = if role.is_some() { CallerKind::User } else { CallerKind::Anonymous };
            CallContext::new(Caller { kind, role, reach, ..Caller::local() }, "default")
        };
        for role in Role::ALL.map(Some).into_iter().chain([None]) {
            for reach in [Reach::Project, Reach::Installation] {
                let expected = match operation.access {
                    Access::Anonymous => true,
                    Access::SignedIn => role.is_some(),
                    Access::Scoped(scope) => role.is_some_and(|r| r >= scope.least_role()),
                    Access::Installation(scope) => role.is_some_and(|r| r >= scope.least_role()) && reach == Reach::Installation,
                };
                assert_eq!(operation.admit(&with(role, reach)).is_ok(), expected, "{} {role:?} {reach:?}", operation.name);
            }
        }
        let scopeless = Caller { kind: CallerKind::Key, scopes: Some(vec![]), ..Caller::local() };
        let open = matches!(operation.access, Access::Anonymous | Access::SignedIn);
        assert_eq!(operation.admit(&CallContext::new(scopeless, "default")).is_ok(), open, "{}", operation.name);
    }
}
