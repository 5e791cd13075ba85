//! How requests are refused: one shape, the right status, and nothing quoted.

use axum::body::Body;
use futures::StreamExt;
use http::{Method, Request};
use linkspan_app::{Access, CallContext, Operation, Reply, Role, Scope};
use linkspan_core::{Error, ErrorKind};
use linkspan_server::{Peer, Trusted};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::desk::Desk;

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Echo {
    name: String,
    count: Option<u32>,
    #[serde(default)]
    loud: bool,
}

/// Rows of the test's own: what the door does is the same for every row.
fn rows() -> Vec<Operation> {
    vec![
        Operation::post("echo.make", "/echo/{name}", Access::Anonymous, "Says it back.")
            .call(|_, _, input: Echo| async move { Ok(Reply::created(format!("/echo/{}", input.name), input)) }),
        Operation::get("echo.read", "/echo/{name}", Access::Anonymous, "Says it back.")
            .call(|_, _, input: Echo| async move { Ok(Reply::ok(input).version(7)) }),
        Operation::delete("echo.break", "/echo/{name}", Access::Anonymous, "Breaks.").call(|_, _, input: Echo| async move {
            assert!(input.name.is_empty(), "canary in a panic");
            Ok(Reply::ok(input))
        }),
        Operation::get("echo.flow", "/flow", Access::Anonymous, "Never ends.").watch::<linkspan_app::Nothing, Echo, _>(|_, _, _| async {
            Ok(futures::stream::iter([Ok(serde_json::json!({"n": 1}))]).chain(futures::stream::pending()).boxed())
        }),
        Operation::get("echo.secret", "/secret", Access::Scoped(Scope::ConnectorsWrite), "For admins.")
            .call(|_, context: CallContext, _: linkspan_app::Nothing| async move { Ok(Reply::ok(context.project)) }),
        Operation::get("echo.down", "/down", Access::Anonymous, "Fails.").call(|_, _, _: linkspan_app::Nothing| async move {
            Err::<Reply<()>, _>(Error::new(ErrorKind::Internal, "it failed").because("postgres://app:canary@db"))
        }),
    ]
}

#[tokio::test]
async fn path_query_and_body_become_one_input() {
    let desk = Desk::with(rows()).await;
    let said = desk.call(Method::POST, "/echo/a%20b?loud", &[("content-type", "application/json")], r#"{"count": 3}"#).await;
    assert_eq!((said.status.as_u16(), said.header("location")), (201, "/echo/a b"));
    assert_eq!(said.json(), serde_json::json!({"name": "a b", "count": 3, "loud": true}));
    let said = desk.get("/echo/x?count=5").await;
    assert_eq!((said.json()["count"].as_u64(), said.header("etag")), (Some(5), "\"7\""));
    assert_eq!(desk.call(Method::GET, "/echo/x", &[("if-none-match", "\"7\"")], "").await.status, 304);
    assert_eq!(desk.call(Method::HEAD, "/echo/x", &[], "").await.text, "");
}

/// Headers, path, body and the status that they get.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str, u16);

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_without_quoting_it() {
    let desk = Desk::with(rows()).await;
    let json = ("content-type", "application/json");
    let long = "x".repeat(256);
    let cases: &[Case<'_>] = &[
        (&[json], "/echo/x", "{\"canary\": 1}", 400),
        (&[json], "/echo/x", "{\"count\": \"canary\"}", 400),
        (&[json], "/echo/x", "[\"canary\"]", 400),
        (&[json], "/echo/x", "canary", 400),
        (&[json], "/echo/x?count=1&count=2", "", 400),
        (&[json], "/echo/x%00", "{}", 400),
        (&[json], "/echo/%ff", "{}", 404),
        (&[("content-type", "application/x-www-form-urlencoded")], "/echo/x", "canary=1", 415),
        (&[json, ("idempotency-key", "")], "/echo/x", "{}", 400),
        (&[json, ("idempotency-key", "a wish")], "/echo/x", "{}", 400),
        (&[json, ("idempotency-key", &long)], "/echo/x", "{}", 400),
        (&[json, ("content-length", "2097153")], "/echo/x", "{}", 413),
    ];
    for (headers, path, body, status) in cases {
        let said = desk.call(Method::POST, path, headers, body).await;
        assert_eq!(said.status.as_u16(), *status, "{path} {body}: {said:?}");
        let error = &said.json()["error"];
        assert!(error["kind"].is_string() && error["message"].is_string(), "{said:?}");
        assert!(!said.text.contains("canary") || body.contains("\"canary\": 1"), "{said:?}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_end_is_cut_at_its_limit() {
    let desk = Desk::with(rows()).await;
    let endless = futures::stream::repeat_with(|| Ok::<_, std::convert::Infallible>(vec![b' '; 64 << 10]));
    let request = Request::post("/echo/x").body(Body::from_stream(endless)).unwrap();
    assert_eq!(desk.send(request).await.status, 413);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_given_up() {
    let desk = Desk::with(rows()).await;
    let trickle = futures::stream::unfold((), |()| async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        Some((Ok::<_, std::convert::Infallible>("x"), ()))
    });
    let started = tokio::time::Instant::now();
    let said = desk.send(Request::post("/echo/x").body(Body::from_stream(trickle)).unwrap()).await;
    assert_eq!(said.status, 408);
    assert!(started.elapsed().as_secs() <= 30);
}

#[tokio::test]
async fn a_handler_that_breaks_is_a_500_and_says_nothing() {
    let desk = Desk::with(rows()).await;
    for (method, path) in [(Method::DELETE, "/echo/x"), (Method::GET, "/down")] {
        let said = desk.call(method, path, &[], "").await;
        assert_eq!((said.status.as_u16(), said.json()["error"]["kind"].as_str()), (500, Some("internal")));
        assert!(!said.text.contains("canary"), "{said:?}");
    }
    assert_eq!(desk.get("/echo/y").await.status, 200);
}

#[tokio::test]
async fn who_is_nobody_is_asked_for_credentials_before_the_body_is_read() {
    let desk = Desk::with(rows()).await;
    let said = desk.get("/secret").await;
    assert_eq!((said.status.as_u16(), said.header("www-authenticate")), (401, "Bearer"));
    let mut request = Request::get("/secret").header("linkspan-project", "acme").body(Body::empty()).unwrap();
    let viewer = linkspan_app::Caller { role: Some(Role::Viewer), ..linkspan_app::Caller::local() };
    request.extensions_mut().insert(Trusted(viewer));
    assert_eq!(desk.send(request).await.status, 403);
    let mut request = Request::get("/secret").header("linkspan-project", "acme").body(Body::empty()).unwrap();
    request.extensions_mut().insert(Trusted(linkspan_app::Caller::local()));
    assert_eq!(desk.send(request).await.json(), "acme");
}

#[tokio::test]
async fn a_stranger_who_hammers_is_told_to_wait_and_others_are_not() {
    let desk = Desk::with(rows()).await;
    let from = |last: u8| {
        let mut request = Request::get("/nowhere").body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer([192, 0, 2, last].into()));
        request
    };
    let mut waits = 0;
    for _ in 0..400 {
        let said = desk.send(from(1)).await;
        if said.status == 429 {
            waits += 1;
            assert_eq!(said.header("retry-after"), "1");
        }
    }
    assert!(waits > 0);
    assert_eq!(desk.send(from(2)).await.status, 404);
}

#[tokio::test]
async fn a_flow_ends_when_the_server_does() {
    let desk = Desk::with(rows()).await;
    let door = desk.door.clone();
    let reader = desk.get("/flow");
    let stop = async {
        tokio::task::yield_now().await;
        door.halt();
    };
    let (said, ()) = tokio::join!(reader, stop);
    assert!(said.text.ends_with("event: end\ndata: {}\n\n"), "{said:?}");
}
