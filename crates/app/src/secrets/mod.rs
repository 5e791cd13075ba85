//! Secrets at rest: the token format and the keys that open it. It knows no store and no connector.

mod fernet;
mod keyring;

pub use fernet::{Expiry, Key, Opened};
pub use keyring::{Keyring, Turned};
