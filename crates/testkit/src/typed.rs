//! Trials of a connector type itself (T) and of its check (C): the same for sources and destinations.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use linkspan_core::{BoxDuplex, ConnectorType, Context, ErrorKind, Net, Result, Role};
use serde_json::Value;

use crate::{BadConfig, Case, Trials};

/// A value that must not be found in any output.
pub const CANARY: &str = "c4n4ry-9f2b7e";

/// Runs T1 to T7 and C1 to C5.
pub async fn trials(trials: &mut Trials, kind: &ConnectorType, config: &Value, context: Context, bad: &[BadConfig]) {
    trials.run("names_itself_and_documents_setup_and_limits", async { named(kind) }).await;
    trials.run("describes_every_field_of_its_config", async { described(kind) }).await;
    trials.run("refuses_an_unknown_field_and_says_which", async { refuses_unknown(kind, config) }).await;
    trials.run("opens_its_example_without_io", async { opens_without_io(kind) }).await;
    trials.run("has_the_roles_its_spec_says", async { roles_agree(kind, config, context.clone()) }).await;
    trials.run("shows_no_secret_in_errors_or_debug", async { hides_secrets(kind, config) }).await;
    trials.run("checks_ok_with_latency", async { checks(kind, config, context.clone()).await }).await;
    for bad in bad {
        let name = format!("check_names_{}", case_name(bad.case));
        trials.run(&name, check_fails(kind, bad, context.clone())).await;
    }
    trials.run("a_cancelled_check_leaves_a_working_connector", async { check_cancels(kind, config, context).await }).await;
}

fn named(kind: &ConnectorType) {
    let spec = &kind.spec;
    assert!(!spec.name.is_empty() && spec.name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')), "name {:?}", spec.name);
    assert!(!spec.title.is_empty(), "no title");
    assert!(!spec.roles.is_empty(), "no role");
    for heading in ["Setup", "Limits"] {
        let found = spec.docs.lines().any(|l| l.starts_with('#') && l.trim_start_matches('#').trim() == heading);
        assert!(found, "docs.md has no heading `{heading}`");
    }
}

fn described(kind: &ConnectorType) {
    let schema = kind.config_schema();
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let silent: Vec<&String> = properties.iter().filter(|(_, p)| !has_text(p, &schema)).map(|(k, _)| k).collect();
    assert!(silent.is_empty(), "fields without a description: {silent:?}");
    let unmarked: Vec<&String> =
        properties.iter().filter(|(k, p)| looks_secret(k) && p.get("x-secret").is_none()).map(|(k, _)| k).collect();
    assert!(unmarked.is_empty(), "fields that look like secrets but are not marked: {unmarked:?}");
}

fn has_text(property: &Value, schema: &Value) -> bool {
    let own = |p: &Value| p["description"].as_str().is_some_and(|d| !d.trim().is_empty());
    // A field whose type is a definition may be described there.
    let referred = property["$ref"].as_str().and_then(|r| schema.pointer(r.trim_start_matches('#')));
    own(property) || referred.is_some_and(own)
}

fn looks_secret(name: &str) -> bool {
    let path = name.ends_with("_file") || name.ends_with("_path") || name.ends_with("_id");
    !path && ["password", "secret", "passphrase", "api_key", "private_key", "access_token"].iter().any(|w| name.contains(w))
}

fn refuses_unknown(kind: &ConnectorType, config: &Value) {
    let mut config = config.clone();
    config.as_object_mut().expect("a config is an object").insert("no_such_field_zz".into(), CANARY.into());
    let e = kind.open(config, silent_context()).err().expect("an unknown field was accepted");
    assert_eq!(e.kind(), ErrorKind::ConfigInvalid, "{e:?}");
    assert!(e.suggested_fix().is_some(), "no suggested fix: {e:?}");
    assert!(format!("{e:?}").contains("no_such_field_zz"), "the field is not named: {e:?}");
    assert!(!format!("{e:?} {}", e.to_json()).contains(CANARY), "the error shows the value: {e:?}");
}

fn opens_without_io(kind: &ConnectorType) {
    if let Err(e) = kind.open(kind.spec.example.clone(), silent_context()) {
        panic!("the spec's example does not open: {e:?}");
    }
}

fn roles_agree(kind: &ConnectorType, config: &Value, context: Context) {
    let connector = kind.open(config.clone(), context).unwrap_or_else(|e| panic!("the harness's config does not open: {e:?}"));
    assert_eq!(connector.source().is_some(), kind.has_role(Role::Source), "source() and the spec's roles differ");
    assert_eq!(connector.destination().is_some(), kind.has_role(Role::Destination), "destination() and the spec's roles differ");
}

fn hides_secrets(kind: &ConnectorType, config: &Value) {
    let schema = kind.config_schema();
    let mut planted = config.as_object().cloned().unwrap_or_default();
    for (field, property) in schema["properties"].as_object().into_iter().flatten() {
        match &property["x-secret"] {
            Value::Bool(true) => planted.insert(field.clone(), CANARY.into()),
            Value::String(_) if planted.contains_key(field) => {
                let url = planted[field].as_str().unwrap_or_default();
                let url = with_password(url, CANARY);
                planted.insert(field.clone(), url.into())
            }
            _ => None,
        };
    }
    let planted = Value::Object(planted);
    assert!(!kind.redact(&planted).to_string().contains(CANARY), "redact shows the canary");
    // Whether the planted config opens or not (two forms of one secret may exclude each other), nothing may show it.
    if let Err(e) = kind.open(planted.clone(), silent_context()) {
        assert!(!format!("{e:?} {e} {} {:?}", e.to_json(), e.causes()).contains(CANARY), "an error shows a secret: kind {:?}", e.kind());
    }
    // A secret of a wrong kind is the classic leak: serde quotes the value that it could not take.
    for (field, _) in schema["properties"].as_object().into_iter().flatten().filter(|(_, p)| p.get("x-secret").is_none()) {
        let mut wrong = planted.clone();
        wrong[field] = serde_json::json!({ CANARY: [CANARY] });
        if let Err(e) = kind.open(wrong, silent_context()) {
            let shown = format!("{e} {} {:?}", e.to_json(), e.causes());
            assert!(!shown.contains(CANARY), "the error about a wrong {field} shows its value");
            assert_eq!(e.kind(), ErrorKind::ConfigInvalid, "{field}");
            assert!(e.suggested_fix().is_some(), "no suggested fix for a wrong {field}");
        }
    }
}

fn with_password(url: &str, password: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').unwrap_or(("user", authority));
    let user = user.split(':').next().unwrap_or("user");
    format!("{scheme}://{user}:{password}@{host}{path}")
}

async fn checks(kind: &ConnectorType, config: &Value, context: Context) {
    let connector = kind.open(config.clone(), context).unwrap_or_else(|e| panic!("{e:?}"));
    connector.check().await.unwrap_or_else(|e| panic!("check of a good config: {e:?}"));
}

async fn check_fails(kind: &ConnectorType, bad: &BadConfig, context: Context) {
    let started = Instant::now();
    let result = match kind.open(bad.config.clone(), context) {
        Ok(connector) => connector.check().await,
        Err(e) => Err(e),
    };
    let e = result.err().unwrap_or_else(|| panic!("{:?}: the check passed", bad.case));
    assert!(bad.expected.contains(&e.kind()), "{:?}: expected one of {:?}, got {e:?}", bad.case, bad.expected);
    assert!(e.suggested_fix().is_some(), "{:?}: no suggested fix: {e:?}", bad.case);
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}: took {:?}", bad.case, started.elapsed());
    for secret in secrets(kind, &bad.config) {
        assert!(!format!("{e:?} {:?} {}", e.causes(), e.to_json()).contains(&secret), "{:?}: the error shows a secret", bad.case);
    }
}

/// The secret values of a config, as far as they are long enough to be searched for.
fn secrets(kind: &ConnectorType, config: &Value) -> Vec<String> {
    let schema = kind.config_schema();
    let marked = schema["properties"].as_object().into_iter().flatten().filter(|(_, p)| p["x-secret"] == Value::Bool(true));
    marked.filter_map(|(k, _)| config[k].as_str().map(str::to_owned)).filter(|s| s.len() > 5).collect()
}

async fn check_cancels(kind: &ConnectorType, config: &Value, context: Context) {
    let connector = kind.open(config.clone(), context).unwrap_or_else(|e| panic!("{e:?}"));
    for micros in [0, 50, 500, 2_000] {
        tokio::time::timeout(Duration::from_micros(micros), connector.check()).await.ok();
    }
    connector.check().await.unwrap_or_else(|e| panic!("a check after cancelled ones: {e:?}"));
}

fn case_name(case: Case) -> &'static str {
    match case {
        Case::WrongPassword => "a_wrong_password",
        Case::Unreachable => "an_unreachable_host",
        Case::BlackHole => "a_black_hole",
        Case::TlsMismatch => "a_tls_mismatch",
        Case::NoRights => "missing_rights",
        Case::Missing => "what_is_missing",
    }
}

/// A context whose network panics: for what must not do I/O.
fn silent_context() -> Context {
    Context { net: std::sync::Arc::new(NoNet), ..Context::real() }
}

struct NoNet;

#[async_trait]
impl Net for NoNet {
    async fn tcp(&self, _: &str, _: u16, _: Duration) -> Result<BoxDuplex> {
        panic!("opening did I/O")
    }
    async fn unix(&self, _: &std::path::Path, _: Duration) -> Result<BoxDuplex> {
        panic!("opening did I/O")
    }
}
