//! Manifests as connectors of the house: `manifest` reads any low-code manifest, `api_rest` an API that is described in a few lines.

mod edge;
mod heard;
mod lane;
mod open;
mod rest;
mod shape;
mod written;

use std::{path::PathBuf, sync::Arc};

use linkspan_core::{ConnectorType, Context, Result, Role, Spec};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(crate) use open::Guest;
use open::Origin;
pub(crate) use shape::Shape;

/// Every type of this crate, in catalog order.
pub fn all() -> Vec<ConnectorType> {
    vec![rest_type(), manifest_type()]
}

/// A manifest that is read already, with a config that it takes. `ConfigInvalid` for one that it does not.
pub(crate) fn resolved(root: Arc<Value>, config: Value, context: Context) -> Result<Guest> {
    open::prepared(&root, config.clone())?;
    Ok(Guest::new(Origin::Resolved(root), config, context))
}

pub fn manifest_type() -> ConnectorType {
    let spec = Spec {
        name: "manifest".into(),
        title: "Low-code manifest".into(),
        docs: include_str!("connector/manifest.md").into(),
        aliases: vec!["airbyte_manifest".into()],
        roles: vec![Role::Source],
        example: json!({"path": "./manifest.yaml", "config": {"api_key": "secret"}}),
        ..Spec::empty()
    };
    ConnectorType::new(spec, |config: ManifestConfig, context: Context| Ok(config.open(context)))
}

pub fn rest_type() -> ConnectorType {
    let spec = Spec {
        name: "api_rest".into(),
        title: "REST API".into(),
        docs: include_str!("connector/rest.md").into(),
        roles: vec![Role::Source],
        is_queryable: true,
        example: json!({
            "base_url": "https://api.example.com/v1",
            "auth": {"type": "bearer", "token": "secret"},
            "path": "/orders",
            "record_path": "data",
            "pagination": {"type": "page", "page_size": 100, "size_param": "per_page"},
            "cursor": {"field": "updated_at", "param": "updated_since", "start": "2024-01-01T00:00:00Z"},
        }),
        ..Spec::empty()
    };
    ConnectorType::new(spec, |config: rest::RestConfig, context: Context| {
        let (root, secrets) = config.manifest()?;
        Ok(Guest::new(Origin::Resolved(Arc::new(root)), secrets, context).within(&["auth"]))
    })
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ManifestConfig {
    /// The manifest's YAML file. Files that it names lie beside it.
    path: PathBuf,
    /// The manifest's own config, as its spec describes it (`linkspan manifest spec --manifest FILE`). Never shown.
    #[serde(default)]
    #[schemars(extend("x-secret" = true))]
    config: Map<String, Value>,
    /// The namespace of the streams; none by default.
    namespace: Option<String>,
}

impl ManifestConfig {
    fn open(self, context: Context) -> Guest {
        Guest::new(Origin::File(self.path), self.config.into(), context).named(self.namespace).within(&["config"])
    }
}
