//! How requests are signed in.

use linkspan_core::{Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{literal, option, wrong};

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Auth {
    #[default]
    None,
    /// `Authorization: Bearer <token>`.
    Bearer { token: Secret },
    /// Name and password.
    #[serde(alias = "http_basic")]
    Basic {
        username: String,
        #[serde(default)]
        password: Secret,
    },
    /// A key in a header (the default) or in a parameter.
    ApiKey {
        key: Secret,
        /// The header's or the parameter's name.
        name: String,
        #[serde(default)]
        place: KeyPlace,
        /// What stands before the key, such as `Token `; nothing by default.
        #[serde(default)]
        prefix: String,
    },
    /// Access tokens from a token endpoint, by a refresh token, or without one by the client's own credentials.
    #[serde(alias = "oauth2", alias = "oauth2_client_credentials")]
    Oauth {
        /// The token endpoint.
        token_url: String,
        client_id: String,
        #[serde(default)]
        client_secret: Secret,
        /// Without one the client's own credentials bring the token (`grant_type=client_credentials`).
        refresh_token: Option<Secret>,
        /// Asked for with the token, where the API wants them.
        #[serde(default)]
        scopes: Vec<String>,
        /// Whether the endpoint hands out a new refresh token each time: it is kept before it is used.
        #[serde(default)]
        rotates: bool,
        /// The access token of now, where there is one. Kept here when the tokens rotate.
        access_token: Option<Secret>,
        /// When it ends (RFC 3339). Kept here when the tokens rotate.
        token_expiry_date: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyPlace {
    #[default]
    Header,
    #[serde(alias = "param", alias = "parameter")]
    Query,
}

impl Auth {
    /// The component, and the config with the secrets that its templates name: the fields of `auth` themselves.
    pub(super) fn component(&self) -> Result<(Value, Value)> {
        let text = |secret: &Option<Secret>| secret.as_ref().map(Secret::expose).unwrap_or_default().to_owned();
        Ok(match self {
            Self::None => (json!({"type": "NoAuth"}), json!({})),
            Self::Bearer { token } => {
                (json!({"type": "BearerAuthenticator", "api_token": "{{ config['token'] }}"}), json!({"token": token.expose()}))
            }
            Self::Basic { username, password } => (
                json!({"type": "BasicHttpAuthenticator", "username": "{{ config['username'] }}", "password": "{{ config['password'] }}"}),
                json!({"username": username, "password": password.expose()}),
            ),
            Self::ApiKey { key, name, place, prefix } => {
                if name.is_empty() {
                    return Err(wrong("the key has no place", "auth.name").fix("name the header or the parameter, such as X-Api-Key"));
                }
                let option = match place {
                    KeyPlace::Header => json!({"type": "RequestOption", "inject_into": "header", "field_name": literal(name)}),
                    KeyPlace::Query => option(name),
                };
                let token = "{{ config['prefix'] ~ config['key'] }}";
                (
                    json!({"type": "ApiKeyAuthenticator", "api_token": token, "inject_into": option}),
                    json!({"key": key.expose(), "prefix": prefix}),
                )
            }
            Self::Oauth { token_url, client_id, client_secret, refresh_token, access_token, token_expiry_date, .. } => {
                let given = json!({
                    "client_id": client_id, "client_secret": client_secret.expose(), "refresh_token": text(refresh_token),
                    "access_token": text(access_token), "token_expiry_date": token_expiry_date.as_deref().unwrap_or_default(),
                });
                let url = url::Url::parse(token_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
                if url.is_none() {
                    return Err(wrong("token_url is no address of a web server", "auth.token_url")
                        .fix("write it like https://auth.example.com/oauth/token"));
                }
                (self.oauth()?, given)
            }
        })
    }

    fn oauth(&self) -> Result<Value> {
        let Self::Oauth { token_url, client_id, refresh_token, scopes, rotates, .. } = self else { return Ok(Value::Null) };
        if client_id.is_empty() {
            return Err(wrong("OAuth has no client id", "auth.client_id").fix("give the id that the API's owner gave your application"));
        }
        let mut component = json!({
            "type": "OAuthAuthenticator",
            "token_refresh_endpoint": literal(token_url),
            "client_id": "{{ config['client_id'] }}",
            "client_secret": "{{ config['client_secret'] }}",
            "grant_type": if refresh_token.is_some() { "refresh_token" } else { "client_credentials" },
        });
        if !scopes.is_empty() {
            component["refresh_request_body"] = json!({"scope": literal(scopes.join(" "))});
        }
        if refresh_token.is_some() {
            component["refresh_token"] = "{{ config['refresh_token'] }}".into();
        }
        match (rotates, refresh_token) {
            (false, _) => {}
            (true, None) => {
                return Err(wrong("there is no refresh token that could rotate", "auth.rotates")
                    .fix("give `refresh_token`, or leave `rotates` out: client credentials bring a new token each time"));
            }
            (true, Some(_)) => {
                component["refresh_token_updater"] = json!({
                    "refresh_token_config_path": ["refresh_token"], "access_token_config_path": ["access_token"],
                    "token_expiry_date_config_path": ["token_expiry_date"],
                });
            }
        }
        Ok(component)
    }

    /// What is tried again waits as long as the API says; a token that ends before its time is replaced by another one.
    pub(super) fn error_handler(&self) -> Value {
        let waits = json!([{"type": "WaitTimeFromHeader", "header": "Retry-After"}]);
        let mut handler = json!({"type": "DefaultErrorHandler", "backoff_strategies": waits});
        if matches!(self, Self::Oauth { .. }) {
            let filter = json!({"type": "HttpResponseFilter", "http_codes": [401], "action": "REFRESH_TOKEN_THEN_RETRY"});
            handler["response_filters"] = json!([filter]);
        }
        handler
    }
}
