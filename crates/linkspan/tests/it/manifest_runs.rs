//! Types of the catalog as sources of runs, against an API over HTTP: killed and resumed, held up, refused on the way, and with records
//! that change their shape.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use linkspan_testkit::{
    chaos::mix,
    process::{Process, Signal},
    scale, servers,
};
use serde_json::{Value, json};

use crate::{
    added::{add, orders_in_postgres, orders_in_sqlite, with_type},
    api::{self, Asked, Reply},
    hub::Hub,
    killing::{LONG, seed},
    program::{Place, Said, counts},
};

const DAYS: usize = 20;
const A_DAY: usize = 15;

/// A day is a window, and pages hold ten orders.
const MANIFEST: &str = r#"
version: 6.1.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [orders]}
spec:
  type: Spec
  connection_specification: {type: object, required: [url], properties: {url: {type: string}}}
streams:
  - type: DeclarativeStream
    name: orders
    primary_key: [id]
    schema_loader:
      type: InlineSchemaLoader
      schema: {type: object, properties: {id: {type: integer}, at: {type: string}, sku: {type: string}}}
    retriever:
      type: SimpleRetriever
      requester:
        type: HttpRequester
        url_base: "{{ config['url'] }}"
        path: /orders
        http_method: GET
        error_handler:
          type: DefaultErrorHandler
          backoff_strategies: [{type: WaitTimeFromHeader, header: Retry-After}]
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
        pagination_strategy: {type: PageIncrement, page_size: 10, start_from_page: 1, inject_on_first_request: true}
    incremental_sync:
      type: DatetimeBasedCursor
      cursor_field: at
      datetime_format: "%Y-%m-%dT%H:%M:%SZ"
      start_datetime: "2024-01-01T00:00:00Z"
      end_datetime: "2024-01-20T23:59:59Z"
      step: P1D
      cursor_granularity: PT1S
      start_time_option: {type: RequestOption, inject_into: request_parameter, field_name: from}
      end_time_option: {type: RequestOption, inject_into: request_parameter, field_name: to}
"#;

/// What the API does besides answering.
#[derive(Default)]
struct Api {
    asked: AtomicUsize,
    /// Milliseconds before each answer.
    slow: AtomicUsize,
    /// These requests are refused for now.
    limited: Mutex<Vec<usize>>,
    /// Records have one column more.
    grown: AtomicBool,
}

impl Api {
    fn serve() -> (Arc<Self>, String) {
        let api = Arc::new(Self::default());
        let asked = api.clone();
        (api, api::serve(move |request| asked.answer(request)))
    }
    fn answer(&self, asked: &Asked) -> Reply {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        std::thread::sleep(Duration::from_millis(self.slow.load(Ordering::Relaxed) as u64));
        if self.limited.lock().unwrap().contains(&number) {
            return Reply { status: 429, headers: "retry-after: 1\r\n".into(), body: "{}".into() };
        }
        let page: usize = asked.parameter("page").and_then(|p| p.parse().ok()).unwrap_or(1);
        let (from, to) = (asked.parameter("from").unwrap_or_default(), asked.parameter("to").unwrap_or_default());
        let grown = self.grown.load(Ordering::Relaxed);
        let all = (0..DAYS * A_DAY).map(|n| (n, at(n))).filter(|(_, at)| *at >= from && *at <= to);
        let shown = all.skip((page - 1) * 10).take(10).map(|(n, at)| {
            let mut order = json!({"id": n, "at": at, "sku": format!("s{n}")});
            if grown {
                order["color"] = "red".into();
            }
            order
        });
        (200, json!({"data": shown.collect::<Vec<_>>()}).to_string()).into()
    }
}

/// Orders of a day, a minute apart.
fn at(n: usize) -> String {
    format!("2024-01-{:02}T00:{:02}:00Z", n / A_DAY + 1, n % A_DAY)
}

#[test]
fn killed_reads_go_on_and_no_order_is_lost_or_comes_twice() {
    let (api, url) = Api::serve();
    api.slow.store(2, Ordering::Relaxed);
    let place = with_type("shop", MANIFEST);
    let postgres = servers::postgres_url();
    let all = (DAYS * A_DAY) as i64;
    let mut seed = seed();
    let mut whole = Duration::from_millis(900);
    let (mut round, mut hit) = (0, 0);
    while hit < scale().kills {
        round += 1;
        assert!(round < 4 * scale().kills, "the runs end before they can be killed");
        let schema = servers::unique("manifest_kill");
        let target = postgres.as_deref().filter(|_| round % 2 == 0).map(|url| (url, schema.as_str()));
        let file = format!("out{round}.db");
        let out = target.map_or_else(|| format!("sqlite:./{file}"), |(url, _)| url.to_owned());
        let named = target.map_or_else(String::new, |(_, schema)| format!(", target: {schema}"));
        place.write(
            "p.yaml",
            format!(
                "connectors:\n  shop: {{type: shop, config: {{url: '{url}'}}}}\n  out: {{url: '{out}'}}\n\
                 connections:\n  r{round}: {{from: shop, to: out, mode: incremental, write: append{named}}}\n"
            ),
        );
        let start = || Process::start(&mut place.command(&["sync", "-f", "p.yaml"]));
        for _ in 0..2 {
            seed = mix(seed);
            let mut run = start();
            if run.wait_at_most(whole.mul_f64((seed % 1_000) as f64 / 1_000.0)).is_none() {
                hit += 1;
                whole = whole.mul_f64(1.02);
            } else {
                whole = whole.mul_f64(0.9);
            }
            run.signal(Signal::Kill);
            run.wait(LONG);
        }
        let last = place.run(&["sync", "-f", "p.yaml"]).succeeds();
        let rows = target.map_or_else(|| orders_in_sqlite(&place, &file), |(url, schema)| orders_in_postgres(url, schema));
        assert_eq!(rows, (all, all), "round {round}: {last:?}");
    }
}

#[test]
fn a_server_that_is_killed_goes_on_with_the_run_of_an_added_type() {
    let (api, url) = Api::serve();
    api.slow.store(40, Ordering::Relaxed);
    let place = with_type("shop", MANIFEST);
    let serve = || {
        let mut command = place.command(&["serve", "--port", "0", "--output", "json"]);
        command.env("LINKSPAN_EGRESS_ALLOW", "127.0.0.0/8").env("LINKSPAN_FILES_DIR", place.path("."));
        Hub::started(&mut command)
    };
    let create = |args: &[&str]| place.run(args).succeeds();
    create(&["connectors", "create", "shop", "--type", "shop", "--config", &json!({"url": url}).to_string()]);
    create(&["connectors", "create", "out", "--type", "sqlite", "--config", &format!("path={}", place.path("out.db").display())]);
    create(&["connections", "create", "move", "--from", "shop", "--dest", "out", "--mode", "incremental", "--write", "append"]);
    let mut hub = serve();
    create(&["connections", "run", "move"]);
    let began = Instant::now();
    while api.asked.load(Ordering::SeqCst) < 12 && began.elapsed() < LONG {
        std::thread::sleep(Duration::from_millis(5));
    }
    hub.process.signal(Signal::Kill);
    hub.process.wait(LONG);
    api.slow.store(0, Ordering::Relaxed);
    let hub = serve();
    let run = create(&["connections", "run", "move", "--wait", "--output", "json"]).json();
    assert_eq!(run["status"], "completed", "{run:#}");
    let all = (DAYS * A_DAY) as i64;
    assert_eq!(orders_in_sqlite(&place, "out.db"), (all, all));
    drop(hub);
}

fn sync(place: &Place, url: &str, more: &str) -> Said {
    place.write(
        "p.yaml",
        format!(
            "connectors:\n  shop: {{type: shop, config: {{url: '{url}'}}}}\n  out: {{url: 'sqlite:./out.db'}}\n\
             connections:\n  move:\n    from: shop\n    to: out\n    mode: incremental\n{more}"
        ),
    );
    place.run(&["sync", "-f", "p.yaml", "--output", "json"])
}

#[test]
fn an_api_that_asks_for_patience_gets_it() {
    let (api, url) = Api::serve();
    *api.limited.lock().unwrap() = vec![3, 4, 9];
    let place = with_type("shop", MANIFEST);
    let began = Instant::now();
    let said = sync(&place, &url, "").succeeds();
    assert!(began.elapsed() >= Duration::from_secs(3), "it waited {:?}", began.elapsed());
    assert_eq!(counts(&said.summary(), "orders").0, (DAYS * A_DAY) as u64);
    // Who waits is told why, and not with each answer.
    assert_eq!(said.out.matches("orders: the limit of the API is reached").count(), 1, "{said:#?}");
    let all = (DAYS * A_DAY) as i64;
    assert_eq!(orders_in_sqlite(&place, "out.db"), (all, all));
}

#[test]
fn lists_that_the_api_cut_short_and_pages_that_are_left_out_are_told_once() {
    let (whole, part) = (
        r#"{type: DpathExtractor, field_path: [data]}"#,
        r#"{type: DpathExtractor, field_path: [data], record_expander:
        {type: RecordExpander, expand_records_from_field: [items, data], truncation_indicator_path: [items, has_more]}}"#,
    );
    assert!(MANIFEST.contains(whole));
    let url = api::serve(|asked| {
        let day = asked.parameter("from").unwrap_or_default();
        if day.starts_with("2024-01-03") {
            return Reply { status: 404, headers: String::new(), body: "{}".into() };
        }
        let items = json!({"has_more": true, "total_count": 7, "data": [{"id": day, "at": day}]});
        Reply::from((200, json!({"data": [{"items": items}]}).to_string()))
    });
    let ignores = "{type: DefaultErrorHandler, response_filters: [{type: HttpResponseFilter, http_codes: [404], action: IGNORE, error_message: no such day}]}";
    let handler = "          type: DefaultErrorHandler\n          backoff_strategies: [{type: WaitTimeFromHeader, header: Retry-After}]\n";
    let manifest = MANIFEST.replace(whole, part).replace(&format!("error_handler:\n{handler}"), &format!("error_handler: {ignores}\n"));
    assert!(manifest.contains("IGNORE"), "{manifest}");
    let place = with_type("shop", &manifest.replace("id: {type: integer}", "id: {type: string}"));
    let said = sync(&place, &url, "").succeeds();
    assert_eq!(said.out.matches("orders: the API cut a list short: only 1 of 7 items are read").count(), 1, "{said:#?}");
    assert_eq!(said.out.matches("orders: no such day (status 404)").count(), 1, "{said:#?}");
    assert_eq!(counts(&said.summary(), "orders").0, DAYS as u64 - 1);
}

#[test]
fn a_token_that_ends_on_the_way_is_replaced_and_the_read_goes_on() {
    const USES: usize = 4;
    /// Tokens given, and what the last one is still good for.
    #[derive(Default)]
    struct Tokens {
        given: usize,
        left: usize,
    }
    let (orders, tokens) = (Arc::new(Api::default()), Arc::new(Mutex::new(Tokens::default())));
    let (asked, state) = (orders.clone(), tokens.clone());
    let url = api::serve(move |request| {
        let mut tokens = state.lock().unwrap();
        if request.target.starts_with("/token") {
            assert_eq!(request.form("grant_type").as_deref(), Some("client_credentials"));
            (tokens.given, tokens.left) = (tokens.given + 1, USES);
            let body = json!({"access_token": format!("access-canary-{}", tokens.given), "expires_in": 3600});
            return Reply::from((200, body.to_string()));
        }
        if request.authorization.as_deref() != Some(&format!("Bearer access-canary-{}", tokens.given)) || tokens.left == 0 {
            return Reply::from((401, "{}".to_owned()));
        }
        tokens.left -= 1;
        drop(tokens);
        asked.answer(&Asked { target: request.target.clone() + "&from=2024&to=2025", body: String::new(), authorization: None })
    });
    let place = Place::new();
    let auth = format!("auth: {{type: oauth, token_url: '{url}/token', client_id: i, client_secret: canary}}");
    place.write(
        "p.yaml",
        format!(
            "connectors:\n  shop: {{type: api_rest, config: {{base_url: '{url}', path: /orders, record_path: data, key: [id], {auth}, \
             pagination: {{type: page, page_size: 10}}}}}}\n  out: {{url: 'sqlite:./out.db'}}\nconnections:\n  move: {{from: shop, to: out}}\n"
        ),
    );
    let said = place.run(&["sync", "-f", "p.yaml"]).succeeds();
    let all = (DAYS * A_DAY) as i64;
    assert_eq!(orders_in_sqlite(&place, "out.db"), (all, all), "{said:?}");
    assert!(tokens.lock().unwrap().given > 5, "{}", tokens.lock().unwrap().given);
    assert!(!said.out.contains("canary") && !said.err.contains("canary"));
}

#[test]
fn a_new_field_of_an_added_type_is_met_as_the_drift_policy_says() {
    let old = |column: &str| format!("select count(*), count({column}) from orders where id >= 270");
    for (policy, code, columns, want) in [
        ("evolve", 0, 4, "30|30"),
        ("discard_value", 0, 3, "30|30"),
        ("discard_row", 0, 3, "15|15"),
        ("freeze", 7, 3, "15|15"),
        ("block", 7, 3, "15|15"),
    ] {
        let (api, url) = Api::serve();
        // The first run ends a day before the last.
        let place = with_type("shop", &MANIFEST.replace("2024-01-20T23", "2024-01-19T23"));
        let drift = format!("    policies: {{drift: {policy}}}\n");
        sync(&place, &url, &drift).succeeds();
        add(&place, "shop", MANIFEST).succeeds();
        api.grown.store(true, Ordering::Relaxed);
        let said = sync(&place, &url, &drift);
        assert_eq!(said.code, code, "{policy}: {said:#?}");
        assert_eq!(
            place.sqlite("out.db", "select count(*) from pragma_table_info('orders') where name not like '\\_ls%' escape '\\'"),
            columns.to_string(),
            "{policy}"
        );
        assert_eq!(place.sqlite("out.db", &old("sku")), want, "{policy}");
        if policy == "evolve" {
            // The last day, and the one before it whose last moment is read again.
            assert_eq!(place.sqlite("out.db", "select count(*) > 0, min(color) from orders where color is not null"), "1|red");
        }
        // Nothing is lost: once the shape is agreed to, what was left out comes.
        if matches!(policy, "freeze" | "block") {
            sync(&place, &url, "    policies: {drift: evolve}\n").succeeds();
            assert_eq!(place.sqlite("out.db", &old("color")), "30|16", "{policy}");
        }
    }
}

/// What the parents and their children are, without an end.
fn partitions(asked: &Asked, most: &AtomicUsize, now: &AtomicUsize) -> Reply {
    let at_once = now.fetch_add(1, Ordering::SeqCst) + 1;
    most.fetch_max(at_once, Ordering::SeqCst);
    let page: usize = asked.parameter("page").and_then(|p| p.parse().ok()).unwrap_or(1);
    let body = match asked.target.split(['/', '?']).collect::<Vec<_>>().as_slice() {
        ["", "accounts", ..] => {
            let first = (page - 1) * 1_000;
            json!({"data": (first..(first + 1_000).min(PARTITIONS)).map(|id| json!({"id": id})).collect::<Vec<_>>()})
        }
        ["", "events", account, ..] => {
            // As long as a request takes over a network: that is when the others are asked.
            std::thread::sleep(Duration::from_millis(2));
            let account: usize = account.parse().unwrap();
            let at = format!("2024-01-01T{:02}:{:02}:{:02}Z", account / 3600, account / 60 % 60, account % 60);
            json!({"data": [{"id": account * 2, "at": at}, {"id": account * 2 + 1, "at": "2024-01-01T00:00:00Z"}]})
        }
        _ => json!({"data": []}),
    };
    now.fetch_sub(1, Ordering::SeqCst);
    (200, body.to_string()).into()
}

const PARTITIONS: usize = 25_000;
/// Of an unoptimised build, whose own file is half of it. Ten thousand positions, the most that are kept apart, are one text of a megabyte;
/// partitions beyond them must add nothing.
const MOST_MB: u64 = 192;

const MANY: &str = r##"
version: 6.1.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [events]}
concurrency_level: {type: ConcurrencyLevel, default_concurrency: 8}
spec:
  type: Spec
  connection_specification: {type: object, required: [url], properties: {url: {type: string}}}
definitions:
  accounts:
    type: DeclarativeStream
    name: accounts
    primary_key: [id]
    schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {id: {type: integer}}}}
    retriever:
      type: SimpleRetriever
      requester: {type: HttpRequester, url_base: "{{ config['url'] }}", path: /accounts, http_method: GET, use_cache: false}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
        pagination_strategy: {type: PageIncrement, page_size: 1000, start_from_page: 1, inject_on_first_request: true}
streams:
  - type: DeclarativeStream
    name: events
    primary_key: [id]
    schema_loader: {type: InlineSchemaLoader, schema: {type: object, properties: {id: {type: integer}, at: {type: string}}}}
    retriever:
      type: SimpleRetriever
      requester: {type: HttpRequester, url_base: "{{ config['url'] }}", path: "/events/{{ stream_partition.account }}", http_method: GET}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
      partition_router:
        type: SubstreamPartitionRouter
        parent_stream_configs: [{type: ParentStreamConfig, stream: "#/definitions/accounts", parent_key: id, partition_field: account}]
    incremental_sync:
      type: DatetimeBasedCursor
      cursor_field: at
      datetime_format: "%Y-%m-%dT%H:%M:%SZ"
      start_datetime: "2024-01-01T00:00:00Z"
      end_datetime: "2024-02-01T00:00:00Z"
"##;

/// Runs to its end; the most memory that it took, in MB.
fn watched(mut command: std::process::Command) -> (Said, u64) {
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    let (told, hears) = std::sync::mpsc::channel::<()>();
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        while hears.recv_timeout(Duration::from_millis(20)).is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            peak = peak.max(line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0));
        }
        peak >> 10
    });
    let output = child.wait_with_output().unwrap();
    drop(told);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let said = Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) };
    (said, watcher.join().unwrap())
}

#[test]
fn twenty_five_thousand_partitions_are_read_side_by_side_in_little_memory() {
    let (most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (m, n) = (most.clone(), now.clone());
    let url = api::serve(move |asked| partitions(asked, &m, &n));
    let place = with_type("shop", MANY);
    let latest = "2024-01-01T06:56:39Z";
    // Through a connector, merged and appended.
    for write in ["merge", "append"] {
        if write == "append" && scale().kills < 300 {
            continue;
        }
        place.write(
            "p.yaml",
            format!(
                "connectors:\n  many: {{type: shop, config: {{url: '{url}'}}}}\n  out: {{url: 'sqlite:./{write}.db'}}\n\
                 connections:\n  {write}: {{from: many, to: out, mode: incremental, write: {write}}}\n"
            ),
        );
        let began = Instant::now();
        let (said, peak) = watched(place.command(&["sync", "-f", "p.yaml", "--output", "json"]));
        said.succeeds();
        println!("{PARTITIONS} partitions, {write}: {:?}, {peak} MB, {} at once", began.elapsed(), most.load(Ordering::SeqCst));
        let all = (2 * PARTITIONS) as i64;
        assert_eq!(rows_of_events(&place, write), (all, all, latest.to_owned()));
        assert!(peak < MOST_MB, "{write}: {peak} MB");
        let at_once = most.swap(0, Ordering::SeqCst);
        // The maker of partitions asks beside the eight that are read.
        assert!((4..=10).contains(&at_once), "{write}: {at_once} at once");
    }
    // As a program.
    place.write("config.json", json!({"url": url}).to_string());
    let catalog = json!({"streams": [{
        "stream": {"name": "events", "json_schema": {}, "supported_sync_modes": ["full_refresh", "incremental"]},
        "sync_mode": "incremental", "destination_sync_mode": "append",
    }]});
    place.write("catalog.json", catalog.to_string());
    let args = ["manifest", "read", "--manifest", "shop.yaml", "--config", "config.json", "--catalog", "catalog.json"];
    let began = Instant::now();
    let (said, peak) = watched(place.command(&args));
    let said = said.succeeds();
    println!("{PARTITIONS} partitions, manifest read: {:?}, {peak} MB", began.elapsed());
    assert_eq!(said.out.matches("\"RECORD\"").count(), 2 * PARTITIONS);
    let state: Value = serde_json::from_str(said.out.lines().rfind(|l| l.contains("\"STATE\"")).unwrap()).unwrap();
    let state = &state["state"]["stream"]["stream_state"];
    assert_eq!((&state["use_global_cursor"], &state["state"]["at"], &state["states"]), (&json!(true), &json!(latest), &Value::Null));
    assert!(peak < MOST_MB, "manifest read: {peak} MB");
}

fn rows_of_events(place: &Place, file: &str) -> (i64, i64, String) {
    let said = place.sqlite(&format!("{file}.db"), "select count(*), count(distinct id), max(at) from events");
    let parts: Vec<&str> = said.split('|').collect();
    (parts[0].parse().unwrap(), parts[1].parse().unwrap(), parts[2].to_owned())
}
