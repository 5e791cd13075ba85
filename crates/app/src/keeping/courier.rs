//! Carries a request whose answer must not be lost. The one who asked may be killed at any moment, so a process of its own asks, writes
//! the answer down, sealed, and only then hands it over. Whoever holds the lock next finds it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use linkspan_core::{Body, Error, ErrorKind, Http, Result, file_error};
use linkspan_http::Redirects;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use zeroize::Zeroizing;

use crate::secrets::{Expiry, Key, Vault};

/// Answers of token endpoints are small.
const LARGEST: usize = 4 << 20;

/// How requests are carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Courier {
    /// By the process that asks: an answer is lost when it is killed in the wrong moment.
    #[default]
    Own,
    /// By this program, started with [`WORD`] as its one argument.
    Program {
        path: PathBuf,
        /// Whether internal addresses are out of its reach.
        guarded: bool,
    },
}

/// The argument that makes the binary a courier.
pub const WORD: &str = "courier";

/// What a courier is told, on its stdin. It holds secrets: it is never written anywhere.
#[derive(Serialize, Deserialize)]
pub struct Errand {
    pub guarded: bool,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: String,
    journal: Journal,
}

/// Where the answer is written down, and under which key.
#[derive(Clone, Serialize, Deserialize)]
struct Journal {
    path: PathBuf,
    spends: String,
    /// A key for this one answer.
    key: String,
    /// The same key under the data dir's keys.
    wrapped: String,
    now: u64,
}

/// What lies in the file.
#[derive(Serialize, Deserialize)]
struct Written {
    spends: String,
    wrapped: String,
    answer: String,
}

/// An answer on its way through a file or a pipe.
#[derive(Serialize, Deserialize)]
struct Carried {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// What a courier says on its stdout.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Answer(Carried),
    Failed { kind: ErrorKind, message: String, fix: Option<String>, host: Option<String> },
}

/// The answer that was written down for this, if there is one that can be read.
pub fn found(path: &Path, spends: &str, vault: &Vault) -> Option<Response<Bytes>> {
    let written: Written = serde_json::from_slice(&std::fs::read(path).ok()?).ok().filter(|w: &Written| w.spends == spends)?;
    let key = vault.unwrap(&written.wrapped).ok()?;
    let key = Key::parse(std::str::from_utf8(&key).ok()?).ok()?;
    let plain = key.open(&written.answer, Expiry::Never).ok()?.plain;
    serde_json::from_slice::<Carried>(&plain).ok()?.response().ok()
}

/// What was kept elsewhere since is of no more use here.
pub fn forget(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// Sends the request. The lock goes along: nobody else begins while a courier is on its way, whatever became of this process.
pub async fn send(
    courier: &Courier,
    own: &Arc<dyn Http>,
    lock: &File,
    (path, spends): (&Path, &str),
    vault: &Vault,
    now: u64,
    request: Request<Bytes>,
) -> Result<Response<Bytes>> {
    let key = Key::generate()?.expose();
    let wrapped = vault.wrap(key.as_bytes(), now)?;
    let journal = Journal { path: path.to_owned(), spends: spends.to_owned(), key: key.to_string(), wrapped, now };
    match courier {
        Courier::Own => Errand::new(request, false, journal)?.carried(own).await?.response(),
        Courier::Program { path, guarded } => by(path, Errand::new(request, *guarded, journal)?, lock).await,
    }
}

/// The courier's own life: from stdin to stdout. The HTTP client is as guarded as the errand says.
pub async fn run(errand: &str, http: &Arc<dyn Http>) -> String {
    let told = match serde_json::from_str::<Errand>(errand) {
        Ok(errand) => match errand.carried(http).await {
            Ok(answer) => Told::Answer(answer),
            Err(e) => Told::failed(&e),
        },
        Err(_) => Told::failed(&Error::new(ErrorKind::Internal, "an errand could not be read")),
    };
    serde_json::to_string(&told).unwrap_or_default()
}

/// How guarded an errand wants its client.
pub fn is_guarded(errand: &str) -> bool {
    serde_json::from_str::<Errand>(errand).is_ok_and(|errand| errand.guarded)
}

async fn by(program: &Path, errand: Errand, lock: &File) -> Result<Response<Bytes>> {
    let failed = |e: io::Error| Error::new(ErrorKind::Internal, "the process that fetches a token cannot be used").because(e);
    let text = Zeroizing::new(serde_json::to_vec(&errand).map_err(|e| failed(e.into()))?);
    let held = lock.try_clone().map_err(failed)?;
    // A group of its own: what ends this process by its terminal's keys does not end the courier. Its stderr is the lock.
    let mut command = tokio::process::Command::new(program);
    command.arg(WORD).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(held)).process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    let output = async {
        // One that ended at once says so by what it does not answer.
        let _ = stdin.write_all(&text).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = output.await.map_err(failed)?;
    match serde_json::from_slice(&output.stdout) {
        Ok(Told::Answer(answer)) => answer.response(),
        Ok(Told::Failed { kind, message, fix, host }) => {
            let error = match host {
                Some(host) => Error::new(kind, message).with("host", host),
                None => Error::new(kind, message),
            };
            Err(match fix {
                Some(fix) => error.fix(fix),
                None => error,
            })
        }
        Err(e) => Err(Error::new(ErrorKind::Unavailable, "the process that fetches a token ended without an answer").because(e)),
    }
}

impl Errand {
    fn new(request: Request<Bytes>, guarded: bool, journal: Journal) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let headers = parts.headers.iter().map(|(name, value)| {
            let text = value.to_str().map_err(|e| Error::new(ErrorKind::ConfigInvalid, "a header holds what no header can").because(e))?;
            Ok((name.to_string(), text.to_owned()))
        });
        Ok(Self {
            guarded,
            method: parts.method.to_string(),
            url: parts.uri.to_string(),
            headers: headers.collect::<Result<_>>()?,
            body: BASE64_STANDARD.encode(&body),
            journal,
        })
    }

    fn request(&self) -> Option<Request<Body>> {
        let mut request = Request::new(Body::Full(BASE64_STANDARD.decode(&self.body).ok()?.into()));
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).ok()?;
        *request.uri_mut() = self.url.parse().ok()?;
        for (name, value) in &self.headers {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        }
        request.extensions_mut().insert(Redirects::Follow(30));
        Some(request)
    }

    /// Asks, writes a good answer down durably, and only then tells it.
    async fn carried(&self, http: &Arc<dyn Http>) -> Result<Carried> {
        let request = self.request().ok_or_else(|| Error::new(ErrorKind::Internal, "an errand's request cannot be made"))?;
        let (parts, body) = http.send(request).await?.into_parts();
        let headers = parts.headers.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        let carried =
            Carried { status: parts.status.as_u16(), headers: headers.collect(), body: BASE64_STANDARD.encode(body.bytes(LARGEST).await?) };
        // One that cannot be written down is told all the same: it may still be kept in time.
        if carried.status < 400
            && let Err(e) = self.journal.write(&carried)
        {
            tracing::warn!(error = %e, "a token's answer could not be written down on its way");
        }
        Ok(carried)
    }
}

impl Journal {
    fn write(&self, answer: &Carried) -> Result<()> {
        let odd = |e: serde_json::Error| Error::new(ErrorKind::Internal, "an answer could not be encoded").because(e);
        let plain = Zeroizing::new(serde_json::to_vec(answer).map_err(odd)?);
        let sealed = Key::parse(&self.key)?.seal(&plain, self.now)?;
        let written = Written { spends: self.spends.clone(), wrapped: self.wrapped.clone(), answer: sealed };
        let bytes = serde_json::to_vec(&written).map_err(odd)?;
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let part = self.path.with_extension("part");
        let done = || -> io::Result<()> {
            use std::{io::Write, os::unix::fs::OpenOptionsExt};
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&part, &self.path)?;
            File::open(folder)?.sync_all()
        };
        done().map_err(|e| file_error("a token's answer cannot be written down", &self.path, e))
    }
}

impl Carried {
    fn response(&self) -> Result<Response<Bytes>> {
        let odd = || Error::new(ErrorKind::Internal, "an answer that was carried cannot be read");
        let body = BASE64_STANDARD.decode(&self.body).map_err(|_| odd())?;
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = StatusCode::from_u16(self.status).map_err(|_| odd())?;
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                response.headers_mut().append(name, value);
            }
        }
        Ok(response)
    }
}

impl Told {
    fn failed(e: &Error) -> Self {
        let host = e.context().iter().find(|(name, _)| *name == "host").map(|(_, host)| host.clone());
        Self::Failed { kind: e.kind(), message: e.message().to_owned(), fix: e.suggested_fix().map(str::to_owned), host }
    }
}
