//! Manifests from elsewhere: by URL, or by name from a registry of the public one's layout.

use std::time::Duration;

use http::{Request, StatusCode};
use linkspan_airbyte::entry;
use linkspan_core::{Body, Error, ErrorKind, Result, mask_url};

use crate::app::App;

const PATIENCE: Duration = Duration::from_secs(30);

/// A text with what it is called and where it came from.
pub(super) struct Fetched {
    pub text: String,
    pub name: Option<String>,
    pub from: String,
}

/// What stands at a URL.
pub(super) async fn by_url(app: &App, url: &str) -> Result<Fetched> {
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a manifest's URL begins with https://").with("field", "url"));
    }
    let text = get(app, url).await?;
    let path = url.split(['?', '#']).next().unwrap_or_default();
    Ok(Fetched { text, name: name_of_path(path.split_once("://").map_or(path, |(_, rest)| rest)), from: shown(url) })
}

/// `orders`, `source-orders` or `source-orders@1.2.3`.
pub(super) async fn by_name(app: &App, given: &str) -> Result<Fetched> {
    let (name, version) = given.split_once('@').unwrap_or((given, "latest"));
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let own = name.trim_start_matches("airbyte/");
    let own = own.strip_prefix("source-").unwrap_or(own).to_ascii_lowercase().replace('_', "-");
    if !plain(&own) || !plain(version) || own.contains('.') || version.starts_with('.') {
        return Err(Error::new(ErrorKind::ConfigInvalid, "this is no name of a manifest")
            .with("field", "registry")
            .fix("write it as `orders`, or as `orders@1.2.3` for one version"));
    }
    let base = app.settings.manifest_registry.trim_end_matches('/');
    let url = format!("{base}/metadata/airbyte/source-{own}/{version}/manifest.yaml");
    let text = get(app, &url).await.map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "the registry has no manifest of this name")
            .with("name", own.clone())
            .with("registry", mask_url(base))
            .fix("check the name; a connector that is a program has no manifest there: run it as a subprocess"),
        _ => e,
    })?;
    Ok(Fetched { text, name: Some(entry::type_name(&own)?), from: format!("registry:source-{own}@{version}") })
}

async fn get(app: &App, url: &str) -> Result<String> {
    let request = Request::get(url).header("accept", "application/yaml, text/yaml, text/plain, */*").body(Body::empty());
    let request =
        request.map_err(|e| Error::new(ErrorKind::ConfigInvalid, "the manifest's URL is none").with("field", "url").because(e))?;
    let asked = async {
        let response = app.context.http.send(request).await?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(Error::new(ErrorKind::NotFound, "there is nothing at the manifest's URL"));
            }
            status => {
                return Err(Error::new(ErrorKind::Unavailable, "the manifest cannot be fetched").with("status", status.as_u16()));
            }
        }
        let bytes = response.into_body().bytes(entry::LARGEST + 1).await?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::new(ErrorKind::ConfigInvalid, "what stands at the URL is no text"))
    };
    let text = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, "the manifest did not come in time").with("after_seconds", PATIENCE.as_secs()))
    });
    text.map_err(|e| e.with("url", shown(url)))
}

/// Without password and query: a query may carry a token.
fn shown(url: &str) -> String {
    mask_url(url.split(['?', '#']).next().unwrap_or_default())
}

/// What a file is called after: its own name, or for a `manifest.yaml` its folder's, past the folders of versions.
pub fn name_of_path(path: &str) -> Option<String> {
    let mut parts = path.rsplit(['/', '\\']).filter(|p| !p.is_empty() && *p != "." && *p != "..");
    let file = parts.next()?;
    let stem = [".yaml", ".yml", ".json"].iter().find_map(|end| file.strip_suffix(end)).unwrap_or(file);
    if stem != "manifest" {
        return entry::type_name(stem).ok();
    }
    let is_version = |part: &str| part == "latest" || part.split('.').all(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
    parts.find(|part| !is_version(part)).and_then(|folder| entry::type_name(folder).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_called_after_its_file_or_its_folder() {
        for (path, name) in [
            ("./orders.yaml", Some("orders")),
            ("sources/source-aha/manifest.yaml", Some("aha")),
            ("h/metadata/airbyte/source-7shifts/latest/manifest.yaml", Some("7shifts")),
            ("source-box/0.2.1/manifest.yml", Some("box")),
            ("manifest.yaml", None),
            ("", None),
        ] {
            assert_eq!(name_of_path(path).as_deref(), name, "{path}");
        }
    }
}
