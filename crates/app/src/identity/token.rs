//! Session tokens: JWT, HS256 only. A header that names another way to find a key is not followed.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use linkspan_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use zeroize::Zeroizing;

const ISSUER: &str = "linkspan";
const AUDIENCE: &str = "linkspan-api";
const LEEWAY_SECONDS: i64 = 30;
const LONGEST: usize = 8 * 1024;

/// Signs and checks. Never printed; wiped on drop.
pub struct Signer {
    secret: Zeroizing<Vec<u8>>,
    leeway: i64,
}

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user's id.
    pub sub: String,
    /// Seconds since 1970.
    pub iat: i64,
    pub exp: i64,
    /// The user's count of ended sessions when it was made: a token from before such an end is refused.
    #[serde(default)]
    pub session: u64,
}

/// Why a token is not taken. Told to logs and tests; a caller only hears that it is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    TooLong,
    Malformed,
    AlgNotAllowed,
    BadSignature,
    BadIssuer,
    BadAudience,
    NotYetValid,
    Expired,
}

impl Refused {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::AlgNotAllowed => "alg_not_allowed",
            Self::BadSignature => "bad_signature",
            Self::BadIssuer => "bad_issuer",
            Self::BadAudience => "bad_audience",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
        }
    }
}

impl Signer {
    pub fn new(secret: &[u8]) -> Self {
        Self { secret: Zeroizing::new(secret.to_vec()), leeway: LEEWAY_SECONDS }
    }
    pub fn sign(&self, claims: &Claims) -> Result<String> {
        let body = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": claims.sub, "iat": claims.iat, "exp": claims.exp, "session": claims.session,
        });
        let head = BASE64_URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(body.to_string()));
        let mac = self.mac(signed.as_bytes()).ok_or_else(|| Error::new(ErrorKind::Internal, "a token could not be signed"))?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
    }
    /// The claims of a token that is whole, ours and of this time. `now` in seconds since 1970.
    pub fn check(&self, token: &str, now: i64) -> std::result::Result<Claims, Refused> {
        if token.len() > LONGEST {
            return Err(Refused::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(head), Some(body), Some(tag), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(Refused::Malformed);
        };
        let header = object(head)?;
        // Only the one algorithm, spelled as it is; extensions that must be understood are not.
        if header["alg"] != "HS256" || header.get("crit").is_some() {
            return Err(Refused::AlgNotAllowed);
        }
        let tag = BASE64_URL_SAFE_NO_PAD.decode(tag).map_err(|_| Refused::Malformed)?;
        let mac = self.mac(&token.as_bytes()[..head.len() + 1 + body.len()]).ok_or(Refused::BadSignature)?;
        mac.verify_slice(&tag).map_err(|_| Refused::BadSignature)?;
        self.judge(&object(body)?, now)
    }
    fn judge(&self, body: &Value, now: i64) -> std::result::Result<Claims, Refused> {
        if body["iss"] != ISSUER {
            return Err(Refused::BadIssuer);
        }
        let meant = body["aud"] == AUDIENCE || body["aud"].as_array().is_some_and(|all| all.iter().any(|a| a == AUDIENCE));
        if !meant {
            return Err(Refused::BadAudience);
        }
        if let Some(from) = body.get("nbf")
            && from.as_f64().is_none_or(|from| from > now.saturating_add(self.leeway) as f64)
        {
            return Err(Refused::NotYetValid);
        }
        let claims = Claims::deserialize(body).map_err(|_| Refused::Malformed)?;
        if claims.exp.saturating_add(self.leeway) < now {
            return Err(Refused::Expired);
        }
        Ok(claims)
    }
    /// A keyed digest of a request, so that what is remembered of it tells nobody what was in it.
    pub fn digest(&self, text: &str) -> String {
        let mac = self.mac(format!("digest\0{text}").as_bytes());
        mac.map(|m| super::hex(&m.finalize().into_bytes())).unwrap_or_default()
    }
    fn mac(&self, over: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).ok()?;
        mac.update(over);
        Some(mac)
    }
}

fn object(part: &str) -> std::result::Result<Value, Refused> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed)?;
    match serde_json::from_slice(&bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err(Refused::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> Vec<Value> {
        let mut all: Vec<Value> = serde_json::from_str(include_str!("jwt_vectors.json")).unwrap();
        let Some(shared) = std::env::var_os("LINKSPAN_SHARED") else { return all };
        let sets = std::fs::read_dir(std::path::Path::new(&shared).join("vectors")).into_iter().flatten().flatten();
        for text in sets.filter_map(|set| std::fs::read_to_string(set.path().join("jwt.json")).ok()) {
            all.extend(serde_json::from_str::<Vec<Value>>(&text).unwrap());
        }
        all
    }

    #[test]
    fn every_published_vector_is_judged_as_it_says() {
        for vector in vectors() {
            let config = &vector["config"];
            let mut signer = Signer::new(config["secret"].as_str().unwrap().as_bytes());
            signer.leeway = config["leeway_s"].as_i64().unwrap();
            let judged = signer.check(vector["token"].as_str().unwrap(), vector["now"].as_i64().unwrap());
            assert_eq!(judged.is_ok(), vector["expect"]["valid"].as_bool().unwrap(), "{}: {judged:?}", vector["name"]);
            if let (Err(refused), Some(reason)) = (judged, vector["expect"]["reason"].as_str()) {
                assert_eq!(refused.as_str(), reason, "{}", vector["name"]);
            }
        }
    }

    #[test]
    fn a_token_of_ours_is_taken_and_any_bent_one_is_not() {
        let signer = Signer::new(b"0123456789abcdef0123456789abcdef");
        let claims = Claims { sub: "u".into(), iat: 100, exp: 200, session: 3 };
        let token = signer.sign(&claims).unwrap();
        assert_eq!(signer.check(&token, 150), Ok(claims.clone()));
        assert_eq!(signer.check(&token, 231), Err(Refused::Expired));
        for i in 0..token.len() {
            let mut bent = token.clone().into_bytes();
            bent[i] = if bent[i] == b'A' { b'B' } else { b'A' };
            assert!(signer.check(std::str::from_utf8(&bent).unwrap(), 150).is_err(), "{i}");
        }
        for text in ["", "..", "a.b", "a.b.c.d", &"x".repeat(9000), &format!("{token}=")] {
            assert!(signer.check(text, 150).is_err());
        }
        // No end, or one that is no number.
        for exp in [Value::Null, json!("200"), json!(1e300)] {
            let head = BASE64_URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256"}"#);
            let body = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "u", "iat": 1, "exp": exp}).to_string();
            let signed = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(body));
            let tag = BASE64_URL_SAFE_NO_PAD.encode(signer.mac(signed.as_bytes()).unwrap().finalize().into_bytes());
            assert!(signer.check(&format!("{signed}.{tag}"), 150).is_err());
        }
    }
}
