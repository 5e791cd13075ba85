//! Templates, beside what the reference made of them.

use linkspan_airbyte::{
    slice::Slice,
    template::{Condition, Scope, Template},
};
use serde_json::{Map, Value, json};

use crate::{all_equal, vectors};

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

struct Names {
    config: Value,
    record: Value,
    response: Value,
    headers: Value,
    token: Value,
    slice: Slice,
    parameters: Map<String, Value>,
}

impl Names {
    fn load() -> Self {
        let path = format!("{}/tests/vectors/templates_scope.json", env!("CARGO_MANIFEST_DIR"));
        let mut all: Value =
            serde_json::from_str(&std::fs::read_to_string(path).expect("the vectors are in the repository")).expect("the vectors are JSON");
        let slice =
            Slice::new(object(&all["slice"][0]), object(&all["slice"][1]), object(&all["slice"][2])).expect("the vectors hold a slice");
        let mut taken = |name: &str| all[name].take();
        Self {
            config: taken("config"),
            record: taken("record"),
            response: taken("response"),
            headers: taken("headers"),
            parameters: object(&taken("parameters")),
            token: json!({"next_page_token": 5}),
            slice,
        }
    }

    fn scope(&self) -> Scope<'_> {
        let now = "2024-03-15T12:00:00.123456Z".parse().expect("it is a time");
        Scope::new(&self.config, now)
            .record(&self.record)
            .response(&self.response)
            .headers(&self.headers)
            .slice(&self.slice)
            .next_page_token(&self.token)
            .last_record(&self.record)
            .last_page_size(2)
    }
}

fn shown(result: linkspan_core::Result<Value>) -> Value {
    match result {
        Ok(value) => json!({ "value": value }),
        Err(_) => "error".into(),
    }
}

fn theirs(outcome: &Value) -> Value {
    if outcome.get("error").is_some() { "error".into() } else { outcome.clone() }
}

#[test]
fn a_template_gives_what_the_reference_gives() {
    let names = Names::load();
    all_equal("templates", 1500, |v| {
        let text = v["template"].as_str().unwrap();
        let template = || Template::parse(text, &names.parameters).unwrap();
        let condition = Condition::parse(&text.into(), &names.parameters).unwrap();
        let ours = json!([
            shown(template().eval(&names.scope())),
            shown(template().value(&names.scope())),
            shown(condition.eval(&names.scope()).map(Value::Bool)),
        ]);
        (ours, json!([theirs(&v["eval"]), theirs(&v["string"]), theirs(&v["bool"])]))
    });
    assert!(!vectors("templates").is_empty());
}

#[test]
fn hostile_templates_end_in_bounded_time() {
    let names = Names::load();
    let nested = |open: &str, close: &str, count: usize| format!("{{{{ {}1{} }}}}", open.repeat(count), close.repeat(count));
    let bombs = [
        "{{ 'x' * 100000000 }}".to_owned(),
        "{{ [0] * 100000000 }}".into(),
        "{% for a in 'xxxxxxxxxx' * 1000 %}{% for b in 'xxxxxxxxxx' * 1000 %}{% for c in 'xxxxxxxxxx' * 1000 %}x{% endfor %}{% endfor %}{% endfor %}".into(),
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}".into(),
        "{% set n = namespace(x=[]) %}{% for i in 'x' * 60000 %}{% set n.x = [n.x] %}{% endfor %}{{ n.x | length }}".into(),
        "{% set n = namespace(x=[]) %}{% for i in 'x' * 60000 %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}".into(),
        "{% set x = [] %}{% set _ = x.append(x) %}{{ x }}".into(),
        "{{ 'a'.ljust(10 ** 12) }}".into(),
        "{{ '%1000000000d' % 1 }}".into(),
        "{{ '{:>1000000000}'.format(1) }}".into(),
        "{{ ('a' * 30) | regex_search('((a*)*)*b') }}".into(),
        "{{ '' | replace('', 'x' * 1000000) | replace('x', 'y' * 100000) }}".into(),
        "{{ 9 ** 99999999 }}".into(),
        "{{ day_delta(10 ** 30) }}".into(),
        nested("(", ")", 100_000),
        nested("[", "]", 100_000),
        nested("not ", "", 100_000),
        nested("-", "", 100_000),
        nested("1+", "", 100_000),
        nested("1 if 1 else ", "", 100_000),
        nested("x.", "", 100_000),
        "{% if 1 %}".repeat(50_000),
        "{{ 'a' | indent(10 ** 18) }}".into(),
        "{% for i in 'x' * 3000 recursive %}{{ loop('xxxxxxxxxx') }}{% endfor %}".into(),
    ];
    for bomb in bombs {
        let began = std::time::Instant::now();
        let _ = Template::parse(&bomb, &names.parameters).unwrap().eval(&names.scope());
        assert!(began.elapsed().as_secs() < 20, "{} took {:?}", &bomb[..bomb.len().min(80)], began.elapsed());
    }
}
