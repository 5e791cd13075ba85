//! `api_rest`: every example of its page is run against an API that speaks all of these ways, and what is wrong in a config is said
//! before anything is asked.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::{Arc, Mutex};

use linkspan_airbyte::{connector, yaml};
use linkspan_core::{Context, ErrorKind, Holding, Keeper, Place, Position, ReadMode, Repeats, Result, Selected, SystemClock};
use linkspan_testkit::drive;
use serde_json::{Value, json};

use crate::server::{Reply, Request, serve};

const PAGE: &str = include_str!("../../src/connector/rest.md");
const ORDERS: usize = 5;

/// The examples of one field, as the page shows them.
fn examples(field: &str) -> Vec<Value> {
    let blocks = PAGE.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    let parsed = blocks.map(|block| yaml::parse(block).unwrap_or_else(|e| panic!("{e:?}: {block}")));
    parsed.filter_map(|block| block.get(field).cloned()).collect()
}

type Asked = Arc<Mutex<Vec<Request>>>;

/// Two orders a page, asked for in any way that the page describes.
async fn shop() -> (String, Asked) {
    let asked = Asked::default();
    let seen = asked.clone();
    let address = serve(move |request| {
        let reply = if request.target.starts_with("/v1/token") {
            Reply::json(json!({"access_token": "given-token", "refresh_token": "next-refresh", "expires_in": 3600}))
        } else {
            orders(&request)
        };
        seen.lock().unwrap().push(request);
        async move { reply }
    })
    .await;
    (address, asked)
}

fn orders(request: &Request) -> Reply {
    let number = |name: &str| request.parameter(name).and_then(|n| n.parse::<usize>().ok());
    let first = match (number("page"), number("offset"), number("after"), number("starting_after")) {
        (Some(page), ..) => (page - 1) * 2,
        (_, Some(offset), ..) => offset,
        (_, _, Some(after), _) => after,
        (.., Some(id)) => id,
        _ => 0,
    };
    let since = request.parameter("updated_since").unwrap_or_default();
    let at = |n: usize| format!("2024-01-0{}T00:00:00Z", n + 1);
    let shown: Vec<Value> = (first..ORDERS.min(first + 2))
        .filter(|n| at(*n) >= since)
        .map(|n| json!({"id": n + 1, "updated_at": at(n), "updated": (1_704_067_200 + n * 86_400).to_string()}))
        .collect();
    let next = (first + 2 < ORDERS).then_some(first + 2);
    let url = next.map(|next| format!("http://{}/v1/orders?after={next}", request.headers["host"]));
    let mut reply = Reply::json(json!({
        "data": shown, "meta": {"next": next.map(|n| n.to_string()), "has_more": next.is_some()}, "links": {"next": url},
    }));
    if let (Some(next), Some(url)) = (next, url) {
        reply.headers = vec![("X-Next-Page", next.to_string()), ("Link", format!("<{url}>; rel=\"next\""))];
    }
    reply
}

/// Keeps in memory.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Value>>);

struct Held(Kept, Value);

#[async_trait::async_trait]
impl Keeper for Kept {
    async fn hold(&self, _: &[Place]) -> Result<Box<dyn Holding>> {
        Ok(Box::new(Held(self.clone(), self.0.lock().unwrap().clone())))
    }
}

#[async_trait::async_trait]
impl Holding for Held {
    fn config(&self) -> &Value {
        &self.1
    }
    async fn spend(&self, _: &str, request: http::Request<bytes::Bytes>) -> Result<http::Response<bytes::Bytes>> {
        let http = linkspan_http::client(linkspan_http::Policy::Open, Arc::new(SystemClock));
        let (parts, body) = http.send(request.map(linkspan_core::Body::Full)).await?.into_parts();
        Ok(http::Response::from_parts(parts, body.bytes(1 << 20).await?))
    }
    async fn discard(&self) {}
    async fn keep(&self, changes: &[(Place, Value)]) -> Result<()> {
        let mut config = self.0.0.lock().unwrap();
        for (place, value) in changes {
            let (last, way) = place.split_last().unwrap();
            way.iter().fold(&mut *config, |node, name| &mut node[name.as_str()])[last.as_str()] = value.clone();
        }
        Ok(())
    }
}

fn world() -> (Context, Kept) {
    let kept = Kept::default();
    let mut context = Context::real();
    context.http = linkspan_http::client(linkspan_http::Policy::Open, Arc::new(SystemClock));
    context.keeper = Arc::new(kept.clone());
    (context, kept)
}

/// The ids that a config brings.
async fn ids(config: &Value, read: ReadMode) -> (Vec<i64>, Kept) {
    let (context, kept) = world();
    *kept.0.lock().unwrap() = config.clone();
    let open = connector::rest_type().open(config.clone(), context).unwrap_or_else(|e| panic!("{config}: {e:?}"));
    let source = open.source().unwrap();
    let stream = source.discover().await.unwrap_or_else(|e| panic!("{config}: {e:?}")).remove(0);
    let name = stream.name.clone();
    let selected = Selected { stream, read, cursor: None, repeats: Repeats::Kept };
    let all = drive::read(&source, vec![selected], Position::new()).await.unwrap_or_else(|e| panic!("{config}: {e:?}"));
    let mut ids = all.ids(&name);
    ids.sort_unstable();
    (ids, kept)
}

fn at(address: &str, value: &Value) -> Value {
    serde_json::from_str(&value.to_string().replace("https://api.example.com", address)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_sign_in_that_the_page_shows_signs_in() {
    let examples = examples("auth");
    let kinds: Vec<&str> = examples.iter().map(|auth| auth["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["none", "bearer", "basic", "api_key", "api_key", "api_key", "oauth", "oauth", "oauth"]);
    for auth in examples {
        let (address, asked) = shop().await;
        let config = json!({"base_url": format!("{address}/v1"), "path": "/orders", "record_path": "data", "auth": at(&address, &auth)});
        let (ids, kept) = ids(&config, ReadMode::Full).await;
        assert_eq!(ids, [1, 2], "{auth}");
        let asked = asked.lock().unwrap();
        let orders: Vec<&Request> = asked.iter().filter(|r| r.target.starts_with("/v1/orders")).collect();
        let header = |name: &str| orders.iter().map(|r| r.headers.get(name).cloned()).collect::<Vec<_>>();
        let all = |value: Option<&str>| vec![value.map(str::to_owned); orders.len()];
        match (auth["type"].as_str().unwrap(), &auth["place"], auth["prefix"].as_str()) {
            ("none", ..) => assert_eq!(header("authorization"), all(None)),
            ("bearer", ..) => assert_eq!(header("authorization"), all(Some("Bearer secret-token"))),
            ("basic", ..) => assert_eq!(header("authorization"), all(Some("Basic bWU6c2VjcmV0LXBhc3N3b3Jk"))),
            ("api_key", Value::String(_), _) => assert!(orders.iter().all(|r| r.parameter("api_key").as_deref() == Some("secret-key"))),
            ("api_key", _, Some(_)) => assert_eq!(header("authorization"), all(Some("Token secret-key"))),
            ("api_key", ..) => assert_eq!(header("x-api-key"), all(Some("secret-key"))),
            _ => {
                assert_eq!(header("authorization"), all(Some("Bearer given-token")));
                let tokens: Vec<&Request> = asked.iter().filter(|r| r.target.starts_with("/v1/token")).collect();
                let form = |name: &str| tokens[0].form(name);
                let refreshes = auth.get("refresh_token").is_some();
                let grant = if refreshes { "refresh_token" } else { "client_credentials" };
                assert_eq!(form("grant_type").as_deref(), Some(grant), "{auth}");
                assert_eq!((form("client_id").as_deref(), form("client_secret").as_deref()), (Some("me"), Some("secret-client")));
                assert_eq!(form("refresh_token").is_some(), refreshes);
                assert_eq!(form("scope").as_deref(), auth.get("scopes").map(|_| "orders read"));
                let kept = kept.0.lock().unwrap()["auth"].clone();
                let rotates = auth["rotates"] == true;
                assert_eq!(kept["refresh_token"] == "next-refresh", rotates, "{kept}");
                assert_eq!(kept["access_token"] == "given-token", rotates, "{kept}");
                assert!(!rotates || tokens.len() == 1, "the token that is kept counts for the next reader too");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_page_that_the_page_shows_brings_every_order() {
    let examples = examples("pagination");
    let kinds: Vec<&str> = examples.iter().map(|paging| paging["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["none", "page", "offset", "cursor", "cursor", "cursor", "next_url", "link_header"]);
    for pagination in examples {
        let (address, asked) = shop().await;
        let config = json!({"base_url": format!("{address}/v1"), "path": "orders", "record_path": "data", "pagination": pagination});
        let want: &[i64] = if pagination["type"] == "none" { &[1, 2] } else { &[1, 2, 3, 4, 5] };
        assert_eq!(ids(&config, ReadMode::Full).await.0, want, "{pagination}");
        if let Some(size) = pagination["size_param"].as_str() {
            assert!(asked.lock().unwrap().iter().all(|r| r.parameter(size).as_deref() == Some("2")), "{pagination}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cursor_that_the_page_shows_asks_for_what_is_new() {
    let examples = examples("cursor");
    assert_eq!(examples.len(), 2);
    for cursor in examples {
        let (address, asked) = shop().await;
        let config = json!({
            "base_url": format!("{address}/v1"), "path": "orders", "record_path": "data", "key": ["id"], "cursor": cursor,
            "pagination": {"type": "page", "page_size": 2},
        });
        assert_eq!(ids(&config, ReadMode::Incremental).await.0, [1, 2, 3, 4, 5], "{cursor}");
        if let Some(param) = cursor["param"].as_str() {
            assert!(asked.lock().unwrap().iter().all(|r| r.parameter(param).as_deref() == cursor["start"].as_str()));
        }
    }
}

#[test]
fn what_is_wrong_in_a_config_is_said_with_its_field_and_what_to_do() {
    let base = json!({"base_url": "https://api.example.com", "path": "/orders"});
    for (field, wrong) in [
        ("base_url", json!({"base_url": "api.example.com"})),
        ("path", json!({"path": null})),
        ("streams", json!({"streams": [{"name": "orders"}]})),
        ("auth", json!({"auth": {"type": "digest"}})),
        ("token", json!({"auth": {"type": "bearer"}})),
        ("tokn", json!({"auth": {"type": "bearer", "token": "canary", "tokn": "x"}})),
        ("auth.name", json!({"auth": {"type": "api_key", "key": "canary", "name": ""}})),
        ("auth.token_url", json!({"auth": {"type": "oauth", "token_url": "token", "client_id": "i", "client_secret": "canary"}})),
        (
            "auth.client_id",
            json!({"auth": {"type": "oauth", "token_url": "https://a.example/t", "client_id": "", "client_secret": "canary"}}),
        ),
        ("auth.rotates", json!({"auth": {"type": "oauth", "token_url": "https://a.example/t", "client_id": "i", "rotates": true}})),
        ("pagination", json!({"pagination": {"type": "pages"}})),
        ("page_size", json!({"pagination": {"type": "page"}})),
        ("pagination.page_size", json!({"pagination": {"type": "page", "page_size": 0}})),
        ("pagination.page_size", json!({"pagination": {"type": "offset", "page_size": 0}})),
        ("pagination", json!({"pagination": {"type": "cursor", "param": "after"}})),
        ("pagination", json!({"pagination": {"type": "cursor", "param": "after", "token_path": "a", "record_field": "id"}})),
        ("pagination.url_path", json!({"pagination": {"type": "next_url", "url_path": ""}})),
        ("cursor.field", json!({"cursor": {"field": "", "start": "2024-01-01T00:00:00Z"}})),
        ("cursor.start", json!({"cursor": {"field": "at", "start": "January"}})),
        ("cursor.start", json!({"cursor": {"field": "at", "start": "2024-01-01T00:00:00Z", "format": "%s"}})),
        ("params", json!({"params": {"filter": {"a": 1}}})),
        ("pagnation", json!({"pagnation": {"type": "none"}})),
    ] {
        let mut config = base.clone();
        for (name, value) in wrong.as_object().unwrap() {
            match value {
                Value::Null => drop(config.as_object_mut().unwrap().remove(name)),
                value => config[name] = value.clone(),
            }
        }
        let e = connector::rest_type().open(config, Context::real()).err().unwrap_or_else(|| panic!("{wrong} is taken"));
        assert_eq!(e.kind(), ErrorKind::ConfigInvalid, "{wrong}: {e:?}");
        assert!(e.suggested_fix().is_some(), "{wrong}: {e:?}");
        assert!(e.context().iter().any(|(name, value)| *name == "field" && value == field), "{wrong}: {e:?}");
        assert!(!format!("{e:?}").contains("canary"), "{e:?}");
    }
}

#[test]
fn words_of_others_are_taken() {
    for more in [
        json!({"auth": {"type": "http_basic", "username": "u", "password": "p"}}),
        json!({"auth": {"type": "oauth2_client_credentials", "token_url": "https://a.example/t", "client_id": "i", "client_secret": "s"}}),
        json!({"pagination": {"type": "page_number", "page_size": 10}}),
        json!({"pagination": {"type": "json_link", "url_path": "next"}}),
        json!({"pagination": {"type": "header_link"}}),
        json!({"pagination": {"type": "single_page"}}),
    ] {
        let mut config = json!({"base_url": "https://api.example.com", "path": "/orders"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert!(connector::rest_type().open(config, Context::real()).is_ok(), "{more}");
    }
}
