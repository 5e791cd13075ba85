//! What means harm, or nothing at all: it ends in bounded time with an error, or as if it were fine, and never in a panic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use linkspan_airbyte::{
    datetime::Format,
    dpath::{self, Step},
    manifest,
    template::{Scope, Template},
    yaml,
};
use linkspan_core::{ErrorKind, Result};
use serde_json::{Map, Value, json};

use crate::{
    asking::{Hand, build, read, retriever},
    server::{Reply, serve},
};

/// Far more than any of them needs, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn refused<T: std::fmt::Debug>(what: &str, act: impl FnOnce() -> Result<T>) {
    let begun = Instant::now();
    let error = act().expect_err(what);
    assert!(matches!(error.kind(), ErrorKind::ConfigInvalid | ErrorKind::DataInvalid), "{what}: {error:?}");
    assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", begun.elapsed());
}

#[test]
fn bombs_in_a_manifest_are_refused() {
    let level = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "));
    let aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..12).map(level).collect::<String>();
    refused("aliases of aliases", || yaml::parse(&aliases));
    refused("aliases in a manifest", || manifest::opened(&aliases));
    refused("an alias inside its own anchor", || yaml::parse("a: &a [*a]"));

    let level = |n: usize| format!("  d{n}: [{}]\n", vec![format!("'#/definitions/d{}'", n - 1); 10].join(", "));
    let references = "definitions:\n  d0: x\n".to_owned() + &(1..12).map(level).collect::<String>();
    refused("references that multiply", || manifest::opened(&references));
    refused("a circle of references", || manifest::opened("definitions: {a: {$ref: '#/definitions/b'}, b: {$ref: '#/definitions/a'}}"));
    refused("a reference to itself", || manifest::opened("definitions: {a: {b: {$ref: '#/definitions/a'}}}"));
    refused("a deep list", || manifest::opened(&format!("definitions: {}{}", "[".repeat(5_000), "]".repeat(5_000))));
}

#[test]
fn bombs_in_a_template_are_refused() {
    for text in [
        "{% for a in config.l %}{% for b in config.l %}{% for c in config.l %}{% for d in config.l %}{{ a }}{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10000000000 }}",
        "{{ ('x' * 1000000) * 1000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ config.l * 100000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'x'.center(10000000000) }}",
        "{{ 'x'|center(10000000000) }}",
        "{{ '{:>10000000000}'.format(1) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ] {
        let begun = Instant::now();
        let config = json!({"l": (0..1000).collect::<Vec<_>>()});
        let scope = Scope::new(&config, jiff::Timestamp::UNIX_EPOCH);
        let made = Template::parse(text, &Map::new()).and_then(|template| template.value(&scope));
        let size = made.as_ref().map_or(0, |value| value.to_string().len());
        assert!(size < 64 << 20, "{text}: {size} bytes");
        assert!(begun.elapsed() < PATIENCE, "{text}: {:?}", begun.elapsed());
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000));
    let _ = Template::parse(&deep, &Map::new());
}

/// An API whose pages have no end, by the number of the request.
async fn endless(pages: fn(usize) -> Value) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let base = serve(move |_| {
        let body = pages(count.fetch_add(1, Ordering::SeqCst));
        async move { Reply::json(body) }
    })
    .await;
    (base, asked)
}

#[tokio::test]
async fn pages_without_an_end_are_noticed_and_end_the_read() {
    const CURSOR: &str = "{{ response.next }}";
    const COUNTED: &str = "{{ response.page | int + 1 }}";
    for (what, cursor, most, pages) in [
        ("one cursor again and again", CURSOR, 20, (|_| json!({"data": [{"id": 1}], "next": "same"})) as fn(usize) -> Value),
        ("two cursors in turn", CURSOR, 40, |n| json!({"data": [{"id": n % 2}], "next": format!("c{}", n % 2)})),
        ("a circle of fifty", CURSOR, 700, |n| json!({"data": [{"id": n % 50}], "next": n % 50 + 1})),
        ("an API that does not know the parameter", COUNTED, 120, |_| json!({"data": [{"id": 1}], "page": 1})),
    ] {
        let (base, asked) = endless(pages).await;
        let component = json!({
            "type": "SimpleRetriever",
            "requester": {"type": "HttpRequester", "url_base": base, "path": "items"},
            "record_selector": {"type": "RecordSelector", "extractor": {"type": "DpathExtractor", "field_path": ["data"]}},
            "paginator": {
                "type": "DefaultPaginator", "pagination_strategy": {"type": "CursorPagination", "cursor_value": cursor},
                "page_token_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "cursor"},
            },
        });
        let begun = Instant::now();
        let read = read(retriever(component, json!([]), &build(json!({}), Hand::new())).unwrap()).await;
        let error = read.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::DataInvalid, "{what}: {error:?}");
        assert!(error.suggested_fix().is_some_and(|fix| fix.contains("paginator")), "{what}: {error:?}");
        let asked = asked.load(Ordering::SeqCst);
        assert!(asked <= most, "{what}: {asked} requests");
        assert!(begun.elapsed() < PATIENCE * 3, "{what}: {:?}", begun.elapsed());
    }
}

/// A small generator: the same seed makes the same texts.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below.max(1)
    }
    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..self.next(most)).map(|_| pieces[self.next(pieces.len())]).collect()
    }
    /// A text with a few of its letters changed, doubled or gone.
    fn bent(&mut self, text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        for _ in 0..=self.next(4) {
            if letters.is_empty() {
                break;
            }
            let at = self.next(letters.len());
            match self.next(3) {
                0 => {
                    letters.remove(at);
                }
                1 => letters.insert(at, ['{', '}', '%', '\'', '[', ':', '&', '*', '#', '\n', ' ', 'é', '0'][self.next(13)]),
                _ => letters[at] = letters[self.next(letters.len())],
            }
        }
        letters.into_iter().collect()
    }
}

const MANIFEST: &str = "version: 1.0.0
definitions: {r: &r {type: HttpRequester, url_base: 'http://a', path: b}, s: {$ref: '#/definitions/t', x: 1}, t: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: [a, '*']}}}
check: {type: CheckStream, stream_names: [a]}
streams: [{type: DeclarativeStream, $parameters: {name: a}, retriever: {type: SimpleRetriever, requester: *r, record_selector: {$ref: '#/definitions/s'}}}]
";

fn seeds() -> u64 {
    linkspan_testkit::scale().seeds
}

#[test]
fn bent_manifests_never_end_in_a_panic() {
    assert!(manifest::opened(MANIFEST).is_ok(), "{:?}", manifest::opened(MANIFEST));
    for seed in 0..seeds() {
        let text = Seeded(seed).bent(MANIFEST);
        let begun = Instant::now();
        let _ = manifest::opened(&text);
        assert!(begun.elapsed() < PATIENCE, "seed {seed}: {text}");
    }
}

#[test]
fn random_templates_never_end_in_a_panic() {
    const PIECES: &[&str] = &[
        "{{",
        "}}",
        "{%",
        "%}",
        " ",
        "config",
        ".",
        "l",
        "['a']",
        "|",
        "upper",
        "join",
        "(",
        ")",
        "'x'",
        "1",
        "2.5",
        "-",
        "+",
        "*",
        "/",
        "~",
        " if ",
        " else ",
        " in ",
        " not ",
        " is ",
        "none",
        "for x in ",
        "endfor",
        "set x = ",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "now_utc()",
        "strftime",
        "'%Y'",
        "duration('P1D')",
        "é",
        "\\",
        "\"",
        "==",
        "<",
        "%",
        "format_datetime",
        "max",
        "length",
        "true",
    ];
    let config = json!({"l": [1, 2], "a": "b", "n": null});
    for seed in 0..seeds() * 4 {
        let text = Seeded(seed).text(PIECES, 24);
        let scope = Scope::new(&config, jiff::Timestamp::UNIX_EPOCH);
        let begun = Instant::now();
        let _ = Template::parse(&text, &Map::new()).and_then(|template| template.value(&scope));
        assert!(begun.elapsed() < PATIENCE, "seed {seed}: {text}");
    }
}

#[test]
fn random_formats_of_dates_never_end_in_a_panic() {
    const PIECES: &[&str] = &[
        "%Y",
        "%m",
        "%d",
        "%H",
        "%M",
        "%S",
        "%f",
        "%z",
        "%Z",
        "%s",
        "%ms",
        "%_ms",
        "%s_as_float",
        "%epoch_microseconds",
        "%j",
        "%U",
        "%W",
        "%w",
        "%G",
        "%V",
        "%u",
        "%a",
        "%A",
        "%b",
        "%B",
        "%p",
        "%I",
        "%y",
        "%c",
        "%x",
        "%X",
        "%%",
        "%",
        "%E",
        "-",
        ":",
        "T",
        "é",
        " ",
        ".",
    ];
    const TEXTS: &[&str] =
        &["2024", "02", "29", "1e9", "-", "99999999999999999999", "T", ":", "Z", "+00:00", "é", " ", ".", "PM", "Mon", "0", "nan"];
    for seed in 0..seeds() * 4 {
        let mut seeded = Seeded(seed);
        let (format, text) = (seeded.text(PIECES, 10), seeded.text(TEXTS, 10));
        if let Ok(moment) = Format::new(&format).parse(&text) {
            let _ = Format::new(&format).format(&moment);
        }
    }
}

#[test]
fn random_paths_never_end_in_a_panic() {
    const STEPS: &[&str] = &["a", "b", "0", "-1", "*", "**", "", "[a-z]", "1", "?", "é", "99999999999"];
    for seed in 0..seeds() * 4 {
        let mut seeded = Seeded(seed);
        let path: Vec<Step> = (0..seeded.next(6)).map(|_| Step::of(&Value::from(STEPS[seeded.next(STEPS.len())]))).collect();
        let mut value = json!({"a": {"b": [1, {"a": 2}, [3]], "0": {}}, "": null, "b": "text"});
        let _ = (dpath::values(&value, &path).len(), dpath::get(&value, &path).is_ok());
        let _ = dpath::put(&mut value, &path, json!(1));
        let _ = dpath::delete(&mut value, &path, None);
        dpath::remove_lists(&mut value, &path);
        assert!(value.to_string().len() < 1 << 20, "seed {seed}");
    }
}
