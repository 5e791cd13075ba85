//! Project files: connectors and connections in YAML, with `${ENV}` for what differs or is secret.

mod decode;
mod env;
mod schema;
mod tree;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use linkspan_app::{connections::Retries, schedule::Form};
use linkspan_core::{Error, ErrorKind, ReadMode, Result, Swap, WriteMode, file_error, suggest};
use linkspan_engine::{gate::Policies, plan::Choice};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

pub use self::schema::schema;
use self::tree::Node;

/// A Linkspan project: systems by name, and what moves between them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectFile {
    /// Systems, by a name of your choice.
    #[serde(default)]
    pub connectors: BTreeMap<String, ConnectorEntry>,
    /// What moves, by a name of your choice. Each keeps its own position.
    #[serde(default)]
    pub connections: BTreeMap<String, ConnectionEntry>,
}

/// One system: either `type` and `config`, or a `url`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectorEntry {
    /// A type of `linkspan catalog list`.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// The type's fields (`linkspan catalog show TYPE`). Put secrets in as `${NAME}`.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    pub config: Option<serde::de::IgnoredAny>,
    /// The short form, as on the command line: `postgres://user:${PASSWORD}@host/db`, `parquet:./out`.
    pub url: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// The schemas that may be discovered and read; left out: those that the login owns.
    pub output_schemas: Option<Vec<String>>,
    /// For the hub: false keeps everybody from using it.
    pub enabled: Option<bool>,
    /// For the hub: what `connectors pull` runs. `:last_pull` in it is bound to the start of the last successful pull.
    pub query: Option<String>,
    /// For the hub: a pull writes to `<vertical>_<entity_type>`.
    pub vertical: Option<String>,
    /// For the hub: what the rows of the query are.
    pub entity_type: Option<String>,
    /// For the hub: the column of the query that names an entity.
    pub name_column: Option<String>,
    /// For the hub: rows per batch of a pull.
    #[schemars(range(min = 1))]
    pub batch_size: Option<u32>,
}

/// What moves from where to where, and how.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionEntry {
    /// Its identity where destinations keep positions. With it in the file, a new data dir goes on where an old one stopped.
    #[schemars(with = "Option<String>", extend("format" = "uuid"))]
    pub id: Option<Uuid>,
    /// A connector's name, or a URL.
    pub from: String,
    /// A connector's name, or a URL.
    pub to: String,
    /// Names or patterns (`public.*`, `orders`), each with what differs for it; all when left out.
    #[serde(default)]
    pub streams: Vec<Choice>,
    /// How streams are read: `full`, `incremental` or `cdc`.
    pub mode: Option<ReadMode>,
    /// The column that tells what is new.
    pub cursor: Option<String>,
    /// How rows are written: `append`, `replace` or `merge`.
    pub write: Option<WriteMode>,
    /// The columns that identify a row.
    #[serde(default)]
    pub key: Vec<String>,
    /// Another name at the destination: a table for one stream, a schema for several.
    pub target: Option<String>,
    /// How a replaced table becomes visible: `rename`, or `rewrite` (keeps views and grants).
    pub swap: Option<Swap>,
    /// What happens when a stream's columns change (`drift`), for all streams and for some by name.
    #[serde(default)]
    pub policies: Policies,
    /// When it runs by itself, once `linkspan apply` brought it into a hub: a cron expression, `every 15m`, or an object with time zone,
    /// jitter and catch_up. `linkspan sync` runs it at once.
    pub schedule: Option<Form>,
    /// For the hub: false keeps its schedule from starting it.
    pub enabled: Option<bool>,
    /// For people.
    pub description: Option<String>,
    /// For the hub: how a run is tried again after an error that may pass.
    pub retry: Option<Retries>,
    /// For the hub: how long one attempt may take, such as `2h`.
    pub timeout: Option<String>,
    /// How many lanes move at once.
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: Option<u16>,
    /// Memory for rows in flight, in MB.
    #[schemars(range(min = 1))]
    pub memory: Option<u32>,
}

/// How a variable is looked up.
type Lookup = Box<dyn Fn(&str) -> Option<String>>;

/// A project file that was read, with the places of everything in it.
pub struct Project {
    /// As the user named it.
    pub file: String,
    folder: PathBuf,
    root: Node,
    pub content: ProjectFile,
    lookup: Lookup,
}

/// What a connector entry says, with its variables in place.
pub struct Declared {
    /// Its fields but for the config.
    pub entry: ConnectorEntry,
    pub form: DeclaredForm,
}

pub enum DeclaredForm {
    Url { url: String, place: String },
    Typed { type_name: String, config: Box<dyn Fn(&Value) -> Value>, place: String, type_place: String },
}

impl Project {
    /// Reads and checks a file. Variables of connectors that are not used are not needed.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| file_error("the project file cannot be read", path, e))?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        Self::parse(&text, &path.display().to_string(), folder, Box::new(|name| std::env::var(name).ok()))
    }

    fn parse(text: &str, file: &str, folder: PathBuf, lookup: Lookup) -> Result<Self> {
        let mut root = tree::parse(text, file)?;
        if let tree::Tree::Map(entries) = &mut root.tree {
            for entry in entries.iter_mut().filter(|e| e.key != "connectors") {
                env::substitute(&mut entry.value, file, &lookup)?;
            }
        }
        let content = decode::decode(&root, file)?;
        let project = Self { file: file.to_owned(), folder, root, content, lookup };
        project.content.connectors.iter().try_for_each(|(name, entry)| project.one_form(name, entry))?;
        Ok(project)
    }

    /// Relative paths in a project file are relative to it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn one_form(&self, name: &str, entry: &ConnectorEntry) -> Result<()> {
        let (message, fix) = match (&entry.type_name, &entry.url, &entry.config) {
            (Some(_), None, _) | (None, Some(_), None) => return Ok(()),
            (None, None, _) => ("the connector has neither `type` nor `url`", "add `type: ...` and `config:`, or `url: ...`"),
            _ => ("the connector has both `url` and `type` or `config`", "keep one of the two forms"),
        };
        Err(self.error(message, &["connectors", name]).with("connector", name).fix(fix))
    }

    /// Connections in the order of the file; only those named, when any is.
    pub fn connections(&self, named: &[String]) -> Result<Vec<(String, ConnectionEntry)>> {
        let in_order = self.root.get("connections").map(Node::entries).unwrap_or_default().iter().map(|e| e.key.clone());
        let in_order: Vec<String> = in_order.collect();
        for name in named {
            if !in_order.contains(name) {
                let fix = suggest::did_you_mean(name, in_order.iter().map(String::as_str))
                    .unwrap_or_else(|| format!("its connections are: {}", in_order.join(", ")));
                return Err(Error::new(ErrorKind::NotFound, format!("the project file has no connection `{name}`"))
                    .with("file", &self.file)
                    .fix(fix));
            }
        }
        if in_order.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the project file has no connections")
                .with("file", &self.file)
                .fix("add `connections:` with `from` and `to`; docs/project-file.md has an example"));
        }
        let wanted = in_order.into_iter().filter(|n| named.is_empty() || named.contains(n));
        Ok(wanted.filter_map(|n| self.content.connections.get(&n).map(|c| (n.clone(), c.clone()))).collect())
    }

    /// A connector by name, with its variables in place; `None` when the file has none of that name.
    pub fn connector(&self, name: &str) -> Result<Option<Declared>> {
        let Some(node) = self.root.get("connectors").and_then(|c| c.get(name)) else { return Ok(None) };
        let mut node = node.clone();
        env::substitute(&mut node, &self.file, &self.lookup)?;
        let entry: ConnectorEntry = decode::decode(&node, &self.file)?;
        let at = |field: &str| node.place_of(&[field]).at(&self.file);
        let form = match (&entry.url, &entry.type_name) {
            (Some(url), _) => DeclaredForm::Url { url: url.clone(), place: at("url") },
            (None, name) => {
                let (type_name, place, type_place) = (name.clone().unwrap_or_default(), at("config"), at("type"));
                let config = node.get("config").cloned();
                let config =
                    move |schema: &Value| config.as_ref().map_or_else(|| Value::Object(serde_json::Map::new()), |c| c.to_json(schema));
                DeclaredForm::Typed { type_name, config: Box::new(config), place, type_place }
            }
        };
        Ok(Some(Declared { entry, form }))
    }

    /// Where the fields of a connector's config stand, for errors that name one.
    pub fn places_of_fields(&self, connector: &str) -> BTreeMap<String, String> {
        let config = self.root.get("connectors").and_then(|c| c.get(connector)?.get("config"));
        let keys = config.map(Node::keys).unwrap_or_default();
        keys.into_iter().map(|(key, place)| (key, place.at(&self.file))).collect()
    }

    /// An error about what stands at a path of the file.
    pub fn error(&self, message: impl Into<std::borrow::Cow<'static, str>>, path: &[&str]) -> Error {
        Error::new(ErrorKind::ConfigInvalid, message).with("place", self.root.place_of(path).at(&self.file))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn project(yaml: &str) -> Result<Project> {
        let lookup = |name: &str| (name == "PORT").then(|| "5432".to_owned());
        Project::parse(yaml, "p.yaml", PathBuf::from("."), Box::new(lookup))
    }

    const GOOD: &str = "\
connectors:
  shop: {type: postgresql, config: {port: '${PORT}', password: '${UNSET}'}}
  lake: {type: parquet, config: {path: ./out, port: '${PORT}'}}
  short: {url: 'csv:./x.csv'}
connections:
  b: {from: shop, to: lake, streams: [public.*], mode: incremental}
  a: {from: short, to: lake}
";

    #[test]
    fn connections_keep_the_files_order_and_unused_variables_may_be_unset() {
        let p = project(GOOD).unwrap();
        let names: Vec<String> = p.connections(&[]).unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(p.connections(&["bb".into()]).err().unwrap().suggested_fix(), Some("did you mean \"b\"?"));
        let Some(Declared { form: DeclaredForm::Typed { config, .. }, .. }) = p.connector("lake").unwrap() else { panic!("typed") };
        let schema = json!({"properties": {"port": {"type": "integer"}}});
        assert_eq!(config(&schema), json!({"path": "./out", "port": 5432}));
        let e = p.connector("shop").err().unwrap();
        assert!(e.to_string().contains("UNSET") && e.to_string().contains("p.yaml:2:"), "{e}");
    }

    #[test]
    fn mistakes_are_placed() {
        for (yaml, says, place) in [
            ("connecters: {}", "did you mean \"connectors\"?", "p.yaml:1:1"),
            ("connectors:\n  a: {typ: csv}", "did you mean \"type\"?", "p.yaml:2:7"),
            ("connectors:\n  a: {}", "add `type: ...`", "p.yaml:2:6"),
            ("connections:\n  a:\n    from: x\n    to: y\n    strems: [a]", "did you mean \"streams\"?", "p.yaml:5:5"),
            ("connections:\n  a: {from: x, to: y, mode: incrmental}", "did you mean \"incremental\"?", "p.yaml:2:29"),
            ("connections:\n  a: {from: x, to: y, concurrency: many}", "give", "p.yaml:2:36"),
            ("connections:\n  a: {from: x, to: y, retry: {atempts: 2}}", "did you mean \"attempts\"?", "p.yaml:2:31"),
            ("connectors:\n  a: {type: csv, output_schema: [x]}", "did you mean \"output_schemas\"?", "p.yaml:2:18"),
        ] {
            let e = project(yaml).err().unwrap_or_else(|| panic!("{yaml} is wrong"));
            assert!(e.suggested_fix().unwrap_or_default().contains(says), "{e:?}");
            assert!(e.context().iter().any(|(k, v)| *k == "place" && v == place), "{e:?}");
        }
    }
}
