//! One end of a connection: a type with its config, what may be shown of it, and what makes it the same end again.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use linkspan_core::{Connector, ConnectorType, Context, Destination, Error, ErrorKind, Holding, Keeper, MASK, Place, Result, Role, Source};
use serde_json::Value;
use uuid::Uuid;

use super::limited::Limited;
use crate::{
    registry::Registry,
    secrets::{Drawn, Redactor, secrets_of},
};

/// A connector that could be opened.
#[derive(Clone)]
pub struct Endpoint {
    pub kind: ConnectorType,
    config: Value,
    /// How the user called it: a URL without its password, or a name.
    pub shown: String,
    /// Where its config was written down, for errors about it.
    declared: Option<Declared>,
    /// The schemas that may be seen and read; empty: all.
    schemas: Vec<String>,
    /// Kept open by the process, for all that use it.
    opened: Option<Arc<dyn Connector>>,
    keeper: Option<Arc<dyn Keeper>>,
    /// What it came by while it was used.
    drawn: Drawn,
}

/// Passes on what is kept, and notes what is drawn.
struct Hushing {
    inner: Arc<dyn Keeper>,
    drawn: Drawn,
}

#[async_trait]
impl Keeper for Hushing {
    async fn hold(&self, places: &[Place]) -> Result<Box<dyn Holding>> {
        self.inner.hold(places).await
    }
    fn hush(&self, credential: &str) {
        self.drawn.add(credential);
    }
}

/// Where a connector was declared: its name, the place of its config, and the places of the fields in it.
#[derive(Clone, Debug)]
pub struct Declared {
    pub name: String,
    pub place: String,
    pub fields: BTreeMap<String, String>,
}

impl Endpoint {
    pub fn new(kind: ConnectorType, config: Value) -> Self {
        let shown = kind.spec.name.to_string();
        Self { kind, config, shown, declared: None, schemas: vec![], opened: None, keeper: None, drawn: Drawn::default() }
    }

    /// A URL or a path.
    pub fn from_text(text: &str, registry: &Registry) -> Result<Self> {
        let (kind, config) = registry.resolve(text)?;
        Ok(Self { shown: linkspan_core::mask_url(text), ..Self::new(kind, config) })
    }

    /// The same end under the name that the user gave it.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { shown: name.into(), ..self }
    }

    /// The same end, with the place where it was written down.
    pub fn declared(self, at: Declared) -> Self {
        Self { declared: Some(at), ..self }
    }

    /// The same end, of which only these schemas may be seen and read.
    pub fn limited(self, schemas: Vec<String>) -> Self {
        Self { schemas, ..self }
    }

    /// The same end, which is open already and stays so.
    pub fn kept_open(self, opened: Option<Arc<dyn Connector>>) -> Self {
        Self { opened, ..self }
    }

    pub fn is_kept_open(&self) -> bool {
        self.opened.is_some()
    }

    /// The same end, with who keeps what it changes in its config.
    pub fn kept(self, keeper: Arc<dyn Keeper>) -> Self {
        Self { keeper: Some(keeper), ..self }
    }

    /// Takes the secrets of its config, and what it draws, out of what is told about it.
    pub fn redactor(&self) -> Redactor {
        let secrets = self.config.as_object().map(|config| secrets_of(&self.kind.config_schema(), config));
        Redactor::of(&secrets.unwrap_or_default()).and(&self.drawn)
    }

    pub fn drawn(&self) -> &Drawn {
        &self.drawn
    }

    /// The same end; nothing that this process says from now on repeats its secrets.
    pub fn hidden(self) -> Self {
        self.redactor();
        self
    }

    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Relative paths mean this folder.
    pub fn resolve_path(&mut self, folder: &Path) {
        if self.kind.names_files()
            && let Some(Value::String(path)) = self.config.get_mut("path")
            && is_local(path)
            && Path::new(path.as_str()).is_relative()
        {
            *path = folder.join(&*path).display().to_string();
        }
    }

    /// Opens without I/O. A config that does not fit names the place where it was written down.
    pub fn open(&self, context: Context) -> Result<Arc<dyn Connector>> {
        if let Some(opened) = &self.opened {
            return Ok(opened.clone());
        }
        let inner = self.keeper.clone().unwrap_or_else(|| context.keeper.clone());
        let keeper = Arc::new(Hushing { inner, drawn: self.drawn.clone() });
        let config = showing(&self.schemas, &self.kind, self.config.clone());
        self.kind.open(config, Context { keeper, ..context }).map_err(|e| {
            let Some(at) = &self.declared else { return e };
            let field = e.context().iter().find(|(k, _)| *k == "field").map(|(_, v)| v.clone());
            let nearer = field.and_then(|f| at.fields.get(&f)).unwrap_or(&at.place).clone();
            e.with("place", nearer).with("connector", &at.name)
        })
    }

    pub fn open_source(&self, context: Context) -> Result<Arc<dyn Source>> {
        self.source_of(&self.open(context)?)
    }

    pub fn open_destination(&self, context: Context) -> Result<Arc<dyn Destination>> {
        self.destination_of(&self.open(context)?)
    }

    pub fn source_of(&self, opened: &Arc<dyn Connector>) -> Result<Arc<dyn Source>> {
        let source = opened.source().ok_or_else(|| self.lacks(Role::Source))?;
        // Types that limit themselves know more than names: what the login owns, what lies in no schema.
        if self.schemas.is_empty() || schemas_field(&self.kind).is_some() {
            return Ok(source);
        }
        Ok(Arc::new(Limited { inner: source, schemas: self.schemas.clone() }))
    }

    pub(super) fn destination_of(&self, opened: &Arc<dyn Connector>) -> Result<Arc<dyn Destination>> {
        opened.destination().ok_or_else(|| self.lacks(Role::Destination))
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
        self.kind.spec.name == "stdout"
            || self.shown.starts_with("stdout:")
            || (self.config.get("path").is_some_and(|p| p == "-") && self.kind.names_files())
    }

    /// Whether both are one connector, with one login and one set of limits.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.opened, &other.opened) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => self.kind.spec.name == other.kind.spec.name && self.config == other.config,
            _ => false,
        }
    }

    /// Whether both are one system: what is written to one is read from the other.
    pub fn is_same_system(&self, other: &Self, here: &Path) -> bool {
        self.identity(here) == other.identity(here)
    }

    /// The text that is the same whenever it is the same end: type and config without secrets, paths absolute.
    fn identity(&self, here: &Path) -> String {
        let shown = self.kind.redact(&self.config);
        let here = Some(here).filter(|_| self.kind.names_files());
        let fields = shown.as_object().into_iter().flatten().filter(|(k, _)| !OF_USE.contains(&k.as_str()));
        let fields: BTreeMap<&String, String> = fields.filter_map(|(k, v)| Some((k, plain(k, v, here)?))).collect();
        format!("{} {fields:?}", self.kind.spec.name)
    }
}

/// A config that tells a type that limits itself which schemas it may show; all, when none is named.
pub(crate) fn showing(schemas: &[String], kind: &ConnectorType, mut config: Value) -> Value {
    if !schemas.is_empty()
        && let (Some(field), Some(fields)) = (schemas_field(kind), config.as_object_mut())
    {
        fields.insert(field.into(), schemas.into());
    }
    config
}

/// Where a type is told which schemas it may show. A guest's config is its author's.
fn schemas_field(kind: &ConnectorType) -> Option<&'static str> {
    let schema = kind.config_schema();
    ["schemas", "databases"].into_iter().find(|f| !kind.is_guest() && schema["properties"].get(f).is_some())
}

/// How a system is used, not which one it is.
const OF_USE: [&str; 3] = ["pool_size", "max_overflow", "pool_recycle"];

/// A field as it counts for identity; `None` for a secret. `here`: the folder that a relative path means, for types that name files.
fn plain(name: &str, value: &Value, here: Option<&Path>) -> Option<String> {
    match value {
        Value::String(text) if text == MASK => None,
        Value::String(text) if name == "path" && is_local(text) && here.is_some() => {
            here.map(|here| normal(&here.join(text)).display().to_string())
        }
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

    #[test]
    fn paths_are_cleaned_by_their_text() {
        assert_eq!(normal(Path::new("/a/./b/../c")), Path::new("/a/c"));
    }
}
