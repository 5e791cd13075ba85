//! SapixDB's connector management. Its bridges and fan-out come with their issue: until then they are refused by name.

use serde_json::{Value, json};

use super::{
    print::{Print, has_the_shape_of},
    stage::Stage,
};

#[test]
fn sapix_s_management_runs_as_printed() {
    let Some(print) = Print::of("sapixdb-connector-hub") else { return };
    let stage = Stage::new(&[]);
    assert_eq!(print.routes(), ["POST /v1/connectors", "POST /v1/connectors/inbound/rest/abc123/push", "POST /v1/records"]);
    assert!(
        stage.has("POST /v1/connectors") && !stage.has("POST /v1/connectors/inbound/rest/abc123/push") && !stage.has("POST /v1/records")
    );
    not_built(&print, &stage);

    let make = |name: &str, kind: &str, more: &str| {
        let made = stage.call("POST", "/v1/connectors", &format!(r#"{{ "name": "{name}", "kind": "{kind}"{more} }}"#));
        assert_eq!(made.status, 201, "{made:?}");
        made.json()
    };
    let bridge = make("IoT Bridge", "faker", r#", "config": { "customers": 1 }"#);
    let printed = print.json_after("// → { \"id\": \"abc123\", \"name\": \"IoT Bridge\"".trim_end_matches(|c| c != '→'));
    has_the_shape_of(&bridge, &printed);
    for field in ["name", "direction", "enabled", "event_count"] {
        assert_eq!(bridge[field], printed[field], "{field}");
    }
    make("Orders", "faker", "");
    make("Archive", "parquet", r#", "direction": "outbound", "config": { "path": "archive" }"#);
    let printed = print.json_after("List all connectors\n");
    let listed = stage.get("/v1/connectors");
    assert_eq!((&listed["inbound_count"], &listed["outbound_count"]), (&printed["inbound_count"], &printed["outbound_count"]), "{listed}");
    let mut printed_one = printed["connectors"][0].clone();
    // Nothing has come through it yet, and its config is that of its type.
    printed_one["last_event_ms"] = Value::Null;
    printed_one["config"] = json!({});
    has_the_shape_of(&listed["connectors"][0], &printed_one);

    let one = format!("/v1/connectors/{}", bridge["id"].as_str().unwrap());
    let off = stage.call("PATCH", &one, print.block_after("// Disable without deleting\n"));
    assert_eq!((off.status, &off.json()["enabled"]), (200, &json!(false)), "{off:?}");
    let both = print.block_after("// Both at once\n").replace("{ ... }", r#"{ "customers": 2 }"#);
    let both = stage.call("PATCH", &one, &both);
    assert_eq!((both.status, &both.json()["name"], &both.json()["enabled"]), (200, &json!("Renamed"), &json!(true)), "{both:?}");
    assert_eq!(both.json()["config"], json!({"customers": 2}));
    // A config of another kind changes nothing.
    let url = stage.call("PATCH", &one, print.block_after("// Change target URL of a webhook\n"));
    assert_eq!((url.status, &url.json()["error"]["kind"]), (400, &json!("config_invalid")), "{url:?}");
    assert_eq!(stage.get(&one), both.json());

    let printed = print.json_after("// → 200 ConnectorConfig");
    assert_eq!(printed, json!({"deleted": true, "id": "abc123"}));
    let gone = stage.call("DELETE", &one, "");
    assert_eq!((gone.status, gone.json()), (200, json!({"deleted": true, "id": bridge["id"]})), "{gone:?}");
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(stage.call(method, &one, if method == "PATCH" { r#"{ "enabled": false }"# } else { "" }).status, 404);
    }
}

fn not_built(print: &Print, stage: &Stage) {
    let blocks = print.blocks_with("\"kind\"");
    let kinds: Vec<Value> = blocks.iter().map(|b| serde_json::from_str::<Value>(b).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["rest_bridge", "postgres_cdc", "kafka", "webhook", "s3"]);
    for (block, kind) in blocks.iter().zip(&kinds) {
        let said = stage.call("POST", "/v1/connectors", block);
        let message = format!("there is no connector type `{}`", kind.as_str().unwrap());
        assert!(said.status == 400 && said.json()["error"]["message"] == message, "{said:?}");
    }
    assert_eq!(stage.get("/v1/connectors")["connectors"], json!([]), "nothing of them is kept");
}
