//! Fernet tokens: version, timestamp, IV, AES-128-CBC, HMAC-SHA256 over all before, in URL-safe base64.

use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use base64::{Engine, prelude::BASE64_URL_SAFE};
use hmac::{Hmac, KeyInit, Mac};
use linkspan_core::{Error, ErrorKind, Result};
use sha2::Sha256;
use zeroize::Zeroizing;

const VERSION: u8 = 0x80;
/// Version, timestamp, IV.
const HEAD: usize = 1 + 8 + 16;
const TAG: usize = 32;
const BLOCK: usize = 16;
/// How far into the future a token's timestamp may lie where its age is judged.
const SKEW_SECONDS: u64 = 60;

/// 16 bytes that sign and 16 that encrypt. Never printed; wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    signing: Zeroizing<[u8; 16]>,
    encryption: Zeroizing<[u8; 16]>,
}

/// Whether a token's age counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Secrets at rest never grow too old.
    Never,
    After {
        seconds: u64,
        now: u64,
    },
}

/// What was in a token, and when it was sealed.
pub struct Opened {
    pub plain: Zeroizing<Vec<u8>>,
    /// Seconds since 1970.
    pub sealed_at: u64,
}

impl Key {
    /// 32 bytes in URL-safe base64. The error says nothing of the text.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = BASE64_URL_SAFE.decode(text.trim()).map(Zeroizing::new).map_err(|_| bad_key())?;
        let (signing, encryption) = bytes.split_at_checked(16).ok_or_else(bad_key)?;
        Ok(Self {
            signing: Zeroizing::new(signing.try_into().map_err(|_| bad_key())?),
            encryption: Zeroizing::new(encryption.try_into().map_err(|_| bad_key())?),
        })
    }
    /// A new key from the machine's randomness.
    pub fn generate() -> Result<Self> {
        Ok(Self { signing: Zeroizing::new(random()?), encryption: Zeroizing::new(random()?) })
    }
    /// The key as [`Key::parse`] reads it: for the one file or variable that keeps it.
    pub fn expose(&self) -> Zeroizing<String> {
        let whole = Zeroizing::new([self.signing.as_slice(), self.encryption.as_slice()].concat());
        Zeroizing::new(BASE64_URL_SAFE.encode(&whole))
    }

    /// A token that only this key opens. `now` in seconds since 1970.
    pub fn seal(&self, plain: &[u8], now: u64) -> Result<String> {
        self.seal_with(plain, now, random()?)
    }
    pub(super) fn seal_with(&self, plain: &[u8], now: u64, iv: [u8; 16]) -> Result<String> {
        let body = cbc::Encryptor::<aes::Aes128>::new((&*self.encryption).into(), (&iv).into()).encrypt_padded_vec::<Pkcs7>(plain);
        let mut token = Vec::with_capacity(HEAD + body.len() + TAG);
        token.push(VERSION);
        token.extend_from_slice(&now.to_be_bytes());
        token.extend_from_slice(&iv);
        token.extend_from_slice(&body);
        let tag = self.mac(&token)?.finalize().into_bytes();
        token.extend_from_slice(&tag);
        Ok(BASE64_URL_SAFE.encode(token))
    }

    /// Opens a token of this key. Every refusal is the same error: which step failed is told to nobody.
    pub fn open(&self, token: &str, expiry: Expiry) -> Result<Opened> {
        let bytes = BASE64_URL_SAFE.decode(token).map_err(|_| unreadable())?;
        if bytes.len() < HEAD + BLOCK + TAG || bytes[0] != VERSION {
            return Err(unreadable());
        }
        let (signed, tag) = bytes.split_at(bytes.len() - TAG);
        let sealed_at = u64::from_be_bytes(signed[1..9].try_into().map_err(|_| unreadable())?);
        if expiry.refuses(sealed_at) {
            return Err(unreadable());
        }
        // Compared in constant time.
        self.mac(signed)?.verify_slice(tag).map_err(|_| unreadable())?;
        let iv: &[u8; 16] = signed[9..HEAD].try_into().map_err(|_| unreadable())?;
        let plain = cbc::Decryptor::<aes::Aes128>::new((&*self.encryption).into(), iv.into())
            .decrypt_padded_vec::<Pkcs7>(&signed[HEAD..])
            .map_err(|_| unreadable())?;
        Ok(Opened { plain: Zeroizing::new(plain), sealed_at })
    }

    fn mac(&self, over: &[u8]) -> Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.signing.as_slice()).map_err(|_| unreadable())?;
        mac.update(over);
        Ok(mac)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(linkspan_core::MASK)
    }
}

impl Expiry {
    fn refuses(self, sealed_at: u64) -> bool {
        match self {
            Self::Never => false,
            Self::After { seconds, now } => sealed_at.saturating_add(seconds) < now || sealed_at > now.saturating_add(SKEW_SECONDS),
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::new(ErrorKind::Unavailable, "the machine gave no random bytes").because(e))?;
    Ok(bytes)
}

fn bad_key() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "an encryption key is not 32 bytes in URL-safe base64").fix("make one: `linkspan keys generate`")
}

pub(super) fn unreadable() -> Error {
    Error::new(ErrorKind::DataInvalid, "a stored secret cannot be read with the keys that this process has")
        .fix("add the key it was encrypted with to CONNECTOR_ENCRYPTION_KEY, or save the credentials again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::parse("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=").unwrap()
    }

    #[test]
    fn any_length_comes_back_as_it_was() {
        for length in 0..70 {
            let plain = vec![7; length];
            let token = key().seal(&plain, 5).unwrap();
            let opened = key().open(&token, Expiry::Never).unwrap();
            assert_eq!((opened.plain.as_slice(), opened.sealed_at), (plain.as_slice(), 5));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let token = BASE64_URL_SAFE.decode(key().seal(b"hunter2", 5).unwrap()).unwrap();
        for bit in 0..token.len() * 8 {
            let mut bent = token.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(key().open(&BASE64_URL_SAFE.encode(&bent), Expiry::Never).is_err(), "bit {bit}");
        }
        for cut in 0..token.len() {
            assert!(key().open(&BASE64_URL_SAFE.encode(&token[..cut]), Expiry::Never).is_err(), "cut {cut}");
        }
    }

    #[test]
    fn a_key_comes_back_and_is_never_shown() {
        let made = Key::generate().unwrap();
        assert!(Key::parse(&made.expose()).unwrap() == made);
        assert_eq!(format!("{made:?}"), linkspan_core::MASK);
        for bad in ["", "short", "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4", "%%%%"] {
            let e = Key::parse(bad).err().unwrap();
            assert_eq!(e.kind(), ErrorKind::ConfigInvalid);
        }
    }
}
