//! Refresh tokens that are good for one use, at a provider that revokes the whole family when one comes again: they are kept before
//! they are used, by whichever process gets them, and no kill loses the connection.

use std::{
    fs,
    sync::{Arc, Condvar, Mutex, mpsc},
    time::Duration,
};

use linkspan_testkit::{
    chaos::mix,
    process::{Process, Signal},
};
use serde_json::{Value, json};

use crate::{
    api::{self, Asked},
    hub::Hub,
    killing::seed,
    program::{Place, Said, said},
};

const CALLERS: usize = 64;
/// Of these, processes of their own; the others ask the server.
const PROCESSES: usize = 6;
const SOON: Duration = Duration::from_secs(60);

/// A source whose refresh token is good for one use.
pub const MANIFEST: &str = r#"
version: 6.1.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [items]}
spec:
  type: Spec
  connection_specification:
    type: object
    required: [url, refresh_token]
    properties:
      url: {type: string}
      refresh_token: {type: string, airbyte_secret: true}
      access_token: {type: string, airbyte_secret: true}
      until: {type: string}
      since: {type: string}
streams:
  - type: DeclarativeStream
    name: items
    primary_key: [id]
    schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {id: {type: integer}}}}
    retriever:
      type: SimpleRetriever
      requester:
        type: HttpRequester
        url_base: "{{ config['url'] }}"
        path: /items
        http_method: GET
        authenticator:
          type: OAuthAuthenticator
          token_refresh_endpoint: "{{ config['url'] }}/token"
          client_id: id
          client_secret: secret
          refresh_token: "{{ config['refresh_token'] }}"
          refresh_token_updater:
            refresh_token_config_path: [refresh_token]
            access_token_config_path: [access_token]
            token_expiry_date_config_path: [until]
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
"#;

/// Where the provider stops until the test has killed somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Halt {
    /// The request is there, and nothing is used up.
    Before,
    /// The token is used up, and its successor not told.
    Between,
    /// The answer is on its way.
    After,
}

#[derive(Default)]
struct State {
    generation: u64,
    refreshes: usize,
    revoked: bool,
    /// Requests with a token that does not count.
    stale: usize,
    halt: Option<Halt>,
    lifetime: u64,
}

/// A provider and its API.
#[derive(Clone, Default)]
struct Provider(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    released: Condvar,
    reached: Mutex<Option<mpsc::Sender<()>>>,
}

impl Provider {
    fn serve(lifetime: u64) -> (Self, String) {
        let provider = Self::default();
        provider.state(|s| s.lifetime = lifetime);
        let asked = provider.clone();
        (provider, api::serve(move |request| asked.answer(request)))
    }
    fn state<T>(&self, of: impl FnOnce(&mut State) -> T) -> T {
        of(&mut self.0.state.lock().unwrap())
    }
    fn answer(&self, asked: &Asked) -> (u16, String) {
        if asked.target.starts_with("/token") {
            return self.token(asked);
        }
        let is_current = self.state(|s| {
            let current = asked.authorization.as_deref() == Some(&format!("Bearer access-canary-{}", s.generation)) && !s.revoked;
            s.stale += usize::from(!current);
            current
        });
        if is_current { (200, json!({"data": [{"id": 1}]}).to_string()) } else { (401, json!({"error": "stale"}).to_string()) }
    }
    fn token(&self, asked: &Asked) -> (u16, String) {
        self.halt(Halt::Before);
        let given = asked.form("refresh_token").unwrap_or_default();
        let new = self.state(|s| {
            if s.revoked || given != format!("refresh-canary-{}", s.generation) {
                s.revoked = true;
                return None;
            }
            s.generation += 1;
            s.refreshes += 1;
            Some((s.generation, s.lifetime))
        });
        let Some((new, lifetime)) = new else { return (400, json!({"error": "invalid_grant"}).to_string()) };
        self.halt(Halt::Between);
        if self.state(|s| s.halt) == Some(Halt::After) {
            self.tell();
        }
        let answer = json!({
            "access_token": format!("access-canary-{new}"), "refresh_token": format!("refresh-canary-{new}"), "expires_in": lifetime,
        });
        (200, answer.to_string())
    }
    fn tell(&self) {
        if let Some(reached) = self.0.reached.lock().unwrap().take() {
            let _ = reached.send(());
        }
    }
    /// Tells the test that this point is reached, and waits for it.
    fn halt(&self, at: Halt) {
        let mut state = self.0.state.lock().unwrap();
        if state.halt != Some(at) {
            return;
        }
        self.tell();
        while state.halt == Some(at) {
            state = self.0.released.wait(state).unwrap();
        }
    }
    /// The next refresh stops there; the receiver hears when it does.
    fn stop_at(&self, at: Option<Halt>) -> mpsc::Receiver<()> {
        let (told, hears) = mpsc::channel();
        *self.0.reached.lock().unwrap() = Some(told);
        self.state(|s| s.halt = at);
        hears
    }
    fn go_on(&self) {
        self.state(|s| s.halt = None);
        self.0.released.notify_all();
    }
}

fn started(place: &Place) -> Hub {
    let mut command = place.command(&["serve", "--port", "0", "--output", "json"]);
    command.env("LINKSPAN_EGRESS_ALLOW", "127.0.0.0/8");
    Hub::started(&mut command)
}

/// A place with a connector of the manifest's type.
fn connected(url: &str) -> Place {
    let place = Place::new();
    place.write("provider.yaml", MANIFEST);
    place.run(&["catalog", "add", "provider.yaml"]).succeeds();
    let config = json!({"url": url, "refresh_token": "refresh-canary-0", "until": "2000-01-01T00:00:00Z"}).to_string();
    place.run(&["connectors", "create", "prov", "--type", "provider", "--config", &config]).succeeds();
    place
}

fn holds_no_token(place: &Place) {
    fn walk(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
            if entry.path().is_dir() { walk(&entry.path(), files) } else { files.push(entry.path()) }
        }
    }
    let mut files = Vec::new();
    walk(&place.path("data"), &mut files);
    for file in files {
        let bytes = fs::read(&file).unwrap_or_default();
        assert!(!bytes.windows(6).any(|w| w == b"canary"), "{} holds a token", file.display());
    }
}

/// `full`: the issue's 200 rounds.
fn rounds() -> usize {
    if std::env::var("LINKSPAN_TEST_SCALE").is_ok_and(|s| s == "full") { 200 } else { 20 }
}

/// Callers at the server, each on a thread; an answer, or nothing when the server was killed.
fn ask(address: &str, bearer: &str, callers: usize) -> Vec<std::thread::JoinHandle<Option<Value>>> {
    let call = move |address: String, bearer: String| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&address).ok()?;
        let head = format!(
            "POST /v1/connectors/prov/test HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\nAuthorization: {bearer}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
    };
    (0..callers).map(|_| (address.to_owned(), bearer.to_owned())).map(|(a, b)| std::thread::spawn(move || call(a, b))).collect()
}

#[test]
fn many_callers_in_many_processes_refresh_once_an_expiry_though_they_are_killed_meanwhile() {
    let (provider, url) = Provider::serve(3600);
    let place = connected(&url);
    let mut hub = started(&place);
    let bearer = format!("Bearer {}", fs::read_to_string(place.path("data/admin.key")).unwrap().trim());
    let mut seed = seed();
    let mut killed = [0; 4];
    for round in 1..=rounds() {
        seed = mix(seed);
        // All callers find a token that has expired.
        let expired = r#"{"config": {"until": "2000-01-01T00:00:00Z"}}"#;
        let said = hub.call("PATCH", "/v1/connectors/prov", &[("Authorization", &bearer), ("Content-Type", "application/json")], expired);
        assert_eq!(said.status, 200, "round {round}: {}", said.text);
        let halt = [None, Some(Halt::Before), Some(Halt::Between), Some(Halt::After)][(seed % 4) as usize];
        let reached = provider.stop_at(halt);
        let mut callers = ask(&hub.address, &bearer, CALLERS - PROCESSES);
        let mut processes: Vec<Process> =
            (0..PROCESSES).map(|_| Process::start(&mut place.command(&["connectors", "check", "prov"]))).collect();
        match halt {
            // Some callers, anywhere in their work.
            None => {
                for process in processes.iter_mut().step_by(2) {
                    seed = mix(seed);
                    if process.wait_at_most(Duration::from_millis(seed % 600)).is_none() {
                        killed[0] += 1;
                        process.signal(Signal::Kill);
                    }
                }
                for process in processes.iter_mut().skip(1).step_by(2) {
                    assert!(process.wait(SOON).success(), "round {round}: {}", process.text());
                }
                for caller in callers.drain(..) {
                    let said = caller.join().unwrap().expect("the server was left alone");
                    assert_eq!(said["ok"], true, "round {round}: {said}");
                }
            }
            // All of them, the server too, while the token is on its way.
            Some(at) => {
                reached.recv_timeout(SOON).unwrap_or_else(|e| panic!("round {round}: nobody asked for a token: {e}"));
                if at == Halt::After {
                    std::thread::sleep(Duration::from_millis(seed / 7 % 40));
                }
                hub.process.signal(Signal::Kill);
                processes.iter_mut().for_each(|process| process.signal(Signal::Kill));
                killed[(seed % 4) as usize] += 1;
                provider.go_on();
                hub.process.wait(SOON);
                hub = started(&place);
            }
        }
        for mut process in processes {
            process.wait(SOON);
        }
        for caller in callers {
            let _ = caller.join().unwrap();
        }
        provider.go_on();
        let last = place.run(&["connectors", "check", "prov"]);
        assert_eq!(last.code, 0, "the connection is lost in round {round} ({halt:?}): {last:?}");
        let (refreshes, revoked) = provider.state(|s| (s.refreshes, s.revoked));
        assert_eq!((refreshes, revoked), (round, false), "round {round} ({halt:?})");
    }
    println!("kills: {killed:?} (single callers; all before, between and after)");
    assert_eq!(provider.state(|s| s.stale), 0, "a token that did not count was sent");
    holds_no_token(&place);
}

#[test]
fn a_token_that_the_api_refuses_is_replaced_once_for_all() {
    let (provider, url) = Provider::serve(3600);
    let place = Place::new();
    let refuses = "refresh_token_updater:";
    let handler = MANIFEST.replace(
        "        authenticator:",
        "        error_handler: {type: DefaultErrorHandler, backoff_strategies: [{type: ConstantBackoffStrategy, backoff_time_in_seconds: 0.01}], response_filters: [{type: HttpResponseFilter, http_codes: [401], action: REFRESH_TOKEN_THEN_RETRY}]}\n        authenticator:",
    );
    assert!(handler.contains(refuses));
    place.write("provider.yaml", handler);
    place.run(&["catalog", "add", "provider.yaml"]).succeeds();
    let config =
        json!({"url": url, "refresh_token": "refresh-canary-0", "access_token": "gone", "until": "2999-01-01T00:00:00Z"}).to_string();
    place.run(&["connectors", "create", "prov", "--type", "provider", "--config", &config]).succeeds();
    let hub = started(&place);
    let bearer = format!("Bearer {}", fs::read_to_string(place.path("data/admin.key")).unwrap().trim());
    for caller in ask(&hub.address, &bearer, 16) {
        let said = caller.join().unwrap().unwrap();
        assert_eq!(said["ok"], true, "{said}");
    }
    assert_eq!(provider.state(|s| (s.refreshes, s.revoked)), (1, false));
}

#[test]
fn a_project_file_s_tokens_are_kept_in_the_data_dir() {
    // Every token has expired when it comes.
    let (provider, url) = Provider::serve(0);
    let place = Place::new();
    place.write("provider.yaml", MANIFEST);
    place.run(&["catalog", "add", "provider.yaml"]).succeeds();
    let file = |since: &str| {
        format!(
            "connectors:\n  prov: {{type: provider, config: {{url: '{url}', refresh_token: refresh-canary-0, since: '{since}'}}}}\n  \
             same: {{type: manifest, config: {{path: ./provider.yaml, config: {{url: '{url}', refresh_token: refresh-canary-0}}}}}}\n  \
             out: {{url: 'sqlite:./out.db'}}\nconnections:\n  move: {{from: prov, to: out}}\n"
        )
    };
    place.write("p.yaml", file("2024"));
    let sync = |place: &Place| -> Said { place.run(&["sync", "-f", "p.yaml"]) };
    for _ in 0..3 {
        sync(&place).succeeds();
    }
    let before = provider.state(|s| (s.refreshes, s.revoked));
    assert!(before.0 >= 3 && !before.1, "{before:?}");
    // The user changes something else in the file, and a check is made: it is the same family.
    place.write("p.yaml", file("2025"));
    sync(&place).succeeds();
    place.run(&["connectors", "check", "prov", "-f", "p.yaml"]).succeeds();
    assert!(provider.state(|s| !s.revoked && s.refreshes > before.0 + 1));
    assert_eq!(place.sqlite("out.db", "select count(*) from items"), "1");
    holds_no_token(&place);
    // Without a place to keep it, a token is not used up.
    let refreshes = provider.state(|s| s.refreshes);
    let config = json!({"type": "provider", "config": {"url": url, "refresh_token": "refresh-canary-9"}}).to_string();
    let unsaved = place.run(&["connectors", "test", "--input", &config]);
    assert_ne!(unsaved.code, 0, "{unsaved:?}");
    assert_eq!(provider.state(|s| (s.refreshes, s.revoked)), (refreshes, false));
}

#[test]
fn a_token_that_lies_elsewhere_is_not_spent() {
    let (provider, url) = Provider::serve(3600);
    let place = Place::new();
    place.write("provider.yaml", MANIFEST);
    place.run(&["catalog", "add", "provider.yaml"]).succeeds();
    let config = json!({"url": url, "refresh_token": "env://LINKSPAN_SECRET_T"}).to_string();
    place.run(&["connectors", "create", "prov", "--type", "provider", "--config", &config]).succeeds();
    let refused = said(place.command(&["connectors", "check", "prov"]).env("LINKSPAN_SECRET_T", "refresh-canary-0"));
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.out.contains("field: refresh_token") && refused.out.contains("linkspan connectors credentials"), "{refused:?}");
    assert_eq!(provider.state(|s| (s.refreshes, s.revoked)), (0, false));
}

#[test]
fn who_fetches_a_token_is_as_guarded_as_the_server() {
    let (provider, url) = Provider::serve(3600);
    let place = Place::new();
    let auth = json!({
        "type": "oauth", "token_url": format!("{url}/token"), "client_id": "i", "client_secret": "canary-s",
        "refresh_token": "refresh-canary-0", "rotates": true,
    });
    let config = json!({"base_url": url, "path": "/items", "record_path": "data", "auth": auth}).to_string();
    place.run(&["connectors", "create", "prov", "--type", "api_rest", "--config", &config]).succeeds();
    let closed = Hub::start(&place);
    let bearer = format!("Bearer {}", fs::read_to_string(place.path("data/admin.key")).unwrap().trim());
    let said = ask(&closed.address, &bearer, 1).remove(0).join().unwrap().unwrap();
    assert_eq!(said["ok"], false, "{said}");
    assert!(said["error"].to_string().contains("internal addresses"), "{said}");
    assert_eq!(provider.state(|s| (s.refreshes, s.revoked, s.stale)), (0, false, 0));
    drop(closed);
    // A person's own command may go where it names, and what it fetched is there for the server.
    place.run(&["connectors", "check", "prov"]).succeeds();
    let open = started(&place);
    let said = ask(&open.address, &bearer, 1).remove(0).join().unwrap().unwrap();
    assert_eq!((&said["ok"], provider.state(|s| (s.refreshes, s.stale))), (&json!(true), (1, 0)), "{said}");
    holds_no_token(&place);
}
