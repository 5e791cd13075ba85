//! Signatures with keys as configs hold them: a text for HMAC, PEM for the others.

use base64::{Engine, prelude::BASE64_STANDARD};
use linkspan_core::{Error, ErrorKind, Result};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding, RsaKeyPair},
};

use super::algorithm::{Algorithm, Bits};

pub fn sign(algorithm: Algorithm, key: &str, text: &[u8]) -> Result<Vec<u8>> {
    match algorithm {
        Algorithm::Hmac(bits) => {
            let kind = match bits {
                Bits::B256 => hmac::HMAC_SHA256,
                Bits::B384 => hmac::HMAC_SHA384,
                Bits::B512 => hmac::HMAC_SHA512,
            };
            Ok(hmac::sign(&hmac::Key::new(kind, key.as_bytes()), text).as_ref().to_vec())
        }
        Algorithm::Rsa(Bits::B256) => rsa(&signature::RSA_PKCS1_SHA256, key, text),
        Algorithm::Rsa(Bits::B384) => rsa(&signature::RSA_PKCS1_SHA384, key, text),
        Algorithm::Rsa(Bits::B512) => rsa(&signature::RSA_PKCS1_SHA512, key, text),
        Algorithm::RsaPss(Bits::B256) => rsa(&signature::RSA_PSS_SHA256, key, text),
        Algorithm::RsaPss(Bits::B384) => rsa(&signature::RSA_PSS_SHA384, key, text),
        Algorithm::RsaPss(Bits::B512) => rsa(&signature::RSA_PSS_SHA512, key, text),
        Algorithm::Ecdsa(Bits::B256) => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, Curve::P256, key, text),
        Algorithm::Ecdsa(Bits::B384) => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, Curve::P384, key, text),
        Algorithm::Ecdsa(Bits::B512) => Err(unsupported("ES512")),
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pem(key)?.der).map_err(|_| wrong())?;
            Ok(pair.sign(text).as_ref().to_vec())
        }
        Algorithm::Other(name) => Err(unsupported(name)),
    }
}

fn unsupported(name: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, "tokens cannot be signed this way")
        .with("algorithm", name)
        .fix("use RS256, PS256, ES256, ES384, EdDSA or HS256")
}

fn wrong() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the private key cannot be read").fix("store an unencrypted PEM key of the algorithm's kind")
}

struct Pem {
    label: String,
    der: Vec<u8>,
}

/// The first private key of a PEM text; line ends may be written as `\n`.
fn pem(text: &str) -> Result<Pem> {
    let text = text.replace("\\n", "\n");
    let (_, rest) = text.split_once("-----BEGIN ").ok_or_else(wrong)?;
    let (label, rest) = rest.split_once("-----").ok_or_else(wrong)?;
    let (body, _) = rest.split_once("-----END").ok_or_else(wrong)?;
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    Ok(Pem { label: label.to_owned(), der: BASE64_STANDARD.decode(body).map_err(|_| wrong())? })
}

fn rsa(kind: &'static dyn RsaEncoding, key: &str, text: &[u8]) -> Result<Vec<u8>> {
    let pem = pem(key)?;
    let pair = if pem.label == "RSA PRIVATE KEY" { RsaKeyPair::from_der(&pem.der) } else { RsaKeyPair::from_pkcs8(&pem.der) };
    let pair = pair.map_err(|_| wrong())?;
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(kind, &SystemRandom::new(), text, &mut signature).map_err(|_| wrong())?;
    Ok(signature)
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

fn ecdsa(kind: &'static EcdsaSigningAlgorithm, curve: Curve, key: &str, text: &[u8]) -> Result<Vec<u8>> {
    let pem = pem(key)?;
    let der = if pem.label == "EC PRIVATE KEY" { as_pkcs8(curve, &pem.der) } else { pem.der };
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(kind, &der, &random).map_err(|_| wrong())?;
    Ok(pair.sign(&random, text).map_err(|_| wrong())?.as_ref().to_vec())
}

/// The older form of a key in the envelope of the newer one.
fn as_pkcs8(curve: Curve, key: &[u8]) -> Vec<u8> {
    const EC: &[u8] = &[0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
    let oid: &[u8] = match curve {
        Curve::P256 => &[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07],
        Curve::P384 => &[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22],
    };
    let algorithm = tagged(0x30, &[EC, oid].concat());
    tagged(0x30, &[&[0x02, 0x01, 0x00][..], &algorithm, &tagged(0x04, key)].concat())
}

fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match body.len() {
        short @ 0..=0x7F => out.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let used: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
            out.push(0x80 | used.len() as u8);
            out.extend(used);
        }
    }
    out.extend_from_slice(body);
    out
}
