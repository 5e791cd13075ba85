//! Planted secrets through every door and on every surface: searched for in raw bytes, in six encodings each.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use linkspan_testkit::process::Signal;
use serde_json::{Value, json};

use crate::{
    collector::{Collector, request},
    hub::Hub,
    program::{Place, Said, said},
};

const LONG: Duration = Duration::from_secs(120);
const ADMIN: &str = "admin-canary-0123456789-abcdefghij-Q7";
const VAULT: &str = "hvs.vault-canary-TokenOfTheServer01";
const OTLP: &str = "otlp-canary-0123456789AbCdEf";
const PASSWORD: &str = "Login canary/+\"\\ é 2026";

/// Of the kinds that vendors give out, and some that no two systems write alike.
const SECRETS: [&str; 7] = [
    "sk_live_51H8xKqLmNoPqRsTuVwXyZ",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "xoxb-2468-1357-AbCdEfGhIjKl",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "p&ss w/rd+\"quoted\"\\é=100%",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.c2ln",
    "AKIA/canary+Secret/Key==0123456789abcdef",
];

/// The six encodings.
fn encodings(secret: &str) -> Vec<String> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let percent: String = secret
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b"-._~".contains(&b) { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect();
    let json = serde_json::to_string(secret).unwrap();
    let hex = secret.bytes().map(|b| format!("{b:02x}")).collect();
    let (plain, user) = (BASE64_STANDARD.encode(secret), BASE64_STANDARD.encode(format!("user:{secret}")));
    vec![secret.to_owned(), percent, plain, user, hex, json[1..json.len() - 1].to_owned()]
}

/// What must be found nowhere.
struct Planted(Vec<String>);

impl Planted {
    fn new() -> Self {
        let mut all: Vec<String> = SECRETS.iter().chain(&[ADMIN, VAULT, OTLP, PASSWORD]).flat_map(|s| encodings(s)).collect();
        let Some(shared) = std::env::var_os("LINKSPAN_SHARED") else { return Self(all) };
        let sets = std::fs::read_dir(Path::new(&shared).join("vectors")).into_iter().flatten().flatten();
        for text in sets.filter_map(|set| std::fs::read_to_string(set.path().join("redaction.json")).ok()) {
            for vector in serde_json::from_str::<Vec<Value>>(&text).unwrap() {
                let forms = vector["must_not_appear"].as_array().unwrap();
                all.extend(
                    forms.iter().map(|f| f.as_str().unwrap().to_owned()).filter(|_| SECRETS.contains(&vector["secret"].as_str().unwrap())),
                );
            }
        }
        Self(all)
    }
    fn found(&self, bytes: &[u8]) -> Vec<String> {
        let holds = |form: &&String| bytes.windows(form.len()).any(|w| w == form.as_bytes());
        // The first bytes are enough to say which, and do not print all of it once more.
        self.0.iter().filter(holds).map(|form| form.chars().take(12).collect()).collect()
    }
}

/// Everything that was said, by where.
#[derive(Default)]
struct Surfaces(BTreeMap<String, Vec<u8>>);

impl Surfaces {
    fn add(&mut self, place: impl Into<String>, bytes: impl AsRef<[u8]>) {
        let all = self.0.entry(place.into()).or_default();
        all.extend_from_slice(bytes.as_ref());
        all.push(b'\n');
    }
    fn add_said(&mut self, place: &str, said: &Said) {
        self.add(format!("{place} stdout"), &said.out);
        self.add(format!("{place} stderr"), &said.err);
    }
    fn add_files(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                self.add_files(&entry);
            } else if let Ok(bytes) = std::fs::read(&entry) {
                let name = entry.file_name().unwrap().to_string_lossy().into_owned();
                self.add(format!("file {name}"), bytes);
            }
        }
    }
    fn are_clean(&self, planted: &Planted) {
        let mut leaks = Vec::new();
        for (place, bytes) in &self.0 {
            for form in planted.found(bytes) {
                let text = String::from_utf8_lossy(bytes);
                let at = text.find(&form).unwrap_or(0);
                let from = text.floor_char_boundary(at.saturating_sub(200));
                leaks.push(format!("{place}: {form}... in `{}`", &text[from..at]));
            }
        }
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    }
}

/// Everything that knows a secret writes it in every encoding.
fn echo(secrets: &[&str]) -> String {
    secrets.iter().flat_map(|s| encodings(s)).collect::<Vec<_>>().join(" ")
}

/// A vendor that repeats what it was sent, in every encoding, wherever an answer has room: status line, headers, body.
fn vendor() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || repeat(stream));
        }
    });
    port
}

fn repeat(mut stream: TcpStream) {
    while let Some((head, body)) = request(&mut stream) {
        let body = String::from_utf8_lossy(&body).into_owned();
        let sent = |secret: &&str| encodings(secret).iter().any(|form| head.contains(form.as_str()) || body.contains(form.as_str()));
        let secrets: Vec<&str> = SECRETS.iter().chain(&[VAULT]).copied().filter(sent).collect();
        let all = echo(&secrets);
        let plain = secrets.iter().flat_map(|s| encodings(s)).find(|e| e.bytes().all(|b| b.is_ascii_graphic())).unwrap_or_default();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (status, text) = match path {
            p if p.contains("/rows") => ("200 OK", "[{\"id\": 1}, {\"id\": 2}]".to_owned()),
            p if p.contains("/broken") => ("200 OK", format!("[{{\"id\": \"{all}")),
            p if p.contains("/away") => ("302 Found", String::new()),
            p if p.contains("/down") => ("503 Service Unavailable", json!({"error": all, "sent": head}).to_string()),
            _ => ("401 Unauthorized", json!({"error": {"message": format!("bad key {all}"), "sent": head, "body": body}}).to_string()),
        };
        let answer = format!(
            "HTTP/1.1 {status} {plain}\r\ncontent-type: application/json\r\nx-echo: {plain}\r\nwww-authenticate: Basic realm=\"{plain}\"\r\n\
             location: http://127.0.0.1:1/?key={plain}\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A PostgreSQL that refuses everybody and says with which password.
fn postgres(secret: &str) -> u16 {
    let message = echo(&[secret]);
    let fields: Vec<u8> = [("S", "FATAL"), ("V", "FATAL"), ("C", "28P01"), ("M", message.as_str()), ("D", &message), ("H", &message)]
        .iter()
        .flat_map(|(kind, text)| [kind.as_bytes(), text.as_bytes(), &[0]].concat())
        .chain([0])
        .collect();
    let answer = [b"E".as_slice(), &u32::try_from(fields.len() + 4).unwrap().to_be_bytes(), &fields].concat();
    refuses(move |stream| {
        let mut startup = [0; 4];
        stream.read_exact(&mut startup).ok();
        let mut rest = vec![0; (u32::from_be_bytes(startup) as usize).saturating_sub(4).min(4096)];
        stream.read_exact(&mut rest).ok();
        stream.write_all(&answer).ok();
    })
}

/// A MySQL that greets everybody with an error.
fn mysql(secret: &str) -> u16 {
    let message = echo(&[secret]);
    let body = [&[0xff, 0x15, 0x04], b"#28000".as_slice(), message.as_bytes()].concat();
    let answer = [&u32::try_from(body.len()).unwrap().to_le_bytes()[..3], &[0], &body].concat();
    refuses(move |stream| {
        stream.write_all(&answer).ok();
    })
}

fn refuses(answer: impl Fn(&mut TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok();
            answer(&mut stream);
        }
    });
    port
}

fn percent(secret: &str) -> String {
    encodings(secret).remove(1)
}

/// Every door through which a secret comes into a connector's config, at systems that repeat it.
fn doors(secret: &str, (web, pg, my): (u16, u16, u16)) -> Vec<(&'static str, Value)> {
    let at = |path: &str| format!("http://127.0.0.1:{web}{path}?api_key={}", percent(secret));
    let header = |s: &str| if s.is_ascii() { s.to_owned() } else { percent(s) };
    vec![
        ("http_json", json!({"url": at("/refused"), "headers": {"Authorization": header(secret)}})),
        ("http_json", json!({"url": at("/broken"), "headers": {"X-Key": header(secret)}})),
        ("http_json", json!({"url": at("/away")})),
        ("http_json", json!({"url": at("/rows"), "headers": {"Authorization": format!("Bearer {}", header(secret))}})),
        (
            "api_rest",
            json!({"base_url": format!("http://127.0.0.1:{web}/v1"), "path": "/refused", "auth": {"type": "bearer", "token": secret}}),
        ),
        (
            "api_rest",
            json!({"base_url": format!("http://127.0.0.1:{web}/v1"), "path": "/broken",
            "auth": {"type": "api_key", "key": secret, "name": "api_key", "place": "query"}}),
        ),
        ("postgresql", json!({"url": format!("postgres://user:{}@127.0.0.1:{pg}/shop?sslmode=disable", percent(secret))})),
        (
            "postgresql",
            json!({"host": "127.0.0.1", "port": pg, "database": "shop", "username": "user", "password": secret, "sslmode": "disable"}),
        ),
        ("mysql", json!({"host": "127.0.0.1", "port": my, "database": "shop", "user": "user", "password": secret, "sslmode": "disable"})),
        (
            "parquet",
            json!({"path": "s3://bucket/x", "endpoint": format!("http://127.0.0.1:{web}"), "allow_http": true, "region": "x",
            "access_key_id": "key", "secret_access_key": secret, "session_token": header(secret)}),
        ),
    ]
}

struct Yard {
    place: Place,
    hub: Hub,
    surfaces: Surfaces,
}

impl Yard {
    fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let bearer = format!("Bearer {ADMIN}");
        let mut all = vec![("Content-Type", "application/json")];
        if headers.iter().all(|(n, _)| *n != "Authorization") {
            all.push(("Authorization", &bearer));
        }
        all.extend_from_slice(headers);
        let answer = self.hub.call(method, path, &all, body);
        let place = format!("{method} {}", path.split(['?']).next().unwrap_or_default());
        self.surfaces.add(format!("{place} answer"), format!("{}\r\n\r\n{}", answer.head, answer.text));
        (answer.status, serde_json::from_str(&answer.text).unwrap_or(Value::Null))
    }
    fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        self.call("POST", path, &[], &body.to_string())
    }
    /// Everything a user does with a connector.
    fn use_connector(&mut self, name: &str, kind: &str, config: &Value) {
        let key = [("Idempotency-Key", name)];
        let new = json!({"name": name, "type": kind, "config": config}).to_string();
        for _ in 0..2 {
            let (status, said) = self.call("POST", "/v1/connectors", &key, &new);
            assert_eq!(status, 201, "{kind}: {said}");
        }
        let (_, shown) = self.call("GET", &format!("/v1/connectors/{name}"), &[], "");
        self.post("/v1/connectors/test", &json!({"type": kind, "config": config}));
        let (status, tested) = self.post(&format!("/v1/connectors/{name}/test"), &json!({}));
        assert_eq!(status, 200, "{tested}");
        let masked = json!({"config": shown["config"], "description": "seen"});
        let (status, patched) = self.call("PATCH", &format!("/v1/connectors/{name}"), &[], &masked.to_string());
        assert_eq!(status, 200, "{patched}");
        self.post(&format!("/v1/connectors/{name}/discover"), &json!({}));
        self.post(&format!("/v1/connectors/{name}/test"), &json!({}));
        for what in ["tests", "health"] {
            self.call("GET", &format!("/v1/connectors/{name}/{what}"), &[], "");
        }
    }
    fn run(&mut self, name: &str, connection: &Value) {
        let (status, made) = self.post("/v1/connections", connection);
        assert_eq!(status, 201, "{made}");
        let (status, run) = self.post(&format!("/v1/connections/{name}/run"), &json!({}));
        assert!(status < 300, "{run}");
        let path = format!("/v1/runs/{}", run["id"].as_str().unwrap());
        let began = Instant::now();
        while !matches!(self.call("GET", &path, &[], "").1["status"].as_str(), Some("completed" | "failed" | "cancelled")) {
            assert!(began.elapsed() < LONG, "{}", self.hub.process.text());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.call("GET", &format!("{path}/logs"), &[], "");
    }
}

fn started(collector: &Collector, vault: u16) -> Yard {
    let place = Place::new();
    std::fs::create_dir_all(place.path("data/secrets")).unwrap();
    // A reference's own home: the one file of a data dir in which a secret may lie. It is taken away before files are searched.
    std::fs::write(place.path("data/secrets/referred"), SECRETS[4]).unwrap();
    let mut command = place.command(&["serve", "--port", "0", "--output", "json", "--otlp", &collector.url]);
    command
        .env("LINKSPAN_LOG", "debug")
        .env("LINKSPAN_ADMIN_KEY", ADMIN)
        .env("LINKSPAN_EGRESS_ALLOW", "127.0.0.0/8")
        .env("LINKSPAN_SECRET_REFERRED", SECRETS[5])
        .env("VAULT_ADDR", format!("http://127.0.0.1:{vault}"))
        .env("VAULT_TOKEN", VAULT)
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("x-key={OTLP}"));
    Yard { hub: Hub::started(&mut command), place, surfaces: Surfaces::default() }
}

#[test]
fn no_planted_secret_leaves_by_any_surface_of_a_server() {
    let (planted, collector, web) = (Planted::new(), Collector::start(), vendor());
    let mut yard = started(&collector, web);
    yard.post("/v1/connectors", &json!({"name": "copy", "type": "sqlite", "config": {"path": "copy.db"}}));
    for (n, secret) in SECRETS.iter().enumerate() {
        let ports = (web, postgres(secret), mysql(secret));
        for (m, (kind, config)) in doors(secret, ports).iter().enumerate() {
            let name = format!("c{n}-{m}");
            yard.use_connector(&name, kind, config);
            // Each kind of failure once per secret, as a run.
            if m % 2 == n % 2 && *kind != "parquet" {
                let stream = if *kind == "http_json" { "*" } else { "public.orders" };
                let connection = json!({"name": name, "from": name, "streams": [stream], "dest": "copy", "mode": "full", "write": "replace",
                    "retry": {"attempts": if n == 0 { 2 } else { 1 }, "backoff": "1s"}});
                yard.run(&name, &connection);
            }
        }
        wrong_fields(&mut yard, secret);
    }
    references(&mut yard);
    let token = people(&mut yard);
    for path in [
        "/metrics",
        "/v1/openapi.json",
        "/docs",
        "/v1/audit?all_projects=true&limit=1000",
        "/v1/runs",
        "/v1/connectors?limit=1000",
        "/v1/connections",
        "/v1/catalog",
        "/v1/users",
        "/v1/keys",
        "/v1/projects",
        "/v1/health",
        "/v1/ready",
    ] {
        yard.call("GET", path, &[], "");
    }
    command_line(&mut yard);

    let Yard { place, mut hub, mut surfaces } = yard;
    std::fs::remove_file(place.path("data/secrets/referred")).unwrap();
    // While it runs: the write-ahead log is there; and after it was killed.
    surfaces.add_files(&place.path("data"));
    hub.process.signal(Signal::Kill);
    hub.process.wait(LONG);
    surfaces.add_files(&place.path("data"));
    let log = hub.process.text();
    assert!(log.lines().count() > 500, "diagnostics are on: {log}");
    surfaces.add("diagnostics", log);
    let heard = collector.heard();
    assert!(heard.iter().any(|h| h.head.contains(OTLP)), "the collector is signed in to");
    heard.iter().for_each(|h| surfaces.add("traces", &h.body));
    assert!(!collector.spans().is_empty());
    surfaces.are_clean(&planted);
    // What is shown once is nowhere else.
    for (place, bytes) in
        surfaces.0.iter().filter(|(place, _)| !place.starts_with("POST /v1/auth/login") && !place.starts_with("POST /v1/keys"))
    {
        for once in &token {
            assert!(!bytes.windows(once.len()).any(|w| w == once.as_bytes()), "{place} holds what was shown once");
        }
    }
}

/// A secret in a place where none belongs is refused, and not repeated.
fn wrong_fields(yard: &mut Yard, secret: &str) {
    let bodies = [
        json!({"name": "w", "type": "http_json", "config": {"url": "http://127.0.0.1:1/x", "api_key": secret}}),
        json!({"name": "w", "type": "http_json", "config": {"url": "http://127.0.0.1:1/x", "headers": [secret]}}),
        json!({"name": "w", "type": "http_json", "config": {"url": "http://127.0.0.1:1/x", "max_mb": secret}}),
        json!({"name": "w", "type": "postgresql", "config": {"host": "h", "port": secret, "database": "d", "username": "u"}}),
        json!({"name": "w", "type": "postgresql", "config": {"url": secret}}),
        json!({"name": "w", "type": "postgresql", "config": {"url": format!("mysql://u:{}@h/d", percent(secret))}}),
        json!({"name": "w", "type": "postgresql", "config": secret}),
        json!({"name": {"secret": secret}, "type": "postgresql", "config": {}}),
        json!({"name": "w", "type": "postgresql", "config": {}, "enabled": secret}),
        json!({"name": "w", "type": "postgresql", "config": {}, "description": [secret]}),
        json!({"name": "w", "type": "parquet", "config": {"path": "x", "compression": secret}}),
        json!([secret]),
        json!(secret),
    ];
    for body in bodies {
        let (status, said) = yard.post("/v1/connectors", &body);
        assert!((400..500).contains(&status), "{status} {said}");
        yard.post("/v1/connectors/test", &body);
    }
    for broken in [format!("{{\"name\": \"{secret}"), format!("{secret}{{}}"), format!("{{\"api_key\": {secret}}}")] {
        assert_eq!(yard.call("POST", "/v1/connectors", &[], &broken).0, 400);
    }
    let header = if secret.is_ascii() { secret.to_owned() } else { percent(secret) };
    for (name, value) in [("Authorization", format!("Bearer {header}")), ("Authorization", header.clone()), ("X-API-Key", header.clone())] {
        let headers = if name == "X-API-Key" { vec![(name, value.as_str()), ("Authorization", "")] } else { vec![(name, value.as_str())] };
        let (status, _) = yard.call("GET", "/v1/connectors", &headers, "");
        assert!(status == 401 || status == 429, "{status}");
    }
    yard.post("/v1/auth/login", &json!({"email": secret, "password": secret}));
    for field in ["cron", "every", "jitter"] {
        let schedule = if field == "jitter" { json!({"every": "1h", "jitter": secret}) } else { json!({ field: secret }) };
        yard.post("/v1/connections", &json!({"name": "x", "from": "copy", "dest": "copy", "schedule": schedule}));
    }
    let schedule = json!({"cron": "0 2 * * *", "timezone": secret});
    yard.post("/v1/connections", &json!({"name": "x", "from": "copy", "dest": "copy", "schedule": schedule}));
    yard.post("/v1/connections", &json!({"name": "x", "from": "copy", "dest": "copy", "token": secret}));
}

/// Secrets that lie elsewhere: read when a connector is used, and then as secret as any other.
fn references(yard: &mut Yard) {
    for (n, reference) in ["file://referred", "env://LINKSPAN_SECRET_REFERRED", "vault://kv/shop/db#key"].into_iter().enumerate() {
        let config =
            json!({"host": "127.0.0.1", "port": 1, "database": "shop", "username": "user", "password": reference, "sslmode": "disable"});
        let name = format!("r{n}");
        let (status, said) = yard.post("/v1/connectors", &json!({"name": name, "type": "postgresql", "config": config}));
        assert_eq!(status, 201, "{said}");
        let (_, said) = yard.post(&format!("/v1/connectors/{name}/test"), &json!({}));
        // The vault is the vendor: it refuses, and repeats.
        assert!(said.to_string().contains("vault://") || said["ok"] == json!(false), "{said}");
    }
}

/// People and keys: what they sign in with, and what they are given once.
fn people(yard: &mut Yard) -> Vec<String> {
    let (status, said) = yard.post("/v1/users", &json!({"email": "ada@example.com", "password": PASSWORD, "roles": {"default": "viewer"}}));
    assert_eq!(status, 201, "{said}");
    yard.post("/v1/auth/login", &json!({"email": "ada@example.com", "password": format!("{PASSWORD}!")}));
    let (status, signed) = yard.post("/v1/auth/login", &json!({"email": "ada@example.com", "password": PASSWORD}));
    assert_eq!(status, 200, "{signed}");
    let (status, key) = yard.call("POST", "/v1/keys", &[("Idempotency-Key", "key-1")], r#"{"name": "reporting", "role": "viewer"}"#);
    assert_eq!(status, 201, "{key}");
    yard.call("POST", "/v1/keys", &[("Idempotency-Key", "key-1")], r#"{"name": "reporting", "role": "viewer"}"#);
    let given = key["key"].as_str().or(key["secret"].as_str()).unwrap_or_else(|| panic!("{key}")).to_owned();
    let bearer = format!("Bearer {given}");
    assert_eq!(yard.call("GET", "/v1/connectors", &[("Authorization", &bearer)], "").0, 200);
    vec![signed["token"].as_str().unwrap().to_owned(), given]
}

/// The same server by the command line.
fn command_line(yard: &mut Yard) {
    let server = format!("http://{}", yard.hub.address);
    for args in [
        &["connectors", "list"][..],
        &["connectors", "show", "c0-0"],
        &["connectors", "show", "c4-6", "--output", "json"],
        &["connectors", "tests", "c0-0", "--output", "json"],
        &["connections", "runs", "list", "c0-0"],
        &["audit", "list", "--output", "json"],
        &["connectors", "test", "c1-7"],
    ] {
        let args = [args, &["--server", &server, "-vv"]].concat();
        let said = said(yard.place.command(&args).env("LINKSPAN_API_KEY", ADMIN));
        yard.surfaces.add_said("command line", &said);
    }
}

/// A person's own commands: what they give is theirs, but what a system repeats of it stays off the screen, out of logs and files.
#[test]
fn no_planted_secret_leaves_by_a_command() {
    let (planted, web) = (Planted::new(), vendor());
    let (place, mut surfaces) = (Place::new(), Surfaces::default());
    let manifest = format!(
        "version: 6.0.0\ntype: DeclarativeSource\ncheck: {{type: CheckStream, stream_names: [x]}}\nstreams:\n  - type: DeclarativeStream\n    \
         name: x\n    schema_loader: {{type: InlineSchemaLoader, schema: {{type: object, properties: {{}}}}}}\n    retriever:\n      \
         type: SimpleRetriever\n      requester:\n        type: HttpRequester\n        url_base: 'http://127.0.0.1:{web}'\n        path: /refused\n        \
         authenticator: {{type: BearerAuthenticator, api_token: \"{{{{ config['token'] }}}}\"}}\n        error_handler: {{type: DefaultErrorHandler, max_retries: 0}}\n      record_selector:\n        \
         type: RecordSelector\n        extractor: {{type: DpathExtractor, field_path: []}}\nspec:\n  type: Spec\n  connection_specification:\n    \
         type: object\n    properties: {{token: {{type: string, airbyte_secret: true}}}}\n"
    );
    place.write("m.yaml", manifest);
    place.write(
        "catalog.json",
        r#"{"streams": [{"stream": {"name": "x", "json_schema": {}, "supported_sync_modes": ["full_refresh"]},
        "sync_mode": "full_refresh", "destination_sync_mode": "append"}]}"#,
    );
    place.write("p.yaml", format!(
        "connectors:\n  web:\n    type: http_json\n    config: {{url: 'http://127.0.0.1:{web}/refused', headers: {{X-Key: '${{CANARY}}'}}}}\n\
         connections:\n  c: {{from: web, to: 'sqlite:./p.db', streams: ['*']}}\n"
    ));
    for secret in SECRETS.iter().filter(|s| s.is_ascii()) {
        let config = place.write("config.json", json!({"token": secret}).to_string()).display().to_string();
        let refused = format!("http://127.0.0.1:{web}/refused?key={}", percent(secret));
        let (pg, my) = (postgres(secret), mysql(secret));
        let house = place.write("house.json", json!({"url": refused, "headers": {"A": secret}}).to_string()).display().to_string();
        let down = format!("http_json:http://127.0.0.1:{web}/down?token={}", percent(secret));
        let url = format!("http_json:http://127.0.0.1:{web}/refused?api_key={}", percent(secret));
        let broken = url.replace("/refused", "/broken");
        let database = format!("postgres://user:{}@127.0.0.1:{pg}/shop?sslmode=disable", percent(secret));
        let other = format!("mysql://user:{}@127.0.0.1:{my}/shop?sslmode=disable", percent(secret));
        let runs: Vec<Vec<&str>> = vec![
            vec!["sync", &url, "sqlite:./x.db"],
            vec!["sync", &broken, "sqlite:./x.db", "--output", "json"],
            vec!["sync", &url, "sqlite:./x.db", "--dry-run", "-vv"],
            vec!["sync", &database, "sqlite:./x.db", "--stream", "public.t", "-vv"],
            vec!["sync", "faker:?customers=5", &database],
            vec!["sync", &other, "sqlite:./x.db", "--stream", "t", "--output", "json"],
            vec!["sync", "-f", "p.yaml"],
            vec!["sync", "-f", "p.yaml", "--output", "json"],
            vec!["connectors", "check", &url],
            vec!["connectors", "check", &database, "--output", "json"],
            vec!["connectors", "discover", &other],
            vec!["connectors", "discover", &broken],
            vec!["manifest", "check", "--manifest", "m.yaml", "--config", &config],
            vec!["manifest", "read", "--manifest", "m.yaml", "--config", &config, "--catalog", "catalog.json"],
            vec!["airbyte", "source", "http_json", "check", "--config", &house],
            vec!["airbyte", "source", "http_json", "discover", "--config", &house],
            vec!["connectors", "check", &down],
        ];
        for args in &runs {
            let mut command = place.command(args);
            let said = said(command.env("CANARY", secret).env("LINKSPAN_LOG", "debug").env("LINKSPAN_SLEEP_SCALE", "0"));
            surfaces.add_said(&args[..2].join(" "), &said);
        }
    }
    surfaces.add_files(&place.path("data"));
    surfaces.are_clean(&planted);
}
