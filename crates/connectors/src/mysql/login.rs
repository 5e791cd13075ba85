//! Answers to the server's challenge, one function per authentication plugin. Pure: bytes in, bytes out.

use std::path::Path;

use linkspan_core::{Error, ErrorKind, Result, file_error};
use ring::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::ed25519;

/// What the user can do about a plugin that is not spoken here.
pub(super) const PLUGINS: &str = "give the user caching_sha2_password, sha256_password, mysql_native_password or (MariaDB) ed25519";

/// Whether nobody can listen on the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Private,
    Open,
}

/// The first answer to a plugin's challenge. A user without a password always answers with nothing.
pub(super) fn answer(plugin: &str, password: &str, nonce: &[u8], channel: Channel) -> Result<Vec<u8>> {
    match plugin {
        "mysql_native_password" | "caching_sha2_password" if password.is_empty() => Ok(Vec::new()),
        "mysql_native_password" => Ok(native(password, nonce)),
        "caching_sha2_password" => Ok(caching_sha2(password, nonce)),
        "client_ed25519" => Ok(ed25519::signature(password, nonce)),
        "sha256_password" => clear(plugin, password, channel),
        other => Err(unsupported(other)),
    }
}

/// The password itself, for the plugins that want it; only where nobody can listen.
pub(super) fn clear(plugin: &str, password: &str, channel: Channel) -> Result<Vec<u8>> {
    if channel == Channel::Open && !password.is_empty() {
        return Err(Error::new(ErrorKind::AuthFailed, "the server wants the password itself, and the connection is not encrypted")
            .with("plugin", plugin)
            .fix("use sslmode=require (or verify-full), so that nobody can read it on the way; or give the server's key in server_public_key"));
    }
    let mut out = password.as_bytes().to_vec();
    out.push(0);
    Ok(out)
}

/// The server's public key, as the user saved it. Asking the server itself for it would be to ask whoever answers.
pub(super) fn key_file(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| file_error("the server's public key cannot be read", path, e))
}

/// `SHA1(p) xor SHA1(nonce, SHA1(SHA1(p)))`.
fn native(password: &str, nonce: &[u8]) -> Vec<u8> {
    let once = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[password.as_bytes()]);
    let twice = hash(&SHA1_FOR_LEGACY_USE_ONLY, &[&once]);
    xor(&once, &hash(&SHA1_FOR_LEGACY_USE_ONLY, &[nonce, &twice]))
}

/// `SHA256(p) xor SHA256(SHA256(SHA256(p)), nonce)`.
fn caching_sha2(password: &str, nonce: &[u8]) -> Vec<u8> {
    let once = hash(&SHA256, &[password.as_bytes()]);
    let twice = hash(&SHA256, &[&once]);
    xor(&once, &hash(&SHA256, &[&twice, nonce]))
}

fn hash(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

fn unsupported(plugin: &str) -> Error {
    // The name comes from the other side, before it has proved anything: only a word is shown.
    let word: String = plugin.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
    Error::new(ErrorKind::Unsupported, "the server asks for a way to log in that is not supported").with("plugin", word).fix(PLUGINS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server's side of each plugin: it knows only the stored hash, and must find it again in the answer.
    #[test]
    fn the_server_can_check_the_answers_with_what_it_stores() {
        let nonce: Vec<u8> = (1..=20).collect();
        let (sha1, sha2) = (&SHA1_FOR_LEGACY_USE_ONLY, &SHA256);
        let stored = hash(sha1, &[&hash(sha1, &[b"secret"])]);
        let once = xor(&native("secret", &nonce), &hash(sha1, &[&nonce, &stored]));
        assert_eq!(hash(sha1, &[&once]), stored);
        let stored = hash(sha2, &[&hash(sha2, &[b"secret"])]);
        let once = xor(&caching_sha2("secret", &nonce), &hash(sha2, &[&stored, &nonce]));
        assert_eq!(hash(sha2, &[&once]), stored);
    }

    #[test]
    fn a_password_goes_in_the_clear_only_where_nobody_listens() {
        assert_eq!(answer("sha256_password", "p", &[], Channel::Private).unwrap(), b"p\0");
        let e = answer("sha256_password", "canary", &[], Channel::Open).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AuthFailed);
        assert!(!format!("{e:?}").contains("canary"));
        assert_eq!(answer("mysql_clear_password", "p", &[], Channel::Private).unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(answer("caching_sha2_password", "", &[1; 20], Channel::Open).unwrap().is_empty());
    }
}
