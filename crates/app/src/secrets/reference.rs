//! Secrets that lie elsewhere: `vault://mount/path#field`, `env://NAME`, `file://name`. The reference is stored and shown; the value
//! is read when a connector is opened, and never kept.
//!
//! Whoever may write a config may write a reference. So that nobody reads this process's own environment or the machine's files
//! through one, only variables of one prefix and files of one folder can be named.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{Request, StatusCode};
use linkspan_core::{Body, Clock, Error, ErrorKind, Http, Result, Secret};
use serde_json::Value;

use super::hidden;

/// Variables that may be named.
const PREFIX: &str = "LINKSPAN_SECRET_";
/// A secret is no document.
const LONGEST: usize = 64 * 1024;
const LONGEST_ANSWER: usize = 1 << 20;
/// A vault that elects or unseals itself is back after a moment: so often it is asked, with these pauses between.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];
/// For one answer of the vault.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a secret lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Vault { mount: String, path: String, field: String },
    Env(String),
    File(String),
}

/// HashiCorp Vault, or what speaks its KV version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultServer {
    /// `VAULT_ADDR`.
    pub address: String,
    /// `VAULT_TOKEN`.
    pub token: Secret,
    /// `VAULT_NAMESPACE`.
    pub namespace: Option<String>,
}

/// The places that references reach.
pub struct Elsewhere {
    folder: PathBuf,
    vault: Option<VaultServer>,
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
}

impl Reference {
    /// Nothing for a text that is none; an error for one that begins as a reference and is not whole.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let bad = |fix: &'static str| Error::new(ErrorKind::ConfigInvalid, "a secret's reference is not whole").fix(fix);
        if let Some(rest) = text.strip_prefix("vault://") {
            let form = "write vault://mount/path#field";
            let (place, field) = rest.split_once('#').ok_or_else(|| bad(form))?;
            let (mount, path) = place.split_once('/').ok_or_else(|| bad(form))?;
            let plain = |s: &str| !s.is_empty() && s.split('/').all(|p| !p.is_empty() && p != "." && p != "..") && s.chars().all(is_plain);
            if !plain(mount) || !plain(path) || field.is_empty() {
                return Err(bad(form));
            }
            return Ok(Some(Self::Vault { mount: mount.into(), path: path.into(), field: field.into() }));
        }
        if let Some(name) = text.strip_prefix("env://") {
            if !name.starts_with(PREFIX) || name.chars().any(|c| !c.is_ascii_alphanumeric() && c != '_') {
                return Err(bad("only variables whose names begin with LINKSPAN_SECRET_ can be named: env://LINKSPAN_SECRET_NAME"));
            }
            return Ok(Some(Self::Env(name.to_owned())));
        }
        if let Some(name) = text.strip_prefix("file://") {
            let plain = !name.is_empty() && name.split('/').all(|p| !p.is_empty() && p != "." && p != "..") && !name.contains('\0');
            if !plain {
                return Err(bad("name a file of the data dir's folder `secrets`: file://name"));
            }
            return Ok(Some(Self::File(name.to_owned())));
        }
        Ok(None)
    }
}

impl Reference {
    /// Whether it lies where the project's own secrets lie.
    pub fn belongs_to(&self, project: &str) -> bool {
        match self {
            Self::Vault { path, .. } | Self::File(path) => path.split_once('/').is_some_and(|(first, _)| first == project),
            Self::Env(name) => {
                name.strip_prefix(PREFIX).and_then(|n| n.strip_prefix(&env_word(project))).is_some_and(|n| n.starts_with('_'))
            }
        }
    }
    /// How a project's own references look.
    pub fn own_forms(project: &str) -> String {
        format!("vault://mount/{project}/..., file://{project}/..., env://{PREFIX}{}_...", env_word(project))
    }
}

fn env_word(project: &str) -> String {
    project.to_uppercase().replace('-', "_")
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/')
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vault { mount, path, field } => write!(f, "vault://{mount}/{path}#{field}"),
            Self::Env(name) => write!(f, "env://{name}"),
            Self::File(name) => write!(f, "file://{name}"),
        }
    }
}

impl Elsewhere {
    /// `folder` holds the files that may be named. The vault's address is the operator's word, so no guard stands before it.
    pub fn new(folder: &Path, vault: Option<VaultServer>, clock: Arc<dyn Clock>) -> Self {
        if let Some(server) = &vault {
            hidden::hide(server.token.expose());
        }
        let http = linkspan_http::client(linkspan_http::Policy::Open, clock.clone());
        Self { folder: folder.to_owned(), vault, http, clock }
    }
    /// The secret itself, read anew each time and never empty. An error names the reference.
    pub async fn read(&self, reference: &Reference) -> Result<String> {
        let read = match reference {
            Reference::Env(name) => std::env::var(name).map_err(|_| {
                Error::new(ErrorKind::NotFound, "the variable that holds a secret is not set").fix("set it where the server runs")
            }),
            Reference::File(name) => self.file(name).await,
            Reference::Vault { mount, path, field } => self.vault(mount, path, field).await,
        };
        let whole = read.and_then(|text| {
            if !text.is_empty() {
                return Ok(text);
            }
            Err(Error::new(ErrorKind::DataInvalid, "the secret that a reference leads to is empty").fix("put the secret there"))
        });
        whole.map_err(|e| e.with("reference", reference))
    }

    async fn file(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        let gone = |e: std::io::Error| {
            Error::new(ErrorKind::NotFound, "the file that holds a secret cannot be read")
                .fix(format!("put it into the folder {} where the server runs", self.folder.display()))
                .because(e)
        };
        // A link that leads out of the folder is not followed.
        let (real, folder) =
            (tokio::fs::canonicalize(&path).await.map_err(gone)?, tokio::fs::canonicalize(&self.folder).await.map_err(gone)?);
        if !real.starts_with(&folder) {
            return Err(Error::new(ErrorKind::PermissionDenied, "the file that holds a secret lies outside of the folder for secrets"));
        }
        let size = tokio::fs::metadata(&real).await.map_err(gone)?.len();
        if size > LONGEST as u64 {
            return Err(Error::new(ErrorKind::DataInvalid, "the file is too long for a secret").with("limit_bytes", LONGEST));
        }
        let text = tokio::fs::read_to_string(&real).await.map_err(gone)?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn vault(&self, mount: &str, path: &str, field: &str) -> Result<String> {
        let server = self.vault.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, "no vault is set up for this server")
                .fix("set VAULT_ADDR and VAULT_TOKEN where the server runs")
        })?;
        let url = format!("{}/v1/{mount}/data/{path}", server.address.trim_end_matches('/'));
        let mut pauses = PAUSES.iter();
        let answer = loop {
            match self.ask(server, &url).await {
                Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => match pauses.next() {
                    Some(pause) => self.clock.sleep(*pause).await,
                    None => return Err(e),
                },
                answer => break answer?,
            }
        };
        match &answer["data"]["data"][field] {
            Value::String(text) => Ok(text.clone()),
            Value::Null => {
                Err(Error::new(ErrorKind::NotFound, "the secret in the vault has no such field").fix("look at the name after `#`"))
            }
            other => Ok(other.to_string()),
        }
    }

    async fn ask(&self, server: &VaultServer, url: &str) -> Result<Value> {
        let mut request = Request::get(url).header("X-Vault-Token", server.token.expose()).header("X-Vault-Request", "true");
        if let Some(namespace) = &server.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        let request = request
            .body(Body::empty())
            .map_err(|_| Error::new(ErrorKind::ConfigInvalid, "the vault's address is no URL").fix("look at VAULT_ADDR"))?;
        let asked = async {
            let answer = self.http.send(request).await?;
            let status = answer.status();
            Ok((status, answer.into_body().bytes(LONGEST_ANSWER).await?))
        };
        let fix = "look at VAULT_ADDR, and whether the vault runs";
        let (status, body) = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer.map_err(|e: Error| Error::new(e.kind(), "the vault cannot be reached").fix(fix))?,
            Err(_) => return Err(Error::new(ErrorKind::Timeout, "the vault did not answer").with("after_s", PATIENCE.as_secs()).fix(fix)),
        };
        refused(status)?;
        serde_json::from_slice(&body).map_err(|_| Error::new(ErrorKind::DataInvalid, "the vault's answer is no JSON"))
    }
}

/// What an answer that holds no secret means. Its words stay there: they may repeat what was sent.
fn refused(status: StatusCode) -> Result<()> {
    let error = match status {
        StatusCode::OK => return Ok(()),
        StatusCode::FORBIDDEN => Error::new(ErrorKind::PermissionDenied, "the vault refused to show the secret")
            .fix("give the token of VAULT_TOKEN a policy that may read this path"),
        StatusCode::NOT_FOUND => Error::new(ErrorKind::NotFound, "the vault has no such secret")
            .fix("look at the mount, the path and VAULT_NAMESPACE; deleted versions do not count"),
        status if status.is_redirection() => Error::new(ErrorKind::ConfigInvalid, "the vault sends its callers elsewhere")
            .fix("VAULT_ADDR names a standby: name the active node, or what stands before all of them"),
        StatusCode::SERVICE_UNAVAILABLE => Error::new(ErrorKind::Unavailable, "the vault is sealed or has no active node").fix("unseal it"),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Error::new(ErrorKind::Unavailable, "the vault failed")
        }
        _ => Error::new(ErrorKind::ConfigInvalid, "the vault did not understand the request").fix("look at VAULT_ADDR and VAULT_NAMESPACE"),
    };
    Err(error.with("status", status.as_u16()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_whole_or_refused_and_anything_else_is_none() {
        for good in ["vault://kv/a/b#c", "env://LINKSPAN_SECRET_X", "file://shop/password"] {
            assert_eq!(Reference::parse(good).unwrap().unwrap().to_string(), good);
        }
        for bad in [
            "vault://kv",
            "vault://kv/a",
            "vault://kv/a#",
            "vault:///a#b",
            "vault://kv/../sys#b",
            "vault://kv/a?x=1#b",
            "env://PATH",
            "env://LINKSPAN_ADMIN_KEY",
            "env://",
            "file://",
            "file:///etc/passwd",
            "file://../linkspan.db",
            "file://a/../../b",
        ] {
            assert_eq!(Reference::parse(bad).unwrap_err().kind(), ErrorKind::ConfigInvalid, "{bad}");
        }
        for plain in ["hunter2", "postgres://u:p@h/d", "env:PATH", ""] {
            assert_eq!(Reference::parse(plain).unwrap(), None);
        }
    }

    #[test]
    fn a_reference_belongs_to_the_project_that_it_is_named_after() {
        for (text, own) in [
            ("vault://kv/shop/db#pw", true),
            ("vault://kv/shopping/db#pw", false),
            ("vault://kv/shop#pw", false),
            ("file://shop/pw", true),
            ("file://pw", false),
            ("env://LINKSPAN_SECRET_SHOP_PW", true),
            ("env://LINKSPAN_SECRET_SHOPPING_PW", false),
            ("env://LINKSPAN_SECRET_PW", false),
        ] {
            assert_eq!(Reference::parse(text).unwrap().unwrap().belongs_to("shop"), own, "{text}");
        }
    }

    #[tokio::test]
    async fn a_file_outside_of_the_folder_is_never_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("secrets");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(dir.path().join("outside"), "canary").unwrap();
        std::fs::write(folder.join("inside"), "value\n").unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), folder.join("link")).unwrap();
        let elsewhere = Elsewhere::new(&folder, None, Arc::new(linkspan_core::SystemClock));
        assert_eq!(elsewhere.read(&Reference::File("inside".into())).await.unwrap(), "value");
        let e = elsewhere.read(&Reference::File("link".into())).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::PermissionDenied);
        let gone = elsewhere.read(&Reference::File("gone".into())).await.unwrap_err();
        assert!(gone.context().iter().any(|(k, v)| *k == "reference" && v == "file://gone"));
        let none = elsewhere.read(&Reference::Vault { mount: "kv".into(), path: "a".into(), field: "b".into() }).await.unwrap_err();
        assert_eq!(none.kind(), ErrorKind::ConfigInvalid);
    }
}
