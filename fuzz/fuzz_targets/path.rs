//! Paths into records: steps stand one a line behind the record. Whatever they are, reading, writing and deleting end without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use linkspan_airbyte::dpath::{self, Step};
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let Some(mut value) = lines.next().and_then(|first| serde_json::from_str::<Value>(first).ok()) else { return };
    let path: Vec<Step> = lines.take(12).map(|step| Step::of(&Value::from(step))).collect();
    let _ = (dpath::values(&value, &path).len(), dpath::get(&value, &path).is_ok());
    let _ = dpath::put(&mut value, &path, json!(1));
    let _ = dpath::delete(&mut value, &path, None);
    dpath::remove_lists(&mut value, &path);
});
