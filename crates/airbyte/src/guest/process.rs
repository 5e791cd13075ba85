//! A running program: started in a process group and a folder of its own, read line by line, ended with all that it started.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use linkspan_core::{Error, ErrorKind, Result, Retry};
use memchr::memchr;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
};

use super::container::Container;

/// How long a program may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(5);
/// The last lines of its log that are kept for an error.
const KEPT_LINES: usize = 20;
/// The longest line of a log that is kept.
const LOG_LINE: usize = 1 << 16;
/// Of this process's environment only these are handed on.
const INHERITED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "HTTPS_PROXY",
];

/// What a container client needs besides, to find what runs its containers.
const INHERITED_BY_CLIENTS: [&str; 5] = ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "CONTAINER_HOST", "XDG_RUNTIME_DIR"];

/// A folder that only this user can look into; removed when dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("linkspan-{}", uuid::Uuid::new_v4().simple()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| linkspan_core::file_error("a folder for the program's files cannot be made", &path, e))?;
        Ok(Self(path))
    }
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
    /// Writes a file that only this user can read.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        write_private(&path, text)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in a folder that nobody else can read.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn write_private(path: &Path, text: &str) -> Result<()> {
    let failed = |e| linkspan_core::file_error("a file for the program cannot be written", path, e);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Hides what a config holds from whatever a program says. Short values hide nothing: half of every text would be gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Mask(Arc<[String]>);

impl Mask {
    pub(super) fn of(mut values: Vec<String>) -> Self {
        let lines: Vec<String> = values.iter().filter(|v| v.contains('\n')).flat_map(|v| v.lines().map(str::to_owned)).collect();
        values.extend(lines.into_iter().filter(|line| line.len() >= 16));
        values.retain(|value| value.len() >= 4);
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self(values.into())
    }
    pub(super) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| if text.contains(secret) { text.replace(secret, "****") } else { text })
    }
}

/// What is started, and within which limits.
pub(super) struct Start<'a> {
    /// The container that the command runs, if it runs one.
    pub container: Option<Container>,
    pub command: &'a [String],
    pub arguments: &'a [String],
    pub env: &'a BTreeMap<String, String>,
    pub mask: Mask,
    pub silence: Duration,
    pub line_bytes: usize,
    pub input: Input,
}

/// Whether the program is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    Messages,
}

pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
    out: BufReader<ChildStdout>,
    log: Arc<Mutex<VecDeque<String>>>,
    logging: JoinHandle<()>,
    mask: Mask,
    silence: Duration,
    line_bytes: usize,
    line: Vec<u8>,
    container: Option<Container>,
    _folder: Folder,
}

impl Process {
    pub(super) fn start(start: Start<'_>, folder: Folder) -> Result<Self> {
        let [program, first @ ..] = start.command else { return Err(Error::new(ErrorKind::ConfigInvalid, "there is no program to start")) };
        let mut command = Command::new(program);
        command.args(first).args(start.arguments).env_clear().process_group(0).kill_on_drop(true);
        let for_client: &[&str] = if start.container.is_some() { &INHERITED_BY_CLIENTS } else { &[] };
        let inherited = INHERITED.iter().chain(for_client);
        command.envs(inherited.filter_map(|name| Some((name, std::env::var_os(name)?)))).envs(start.env);
        command.env("PYTHONUNBUFFERED", "1");
        command
            .stdin(if start.input == Input::Messages { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| {
            let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::ConfigInvalid };
            Error::new(kind, "the program cannot be started")
                .with("program", program)
                .fix("give the program's whole path, and see that this user may run it")
                .because(e)
        })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::new(ErrorKind::Internal, "the program has no output"));
        };
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let logging = tokio::spawn(keep_log(err, start.mask.clone(), log.clone()));
        Ok(Self {
            child,
            group,
            out: BufReader::with_capacity(1 << 16, out),
            log,
            logging,
            mask: start.mask,
            silence: start.silence,
            line_bytes: start.line_bytes,
            line: Vec::new(),
            container: start.container,
            _folder: folder,
        })
    }

    /// Where messages are written to it; `None` where it takes none, and the second time.
    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The next line, without its end; `None` when there are no more.
    pub(super) async fn line(&mut self) -> Result<Option<&[u8]>> {
        self.line.clear();
        let within = self.silence;
        let read = tokio::time::timeout(within, read_line(&mut self.out, &mut self.line, self.line_bytes)).await;
        match read {
            Ok(Ok(false)) => Ok(None),
            Ok(Ok(true)) => Ok(Some(&self.line)),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(self.told(
                Error::new(ErrorKind::Timeout, format!("the program said nothing for {} s", within.as_secs()))
                    .fix("look into its log (-v), or raise `silence_seconds`"),
            )),
        }
    }

    /// Waits for the program's end after its last line.
    pub(super) async fn end(&mut self) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(GRACE, self.child.wait()).await;
        // What it started and left behind goes with it.
        self.signal(Signal::KILL);
        self.group = None;
        if ended.as_ref().is_ok_and(std::result::Result::is_ok) {
            self.container = None;
        }
        let _ = tokio::time::timeout(Duration::from_millis(500), &mut self.logging).await;
        match ended {
            Ok(status) => status.map_err(|e| Error::new(ErrorKind::Internal, "the program's end cannot be awaited").because(e)),
            Err(_) => Err(self.told(Error::new(ErrorKind::Unavailable, "the program closed its output and did not end"))),
        }
    }

    /// Asks the program and all that it started to end, and makes it after a while.
    pub(super) async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
    }

    /// The error with the last line of the program's log.
    pub(super) fn told(&self, error: Error) -> Error {
        let log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let last = log.iter().rev().find(|line| !line.trim().is_empty());
        match last {
            Some(line) => error.with("log", line),
            None => error,
        }
    }

    /// A program that ended with an error, or was ended.
    pub(super) fn failed(&self, status: ExitStatus) -> Error {
        let how = status.code().map_or_else(|| "by a signal".to_owned(), |code| format!("with exit code {code}"));
        self.told(Error::new(ErrorKind::Unavailable, format!("the program ended {how}")).retry(Retry::Never).fix("look into its log (-v)"))
    }

    pub(super) fn masked(&self, text: &str) -> String {
        self.mask.hide(text)
    }
}

impl Drop for Process {
    /// Whoever drops it without asking wants it gone now, with all that it started.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(container) = &self.container {
            container.remove();
        }
        self.logging.abort();
    }
}

/// Reads up to the next line break; `false` at the end.
async fn read_line(out: &mut (impl AsyncRead + AsyncBufReadExt + Unpin), line: &mut Vec<u8>, most: usize) -> Result<bool> {
    loop {
        let chunk = out.fill_buf().await.map_err(|e| Error::new(ErrorKind::Unavailable, "the program cannot be read").because(e))?;
        if chunk.is_empty() {
            return Ok(!line.is_empty());
        }
        let (taken, is_whole) = memchr(b'\n', chunk).map_or((chunk.len(), false), |at| (at, true));
        if line.len() + taken > most {
            return Err(Error::new(ErrorKind::DataInvalid, "a line of the program is longer than it may be")
                .with("bytes", most)
                .fix("raise `line_mb`, if its records are really that large"));
        }
        line.extend_from_slice(&chunk[..taken]);
        out.consume(taken + usize::from(is_whole));
        if is_whole {
            return Ok(true);
        }
    }
}

async fn keep_log(err: impl AsyncRead + Unpin, mask: Mask, log: Arc<Mutex<VecDeque<String>>>) {
    let mut err = BufReader::new(err);
    let mut line = Vec::new();
    // A line is hidden in as a whole, or not kept at all: a secret may lie across any place where it would be cut.
    let mut is_too_long = false;
    loop {
        let Ok(chunk) = err.fill_buf().await else { return };
        let is_over = chunk.is_empty();
        let (taken, is_whole) = memchr(b'\n', chunk).map_or((chunk.len(), is_over), |at| (at, true));
        is_too_long |= line.len() + taken > LOG_LINE;
        if !is_too_long {
            line.extend_from_slice(&chunk[..taken]);
        }
        err.consume(if is_over { 0 } else { taken + usize::from(is_whole) });
        if is_whole && !(is_over && line.is_empty()) {
            let text =
                if is_too_long { "(a line too long to be kept)".to_owned() } else { mask.hide(String::from_utf8_lossy(&line).trim_end()) };
            tracing::info!(target: "linkspan", "program: {text}");
            keep(&log, text);
            line.clear();
            is_too_long = false;
        }
        if is_over {
            return;
        }
    }
}

fn keep(log: &Mutex<VecDeque<String>>, text: String) {
    let mut log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if log.len() == KEPT_LINES {
        log.pop_front();
    }
    log.push_back(text);
}
