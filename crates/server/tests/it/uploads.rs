//! Files that are sent into a connector: what is taken, what is refused, and that a refused one leaves nothing behind.

use std::{io::Write, path::Path};

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::{Method, Request};
use linkspan_app::UploadLimits;
use serde_json::{Value, json};

use crate::desk::{ADMIN, Desk, Said};

const BOUNDARY: &str = "b0undary";

fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in files {
        write!(
            body,
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: text/csv\r\n\r\n"
        )
        .unwrap();
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    write!(body, "--{BOUNDARY}--\r\n").unwrap();
    body
}

fn request(credential: &str, connector: &str) -> http::request::Builder {
    Request::post(format!("/v1/connectors/{connector}/files"))
        .header("authorization", format!("Bearer {credential}"))
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
}

struct Yard(Desk);

impl Yard {
    async fn new() -> Self {
        Self::on(Desk::new().await).await
    }
    async fn on(desk: Desk) -> Self {
        let made = desk.by(ADMIN, Method::POST, "/v1/connectors", r#"{"name": "leads", "type": "csv"}"#).await;
        assert_eq!(made.status, 201, "{made:?}");
        Self(desk)
    }
    async fn send(&self, body: impl Into<Body>) -> Said {
        self.0.send(request(ADMIN, "leads").body(body.into()).unwrap()).await
    }
    async fn put(&self, name: &str, content: &[u8]) -> Said {
        self.send(form(&[(name, content)])).await
    }
    async fn ask(&self, method: Method, path: &str, body: Value) -> Said {
        self.0.by(ADMIN, method, path, &if body.is_null() { String::new() } else { body.to_string() }).await
    }
    async fn names(&self) -> Vec<String> {
        let said = self.ask(Method::GET, "/v1/connectors/leads/files", Value::Null).await.json();
        said["files"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap().to_owned()).collect()
    }
    async fn streams(&self) -> Vec<String> {
        let said = self.ask(Method::POST, "/v1/connectors/leads/discover", Value::Null).await;
        let found = said.json();
        found["streams"].as_array().unwrap_or_else(|| panic!("{said:?}")).iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
    }
    /// What lies in the data dir for uploads, locks aside.
    fn on_disk(&self) -> Vec<String> {
        let mut found = vec![];
        walk(&self.0.folder.path().join("uploads"), &mut found);
        found.sort();
        found
    }
}

fn walk(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            walk(&entry, found);
        } else if entry.file_name().unwrap() != "lock" {
            found.push(entry.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_taken_read_replaced_and_deleted() {
    let yard = Yard::new().await;
    let early = yard.ask(Method::POST, "/v1/connectors/leads/discover", Value::Null).await;
    assert!(early.status == 409 && early.text.contains("linkspan connectors upload"), "{early:?}");
    let said = yard.send(form(&[("leads.csv", b"id,name\n1,Ada\n"), ("übrige.tsv", b"id\tx\n1\t2\n")])).await;
    assert_eq!(said.status, 201, "{said:?}");
    let file = &said.json()["files"][0];
    assert_eq!((file["name"].as_str(), file["bytes"].as_u64(), file["version"].as_u64()), (Some("leads.csv"), Some(14), Some(1)));
    assert_eq!(file["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(yard.streams().await, ["leads", "übrige"]);
    // What is known of the files before counts no more.
    let again = yard.put("leads.csv", b"id,name,age\n1,Ada,36\n").await;
    assert_eq!(again.json()["files"][0]["version"], 2);
    let found = yard.ask(Method::POST, "/v1/connectors/leads/discover", Value::Null).await.json();
    assert_eq!(found["streams"][0]["columns"].as_array().unwrap().len(), 3, "{found}");
    assert_eq!(yard.ask(Method::POST, "/v1/connectors/leads/test", Value::Null).await.json()["ok"], true);
    assert_eq!(yard.ask(Method::DELETE, "/v1/connectors/leads/files/%C3%BCbrige.tsv", Value::Null).await.json()["deleted"], true);
    assert_eq!((yard.names().await, yard.on_disk()), (vec!["leads.csv".to_owned()], vec!["leads.csv".to_owned()]));
    assert_eq!(yard.ask(Method::DELETE, "/v1/connectors/leads/files/nothing.csv", Value::Null).await.status, 404);
    let audit = yard.ask(Method::GET, "/v1/audit", Value::Null).await.text;
    assert!(audit.contains("connectors.upload") && audit.contains("connectors.delete_file"), "{audit}");
    assert_eq!(yard.ask(Method::DELETE, "/v1/connectors/leads", Value::Null).await.status, 200);
    assert_eq!(yard.on_disk(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_leaves_nothing_behind() {
    let yard = Yard::new().await;
    for name in
        ["../leads.csv", "a/b.csv", "C:\\\\a.csv", "", ".csv", "nul.csv", "a.exe", "a\u{202e}.csv", "a.csv%2f..%2fb", "ok.csv\0.png"]
    {
        let said = yard.put(name, b"id\n1\n").await;
        assert_eq!(said.status, 400, "{name:?}: {said:?}");
    }
    for (name, content, status) in
        [("a.csv", &b"PK\x03\x04"[..], 422), ("a.csv", b"", 422), ("a.xlsx", b"id\n1\n", 422), ("a.csv.gz", b"\x1f\x8bcut", 422)]
    {
        let said = yard.put(name, content).await;
        assert_eq!(said.status, status, "{name}: {said:?}");
    }
    let whole = form(&[("a.csv", b"id\n1\n")]);
    for cut in [10, whole.len() / 2, whole.len() - 20] {
        let said = yard.send(whole[..cut].to_vec()).await;
        assert_eq!(said.status, 400, "cut at {cut}: {said:?}");
    }
    let broken: Vec<std::io::Result<Bytes>> = vec![Ok(whole[..whole.len() - 12].to_vec().into()), Err(std::io::Error::other("gone"))];
    assert_eq!(yard.send(Body::from_stream(stream::iter(broken))).await.status, 400);
    // One of two is bad: none is taken.
    assert_eq!(yard.send(form(&[("good.csv", b"id\n1\n"), ("bad.csv", b"a\0b")])).await.status, 422);
    assert_eq!(yard.send(form(&[("a.csv", b"id\n1\n"), ("a.csv", b"id\n2\n")])).await.status, 400);
    assert_eq!(yard.send(form(&[])).await.status, 400);
    let typed = |kind: &str| {
        Request::post("/v1/connectors/leads/files").header("authorization", format!("Bearer {ADMIN}")).header("content-type", kind)
    };
    for kind in ["text/csv", "application/json", "multipart/form-data", "multipart/mixed; boundary=x"] {
        let said = yard.0.send(typed(kind).body(Body::from(whole.clone())).unwrap()).await;
        assert_eq!(said.status, 415, "{kind}: {said:?}");
    }
    let packed = request(ADMIN, "leads").header("content-encoding", "gzip").body(Body::from(whole.clone())).unwrap();
    assert_eq!(yard.0.send(packed).await.status, 415);
    let picture = String::from_utf8(whole.clone()).unwrap().replace("text/csv", "image/png");
    assert_eq!(yard.send(picture).await.status, 415);
    let field = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--{BOUNDARY}--\r\n");
    assert_eq!(yard.send(field).await.status, 400);
    assert_eq!((yard.names().await, yard.on_disk()), (vec![], vec![]));
}

/// Text of so many bytes that packs a thousand times.
fn bomb(bytes: usize) -> Vec<u8> {
    let text = "0,".repeat(bytes / 2);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    gz.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_and_what_is_too_large_are_refused_as_such() {
    // Twenty times a file's size is the most that a packed one may hold.
    let yard = Yard::on(Desk::taking(UploadLimits { file: 256 << 10, project: 3 << 20 }).await).await;
    let said = yard.put("bomb.csv.gz", &bomb(6 << 20)).await;
    assert!(said.status == 413 && said.text.contains("unpacked_limit_bytes"), "{said:?}");
    let said = yard.put("bomb.csv", &bomb(6 << 20)).await;
    assert_eq!(said.status, 413, "also under a plain name: {said:?}");
    if let Ok(shared) = std::env::var("LINKSPAN_SHARED") {
        let text = std::fs::read_to_string(format!("{shared}/vectors/dev/hostile_inputs.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
        let case = cases.iter().find(|c| c["name"] == "gzip_bomb_64MiB").unwrap();
        let content = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, case["body_base64"].as_str().unwrap()).unwrap();
        let said = yard.put("bomb.csv.gz", &content).await;
        assert!(case["expect"]["status"].as_array().unwrap().iter().any(|s| *s == said.status.as_u16()), "{said:?}");
    }
    let yard = Yard::on(Desk::taking(UploadLimits { file: 1 << 20, project: 3 << 20 }).await).await;
    let row = b"0123456789,abcdefghij\n";
    let large = row.repeat((1 << 20) / row.len() + 1);
    assert_eq!(yard.put("large.csv", &large).await.status, 413);
    let whole = form(&[("endless.csv", b"id\n")]);
    let content = whole.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let pieces = stream::iter(std::iter::once(whole[..content].to_vec()).chain((0..64).map(|_| vec![b'x'; 1 << 16])));
    let said = yard.send(Body::from_stream(futures::StreamExt::map(pieces, |p| Ok::<_, std::io::Error>(Bytes::from(p))))).await;
    assert_eq!(said.status, 413, "{said:?}");
    // Three fit, and the fourth takes the place of one of them.
    let part = &large[..900 << 10];
    for name in ["a.csv", "b.csv", "c.csv"] {
        assert_eq!(yard.put(name, part).await.status, 201, "{name}");
    }
    let full = yard.put("d.csv", part).await;
    assert!(full.status == 507 && full.text.contains("LINKSPAN_UPLOAD_QUOTA_MB"), "{full:?}");
    assert_eq!(yard.on_disk(), ["a.csv", "b.csv", "c.csv"]);
    yard.ask(Method::DELETE, "/v1/connectors/leads/files/a.csv", Value::Null).await;
    assert_eq!(yard.put("d.csv", part).await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_is_one_upload_and_another_one_under_its_key_is_refused() {
    let yard = Yard::new().await;
    let send = async |content: &[u8]| {
        let request = request(ADMIN, "leads").header("idempotency-key", "wish-1").body(Body::from(form(&[("a.csv", content)]))).unwrap();
        yard.0.send(request).await
    };
    let (first, again) = (send(b"id\n1\n").await, send(b"id\n1\n").await);
    assert_eq!((first.status.as_u16(), again.status.as_u16(), &first.text), (201, 201, &again.text));
    assert_eq!(again.json()["files"][0]["version"], 1);
    assert_eq!(send(b"id\n2\n").await.status, 409);
    assert_eq!(yard.on_disk(), ["a.csv"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_of_one_name_leave_the_file_of_one_of_them() {
    let yard = Yard::new().await;
    let contents: Vec<Vec<u8>> = (0..8).map(|n| format!("id\n{n}\n").repeat(1 + n).into_bytes()).collect();
    let said = futures::future::join_all(contents.iter().map(|c| yard.put("a.csv", c))).await;
    assert!(said.iter().all(|s| s.status == 201), "{said:?}");
    let listed = yard.ask(Method::GET, "/v1/connectors/leads/files", Value::Null).await.json();
    assert_eq!((listed["files"][0]["version"].as_u64(), yard.on_disk()), (Some(8), vec!["a.csv".to_owned()]));
    let id = yard.ask(Method::GET, "/v1/connectors/leads", Value::Null).await.json()["id"].as_str().unwrap().to_owned();
    let stands = std::fs::read(yard.0.folder.path().join(format!("uploads/default/{id}/files/a.csv"))).unwrap();
    assert_eq!(Some(stands.len() as u64), listed["files"][0]["bytes"].as_u64());
    assert!(contents.contains(&stands));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_editors_send_and_only_where_files_are_read() {
    let yard = Yard::new().await;
    for (role, status) in [("viewer", 403), ("operator", 403), ("editor", 201)] {
        let key = yard.0.key(role).await;
        let said = yard.0.send(request(&key, "leads").body(form(&[("a.csv", b"id\n1\n")]).into()).unwrap()).await;
        assert_eq!(said.status, status, "{role}: {said:?}");
        assert_eq!(yard.0.by(&key, Method::GET, "/v1/connectors/leads/files", "").await.status, 200);
    }
    for (body, status) in [
        (json!({"name": "db", "type": "sqlite", "config": {"path": "x.db"}}), 422),
        (json!({"name": "elsewhere", "type": "csv", "config": {"path": "x.csv"}}), 409),
    ] {
        let name = body["name"].as_str().unwrap().to_owned();
        assert_eq!(yard.ask(Method::POST, "/v1/connectors", body).await.status, 201);
        let said = yard.0.send(request(ADMIN, &name).body(form(&[("a.csv", b"id\n1\n")]).into()).unwrap()).await;
        assert!(said.status == status && said.text.contains("suggested_fix"), "{said:?}");
    }
    assert_eq!(yard.0.send(request(ADMIN, "nobody").body(form(&[("a.csv", b"id\n")]).into()).unwrap()).await.status, 404);
    let onto = json!({"name": "c", "from": "db", "dest": "leads"});
    let said = yard.ask(Method::POST, "/v1/connections", onto).await;
    assert!(said.status == 400 && said.text.contains("uploaded files"), "{said:?}");
    yard.ask(Method::POST, "/v1/projects", json!({"name": "acme"})).await;
    let bearer = format!("Bearer {ADMIN}");
    let other = [("authorization", bearer.as_str()), ("linkspan-project", "acme")];
    assert_eq!(yard.0.call(Method::GET, "/v1/connectors/leads/files", &other, "").await.status, 404);
}
