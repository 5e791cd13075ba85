//! Reactor's catalog, instances, discover and connections: by its routes, and by its command line, which is ours under another name.

use serde_json::{Value, json};

use super::{print::Print, stage::Stage};
use crate::{
    api,
    program::{Place, Said},
};

/// What is there now, and what comes with its issue.
const ROUTES: [(&str, bool); 8] = [
    ("GET /connect/v1/catalog", true),
    ("GET /connect/v1/catalog/{type_id}", true),
    ("POST /connect/v1/instances", true),
    ("POST /connect/v1/instances/{name}/discover", true),
    ("POST /connect/v1/connections", true),
    ("POST /connect/v1/connections/{name}/sandbox", false),
    ("POST /connect/v1/instances/{name}/actions/{action}/invoke", false),
    ("POST /connect/v1/ingress/{token}", false),
];

/// The printed commands whose verbs come with their issue.
const LATER: [&str; 5] = ["connections sandbox", "connections promote", "actions invoke", "receivers create", "policies conflict"];

/// A vendor of the test's own: its manifest in the catalog, its API on this machine.
fn vendor(place: &Place, name: &str, streams: &[&str], url: &str) {
    let one = |stream: &&str| {
        format!(
            r#"
  - type: DeclarativeStream
    name: {stream}
    primary_key: [id]
    schema_loader: {{type: InlineSchemaLoader, schema: {{type: object, properties: {{id: {{type: integer}}, name: {{type: string}}}}}}}}
    retriever:
      type: SimpleRetriever
      requester:
        type: HttpRequester
        url_base: {url}
        path: /{stream}
        authenticator: {{type: ApiKeyAuthenticator, api_token: "{{{{ config['api_key'] }}}}", inject_into: {{type: RequestOption, inject_into: request_parameter, field_name: key}}}}
      record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: []}}}}"#
        )
    };
    let streams_text: String = streams.iter().map(one).collect();
    let first = streams[0];
    place.write(
        &format!("{name}.yaml"),
        format!(
            "version: 6.1.0\ntype: DeclarativeSource\ncheck: {{type: CheckStream, stream_names: [{first}]}}\nspec:\n  type: Spec\n  connection_specification:\n    \
             type: object\n    required: [api_key]\n    properties: {{api_key: {{type: string, airbyte_secret: true}}}}\nstreams:{streams_text}\n"
        ),
    );
    place.run(&["catalog", "add", &format!("{name}.yaml")]).succeeds();
}

/// Three of everything for who has the key of the printed example.
fn api() -> String {
    api::serve(|asked| {
        if asked.parameter("key").as_deref() != Some("sk_test_...") {
            return (401, r#"{"error": "who are you?"}"#.to_owned());
        }
        let rows: Vec<Value> =
            (1..=3).map(|id| json!({"id": id, "name": format!("{} {id}", asked.target.split('?').next().unwrap())})).collect();
        (200, json!(rows).to_string())
    })
}

fn stage() -> Stage {
    let stage = Stage::new(&[("LINKSPAN_EGRESS_ALLOW", "127.0.0.1")]);
    let url = api();
    vendor(&stage.place, "stripe", &["customers"], &url);
    vendor(&stage.place, "salesforce", &["Lead", "Contact", "Account"], &url);
    stage
}

#[test]
fn reactor_s_routes_run_as_printed() {
    let Some(print) = Print::of("reactor-connect") else { return };
    let stage = stage();
    assert_eq!(print.routes(), ROUTES.map(|(route, _)| route));
    for (route, there) in ROUTES {
        assert_eq!(stage.has(route), there, "{route}");
    }
    let types = stage.get("/connect/v1/catalog");
    assert!(types["types"].as_array().unwrap().iter().any(|t| t["type"] == "salesforce"));
    assert!(stage.get("/connect/v1/catalog/salesforce")["config_schema"]["properties"]["api_key"]["x-secret"] == true);
    let post = |path: &str, body: Value| stage.call("POST", path, &body.to_string());
    let made = post("/connect/v1/instances", json!({"name": "sf-prod", "type": "salesforce", "config": {"api_key": "sk_test_..."}}));
    assert_eq!((made.status, &made.json()["config"]["api_key"]), (201, &json!("***REDACTED***")), "{made:?}");
    let found = post("/connect/v1/instances/sf-prod/discover", json!({}));
    assert_eq!((found.status, found.json()["streams"].as_array().unwrap().len()), (200, 3), "{found:?}");
    // The body that its command line stands for; the limits' table says that a discovery is known for an hour.
    assert_eq!(post("/connect/v1/instances/sf-prod/discover", json!({})).json()["cached"], true);
    let made = post(
        "/connect/v1/connections",
        json!({"name": "sf-leads-to-pg", "from": "sf-prod", "streams": ["Lead", "Contact"], "dest": "data:salesforce_leads",
            "schedule": "*/15 * * * *", "options": {"schema_drift": "block_until_approved"}}),
    );
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(
        (&made.json()["schedule"]["cron"], &made.json()["policies"]["drift"]["new_column"]),
        (&json!("*/15 * * * *"), &json!("block")),
        "{made:?}"
    );
}

#[test]
fn reactor_s_command_lines_run_as_printed() {
    let Some(print) = Print::of("reactor-connect") else { return };
    let stage = stage();
    let user = ["auth", "create-user", "user@example.com", "--password", "correct-horse-9", "--roles", r#"{"default": "admin"}"#];
    stage.place.run(&user).succeeds();
    let commands = print.commands("reactor ");
    assert_eq!(commands.len(), 19, "{commands:#?}");
    let reactor = |words: &str, put_in: &[(&str, &str)]| -> Said {
        let printed = commands.iter().find(|c| c.contains(words)).unwrap_or_else(|| panic!("`{words}` is not printed"));
        stage.command("reactor", printed, put_in)
    };
    let signed = reactor("auth login", &[("'...'", "correct-horse-9")]).succeeds();
    assert!(signed.out.contains("signed in"), "{signed:?}");

    // Create an instance, check its credentials.
    assert!(reactor("catalog show stripe", &[]).succeeds().out.contains("api_key"));
    let made = reactor("instances create my-stripe", &[]).succeeds();
    assert!(made.out.contains("needs_credentials"), "{made:?}");
    let early = reactor("instances check my-stripe", &[]).refuses(6, &["api_key"]);
    assert!(early.err.contains("connectors credentials 'my-stripe'"), "{early:?}");
    assert!(!reactor("instances credentials my-stripe", &[]).succeeds().out.contains("sk_test_"));
    assert!(reactor("instances check my-stripe", &[]).succeeds().out.contains("connected"));

    // From there to the data, as far as it goes without a sandbox.
    reactor("instances create sf-prod", &[]).succeeds();
    reactor("instances credentials sf-prod # opens", &[]).refuses(2, &["no credentials"]);
    let key = stage.command("reactor", r#"reactor connect instances credentials sf-prod --input '{"api_key":"sk_test_..."}'"#, &[]);
    key.succeeds();
    let found = reactor("instances discover sf-prod", &[]).succeeds();
    assert!(["Lead", "Contact", "Account"].iter().all(|s| found.out.contains(s)), "{found:?}");
    reactor("connections create sf-leads-to-pg", &[]).succeeds();
    let ran = stage.run("sf-leads-to-pg");
    assert_eq!((&ran["status"], &ran["rows_written"]), (&json!("completed"), &json!(6)), "{ran}");
    let tables: Vec<usize> =
        ["salesforce_leads.Lead", "salesforce_leads.Contact"].map(|t| super::stage::in_the_lake(&stage, t).len()).into();
    assert_eq!(tables, [3, 3]);

    // A run that failed, and its log.
    assert!(reactor("runs list sf-leads-to-pg", &[]).succeeds().out.contains("no runs"));
    stage.call("PUT", "/v1/connectors/sf-prod/credentials", r#"{"api_key": "another"}"#);
    let failed = stage.run("sf-leads-to-pg");
    assert_eq!(failed["status"], "failed", "{failed}");
    let listed = reactor("runs list sf-leads-to-pg", &[]).succeeds();
    let id = failed["id"].as_str().unwrap();
    assert!(listed.out.contains(id) && listed.out.contains("failed"), "{listed:?}");
    let log = reactor("runs logs sf-leads-to-pg", &[("run_01HZ...", id)]).succeeds();
    assert!(log.out.lines().count() >= 2, "{log:?}");

    for words in LATER {
        let absent = reactor(words, &[]);
        assert!(absent.code == 2 && absent.err.contains("unrecognized subcommand"), "{words}: {absent:?}");
    }
    let codegen = reactor("codegen", &[]);
    assert!(codegen.code == 2 && codegen.err.contains("unrecognized subcommand"), "{codegen:?}");
}
