//! Programs of others as destinations: small ones in shell that behave, and the ways in which real ones do not; and a container client that
//! is a script, because there is no daemon to run real containers with.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use linkspan_testkit::process::{Process, Signal};
use serde_json::{Value, json};

use crate::program::{Place, Said};

/// Speaks the protocol as a destination; `MODE` says where it fails. Its rows are lines of a file.
const DESTINATION: &str = r#"#!/bin/sh
verb=$1; shift
while [ $# -gt 0 ]; do case $1 in --config) config=$2;; --catalog) catalog=$2;; esac; shift 2; done
say() { printf '%s\n' "$1"; }
case $verb in
spec) say '{"type":"SPEC","spec":{"connectionSpecification":{},"supported_destination_sync_modes":["append","overwrite"]}}';;
check) say '{"type":"CONNECTION_STATUS","connectionStatus":{"status":"SUCCEEDED"}}';;
write)
  echo start >> "$OUT/starts"; cp "$catalog" "$OUT/catalog.json"
  if grep -q '"destination_sync_mode":"overwrite"' "$catalog"; then : > "$OUT/rows"; fi
  while IFS= read -r line; do
    case $line in
    '{"type":"RECORD"'*)
      if [ "$MODE" = dies ]; then
        echo 'no room for canary-1' >&2
        say '{"type":"TRACE","trace":{"type":"ERROR","emitted_at":1,"error":{"message":"the disk is full","failure_type":"transient_error"}}}'; exit 3
      fi
      if [ "$MODE" = slow ]; then sleep 0.2; fi
      say "$line" >> "$OUT/rows";;
    '{"type":"STATE"'*) if [ "$MODE" != forgets ]; then say "$line"; fi;;
    esac
  done;;
esac
"#;

/// A Singer target: it says each state's value once its rows are in the file.
const TARGET: &str = r#"#!/bin/sh
while IFS= read -r line; do
  case $line in
  *'"type":"STATE"'*) value=${line#*'"value":'}; printf '%s\n' "${value%\}}";;
  *) printf '%s\n' "$line" >> "$OUT/rows";;
  esac
done
"#;

struct Taking {
    place: Place,
    program: PathBuf,
}

impl Taking {
    fn new(program: &str) -> Self {
        let place = Place::new();
        let program = script(&place, "program.sh", program);
        let db = rusqlite::Connection::open(place.path("in.db")).unwrap();
        db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, updated_at TEXT NOT NULL)").unwrap();
        let taking = Self { place, program };
        taking.insert(1, 5);
        taking
    }
    fn insert(&self, from: i64, to: i64) {
        let db = rusqlite::Connection::open(self.place.path("in.db")).unwrap();
        for id in from..=to {
            let at = format!("2024-01-01 00:00:{id:02}");
            db.execute("INSERT INTO t VALUES (?1, 'n', ?2)", (id, at)).unwrap();
        }
    }
    fn project(&self, mode: &str, read: &str, write: &str, more: &Value) -> String {
        let mut config =
            json!({"command": [self.program], "config": {"key": "canary-1"}, "env": {"MODE": mode, "OUT": self.place.path("")}});
        more.as_object().unwrap().iter().for_each(|(k, v)| config[k] = v.clone());
        let project = json!({
            "connectors": {"guest": {"type": "exec", "config": config}, "in": {"url": "sqlite:./in.db"}},
            "connections": {"c": {"from": "in", "to": "guest", "mode": read, "cursor": "updated_at", "write": write}},
        });
        self.place.write("project.yaml", project.to_string()).display().to_string()
    }
    fn sync(&self, mode: &str, read: &str, write: &str, more: &Value) -> Said {
        let said = self.place.run(&["sync", "-f", &self.project(mode, read, write, more)]);
        assert!(!format!("{said:?}").contains("canary"), "{said:#?}");
        said
    }
    fn records(&self) -> Vec<Value> {
        let rows = std::fs::read_to_string(self.place.path("rows")).unwrap_or_default();
        rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
    fn ids(&self) -> Vec<i64> {
        self.records().iter().filter_map(|r| r["record"]["data"]["id"].as_i64().or(r["record"]["id"].as_i64())).collect()
    }
}

fn script(place: &Place, name: &str, text: &str) -> PathBuf {
    let path = place.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn new_rows_are_appended_and_a_replace_is_handed_over_whole() {
    let to = Taking::new(DESTINATION);
    let project = to.project("", "incremental", "append", &json!({"is": "destination"}));
    to.place.run(&["connectors", "check", "guest", "-f", &project]).succeeds();
    to.sync("", "incremental", "append", &json!({})).succeeds();
    assert_eq!(to.ids(), [1, 2, 3, 4, 5]);
    let record = &to.records()[0]["record"];
    assert_eq!((&record["stream"], &record["data"]["name"]), (&json!("t"), &json!("n")));
    to.insert(6, 7);
    to.sync("", "incremental", "append", &json!({})).succeeds();
    assert_eq!(to.ids(), [1, 2, 3, 4, 5, 6, 7]);
    let catalog: Value = serde_json::from_slice(&std::fs::read(to.place.path("catalog.json")).unwrap()).unwrap();
    assert_eq!(
        (&catalog["streams"][0]["destination_sync_mode"], &catalog["streams"][0]["minimum_generation_id"]),
        (&json!("append"), &json!(0))
    );
    let replace = json!({"spool_folder": to.place.path("")});
    for _ in 0..2 {
        to.sync("", "full", "replace", &replace).succeeds();
        assert_eq!(to.ids(), [1, 2, 3, 4, 5, 6, 7]);
    }
    let left: Vec<_> =
        std::fs::read_dir(to.place.path("")).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().contains("spool")).collect();
    let rows = left
        .iter()
        .flat_map(|e| std::fs::read_dir(e.path()).unwrap().flatten())
        .filter(|e| e.path().extension().is_some_and(|x| x == "jsonl"));
    assert_eq!(rows.count(), 0, "the program has them");
}

#[test]
fn a_program_that_fails_or_says_no_state_back_has_taken_nothing() {
    let to = Taking::new(DESTINATION);
    to.sync("dies", "incremental", "append", &json!({})).refuses(5, &["the disk is full", "no room for ****"]);
    to.sync("forgets", "incremental", "append", &json!({})).refuses(7, &["did not say back"]);
    std::fs::remove_file(to.place.path("rows")).unwrap();
    to.sync("", "incremental", "append", &json!({})).succeeds();
    assert_eq!(to.ids(), [1, 2, 3, 4, 5]);
    to.insert(6, 6);
    let refused = to.sync("", "incremental", "merge", &json!({}));
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("append, overwrite"), "{refused:#?}");
    // A replace that the program would not take is not lost: it is handed over when it does.
    to.sync("dies", "full", "replace", &json!({"spool_folder": to.place.path("")})).refuses(5, &["the disk is full"]);
    to.sync("", "full", "replace", &json!({"spool_folder": to.place.path("")})).succeeds();
    assert_eq!(to.ids(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_run_that_is_killed_loses_nothing() {
    let to = Taking::new(DESTINATION);
    let project = to.project("slow", "incremental", "append", &json!({}));
    let mut run = Process::start(&mut to.place.command(&["sync", "-f", &project]));
    run.wait_at_most(Duration::from_millis(900));
    run.signal(Signal::Kill);
    run.wait(Duration::from_secs(20));
    to.sync("", "incremental", "append", &json!({})).succeeds();
    let mut ids = to.ids();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
}

#[test]
fn a_singer_target_takes_rows_with_their_schema_and_key() {
    let to = Taking::new(TARGET);
    let more = json!({"speaks": "singer", "is": "destination"});
    to.place.run(&["connectors", "check", "guest", "-f", &to.project("", "incremental", "merge", &more)]).succeeds();
    to.sync("", "incremental", "merge", &more).succeeds();
    assert_eq!(to.ids(), [1, 2, 3, 4, 5]);
    let schema = &to.records()[0];
    assert_eq!((&schema["type"], &schema["stream"], &schema["key_properties"]), (&json!("SCHEMA"), &json!("t"), &json!(["id"])));
    let refused = to.sync("", "full", "replace", &more);
    assert_ne!(refused.code, 0);
}

/// A container client: it writes its arguments down, and runs the program instead of the image.
const CLIENT: &str = r#"#!/bin/sh
printf '%s\n' "$*" >> "$OUT/client"
[ "$1" = run ] || exit 0
while [ "$1" != shop/destination:1.0 ]; do shift; done
shift
exec "$PROGRAM" "$@"
"#;

#[test]
fn an_image_is_run_by_the_client_that_the_operator_named_and_by_no_other() {
    let to = Taking::new(DESTINATION);
    let client = script(&to.place, "client.sh", CLIENT);
    let env = json!({"MODE": "", "OUT": to.place.path(""), "PROGRAM": to.program, "KEY": "canary-2"});
    let project = to.project("", "incremental", "append", &json!({"command": [], "image": "shop/destination:1.0", "env": env}));
    to.place.run(&["sync", "-f", &project]).refuses(3, &["LINKSPAN_CONTAINERS=docker"]);
    crate::program::said(to.place.command(&["sync", "-f", &project]).env("LINKSPAN_CONTAINERS", &client)).succeeds();
    assert_eq!(to.ids(), [1, 2, 3, 4, 5]);
    let told = std::fs::read_to_string(to.place.path("client")).unwrap();
    let write = told.lines().find(|l| l.contains(" write ")).unwrap();
    for words in ["run --rm --interactive --init --name linkspan-", "--env KEY ", ":ro ", "shop/destination:1.0 write --config /"] {
        assert!(write.contains(words), "`{words}` is not in {write}");
    }
    assert!(!told.contains("canary"), "{told}");
}
