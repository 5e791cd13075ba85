//! Sign-ins that are kept: one file for its user only.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use linkspan_core::{Error, ErrorKind, Result, Secret, file_error};
use serde_json::{Value, json};

/// A server and who one is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub server: String,
    pub token: Secret,
    pub project: Option<String>,
}

pub fn read(name: &str) -> Result<Option<Profile>> {
    let Some(file) = file() else { return Ok(None) };
    let Some(kept) = all(&file)?.remove(name) else { return Ok(None) };
    let text = |key: &str| kept[key].as_str().map(str::to_owned);
    let (Some(server), Some(token)) = (text("server"), text("token")) else { return Ok(None) };
    Ok(Some(Profile { server, token: Secret::new(token), project: text("project") }))
}

/// Where it is kept from now on.
pub fn keep(name: &str, profile: &Profile) -> Result<PathBuf> {
    let file = file().ok_or_else(|| Error::new(ErrorKind::ConfigInvalid, "there is no place for profiles: HOME is not set"))?;
    let mut profiles = all(&file)?;
    let token = profile.token.expose();
    profiles.insert(name.to_owned(), json!({ "server": profile.server, "token": token, "project": profile.project }));
    written(&file, &profiles)?;
    Ok(file)
}

/// A sign-in that is over.
pub fn forget(name: &str) -> Result<()> {
    let Some(file) = file() else { return Ok(()) };
    let mut profiles = all(&file)?;
    if profiles.remove(name).is_some() { written(&file, &profiles) } else { Ok(()) }
}

fn written(file: &Path, profiles: &BTreeMap<String, Value>) -> Result<()> {
    let failed = |e| file_error("the profile cannot be kept", file, e);
    if let Some(folder) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let fresh = file.with_extension("new");
    fs::remove_file(&fresh).ok();
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(failed)?;
    to.write_all(json!(profiles).to_string().as_bytes()).and_then(|()| to.sync_all()).map_err(failed)?;
    fs::rename(&fresh, file).map_err(failed)
}

fn all(file: &Path) -> Result<BTreeMap<String, Value>> {
    match fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).map_err(|_| {
            Error::new(ErrorKind::ConfigInvalid, "the profiles are not readable")
                .with("path", file.display())
                .fix("delete the file and sign in again")
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(e) => Err(file_error("the profiles cannot be read", file, e)),
    }
}

fn file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").filter(|d| d.is_absolute()).or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(base.join("linkspan").join("profiles.json"))
}
