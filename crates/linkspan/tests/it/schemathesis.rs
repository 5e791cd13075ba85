//! Somebody else's judge of the API: schemathesis reads `/v1/openapi.json` and sends what it makes of it, by one seed.

use std::{path::Path, process::Command, time::Duration};

use linkspan_testkit::{process::Process, scale, servers};
use serde_json::json;

use crate::{hub::Hub, program::Place};

/// How many examples per operation, beside those that the coverage of every schema asks for.
const EXAMPLES: u64 = 3;
const LONGEST: Duration = Duration::from_secs(900);

#[test]
fn the_api_keeps_to_its_description_whatever_is_sent() {
    let Some(program) = program() else { return };
    let place = Place::new();
    let hub = Hub::start(&place);
    let key = std::fs::read_to_string(place.path("data/admin.key")).unwrap();
    let bearer = format!("Bearer {}", key.trim());
    // Something to be shown, run and deleted.
    for (path, body) in [
        ("/v1/connectors", json!({"name": "gen", "type": "faker", "config": {"customers": 5, "orders": 5}})),
        ("/v1/connections", json!({"name": "flow", "from": "gen", "dest": "lake", "streams": ["customers"]})),
        ("/v1/connections/flow/run", json!({})),
    ] {
        let made = hub.call("POST", path, &[("Authorization", &bearer), ("Content-Type", "application/json")], &body.to_string());
        assert!(made.status < 300, "{made:?}");
    }
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/schemathesis.toml");
    let examples = if scale().kills > 20 { EXAMPLES * 20 } else { EXAMPLES };
    let mut command = Command::new(program);
    command.current_dir(place.path("")).env("HOME", place.path("")).arg("--config-file").arg(config).arg("run");
    command.arg(format!("http://{}/v1/openapi.json", hub.address)).args(["-H", &format!("Authorization: {bearer}")]);
    command.args(["--seed", "1", "--max-examples", &examples.to_string(), "--phases", "examples,coverage,fuzzing", "--no-color"]);
    let mut judge = Process::start(command.args(["--workers", "1", "--request-timeout", "60"]));
    let status = judge.wait(LONGEST);
    assert!(status.success(), "{}", judge.text());
    // What it said last: how many cases passed.
    println!("{}", judge.text().lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n"));
    assert_eq!(hub.get("/v1/health").status, 200);
}

/// Beside the Python of the tests. Without it the test is skipped with a line, or fails where everything is required.
fn program() -> Option<std::path::PathBuf> {
    let program = Path::new(&servers::python()?).with_file_name("schemathesis");
    if program.exists() {
        return Some(program);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is not there", program.display());
    println!("skipped: {} is not there", program.display());
    None
}
