//! One end of a connection: a type with its config, what may be shown of it, and what makes it the same end again.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use linkspan_core::{Connector, ConnectorType, Context, Destination, Error, ErrorKind, MASK, Result, Role, Source};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    project::{Declared, Project},
    registry::Registry,
};

/// A connector that could be opened.
#[derive(Clone)]
pub struct Endpoint {
    pub kind: ConnectorType,
    config: Value,
    /// How the user called it: a URL without its password, or a name.
    pub shown: String,
    /// The connector's name in the project file, and where its config stands there.
    declared: Option<(String, String)>,
}

impl Endpoint {
    pub fn new(kind: ConnectorType, config: Value) -> Self {
        let shown = kind.spec.name.to_string();
        Self { kind, config, shown, declared: None }
    }

    /// A name of the project file, a URL or a path.
    pub fn find(text: &str, registry: &Registry, project: Option<&Project>) -> Result<Self> {
        let Some(project) = project else { return Self::from_text(text, registry) };
        let relative_to = project.folder();
        let (mut endpoint, place) = match project.connector(text)? {
            Some(Declared::Url { url, place }) => {
                let found = Self::from_text(&url, registry).map_err(|e| e.with("place", &place).with("connector", text))?;
                (Self { shown: text.to_owned(), ..found }, place)
            }
            Some(Declared::Typed { type_name, config, place, type_place }) => {
                let (kind, config) = registry.typed(&type_name, config).map_err(|e| e.with("place", type_place).with("connector", text))?;
                (Self { shown: text.to_owned(), ..Self::new(kind, config) }, place)
            }
            None => (Self::from_text(text, registry).map_err(|e| unknown_name(e, text, project))?, String::new()),
        };
        endpoint.resolve_path(relative_to);
        if !place.is_empty() {
            endpoint.declared = Some((text.to_owned(), place));
        }
        Ok(endpoint)
    }

    fn from_text(text: &str, registry: &Registry) -> Result<Self> {
        let (kind, config) = registry.resolve(text)?;
        Ok(Self { shown: linkspan_core::mask_url(text), ..Self::new(kind, config) })
    }

    fn resolve_path(&mut self, folder: &Path) {
        if let Some(Value::String(path)) = self.config.get_mut("path")
            && is_local(path)
            && Path::new(path.as_str()).is_relative()
        {
            *path = folder.join(&*path).display().to_string();
        }
    }

    /// Opens without I/O. A config that does not fit names its place in the project file.
    pub fn open(&self, context: Context, project: Option<&Project>) -> Result<Arc<dyn Connector>> {
        self.kind.open(self.config.clone(), context).map_err(|e| {
            let Some((name, place)) = &self.declared else { return e };
            let field = e.context().iter().find(|(k, _)| *k == "field").map(|(_, v)| v.clone());
            let nearer = field.and_then(|f| project?.place_of_field(name, &f));
            e.with("place", nearer.unwrap_or_else(|| place.clone())).with("connector", name)
        })
    }

    pub fn open_source(&self, context: Context, project: Option<&Project>) -> Result<Arc<dyn Source>> {
        let connector = self.open(context, project)?;
        connector.source().ok_or_else(|| self.lacks(Role::Source))
    }

    pub fn open_destination(&self, context: Context, project: Option<&Project>) -> Result<Arc<dyn Destination>> {
        let connector = self.open(context, project)?;
        connector.destination().ok_or_else(|| self.lacks(Role::Destination))
    }

    fn lacks(&self, role: Role) -> Error {
        let (what, other) = match role {
            Role::Source => ("cannot be read from", "a source"),
            _ => ("cannot be written to", "a destination"),
        };
        Error::new(ErrorKind::Unsupported, format!("{} {what}", self.kind.spec.title))
            .with("connector_type", &self.kind.spec.name)
            .fix(format!("`linkspan catalog list` shows which types can be {other}"))
    }

    /// Whether rows written here leave by stdout.
    pub fn takes_stdout(&self) -> bool {
        self.kind.spec.name == "stdout" || self.shown.starts_with("stdout:") || self.config.get("path").is_some_and(|p| p == "-")
    }

    /// Whether both are one system: what is written to one is read from the other.
    pub fn is_same_system(&self, other: &Self, here: &Path) -> bool {
        self.identity(here) == other.identity(here)
    }

    /// The text that is the same whenever it is the same end: type and config without secrets, paths absolute.
    fn identity(&self, here: &Path) -> String {
        let shown = self.kind.redact(&self.config);
        let fields: BTreeMap<&String, String> =
            shown.as_object().into_iter().flatten().filter_map(|(k, v)| Some((k, plain(k, v, here)?))).collect();
        format!("{} {fields:?}", self.kind.spec.name)
    }
}

/// A field as it counts for identity; `None` for a secret.
fn plain(name: &str, value: &Value, here: &Path) -> Option<String> {
    match value {
        Value::String(text) if text == MASK => None,
        Value::String(text) if name == "path" && is_local(text) => Some(normal(&here.join(text)).display().to_string()),
        Value::String(text) => Some(without_secrets(text)),
        other => Some(other.to_string()),
    }
}

/// A masked URL without its masks, so that a password given elsewhere makes no other connection.
fn without_secrets(url: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, ""), |(b, q)| (b, q));
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.ends_with(MASK)).collect();
    let mut text = base.replace(&format!(":{MASK}@"), "@");
    if !kept.is_empty() {
        text.push('?');
        text.push_str(&kept.join("&"));
    }
    text
}

fn is_local(path: &str) -> bool {
    !path.is_empty() && path != "-" && !path.contains("://")
}

/// The path without `.` and `..`, by its text alone: what it names need not exist.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

fn unknown_name(e: Error, text: &str, project: &Project) -> Error {
    let names = project.content.connectors.keys().map(String::as_str);
    if text.contains(':') || text.contains('/') {
        return e;
    }
    let fix = linkspan_core::suggest::did_you_mean(text, names)
        .unwrap_or_else(|| "name a connector of this file under `connectors:`, or give a URL".into());
    Error::new(ErrorKind::ConfigInvalid, format!("the project file has no connector `{text}`")).fix(fix)
}

/// Which connection two ends make. A name of the user's own makes it another one.
pub fn connection_id(from: &Endpoint, to: &Endpoint, name: Option<&str>, here: &Path) -> Uuid {
    const LINKSPAN: Uuid = Uuid::from_u128(0x6c69_6e6b_7370_416e_8a5e_0a7d_4c1e_9b30);
    let text = format!("{}\n{}\n{}", from.identity(here), to.identity(here), name.unwrap_or_default());
    Uuid::new_v5(&LINKSPAN, text.as_bytes())
}

/// The name of a connection that the user did not name: readable, and one per identity.
pub fn derived_name(from: &Endpoint, to: &Endpoint, id: Uuid) -> String {
    let short = &id.simple().to_string()[..8];
    format!("{}-to-{}-{short}", from.kind.spec.name, to.kind.spec.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(from: &str, to: &str, here: &str) -> Uuid {
        let registry = Registry::new();
        let find = |text| Endpoint::find(text, &registry, None).unwrap();
        connection_id(&find(from), &find(to), None, Path::new(here))
    }

    #[test]
    fn a_password_makes_no_other_connection() {
        let plain = id("faker:", "postgres://u@h/db?sslmode=require", "/a");
        assert_eq!(plain, id("faker:", "postgres://u:p1@h/db?sslmode=require", "/a"));
        assert_eq!(plain, id("faker:", "postgres://u:p2@h/db?sslmode=require", "/b"));
        assert_ne!(plain, id("faker:", "postgres://u:p2@h/other?sslmode=require", "/a"));
        assert_ne!(plain, id("faker:?seed=8", "postgres://u@h/db?sslmode=require", "/a"));
    }

    #[test]
    fn paths_are_cleaned_by_their_text() {
        assert_eq!(normal(Path::new("/a/./b/../c")), Path::new("/a/c"));
    }
}
