//! Where a server's connectors may be sent by those who configure them: every field of every type that names a host, over HTTP.

use std::net::{Ipv6Addr, TcpListener};

use serde_json::{Value, json};

use crate::{
    hub::{Answer, Hub},
    program::Place,
};

/// A field that names a host: its type, its path in the config schema, and a config that leads it to a host and port.
struct Way {
    kind: &'static str,
    field: &'static str,
    reach: Reach,
    config: fn(&Place, &str, u16) -> Value,
}

/// What the guard lets through: requests go to public addresses, databases may live on private networks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Web,
    Database,
}

const WAYS: &[Way] = &[
    Way {
        kind: "http_json",
        field: "url",
        reach: Reach::Web,
        config: |_, host, port| json!({"url": format!("http://{host}:{port}/x.json"), "headers": {"Authorization": "canary-secret"}}),
    },
    Way {
        kind: "api_rest",
        field: "base_url",
        reach: Reach::Web,
        config: |_, host, port| json!({"base_url": format!("http://{host}:{port}/v1"), "path": "/orders"}),
    },
    Way {
        kind: "api_rest",
        field: "auth",
        reach: Reach::Web,
        config: |_, host, port| {
            let token_url = format!("http://{host}:{port}/token");
            json!({"base_url": "https://api.example.com", "path": "/orders",
                "auth": {"type": "oauth", "token_url": token_url, "client_id": "id", "client_secret": "canary-secret"}})
        },
    },
    Way { kind: "manifest", field: "path", reach: Reach::Web, config: |place, host, port| manifest(place, &plain_manifest(host, port)) },
    Way { kind: "manifest", field: "path", reach: Reach::Web, config: |place, host, port| manifest(place, &oauth_manifest(host, port)) },
    Way {
        kind: "parquet",
        field: "endpoint",
        reach: Reach::Web,
        config: |_, host, port| {
            json!({"path": "s3://bucket/x", "endpoint": format!("http://{host}:{port}"), "allow_http": true,
                "access_key_id": "key", "secret_access_key": "canary-secret"})
        },
    },
    Way {
        kind: "lake",
        field: "endpoint",
        reach: Reach::Web,
        config: |_, host, port| {
            json!({"path": "s3://bucket/x", "endpoint": format!("http://{host}:{port}"), "allow_http": true,
                "access_key_id": "key", "secret_access_key": "canary-secret"})
        },
    },
    Way { kind: "postgresql", field: "url", reach: Reach::Database, config: |_, host, port| url("postgres", host, port) },
    Way { kind: "postgresql", field: "host", reach: Reach::Database, config: |_, host, port| parts("username", host, port) },
    Way { kind: "mysql", field: "url", reach: Reach::Database, config: |_, host, port| url("mysql", host, port) },
    Way { kind: "mysql", field: "host", reach: Reach::Database, config: |_, host, port| parts("user", host, port) },
    Way { kind: "mariadb", field: "url", reach: Reach::Database, config: |_, host, port| url("mysql", host, port) },
    Way { kind: "mariadb", field: "host", reach: Reach::Database, config: |_, host, port| parts("user", host, port) },
];

/// Names the same machine in the ways in which a guard is usually got round.
const HERE: &[&str] = &["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0.0.0.0", "[::1]", "[::ffff:7f00:1]"];
const METADATA: &[&str] = &["169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.100.100.200"];

fn url(scheme: &str, host: &str, port: u16) -> Value {
    json!({"url": format!("{scheme}://user:canary-secret@{host}:{port}/shop?sslmode=disable")})
}

fn parts(user: &str, host: &str, port: u16) -> Value {
    json!({"host": host.trim_matches(['[', ']']), "port": port, "database": "shop", user: "user", "password": "canary-secret", "sslmode": "disable"})
}

/// Puts a manifest where callers of the server may name it.
fn manifest(place: &Place, text: &str) -> Value {
    std::fs::create_dir_all(place.path("data/files")).unwrap();
    place.write("data/files/manifest.yaml", text);
    json!({"path": "manifest.yaml", "config": {"token": "canary-secret"}})
}

fn plain_manifest(host: &str, port: u16) -> String {
    of_requester(&format!("url_base: 'http://{host}:{port}'\n        path: /x"))
}

/// The data is at a public address, but the token is asked for elsewhere, before any data is.
fn oauth_manifest(host: &str, port: u16) -> String {
    of_requester(&format!(
        "url_base: 'https://192.0.2.1'\n        path: /x\n        authenticator:\n          type: OAuthAuthenticator\n          \
         token_refresh_endpoint: 'http://{host}:{port}/token'\n          client_id: id\n          client_secret: \"{{{{ config['token'] }}}}\"\n          \
         grant_type: client_credentials"
    ))
}

fn of_requester(requester: &str) -> String {
    format!(
        "version: 6.0.0\ntype: DeclarativeSource\ncheck:\n  type: CheckStream\n  stream_names: [x]\nstreams:\n  - type: DeclarativeStream\n    \
         name: x\n    schema_loader:\n      type: InlineSchemaLoader\n      schema: {{type: object, properties: {{}}}}\n    retriever:\n      \
         type: SimpleRetriever\n      requester:\n        type: HttpRequester\n        {requester}\n      record_selector:\n        \
         type: RecordSelector\n        extractor: {{type: DpathExtractor, field_path: []}}\n"
    )
}

/// A server, its admin key, and a listener on both kinds of address at which nobody may ever arrive.
struct Yard {
    place: Place,
    hub: Hub,
    bearer: String,
    doors: Vec<TcpListener>,
}

impl Yard {
    fn new() -> Self {
        let place = Place::new();
        let hub = Hub::start(&place);
        let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind((Ipv6Addr::LOCALHOST, four.local_addr().unwrap().port()));
        let doors: Vec<_> = std::iter::once(four).chain(six.ok()).collect();
        doors.iter().for_each(|door| door.set_nonblocking(true).unwrap());
        Self { place, hub, bearer: format!("Bearer {}", key.trim()), doors }
    }
    fn port(&self) -> u16 {
        self.doors[0].local_addr().unwrap().port()
    }
    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("Authorization", self.bearer.as_str()), ("Content-Type", "application/json")];
        self.hub.call(method, path, &headers, &body.to_string())
    }
    /// Nobody came, and who asked was told that it is not allowed, without a secret in the text.
    fn refuses(&self, way: &Way, host: &str, answer: &Answer, error: &Value) {
        let what = format!("{} {} at {host}: {answer:?}", way.kind, way.field);
        assert!(self.doors.iter().all(|door| door.accept().is_err()), "somebody came: {what}");
        let (kind, message) = (error["kind"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default());
        // The guard's own words: a refusal for another reason proves nothing.
        assert!(kind == "permission_denied" && message.contains("internal addresses"), "{what}");
        assert!(!answer.text.contains("canary-secret"), "{what}");
    }
    fn test_unsaved(&self, way: &Way, host: &str) {
        let config = (way.config)(&self.place, host, self.port());
        let answer = self.call("POST", "/v1/connectors/test", &json!({"type": way.kind, "config": config}));
        let error = answer.json()["error"].clone();
        assert!(answer.status < 500 && answer.json()["ok"] != true, "{answer:?}");
        self.refuses(way, host, &answer, &error);
    }
}

/// The vectors' addresses that no request may reach; a few of ours without the shared folder.
fn refused_hosts() -> Vec<String> {
    let Ok(shared) = std::env::var("LINKSPAN_SHARED") else { return vec!["10.0.0.1".into(), "[64:ff9b::a00:1]".into()] };
    let text = std::fs::read_to_string(format!("{shared}/vectors/dev/ssrf.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let refused = cases.iter().filter(|case| case["expect"]["allowed"] == false);
    let hosts = refused.map(|case| case["url"].as_str().unwrap().trim_start_matches("http://").trim_end_matches('/').to_owned());
    hosts.collect()
}

#[test]
fn no_field_of_any_type_leads_a_server_to_an_internal_address() {
    let yard = Yard::new();
    for way in WAYS.iter().filter(|w| w.reach == Reach::Web) {
        HERE.iter().chain(METADATA).for_each(|host| yard.test_unsaved(way, host));
        refused_hosts().iter().for_each(|host| yard.test_unsaved(way, host));
    }
    for way in WAYS.iter().filter(|w| w.reach == Reach::Database) {
        METADATA.iter().for_each(|host| yard.test_unsaved(way, host));
    }
}

#[test]
fn saved_connectors_reach_no_further_than_unsaved_ones_by_any_operation() {
    let yard = Yard::new();
    for (n, way) in WAYS.iter().enumerate() {
        let host = if way.reach == Reach::Web { "127.0.0.1" } else { "169.254.169.254" };
        let config = (way.config)(&yard.place, host, yard.port());
        let name = format!("c{n}");
        let made = yard.call("POST", "/v1/connectors", &json!({"name": name, "type": way.kind, "config": config}));
        assert_eq!(made.status, 201, "creating never connects: {} {made:?}", way.kind);
        let tested = yard.call("POST", &format!("/v1/connectors/{name}/test"), &json!({}));
        assert_eq!((tested.status, &tested.json()["ok"]), (200, &json!(false)), "{tested:?}");
        yard.refuses(way, host, &tested, &tested.json()["error"]);
        let found = yard.call("POST", &format!("/v1/connectors/{name}/discover"), &json!({}));
        // A manifest says its streams itself; nobody is asked.
        assert!(found.status >= 400 || way.kind == "manifest", "{found:?}");
        assert!(yard.doors.iter().all(|door| door.accept().is_err()), "somebody came: {found:?}");
    }
}

#[test]
fn a_databases_socket_of_the_servers_machine_is_out_of_reach() {
    let yard = Yard::new();
    for kind in ["postgresql", "mysql", "mariadb"] {
        let config = json!({"host": "/run/db.sock", "database": "shop", "user": "user", "password": "x"});
        let answer = yard.call("POST", "/v1/connectors/test", &json!({"type": kind, "config": config}));
        assert_eq!(answer.json()["error"]["kind"], "permission_denied", "{answer:?}");
    }
}

/// A new type, or a new field of an old one, comes with a line in the table above.
#[test]
fn every_field_that_names_a_host_is_in_the_table() {
    let yard = Yard::new();
    let catalog = yard.call("GET", "/v1/catalog", &json!({})).json();
    for kind in catalog["types"].as_array().unwrap() {
        let name = kind["type"].as_str().unwrap();
        for field in kind["config_schema"]["properties"].as_object().unwrap().keys() {
            let tells = ["url", "uri", "host", "endpoint", "address", "server", "dsn", "proxy", "domain", "broker", "webhook"];
            // A key that logins are checked with.
            if !tells.iter().any(|t| field.contains(t)) || field == "server_public_key" {
                continue;
            }
            assert!(WAYS.iter().any(|w| w.kind == name && w.field == field), "{name}.{field} names a host and has no line in the table");
        }
        let words = kind["config_schema"]["properties"].to_string();
        // What is read by a shared config of files tells of `https://` only to say what is not spoken.
        let speaks_web = words.contains("https://") && !matches!(name, "csv" | "jsonl");
        assert!(!speaks_web || WAYS.iter().any(|w| w.kind == name), "{name} speaks of a URL and has no line in the table");
    }
}

/// Operations that fetch what a caller names: they meet the same guard, also after a redirect.
#[test]
fn no_operation_fetches_an_internal_address_that_a_caller_names() {
    let yard = Yard::new();
    for host in HERE.iter().chain(METADATA) {
        let url = format!("http://{host}:{}/manifest.yaml", yard.port());
        let answer = yard.call("POST", "/v1/catalog", &json!({"url": url}));
        let error = answer.json()["error"].clone();
        assert!(
            error["kind"] == "permission_denied" && error["message"].as_str().unwrap().contains("internal addresses"),
            "{host}: {answer:?}"
        );
        assert!(yard.doors.iter().all(|door| door.accept().is_err()), "somebody came: {answer:?}");
    }
    for other in ["file:///etc/passwd", "gopher://127.0.0.1:25/x", "ftp://127.0.0.1/x", "//127.0.0.1/x"] {
        assert_eq!(yard.call("POST", "/v1/catalog", &json!({"url": other})).status, 400, "{other}");
    }
    // A new operation that takes an address comes with a line here.
    let known = ["catalog.add.url"];
    for operation in linkspan_server::operations() {
        let input = operation.input();
        for field in input["properties"].as_object().into_iter().flat_map(|p| p.keys()) {
            let tells = ["url", "uri", "host", "endpoint", "callback", "webhook"].iter().any(|t| field.contains(t));
            let name = format!("{}.{field}", operation.name);
            assert!(!tells || known.contains(&name.as_str()), "{name} names a host and has no line in the test");
        }
    }
}
