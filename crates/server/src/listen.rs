//! The socket: connections with limits on how slowly they may speak, and an end that lets the requests under way finish.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::pin, time::Duration};

use axum::{Router, body::Body};
use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use linkspan_core::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower::ServiceExt;
use uuid::Uuid;

use crate::{
    answer,
    door::Peer,
    framing::{TwoEnds, Watched},
    limits,
    seats::{Full, Most, Seats},
};

/// How long the head of a request may take, and how long a connection may lie idle.
const HEAD: Duration = Duration::from_secs(10);
/// Enough for the largest head that is answered with a refusal in our own words.
const HEAD_BUFFER: usize = 64 << 10;
const HEAD_LINES: usize = 200;
/// How many are being told at once that there is no room, and how long that may take.
const REFUSALS: usize = 64;
const REFUSAL: Duration = Duration::from_secs(1);
/// When no file descriptor is left, some connection will end soon.
const BREATH: Duration = Duration::from_millis(50);

/// A bound address that nobody is answered on yet.
pub struct Listener {
    socket: TcpListener,
    pub address: SocketAddr,
    most: Most,
}

/// How the end came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every request under way was answered.
    Whole,
    /// Time was up; this many connections were cut.
    Cut(usize),
}

impl Listener {
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let socket = TcpListener::bind(address).await.map_err(|e| not_bound(address, e))?;
        let address = socket.local_addr().map_err(|e| not_bound(address, e))?;
        Ok(Self { socket, address, most: Most::default() })
    }

    /// With other limits on the number of connections.
    pub fn at_most(self, most: Most) -> Self {
        Self { most, ..self }
    }

    /// Answers until `until`, then takes no new connection, lets the requests under way finish and gives up after `drain`. A connection
    /// beyond the limits is told so and closed.
    pub async fn serve(self, router: Router, until: impl Future<Output = ()>, drain: Duration) -> Drained {
        let (graceful, seats) = (GracefulShutdown::new(), Seats::new(self.most));
        let (mut connections, mut refusals) = (JoinSet::new(), JoinSet::new());
        let mut until = pin!(until);
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = &mut until => break,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, peer)) => {
                    let seat = match seats.take(peer.ip()) {
                        Ok(seat) => seat,
                        Err(full) => {
                            while refusals.try_join_next().is_some() {}
                            // Under a flood of them the connection is just closed.
                            if refusals.len() < REFUSALS {
                                refusals.spawn(refuse(stream, full));
                            }
                            continue;
                        }
                    };
                    let connection = graceful.watch(connection(stream, peer, router.clone(), seats.clone()));
                    connections.spawn(async move {
                        let _seat = seat;
                        if let Err(e) = connection.await {
                            tracing::debug!(error = %e, "a connection ended");
                        }
                    });
                }
                Err(e) => {
                    tracing::warn!(error = %e, "a connection could not be taken");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        drop(self.socket);
        let whole = tokio::time::timeout(drain, graceful.shutdown()).await.is_ok();
        while connections.try_join_next().is_some() {}
        if whole { Drained::Whole } else { Drained::Cut(connections.len()) }
    }
}

/// Says why and hears the other side out, so that it reads the answer before it learns that nobody listens.
async fn refuse(mut stream: TcpStream, full: Full) {
    let said = async {
        stream.write_all(full.answer().as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    tokio::time::timeout(REFUSAL, said).await.ok();
}

type Connection<S> = http1::Connection<TokioIo<Watched>, S>;

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    seats: Seats,
) -> Connection<impl hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send>> {
    stream.set_nodelay(true).ok();
    let (stream, two_ends) = Watched::new(stream);
    let service = service_fn(move |request| answered(router.clone(), (peer, seats.clone()), two_ends.clone(), request));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BUFFER)
        .max_headers(HEAD_LINES)
        .serve_connection(TokioIo::new(stream), service)
}

/// A request whose end is told by chunks ends the connection: nobody may have another opinion of what comes after it.
async fn answered(
    router: Router,
    (peer, seats): (SocketAddr, Seats),
    two_ends: TwoEnds,
    mut request: Request<Incoming>,
) -> std::result::Result<Response<Body>, Infallible> {
    let last = request.headers().contains_key(header::TRANSFER_ENCODING);
    request.extensions_mut().insert(Peer(peer.ip()));
    request.extensions_mut().insert(seats);
    let mut response = match two_ends.seen() {
        true => answer::sealed(answer::refusal(&limits::two_ends()), &Uuid::now_v7().to_string()),
        false => router.oneshot(request.map(Body::new)).await?,
    };
    if last || two_ends.seen() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn not_bound(address: SocketAddr, e: std::io::Error) -> Error {
    let (kind, fix) = match e.kind() {
        std::io::ErrorKind::AddrInUse => (ErrorKind::Conflict, "choose another port with --port, or stop what listens there"),
        std::io::ErrorKind::PermissionDenied => (ErrorKind::PermissionDenied, "choose a port above 1023 with --port"),
        _ => (ErrorKind::ConfigInvalid, "choose an address of this machine with --bind"),
    };
    Error::new(kind, "the address cannot be listened on").with("address", address).fix(fix).because(e)
}
