//! Passwords by argon2id, in the PHC text form: `$argon2id$v=19$m=..,t=..,p=..$salt$hash`.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use linkspan_core::{Error, ErrorKind, Result};

use super::same;

/// Memory in KiB, passes, lanes: the least that is recommended for argon2id today.
const COST: (u32, u32, u32) = (19_456, 2, 1);
const SHORTEST: usize = 8;
/// Longer ones only cost time.
const LONGEST: usize = 1024;

/// `ConfigInvalid` when it is too short or too long.
pub fn check_strength(password: &str) -> Result<()> {
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        return Err(Error::new(ErrorKind::ConfigInvalid, "the password is too short or too long")
            .with("field", "password")
            .fix(format!("give it {SHORTEST} to {LONGEST} characters")));
    }
    Ok(())
}

/// The text to store.
pub fn hash(password: &str, salt: &[u8; 16]) -> Result<String> {
    let (m, t, p) = COST;
    let hash = derive(password, salt, COST).ok_or_else(|| Error::new(ErrorKind::Internal, "a password could not be hashed"))?;
    Ok(format!("$argon2id$v=19$m={m},t={t},p={p}${}${}", BASE64_STANDARD_NO_PAD.encode(salt), BASE64_STANDARD_NO_PAD.encode(hash)))
}

/// Without a stored text, or with one that is none, it takes the time of a real one.
pub fn verify(password: &str, stored: Option<&str>) -> bool {
    if password.len() > LONGEST {
        return false;
    }
    match stored.and_then(parse) {
        Some((salt, cost, hash)) => derive(password, &salt, cost).is_some_and(|h| same(&BASE64_STANDARD_NO_PAD.encode(h), hash)),
        None => {
            // Its result is thrown away, its time is not.
            std::hint::black_box(derive(password, &[7; 16], COST));
            false
        }
    }
}

type Cost = (u32, u32, u32);

fn parse(stored: &str) -> Option<(Vec<u8>, Cost, &str)> {
    let rest = stored.strip_prefix("$argon2id$v=19$")?;
    let mut parts = rest.split('$');
    let (cost, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let mut numbers = ["m=", "t=", "p="].into_iter().zip(cost.split(',')).map(|(k, v)| v.strip_prefix(k)?.parse::<u32>().ok());
    let cost = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some((BASE64_STANDARD_NO_PAD.decode(salt).ok()?, cost, hash))
}

fn derive(password: &str, salt: &[u8], (m, t, p): Cost) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let params = Params::new(m, t, p, Some(out.len())).ok()?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(password.as_bytes(), salt, &mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_nothing_else_is() {
        let stored = hash("correct horse", &[3; 16]).unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(verify("correct horse", Some(&stored)));
        for (password, stored) in [("correct horsf", Some(stored.as_str())), ("", Some(&stored)), ("x", None), ("x", Some("$2b$10$abc"))] {
            assert!(!verify(password, stored));
        }
    }

    /// The published test of the reference implementation, with its cost.
    #[test]
    fn the_reference_vector_is_met() {
        let stored = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify("password", Some(stored)));
        assert!(!verify("passwore", Some(stored)));
    }
}
