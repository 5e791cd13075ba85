//! Programs of others as sources: a small one in shell that behaves, and the ways in which real ones do not.

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use linkspan_testkit::process::{Process, Signal};
use serde_json::{Value, json};

use crate::program::{Place, Said};

/// Speaks the protocol; `MODE` says where it fails. Rows 1 to 6, two behind each state; a state says the last row of it.
const PROGRAM: &str = r#"#!/bin/sh
verb=$1; shift
while [ $# -gt 0 ]; do case $1 in --config) config=$2;; --catalog) catalog=$2;; --state) state=$2;; esac; shift 2; done
say() { printf '%s\n' "$1"; }
case $verb in
check) case $MODE in
  refused) say '{"type":"CONNECTION_STATUS","connectionStatus":{"status":"FAILED","message":"wrong key canary-1"}}';;
  *) say '{"type":"CONNECTION_STATUS","connectionStatus":{"status":"SUCCEEDED"}}';; esac;;
discover)
  say 'a banner that nobody asked for'
  say '{"type":"CATALOG","catalog":{"streams":[{"name":"rows","json_schema":{"type":"object","properties":{"id":{"type":"integer"},"name":{"type":["null","string"]},"doc":{"type":"object"}}},"supported_sync_modes":["full_refresh","incremental"],"source_defined_cursor":true,"source_defined_primary_key":[["id"]]}]}}';;
read)
  from=0
  if [ -n "$state" ]; then from=$(sed 's/.*"at":\([0-9]*\).*/\1/' "$state"); fi
  [ "$(stat -c %a "$config")" = 600 ] || { say '{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"the config is open to others"}}}'; exit 1; }
  case $MODE in
  secret) echo "using canary-1 and $LINKSPAN_SECRET" >&2
    say '{"type":"TRACE","trace":{"type":"ERROR","emitted_at":1,"error":{"message":"canary-1 was refused","failure_type":"config_error"}}}'; exit 1;;
  silent) trap '' TERM; echo $$ > "$PIDS"; sleep 600 & echo $! >> "$PIDS"; wait; sleep 600;;
  huge) head -c 3000000 /dev/zero | tr '\0' 'x'; echo;;
  rotates) say '{"type":"CONTROL","control":{"type":"CONNECTOR_CONFIG","emitted_at":1,"connectorConfig":{"config":{"key":"canary-2"}}}}';;
  incomplete) say '{"type":"TRACE","trace":{"type":"STREAM_STATUS","emitted_at":1,"stream_status":{"stream_descriptor":{"name":"rows"},"status":"INCOMPLETE"}}}'; exit 0;;
  esac
  at=$((from + 1))
  while [ $at -le 6 ]; do
    say 'WARNING: a line that is no message'
    say "{\"type\":\"RECORD\",\"record\":{\"stream\":\"rows\",\"data\":{\"id\":$at,\"name\":null,\"doc\":{\"n\":$at},\"new\":\"x\"},\"emitted_at\":1}}"
    say "{\"type\":\"RECORD\",\"record\":{\"stream\":\"another\",\"data\":{\"id\":$at},\"emitted_at\":1}}"
    if [ $((at % 2)) = 0 ]; then
      say "{\"type\":\"STATE\",\"state\":{\"type\":\"STREAM\",\"stream\":{\"stream_descriptor\":{\"name\":\"rows\"},\"stream_state\":{\"at\":$at}},\"sourceStats\":{\"recordCount\":2.0}}}"
      sleep 0.3
    fi
    if [ "$MODE" = dies ] && [ $at = 5 ]; then echo 'Traceback: out of luck' >&2; exit 3; fi
    at=$((at + 1))
  done;;
esac
"#;

struct Guest {
    place: Place,
    program: PathBuf,
}

impl Guest {
    fn new() -> Self {
        let place = Place::new();
        let program = place.write("source.sh", PROGRAM);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { place, program }
    }
    /// A project that moves the program's rows into `out.db`.
    fn project(&self, mode: &str, more: &Value) -> String {
        let mut config =
            json!({"command": [self.program], "config": {"key": "canary-1"}, "env": {"MODE": mode, "PIDS": self.place.path("pids")}});
        more.as_object().unwrap().iter().for_each(|(k, v)| config[k] = v.clone());
        let project = json!({
            "connectors": {"guest": {"type": "exec", "config": config}, "out": {"url": "sqlite:./out.db"}},
            "connections": {"c": {"from": "guest", "to": "out", "mode": "incremental", "write": "append"}},
        });
        self.place.write("project.yaml", project.to_string()).display().to_string()
    }
    fn sync(&self, mode: &str, more: Value) -> Said {
        let project = self.project(mode, &more);
        let mut command = self.place.command(&["sync", "-f", &project]);
        let said = crate::program::said(command.env("LINKSPAN_SECRET", "canary-3"));
        assert!(!format!("{said:?}").contains("canary"), "{said:#?}");
        said
    }
    fn rows(&self) -> String {
        self.place.sqlite("out.db", "SELECT group_concat(id) FROM (SELECT id FROM rows ORDER BY id)")
    }
}

#[test]
fn a_programs_rows_arrive_and_the_next_run_goes_on_from_its_state() {
    let guest = Guest::new();
    let project = guest.project("", &json!({}));
    guest.place.run(&["connectors", "check", "guest", "-f", &project]).succeeds();
    guest.sync("", json!({})).succeeds();
    assert_eq!(guest.rows(), "1,2,3,4,5,6");
    assert_eq!(guest.place.sqlite("out.db", "SELECT doc, new FROM rows WHERE id = 3"), "{\"n\":3}|x");
    guest.sync("", json!({})).succeeds();
    assert_eq!(guest.rows(), "1,2,3,4,5,6");
}

#[test]
fn a_program_that_dies_on_the_way_loses_and_doubles_nothing() {
    let guest = Guest::new();
    guest.sync("dies", json!({})).refuses(5, &["exit code 3", "out of luck"]);
    guest.sync("", json!({})).succeeds();
    assert_eq!(guest.rows(), "1,2,3,4,5,6");
}

#[test]
fn a_run_that_is_killed_loses_and_doubles_nothing() {
    let guest = Guest::new();
    let project = guest.project("", &json!({}));
    let mut run = Process::start(&mut guest.place.command(&["sync", "-f", &project]));
    run.wait_at_most(Duration::from_millis(900));
    run.signal(Signal::Kill);
    run.wait(Duration::from_secs(20));
    guest.sync("", json!({})).succeeds();
    assert_eq!(guest.rows(), "1,2,3,4,5,6");
}

#[test]
fn what_a_program_does_wrong_is_said_and_shows_no_secret() {
    let guest = Guest::new();
    let refused =
        guest.place.run(&["connectors", "check", "guest", "-f", &guest.project("refused", &json!({}))]).refuses(2, &["wrong key ****"]);
    assert!(!refused.err.contains("canary"));
    guest.sync("secret", json!({})).refuses(2, &["**** was refused", "using **** and"]);
    guest.sync("huge", json!({"line_mb": 1})).refuses(7, &["longer than it may be"]);
    guest.sync("incomplete", json!({})).refuses(5, &["to its end"]);
    guest.sync("", json!({"command": ["./no-such-program"]})).refuses(4, &["cannot be started"]);
    guest.sync("", json!({"command": ["/bin/true"]})).refuses(7, &["did not answer `discover`"]);
}

#[test]
fn a_program_that_says_nothing_is_ended_with_all_that_it_started() {
    let guest = Guest::new();
    let began = Instant::now();
    guest.sync("silent", json!({"silence_seconds": 1})).refuses(5, &["said nothing for 1 s"]);
    assert!(began.elapsed() < Duration::from_secs(30));
    let pids = std::fs::read_to_string(guest.place.path("pids")).unwrap();
    assert_eq!(pids.lines().count(), 2);
    for pid in pids.lines() {
        let until = Instant::now() + Duration::from_secs(10);
        // A dead process may wait for whoever inherited it to take notice.
        let is_alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while is_alive() {
            assert!(Instant::now() < until, "{pid} is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_config_that_the_program_changed_is_kept_in_its_file() {
    let guest = Guest::new();
    let file = guest.place.write("guest.json", r#"{"key": "canary-1"}"#);
    guest.sync("rotates", json!({"config": {}, "config_file": file})).succeeds();
    assert_eq!(std::fs::read_to_string(file).unwrap(), r#"{"key":"canary-2"}"#);
}

/// A tap whose rows 1 to 6 come with a state behind every second one.
const TAP: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --discover) discover=1;; --catalog) catalog=$2; shift;; --state) state=$2; shift;; --config) shift;; esac; shift; done
say() { printf '%s\n' "$1"; }
if [ -n "$discover" ]; then
  say '{'; say ' "streams": [{"tap_stream_id": "shop-rows", "stream": "rows", "schema": {"type": "object", "properties": {"id": {"type": "integer"}}},'
  say '  "metadata": [{"breadcrumb": [], "metadata": {"table-key-properties": ["id"], "valid-replication-keys": ["id"]}}]},'
  say '  {"tap_stream_id": "other", "stream": "other", "schema": {}, "metadata": []}]}'
  exit
fi
grep -q '"replication-method":"INCREMENTAL"' "$catalog" && grep -q '"selected":true' "$catalog" || exit 9
grep -q other "$catalog" && exit 8
at=1
if [ -n "$state" ]; then at=$(($(sed 's/.*"last":\([0-9]*\).*/\1/' "$state") + 1)); fi
say '{"type":"SCHEMA","stream":"shop-rows","schema":{"properties":{"id":{"type":"integer"}}},"key_properties":["id"]}'
while [ $at -le 6 ]; do
  say "{\"type\":\"RECORD\",\"stream\":\"shop-rows\",\"record\":{\"id\":$at},\"time_extracted\":\"2024-01-01T00:00:00Z\"}"
  if [ $((at % 2)) = 0 ]; then say "{\"type\":\"STATE\",\"value\":{\"bookmarks\":{\"shop-rows\":{\"last\":$at}}}}"; sleep 0.3; fi
  if [ "$MODE" = dies ] && [ $at = 5 ]; then echo 'out of luck' >&2; exit 3; fi
  at=$((at + 1))
done
"#;

#[test]
fn a_singer_tap_is_a_source_too() {
    let guest = Guest::new();
    let tap = guest.place.write("tap.sh", TAP);
    std::fs::set_permissions(&tap, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = |mode: &str| {
        let config = json!({"command": [tap], "speaks": "singer", "config": {"key": "canary-1"}, "env": {"MODE": mode}});
        let project = json!({
            "connectors": {"tap": {"type": "exec", "config": config}, "out": {"url": "sqlite:./out.db"}},
            "connections": {"c": {"from": "tap", "to": "out", "streams": ["shop-rows"], "mode": "incremental", "cursor": "id", "write": "append"}},
        });
        let project = guest.place.write("project.yaml", project.to_string()).display().to_string();
        guest.place.run(&["connectors", "check", "tap", "-f", &project]).succeeds();
        guest.place.run(&["sync", "-f", &project])
    };
    run("dies").refuses(5, &["exit code 3", "out of luck"]);
    run("").succeeds();
    run("").succeeds();
    let rows = guest.place.sqlite("out.db", "SELECT group_concat(id) FROM (SELECT id FROM \"shop-rows\" ORDER BY id)");
    assert_eq!(rows, "1,2,3,4,5,6");
}
