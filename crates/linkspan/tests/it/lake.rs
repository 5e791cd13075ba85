//! The built-in lake in a bucket, as an operator sets it up: through a running server whose requests are guarded.

use linkspan_testkit::servers;
use serde_json::json;

use crate::{documents::Stage, program::Place};

#[test]
fn the_lake_lies_in_a_bucket_whose_network_the_operator_allowed() {
    let Some(s3) = servers::s3() else { return };
    let url = format!("s3://{}/{}", s3.bucket, servers::unique("lake"));
    let lake = [
        ("LINKSPAN_LAKE_URL", url.as_str()),
        ("LINKSPAN_LAKE_ENDPOINT", &s3.url),
        ("LINKSPAN_LAKE_REGION", "us-east-1"),
        ("LINKSPAN_LAKE_ACCESS_KEY_ID", &s3.access_key),
        ("LINKSPAN_LAKE_SECRET_ACCESS_KEY", &s3.secret_key),
        ("LINKSPAN_LAKE_ALLOW_HTTP", "1"),
    ];
    let made = |stage: &Stage| {
        let connector = json!({"name": "gen", "type": "faker", "config": {"customers": 50}}).to_string();
        assert_eq!(stage.call("POST", "/v1/connectors", &connector).status, 201);
        let flow = json!({"name": "flow", "from": "gen", "dest": "lake:people", "streams": ["customers"], "retry": {"attempts": 1}});
        assert_eq!(stage.call("POST", "/v1/connections", &flow.to_string()).status, 201);
        stage.run("flow")
    };
    // The bucket's server is on this machine: without a word of the operator's nothing goes there.
    let refused = made(&Stage::new(&lake));
    assert_eq!((&refused["status"], &refused["error"]["kind"]), (&json!("failed"), &json!("permission_denied")), "{refused}");

    let stage = Stage::new(&[&lake[..], &[("LINKSPAN_EGRESS_ALLOW", "127.0.0.1/32")]].concat());
    let first = made(&stage);
    assert_eq!((&first["status"], &first["rows_written"]), (&json!("completed"), &json!(50)), "{first}");
    assert!(!stage.place.path("data/lake").exists(), "nothing of it is in the data dir");
    let again = stage.run("flow");
    assert_eq!((&again["status"], &again["rows_written"]), (&json!("completed"), &json!(50)), "{again}");
    // As a connector of the built-in lake shows it, without its keys anywhere; and as anybody reads the bucket.
    assert_eq!(stage.call("POST", "/v1/connectors", r#"{"name": "there", "type": "lake"}"#).status, 201);
    let found = stage.call("POST", "/v1/connectors/there/discover", "");
    assert_eq!(found.json()["streams"][0]["name"], "people", "{found:?}");
    assert!(!found.text.contains(&s3.secret_key) && !stage.get("/v1/connectors/there").to_string().contains(&s3.secret_key));
    let project = format!(
        "connectors:\n  lake: {{type: parquet, config: {{path: '{url}/default', endpoint: '{}', region: us-east-1, access_key_id: '{}', \
         secret_access_key: '{}', allow_http: true}}}}\n",
        s3.url, s3.access_key, s3.secret_key
    );
    let reader = Place::new();
    reader.write("p.yaml", project);
    let rows = reader.run(&["sync", "-f", "p.yaml", "lake", "stdout:", "--stream", "people"]).succeeds().lines();
    assert_eq!(rows.len(), 50);
}
