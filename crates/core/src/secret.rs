//! Values that are never printed.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// What stands in a secret's place wherever a config is shown.
pub const MASK: &str = "***REDACTED***";

/// A value that is never printed: `Debug`, `Display` and `Serialize` show the mask; memory is wiped on drop.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }
    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(MASK)
    }
}
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self::new)
    }
}
impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "password", "writeOnly": true, "x-secret": true })
    }
}

/// A URL whose password is a secret: shown with only the password masked.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Zeroizing<String>);

impl SecretUrl {
    pub fn new(value: impl Into<String>) -> Self {
        Self(Zeroizing::new(value.into()))
    }
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The URL with its password (in the authority, or in a `password`/`secret`/`token`/`key` query field) masked.
pub fn mask_url(url: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(b, q)| (b, Some(q)));
    let mut out = String::with_capacity(url.len());
    match base.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            // A password may itself hold '/' or '@': the last '@' before the path, or anywhere when none is in the authority.
            let at = rest[..end].rfind('@').or_else(|| rest.rfind('@'));
            out.push_str(scheme);
            out.push_str("://");
            match at.and_then(|at| rest[..at].find(':').map(|colon| (colon, at))) {
                Some((colon, at)) => {
                    out.push_str(&rest[..=colon]);
                    out.push_str(MASK);
                    out.push_str(&rest[at..]);
                }
                None => out.push_str(rest),
            }
        }
        None => out.push_str(base),
    }
    if let Some(query) = query {
        out.push('?');
        let masked: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((k, _)) if is_secret_field(k) => format!("{k}={MASK}"),
                _ => pair.to_owned(),
            })
            .collect();
        out.push_str(&masked.join("&"));
    }
    out
}

fn is_secret_field(name: &str) -> bool {
    ["password", "secret", "token", "key", "passphrase"].iter().any(|w| name.to_ascii_lowercase().contains(w))
}

/// What [`mask_url`] takes out of a URL, as it is written there.
pub fn secrets_of_url(url: &str) -> Vec<&str> {
    let (base, query) = url.split_once('?').map_or((url, ""), |(b, q)| (b, q));
    let password = base.split_once("://").and_then(|(_, rest)| {
        let end = rest.find('/').unwrap_or(rest.len());
        let at = rest[..end].rfind('@').or_else(|| rest.rfind('@'))?;
        rest[..at].split_once(':').map(|(_, password)| password)
    });
    let fields = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(k, _)| is_secret_field(k)).map(|(_, v)| v);
    password.into_iter().chain(fields).filter(|s| !s.is_empty()).collect()
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(&self.0))
    }
}
impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(&self.0))
    }
}
impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&mask_url(&self.0))
    }
}
impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self::new)
    }
}
impl JsonSchema for SecretUrl {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretUrl".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uri", "x-secret": "password" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_only_its_mask() {
        let s = Secret::new("hunter2");
        assert_eq!(format!("{s:?} {s} {}", serde_json::to_string(&s).unwrap()), "***REDACTED*** ***REDACTED*** \"***REDACTED***\"");
    }

    #[test]
    fn a_dsn_keeps_its_shape_with_the_password_masked() {
        assert_eq!(mask_url("postgres://u:p@h:1/db?sslmode=require"), "postgres://u:***REDACTED***@h:1/db?sslmode=require");
        assert_eq!(mask_url("postgres://u:a/b@c@h/db"), "postgres://u:***REDACTED***@h/db");
        assert_eq!(mask_url("postgres://u@h/db?password=x"), "postgres://u@h/db?password=***REDACTED***");
        assert_eq!(mask_url("s3://bucket/path"), "s3://bucket/path");
        assert_eq!(mask_url("./out"), "./out");
    }
}
