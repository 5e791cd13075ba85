//! Secrets at rest and in use: the token format, the keys that open it, the vault over the store, references to secrets that lie
//! elsewhere, and what takes a secret out of a text. It knows no connector and no operation.

mod fernet;
mod fields;
pub mod hidden;
mod keyring;
mod redact;
mod reference;
mod rotate;
mod vault;

pub use fernet::{Expiry, Key, Opened};
pub use fields::{Kind, kind_of, secrets_of};
pub use keyring::{Keyring, Turned};
pub use redact::{Drawn, Redactor};
pub use reference::{Elsewhere, Reference, VaultServer};
pub use rotate::{Progress, rotate};
pub use vault::{Sealing, Values, Vault};
