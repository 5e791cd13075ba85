//! What a document prints: its shell commands, its routes, its JSON.

use std::path::PathBuf;

use linkspan_testkit::servers;
use serde_json::Value;

/// One document.
pub struct Print {
    pub text: String,
}

impl Print {
    /// `None` after a line when the documents are not beside the repository.
    pub fn of(name: &str) -> Option<Self> {
        let file: PathBuf = servers::shared("reference")?.join(format!("{name}.txt"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Some(Self { text })
    }
    /// The shell commands that begin with this program, each from the start of its line to its end, quotes and continuations included.
    pub fn commands(&self, program: &str) -> Vec<&str> {
        let starts = self.text.match_indices(program).map(|(at, _)| at);
        let lines = starts.filter(|at| *at == 0 || self.text[..*at].ends_with('\n'));
        lines.map(|at| &self.text[at..at + command_end(&self.text[at..])]).collect()
    }
    /// `GET /api/connectors`: every route that is named anywhere, once, in order.
    pub fn routes(&self) -> Vec<String> {
        let mut all: Vec<(usize, String)> = vec![];
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            for (at, _) in self.text.match_indices(method) {
                let rest = self.text[at + method.len()..].trim_start_matches(' ');
                let path: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || "/_{}:0123456789".contains(*c)).collect();
                if path.starts_with('/') {
                    all.push((at, format!("{method} {path}")));
                }
            }
        }
        all.sort();
        let mut once: Vec<String> = vec![];
        for (_, route) in all {
            if !once.contains(&route) {
                once.push(route);
            }
        }
        once
    }
    /// The JSON object that stands behind these words, byte for byte.
    pub fn block_after(&self, words: &str) -> &str {
        let at = self.text.find(words).unwrap_or_else(|| panic!("the document does not say `{words}`")) + words.len();
        let from = at + self.text[at..].find('{').unwrap_or_else(|| panic!("no object behind `{words}`"));
        &self.text[from..from + object_end(&self.text[from..])]
    }
    /// The same to be compared with: comments and what was left out (`...`) taken away.
    pub fn json_after(&self, words: &str) -> Value {
        let bare = self.block_after(words).replace("\n// ", "\n").replace("{ ... }", "{}").replace("{...}", "{}").replace(", ... }", " }");
        serde_json::from_str(&bare).unwrap_or_else(|e| panic!("{e}: {bare}"))
    }
    /// Every object in which this field is the second one, as the documents print a thing that is to be made.
    pub fn blocks_with(&self, field: &str) -> Vec<&str> {
        let opened = self.text.match_indices("{\n\"name\":").map(|(at, _)| &self.text[at..]);
        opened.map(|rest| &rest[..object_end(rest)]).filter(|block| block.lines().nth(2).is_some_and(|l| l.contains(field))).collect()
    }
}

fn command_end(text: &str) -> usize {
    let (mut quoted, mut before) = (false, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '\n' if !quoted && before != '\\' => return at,
            _ => {}
        }
        before = c;
    }
    text.len()
}

fn object_end(text: &str) -> usize {
    let (mut depth, mut quoted) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    panic!("an object has no end: {text}")
}

/// Whether an answer has every field that is printed, each of the printed kind, at every depth.
#[track_caller]
pub fn has_the_shape_of(got: &Value, printed: &Value) {
    if let Err(at) = alike(got, printed, "answer") {
        panic!("{at}: {got:#} is not like {printed:#}");
    }
}

fn alike(got: &Value, printed: &Value, at: &str) -> Result<(), String> {
    match (printed, got) {
        (Value::Object(printed), Value::Object(got)) => printed.iter().try_for_each(|(name, p)| match got.get(name) {
            Some(got) => alike(got, p, &format!("{at}.{name}")),
            None => Err(format!("{at}.{name}")),
        }),
        (Value::Array(printed), Value::Array(got)) => match printed.first() {
            Some(p) if got.is_empty() => Err(format!("{at} is empty and should hold {p}")),
            Some(p) => got.iter().try_for_each(|g| alike(g, p, &format!("{at}[]"))),
            None => Ok(()),
        },
        (Value::Null, _) => Ok(()),
        (Value::String(_), Value::String(_)) | (Value::Number(_), Value::Number(_)) | (Value::Bool(_), Value::Bool(_)) => Ok(()),
        _ => Err(at.to_owned()),
    }
}

#[test]
fn commands_routes_and_objects_are_read_as_they_stand() {
    let text = "see GET /a/{id}.\ncurl -X POST https://h/a \\\n-d '{\n\"x\": \"}\"\n}'\nGET/a/{id}Show. POST /a\n{\n\"name\": \"n\",\n\"kind\": \"k\"\n}// { \"a\": 1, ... }";
    let print = Print { text: text.to_owned() };
    assert_eq!(print.commands("curl "), ["curl -X POST https://h/a \\\n-d '{\n\"x\": \"}\"\n}'"]);
    assert_eq!(print.routes(), ["GET /a/{id}", "POST /a"]);
    assert_eq!(print.block_after("-d '"), "{\n\"x\": \"}\"\n}");
    assert_eq!(print.blocks_with("\"kind\""), ["{\n\"name\": \"n\",\n\"kind\": \"k\"\n}"]);
    assert_eq!(print.json_after("// "), serde_json::json!({"a": 1}));
    assert!(alike(&serde_json::json!({"a": [{"b": null}]}), &serde_json::json!({"a": [{"b": "x"}]}), "").is_err());
}
