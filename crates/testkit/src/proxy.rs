//! A small TCP proxy that fails on command: between a connector and its real server.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// How the proxy treats bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As if it were not there.
    Pass,
    /// New connections are closed at once.
    Refuse,
    /// Connections are taken and nothing ever comes back; bytes under way are held.
    BlackHole,
    /// Every chunk waits so long.
    Delay(Duration),
    /// So many bytes per second, both ways together, per connection.
    Throttle(u64),
}

/// A proxy in front of one address. Dropping it closes everything.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: AbortHandle,
}

struct Shared {
    mode: watch::Sender<Mode>,
    /// Counts up with every `cut`: connections of an older number close.
    cut: watch::Sender<u64>,
    /// Bytes left until the next cut; `u64::MAX` when none is planned.
    left: AtomicU64,
    passed: AtomicU64,
    open: AtomicUsize,
    accepted: AtomicUsize,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target` (`host:port`).
    pub async fn start(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            mode: watch::channel(Mode::Pass).0,
            cut: watch::channel(0).0,
            left: AtomicU64::new(u64::MAX),
            passed: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, target.to_owned(), shared.clone()));
        Ok(Self { address, shared, listener: task.abort_handle() })
    }
    pub fn address(&self) -> SocketAddr {
        self.address
    }
    pub fn port(&self) -> u16 {
        self.address.port()
    }
    /// From now on, for open connections too.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }
    /// Closes every open connection now.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|n| *n += 1);
    }
    /// Closes every open connection once `bytes` more have passed, both ways together. Once.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.left.store(bytes, Ordering::SeqCst);
    }
    /// Bytes that passed so far.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }
    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
    /// Connections that were ever taken.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The listener's task owns its connections: aborting it closes them.
        self.listener.abort();
    }
}

async fn accept(listener: TcpListener, target: String, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                if *shared.mode.borrow() != Mode::Refuse {
                    connections.spawn(serve(client, target.clone(), shared.clone()));
                }
            }
        }
    }
}

async fn serve(client: TcpStream, target: String, shared: Arc<Shared>) {
    shared.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(shared.clone());
    let mut cut = shared.cut.subscribe();
    let born = *cut.borrow_and_update();
    let carry = async {
        await_no_hole(&shared).await;
        let server = TcpStream::connect(&target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        tokio::try_join!(pump(client_in, server_out, &shared), pump(server_in, client_out, &shared))?;
        Ok::<_, io::Error>(())
    };
    tokio::select! {
        _ = carry => {}
        _ = cut.wait_for(|n| *n > born) => {}
    }
}

struct Open(Arc<Shared>);
impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn await_no_hole(shared: &Shared) {
    let mut mode = shared.mode.subscribe();
    mode.wait_for(|m| *m != Mode::BlackHole).await.ok();
}

async fn pump(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        await_no_hole(shared).await;
        let mode = *shared.mode.borrow();
        match mode {
            Mode::Delay(time) => tokio::time::sleep(time).await,
            Mode::Throttle(rate) => tokio::time::sleep(Duration::from_secs_f64(n as f64 / rate.max(1) as f64)).await,
            _ => {}
        }
        let allowed = allow(shared, n as u64);
        to.write_all(&buffer[..allowed as usize]).await?;
        shared.passed.fetch_add(allowed, Ordering::SeqCst);
        if allowed < n as u64 {
            shared.cut.send_modify(|n| *n += 1);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
}

/// How many of `wanted` bytes may still pass before the planned cut.
fn allow(shared: &Shared, wanted: u64) -> u64 {
    let mut allowed = wanted;
    let take = |left: u64| match left {
        u64::MAX => None,
        left if left >= wanted => Some(left - wanted),
        // The cut is due: no further one is planned.
        _ => Some(u64::MAX),
    };
    if let Ok(left) = shared.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
        && left < wanted
    {
        allowed = left;
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut r, mut w) = socket.split();
                    tokio::io::copy(&mut r, &mut w).await
                });
            }
        });
        address
    }

    async fn ask(socket: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        socket.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        socket.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn bytes_pass_until_they_are_cut() {
        let proxy = Proxy::start(&echo().await.to_string()).await.unwrap();
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut socket, b"hello").await.unwrap(), b"hello");
        proxy.cut_after(7);
        assert!(ask(&mut socket, b"hello").await.is_err());
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut socket, b"again").await.unwrap(), b"again");
        proxy.cut();
        assert!(ask(&mut socket, b"gone").await.is_err());
    }

    #[tokio::test]
    async fn a_black_hole_swallows_and_a_refusal_closes() {
        let proxy = Proxy::start(&echo().await.to_string()).await.unwrap();
        proxy.set(Mode::BlackHole);
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(50), ask(&mut socket, b"hello")).await;
        assert!(answer.is_err(), "an answer came out of a black hole");
        proxy.set(Mode::Refuse);
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(ask(&mut socket, b"hello").await.is_err());
    }
}
