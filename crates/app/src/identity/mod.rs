//! What proves who somebody is: passwords, session tokens, the admin key. It knows no store and no operation.

mod admin_key;
mod attempts;
mod kept;
mod password;
mod token;

use std::{path::Path, sync::Arc};

use linkspan_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

pub use self::{
    admin_key::AdminKey,
    attempts::Attempts,
    kept::kept_secret,
    password::{check_strength, hash, verify},
    token::{Claims, Refused, Signer},
};

/// Hashes of passwords that are computed at once: each takes 19 MiB.
const HASHING: usize = 2;

/// What this process needs to tell people apart.
pub struct Identity {
    pub signer: Signer,
    pub admin: AdminKey,
    pub attempts: Attempts,
    hashing: Arc<Semaphore>,
}

impl Identity {
    /// Reads or makes what lies in the data dir. `given`: the admin key of the environment.
    pub fn open(dir: &Path, given: Option<&str>) -> Result<Self> {
        let session = kept_secret(&dir.join("session.key"), || Ok(hex(&random::<32>()?).into()))?;
        Ok(Self {
            signer: Signer::new(session.as_bytes()),
            admin: AdminKey::settle(&dir.join("admin.key"), given)?,
            attempts: Attempts::default(),
            hashing: Arc::new(Semaphore::new(HASHING)),
        })
    }
    /// A hash to store for a password.
    pub async fn hash(&self, password: String) -> Result<String> {
        check_strength(&password)?;
        let salt = random()?;
        self.hashing(move || hash(&password, &salt)).await?
    }
    /// Whether it is the password. Without a stored hash it takes as long, and it is not.
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<bool> {
        self.hashing(move || verify(&password, stored.as_deref())).await
    }
    async fn hashing<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let broke =
            |e: Box<dyn std::error::Error + Send + Sync>| Error::new(ErrorKind::Internal, "a password could not be hashed").because(e);
        let place = self.hashing.clone().acquire_owned().await.map_err(|e| broke(e.into()))?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        done.await.map_err(|e| broke(e.into()))
    }
}

/// From the machine's randomness.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::new(ErrorKind::Unavailable, "the machine gave no random bytes").because(e))?;
    Ok(bytes)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Of what is random enough that nobody guesses it: keys and tokens, never passwords.
pub fn fingerprint(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Takes as long wherever they differ.
pub fn same(a: &str, b: &str) -> bool {
    let (a, b) = (Sha256::digest(a.as_bytes()), Sha256::digest(b.as_bytes()));
    a.iter().zip(b.iter()).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}
