//! Manifests in the catalog, as a user adds them and moves rows by them.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::{
    added::{add, orders_in_postgres, with_type},
    api::{self, Asked},
    hub::Hub,
    program::{Place, said},
};

const MANIFEST: &str = r#"
version: 6.1.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [orders]}
spec:
  type: Spec
  connection_specification:
    type: object
    required: [url, api_key]
    properties:
      url: {type: string, title: Address}
      api_key: {type: string, airbyte_secret: true}
streams:
  - type: DeclarativeStream
    name: orders
    primary_key: [id]
    schema_loader:
      type: InlineSchemaLoader
      schema:
        type: object
        properties:
          id: {type: integer}
          sku: {type: [string, "null"]}
          updated_at: {type: string}
    retriever:
      type: SimpleRetriever
      requester:
        type: HttpRequester
        url_base: "{{ config['url'] }}"
        path: /orders
        http_method: GET
        authenticator: {type: ApiKeyAuthenticator, api_token: "{{ config['api_key'] }}", inject_into: {type: RequestOption, inject_into: request_parameter, field_name: key}}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
        pagination_strategy: {type: PageIncrement, page_size: 2, start_from_page: 1, inject_on_first_request: true}
    incremental_sync:
      type: DatetimeBasedCursor
      cursor_field: updated_at
      datetime_format: "%Y-%m-%dT%H:%M:%SZ"
      start_datetime: "2024-01-01T00:00:00Z"
      start_time_option: {type: RequestOption, inject_into: request_parameter, field_name: since}
"#;
const KEY: &str = "canary-7f3a";

/// Orders by id and day, behind a key; every `since` that was asked for.
#[derive(Clone, Default)]
struct Shop {
    orders: Arc<Mutex<Vec<(u32, &'static str)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Shop {
    fn serve(&self) -> String {
        let shop = self.clone();
        api::serve(move |asked| shop.answer(asked))
    }
    fn answer(&self, asked: &Asked) -> (u16, String) {
        if asked.parameter("key").as_deref() != Some(KEY) {
            return (401, json!({"error": "no key"}).to_string());
        }
        let since = asked.parameter("since").unwrap_or_default();
        let page: usize = asked.parameter("page").and_then(|p| p.parse().ok()).unwrap_or(1);
        let orders = self.orders.lock().unwrap();
        let all = orders.iter().filter(|(_, at)| *at >= since.as_str());
        let shown: Vec<Value> =
            all.skip((page - 1) * 2).take(2).map(|(id, at)| json!({"id": id, "sku": format!("s{id}"), "updated_at": at})).collect();
        self.asked.lock().unwrap().push(since);
        (200, json!({"data": shown}).to_string())
    }
    fn set(&self, orders: &[(u32, &'static str)]) {
        *self.orders.lock().unwrap() = orders.to_vec();
    }
}

#[test]
fn a_manifest_is_a_type_with_a_form_and_versions_and_its_secret_is_known() {
    let place = Place::new();
    place.write("orders.yaml", MANIFEST);
    let added = place.run(&["catalog", "add", "orders.yaml", "--output", "json"]).succeeds().json();
    assert_eq!((&added["manifests"][0]["action"], &added["manifests"][0]["type"]), (&json!("added"), &json!("orders")));
    let again = add(&place, "orders", MANIFEST).succeeds();
    assert!(again.out.contains("unchanged orders (1 streams)"), "{again:?}");
    let updated = add(&place, "orders", &MANIFEST.replace("title: Address", "title: Where")).succeeds();
    assert!(updated.out.contains("updated orders"), "{updated:?}");

    let list = place.run(&["catalog", "list"]).succeeds().out;
    assert!(list.contains("orders") && list.contains("postgresql"), "{list}");
    let shown = place.run(&["catalog", "show", "source-orders", "--output", "json"]).succeeds().json();
    let schema = &shown["config_schema"]["properties"];
    assert_eq!((&schema["api_key"]["x-secret"], &schema["url"]["title"]), (&json!(true), &json!("Where")));
    let numbers: Vec<u64> = shown["manifest"]["versions"].as_array().unwrap().iter().map(|v| v["number"].as_u64().unwrap()).collect();
    assert_eq!((numbers, &shown["manifest"]["streams"]), (vec![1, 2], &json!(["orders"])));
    let first = place.run(&["catalog", "manifest", "orders", "--number", "1", "--output", "json"]).succeeds().json();
    assert_eq!(first["manifest"], MANIFEST);
    assert!(place.run(&["catalog", "show", "orders"]).succeeds().out.contains("secret"));

    // A name of the binary stays the binary's.
    let named = place.run(&["catalog", "add", "orders.yaml", "--name", "faker", "--output", "json"]).succeeds().json();
    assert_eq!(named["manifests"][0]["type"], "faker_manifest");
    place.run(&["catalog", "remove", "faker_manifest"]).succeeds();
    assert_eq!(place.run(&["catalog", "show", "faker_manifest"]).code, 4);
    assert_eq!(place.run(&["catalog", "remove", "faker"]).code, 6);
}

#[test]
fn a_folder_is_added_whole_and_what_cannot_be_run_is_named() {
    let place = Place::new();
    for (name, text) in
        [("source-good", MANIFEST.to_owned()), ("source-python", python()), ("source-bad", "type: DeclarativeSource\na: [".into())]
    {
        fs::create_dir_all(place.path("all").join(name)).unwrap();
        fs::write(place.path("all").join(name).join("manifest.yaml"), text).unwrap();
        fs::write(place.path("all").join(name).join("metadata.yaml"), "data: {}").unwrap();
    }
    let said = place.run(&["catalog", "add", "all"]);
    assert_eq!(said.code, 9, "{said:?}");
    assert!(said.out.contains("added") && said.out.matches("refused").count() == 2, "{said:?}");
    // Two files of one name, and one that is no text: each is reported, the others are in.
    place.write("all/source-good/bad.yaml", [0xff, 0xfe, b'D']);
    fs::create_dir_all(place.path("all/good")).unwrap();
    place.write("all/good/manifest.yaml", MANIFEST.replace("Address", "Other"));
    fs::create_dir_all(place.path("all/text")).unwrap();
    place.write("all/text/manifest.yaml", [0xff, 0xfe, b'D']);
    let again = place.run(&["catalog", "add", "all", "--output", "json"]);
    assert_eq!(again.code, 9, "{again:?}");
    let all = again.json();
    let of = |folder: &str| {
        let all = all["manifests"].as_array().unwrap();
        all.iter().find(|m| m["from"].as_str().unwrap().contains(folder)).unwrap_or_else(|| panic!("{all:#?}")).clone()
    };
    assert_eq!((&of("all/good/")["action"], &of("all/text/")["action"]), (&json!("updated"), &json!("refused")));
    let namesake = of("source-good/manifest");
    assert_eq!((&namesake["action"], &namesake["error"]["kind"]), (&json!("refused"), &json!("already_exists")));
    assert!(namesake["error"]["suggested_fix"].as_str().unwrap().contains("--name"), "{namesake}");
    place
        .run(&["catalog", "add", "all/source-python/manifest.yaml"])
        .refuses(2, &["streams[0].retriever.requester.authenticator", "subprocess"]);
    place.run(&["catalog", "add", "nowhere.yaml"]).refuses(4, &["nowhere.yaml"]);
}

fn python() -> String {
    MANIFEST.replace("{type: ApiKeyAuthenticator,", "{type: CustomAuthenticator, class_name: a.B,")
}

#[test]
fn rows_move_incrementally_by_an_added_type_on_the_command_line() {
    let place = with_type("orders", MANIFEST);
    let shop = Shop::default();
    let url = shop.serve();
    shop.set(&[(1, "2024-01-01T00:00:00Z"), (2, "2024-01-02T00:00:00Z"), (3, "2024-01-03T00:00:00Z")]);

    let (address, sqlite) = (format!("url={url}"), format!("path={}", place.path("out.db").display()));
    let half = place.run(&["connectors", "create", "shop", "--type", "orders", "--config", &address, "--output", "json"]).succeeds().json();
    assert_eq!(half["status"], "needs_credentials");
    place.run(&["connectors", "credentials", "shop", "--input", r#"{"api_key": "wrong"}"#]).succeeds();
    assert_eq!(place.run(&["connectors", "check", "shop"]).code, 3);
    let right = format!(r#"{{"api_key": "{KEY}"}}"#);
    let shown = place.run(&["connectors", "credentials", "shop", "--input", &right, "--output", "json"]).succeeds();
    assert!(!shown.out.contains(KEY), "{shown:?}");
    place.run(&["connectors", "check", "shop"]).succeeds();
    let found = place.run(&["connectors", "discover", "shop", "--output", "json"]).succeeds().json();
    assert_eq!((&found["streams"][0]["name"], &found["streams"][0]["key"]), (&json!("orders"), &json!(["id"])));

    place.run(&["connectors", "create", "out", "--type", "sqlite", "--config", &sqlite]).succeeds();
    place.run(&["connections", "create", "move", "--from", "shop", "--dest", "out", "--mode", "incremental"]).succeeds();
    place.run(&["connections", "run", "move"]).succeeds();
    assert_eq!(place.sqlite("out.db", "select group_concat(id) from (select id from orders order by id)"), "1,2,3");
    shop.set(&[(2, "2024-02-01T00:00:00Z"), (3, "2024-01-03T00:00:00Z"), (4, "2024-02-02T00:00:00Z")]);
    shop.asked.lock().unwrap().clear();
    place.run(&["connections", "run", "move"]).succeeds();
    assert_eq!(place.sqlite("out.db", "select count(*), count(distinct id), max(updated_at) from orders"), "4|4|2024-02-02T00:00:00Z");
    assert!(shop.asked.lock().unwrap().iter().all(|since| since.as_str() >= "2024-01-03T00:00:00Z"), "{:?}", shop.asked);
    place.run(&["catalog", "remove", "orders"]).refuses(6, &["shop"]);
    assert!(!fs::read(place.path("data/linkspan.db")).unwrap().windows(KEY.len()).any(|w| w == KEY.as_bytes()));
}

#[test]
fn a_project_file_names_an_added_type_and_postgresql_gets_its_rows() {
    let Some(postgres) = linkspan_testkit::servers::postgres_url() else { return };
    let place = with_type("orders", MANIFEST);
    let shop = Shop::default();
    let url = shop.serve();
    shop.set(&[(1, "2024-01-01T00:00:00Z"), (2, "2024-01-02T00:00:00Z")]);
    let target = linkspan_testkit::servers::unique("manifest");
    let file = format!(
        "connectors:\n  shop: {{type: orders, config: {{url: '{url}', api_key: {KEY}}}}}\n  pg: {{url: '{postgres}'}}\n  lake: {{type: parquet, config: {{path: ./lake}}}}\n\
         connections:\n  a: {{from: shop, to: pg, mode: incremental, target: {target}}}\n  b: {{from: shop, to: lake, mode: incremental}}\n"
    );
    place.write("p.yaml", file);
    place.run(&["project", "check", "p.yaml"]).succeeds();
    let first = place.run(&["sync", "-f", "p.yaml", "--output", "json"]).succeeds();
    let read = |said: &crate::program::Said| {
        said.lines().iter().filter(|l| l["event"] == "summary").map(|l| l["streams"][0]["rows_read"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(read(&first), [2, 2]);
    shop.set(&[(1, "2024-01-01T00:00:00Z"), (2, "2024-01-02T00:00:00Z"), (3, "2024-01-05T00:00:00Z")]);
    let second = place.run(&["sync", "-f", "p.yaml", "--output", "json"]).succeeds();
    assert_eq!(read(&second), [1, 1], "{second:?}");
    assert!(!first.out.contains(KEY) && !first.err.contains(KEY));
    assert_eq!(orders_in_postgres(&postgres, &target), (3, 3));
}

#[test]
fn a_server_takes_manifests_by_name_from_a_registry_and_syncs_them() {
    let place = Place::new();
    let shop = Shop::default();
    let url = shop.serve();
    shop.set(&[(1, "2024-01-01T00:00:00Z"), (2, "2024-01-02T00:00:00Z"), (3, "2024-01-03T00:00:00Z")]);
    let registry = api::serve(|asked| match asked.target.as_str() {
        "/files/metadata/airbyte/source-shop-orders/latest/manifest.yaml" => (200, MANIFEST.to_owned()),
        "/files/metadata/airbyte/source-huge/latest/manifest.yaml" => (200, "a".repeat(2_000_000)),
        _ => (404, "nothing".into()),
    });
    let mut command = place.command(&["serve", "--port", "0", "--output", "json"]);
    command.env("LINKSPAN_MANIFEST_REGISTRY", format!("{registry}/files"));
    let closed = Hub::started(&mut command);
    let key = fs::read_to_string(place.path("data/admin.key")).unwrap();
    let at = |hub: &Hub, args: &[&str]| {
        let mut command = place.command(args);
        said(command.args(["--server", &format!("http://{}", hub.address), "--api-key", key.trim()]))
    };
    // Addresses inside the network are out of a server's reach unless its operator names them.
    at(&closed, &["catalog", "add", "shop-orders"]).refuses(3, &["internal addresses"]);
    drop(closed);
    command.env("LINKSPAN_EGRESS_ALLOW", "127.0.0.0/8");
    let hub = Hub::started(&mut command);
    assert!(at(&hub, &["catalog", "add", "shop-orders"]).succeeds().out.contains("added shop_orders"));
    at(&hub, &["catalog", "add", "nothing-there"]).refuses(4, &["nothing-there"]);
    assert_ne!(at(&hub, &["catalog", "add", "huge"]).code, 0);
    at(&hub, &["catalog", "add", "../../evil"]).refuses(4, &["evil"]);
    let shown = at(&hub, &["catalog", "show", "shop_orders", "--output", "json"]).succeeds().json();
    assert_eq!(shown["manifest"]["versions"][0]["from"], "registry:source-shop-orders@latest");

    let config = format!(r#"{{"url": "{url}", "api_key": "{KEY}"}}"#);
    at(&hub, &["connectors", "create", "shop", "--type", "shop_orders", "--config", &config]).succeeds();
    at(&hub, &["connections", "create", "move", "--from", "shop", "--dest", "lake", "--mode", "incremental"]).succeeds();
    let run = at(&hub, &["connections", "run", "move", "--wait", "--output", "json"]).succeeds().json();
    assert_eq!((&run["status"], &run["rows_written"]), (&json!("completed"), &json!(3)), "{run:#}");
    shop.set(&[(3, "2024-01-03T00:00:00Z"), (4, "2024-01-04T00:00:00Z")]);
    let run = at(&hub, &["connections", "run", "move", "--wait", "--output", "json"]).succeeds().json();
    assert_eq!(run["rows_written"], 1, "{run:#}");
}

/// Several hundred manifests: a list and a form need none of them read.
#[test]
fn a_catalog_of_five_hundred_manifests_is_listed_at_once() {
    let place = Place::new();
    for n in 0..500 {
        let folder = place.path("all").join(format!("source-api-{n}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("manifest.yaml"), kit(n).unwrap_or_else(|| MANIFEST.to_owned()) + &format!("\n# {n}\n")).unwrap();
    }
    let said = place.run(&["catalog", "add", "all"]).succeeds();
    assert!(said.err.contains("250 of 500 manifests"), "it says how far it is: {}", said.err);
    let hub = Hub::start(&place);
    let key = fs::read_to_string(place.path("data/admin.key")).unwrap();
    let bearer = format!("Bearer {}", key.trim());
    let ask = |path: &str| {
        let began = std::time::Instant::now();
        let said = hub.call("GET", path, &[("Authorization", &bearer)], "");
        assert_eq!(said.status, 200, "{}", said.text);
        (began.elapsed(), said)
    };
    let (_, list) = ask("/v1/catalog");
    let types = list.json()["types"].as_array().unwrap().iter().filter(|t| !t["manifest"].is_null()).count();
    assert_eq!(types, 500);
    let listed = (0..5).map(|_| ask("/v1/catalog").0).min().unwrap();
    let shown = (0..5).map(|_| ask("/v1/catalog/api_499").0).min().unwrap();
    println!("catalog of 500 manifests: listed in {listed:?}, one shown in {shown:?} ({} bytes)", list.text.len());
    // An unoptimised build on a busy machine gets ten times as long as the goal.
    let limit = std::time::Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 200 });
    assert!(listed < limit && shown < limit, "{listed:?} {shown:?}");
}

/// The conformance kit's manifests, where they are.
fn kit(n: usize) -> Option<String> {
    let shared = std::env::var_os("LINKSPAN_SHARED").map(std::path::PathBuf::from);
    let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let folder = shared
        .into_iter()
        .chain([beside.join("shared"), beside.join("../shared")])
        .map(|s| s.join("lowcode-kit/goldens"))
        .find(|g| g.exists())?;
    let mut all: Vec<_> = fs::read_dir(folder).ok()?.filter_map(|f| f.ok()).map(|f| f.path().join("manifest.yaml")).collect();
    all.sort();
    let text = fs::read_to_string(&all[n % all.len()]).ok()?;
    (!text.contains("CustomRe") && !text.contains("class_name")).then_some(text)
}
