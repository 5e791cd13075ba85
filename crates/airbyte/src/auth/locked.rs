//! Private keys behind a passphrase, as OpenSSL writes them: PKCS#8 with PBES2 (RFC 8018), and the older form with a `DEK-Info` line.

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7},
};
use linkspan_core::{Error, ErrorKind, Result};
use md5::{Digest, Md5};
use ring::pbkdf2;

use super::armor::Pem;

/// Beyond this many rounds a key takes seconds to open.
const MOST_ROUNDS: u32 = 5_000_000;

const PBES2: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x05, 0x0D];
const PBKDF2: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x05, 0x0C];
/// What the objects of hashes for HMAC begin with; the last byte says which.
const HMAC: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x02];
/// The same for AES.
const AES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01];

/// The key without its lock.
pub(super) fn open(locked: &Pem, passphrase: &[u8]) -> Result<Pem> {
    if locked.label == "ENCRYPTED PRIVATE KEY" {
        return Ok(Pem { label: "PRIVATE KEY".into(), der: pbes2(&locked.der, passphrase)?, lock: None });
    }
    let Some((cipher, iv)) = &locked.lock else {
        return Err(Error::new(ErrorKind::ConfigInvalid, "a passphrase is given, and the private key is not behind one")
            .fix("leave the passphrase out, or store the key as it was encrypted"));
    };
    let key = match cipher.as_str() {
        "AES-128-CBC" => 16,
        "AES-192-CBC" => 24,
        "AES-256-CBC" => 32,
        other => return Err(unsupported(other)),
    };
    let salt = iv.get(..8).ok_or_else(wrong)?;
    let der = decrypted(&key_of_older_form(passphrase, salt, key), iv, &locked.der)?;
    Ok(Pem { label: locked.label.clone(), der, lock: None })
}

fn wrong() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the private key cannot be opened").fix("check the passphrase and the key")
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, "the private key is encrypted in a way that cannot be opened")
        .with("encryption", what)
        .fix("encrypt it anew with AES, as `openssl pkcs8 -topk8 -v2 aes-256-cbc` does")
}

/// OpenSSL's own way from a passphrase to a key, before there was PKCS#8.
fn key_of_older_form(passphrase: &[u8], salt: &[u8], length: usize) -> Vec<u8> {
    let mut key: Vec<u8> = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    while key.len() < length {
        last = Md5::digest([&last, passphrase, salt].concat()).to_vec();
        key.extend(&last);
    }
    key.truncate(length);
    key
}

fn decrypted(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Vec<u8>> {
    macro_rules! with {
        ($kind:ty) => {
            cbc::Decryptor::<$kind>::new_from_slices(key, iv).map_err(|_| wrong())?.decrypt_padded_vec::<Pkcs7>(data)
        };
    }
    let opened = match key.len() {
        16 => with!(Aes128),
        24 => with!(Aes192),
        _ => with!(Aes256),
    };
    opened.map_err(|_| wrong())
}

fn pbes2(der: &[u8], passphrase: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Der(Der(der).take(0x30)?);
    let mut scheme = Der(whole.take(0x30)?);
    let data = whole.take(0x04)?;
    if scheme.take(0x06)? != PBES2 {
        return Err(unsupported("PKCS#5 v1 or PKCS#12"));
    }
    let mut parts = Der(scheme.take(0x30)?);
    let (mut derivation, mut cipher) = (Der(parts.take(0x30)?), Der(parts.take(0x30)?));
    if derivation.take(0x06)? != PBKDF2 {
        return Err(unsupported("a key derivation other than PBKDF2"));
    }
    let mut derivation = Der(derivation.take(0x30)?);
    let salt = derivation.take(0x04)?;
    let rounds = number(derivation.take(0x02)?)?;
    let rounds = std::num::NonZeroU32::new(rounds).filter(|r| r.get() <= MOST_ROUNDS).ok_or_else(|| unsupported("too many rounds"))?;
    if derivation.0.first() == Some(&0x02) {
        derivation.take(0x02)?;
    }
    let hash = match derivation.0.first() {
        None => pbkdf2::PBKDF2_HMAC_SHA1,
        Some(_) => match Der(derivation.take(0x30)?).take(0x06)?.strip_prefix(HMAC) {
            Some([0x07]) => pbkdf2::PBKDF2_HMAC_SHA1,
            Some([0x09]) => pbkdf2::PBKDF2_HMAC_SHA256,
            Some([0x0A]) => pbkdf2::PBKDF2_HMAC_SHA384,
            Some([0x0B]) => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return Err(unsupported("an unusual hash")),
        },
    };
    let length = match cipher.take(0x06)?.strip_prefix(AES) {
        Some([0x02]) => 16,
        Some([0x16]) => 24,
        Some([0x2A]) => 32,
        _ => return Err(unsupported("a cipher other than AES-CBC")),
    };
    let iv = cipher.take(0x04)?;
    let mut key = vec![0; length];
    pbkdf2::derive(hash, rounds, salt, passphrase, &mut key);
    decrypted(&key, iv, data)
}

fn number(bytes: &[u8]) -> Result<u32> {
    bytes.iter().try_fold(0u32, |n, byte| Some(n.checked_mul(256)? | u32::from(*byte))).ok_or_else(|| unsupported("too many rounds"))
}

/// DER, read from its beginning.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next value, which must have this tag.
    fn take(&mut self, tag: u8) -> Result<&'a [u8]> {
        let [found, first, rest @ ..] = self.0 else { return Err(wrong()) };
        let bytes = if *first < 0x80 { 0 } else { usize::from(first & 0x7F) };
        if *found != tag || bytes > 4 || rest.len() < bytes {
            return Err(wrong());
        }
        let (written, rest) = rest.split_at(bytes);
        let length = if bytes == 0 { usize::from(*first) } else { written.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)) };
        if rest.len() < length {
            return Err(wrong());
        }
        let (content, rest) = rest.split_at(length);
        self.0 = rest;
        Ok(content)
    }
}
