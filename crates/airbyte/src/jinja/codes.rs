//! Hashes, base64, and quoting for addresses.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::value::{Outcome, other};

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digested<D: Digest>(value: &str, salt: &str) -> String {
    hex(D::new().chain_update(value).chain_update(salt).finalize().as_slice())
}

/// The filter `hash`.
pub(super) fn hash(value: &str, kind: &str, salt: &str) -> Outcome<String> {
    Ok(match kind {
        "md5" => digested::<Md5>(value, salt),
        "sha1" => digested::<Sha1>(value, salt),
        "sha224" => digested::<Sha224>(value, salt),
        "sha256" => digested::<Sha256>(value, salt),
        "sha384" => digested::<Sha384>(value, salt),
        "sha512" => digested::<Sha512>(value, salt),
        kind => return other(format!("there is no hash {kind:?} here")),
    })
}

pub(super) fn hmac(value: &str, key: &str, kind: &str) -> Outcome<String> {
    if kind != "sha256" {
        return other(format!("the hash type {kind:?} is not allowed here"));
    }
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else { return other("the key has a wrong length") };
    mac.update(value.as_bytes());
    Ok(hex(mac.finalize().into_bytes()))
}

pub(super) fn base64(value: &str) -> String {
    STANDARD.encode(value)
}

/// As Python decodes: what is no letter of the alphabet is skipped, the padding must be there.
pub(super) fn base64_decoded(value: &str) -> Outcome<String> {
    let kept: String = value.chars().filter(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c)).collect();
    // What stands behind the padding does not count.
    let letters = kept.find('=').unwrap_or(kept.len());
    let needed = (4 - letters % 4) % 4;
    let padding = kept[letters..].bytes().filter(|b| *b == b'=').count();
    if letters % 4 == 1 || padding < needed {
        return other("the text is no base64");
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, config).decode(&kept[..letters]);
    match bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) => Ok(text),
        None => other("the text is no base64 of a text"),
    }
}

/// Everything but letters, digits, `_.-~` and those kept.
pub(super) fn quoted(value: &str, kept: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "_.-~".contains(c) || (byte.is_ascii() && kept.contains(c)) {
            out.push(c);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

pub(super) fn quoted_plus(value: &str) -> String {
    quoted(value, "").replace("%20", "+")
}
