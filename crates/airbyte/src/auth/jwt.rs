//! JSON web tokens, signed anew for every request.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use linkspan_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

use super::{
    Authenticator,
    algorithm::Algorithm,
    pem::{self, Key},
};
use crate::{
    component::Component,
    inject::{Inject, RequestOption},
    python::text,
    template::{Condition, Mapping, Template},
    wiring::Build,
};

pub fn jwt(component: &Component<'_>, build: &Build) -> Result<Arc<dyn Authenticator>> {
    let headers = component.child("jwt_headers")?;
    let payload = component.child("jwt_payload")?;
    let within = |child: &Option<Component<'_>>, field: &str| child.as_ref().map_or(Ok(None), |c| c.template(field));
    let typ = match &headers {
        Some(given) => given.template("typ")?,
        None => None,
    };
    let place = match component.child("request_option")? {
        Some(option) => RequestOption::build(&option)?,
        None => RequestOption::header(Template::parse("Authorization", component.parameters())?),
    };
    Ok(Arc::new(Jwt {
        algorithm: Algorithm::of(component.required_text("algorithm")?)
            .ok_or_else(|| component.error("not an algorithm for signatures"))?,
        secret: component.required_template("secret_key")?,
        encodes_secret: component.condition("base64_encode_secret_key")?,
        passphrase: component.template("passphrase")?.filter(|t| !t.source().is_empty()),
        lasts: component.integer("token_duration")?.unwrap_or(1200),
        prefix: component.template("header_prefix")?.filter(|t| !t.source().is_empty()),
        headers: [
            ("kid", within(&headers, "kid")?),
            ("typ", Some(typ.map_or_else(|| Template::parse("JWT", component.parameters()), Ok)?)),
            ("cty", within(&headers, "cty")?),
        ],
        claims: [("iss", within(&payload, "iss")?), ("sub", within(&payload, "sub")?), ("aud", within(&payload, "aud")?)],
        more_headers: component.mapping("additional_jwt_headers")?,
        more_claims: component.mapping("additional_jwt_payload")?,
        place,
        opened: Mutex::new(None),
        build: build.clone(),
    }))
}

struct Jwt {
    algorithm: Algorithm,
    secret: Template,
    encodes_secret: Option<Condition>,
    passphrase: Option<Template>,
    /// Seconds.
    lasts: i64,
    prefix: Option<Template>,
    headers: [(&'static str, Option<Template>); 3],
    claims: [(&'static str, Option<Template>); 3],
    more_headers: Option<Mapping>,
    more_claims: Option<Mapping>,
    place: RequestOption,
    /// The last key behind a passphrase with both its texts: opening one takes long.
    opened: Mutex<Option<([String; 2], Arc<Key>)>>,
    build: Build,
}

impl Jwt {
    fn signed(&self) -> Result<String> {
        let head = BASE64_URL_SAFE_NO_PAD.encode(ascii_json(&Value::Object(sorted(self.head()?))));
        let claims = BASE64_URL_SAFE_NO_PAD.encode(ascii_json(&Value::Object(self.claims()?)));
        let text = format!("{head}.{claims}");
        let signature = self.sign(text.as_bytes())?;
        Ok(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    fn mapped(&self, mapping: &Option<Mapping>, reserved: &[&str]) -> Result<Map<String, Value>> {
        let found = mapping.as_ref().map_or_else(|| Ok(Map::new()), |m| m.eval(&self.build.scope()))?;
        match reserved.iter().find(|name| found.contains_key(**name)) {
            Some(name) => {
                Err(Error::new(ErrorKind::ConfigInvalid, "a reserved part of a token is set as an additional one").with("name", name))
            }
            None => Ok(found),
        }
    }

    fn head(&self) -> Result<Map<String, Value>> {
        let mut head = self.mapped(&self.more_headers, &["kid", "alg", "typ", "cty"])?;
        self.fill(&mut head, &self.headers)?;
        head.insert("alg".into(), self.algorithm.name().into());
        Ok(head)
    }

    fn claims(&self) -> Result<Map<String, Value>> {
        let mut claims = self.mapped(&self.more_claims, &["iss", "sub", "aud", "iat", "exp", "nbf"])?;
        self.fill(&mut claims, &self.claims)?;
        let now = self.build.clock.now().as_second();
        claims.insert("iat".into(), now.into());
        claims.insert("exp".into(), now.saturating_add(self.lasts).into());
        claims.insert("nbf".into(), now.into());
        Ok(claims)
    }

    fn fill(&self, into: &mut Map<String, Value>, parts: &[(&'static str, Option<Template>)]) -> Result<()> {
        for (name, template) in parts {
            if let Some(template) = template.as_ref().filter(|t| !t.source().is_empty()) {
                into.insert((*name).into(), template.value(&self.build.scope())?);
            }
        }
        Ok(())
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        let mut secret = self.build.text(&self.secret)?;
        if let Some(passphrase) = &self.passphrase
            && let passphrase = self.build.text(passphrase)?
            && !passphrase.is_empty()
        {
            return pem::sign(self.algorithm, &*self.opened([passphrase, secret])?, text);
        }
        if let Some(encodes) = &self.encodes_secret
            && encodes.eval(&self.build.scope())?
        {
            secret = BASE64_STANDARD.encode(secret);
        }
        pem::sign(self.algorithm, &Key::Text(secret), text)
    }

    fn opened(&self, texts: [String; 2]) -> Result<Arc<Key>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        match &*opened {
            Some((known, key)) if *known == texts => Ok(key.clone()),
            _ => {
                let key = Arc::new(Key::behind(&texts[0], &texts[1])?);
                *opened = Some((texts, key.clone()));
                Ok(key)
            }
        }
    }
}

/// The reference writes a token's head in the order of its names.
fn sorted(map: Map<String, Value>) -> Map<String, Value> {
    let mut pairs: Vec<_> = map.into_iter().collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs.into_iter().collect()
}

/// JSON with everything beyond ASCII escaped.
fn ascii_json(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

#[async_trait]
impl Authenticator for Jwt {
    async fn options(&self, into: Inject) -> Result<Map<String, Value>> {
        let mut options = Map::new();
        if self.place.inject_into() == into {
            self.place.inject(&mut options, self.token().await?.into(), &self.build)?;
        }
        Ok(options)
    }
    async fn token(&self) -> Result<String> {
        let prefix = self.prefix.as_ref().map(|p| p.value(&self.build.scope())).transpose()?.filter(crate::truth::is_true);
        let signed = self.signed()?;
        Ok(prefix.map_or_else(|| signed.clone(), |prefix| format!("{} {signed}", text(&prefix))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_the_reference_signs() {
        // Written by the reference's library for the same head, claims and key.
        let head = sorted(
            [("typ".to_owned(), "JWT".into()), ("alg".to_owned(), "HS256".into()), ("kid".to_owned(), "x".into())].into_iter().collect(),
        );
        assert_eq!(ascii_json(&head.into()), r#"{"alg":"HS256","kid":"x","typ":"JWT"}"#);
        assert_eq!(ascii_json(&serde_json::json!({"é😀": "a\"b"})), "{\"\\u00e9\\ud83d\\ude00\":\"a\\\"b\"}");
    }
}
