//! The language of manifests, beside vectors that a run of the reference interpreter wrote.

mod asking;
mod guests;
mod hostile;
mod oauth;
mod rest;
mod server;
mod templates;

use linkspan_airbyte::{datetime::Format, manifest, python, yaml};
use serde_json::Value;

pub(crate) fn vectors(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/vectors/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the vectors are in the repository");
    text.lines().map(|line| serde_json::from_str(line).expect("a vector is one line of JSON")).collect()
}

/// Collects what differs, so that one run shows all of it.
pub(crate) fn all_equal(name: &str, at_least: usize, check: impl Fn(&Value) -> (Value, Value)) {
    let all = vectors(name);
    assert!(all.len() >= at_least, "{} vectors of {name}", all.len());
    let wrong: Vec<String> = all
        .iter()
        .filter_map(|v| {
            let (ours, theirs) = check(v);
            (ours != theirs).then(|| format!("{v}\n    ours {ours}\n  theirs {theirs}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong[..wrong.len().min(25)].join("\n"));
}

#[test]
fn a_literal_is_what_python_reads_and_is_written_as_python_writes() {
    all_equal("literals", 1500, |v| {
        let ours = python::literal(v["text"].as_str().unwrap()).map(|l| l.repr());
        (ours.into(), v["repr"].clone())
    });
}

#[test]
fn a_time_is_read_as_the_reference_reads_it() {
    all_equal("times_read", 800, |v| {
        let ours = Format::new(v["format"].as_str().unwrap()).parse(v["text"].as_str().unwrap());
        let ours = ours.ok().map(|m| format!("{} {}", m.wall.strftime("%Y-%m-%dT%H:%M:%S.%6f"), m.offset.as_micros()));
        (ours.into(), v["moment"].clone())
    });
}

#[test]
fn a_time_is_written_as_the_reference_writes_it() {
    all_equal("times_written", 800, |v| {
        let moment = Format::new("%Y-%m-%dT%H:%M:%S.%f%z").parse(v["text"].as_str().unwrap()).unwrap();
        (Format::new(v["format"].as_str().unwrap()).format(&moment).into(), v["written"].clone())
    });
}

#[test]
fn a_manifest_is_put_together_as_the_reference_does() {
    all_equal("manifests", 200, |v| (manifest::resolved(&v["manifest"]).unwrap_or(Value::Null), v["resolved"].clone()));
}

#[test]
fn references_in_a_circle_or_without_end_are_refused_in_bounded_time() {
    let circle = serde_json::json!({"a": {"$ref": "#/b"}, "b": {"c": "#/a"}});
    let error = manifest::resolved(&circle).unwrap_err();
    assert!(error.message().contains("back to itself"), "{error}");
    let mut bomb = serde_json::Map::new();
    bomb.insert("a0".into(), "x".into());
    for i in 1..64 {
        let earlier = format!("#/a{}", i - 1);
        bomb.insert(format!("a{i}"), serde_json::json!([earlier, earlier, earlier]));
    }
    let error = manifest::resolved(&bomb.into()).unwrap_err();
    assert!(error.message().contains("too large"), "{error}");
}

#[test]
fn hostile_literals_are_text() {
    for bomb in
        ["[".repeat(1 << 20), "-".repeat(1 << 20) + "1", "(".repeat(150) + "1", "9".repeat(5000), "{".repeat(199) + &"}".repeat(199)]
    {
        assert_eq!(python::literal(&bomb), None);
    }
}

#[test]
fn yaml_is_read_as_pyyaml_reads_it() {
    let shown = |value: Option<&Value>| value.map_or("refused".into(), |value| serde_json::json!({ "value": value }));
    all_equal("yaml", 1500, |v| {
        let ours = yaml::parse(v["yaml"].as_str().unwrap());
        let theirs = Some(&v["value"]).filter(|_| v["refused"] != true);
        (shown(ours.as_ref().ok()), shown(theirs))
    });
}

#[test]
fn aliases_of_aliases_are_refused_in_bounded_time() {
    let mut bomb = String::from("a0: &a0 [x, x]\n");
    for i in 1..40 {
        bomb += &format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}]\n", i - 1);
    }
    assert!(yaml::parse(&bomb).unwrap_err().message().contains("too large"));
    assert!(yaml::parse("a: &a [*a]").unwrap_err().message().contains("its own anchor"));
    assert!(yaml::parse(&"[".repeat(100_000)).is_err());
    let error = yaml::parse("a: 1\nb: [1").unwrap_err();
    assert!(error.context().iter().any(|(key, _)| *key == "line"), "{error}");
}
