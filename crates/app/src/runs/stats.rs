//! The counts of a run over its attempts: what each attempt did is added up by stream.

use serde_json::{Map, Value, json};

/// Fields that are added; the others are those of the later attempt.
const ADDED: [&str; 7] = ["rows_read", "bytes_read", "written", "duplicates", "rejected", "uncommitted", "seconds"];

/// What was done so far with what was done now. A stream that had no part in this attempt keeps what it has.
pub(super) fn together(earlier: Option<&Value>, now: &Value) -> Value {
    let mut streams: Vec<Value> = earlier.map(streams_of).unwrap_or_default();
    for stream in streams_of(now) {
        match streams.iter_mut().find(|s| s["stream"] == stream["stream"]) {
            Some(before) => *before = added(before, &stream),
            None => streams.push(stream),
        }
    }
    let seconds = [earlier, Some(now)].into_iter().flatten().filter_map(|s| s["seconds"].as_f64()).sum::<f64>();
    json!({ "streams": streams, "seconds": (seconds * 1000.0).round() / 1000.0 })
}

pub(super) fn streams_of(stats: &Value) -> Vec<Value> {
    stats["streams"].as_array().cloned().unwrap_or_default()
}

/// The streams that need no further attempt.
pub(super) fn done(stats: Option<&Value>) -> Vec<String> {
    let all = stats.map(streams_of).unwrap_or_default();
    all.iter().filter(|s| s["status"] == "completed").filter_map(|s| s["stream"].as_str().map(str::to_owned)).collect()
}

fn added(before: &Value, now: &Value) -> Value {
    let mut sum: Map<String, Value> = now.as_object().cloned().unwrap_or_default();
    for field in ADDED {
        let total = match (before[field].as_u64(), now[field].as_u64()) {
            (Some(a), Some(b)) => json!(a + b),
            _ => json!(before[field].as_f64().unwrap_or(0.0) + now[field].as_f64().unwrap_or(0.0)),
        };
        sum.insert(field.to_owned(), total);
    }
    Value::Object(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_add_up_by_stream_and_the_last_one_says_how_it_ended() {
        let first = json!({"seconds": 1.5, "streams": [
            {"stream": "a", "rows_read": 10, "written": 9, "rejected": 1, "status": "completed", "seconds": 1.0},
            {"stream": "b", "rows_read": 5, "written": 5, "rejected": 0, "status": "failed", "seconds": 1.25, "error": {}},
        ]});
        let second = json!({"seconds": 0.5, "streams": [
            {"stream": "b", "rows_read": 7, "written": 6, "rejected": 1, "status": "completed", "seconds": 0.5, "error": null},
        ]});
        assert_eq!(done(Some(&first)), ["a"]);
        let all = together(Some(&together(None, &first)), &second);
        assert_eq!(all["seconds"], 2.0);
        let b = &all["streams"][1];
        assert_eq!(
            (&b["rows_read"], &b["written"], &b["rejected"], &b["status"]),
            (&json!(12), &json!(11), &json!(1), &json!("completed"))
        );
        assert_eq!((&b["seconds"], &b["error"]), (&json!(1.75), &Value::Null));
        assert_eq!(all["streams"][0]["rows_read"], 10);
    }
}
