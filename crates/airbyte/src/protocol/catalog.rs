//! The configured catalog: which streams a platform wants, and how.

use linkspan_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::Value;

use super::Descriptor;

/// What a platform asks for, in its order.
#[derive(Clone, Debug, Deserialize)]
pub struct ConfiguredCatalog {
    pub streams: Vec<Configured>,
}

/// One stream as it is asked for. The schema is the platform's copy: it is not what the source validates with.
#[derive(Clone, Debug, Deserialize)]
pub struct Configured {
    stream: Named,
    pub sync_mode: SyncMode,
    #[serde(default)]
    pub destination_sync_mode: Option<DestinationSyncMode>,
    #[serde(default)]
    pub cursor_field: Option<Vec<String>>,
    #[serde(default)]
    pub primary_key: Option<Vec<Vec<String>>>,
    /// Absent: the platform knows no refreshes.
    #[serde(default)]
    pub generation_id: Option<i64>,
    #[serde(default)]
    pub minimum_generation_id: Option<i64>,
    #[serde(default)]
    pub sync_id: Option<i64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    json_schema: Value,
    #[serde(default)]
    source_defined_primary_key: Option<Vec<Vec<String>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    FullRefresh,
    Incremental,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationSyncMode {
    Append,
    Overwrite,
    AppendDedup,
    Update,
    SoftDelete,
}

impl ConfiguredCatalog {
    /// A text that is no catalog is the caller's fault; which value was wrong is not said, only what was expected.
    pub fn parse(text: &str) -> Result<Self> {
        let catalog: Self = serde_json::from_str(text).map_err(|e| not_a_catalog().with("line", e.line()))?;
        let mut seen = std::collections::HashSet::new();
        match catalog.streams.iter().find(|s| !seen.insert(s.descriptor())) {
            Some(twice) => Err(Error::new(ErrorKind::ConfigInvalid, "the catalog asks for a stream twice").with("stream", twice.name())),
            None => Ok(catalog),
        }
    }
}

fn not_a_catalog() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the catalog cannot be read").fix(
        "give a configured catalog: {\"streams\": [{\"stream\": {\"name\": ..}, \"sync_mode\": \"full_refresh\" or \"incremental\", ..}]}",
    )
}

impl Configured {
    pub fn name(&self) -> &str {
        &self.stream.name
    }
    /// Null and "" are two namespaces.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor { name: self.stream.name.clone(), namespace: self.stream.namespace.clone() }
    }
    pub fn json_schema(&self) -> &Value {
        &self.stream.json_schema
    }
    /// The key that the source itself defines.
    pub fn source_key(&self) -> Option<&Vec<Vec<String>>> {
        self.stream.source_defined_primary_key.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_says_streams_and_modes_in_order() {
        let text = r#"{"streams": [
            {"stream": {"name": "b", "json_schema": {"type": "object"}, "is_file_based": false}, "sync_mode": "incremental",
             "destination_sync_mode": "append_dedup", "cursor_field": ["at"], "primary_key": [["id"]], "generation_id": 3},
            {"stream": {"name": "a", "namespace": ""}, "sync_mode": "full_refresh"}]}"#;
        let catalog = ConfiguredCatalog::parse(text).unwrap();
        let [b, a] = &catalog.streams[..] else { panic!("two streams") };
        assert_eq!((b.name(), b.sync_mode, b.generation_id), ("b", SyncMode::Incremental, Some(3)));
        assert_eq!(b.destination_sync_mode, Some(DestinationSyncMode::AppendDedup));
        assert_eq!(b.json_schema()["type"], "object");
        assert_eq!(a.descriptor(), Descriptor { name: "a".into(), namespace: Some(String::new()) });
    }

    #[test]
    fn the_same_name_in_two_namespaces_is_two_streams_but_not_twice_in_one() {
        let stream = |ns: &str| format!(r#"{{"stream": {{"name": "a"{ns}}}, "sync_mode": "full_refresh"}}"#);
        let both = |x: &str, y: &str| format!(r#"{{"streams": [{}, {}]}}"#, stream(x), stream(y));
        assert_eq!(ConfiguredCatalog::parse(&both("", r#", "namespace": """#)).unwrap().streams.len(), 2);
        assert_eq!(ConfiguredCatalog::parse(&both("", r#", "namespace": null"#)).unwrap_err().kind(), ErrorKind::ConfigInvalid);
    }

    #[test]
    fn a_bad_catalog_is_refused_without_its_values() {
        let e = ConfiguredCatalog::parse(r#"{"streams": [{"stream": {"name": "a"}, "sync_mode": "canary"}]}"#).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
        assert!(!format!("{e:?}{}", e.to_json()).contains("canary"));
    }
}
