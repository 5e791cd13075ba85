//! The client against a small server of its own, over real sockets.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use linkspan_core::{Body, ErrorKind, Http, SystemClock};
use linkspan_http::{FinalUrl, Policy, Redirects, Timeouts, client, client_with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

/// Answers every connection by `answer(head)` and hands out the heads it read. `None` leaves the asker waiting.
async fn server(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (heads, seen) = mpsc::channel(64);
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (heads, answer) = (heads.clone(), answer.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    let mut part = [0; 4096];
                    match socket.read(&mut part).await {
                        Ok(n) if n > 0 => head.extend_from_slice(&part[..n]),
                        _ => return,
                    }
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                heads.send(head.clone()).await.unwrap();
                match answer(&head) {
                    Some(bytes) => socket.write_all(&bytes).await.unwrap(),
                    None => std::future::pending().await,
                }
            });
        }
    });
    (base, seen)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Option<Vec<u8>> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    Some([head.as_bytes(), body].concat())
}

fn open() -> Arc<dyn Http> {
    client(Policy::Open, Arc::new(SystemClock))
}

fn get(url: String) -> Request<Body> {
    Request::get(url).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn an_answer_of_any_status_is_an_answer() {
    let (base, _seen) = server(|_| answer("503 Service Unavailable", "x-a: b\r\n", b"later")).await;
    let response = open().send(get(base)).await.unwrap();
    assert_eq!((response.status(), &response.headers()["x-a"]), (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("b")));
    assert_eq!(response.into_body().bytes(100).await.unwrap(), "later");
}

#[tokio::test]
async fn a_compressed_answer_is_read_plain() {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut e, b"{\"a\":1}").unwrap();
    let packed = e.finish().unwrap();
    let (base, mut seen) = server(move |_| answer("200 OK", "content-encoding: gzip\r\n", &packed)).await;
    let response = open().send(get(base)).await.unwrap();
    assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
    assert_eq!(response.into_body().bytes(100).await.unwrap(), "{\"a\":1}");
    assert!(seen.recv().await.unwrap().contains("accept-encoding: gzip, deflate"));
}

#[tokio::test]
async fn the_guard_stands_before_names_and_addresses() {
    let (base, mut seen) = server(|_| answer("200 OK", "", b"inside")).await;
    let guarded = client(Policy::Guarded { allow: vec![] }, Arc::new(SystemClock));
    for url in [base.clone(), base.replace("127.0.0.1", "localhost"), base.replace("127.0.0.1", "[::ffff:127.0.0.1]")] {
        let e = guarded.send(get(url.clone())).await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::PermissionDenied, "{url}: {e:?}");
    }
    let allowed = client(Policy::Guarded { allow: vec!["127.0.0.0/8".parse().unwrap()] }, Arc::new(SystemClock));
    assert_eq!(allowed.send(get(base)).await.unwrap().status(), StatusCode::OK);
    assert!(seen.recv().await.is_some() && seen.try_recv().is_err(), "only the allowed request arrived");
}

#[tokio::test]
async fn a_redirect_is_the_answer_unless_it_is_to_be_followed() {
    let (base, mut seen) = server(|head| match head.starts_with("get /new") {
        true => answer("200 OK", "", b"here"),
        false => answer("302 Found", "location: /new?x=1\r\n", b""),
    })
    .await;
    assert_eq!(open().send(get(base.clone())).await.unwrap().status(), StatusCode::FOUND);
    let mut asked = Request::post(&base).header("content-type", "text/plain").body(Body::from(Bytes::from_static(b"q"))).unwrap();
    asked.extensions_mut().insert(Redirects::Follow(5));
    asked.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer t"));
    let response = open().send(asked).await.unwrap();
    assert_eq!(response.extensions().get::<FinalUrl>().unwrap().0.as_str(), format!("{base}/new?x=1"));
    assert_eq!(response.into_body().bytes(9).await.unwrap(), "here");
    let heads = [seen.recv().await.unwrap(), seen.recv().await.unwrap(), seen.recv().await.unwrap()];
    assert!(heads[2].starts_with("get /new?x=1") && heads[2].contains("authorization: bearer t") && !heads[2].contains("content-type"));
}

#[tokio::test]
async fn credentials_stay_with_their_host() {
    let (other, mut seen) = server(|_| answer("200 OK", "", b"")).await;
    let (base, _first) = server(move |_| answer("307 Temporary Redirect", &format!("location: {other}/\r\n"), b"")).await;
    let mut asked = get(base);
    asked.extensions_mut().insert(Redirects::Follow(5));
    let mut key = HeaderValue::from_static("k");
    key.set_sensitive(true);
    asked.headers_mut().insert("x-key", key);
    asked.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer t"));
    asked.headers_mut().insert("x-plain", HeaderValue::from_static("p"));
    open().send(asked).await.unwrap();
    let head = seen.recv().await.unwrap();
    assert!(head.contains("x-plain: p") && !head.contains("x-key") && !head.contains("authorization"), "{head}");
}

#[tokio::test]
async fn a_redirect_into_the_house_is_refused_and_an_endless_one_ends() {
    let (base, mut seen) = server(|_| answer("302 Found", "location: http://10.0.0.1/\r\n", b"")).await;
    let allowed = client(Policy::Guarded { allow: vec!["127.0.0.0/8".parse().unwrap()] }, Arc::new(SystemClock));
    let mut asked = get(base);
    asked.extensions_mut().insert(Redirects::Follow(5));
    assert_eq!(allowed.send(asked).await.err().unwrap().kind(), ErrorKind::PermissionDenied);
    assert!(seen.recv().await.is_some());

    let (base, mut seen) = server(|_| answer("302 Found", "location: /again\r\n", b"")).await;
    let mut asked = get(base);
    asked.extensions_mut().insert(Redirects::Follow(3));
    assert_eq!(open().send(asked).await.err().unwrap().kind(), ErrorKind::Unavailable);
    let mut hops = 0;
    while seen.try_recv().is_ok() {
        hops += 1;
    }
    assert_eq!(hops, 4);
}

#[tokio::test]
async fn silence_and_broken_answers_are_errors_without_the_query() {
    let short = Duration::from_millis(50);
    let timeouts = Timeouts { answer: short, idle: short, ..Timeouts::default() };
    let hasty = client_with(Policy::Open, Arc::new(SystemClock), timeouts);
    let (base, _seen) = server(|_| None).await;
    let e = hasty.send(get(format!("{base}/?key=hunter2"))).await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Timeout);
    assert!(!format!("{e:?} {:?}", e.causes()).contains("hunter2"));

    let (base, _seen) = server(|_| Some(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut".to_vec())).await;
    let e = open().send(get(format!("{base}/?key=hunter2"))).await.unwrap().into_body().bytes(1000).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    assert!(!format!("{e:?} {:?}", e.causes()).contains("hunter2"));

    let e = open().send(get("http://127.0.0.1:1/?key=hunter2".into())).await.err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
    assert!(!format!("{e:?} {:?}", e.causes()).contains("hunter2"));
}
