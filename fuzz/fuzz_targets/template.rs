//! Jinja over Python's values: any text is a template or an error, and its rendering ends.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use linkspan_airbyte::template::{Scope, Template};
use serde_json::{Map, Value, json};

static CONFIG: LazyLock<Value> =
    LazyLock::new(|| json!({"a": "b", "l": [1, 2, 3], "n": null, "d": {"x": {"y": "2024-03-01T00:00:00Z"}}, "f": 1.5, "t": true}));

fuzz_target!(|text: &str| {
    let scope = Scope::new(&CONFIG, jiff::Timestamp::UNIX_EPOCH);
    if let Ok(value) = Template::parse(text, &Map::new()).and_then(|template| template.value(&scope)) {
        assert!(value.to_string().len() < 512 << 20);
    }
});
