//! The socket: hostile bytes, slow speakers, and an end that finishes what is under way.

use std::time::Duration;

use linkspan_app::{Access, Nothing, Operation, Reply};
use linkspan_server::{Drained, Listener, Most};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::desk::Desk;

struct Server {
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Drained>,
    _desk: Desk,
}

impl Server {
    async fn start(desk: Desk, drain: Duration) -> Self {
        Self::limited(desk, drain, Most::default()).await
    }
    async fn limited(desk: Desk, drain: Duration, most: Most) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().at_most(most);
        let (address, (stop, stopped)) = (listener.address, oneshot::channel());
        let router = desk.router.clone();
        let ended = tokio::spawn(listener.serve(router, async { stopped.await.unwrap_or(()) }, drain));
        Self { address, stop: Some(stop), ended, _desk: desk }
    }
    async fn say(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }
    /// Everything that is answered until the server hangs up.
    async fn answer(&self, bytes: &[u8]) -> String {
        let mut text = String::new();
        self.say(bytes).await.read_to_string(&mut text).await.ok();
        text
    }
    /// The same from another address of this machine.
    async fn connect_from(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(std::net::SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }
    async fn asked_from(&self, last: u8, bytes: &[u8]) -> String {
        let (mut stream, mut text) = (self.connect_from(last).await, String::new());
        stream.write_all(bytes).await.ok();
        stream.read_to_string(&mut text).await.ok();
        text
    }
    async fn stop(mut self) -> Drained {
        self.stop.take().unwrap().send(()).ok();
        self.ended.await.unwrap()
    }
}

#[tokio::test]
async fn hostile_heads_are_refused_and_the_server_goes_on() {
    let server = Server::start(Desk::new().await, Duration::from_secs(5)).await;
    let lines = |n: usize| (0..n).map(|i| format!("x-{i}: 1\r\n")).collect::<String>();
    let cases = [
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"
                .to_owned(),
            "400",
        ),
        ("GET /v1/health HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcd".into(), "400"),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "a".repeat(9_000)), "414"),
        (format!("GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", lines(120)), "431"),
        (format!("GET /v1/health HTTP/1.1\r\nHost: x\r\nx: {}\r\nConnection: close\r\n\r\n", "a".repeat(40_000)), "431"),
        (format!("GET /v1/health HTTP/1.1\r\nHost: x\r\n{}\r\n", lines(50_000)), "431"),
        ("GARBAGE\r\n\r\n".into(), "400"),
        ("GET /v1/health HTTP/1.1\r\nHost: x\r\nx: a\0b\r\nConnection: close\r\n\r\n".into(), "400"),
    ];
    for (bytes, status) in cases {
        let said = server.answer(bytes.as_bytes()).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{:.80}: {said:.300}", bytes.escape_debug());
    }
    let said = server.answer(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.contains(r#""status":"ok""#), "{said}");
    assert_eq!(server.stop().await, Drained::Whole);
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end_and_no_new_one_is_taken() {
    let (started, mut begun) = tokio::sync::mpsc::channel::<oneshot::Sender<()>>(1);
    let slow = Operation::get("slow", "/slow", Access::Anonymous, "Waits.").call(move |_, _, _: Nothing| {
        let started = started.clone();
        async move {
            let (go, wait) = oneshot::channel();
            started.send(go).await.ok();
            wait.await.ok();
            Ok(Reply::ok("done"))
        }
    });
    let server = Server::start(Desk::with(vec![slow]).await, Duration::from_secs(20)).await;
    let idle = server.say(b"").await;
    let mut stream = server.say(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let go = begun.recv().await.unwrap();
    let address = server.address;
    let ending = tokio::spawn(server.stop());
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("\"done\""), "{text}");
    assert_eq!(ending.await.unwrap(), Drained::Whole);
    drop(idle);
}

#[tokio::test]
async fn who_does_not_end_in_time_is_cut() {
    let (started, mut begun) = tokio::sync::mpsc::channel(1);
    let stuck = Operation::get("stuck", "/stuck", Access::Anonymous, "Hangs.").call(move |_, _, _: Nothing| {
        let started = started.clone();
        async move {
            started.send(()).await.ok();
            std::future::pending::<linkspan_core::Result<Reply<()>>>().await
        }
    });
    let server = Server::start(Desk::with(vec![stuck]).await, Duration::from_millis(100)).await;
    let _stream = server.say(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n").await;
    begun.recv().await.unwrap();
    assert_eq!(server.stop().await, Drained::Cut(1));
}

/// Paused time passes as soon as nobody has anything to do: ten seconds of silence cost none.
#[tokio::test(start_paused = true)]
async fn who_trickles_a_head_is_hung_up_on_and_holds_nobody_up() {
    let server = Server::start(Desk::new().await, Duration::from_secs(5)).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        slow.push(server.say(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nx-slow: ").await);
    }
    let said = server.answer(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    let began = tokio::time::Instant::now();
    for mut stream in slow {
        // A byte now and then does not buy more time: the head as a whole has its limit.
        stream.write_all(b"a").await.ok();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408 "), "{text}");
    }
    assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
    assert_eq!(server.stop().await, Drained::Whole);
}

const HEALTH: &[u8] = b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn one_address_cannot_take_the_connections_of_the_others() {
    let server = Server::limited(Desk::new().await, Duration::from_secs(5), Most { in_all: 6, per_address: 4 }).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(server.connect_from(1).await);
    }
    let said = server.asked_from(1, HEALTH).await;
    assert!(said.starts_with("HTTP/1.1 429 ") && said.contains("retry-after: 5") && said.contains("suggested_fix"), "{said}");
    assert!(server.asked_from(2, HEALTH).await.starts_with("HTTP/1.1 200 "), "another address is served");
    let more = [server.connect_from(2).await, server.connect_from(3).await];
    let said = server.asked_from(4, HEALTH).await;
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("no room"), "{said}");
    drop((slow.pop(), more));
    // The server hears of it in its own time.
    while !server.asked_from(1, HEALTH).await.starts_with("HTTP/1.1 200 ") {}
    let bearer = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n", crate::desk::ADMIN);
    let metrics = server.asked_from(2, bearer.as_bytes()).await;
    for limit in ["all", "address"] {
        let line = format!("linkspan_http_connections_refused_total{{limit=\"{limit}\"}} ");
        assert!(metrics.lines().any(|l| l.strip_prefix(&line).is_some_and(|n| n.parse::<u64>().unwrap() > 0)), "{metrics}");
    }
    assert!(metrics.contains("linkspan_http_connections 4"), "{metrics}");
    drop(slow);
    assert_eq!(server.stop().await, Drained::Whole);
}

#[tokio::test(start_paused = true)]
async fn slow_speakers_of_one_address_give_their_places_back_in_time() {
    let server = Server::limited(Desk::new().await, Duration::from_secs(5), Most { in_all: 100, per_address: 50 }).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(server.say(b"GET /v1/health HTTP/1.1\r\nx-slow: ").await);
    }
    assert!(server.asked_from(1, HEALTH).await.starts_with("HTTP/1.1 429 "));
    let began = tokio::time::Instant::now();
    for mut stream in slow {
        stream.read_to_string(&mut String::new()).await.ok();
    }
    assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
    while !server.asked_from(1, HEALTH).await.starts_with("HTTP/1.1 200 ") {}
    assert_eq!(server.stop().await, Drained::Whole);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_the_answer_is_hung_up_on() {
    let large =
        Operation::get("large", "/large", Access::Anonymous, "Much.").call(async |_, _, _: Nothing| Ok(Reply::ok("x".repeat(32 << 20))));
    let server = Server::limited(Desk::with(vec![large]).await, Duration::from_secs(3600), Most { in_all: 1, per_address: 1 }).await;
    let _greedy = server.say(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let began = tokio::time::Instant::now();
    while !server.asked_from(1, b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.starts_with("HTTP/1.1 404 ") {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let waited = began.elapsed();
    assert!((Duration::from_secs(59)..Duration::from_secs(75)).contains(&waited), "{waited:?}");
    assert_eq!(server.stop().await, Drained::Whole);
}
