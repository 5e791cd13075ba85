//! A password for the server alone: RSA with OAEP padding, as the sha2 logins want it where the connection is not encrypted. Only the
//! public side of RSA is here; there is no key of ours.

use base64::{Engine, engine::general_purpose::STANDARD};
use linkspan_core::{Error, ErrorKind, Result};
use num_bigint::BigUint;
use ring::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    rand::{SecureRandom, SystemRandom},
};

const HASH: usize = 20;

/// The password and its NUL, mixed with the challenge, for the owner of the key.
pub(super) fn encrypted(password: &str, nonce: &[u8], pem: &str) -> Result<Vec<u8>> {
    let no_key = || Error::new(ErrorKind::AuthFailed, "the server's public key cannot be read").fix("use sslmode=require instead");
    let (modulus, exponent) = key(pem).ok_or_else(no_key)?;
    let mut message = password.as_bytes().to_vec();
    message.push(0);
    message.iter_mut().zip(nonce.iter().cycle()).for_each(|(m, n)| *m ^= n);
    let mut seed = [0; HASH];
    SystemRandom::new().fill(&mut seed).map_err(|_| Error::new(ErrorKind::Internal, "the machine gives no random numbers"))?;
    let length = usize::try_from(modulus.bits().div_ceil(8)).map_err(|_| no_key())?;
    let padded = padded(&message, length, seed).ok_or_else(|| {
        Error::new(ErrorKind::AuthFailed, "the password is too long for the server's key").fix("use sslmode=require instead")
    })?;
    let cipher = BigUint::from_bytes_be(&padded).modpow(&exponent, &modulus).to_bytes_be();
    Ok([vec![0; length - cipher.len()], cipher].concat())
}

/// OAEP with SHA-1 and no label.
fn padded(message: &[u8], length: usize, seed: [u8; HASH]) -> Option<Vec<u8>> {
    let room = length.checked_sub(2 * HASH + 2)?;
    let zeros = room.checked_sub(message.len())?;
    let mut data = digest(&SHA1_FOR_LEGACY_USE_ONLY, b"").as_ref().to_vec();
    data.resize(HASH + zeros, 0);
    data.push(1);
    data.extend_from_slice(message);
    let mut seed = seed.to_vec();
    let mask = mask(&seed, data.len());
    data.iter_mut().zip(mask).for_each(|(d, m)| *d ^= m);
    let mask = self::mask(&data, HASH);
    seed.iter_mut().zip(mask).for_each(|(s, m)| *s ^= m);
    Some([vec![0], seed, data].concat())
}

fn mask(seed: &[u8], length: usize) -> Vec<u8> {
    let block = |n: usize| digest(&SHA1_FOR_LEGACY_USE_ONLY, &[seed, &(n as u32).to_be_bytes()].concat()).as_ref().to_vec();
    (0..length.div_ceil(HASH)).flat_map(block).take(length).collect()
}

/// Modulus and exponent of a `BEGIN PUBLIC KEY`.
fn key(pem: &str) -> Option<(BigUint, BigUint)> {
    let body = pem.split_once("-----BEGIN PUBLIC KEY-----")?.1.split_once("-----END")?.0;
    let der = STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?;
    let (info, _) = element(&der, 0x30)?;
    let (_, rest) = element(info, 0x30)?;
    let (bits, _) = element(rest, 0x03)?;
    let (pair, _) = element(bits.strip_prefix(&[0])?, 0x30)?;
    let (modulus, rest) = element(pair, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    let (modulus, exponent) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    // A short key protects nothing, and a huge one is an attack on our time.
    let sound = (1024..=16_384).contains(&modulus.bits()) && (2..=64).contains(&exponent.bits());
    sound.then_some((modulus, exponent))
}

/// The content of a DER element of this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let rest = der.strip_prefix(&[tag])?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=127 => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCqGKukO1De7zhZj6+H0qtjTkVxwTCpvKe4eCZ0\nFPqri0cb2JZfXJ/DgYSF6vUpwmJG8wVQZKjeGcjDOL5UlsuusFncCzWBQ7RKNUSesmQRMSGkVb1/\n3j+skZ6UtW+5u09lHNsj6tQ51s1SPrCBkedbNf0Tp0GbMJDyR4e9T04ZZwIDAQAB\n-----END PUBLIC KEY-----\n";

    #[test]
    fn a_key_is_read_and_a_broken_one_is_refused() {
        let (modulus, exponent) = key(PEM).unwrap();
        assert_eq!((modulus.bits(), exponent), (1024, BigUint::from(65_537u32)));
        for cut in 0..PEM.len() {
            key(&PEM[..cut]);
        }
        assert!(encrypted("p", &[1; 20], "nonsense").is_err());
        assert!(encrypted(&"p".repeat(200), &[1; 20], PEM).unwrap_err().suggested_fix().is_some());
        assert_eq!(encrypted("secret", &[1; 20], PEM).unwrap().len(), 128);
    }
}
