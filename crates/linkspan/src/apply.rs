//! `apply -f`: what a project file says, made so in the hub. The same file again changes nothing.

use std::{collections::BTreeMap, path::Path};

use clap::ArgMatches;
use http::Method;
use linkspan_app::{
    connectors::canonical,
    schedule::{self, Form, Schedule},
};
use linkspan_core::{ConnectorType, Error, ErrorKind, MASK, ReadMode, Result, Spec};
use serde_json::{Map, Value, json};

use crate::{
    cli::{Apply, Common},
    ends,
    project::{ConnectionEntry, ConnectorEntry, Declared, DeclaredForm, Project},
    remote::{Client, Place, escaped},
    terminal::{Paint, Terminal},
};

/// What is to be done with one thing.
struct Step {
    action: Action,
    /// `connector` or `connection`.
    kind: &'static str,
    name: String,
    /// The fields that change, or all of a new one.
    fields: Map<String, Value>,
    /// A secret stands there that cannot be compared.
    unseen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Create,
    Update,
    Delete,
    Keep,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Keep => "unchanged",
        }
    }
}

/// At the server or data dir that the options name, as for any operation.
pub async fn run(args: &Apply, matches: &ArgMatches, common: &Common, terminal: &Terminal) -> Result<()> {
    let client = Client::open(&Place::of(matches)?, common).await?;
    let done = applied(args, &client, terminal).await;
    client.close().await;
    done
}

/// Shows the plan, then does it; with `--dry-run` only the first.
async fn applied(args: &Apply, client: &Client, terminal: &Terminal) -> Result<()> {
    let project = Project::read(&args.file)?;
    let plan = plan(args, &project, client).await?;
    if !terminal.json() {
        terminal.out(&shown(&plan, terminal.paint_out()));
    }
    if !args.dry_run {
        for step in &plan {
            done(client, step).await.map_err(|e| e.with(step.kind, &step.name))?;
        }
    }
    let count = |action| plan.iter().filter(|s| s.action == action).count();
    let steps: Vec<Value> = plan.iter().map(described).collect();
    let summary = json!({ "plan": steps, "applied": !args.dry_run, "created": count(Action::Create), "updated": count(Action::Update),
        "deleted": count(Action::Delete), "unchanged": count(Action::Keep) });
    terminal.show(&summary, |paint| {
        let counts = format!(
            "{} to create, {} to update, {} to delete, {} unchanged",
            count(Action::Create),
            count(Action::Update),
            count(Action::Delete),
            count(Action::Keep)
        );
        if args.dry_run {
            counts
        } else {
            format!(
                "{}: {}",
                paint.good("applied"),
                counts.replace(" to create", " created").replace(" to update", " updated").replace(" to delete", " deleted")
            )
        }
    });
    Ok(())
}

/// The destination that every project has.
const BUILT_IN: &str = "lake";

async fn plan(args: &Apply, project: &Project, client: &Client) -> Result<Vec<Step>> {
    let connectors = all(client, "connectors").await?;
    let connections = all(client, "connections").await?;
    let mut steps = vec![];
    for name in project.content.connectors.keys() {
        let (kind, config, entry) = resolved(project, name, client).await?;
        steps.push(connector_step(args, name, &kind, config, &entry, connectors.get(name))?);
    }
    for (name, entry) in &project.content.connections {
        steps.push(connection_step(project, name, entry, connections.get(name))?);
    }
    if args.prune {
        let gone = |kind: &'static str, name: &String| Step {
            action: Action::Delete,
            kind,
            name: name.clone(),
            fields: Map::new(),
            unseen: false,
        };
        // What uses a thing goes before the thing.
        steps.extend(connections.keys().filter(|n| !project.content.connections.contains_key(*n)).map(|n| gone("connection", n)));
        steps.extend(connectors.keys().filter(|n| !project.content.connectors.contains_key(*n)).map(|n| gone("connector", n)));
    }
    Ok(steps)
}

/// Everything of a kind that stands, by name.
async fn all(client: &Client, list: &str) -> Result<BTreeMap<String, Value>> {
    let (mut all, mut page) = (BTreeMap::new(), Map::from_iter([("limit".to_owned(), json!(1000))]));
    loop {
        let answer = client.call(&Method::GET, &format!("/v1/{list}"), &page).await?;
        for one in answer[list].as_array().into_iter().flatten() {
            all.insert(one["name"].as_str().unwrap_or_default().to_owned(), one.clone());
        }
        match answer["next_cursor"].as_str() {
            Some(cursor) => drop(page.insert("cursor".into(), json!(cursor))),
            None => return Ok(all),
        }
    }
}

async fn resolved(project: &Project, name: &str, client: &Client) -> Result<(ConnectorType, Value, ConnectorEntry)> {
    let registry = ends::registry();
    let here = client.app().is_some();
    let Some(Declared { entry, form }) = project.connector(name)? else {
        return Err(Error::new(ErrorKind::Internal, "a connector of the file is not in it"));
    };
    let (kind, mut config) = match form {
        DeclaredForm::Url { url, place } => registry.resolve(&url).map_err(|e| e.with("place", place))?,
        DeclaredForm::Typed { type_name, config, type_place, .. } => {
            let kind = match registry.named(&type_name, ErrorKind::ConfigInvalid) {
                Ok(kind) => kind.clone(),
                Err(e) => of_the_hub(&type_name, e, client).await.map_err(|e| e.with("place", type_place))?,
            };
            let config = config(&kind.config_schema());
            (kind, config)
        }
    };
    // As the hub will show it: under the fields' own names, whatever the file calls them.
    if let Value::Object(fields) = config {
        config = Value::Object(canonical(&kind.config_schema(), fields).map_err(|e| e.with("connector", name))?);
    }
    if here
        && kind.names_files()
        && let Some(path) = config["path"].as_str().filter(|p| !p.contains("://") && Path::new(p).is_relative())
    {
        let folder = std::path::absolute(project.folder()).unwrap_or_else(|_| project.folder().to_owned());
        config["path"] = json!(folder.join(path.trim_start_matches("./")).display().to_string());
    }
    Ok((kind, config, entry))
}

/// A type that only the hub knows: a manifest of its catalog.
async fn of_the_hub(name: &str, unknown: Error, client: &Client) -> Result<ConnectorType> {
    let known = match client.call(&Method::GET, &format!("/v1/catalog/{}", escaped(name)), &Map::new()).await {
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(unknown),
        known => known?,
    };
    let spec = Spec { name: known["type"].as_str().unwrap_or(name).to_owned().into(), ..Spec::empty() };
    Ok(ConnectorType::guest(spec, known["config_schema"].clone(), |_, _| {
        Err(Error::new(ErrorKind::Internal, "a type of the hub is opened by the hub"))
    }))
}

fn connector_step(
    args: &Apply,
    name: &str,
    kind: &ConnectorType,
    config: Value,
    entry: &ConnectorEntry,
    stands: Option<&Value>,
) -> Result<Step> {
    let masked = kind.redact(&config);
    let secret = masked != config;
    // What the file does not say of a connector that stands stays as it is there.
    let said = said(json!({
        "description": entry.description, "output_schemas": entry.output_schemas, "enabled": entry.enabled, "query": entry.query,
        "vertical": entry.vertical, "entity_type": entry.entity_type, "name_column": entry.name_column, "batch_size": entry.batch_size,
    }));
    let step =
        |action, fields| Step { action, kind: "connector", name: name.to_owned(), fields, unseen: secret && action != Action::Create };
    let Some(stands) = stands else {
        let own = [("type".to_owned(), json!(kind.spec.name)), ("config".to_owned(), config)];
        return Ok(step(Action::Create, own.into_iter().chain(said).collect()));
    };
    if stands["type"] != *kind.spec.name {
        return Err(Error::new(ErrorKind::Conflict, "the connector stands there with another type")
            .with("connector", name)
            .with("type", stands["type"].as_str().unwrap_or_default())
            .fix("delete it first, or choose another name"));
    }
    let mut fields = Map::new();
    let changes = config_changes(&config, &masked, &stands["config"], args.secrets);
    if !changes.is_empty() {
        fields.insert("config".into(), Value::Object(changes));
    }
    fields.extend(said.into_iter().filter(|(field, value)| stands[field] != *value));
    Ok(step(if fields.is_empty() { Action::Keep } else { Action::Update }, fields))
}

/// The fields that are not null.
fn said(fields: Value) -> Map<String, Value> {
    let Value::Object(fields) = fields else { return Map::new() };
    fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

/// What a merge has to carry: other values, and null for what is gone. Secrets look alike; they go along when asked for.
fn config_changes(config: &Value, masked: &Value, stands: &Value, secrets: bool) -> Map<String, Value> {
    let mut changes = Map::new();
    for (field, value) in config.as_object().into_iter().flatten() {
        let is_secret = masked[field] != *value;
        if masked[field] != stands[field] || (is_secret && secrets) {
            changes.insert(field.clone(), value.clone());
        }
    }
    for (field, value) in stands.as_object().into_iter().flatten() {
        if config.get(field).is_none() && !value.is_null() && value.as_str() != Some(MASK) {
            changes.insert(field.clone(), Value::Null);
        }
    }
    changes
}

fn connection_step(project: &Project, name: &str, entry: &ConnectionEntry, stands: Option<&Value>) -> Result<Step> {
    let is_known = |end: &str| project.content.connectors.contains_key(end);
    // As the hub itself writes a destination: `lake:orders`.
    let names_a_table = entry.target.is_none()
        && entry.to.split_once(':').is_some_and(|(to, table)| (is_known(to) || to == BUILT_IN) && !table.contains('/'));
    for (end, field) in [(&entry.from, "from"), (&entry.to, "to")] {
        if !is_known(end) && (end.contains(':') || end.contains('/')) && !(field == "to" && names_a_table) {
            return Err(project
                .error("a connection of the hub joins connectors, not URLs", &["connections", name, field])
                .fix("give the URL a name under `connectors:` and use the name"));
        }
    }
    let dest = entry.target.as_ref().map_or_else(|| entry.to.clone(), |target| format!("{}:{target}", entry.to));
    let placed = |e: Error, field: &str| {
        let place = project.error("", &["connections", name, field]).context()[0].1.clone();
        e.with("place", place).with("connection", name)
    };
    // These may be written in several ways; the hub shows them in one.
    let schedule = entry.schedule.clone().map(|form| Schedule::try_from(form).map(Form::from).map_err(|e| placed(e, "schedule")));
    let retry = entry.retry.clone().map(|r| r.shown().map_err(|e| placed(e, "retry")));
    let timeout = entry.timeout.as_deref().map(|t| schedule::duration(t).map(schedule::spelled).map_err(|e| placed(e, "timeout")));
    let wanted = json!({
        "from": entry.from, "dest": dest, "streams": entry.streams, "mode": entry.mode.unwrap_or(ReadMode::Full), "cursor": entry.cursor,
        "write": entry.write, "key": entry.key, "swap": entry.swap.unwrap_or_default(), "policies": entry.policies,
        "schedule": schedule.transpose()?, "concurrency": entry.concurrency, "memory": entry.memory,
    });
    let said = said(json!({
        "enabled": entry.enabled, "description": entry.description, "retry": retry.transpose()?, "timeout": timeout.transpose()?,
    }));
    let Value::Object(wanted) = wanted else { return Err(Error::new(ErrorKind::Internal, "a connection is an object")) };
    let step = |action, fields| Step { action, kind: "connection", name: name.to_owned(), fields, unseen: false };
    let Some(stands) = stands else {
        return Ok(step(Action::Create, wanted.into_iter().filter(|(_, v)| !v.is_null()).chain(said).collect()));
    };
    let nothing = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
    let differs = |field: &String, value: &Value| stands[field] != *value && !(nothing(value) && nothing(&stands[field]));
    let fields: Map<String, Value> = wanted.into_iter().chain(said).filter(|(field, value)| differs(field, value)).collect();
    Ok(step(if fields.is_empty() { Action::Keep } else { Action::Update }, fields))
}

async fn done(client: &Client, step: &Step) -> Result<()> {
    let list = format!("/v1/{}s", step.kind);
    let one = format!("{list}/{}", escaped(&step.name));
    let mut fields = step.fields.clone();
    match step.action {
        Action::Keep => return Ok(()),
        Action::Create => {
            fields.insert("name".into(), json!(step.name));
            client.call(&Method::POST, &list, &fields).await?;
        }
        Action::Update => drop(client.call(&Method::PATCH, &one, &fields).await?),
        Action::Delete => drop(client.call(&Method::DELETE, &one, &Map::new()).await?),
    }
    Ok(())
}

fn described(step: &Step) -> Value {
    let changes: Vec<&String> = step.fields.keys().collect();
    json!({ "action": step.action.word(), "kind": step.kind, "name": step.name, "changes": changes, "secrets_not_compared": step.unseen })
}

fn shown(plan: &[Step], paint: Paint) -> String {
    let line = |step: &Step| {
        let what = format!("{} {}", step.kind, step.name);
        let changes = step.fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        match step.action {
            Action::Create => format!("{} {what}", paint.good("+")),
            Action::Update => format!("{} {what}: {changes}", paint.warn("~")),
            Action::Delete => format!("{} {what}", paint.bad("-")),
            Action::Keep if step.unseen => paint.dim(&format!("= {what} (its secrets are not compared; --secrets sends them)")),
            Action::Keep => paint.dim(&format!("= {what}")),
        }
    };
    plan.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent_and_what_is_gone_is_taken_away() {
        let config = json!({"host": "b", "port": 5432, "password": "new"});
        let masked = json!({"host": "b", "port": 5432, "password": MASK});
        let stands = json!({"host": "a", "port": 5432, "password": MASK, "sslmode": "require", "token": MASK});
        let changes = config_changes(&config, &masked, &stands, false);
        assert_eq!(Value::Object(changes), json!({"host": "b", "sslmode": null}));
        let with_secrets = config_changes(&config, &masked, &stands, true);
        assert_eq!(with_secrets["password"], "new");
        assert!(config_changes(&masked, &masked, &masked, false).is_empty());
    }
}
