//! A manifest as a type of the catalog: what can be told of it once, when it is added, and the type that is made of it. It knows no store.

use std::sync::{Arc, OnceLock};

use linkspan_core::{Connector, ConnectorType, Context, Error, ErrorKind, Result, Role, Spec};
use serde_json::{Map, Value, json};

use crate::{config, connector, manifest};

/// The largest manifest that is taken, in bytes.
pub const LARGEST: usize = 1_500_000;
const LONGEST_NAME: usize = 63;

/// What is known of a manifest without opening it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// JSON Schema of the config; secret fields carry `x-secret`.
    pub config_schema: Value,
    /// The streams that the manifest names; those that are made at run time are found by discovery.
    pub streams: Vec<String>,
    pub docs_url: Option<String>,
    /// The version of the language that it is written in.
    pub language: Option<String>,
}

impl Entry {
    /// Judges a manifest's text. `Unsupported` with the place for components in Python, `ConfigInvalid` for what is no manifest.
    pub fn read(text: &str) -> Result<Self> {
        if text.len() > LARGEST {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the manifest is too large")
                .with("bytes", text.len())
                .with("limit", LARGEST)
                .fix("use the connector type `manifest` with the file's path"));
        }
        let root = manifest::opened(text)?;
        manifest::refuse_python(&root)?;
        let streams = streams(&root)?;
        let spec = root.get("spec").filter(|s| !s.is_null());
        let mut schema = match config::Spec::of(&root)? {
            Some(spec) => spec.schema().clone(),
            None => json!({"type": "object", "properties": {}}),
        };
        if !schema.is_object() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the manifest's connection_specification is no object")
                .with("path", "spec.connection_specification")
                .fix("write a JSON Schema there"));
        }
        mark_secrets(&mut schema);
        let text_of = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned).filter(|t| !t.is_empty());
        Ok(Self {
            config_schema: schema,
            streams,
            docs_url: text_of(spec.and_then(|s| s.get("documentation_url"))),
            language: text_of(root.get("version")),
        })
    }
}

fn streams(root: &Value) -> Result<Vec<String>> {
    let named = root.get("streams").and_then(Value::as_array);
    let is_made_later = root.get("dynamic_streams").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    let Some(named) = named.filter(|all| !all.is_empty() || is_made_later) else {
        if is_made_later {
            return Ok(Vec::new());
        }
        return Err(Error::new(ErrorKind::ConfigInvalid, "this is no manifest: it has no streams")
            .fix("give a low-code manifest (YAML with `type: DeclarativeSource`)"));
    };
    Ok(named.iter().filter_map(|stream| stream["name"].as_str()).map(str::to_owned).collect())
}

/// The language's mark for secrets beside the house's own.
fn mark_secrets(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(mark_secrets);
            if fields.get("airbyte_secret") == Some(&Value::Bool(true)) {
                fields.insert("x-secret".into(), true.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mark_secrets),
        _ => {}
    }
}

/// A type's name from what people call a manifest: `Source-Amazon Ads` is `amazon_ads`. `ConfigInvalid` when nothing is left.
pub fn type_name(given: &str) -> Result<String> {
    let mut name = String::with_capacity(given.len());
    for c in given.trim().chars() {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
            _ if name.is_empty() || name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    let name = name.trim_end_matches('_');
    let name = name.strip_prefix("source_").unwrap_or(name);
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the manifest has no name that a connector type can have")
            .with("field", "name")
            .fix("give one of letters, digits and `_`, at most 63 characters"));
    }
    Ok(name.to_owned())
}

/// `amazon_ads` as people write it.
pub fn title_of(name: &str) -> String {
    let words = name.split('_').filter(|w| !w.is_empty()).map(|word| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Markdown, as every type has it.
pub fn docs(title: &str, name: &str, entry: &Entry) -> String {
    let mut text = format!(
        "# {title}\n\nReads {title} by a low-code manifest of this project's catalog, into any destination.\n\n## Setup\n\n\
         ```yaml\nconnectors:\n  {name}:\n    type: {name}\n    config: {}\n```\n",
        example(&entry.config_schema)
    );
    if let Some(url) = &entry.docs_url {
        text.push_str(&format!("\nThe author's documentation: <{url}>\n"));
    }
    if !entry.streams.is_empty() {
        text.push_str(&format!("\nStreams: {}.\n", entry.streams.join(", ")));
    }
    text.push_str(
        "\n## Limits\n\n- Streams with a cursor of their own are read incrementally with `--mode incremental`; the others are read whole.\n\
         - A full read that was interrupted begins anew.\n",
    );
    text
}

/// A config with every required field: the schema's own example, or a word that says what belongs there.
pub fn example(schema: &Value) -> Value {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let fields = required.map(|name| (name.to_owned(), example_of(name, &schema["properties"][name])));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn example_of(name: &str, field: &Value) -> Value {
    if field["x-secret"] == true {
        return "secret".into();
    }
    let given = [field.get("default"), field["examples"].get(0), field["enum"].get(0), field.get("const")];
    if let Some(value) = given.into_iter().flatten().find(|v| !v.is_null()) {
        return value.clone();
    }
    match field["type"].as_str() {
        Some("integer" | "number") => 1.into(),
        Some("boolean") => true.into(),
        Some("array") => json!([]),
        Some("object") => field["oneOf"].get(0).map_or_else(|| example(field), example),
        _ => name.to_uppercase().into(),
    }
}

/// The type. Its manifest is read when the first connector of it is opened, and then once.
pub fn connector_type(name: String, title: String, entry: &Entry, text: impl Fn() -> Arc<str> + Send + Sync + 'static) -> ConnectorType {
    let spec = Spec {
        docs: docs(&title, &name, entry).into(),
        example: example(&entry.config_schema),
        name: name.clone().into(),
        title: title.into(),
        roles: vec![Role::Source],
        ..Spec::empty()
    };
    let opened: OnceLock<Result<Arc<Value>>> = OnceLock::new();
    let open = move |config: Value, context: Context| {
        let root = opened.get_or_init(|| manifest::opened(&text()).map(Arc::new)).as_ref();
        let root = root.map_err(|e| Error::new(e.kind(), e.message().to_owned()).with("connector_type", &name))?;
        let guest = connector::resolved(root.clone(), config, context).map_err(|e| e.with("connector_type", &name))?;
        Ok(Arc::new(guest) as Arc<dyn Connector>)
    };
    ConnectorType::guest(spec, entry.config_schema.clone(), open)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "
version: 6.0.0
check: {stream_names: [items]}
streams:
- name: items
  retriever:
    requester: {url_base: https://example.com/v1, path: items}
    record_selector: {extractor: {field_path: []}}
spec:
  documentation_url: https://example.com/docs
  connection_specification:
    type: object
    required: [api_key, region, since]
    properties:
      api_key: {type: string, airbyte_secret: true}
      region: {type: string, enum: [eu, us]}
      since: {type: string, examples: ['2024-01-01']}
";

    #[test]
    fn an_entry_tells_its_form_its_streams_and_which_fields_are_secret() {
        let entry = Entry::read(SMALL).unwrap();
        assert_eq!(entry.config_schema["properties"]["api_key"]["x-secret"], true);
        assert_eq!((entry.streams.as_slice(), entry.language.as_deref()), (&["items".to_owned()][..], Some("6.0.0")));
        assert_eq!(example(&entry.config_schema), json!({"api_key": "secret", "region": "eu", "since": "2024-01-01"}));
        let docs = docs("Items", "items", &entry);
        assert!(docs.contains("## Setup") && docs.contains("## Limits") && docs.contains("https://example.com/docs"), "{docs}");
    }

    const PYTHON: &str =
        "{version: 1.0.0, check: {stream_names: [a]}, streams: [{name: a, retriever: {type: CustomRetriever, class_name: x.Y}}]}";

    #[test]
    fn what_is_no_manifest_or_needs_python_is_refused() {
        for (text, kind) in [
            ("hello", ErrorKind::ConfigInvalid),
            ("a: 1", ErrorKind::ConfigInvalid),
            ("streams: []", ErrorKind::ConfigInvalid),
            (PYTHON, ErrorKind::Unsupported),
        ] {
            let e = Entry::read(text).unwrap_err();
            assert_eq!((e.kind(), e.suggested_fix().is_some() || text == "hello"), (kind, true), "{text}: {e:?}");
        }
        let e = Entry::read(PYTHON).unwrap_err();
        assert!(e.context().contains(&("path", "streams[0].retriever".to_owned())), "{e:?}");
    }

    #[test]
    fn names_are_small_letters_digits_and_underlines() {
        for (given, name) in
            [("Source-Amazon Ads", "amazon_ads"), ("source-7shifts", "7shifts"), ("My  API (v2)!", "my_api_v2"), ("orders", "orders")]
        {
            assert_eq!(type_name(given).unwrap(), name);
        }
        assert!(type_name("---").is_err() && type_name(&"x".repeat(64)).is_err());
        assert_eq!(title_of("amazon_ads"), "Amazon Ads");
    }
}
