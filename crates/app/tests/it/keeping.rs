//! What connectors change in their own configs: kept before it is used, one at a time, and never over what is newer.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use linkspan_app::{
    CallContext, connectors,
    keeping::{Courier, Keeping},
};
use linkspan_core::{Body, Context, ErrorKind, Failpoints, Holding, Http, Keeper, Place, Result};
use serde_json::{Value, json};

use crate::rig::{Rig, kind};

/// Counts what it is asked, and answers with the number.
#[derive(Default)]
struct Counting(AtomicUsize);

#[async_trait]
impl Http for Counting {
    async fn send(&self, _: Request<Body>) -> Result<Response<Body>> {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Response::new(Bytes::from(format!("canary-{number}")).into()))
    }
}

struct Scene {
    rig: Rig,
    http: Arc<Counting>,
    keeper: Arc<dyn Keeper>,
}

impl Scene {
    async fn set() -> Self {
        let rig = Rig::real().await;
        let made =
            rig.local("connectors.create", json!({"name": "v", "type": "vendor", "config": {"api_key": "key-0", "host": "h"}})).await;
        let http = Arc::new(Counting::default());
        let context = Context { http: http.clone(), ..rig.app.context.clone() };
        let keeping = Keeping::new(rig.app.store.clone(), rig.app.vault.clone(), &context, Courier::Own);
        let keeper = keeping.stored(made["id"].as_str().unwrap().parse().unwrap());
        Self { rig, http, keeper }
    }
    async fn hold(&self) -> Box<dyn Holding> {
        self.keeper.hold(&[place("api_key")]).await.unwrap()
    }
    async fn stands(&self) -> Value {
        let opened = connectors::opened(&self.rig.app, "default", "v").await.unwrap();
        opened.endpoint.config().clone()
    }
}

fn place(name: &str) -> Place {
    vec![name.to_owned()]
}

fn set(name: &str, value: &str) -> (Place, Value) {
    (place(name), value.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_token_is_there_at_once_and_two_never_change_it_side_by_side() {
    let scene = Scene::set().await;
    let first = scene.hold().await;
    assert_eq!(first.config()["api_key"], "key-0");
    let keeper = scene.keeper.clone();
    let second = tokio::spawn(async move { keeper.hold(&[place("api_key")]).await.unwrap().config().clone() });
    first.keep(&[set("api_key", "key-1"), set("until", "later")]).await.unwrap();
    assert!(!second.is_finished());
    assert_eq!(scene.stands().await, json!({"api_key": "key-1", "host": "h", "until": "later"}));
    drop(first);
    assert_eq!(second.await.unwrap()["api_key"], "key-1");
    let shown = scene.rig.local("connectors.show", json!({"connector": "v"})).await;
    assert!(!shown.to_string().contains("key-1"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signed_in_anew_meanwhile_keeps_their_token() {
    let scene = Scene::set().await;
    let held = scene.hold().await;
    scene.rig.local("connectors.update", json!({"connector": "v", "config": {"api_key": "key-of-the-user"}})).await;
    let e = held.keep(&[set("api_key", "key-1")]).await.unwrap_err();
    assert_eq!((e.kind(), e.suggested_fix().is_some()), (ErrorKind::Conflict, true));
    assert_eq!(scene.stands().await["api_key"], "key-of-the-user");
    drop(held);
    // Another field that was changed does not stand in the way, nor do other keys of the vault.
    let held = scene.hold().await;
    scene.rig.local("connectors.update", json!({"connector": "v", "config": {"host": "i"}})).await;
    linkspan_app::secrets::rotate(&scene.rig.app.vault, &Failpoints::default(), 1).await.unwrap();
    held.keep(&[set("api_key", "key-2")]).await.unwrap();
    assert_eq!(scene.stands().await, json!({"api_key": "key-2", "host": "i"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_kept_is_found_by_the_next_and_nothing_is_sent_again() {
    let scene = Scene::set().await;
    let spend = async |held: &dyn Holding, what: &str| {
        let request = Request::post("http://provider.invalid/token").body(Bytes::from_static(b"refresh=1")).unwrap();
        String::from_utf8(held.spend(what, request).await.unwrap().into_body().to_vec()).unwrap()
    };
    let first = scene.hold().await;
    assert_eq!(spend(first.as_ref(), "a").await, "canary-1");
    // Killed here: the lock goes, the answer stays, sealed.
    drop(first);
    let files = std::fs::read_dir(scene.rig.app.store.dir().join("locks")).unwrap().map(|f| std::fs::read(f.unwrap().path()).unwrap());
    assert!(files.into_iter().all(|bytes| !bytes.windows(6).any(|w| w == b"canary")));
    let next = scene.hold().await;
    assert_eq!(spend(next.as_ref(), "a").await, "canary-1");
    assert_eq!(scene.http.0.load(Ordering::SeqCst), 1);
    next.keep(&[set("api_key", "key-1")]).await.unwrap();
    // Once it is kept it is gone, and another token is another errand.
    assert_eq!(spend(next.as_ref(), "a").await, "canary-2");
    assert_eq!(spend(next.as_ref(), "b").await, "canary-3");
    next.discard().await;
    assert_eq!(spend(next.as_ref(), "b").await, "canary-4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_lies_elsewhere_cannot_be_changed_and_a_deleted_connector_neither() {
    let scene = Scene::set().await;
    scene.rig.local("connectors.update", json!({"connector": "v", "config": {"api_key": "env://LINKSPAN_SECRET_KEY"}})).await;
    let e = scene.keeper.hold(&[place("api_key")]).await.err().unwrap();
    assert_eq!((e.kind(), e.suggested_fix().unwrap().contains("api_key")), (ErrorKind::ConfigInvalid, true));
    assert_eq!(scene.keeper.hold(&[place("other")]).await.unwrap().config()["host"], "h");
    scene.rig.local("connectors.delete", json!({"connector": "v"})).await;
    assert_eq!(scene.keeper.hold(&[place("other")]).await.err().unwrap().kind(), ErrorKind::NotFound);
    let gone = scene.rig.refused(&CallContext::local(), "connectors.show", json!({"connector": "v"})).await;
    assert_eq!(kind(&gone), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_of_a_file_has_its_tokens_kept_as_long_as_its_first_token_stays() {
    let scene = Scene::set().await;
    let keeping = Keeping::new(scene.rig.app.store.clone(), scene.rig.app.vault.clone(), &scene.rig.app.context, Courier::Own);
    let hold = async |given: Value| {
        let keeper = keeping.clone().declared("shop", given);
        keeper.hold(&[vec!["auth".into(), "refresh".into()], vec!["auth".into(), "access".into()]]).await.unwrap()
    };
    let given = json!({"auth": {"refresh": "r0", "id": "i"}, "since": "2024"});
    let refresh: Place = vec!["auth".into(), "refresh".into()];
    let held = hold(given.clone()).await;
    held.keep(&[(refresh.clone(), "r1".into())]).await.unwrap();
    drop(held);
    let held = hold(json!({"auth": {"refresh": "r0", "id": "j"}, "since": "2025"})).await;
    assert_eq!(held.config(), &json!({"auth": {"refresh": "r1", "id": "j"}, "since": "2025"}));
    held.keep(&[(refresh, "r2".into()), (vec!["auth".into(), "access".into()], "a2".into())]).await.unwrap();
    drop(held);
    assert_eq!(hold(given).await.config()["auth"], json!({"refresh": "r2", "id": "i", "access": "a2"}));
    let anew = json!({"auth": {"refresh": "signed-in-anew"}});
    assert_eq!(hold(anew.clone()).await.config(), &anew);
}
