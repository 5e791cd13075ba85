//! The commands that call operations, read from their table: a new operation is a new command.

use clap::{Arg, ArgAction, ArgMatches, Command};
use linkspan_app::{Cli, Done, Face, Operation};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{
    at,
    fields::{Field, Kind},
};

/// What a verb written by hand is about.
const TARGET: &str = "target";
/// The whole input as JSON, for what no option can say.
const INPUT: &str = "in_whole";

/// One operation that was asked for on the command line.
pub struct Call {
    pub operation: Operation,
    pub input: Value,
}

/// The command line with a command for every operation that has one and is not written by hand.
pub fn with_operations(mut command: Command, operations: &[Operation]) -> Command {
    for (operation, cli) in operations.iter().filter_map(|o| Some((o, o.cli?))).filter(|(o, _)| o.has(Face::Cli)) {
        let words: Vec<&'static str> = cli.words.split(' ').collect();
        command = placed(command, &words, &|word| leaf(word, operation, cli));
    }
    let catalog = |catalog: Command| {
        ["list", "show", "add"].into_iter().fold(catalog, |all, verb| all.mut_subcommand(verb, |by_hand| by_hand.args(at::args())))
    };
    let connectors = |connectors: Command| connectors.mut_subcommand("upload", |by_hand| by_hand.args(at::args()));
    let command = command
        .mut_subcommand("apply", |by_hand| by_hand.args(at::args()))
        .mut_subcommand("catalog", catalog)
        .mut_subcommand("connectors", connectors)
        .mut_subcommand("auth", |auth| auth.subcommand(token()));
    ORDER.iter().enumerate().fold(command, |all, (i, word)| all.mut_subcommand(word, |verb| verb.display_order(i)))
}

/// How `--help` lists the verbs: what one begins with first.
const ORDER: [&str; 19] = [
    "demo",
    "sync",
    "serve",
    "apply",
    "catalog",
    "connectors",
    "connections",
    "auth",
    "users",
    "projects",
    "members",
    "keys",
    "audit",
    "health",
    "project",
    "manifest",
    "airbyte",
    "singer-target",
    "completions",
];

/// Written by hand: what it prints is kept on this machine.
fn token() -> Command {
    let example = "Example:\n  curl -H \"Authorization: Bearer $(linkspan auth token)\" http://127.0.0.1:8007/v1/connectors";
    Command::new("token")
        .about("Print the credential of a sign-in, or the admin's key of the data dir, for other programs")
        .after_help(example)
        .args(at::args())
}

/// What `auth token` was given, when that was asked for.
pub fn token_asked(matches: &ArgMatches) -> Option<ArgMatches> {
    matches.subcommand_matches("auth")?.subcommand_matches("token").cloned()
}

fn placed(command: Command, words: &[&'static str], leaf: &dyn Fn(&'static str) -> Command) -> Command {
    let Some((first, rest)) = words.split_first() else { return command };
    match (command.find_subcommand(first).is_some(), rest.is_empty()) {
        // Written by hand: it has more to do than to call, but may do that too.
        (true, true) => command.mut_subcommand(first, |by_hand| by_hand.args(at::args())),
        (false, true) => command.subcommand(leaf(first)),
        (true, false) => command.mut_subcommand(first, |below| placed(below, rest, leaf)),
        (false, false) => {
            let group = Command::new(*first).about(about(first)).subcommand_required(true).arg_required_else_help(true);
            command.subcommand(placed(group, rest, leaf))
        }
    }
}

fn about(noun: &str) -> &'static str {
    match noun {
        "auth" => "Sign in, and who may do what",
        "users" => "The people of the installation",
        "projects" => "The projects that everything belongs to",
        "members" => "Who has which role in a project",
        "keys" => "Keys: of the API, of secrets at rest",
        "connections" => "What flows from where to where, and when",
        "runs" => "The runs of connections",
        "audit" => "Who did what",
        _ => "More of the operations",
    }
}

fn leaf(word: &'static str, operation: &Operation, cli: Cli) -> Command {
    let example = format!("The same over HTTP: {} {}", operation.method, operation.path);
    let about = operation.doc.trim_end_matches('.');
    let mut command = Command::new(word).about(about).after_help(example).allow_missing_positional(true);
    let fields = Field::of(operation);
    for (i, name) in cli.positional.iter().enumerate() {
        if let Some(field) = fields.iter().find(|f| f.name == *name) {
            let value_name = field.name.to_uppercase();
            let must = field.required && field.kind != Kind::Secret;
            let arg = Arg::new(field.id()).value_name(value_name).required(must).index(i + 1).help(field.doc.clone());
            command = command.arg(arg);
        }
    }
    for field in fields.iter().filter(|f| !cli.positional.contains(&f.name.as_str())) {
        command = command.arg(option(field));
        if field.kind == Kind::Secret {
            let help = format!("Take the {} from the first line of stdin", field.name);
            let flag = Arg::new(field.stdin_flag()).long(field.stdin_flag()).action(ArgAction::SetTrue).conflicts_with(field.id());
            command = command.arg(flag.help(help));
        }
    }
    let has_body = operation.method != http::Method::GET && operation.method != http::Method::DELETE;
    let has_whole = has_body && (fields.len() > cli.positional.len() || operation.input()["additionalProperties"] == true);
    if has_whole {
        let help = "The request's fields as one JSON object, @FILE or - for stdin; options win over it";
        command = command.arg(Arg::new(INPUT).long("input").value_name("JSON").help(help));
    }
    if matches!(operation.done, Done::Accepted(_)) {
        command = command
            .arg(Arg::new(at::WAIT).long("wait").action(ArgAction::SetTrue).help("Wait for the run's end; without a server always so"));
    }
    command.args(at::args())
}

fn option(field: &Field) -> Arg {
    let arg = Arg::new(field.id()).long(field.long()).help(field.doc.clone());
    match &field.kind {
        Kind::Boolean => arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("true|false"),
        Kind::List(_) => arg.action(ArgAction::Append).value_delimiter(',').value_name("VALUE,.."),
        Kind::Either => arg.action(ArgAction::Append).value_name("VALUE | JSON"),
        Kind::Object => arg.action(ArgAction::Append).value_name("JSON | FIELD=VALUE"),
        Kind::Scalar(_) => arg.value_name("VALUE"),
        Kind::Secret => arg.value_name("VALUE | @FILE | -"),
    }
}

/// The operation that these words mean, with its input; nothing when they mean a verb written by hand.
pub fn asked(matches: &ArgMatches, operations: Vec<Operation>, person: &Person<'_>) -> Option<(Result<Call>, ArgMatches)> {
    let (mut words, mut below) = (vec![], matches);
    while let Some((word, inner)) = below.subcommand() {
        words.push(word);
        below = inner;
    }
    let words = words.join(" ");
    let operation = operations.into_iter().find(|o| o.cli.is_some_and(|c| c.words == words))?;
    let input = match below.try_get_one::<String>(TARGET) {
        Ok(Some(target)) => by_hand(&operation, target, below)?,
        _ => input(&operation, below, person),
    };
    Some((input.map(|input| Call { operation, input }), below.clone()))
}

/// A verb written by hand takes URLs and files; what it is given here is a name that the hub knows.
fn by_hand(operation: &Operation, target: &str, given: &ArgMatches) -> Option<Result<Value>> {
    let in_project_file = given.try_contains_id("file").unwrap_or(false);
    let is_name = !target.contains([':', '/', '.', '\\']) && !std::path::Path::new(target).exists();
    let field = operation.placeholders().first().copied()?;
    (is_name && !in_project_file).then(|| Ok(serde_json::json!({ field: target })))
}

/// Who gives what no command line should hold.
pub struct Person<'a> {
    /// The first line of stdin.
    pub line: &'a dyn Fn() -> Result<String>,
    /// What is typed unseen after a prompt; nothing where nobody can be asked.
    pub unseen: &'a dyn Fn(&str) -> Result<Option<String>>,
}

fn input(operation: &Operation, given: &ArgMatches, person: &Person<'_>) -> Result<Value> {
    let read = |text: &str| read(text, person.line);
    let mut input = match given.try_get_one::<String>(INPUT) {
        Ok(Some(text)) => whole(&read(text)?)?,
        _ => Map::new(),
    };
    for field in Field::of(operation) {
        if given.try_get_one::<bool>(&field.stdin_flag()).ok().flatten() == Some(&true) {
            input.insert(field.name.clone(), (person.line)()?.into());
        } else if let Ok(Some(values)) = given.try_get_many::<String>(&field.id()) {
            let values: Vec<&str> = values.map(String::as_str).collect();
            input.insert(field.name.clone(), field.value(&values, &read)?);
        } else if field.kind == Kind::Secret && field.required && !input.contains_key(&field.name) {
            input.insert(field.name.clone(), typed(&field, &input, person)?.into());
        }
    }
    Ok(Value::Object(input))
}

/// A secret that is needed and was not given. One that is new is typed twice.
fn typed(field: &Field, so_far: &Map<String, Value>, person: &Person<'_>) -> Result<String> {
    let name = if field.name == "password" { "password".to_owned() } else { format!("{} password", field.name) };
    let whose = so_far.get("email").and_then(Value::as_str).map(|email| format!(" of {email}")).unwrap_or_default();
    let ask = |prompt: &str| {
        (person.unseen)(prompt)?.ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid, format!("the {name} is not given, and there is no terminal to ask at"))
                .with("field", &field.name)
                .fix(format!("add --{}, or --{} @FILE", field.stdin_flag(), field.long()))
        })
    };
    let first = ask(&format!("{name}{whose}: "))?;
    if field.name == "new" && ask(&format!("{name} once more: "))? != first {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the two passwords differ").with("field", &field.name).fix("type it again"));
    }
    Ok(first)
}

fn whole(text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(ErrorKind::ConfigInvalid, "--input is not one JSON object")
            .with("line", e.line())
            .with("column", e.column())
            .fix("write it as '{\"field\": \"value\"}', or as @FILE")
    })
}

/// A value as it stands, what is in `@FILE`, or what stdin says.
fn read(text: &str, stdin: &dyn Fn() -> Result<String>) -> Result<String> {
    match (text, text.strip_prefix('@')) {
        ("-", _) => stdin(),
        (_, Some(path)) => std::fs::read_to_string(path)
            .map(|t| t.trim_end_matches('\n').to_owned())
            .map_err(|e| linkspan_core::file_error("the file cannot be read", path.as_ref(), e)),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn call(args: &[&str]) -> Result<Call> {
        let operations = linkspan_server::operations();
        let command = with_operations(crate::cli::Cli::command(), &operations);
        let matches = command.try_get_matches_from(args).map_err(|e| Error::new(ErrorKind::ConfigInvalid, e.to_string()))?;
        let person = Person { line: &|| Ok("from stdin".into()), unseen: &|prompt| Ok(Some(format!("typed at {prompt}"))) };
        asked(&matches, operations, &person).expect("an operation").0
    }

    #[test]
    fn the_whole_command_line_is_well_formed() {
        with_operations(crate::cli::Cli::command(), &linkspan_server::operations()).debug_assert();
    }

    #[test]
    fn every_operation_with_words_can_be_called_by_them() {
        let operations = linkspan_server::operations();
        let command = with_operations(crate::cli::Cli::command(), &operations);
        for cli in operations.iter().filter_map(|o| o.cli) {
            let found = cli.words.split(' ').try_fold(&command, |at, word| at.find_subcommand(word));
            assert!(found.is_some(), "{}", cli.words);
        }
    }

    #[test]
    fn places_options_lists_and_secrets_become_the_input() {
        let made =
            call(&["linkspan", "auth", "keys", "create", "ci", "--role", "viewer", "--scopes", "a:read,b:*", "--expires-in-days", "7"]);
        let made = made.unwrap();
        assert_eq!(made.operation.name, "keys.create");
        let want = serde_json::json!({"name": "ci", "role": "viewer", "scopes": ["a:read", "b:*"], "expires_in_days": 7});
        assert_eq!(made.input, want);
        let login = call(&["linkspan", "auth", "login", "ada@example.com", "--password", "-"]).unwrap();
        assert_eq!(login.input, serde_json::json!({"email": "ada@example.com", "password": "from stdin"}));
        let login = call(&["linkspan", "auth", "login", "ada@example.com", "--password-stdin"]).unwrap();
        assert_eq!(login.input, serde_json::json!({"email": "ada@example.com", "password": "from stdin"}));
        assert!(call(&["linkspan", "auth", "login", "a@b.c", "--password", "x", "--password-stdin"]).is_err(), "one of the two");
    }

    #[test]
    fn a_secret_that_is_needed_and_not_given_is_asked_for() {
        let login = call(&["linkspan", "auth", "login", "ada@example.com"]).unwrap();
        assert_eq!(login.input["password"], "typed at password of ada@example.com: ");
        let made = call(&["linkspan", "auth", "create-user", "ada@example.com"]).unwrap();
        assert_eq!(made.input, serde_json::json!({"email": "ada@example.com"}), "what is not needed is not asked for");
        assert!(call(&["linkspan", "auth", "password", "--current", "x"]).is_err(), "a new one is typed twice, and alike");
    }

    #[test]
    fn options_win_over_the_whole_input() {
        let made = call(&["linkspan", "projects", "create", "acme", "--input", r#"{"name": "x", "description": "d"}"#]).unwrap();
        assert_eq!(made.input, serde_json::json!({"name": "acme", "description": "d"}));
        assert_eq!(call(&["linkspan", "projects", "create", "acme", "--input", "[1]"]).err().unwrap().kind(), ErrorKind::ConfigInvalid);
    }
}
