//! A server of Vault's KV version 2, as its HTTP API is documented: tokens, namespaces, versions, deletion, seal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub const TOKEN: &str = "hvs.reader-of-tests";
const ROOT: &str = "hvs.root-of-tests";

/// Ends when it is dropped.
pub struct Kv2 {
    pub address: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

/// Every version of a secret; none for a deleted one.
type Versions = Vec<Option<Map<String, Value>>>;

#[derive(Default)]
struct State {
    /// By namespace, mount and path.
    kept: HashMap<(String, String, String), Versions>,
    sealed: bool,
    /// So many requests are met by an error of the server.
    failing: u32,
    silent: bool,
    standby: bool,
    asked: u32,
}

impl Drop for Kv2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kv2 {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { address, state, task }
    }
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
    /// A new version, as `POST data` makes one.
    pub fn write(&self, namespace: &str, mount: &str, path: &str, data: &Value) {
        let key = (namespace.to_owned(), mount.to_owned(), path.to_owned());
        self.state().kept.entry(key).or_default().push(data.as_object().cloned());
    }
    /// The latest version is gone, as by `DELETE data`.
    pub fn delete(&self, namespace: &str, mount: &str, path: &str) {
        let key = (namespace.to_owned(), mount.to_owned(), path.to_owned());
        if let Some(last) = self.state().kept.get_mut(&key).and_then(|versions| versions.last_mut()) {
            *last = None;
        }
    }
    pub fn seal(&self, sealed: bool) {
        self.state().sealed = sealed;
    }
    pub fn fail(&self, requests: u32) {
        self.state().failing = requests;
    }
    pub fn silent(&self, silent: bool) {
        self.state().silent = silent;
    }
    pub fn standby(&self, standby: bool) {
        self.state().standby = standby;
    }
    /// Requests so far.
    pub fn asked(&self) -> u32 {
        self.state().asked
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let answer = answer(&head, &mut state.lock().unwrap());
        let Some((status, body)) = answer else { return std::future::pending().await };
        let more = if status.starts_with("307") { "location: http://active.example.com:8200/v1/x\r\n" } else { "" };
        let text = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(head: &str, state: &mut State) -> Option<(&'static str, String)> {
    let header = |name: &str| {
        let line = head.lines().find(|l| l.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.map(|l| l[name.len() + 1..].trim().to_owned()).unwrap_or_default()
    };
    let errors = |all: &[&str]| json!({ "errors": all }).to_string();
    state.asked += 1;
    if state.silent {
        return None;
    }
    if state.failing > 0 {
        state.failing -= 1;
        return Some(("500 Internal Server Error", errors(&["local node not active but active cluster node not found"])));
    }
    if state.sealed {
        return Some(("503 Service Unavailable", errors(&["Vault is sealed"])));
    }
    if state.standby {
        return Some(("307 Temporary Redirect", String::new()));
    }
    let path = head.split(' ').nth(1)?;
    let (mount, path) = path.strip_prefix("/v1/")?.split_once("/data/").unwrap_or(("", ""));
    let namespace = header("x-vault-namespace");
    // Denied is said before missing: who may not read learns nothing of what is there.
    let may = match header("x-vault-token").as_str() {
        ROOT => true,
        TOKEN => !path.starts_with("locked/"),
        _ => false,
    };
    if !may {
        return Some(("403 Forbidden", errors(&["1 error occurred:\n\t* permission denied\n\n"])));
    }
    let found = state.kept.get(&(namespace, mount.to_owned(), path.to_owned()));
    let Some(versions) = found else { return Some(("404 Not Found", errors(&[]))) };
    let metadata = |deleted: &str| json!({"created_time": "2026-01-01T00:00:00Z", "custom_metadata": null, "deletion_time": deleted, "destroyed": false, "version": versions.len()});
    Some(match versions.last() {
        Some(Some(data)) => {
            ("200 OK", json!({"request_id": "x", "data": {"data": data, "metadata": metadata("")}, "warnings": null}).to_string())
        }
        _ => ("404 Not Found", json!({"data": {"data": null, "metadata": metadata("2026-01-02T00:00:00Z")}}).to_string()),
    })
}
