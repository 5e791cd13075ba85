//! Refresh tokens that are used once, at a provider that revokes the whole family when one comes again.

use std::sync::{Arc, Mutex};

use linkspan_airbyte::wiring::Note;
use serde_json::{Value, json};

use crate::{
    asking::{Hand, build, read, retriever},
    server::{Reply, Request, serve},
};

const CALLERS: usize = 64;
const ROUNDS: usize = 20;

#[derive(Default)]
struct Provider {
    generation: u64,
    refreshes: usize,
    revoked: bool,
    /// Requests with a token that does not count any more.
    stale: usize,
}

impl Provider {
    fn answer(&mut self, request: &Request) -> Reply {
        if request.target == "/token" {
            let wanted = format!("refresh-{}", self.generation);
            if self.revoked || request.form("refresh_token").as_deref() != Some(wanted.as_str()) {
                self.revoked = true;
                return Reply { status: 400, headers: Vec::new(), body: r#"{"error": "invalid_grant"}"#.into() };
            }
            self.generation += 1;
            self.refreshes += 1;
            return Reply::json(json!({
                "access_token": format!("access-{}", self.generation), "refresh_token": format!("refresh-{}", self.generation), "expires_in": 60,
            }));
        }
        if request.headers.get("authorization") != Some(&format!("Bearer access-{}", self.generation)) {
            self.stale += 1;
        }
        Reply::json(json!({"data": [{"id": 1}]}))
    }
}

fn reads(base: &str) -> Value {
    let auth = json!({
        "type": "OAuthAuthenticator", "token_refresh_endpoint": format!("{base}/token"), "client_id": "{{ config['id'] }}",
        "client_secret": "{{ config['secret'] }}", "refresh_token": "{{ config['refresh'] }}",
        "refresh_token_updater": {"refresh_token_config_path": ["refresh"], "access_token_config_path": ["access"],
            "token_expiry_date_config_path": ["until"]},
    });
    json!({
        "type": "SimpleRetriever",
        "requester": {"type": "HttpRequester", "url_base": base, "path": "items", "authenticator": auth},
        "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["data"]}},
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_refresh_once_though_some_are_given_up_on_the_way() {
    let provider = Arc::new(Mutex::new(Provider::default()));
    let asked = provider.clone();
    let base = serve(move |request| {
        let reply = asked.lock().unwrap().answer(&request);
        async move {
            // The answer takes its time: that is when callers are given up.
            tokio::task::yield_now().await;
            reply
        }
    })
    .await;
    let clock = Hand::new();
    let mut build = build(json!({"id": "i", "secret": "s", "refresh": "refresh-0", "access": "", "until": ""}), clock.clone());
    let told: Arc<Mutex<Vec<Value>>> = Arc::default();
    let configs = told.clone();
    build.notes = Arc::new(move |note| {
        if let Note::Config(config) = note {
            configs.lock().unwrap().push(config);
        }
    });
    for round in 1..=ROUNDS {
        let callers: Vec<_> =
            (0..CALLERS).map(|_| retriever(reads(&base), json!([]), &build).unwrap()).map(|r| tokio::spawn(read(r))).collect();
        // Some callers leave at once, others after they began.
        callers.iter().step_by(5).for_each(|caller| caller.abort());
        tokio::task::yield_now().await;
        callers.iter().skip(1).step_by(7).for_each(|caller| caller.abort());
        for caller in callers {
            match caller.await {
                Ok(records) => assert_eq!(records.unwrap().len(), 1),
                Err(given_up) => assert!(given_up.is_cancelled()),
            }
        }
        let provider = provider.lock().unwrap();
        assert!(!provider.revoked, "the family was revoked in round {round}");
        assert_eq!((provider.refreshes, provider.stale), (round, 0));
        assert_eq!(told.lock().unwrap().len(), round, "every rotated token is handed out");
        assert_eq!(told.lock().unwrap()[round - 1]["refresh"], format!("refresh-{round}"));
        clock.move_on(61);
    }
}

#[tokio::test]
async fn a_refused_refresh_token_asks_for_a_new_sign_in_and_shows_no_secret() {
    let base = serve(|request| async move {
        match request.target.as_str() {
            "/token" => {
                Reply { status: 400, headers: Vec::new(), body: r#"{"error": "invalid_grant", "error_description": "canary-r"}"#.into() }
            }
            _ => Reply::json(json!({"data": []})),
        }
    })
    .await;
    let build = build(json!({"id": "i", "secret": "canary-s", "refresh": "canary-r", "access": "", "until": ""}), Hand::new());
    let refused = read(retriever(reads(&base), json!([]), &build).unwrap()).await.unwrap_err();
    assert_eq!(refused.kind(), linkspan_core::ErrorKind::AuthFailed);
    assert!(refused.suggested_fix().is_some_and(|fix| fix.contains("sign in again")));
    assert!(!format!("{refused:?}{}", refused.to_json()).contains("canary"));
}
