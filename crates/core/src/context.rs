//! What the house lends to a connector: time, network, files, and the failpoints of the run. Never a database, never the engine.

use std::{
    collections::HashMap,
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Error, ErrorKind, Http, Keeper, NoHttp, NoKeeper, Result};

/// Lent to every connector when it is opened. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub clock: Arc<dyn Clock>,
    pub net: Arc<dyn Net>,
    pub http: Arc<dyn Http>,
    /// Where tokens go that the connector was given in place of older ones.
    pub keeper: Arc<dyn Keeper>,
    pub files: Files,
    pub failpoints: Failpoints,
}

impl Context {
    /// The real machine: its clock, its network, its disk. No HTTP client and no keeper: the binary brings them.
    pub fn real() -> Self {
        Self::with_failpoints(Failpoints::default())
    }
    pub fn with_failpoints(failpoints: Failpoints) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            net: Arc::new(SystemNet),
            http: Arc::new(NoHttp),
            keeper: Arc::new(NoKeeper),
            files: Files { failpoints: failpoints.clone() },
            failpoints,
        }
    }
}

#[async_trait]
pub trait Clock: Send + Sync {
    fn now(&self) -> jiff::Timestamp;
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock; sleeps follow tokio's, so that paused time works.
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one clock")]
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

pub trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}
pub type BoxDuplex = Pin<Box<dyn Duplex>>;

/// The one way to a host. A guard or a fault proxy is another implementation of it.
#[async_trait]
pub trait Net: Send + Sync {
    /// Unavailable when refused or unknown, Timeout when nobody answers in time.
    async fn tcp(&self, host: &str, port: u16, within: Duration) -> Result<BoxDuplex>;
    async fn unix(&self, path: &Path, within: Duration) -> Result<BoxDuplex>;
}

pub struct SystemNet;

#[async_trait]
impl Net for SystemNet {
    async fn tcp(&self, host: &str, port: u16, within: Duration) -> Result<BoxDuplex> {
        let place = format!("{host}:{port}");
        match tokio::time::timeout(within, tokio::net::TcpStream::connect((host, port))).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).ok();
                socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive()).ok();
                Ok(Box::pin(stream))
            }
            Ok(Err(e)) => Err(Error::new(ErrorKind::Unavailable, "the host cannot be reached")
                .with("address", place)
                .fix("check that host and port are right and that the server is up")
                .because(e)),
            Err(_) => Err(no_answer(&place, within)),
        }
    }
    async fn unix(&self, path: &Path, within: Duration) -> Result<BoxDuplex> {
        let place = path.display().to_string();
        match tokio::time::timeout(within, tokio::net::UnixStream::connect(path)).await {
            Ok(Ok(stream)) => Ok(Box::pin(stream)),
            Ok(Err(e)) => Err(Error::new(ErrorKind::Unavailable, "the socket cannot be reached")
                .with("socket", place)
                .fix("check the socket's path and that the server is up")
                .because(e)),
            Err(_) => Err(no_answer(&place, within)),
        }
    }
}

/// A peer that went away without a word (a restarted firewall, a pulled cable) is noticed after two minutes. It also keeps quiet
/// connections, such as a source's while the destination works, from being forgotten by what stands between.
fn keepalive() -> socket2::TcpKeepalive {
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));
    #[cfg(not(windows))]
    let keepalive = keepalive.with_retries(6);
    keepalive
}

fn no_answer(place: &str, within: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer within {} s", within.as_secs_f32()))
        .with("address", place)
        .fix("check host, port and firewall: packets to it seem to vanish")
}

/// Durable steps on local files. Blocking: call from a blocking thread or accept the short wait of a rename.
#[derive(Clone, Default)]
pub struct Files {
    failpoints: Failpoints,
}

impl Files {
    /// Flushes a file's data and metadata to disk. A failed sync is final: the pages may be gone, so it must not be retried.
    pub fn sync(&self, file: &std::fs::File, path: &Path) -> Result<()> {
        self.failpoints.hit_sync("files.sync")?;
        file.sync_all().map_err(|e| file_error("the file could not be synced to disk", path, e))
    }
    pub fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.failpoints.hit_sync("files.sync_dir")?;
        let dir_file = std::fs::File::open(dir).map_err(|e| file_error("the folder cannot be opened", dir, e))?;
        dir_file.sync_all().map_err(|e| file_error("the folder could not be synced to disk", dir, e))
    }
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.failpoints.hit_sync("files.rename")?;
        std::fs::rename(from, to).map_err(|e| file_error("the file could not be renamed", from, e))
    }
    /// Writes a whole new file durably, or fails with `Conflict` when the name is taken (put-if-absent).
    pub fn put_if_absent(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.failpoints.hit_sync("files.put")?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let temp = dir.join(format!(".{}.{}", path.file_name().and_then(|n| n.to_str()).unwrap_or("new"), uuid::Uuid::new_v4()));
        let result = self.write_and_link(&temp, path, bytes, dir);
        std::fs::remove_file(&temp).ok();
        result
    }
    fn write_and_link(&self, temp: &Path, path: &Path, bytes: &[u8], dir: &Path) -> Result<()> {
        let mut file = std::fs::File::create_new(temp).map_err(|e| file_error("the file cannot be made", temp, e))?;
        io::Write::write_all(&mut file, bytes).map_err(|e| file_error("the file cannot be written", temp, e))?;
        self.sync(&file, temp)?;
        match std::fs::hard_link(temp, path) {
            Ok(()) => self.sync_dir(dir),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::new(ErrorKind::Conflict, "the file is already there").with("path", path.display()))
            }
            Err(e) => Err(file_error("the file cannot be made", path, e)),
        }
    }
}

/// An I/O error with its path, its kind by remedy and what to do.
pub fn file_error(message: &'static str, path: &Path, e: io::Error) -> Error {
    let (kind, fix) = match e.kind() {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, "check the path"),
        io::ErrorKind::PermissionDenied => (ErrorKind::PermissionDenied, "give this user the right to read and write there"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (ErrorKind::StorageFull, "free space or choose another place; run the same command again afterwards, nothing is lost")
        }
        io::ErrorKind::AlreadyExists => (ErrorKind::AlreadyExists, "choose another path"),
        _ => (ErrorKind::Unavailable, "look at the disk and the path; run the same command again afterwards"),
    };
    Error::new(kind, message).with("path", path.display()).fix(fix).because(e)
}

/// What happens when a failpoint is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The step fails with `Unavailable`.
    Error,
    /// The step fails as a full disk does.
    Full,
    /// The process dies at once, as by kill -9.
    Abort,
    /// The step waits (milliseconds) and goes on.
    Delay(u64),
}

/// Named points at every step that crosses durability; scoped to a run, so that two runs in one process do not disturb each other.
/// Written as `name=fault[@n]`, separated by commas: `pipe.commit.after=abort@3` dies at the third arrival.
#[derive(Clone, Default)]
pub struct Failpoints(Arc<Points>);

#[derive(Default)]
struct Points {
    armed: AtomicBool,
    points: Mutex<HashMap<String, (Fault, u64)>>,
    seen: Mutex<Option<HashMap<&'static str, u64>>>,
}

impl Failpoints {
    pub fn parse(text: &str) -> Result<Self> {
        let points = Self::default();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let bad = || {
                Error::new(ErrorKind::ConfigInvalid, "not a failpoint").with("text", part).fix("write name=error|full|abort|delay:MS[@n]")
            };
            let (name, rest) = part.split_once('=').ok_or_else(bad)?;
            let (fault, at) = rest.split_once('@').map_or((rest, Ok(1)), |(f, n)| (f, n.parse::<u64>()));
            let fault = match fault.split_once(':') {
                Some(("delay", ms)) => Fault::Delay(ms.parse().map_err(|_| bad())?),
                None if fault == "error" => Fault::Error,
                None if fault == "full" => Fault::Full,
                None if fault == "abort" => Fault::Abort,
                _ => return Err(bad()),
            };
            points.arm(name, fault, at.map_err(|_| bad())?);
        }
        Ok(points)
    }
    /// Arms a point: the `nth` arrival from now on meets the fault, once.
    pub fn arm(&self, name: &str, fault: Fault, nth: u64) {
        self.0.points.lock().expect("no panic while held").insert(name.to_owned(), (fault, nth.max(1)));
        self.0.armed.store(true, Ordering::Release);
    }
    /// Starts to count arrivals, so that a test can learn which points a scenario passes.
    pub fn record(&self) {
        *self.0.seen.lock().expect("no panic while held") = Some(HashMap::new());
        self.0.armed.store(true, Ordering::Release);
    }
    /// The points passed since `record`, with how often.
    pub fn seen(&self) -> Vec<(&'static str, u64)> {
        let seen = self.0.seen.lock().expect("no panic while held");
        let mut all: Vec<_> = seen.iter().flatten().map(|(k, v)| (*k, *v)).collect();
        all.sort_unstable();
        all
    }
    /// Marks a step. Free when nothing is armed.
    pub async fn hit(&self, name: &'static str) -> Result<()> {
        match self.due(name) {
            Some(Fault::Delay(ms)) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(())
            }
            Some(fault) => strike(name, fault),
            None => Ok(()),
        }
    }
    /// The same for blocking code.
    pub fn hit_sync(&self, name: &'static str) -> Result<()> {
        match self.due(name) {
            Some(Fault::Delay(ms)) => {
                std::thread::sleep(Duration::from_millis(ms));
                Ok(())
            }
            Some(fault) => strike(name, fault),
            None => Ok(()),
        }
    }
    fn due(&self, name: &'static str) -> Option<Fault> {
        if !self.0.armed.load(Ordering::Acquire) {
            return None;
        }
        if let Some(seen) = self.0.seen.lock().expect("no panic while held").as_mut() {
            *seen.entry(name).or_default() += 1;
        }
        let mut points = self.0.points.lock().expect("no panic while held");
        let (fault, left) = points.get_mut(name)?;
        *left -= 1;
        let fault = *fault;
        if *left == 0 {
            points.remove(name);
            return Some(fault);
        }
        None
    }
}

fn strike(name: &'static str, fault: Fault) -> Result<()> {
    match fault {
        Fault::Error => Err(Error::new(ErrorKind::Unavailable, "a planned fault").with("failpoint", name)),
        Fault::Full => Err(Error::new(ErrorKind::StorageFull, "a planned full disk").with("failpoint", name).fix("free space")),
        Fault::Abort => std::process::abort(),
        Fault::Delay(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failpoint_strikes_once_at_its_turn() {
        let f = Failpoints::parse("a.b=error@2").unwrap();
        assert!(f.hit("a.b").await.is_ok());
        assert!(f.hit("a.b").await.is_err());
        assert!(f.hit("a.b").await.is_ok());
        assert!(Failpoints::parse("a.b=boom").is_err());
    }
}
