//! The first key of an installation: given by the environment, else made in the data dir.

use std::path::{Path, PathBuf};

use linkspan_core::{Error, ErrorKind, Result};

use super::{fingerprint, hex, kept::kept_secret, random, same};

const SHORTEST: usize = 32;

/// Only its fingerprint is kept in memory.
pub struct AdminKey {
    fingerprint: String,
    file: Option<PathBuf>,
}

impl AdminKey {
    /// The given one (at least 32 characters), else the file's, which is made when it is not there.
    pub fn settle(file: &Path, given: Option<&str>) -> Result<Self> {
        match given {
            Some(key) if key.chars().count() < SHORTEST => Err(Error::new(ErrorKind::ConfigInvalid, "the admin key is too short")
                .with("variable", "LINKSPAN_ADMIN_KEY")
                .fix(format!("give it at least {SHORTEST} characters: `openssl rand -hex 32` makes a good one"))),
            Some(key) => Ok(Self { fingerprint: fingerprint(key), file: None }),
            None => {
                let key = kept_secret(file, || Ok(format!("lk_admin_{}", hex(&random::<32>()?)).into()))?;
                Ok(Self { fingerprint: fingerprint(&key), file: Some(file.to_owned()) })
            }
        }
    }
    pub fn is(&self, given: &str) -> bool {
        same(&self.fingerprint, &fingerprint(given))
    }
    /// Where it lies, for the one line that tells its place; none when the environment gave it.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}
