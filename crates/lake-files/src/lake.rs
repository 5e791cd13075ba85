//! The lake: the hub's own place of Parquet tables, or another one of the same kind. It is written and read as any folder or prefix is;
//! only where it is may be left to the hub.

use std::borrow::Cow;

use linkspan_core::{ConnectorType, Role, Spec};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value, json};

use crate::{config::ParquetConfig, connector::Parquet};

pub(crate) fn connector_type() -> ConnectorType {
    let spec = Spec {
        name: "lake".into(),
        title: "Lake of Parquet tables".into(),
        docs: include_str!("lake.md").into(),
        roles: vec![Role::Destination, Role::Source],
        example: json!({"path": "s3://bucket/prefix", "access_key_id": "key", "secret_access_key": "secret"}),
        ..Spec::empty()
    };
    ConnectorType::new(spec, |config: LakeConfig, context| Parquet::open(config.0, context))
}

/// A place of Parquet files that need not say where it is.
struct LakeConfig(ParquetConfig);

impl<'de> Deserialize<'de> for LakeConfig {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(d)?;
        fields.entry("path").or_insert_with(|| "".into());
        ParquetConfig::deserialize(Value::Object(fields)).map(Self).map_err(D::Error::custom)
    }
}

impl JsonSchema for LakeConfig {
    fn schema_name() -> Cow<'static, str> {
        "LakeConfig".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ParquetConfig::json_schema(generator);
        if let Some(Value::Array(required)) = schema.get_mut("required") {
            required.retain(|field| field != "path");
        }
        if let Some(path) = schema.get_mut("properties").and_then(|p| p.get_mut("path")) {
            path["description"] = "`s3://bucket/prefix` or a folder. Without one it is the hub's own lake.".into();
        }
        schema
    }
}

#[cfg(test)]
mod tests {
    use linkspan_core::Context;

    use super::*;

    #[test]
    fn a_lake_is_a_place_like_another_and_may_leave_out_where_it_is() {
        let kind = connector_type();
        let schema = kind.config_schema();
        assert!(schema["required"].as_array().is_none_or(|r| !r.contains(&json!("path"))), "{schema}");
        assert_eq!(schema["properties"]["secret_access_key"]["x-secret"], true);
        assert!(kind.open(json!({"path": "./out"}), Context::real()).is_ok());
        let e = kind.open(json!({}), Context::real()).err().unwrap();
        assert_eq!(e.kind(), linkspan_core::ErrorKind::ConfigInvalid);
        assert!(kind.open(json!({"path": "./out", "pth": 1}), Context::real()).is_err());
    }
}
