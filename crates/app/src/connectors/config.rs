//! A connector's config in two parts: what may be shown, and the secrets. Pure: no store, no keys.

use linkspan_core::{Error, ErrorKind, MASK, Result, mask_url};
use serde_json::{Map, Value};

use crate::secrets::{Kind, Reference, Values, kind_of};

/// Names that people and other products use for a field; taken when the type has the field and not the name.
const ALIASES: [(&str, &str); 13] = [
    ("dsn", "url"),
    ("connection", "url"),
    ("connection_string", "url"),
    ("uri", "url"),
    ("url", "path"),
    ("user", "username"),
    ("username", "user"),
    ("dbname", "database"),
    ("ssl.mode", "sslmode"),
    ("ssl_mode", "sslmode"),
    ("ssl.rootcert", "sslrootcert"),
    ("output_schemas", "schemas"),
    ("output_schemas", "databases"),
];
/// Stands for a secret that is not there yet when a config is judged.
const STAND_IN: &str = "placeholder";

/// A config apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parted {
    /// As it is stored and shown: secrets masked, references as they are.
    pub config: Map<String, Value>,
    pub secrets: Values,
    /// Secret fields that the type needs and that nobody gave.
    pub missing: Vec<String>,
}

/// A new config.
pub fn part(schema: &Value, given: Map<String, Value>) -> Result<Parted> {
    merge(schema, &Parted::default(), given)
}

/// What stands with what is given, field by field: null removes, absent and masked keep.
pub fn merge(schema: &Value, stands: &Parted, given: Map<String, Value>) -> Result<Parted> {
    let mut merged = stands.clone();
    for (field, value) in canonical(schema, given)? {
        let kind = kind_of(schema, &field);
        match value {
            Value::Null => {
                merged.config.shift_remove(&field);
                merged.secrets.shift_remove(&field);
            }
            value if kind != Kind::Plain && holds_mask(&value) => keep(stands, &field, &value)?,
            value => set(&mut merged, field, kind, value)?,
        }
    }
    merged.missing = missing(schema, &merged);
    Ok(merged)
}

fn set(parted: &mut Parted, field: String, kind: Kind, value: Value) -> Result<()> {
    parted.secrets.shift_remove(&field);
    let shown = match (kind, &value) {
        (Kind::Plain, _) => value,
        (_, Value::String(text)) if Reference::parse(text).map_err(|e| e.with("field", &field))?.is_some() => value,
        (Kind::Url, Value::String(url)) if mask_url(url) == *url => value,
        (Kind::Url, Value::String(url)) => {
            let shown = mask_url(url).into();
            parted.secrets.insert(field.clone(), value);
            shown
        }
        _ => {
            parted.secrets.insert(field.clone(), value);
            MASK.into()
        }
    };
    parted.config.insert(field, shown);
    Ok(())
}

/// A mask that came back keeps the secret; one that came back changed does not: the password would go to another place.
fn keep(stands: &Parted, field: &str, value: &Value) -> Result<()> {
    let Some(shown) = stands.config.get(field).filter(|_| stands.secrets.contains_key(field)) else {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a mask is given where no secret is stored")
            .with("field", field)
            .fix("send the secret itself"));
    };
    if shown == value {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConfigInvalid, "a masked value came back with other parts changed")
        .with("field", field)
        .fix("send the whole value with its password; a stored password is never sent to another place"))
}

fn holds_mask(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(MASK),
        Value::Array(all) => all.iter().any(holds_mask),
        Value::Object(fields) => fields.values().any(holds_mask),
        _ => false,
    }
}

/// The fields under their own names.
pub fn canonical(schema: &Value, given: Map<String, Value>) -> Result<Map<String, Value>> {
    let knows = |name: &str| schema["properties"].get(name).is_some();
    let mut named = Map::new();
    for (field, value) in given {
        let target =
            ALIASES.iter().find(|(alias, name)| *alias == field && !knows(alias) && knows(name)).map(|(_, name)| (*name).to_owned());
        let name = target.unwrap_or_else(|| field.clone());
        if named.insert(name.clone(), value).is_some() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "the config gives one field under two names")
                .with("field", name)
                .fix(format!("remove `{field}`")));
        }
    }
    Ok(named)
}

fn missing(schema: &Value, parted: &Parted) -> Vec<String> {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    required.filter(|f| kind_of(schema, f) != Kind::Plain && !parted.config.contains_key(*f)).map(str::to_owned).collect()
}

/// The fields of a type that hold secrets, the needed ones first.
pub fn secret_fields(schema: &Value) -> Vec<&str> {
    let required = |field: &str| schema["required"].as_array().into_iter().flatten().any(|r| r == field);
    let fields = schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let mut secret: Vec<&str> = fields.filter(|f| kind_of(schema, f) != Kind::Plain).collect();
    secret.sort_by_key(|f| !required(f));
    secret
}

/// The fields whose values are secrets that lie elsewhere.
pub fn references(schema: &Value, config: &Map<String, Value>) -> Result<Vec<(String, Reference)>> {
    let mut all = Vec::new();
    for (field, value) in config {
        if let (true, Value::String(text)) = (kind_of(schema, field) != Kind::Plain, value)
            && let Some(reference) = Reference::parse(text)?
        {
            all.push((field.clone(), reference));
        }
    }
    Ok(all)
}

/// The fields that are shown masked: each must have its secret.
pub fn masked(config: &Map<String, Value>) -> Vec<String> {
    config.iter().filter(|(_, v)| holds_mask(v)).map(|(k, _)| k.clone()).collect()
}

/// The config that a type opens.
pub fn whole(config: &Map<String, Value>, secrets: &Values) -> Value {
    let mut whole = config.clone();
    whole.extend(secrets.iter().map(|(k, v)| (k.clone(), v.clone())));
    Value::Object(whole)
}

/// The same with stand-ins for what is missing or lies elsewhere; nothing when a URL lies elsewhere, which cannot be judged before it is read.
pub fn judged(schema: &Value, parted: &Parted) -> Result<Option<Value>> {
    let mut secrets = parted.secrets.clone();
    secrets.extend(parted.missing.iter().map(|f| (f.clone(), STAND_IN.into())));
    for (field, _) in references(schema, &parted.config)? {
        if kind_of(schema, &field) == Kind::Url {
            return Ok(None);
        }
        secrets.insert(field, STAND_IN.into());
    }
    Ok(Some(whole(&parted.config, &secrets)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "properties": {
                "url": {"type": "string", "x-secret": "password"}, "host": {"type": "string"}, "password": {"type": "string", "x-secret": true},
                "username": {}, "login": {"$ref": "#/$defs/Login"},
            },
            "required": ["password", "host"],
            "$defs": {"Login": {"oneOf": [{"properties": {"token": {"x-secret": true}}}]}},
        })
    }
    fn map(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }
    fn refused(stands: &Parted, given: Value) -> ErrorKind {
        merge(&schema(), stands, map(given)).unwrap_err().kind()
    }

    #[test]
    fn secrets_are_apart_and_aliases_have_their_own_names() {
        let given = json!({"user": "u", "password": "p", "dsn": "x://a:canary@h/d", "login": {"token": "t", "kind": "k"}, "mystery": 7});
        let parted = part(&schema(), map(given.clone())).unwrap();
        let shown = json!({"username": "u", "password": MASK, "url": format!("x://a:{MASK}@h/d"), "login": MASK, "mystery": MASK});
        assert_eq!(Value::Object(parted.config.clone()), shown);
        assert_eq!(parted.secrets.keys().collect::<Vec<_>>(), ["password", "url", "login", "mystery"]);
        assert_eq!(whole(&parted.config, &parted.secrets)["url"], given["dsn"]);
        assert!(part(&schema(), map(json!({"dsn": "x://a", "url": "x://b"}))).is_err());
        let open = part(&schema(), map(json!({"url": "x://h/d"}))).unwrap();
        assert_eq!((open.secrets.len(), open.missing), (0, vec!["password".to_owned()]));
    }

    #[test]
    fn a_mask_that_comes_back_keeps_the_secret_and_null_removes_it() {
        let stands = part(&schema(), map(json!({"host": "h", "password": "p", "url": "x://a:b@h/d"}))).unwrap();
        let same = merge(&schema(), &stands, stands.config.clone()).unwrap();
        assert_eq!(same, stands);
        let moved = merge(&schema(), &stands, map(json!({"host": "i"}))).unwrap();
        assert_eq!((&moved.config["host"], &moved.secrets["password"]), (&json!("i"), &json!("p")));
        let gone = merge(&schema(), &stands, map(json!({"password": null}))).unwrap();
        assert_eq!((gone.secrets.contains_key("password"), gone.missing), (false, vec!["password".to_owned()]));
        let new = merge(&schema(), &stands, map(json!({"password": "q", "url": null}))).unwrap();
        assert_eq!((&new.secrets["password"], new.config.contains_key("url")), (&json!("q"), false));
    }

    #[test]
    fn a_masked_url_that_points_elsewhere_is_refused() {
        let stands = part(&schema(), map(json!({"password": "p", "url": "x://a:b@h/d"}))).unwrap();
        for given in [
            json!({"url": format!("x://a:{MASK}@evil/d")}),
            json!({"url": MASK}),
            json!({"password": format!("{MASK}x")}),
            json!({"login": {"token": MASK}}),
        ] {
            assert_eq!(refused(&stands, given), ErrorKind::ConfigInvalid);
        }
        assert_eq!(refused(&Parted::default(), json!({"password": MASK})), ErrorKind::ConfigInvalid);
    }

    #[test]
    fn a_reference_is_stored_as_it_is() {
        let parted = part(&schema(), map(json!({"host": "h", "password": "vault://kv/db#pw"}))).unwrap();
        assert_eq!((parted.config["password"].as_str(), parted.secrets.len(), parted.missing.len()), (Some("vault://kv/db#pw"), 0, 0));
        assert_eq!(references(&schema(), &parted.config).unwrap().len(), 1);
        assert_eq!(judged(&schema(), &parted).unwrap().unwrap()["password"], STAND_IN);
        assert_eq!(refused(&Parted::default(), json!({"password": "env://PATH"})), ErrorKind::ConfigInvalid);
        let url = part(&schema(), map(json!({"url": "vault://kv/db#dsn"}))).unwrap();
        assert_eq!(judged(&schema(), &url).unwrap(), None);
        // A plain field is no place for secrets: its text means itself.
        assert!(references(&schema(), &map(json!({"host": "vault://kv/db#pw"}))).unwrap().is_empty());
    }
}
