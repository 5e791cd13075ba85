//! What an admin of one project may do with the people of it, and with nobody else's.

use linkspan_app::{CallContext, Caller};
use linkspan_core::ErrorKind;
use serde_json::{Value, json};

use crate::rig::Rig;

/// A hub with two projects; `ada` is admin of `acme`, `bob` has a role in both.
async fn hub() -> Rig {
    let rig = Rig::new().await;
    rig.local("projects.create", json!({"name": "acme"})).await;
    for (email, roles) in [
        ("ada@example.com", json!({"acme": "admin"})),
        ("bob@example.com", json!({"acme": "viewer", "default": "editor"})),
        ("cyd@example.com", json!({})),
    ] {
        rig.local("users.create", json!({"email": email, "password": "correct horse", "roles": roles})).await;
    }
    rig
}

async fn as_(rig: &Rig, email: &str) -> CallContext {
    let token = rig.login(email, "correct horse").await.unwrap();
    rig.bearer(&token).await.unwrap()
}

async fn roles_of(rig: &Rig, email: &str) -> Value {
    rig.local("users.show", json!({"user": email})).await["roles"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_of_a_project_sees_and_sets_its_members_only() {
    let rig = hub().await;
    let ada = as_(&rig, "ada@example.com").await;
    assert_eq!(ada.project, "acme");
    let listed = rig.call(&ada, "members.list", json!({})).await.unwrap().body;
    let seen: Vec<_> =
        listed["members"].as_array().unwrap().iter().map(|m| (m["email"].as_str().unwrap(), m["role"].as_str().unwrap())).collect();
    assert_eq!(seen, [("ada@example.com", "admin"), ("bob@example.com", "viewer")]);
    assert!(!listed.to_string().contains("editor") && !listed.to_string().contains("cyd"), "what they are elsewhere is nobody's business");
    for (user, role) in [("bob@example.com", "operator"), ("CYD@example.com", "admin")] {
        rig.call(&ada, "members.set", json!({"user": user, "role": role})).await.unwrap();
    }
    assert_eq!(roles_of(&rig, "bob@example.com").await, json!({"acme": "operator", "default": "editor"}));
    assert_eq!(roles_of(&rig, "cyd@example.com").await, json!({"acme": "admin"}));
    // It counts at once, also for who is signed in.
    let bob = as_(&rig, "bob@example.com").await;
    assert_eq!(bob.project, "default");
    rig.call(&ada, "members.remove", json!({"user": "bob@example.com"})).await.unwrap();
    assert_eq!(roles_of(&rig, "bob@example.com").await, json!({"default": "editor"}));
    let gone = rig.refused(&ada, "members.remove", json!({"user": "bob@example.com"})).await;
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(rig.refused(&ada, "members.set", json!({"user": "no-email", "role": "viewer"})).await.kind(), ErrorKind::NotFound);
    assert_eq!(
        rig.refused(&ada, "members.set", json!({"user": "bob@example.com", "role": "owner"})).await.kind(),
        ErrorKind::ConfigInvalid
    );
    // Nothing of the installation is theirs.
    for (operation, input) in [
        ("users.list", json!({})),
        ("users.create", json!({"email": "eve@example.com"})),
        ("users.update", json!({"user": "ada@example.com", "admin": true})),
        ("projects.create", json!({"name": "other"})),
        ("vault.rotate", json!({})),
    ] {
        if linkspan_app::operations().iter().any(|o| o.name == operation) {
            assert_eq!(rig.refused(&ada, operation, input).await.kind(), ErrorKind::PermissionDenied, "{operation}");
        }
    }
    let audit = rig.call(&ada, "audit.list", json!({})).await.unwrap().body.to_string();
    assert!(audit.contains("members.set") && audit.contains("members.remove"), "{audit}");
}

/// Whatever an admin of a project does with an email: answers, lists and trail are the same whether somebody has it or nobody.
#[tokio::test(flavor = "multi_thread")]
async fn whether_there_is_a_user_is_told_to_no_project() {
    let rig = hub().await;
    let ada = as_(&rig, "ada@example.com").await;
    let mut told = vec![];
    for email in ["cyd@example.com", "nob@example.com"] {
        let mut all = vec![];
        let absent = rig.refused(&ada, "members.remove", json!({"user": email})).await;
        all.push(absent.to_json());
        let ids = rig.local("users.list", json!({})).await;
        let id = ids["users"]
            .as_array()
            .unwrap()
            .iter()
            .find(|u| u["email"] == email)
            .map_or("019ad000-0000-7000-8000-000000000000", |u| u["id"].as_str().unwrap());
        all.push(rig.refused(&ada, "members.set", json!({"user": id, "role": "viewer"})).await.to_json());
        for role in ["viewer", "editor"] {
            let body = rig.call(&ada, "members.set", json!({"user": email, "role": role})).await.unwrap().body;
            let listed = rig.call(&ada, "members.list", json!({"limit": 1})).await.unwrap().body;
            let next = rig.call(&ada, "members.list", json!({"limit": 1, "cursor": listed["next_cursor"]})).await.unwrap().body;
            let whole = rig.call(&ada, "members.list", json!({})).await.unwrap().body;
            all.extend([body, listed, next, whole]);
        }
        all.push(rig.call(&ada, "members.remove", json!({"user": email})).await.unwrap().body);
        let mut trail = rig.call(&ada, "audit.list", json!({"limit": 3})).await.unwrap().body;
        trail["next_cursor"] = Value::Null;
        trail["entries"].as_array_mut().unwrap().iter_mut().for_each(|line| line["at"] = Value::Null);
        all.push(trail);
        told.push(serde_json::to_string(&all).unwrap().replace(email, "EMAIL").replace(id, "ID"));
    }
    assert_eq!(told[0], told[1]);
    let trail = rig.call(&ada, "audit.list", json!({"limit": 1000})).await.unwrap().body.to_string();
    assert!(!trail.contains("users.create") && !trail.contains("auth.login"), "who there is belongs to no project: {trail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_waits_for_its_user_counts_from_the_user_on_and_goes_with_its_project() {
    let rig = hub().await;
    let ada = as_(&rig, "ada@example.com").await;
    rig.call(&ada, "members.set", json!({"user": "New@example.com", "role": "operator"})).await.unwrap();
    rig.call(&ada, "members.set", json!({"user": "late@example.com", "role": "viewer"})).await.unwrap();
    rig.local("users.create", json!({"email": "new@example.com", "password": "correct horse", "roles": {"default": "viewer"}})).await;
    assert_eq!(roles_of(&rig, "new@example.com").await, json!({"acme": "operator", "default": "viewer"}));
    let listed = rig.call(&ada, "members.list", json!({})).await.unwrap().body;
    let emails: Vec<_> = listed["members"].as_array().unwrap().iter().map(|m| m["email"].as_str().unwrap()).collect();
    assert_eq!(emails, ["ada@example.com", "bob@example.com", "late@example.com", "new@example.com"]);
    rig.local("projects.delete", json!({"project": "acme"})).await;
    rig.local("projects.create", json!({"name": "acme"})).await;
    rig.local("users.create", json!({"email": "late@example.com", "password": "correct horse", "roles": {}})).await;
    assert_eq!(roles_of(&rig, "late@example.com").await, json!({}), "a project of the same name is another one");
}

/// Every role as the giver, every role as the gift, by keys of the project and of its limits.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_takes_or_makes_a_role_above_their_own() {
    const ROLES: [&str; 4] = ["viewer", "operator", "editor", "admin"];
    let rig = hub().await;
    let there = CallContext::new(Caller::local(), "acme");
    for (own, scopes) in [
        ("viewer", Value::Null),
        ("operator", Value::Null),
        ("editor", Value::Null),
        ("admin", Value::Null),
        ("admin", json!(["members:*", "keys:*"])),
    ] {
        let name = format!("{own} {scopes}");
        let made = rig.call(&there, "keys.create", json!({"name": name, "role": own, "scopes": scopes})).await.unwrap().body;
        let giver = rig.bearer(made["key"].as_str().unwrap()).await.unwrap();
        for given in ROLES {
            let whole = own == "admin" && scopes.is_null();
            let set = rig.call(&giver, "members.set", json!({"user": "cyd@example.com", "role": given})).await;
            assert_eq!(set.as_ref().err().map(|e| e.kind()), (!whole).then_some(ErrorKind::PermissionDenied), "{name} gives {given}");
            rig.call(&there, "members.set", json!({"user": "cyd@example.com", "role": given})).await.unwrap();
            let removed = rig.call(&giver, "members.remove", json!({"user": "cyd@example.com"})).await;
            assert_eq!(removed.as_ref().err().map(|e| e.kind()), (!whole).then_some(ErrorKind::PermissionDenied), "{name} takes {given}");
            let key = rig.call(&giver, "keys.create", json!({"name": format!("{name} {given}"), "role": given})).await;
            assert_eq!(key.is_ok(), own == "admin", "{name} makes a key of {given}");
            if let Ok(made) = key {
                // What a limited key makes is as limited.
                assert_eq!(made.body["scopes"], scopes, "{name}");
            }
        }
    }
    // An admin of one project is nobody in another.
    let ada = as_(&rig, "ada@example.com").await;
    let elsewhere = CallContext { project: "default".into(), caller: Caller { role: None, ..ada.caller.clone() }, ..ada };
    for (operation, input) in [("members.list", json!({})), ("members.set", json!({"user": "cyd@example.com", "role": "viewer"}))] {
        assert_eq!(rig.refused(&elsewhere, operation, input).await.kind(), ErrorKind::PermissionDenied);
    }
    let token = rig.login("ada@example.com", "correct horse").await.unwrap();
    let headers = [("authorization", format!("Bearer {token}")), ("linkspan-project", "default".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
    assert_eq!(rig.headers(&headers).await.unwrap_err().kind(), ErrorKind::NotFound);
}
