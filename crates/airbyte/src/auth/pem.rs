//! Signatures with keys as configs hold them: a text for HMAC, PEM for the others.

use k256::{
    ecdsa::signature::Signer,
    elliptic_curve::{self, SecretKey},
    pkcs8::{AssociatedOid, DecodePrivateKey},
};
use linkspan_core::Result;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding, RsaKeyPair},
};

use super::{
    algorithm::{Algorithm, Bits},
    armor::{Pem, pem, wrong},
};

/// What tokens are signed with: the config's text, or what was behind a passphrase in it.
pub enum Key {
    Text(String),
    Opened(Pem),
}

impl Key {
    /// The private key of a PEM text behind a passphrase.
    pub fn behind(passphrase: &str, text: &str) -> Result<Self> {
        super::locked::open(&pem(text)?, passphrase.as_bytes()).map(Self::Opened)
    }
    fn pem(&self) -> Result<Pem> {
        match self {
            Self::Text(text) => pem(text).and_then(|pem| if pem.lock.is_none() { Ok(pem) } else { Err(wrong()) }),
            Self::Opened(pem) => Ok(pem.clone()),
        }
    }
}

pub fn sign(algorithm: Algorithm, key: &Key, text: &[u8]) -> Result<Vec<u8>> {
    match algorithm {
        Algorithm::Hmac(bits) => {
            let Key::Text(key) = key else { return Err(wrong()) };
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
        Algorithm::Ecdsa(Bits::B512) => {
            let key = curve_key::<p521::NistP521>(key)?;
            let signature: p521::ecdsa::Signature = p521::ecdsa::SigningKey::from(key).sign(text);
            Ok(signature.to_bytes().to_vec())
        }
        Algorithm::Secp256k1 => {
            let key = curve_key::<k256::Secp256k1>(key)?;
            let signature: k256::ecdsa::Signature = k256::ecdsa::SigningKey::from(key).sign(text);
            Ok(signature.to_bytes().to_vec())
        }
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key.pem()?.der).map_err(|_| wrong())?;
            Ok(pair.sign(text).as_ref().to_vec())
        }
    }
}

fn rsa(kind: &'static dyn RsaEncoding, key: &Key, text: &[u8]) -> Result<Vec<u8>> {
    let pem = key.pem()?;
    let pair = if pem.label == "RSA PRIVATE KEY" { RsaKeyPair::from_der(&pem.der) } else { RsaKeyPair::from_pkcs8(&pem.der) };
    let pair = pair.map_err(|_| wrong())?;
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(kind, &SystemRandom::new(), text, &mut signature).map_err(|_| wrong())?;
    Ok(signature)
}

/// A key on one of the curves that ring does not sign on.
fn curve_key<C>(key: &Key) -> Result<SecretKey<C>>
where
    C: elliptic_curve::Curve + AssociatedOid,
    SecretKey<C>: DecodePrivateKey,
    C: elliptic_curve::sec1::ValidatePublicKey,
    elliptic_curve::FieldBytesSize<C>: elliptic_curve::sec1::ModulusSize,
{
    let pem = key.pem()?;
    match pem.label.as_str() {
        "EC PRIVATE KEY" => SecretKey::from_sec1_der(&pem.der).map_err(|_| wrong()),
        _ => SecretKey::from_pkcs8_der(&pem.der).map_err(|_| wrong()),
    }
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

fn ecdsa(kind: &'static EcdsaSigningAlgorithm, curve: Curve, key: &Key, text: &[u8]) -> Result<Vec<u8>> {
    let pem = key.pem()?;
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

#[cfg(test)]
mod tests {
    use k256::ecdsa::signature::Verifier;
    use linkspan_core::ErrorKind;

    use super::*;

    /// Made for this test by OpenSSL.
    const P521: &str = "-----BEGIN EC PRIVATE KEY-----
MIHcAgEBBEIBY/oGxfV2IGiNYE+n2Uggi+B/lrHlLeCcSDdoqgLLdxk+uqrChvVT
3or4dZla5Ao0cL3RHIwgSuA8l2xAu1fpbZ2gBwYFK4EEACOhgYkDgYYABAEtcI4E
WnpZb5xcJe1zaq6ke/fNqrEfb/Vd94Yaxio2sL3cpwoN8PkEIeUF5usiix4XHehJ
h70B2uZjXl/+ZU/zXwGERu30MpbVfKaKPdt6DkxjlZr06BwccECqfcwlPvtW1Z3i
GUZUX/ggt60pzHAE2IjzbpaC8hHpRe70NxrgH6XDbA==
-----END EC PRIVATE KEY-----";
    const P521_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIBY/oGxfV2IGiNYE+n
2Uggi+B/lrHlLeCcSDdoqgLLdxk+uqrChvVT3or4dZla5Ao0cL3RHIwgSuA8l2xA
u1fpbZ2hgYkDgYYABAEtcI4EWnpZb5xcJe1zaq6ke/fNqrEfb/Vd94Yaxio2sL3c
pwoN8PkEIeUF5usiix4XHehJh70B2uZjXl/+ZU/zXwGERu30MpbVfKaKPdt6Dkxj
lZr06BwccECqfcwlPvtW1Z3iGUZUX/ggt60pzHAE2IjzbpaC8hHpRe70NxrgH6XD
bA==
-----END PRIVATE KEY-----";
    const K256_LOCKED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhdwGZuHAOtVQICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEJjt+dQLAqT77U/+x4MLRSoEgZCC
kA5cD6nBepgF6V+pdsCTLWAAVhz5ZzuKrS/3vDchivzHSBNJLETCogyFdE3ccrDs
F+ULJPKcoR3+aFvSN78uxQmqNSJGOK2nCT7oC00C5Epxq6thbHPvxJTU5pEw2N3P
wn8QwUvUYUfVbi67ipGTb2Ty51wq6uEpEEXFD5oiThs4GuV9H1N9uzgXbbihz4M=
-----END ENCRYPTED PRIVATE KEY-----";

    #[test]
    fn the_curves_that_ring_does_not_know_are_signed_on() {
        for text in [P521, P521_PKCS8] {
            let key = Key::Text(text.replace('\n', "\\n"));
            let signed = sign(Algorithm::Ecdsa(Bits::B512), &key, b"text").unwrap();
            let public = p521::ecdsa::VerifyingKey::from(&p521::ecdsa::SigningKey::from(curve_key::<p521::NistP521>(&key).unwrap()));
            public.verify(b"text", &p521::ecdsa::Signature::from_slice(&signed).unwrap()).unwrap();
            assert_eq!(signed.len(), 132);
        }
        let key = Key::behind("canary-pass", K256_LOCKED).unwrap();
        let signed = sign(Algorithm::Secp256k1, &key, b"text").unwrap();
        let public = k256::ecdsa::SigningKey::from(curve_key::<k256::Secp256k1>(&key).unwrap());
        public.verifying_key().verify(b"text", &k256::ecdsa::Signature::from_slice(&signed).unwrap()).unwrap();
    }

    #[test]
    fn a_key_is_opened_by_its_own_passphrase_only() {
        for (passphrase, text) in [("wrong", K256_LOCKED), ("canary-pass", P521)] {
            let error = Key::behind(passphrase, text).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
        }
        assert!(sign(Algorithm::Secp256k1, &Key::Text(K256_LOCKED.into()), b"text").is_err());
    }
}
