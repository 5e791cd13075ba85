//! Destination types of the house as programs that speak the Airbyte protocol: what a platform writes to them, and what they say back.

use std::{
    io::{BufRead, BufReader, Write as _},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use linkspan_testkit::servers::TestDatabase;
use serde_json::{Value, json};

use crate::program::{Place, Said};

struct Written {
    place: Place,
    kind: &'static str,
    config: String,
}

impl Written {
    fn into(kind: &'static str, config: &Value) -> Self {
        let place = Place::new();
        let config = place.write("config.json", config.to_string()).display().to_string();
        Self { place, kind, config }
    }
    fn sqlite() -> Self {
        Self::into("sqlite", &json!({"path": "out.db"}))
    }
    fn command(&self, streams: &Value) -> std::process::Command {
        let catalog = self.place.write("catalog.json", json!({"streams": streams}).to_string()).display().to_string();
        self.place.command(&["airbyte", "destination", self.kind, "write", "--config", &self.config, "--catalog", &catalog])
    }
    /// Writes these lines and waits for the end.
    fn write(&self, streams: &Value, lines: &[Value]) -> Said {
        self.write_text(streams, &lines.iter().map(|l| format!("{l}\n")).collect::<String>())
    }
    fn write_text(&self, streams: &Value, text: &str) -> Said {
        let mut running = Running::start(&mut self.command(streams));
        running.say(text);
        running.end()
    }
    fn rows(&self, sql: &str) -> String {
        self.place.sqlite("out.db", sql)
    }
}

/// A program that is being written to.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Receiver<String>,
}

impl Running {
    pub fn start(command: &mut std::process::Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, out) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || lines.lines().map_while(Result::ok).for_each(|line| drop(send.send(line))));
        Self { stdin: child.stdin.take(), child, out }
    }
    pub fn say(&mut self, text: &str) {
        // A program that has ended takes nothing more: its own words say why.
        let _ = self.stdin.as_mut().unwrap().write_all(text.as_bytes());
    }
    /// The next line that is told.
    pub fn line(&self) -> String {
        self.out.recv_timeout(Duration::from_secs(60)).unwrap()
    }
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
    /// The next state that is told.
    fn state(&self) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.out.recv_timeout(Duration::from_secs(60)).unwrap()).unwrap();
            if line["type"] == "STATE" {
                return line;
            }
        }
    }
    pub fn end(mut self) -> Said {
        drop(self.stdin.take());
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let mut err = String::new();
        std::io::Read::read_to_string(self.child.stderr.as_mut().unwrap(), &mut err).unwrap();
        let out = self.out.iter().map(|line| line + "\n").collect();
        Said { code, out, err }
    }
}

fn stream(name: &str, properties: &Value, mode: &str, more: &Value) -> Value {
    let mut one = json!({
        "stream": {"name": name, "json_schema": {"type": "object", "properties": properties}, "supported_sync_modes": ["full_refresh", "incremental"]},
        "sync_mode": "incremental", "destination_sync_mode": mode,
    });
    more.as_object().unwrap().iter().for_each(|(k, v)| one[k] = v.clone());
    one
}
fn users() -> Value {
    json!({"id": {"type": "integer"}, "name": {"type": ["null", "string"]}})
}
fn record(name: &str, data: Value) -> Value {
    json!({"type": "RECORD", "record": {"stream": name, "data": data, "emitted_at": 1_700_000_000_123_i64}})
}
fn state(name: &str, at: i64) -> Value {
    json!({"type": "STATE", "state": {"type": "STREAM", "stream": {"stream_descriptor": {"name": name}, "stream_state": {"at": at}}, "sourceStats": {"recordCount": 1.0}, "id": at}})
}
fn status(name: &str, status: &str) -> Value {
    json!({"type": "TRACE", "trace": {"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": {"stream_descriptor": {"name": name}, "status": status}}})
}
fn states(said: &Said) -> Vec<Value> {
    said.lines().into_iter().filter(|l| l["type"] == "STATE").map(|l| l["state"].clone()).collect()
}
fn generation(id: i64, minimum: i64) -> Value {
    json!({"generation_id": id, "minimum_generation_id": minimum, "sync_id": id})
}

#[test]
fn every_destination_says_its_form_and_its_sync_modes() {
    let place = Place::new();
    for (kind, modes) in [
        ("postgresql", json!(["append", "overwrite", "append_dedup"])),
        ("sqlite", json!(["append", "overwrite", "append_dedup"])),
        ("parquet", json!(["append", "overwrite", "append_dedup"])),
        ("csv", json!(["append", "overwrite"])),
    ] {
        let spec = &place.run(&["airbyte", "destination", kind, "spec"]).succeeds().lines()[0]["spec"];
        assert_eq!(spec["supported_destination_sync_modes"], modes, "{kind}");
        assert_eq!(spec["connectionSpecification"]["type"], "object");
    }
    let none = place.run(&["airbyte", "destination", "faker", "spec"]);
    assert_eq!((none.code, &none.lines()[0]["trace"]["type"]), (1, &json!("ERROR")));
    let config = place.write("c.json", r#"{"path": "out.db"}"#).display().to_string();
    let checked = &place.run(&["airbyte", "destination", "sqlite", "check", "--config", &config]).succeeds().lines()[0];
    assert_eq!(checked["connectionStatus"]["status"], "SUCCEEDED");
}

#[test]
fn records_are_rows_and_states_come_back_in_order_with_their_counts() {
    let to = Written::sqlite();
    let streams = json!([stream("users", &users(), "append", &generation(4, 0)), stream("empty", &users(), "append", &json!({}))]);
    let lines = [
        record("users", json!({"id": 1, "name": "a"})),
        record("users", json!({"id": 2})),
        state("users", 1),
        state("empty", 7),
        record("users", json!({"id": 3, "name": "c"})),
        state("users", 2),
        status("users", "COMPLETE"),
        status("empty", "COMPLETE"),
    ];
    let said = to.write(&streams, &lines).succeeds();
    let told = states(&said);
    let places: Vec<(&Value, f64)> = told.iter().map(|s| (&s["id"], s["destinationStats"]["recordCount"].as_f64().unwrap())).collect();
    assert_eq!(places, [(&json!(1), 2.0), (&json!(7), 0.0), (&json!(2), 1.0)]);
    assert_eq!((&told[0]["sourceStats"]["recordCount"], &told[0]["stream"]["stream_state"]), (&json!(1.0), &json!({"at": 1})));
    assert_eq!(
        to.rows("SELECT id, name, _airbyte_generation_id, length(_airbyte_raw_id) FROM users ORDER BY id"),
        "1|a|4|36\n2|null|4|36\n3|c|4|36"
    );
    assert_eq!(to.rows("SELECT DISTINCT _airbyte_meta FROM users"), r#"{"sync_id":4,"changes":[]}"#);
    assert_eq!(to.rows("SELECT count(*) FROM empty"), "0");
}

#[test]
fn a_value_that_does_not_fit_is_nulled_and_told_and_stops_nothing() {
    let to = Written::sqlite();
    let properties = json!({"id": {"type": "integer"}, "n": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}, "doc": {"type": "object"}});
    let streams = json!([stream("t", &properties, "append", &json!({}))]);
    let mut with_meta = record("t", json!({"id": 3, "n": 3}));
    with_meta["record"]["meta"] = json!({"changes": [{"field": "doc", "change": "NULLED", "reason": "SOURCE_RETRIEVAL_ERROR"}]});
    let text = [
        record("t", json!({"id": 1, "n": "many", "at": "yesterday", "doc": {"b": 1, "a": [1.10]}, "more": 1})).to_string(),
        "a word that is no message".into(),
        "{broken".into(),
        r#"{"type":"RECORD","record":{"stream":"t","data":{"id":"#.into(),
        with_meta.to_string(),
        state("t", 1).to_string(),
        String::new(),
    ]
    .join("\n");
    let said = to.write_text(&streams, &text).succeeds();
    let stats = &states(&said)[0]["destinationStats"];
    assert_eq!((&stats["recordCount"], &stats["rejectedRecordCount"]), (&json!(2.0), &json!(1.0)));
    assert_eq!(to.rows("SELECT id, n, at FROM t ORDER BY id"), "1|null|null\n3|3|null");
    let meta = to.rows("SELECT _airbyte_meta FROM t ORDER BY id");
    let meta: Vec<Value> = meta.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fields: Vec<&Value> = meta[0]["changes"].as_array().unwrap().iter().map(|c| &c["field"]).collect();
    assert_eq!(fields, ["n", "at"]);
    assert_eq!(meta[0]["changes"][0], json!({"field": "n", "change": "NULLED", "reason": "DESTINATION_TYPECAST_ERROR"}));
    assert_eq!(meta[1]["changes"][0]["reason"], "SOURCE_RETRIEVAL_ERROR");
    assert!(said.out.contains("line 4 of the input") && said.out.contains("no field more"), "{}", said.out);
    // The next sync says that `n` is a text: the table follows, or what does not fit is left out; it never stops.
    let texts = json!({"id": {"type": "integer"}, "n": {"type": "string"}, "doc": {"type": "boolean"}});
    let said = to.write(
        &json!([stream("t", &texts, "append", &json!({}))]),
        &[record("t", json!({"id": 4, "n": "many", "doc": true})), state("t", 2)],
    );
    assert_eq!(states(&said.succeeds()).len(), 1);
    assert_eq!(to.rows("SELECT id, n FROM t WHERE id > 2 ORDER BY id"), "3|3\n4|many");
}

#[test]
fn append_dedup_keeps_one_row_per_key_the_newest_by_its_cursor() {
    let to = Written::sqlite();
    let properties =
        json!({"id": {"type": "integer"}, "at": {"type": "integer"}, "name": {"type": "string"}, "_ab_cdc_deleted_at": {"type": "string"}});
    let streams = json!([stream("t", &properties, "append_dedup", &json!({"primary_key": [["id"]], "cursor_field": ["at"]}))]);
    let row = |id: i64, at: i64, name: &str| record("t", json!({"id": id, "at": at, "name": name}));
    let no_key = record("t", json!({"at": 1, "name": "x"}));
    let first = to.write(&streams, &[row(1, 5, "new"), row(1, 4, "old"), row(2, 1, "b"), row(3, 1, "c"), no_key, state("t", 1)]).succeeds();
    let stats = &states(&first)[0]["destinationStats"];
    assert_eq!((&stats["recordCount"], &stats["rejectedRecordCount"]), (&json!(4.0), &json!(1.0)));
    let gone = record("t", json!({"id": 3, "at": 2, "_ab_cdc_deleted_at": "2024-01-01T00:00:00Z"}));
    to.write(&streams, &[row(2, 2, "b2"), gone, state("t", 2)]).succeeds();
    assert_eq!(to.rows("SELECT id, at, name FROM t ORDER BY id"), "1|5|new\n2|2|b2");
}

#[test]
fn an_overwrite_is_shown_whole_and_goes_on_in_its_generation_after_a_kill() {
    let to = Written::sqlite();
    let streams = |id| json!([stream("users", &users(), "overwrite", &generation(id, id))]);
    let all = |from: i64, to: i64| (from..=to).map(|id| record("users", json!({"id": id}))).collect::<Vec<_>>();
    let whole = |mut lines: Vec<Value>| {
        lines.extend([state("users", 9), status("users", "COMPLETE")]);
        lines
    };
    to.write(&streams(1), &whole(all(1, 3))).succeeds();
    assert_eq!(to.rows("SELECT group_concat(id) FROM users"), "1,2,3");
    // The second generation is killed once its first state is told: nothing of it is shown, nothing of it is lost.
    let mut running = Running::start(&mut to.command(&streams(2)));
    running.say(&all(11, 12).iter().chain([&state("users", 1)]).map(|l| format!("{l}\n")).collect::<String>());
    assert_eq!(running.state()["state"]["id"], 1);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert_eq!(to.rows("SELECT group_concat(id) FROM users"), "1,2,3");
    // The platform hands out the state that it was told: the rest comes, in the same generation.
    to.write(&streams(2), &whole(all(13, 14))).succeeds();
    assert_eq!(to.rows("SELECT group_concat(id) FROM (SELECT id FROM users ORDER BY id)"), "11,12,13,14");
    // A platform that does not count asks for the same generation again, and means another read.
    to.write(&streams(2), &whole(all(21, 21))).succeeds();
    assert_eq!(to.rows("SELECT group_concat(id) FROM users"), "21");
    // A source that did not come to its end replaces nothing.
    let mut half = all(31, 31);
    half.extend([state("users", 3), status("users", "INCOMPLETE")]);
    to.write(&streams(3), &half).succeeds();
    half.pop();
    half.push(status("users", "STARTED"));
    let said = to.write(&streams(3), &half);
    assert_eq!((said.code, states(&said).len()), (1, 1));
    assert_eq!(to.rows("SELECT group_concat(id) FROM users"), "21");
}

#[test]
fn a_refresh_removes_older_generations_at_its_end_and_keeps_one_row_per_key() {
    let to = Written::sqlite();
    let streams = |id, minimum| {
        let mut more = generation(id, minimum);
        more["primary_key"] = json!([["id"]]);
        json!([stream("users", &users(), "append_dedup", &more)])
    };
    let row = |id: i64, name: &str| record("users", json!({"id": id, "name": name}));
    to.write(&streams(0, 0), &[row(1, "a"), row(2, "b"), state("users", 1)]).succeeds();
    let refreshed = [row(2, "old"), row(2, "new"), row(3, "c"), state("users", 1), status("users", "COMPLETE")];
    to.write(&streams(1, 1), &refreshed).succeeds();
    assert_eq!(to.rows("SELECT id, name FROM users ORDER BY id"), "2|new\n3|c");
    // The same generation again only adds to it: that is how one is gone on with.
    to.write(&streams(1, 1), &[row(4, "d"), state("users", 2), status("users", "COMPLETE")]).succeeds();
    assert_eq!(to.rows("SELECT id, name FROM users ORDER BY id"), "2|new\n3|c\n4|d");
    to.write(&streams(1, 0), &[row(3, "c2"), state("users", 3)]).succeeds();
    assert_eq!(to.rows("SELECT id, name FROM users ORDER BY id"), "2|new\n3|c2\n4|d");
    let both = to.write(&streams(3, 2), &[row(1, "x"), state("users", 1)]);
    assert_eq!((both.code, &both.lines()[0]["trace"]["error"]["failure_type"]), (1, &json!("config_error")));
}

#[test]
fn what_a_catalog_cannot_ask_is_refused_before_anything_is_written() {
    let to = Written::sqlite();
    let refused = |streams: Value, words: &str| {
        let said = to.write(&streams, &[record("t", json!({"id": 1})), state("t", 1)]);
        assert_eq!(said.code, 1, "{said:#?}");
        let error = &said.lines()[0]["trace"]["error"];
        assert_eq!(error["failure_type"], "config_error");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        assert!(states(&said).is_empty());
    };
    for mode in ["update", "soft_delete"] {
        refused(json!([stream("t", &users(), mode, &json!({}))]), "is not supported");
    }
    refused(json!([stream("t", &users(), "append_dedup", &json!({}))]), "needs a key");
    refused(json!([stream("t", &users(), "append_dedup", &json!({"primary_key": [["a", "b"]]}))]), "inside of a field");
    let mut empty = stream("t", &users(), "append", &json!({}));
    empty["stream"]["namespace"] = "".into();
    refused(json!([stream("t", &users(), "append", &json!({})), empty]), "one table");
    refused(json!([stream("other", &users(), "append", &json!({}))]), "catalog does not have");
    let lines = Written::into("jsonl", &json!({"path": "./out"}));
    let said = lines.write(&json!([stream("t", &users(), "append_dedup", &json!({"primary_key": [["id"]]}))]), &[]);
    assert!(said.lines()[0]["trace"]["error"]["message"].as_str().unwrap().contains("append, overwrite"), "{said:#?}");
    assert!(!to.place.path("out.db").exists() || to.rows("SELECT count(*) FROM sqlite_master WHERE name = 't'") == "0");
}

#[tokio::test]
async fn a_killed_program_has_told_nothing_that_is_not_there() {
    let Some(db) = TestDatabase::create().await else { return };
    let to = Written::into("postgresql", &json!({"url": db.url}));
    let mut one = stream("t", &json!({"id": {"type": "integer"}}), "append", &json!({}));
    one["stream"]["namespace"] = "shop".into();
    let in_shop = |mut message: Value| {
        match message["type"].as_str() {
            Some("RECORD") => message["record"]["namespace"] = "shop".into(),
            _ => message["state"]["stream"]["stream_descriptor"]["namespace"] = "shop".into(),
        }
        format!("{message}\n")
    };
    for round in 0..5_i64 {
        let mut running = Running::start(&mut to.command(&json!([one])));
        let first = round * 10_000;
        let mut stdin = running.stdin.take().unwrap();
        // States without an end: the program is killed while it is being written to.
        let text: String =
            (1..=9_999).flat_map(|n| [in_shop(record("t", json!({"id": first + n}))), in_shop(state("t", first + n))]).collect();
        let writes = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
        running.state();
        std::thread::sleep(Duration::from_millis(37 * round as u64));
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        writes.join().unwrap();
        let last =
            running.out.iter().filter_map(|l| serde_json::from_str::<Value>(&l).ok()).filter_map(|l| l["state"]["id"].as_i64()).last();
        let told = last.unwrap_or(first + 1);
        let ask = format!("SELECT count(*), coalesce(max(id), 0) FROM shop.t WHERE id > {first} AND id <= {told}");
        let there = db.client().await.query_one(&ask, &[]).await.unwrap();
        assert_eq!((there.get::<_, i64>(0), there.get::<_, i64>(1)), (told - first, told), "round {round}");
    }
}

#[tokio::test]
async fn global_states_come_back_behind_the_rows_of_all_streams() {
    let Some(db) = TestDatabase::create().await else { return };
    let to = Written::into("postgresql", &json!({"url": db.url}));
    let streams = json!([stream("a", &users(), "append", &json!({})), stream("b", &users(), "append", &json!({}))]);
    let global = json!({"type": "STATE", "state": {"type": "GLOBAL", "global": {"shared_state": {"lsn": 123456789012345678_u64}, "stream_states": []}}});
    let said = to.write(&streams, &[record("a", json!({"id": 1})), record("b", json!({"id": 2, "name": "nul\u{0}"})), global]).succeeds();
    let told = states(&said);
    assert_eq!((told.len(), &told[0]["destinationStats"]["recordCount"]), (1, &json!(2.0)));
    assert_eq!(told[0]["global"]["shared_state"]["lsn"], 123456789012345678_u64);
    let both = "SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b)";
    assert_eq!(db.client().await.query_one(both, &[]).await.unwrap().get::<_, i64>(0), 2);
}
