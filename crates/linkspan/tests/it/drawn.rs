//! A session that a run draws for itself, at a vendor that repeats it in its refusals: it is told nowhere, though it is in no config.

use serde_json::{Value, json};

use crate::{
    api::{self, Asked},
    documents::Stage,
    program::Place,
};

/// What the vendor gives to whoever signs in.
const SESSION: &str = "sess-Drawn/0123+canary==99";

const MANIFEST: &str = r#"
version: 6.1.0
type: DeclarativeSource
check: {type: CheckStream, stream_names: [items]}
spec:
  type: Spec
  connection_specification:
    type: object
    required: [url, password]
    properties:
      url: {type: string}
      password: {type: string, airbyte_secret: true}
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
          type: SessionTokenAuthenticator
          expiration_duration: PT1H
          session_token_path: [session]
          login_requester:
            type: HttpRequester
            url_base: "{{ config['url'] }}"
            path: /login
            http_method: POST
            request_body_json: {password: "{{ config['password'] }}"}
          request_authentication: {type: ApiKey, inject_into: {type: RequestOption, field_name: session, inject_into: request_parameter}}
        error_handler:
          type: DefaultErrorHandler
          max_retries: 0
          response_filters:
            - {type: HttpResponseFilter, action: FAIL, http_codes: [403], error_message: "refused: {{ response['why'] }}"}
      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [data]}}
"#;

fn vendor() -> String {
    api::serve(|request: &Asked| match request.target.starts_with("/login") {
        true => (200, json!({"session": SESSION}).to_string()),
        false => (403, json!({"why": format!("the session {SESSION} may not read"), "asked": request.target}).to_string()),
    })
}

fn drawn(text: &str) -> Vec<&'static str> {
    let forms = [SESSION, "sess-Drawn%2F0123%2Bcanary%3D%3D99", "sess-Drawn"];
    forms.into_iter().filter(|form| text.contains(form)).collect()
}

#[test]
fn what_is_told_of_a_run_does_not_hold_the_session_that_it_drew() {
    let stage = Stage::new(&[("LINKSPAN_EGRESS_ALLOW", "127.0.0.0/8"), ("LINKSPAN_LOG", "debug")]);
    let url = vendor();
    let added = stage.call("POST", "/v1/catalog", &json!({"name": "drawing", "manifest": MANIFEST}).to_string());
    assert!(added.status < 300, "{added:?}");
    let config = json!({"name": "v", "type": "drawing", "config": {"url": url, "password": "password-canary-1"}});
    assert_eq!(stage.call("POST", "/v1/connectors", &config.to_string()).status, 201);
    let tested = stage.call("POST", "/v1/connectors/v/test", "");
    assert_eq!((tested.status, &tested.json()["ok"]), (200, &json!(false)), "{tested:?}");
    let flow = json!({"name": "flow", "from": "v", "dest": "lake:x", "streams": ["items"], "retry": {"attempts": 1}});
    assert_eq!(stage.call("POST", "/v1/connections", &flow.to_string()).status, 201);
    let run = stage.run("flow");
    assert_eq!(run["status"], "failed", "{run}");
    assert!(run.to_string().contains("may not read"), "what the vendor says is told: {run}");
    let id = run["id"].as_str().unwrap();
    let said = [
        tested.text,
        run.to_string(),
        stage.get("/v1/connectors/v/tests").to_string(),
        stage.get("/v1/connectors/v/health").to_string(),
        stage.call("GET", &format!("/v1/runs/{id}/logs"), "").text,
        stage.hub.process.text(),
    ];
    for text in said {
        assert_eq!(drawn(&text), Vec::<&str>::new(), "{text}");
    }
    // A person's own command on the same vendor.
    let place = Place::new();
    place.write("m.yaml", MANIFEST);
    place.run(&["catalog", "add", "m.yaml", "--name", "drawing"]).succeeds();
    place.write(
        "p.yaml",
        format!(
            "connectors:\n  v: {{type: drawing, config: {{url: '{url}', password: password-canary-1}}}}\n\
             connections:\n  c: {{from: v, to: 'sqlite:./p.db', streams: [items]}}\n"
        ),
    );
    let synced = place.run(&["sync", "-f", "p.yaml", "--output", "json", "-vv"]);
    assert!(synced.code != 0 && synced.out.contains("may not read"), "{synced:?}");
    assert_eq!((drawn(&synced.out), drawn(&synced.err)), (vec![], vec![]));
    let _: Value = synced.summary();
}
