//! Several keys, so that one can take another's place while both still open: the first encrypts, all decrypt.

use linkspan_core::{Error, ErrorKind, Result};

use super::fernet::{Expiry, Key, Opened, unreadable};

/// `CONNECTOR_ENCRYPTION_KEY`: keys separated by commas; the first one encrypts. Never printed.
#[derive(Clone, Debug)]
pub struct Keyring {
    first: Key,
    older: Vec<Key>,
}

/// A token after a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turned {
    /// It was the first key's already: nothing to write.
    Current,
    /// The same secret with the same timestamp, under the first key.
    Resealed(String),
}

impl Keyring {
    pub fn new(first: Key, older: Vec<Key>) -> Self {
        Self { first, older }
    }
    pub fn parse(text: &str) -> Result<Self> {
        let mut keys = text.split(',').map(str::trim).filter(|k| !k.is_empty()).map(Key::parse);
        let first = keys.next().ok_or_else(no_key)??;
        Ok(Self { first, older: keys.collect::<Result<_>>()? })
    }
    /// Under the first key.
    pub fn seal(&self, plain: &[u8], now: u64) -> Result<String> {
        self.first.seal(plain, now)
    }
    /// By whichever key fits; `DataInvalid` when none does.
    pub fn open(&self, token: &str, expiry: Expiry) -> Result<Opened> {
        self.open_by(token, expiry).map(|(opened, _)| opened)
    }
    /// The same secret under the first key; the time it was sealed at stays.
    pub fn turn(&self, token: &str) -> Result<Turned> {
        let (opened, by) = self.open_by(token, Expiry::Never)?;
        if by == 0 {
            return Ok(Turned::Current);
        }
        self.first.seal(&opened.plain, opened.sealed_at).map(Turned::Resealed)
    }
    /// With the place of the key that fits.
    fn open_by(&self, token: &str, expiry: Expiry) -> Result<(Opened, usize)> {
        let keys = std::iter::once(&self.first).chain(&self.older);
        keys.enumerate().find_map(|(i, key)| key.open(token, expiry).ok().map(|opened| (opened, i))).ok_or_else(unreadable)
    }
}

fn no_key() -> Error {
    Error::new(ErrorKind::ConfigInvalid, "the encryption key is empty")
        .fix("set CONNECTOR_ENCRYPTION_KEY; `linkspan keys generate` makes one")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The published vectors, and more of them where `LINKSPAN_SHARED` says.
    fn vectors() -> Vec<Value> {
        let mut all: Vec<Value> = serde_json::from_str(include_str!("fernet_vectors.json")).unwrap();
        let Some(shared) = std::env::var_os("LINKSPAN_SHARED") else { return all };
        let sets = std::fs::read_dir(std::path::Path::new(&shared).join("vectors")).into_iter().flatten().flatten();
        for text in sets.filter_map(|set| std::fs::read_to_string(set.path().join("fernet.json")).ok()) {
            all.extend(serde_json::from_str::<Vec<Value>>(&text).unwrap());
        }
        all
    }

    fn keyring(vector: &Value) -> Keyring {
        match vector["keys"].as_array() {
            Some(keys) => Keyring::parse(&keys.iter().map(|k| k.as_str().unwrap()).collect::<Vec<_>>().join(",")).unwrap(),
            None => Keyring::parse(vector["secret"].as_str().unwrap()).unwrap(),
        }
    }

    #[test]
    fn every_published_vector_is_judged_as_it_says() {
        let all = vectors();
        assert!(all.len() >= 13, "{}", all.len());
        for vector in all {
            let name = vector["name"].as_str().unwrap();
            let (token, now) = (vector["token"].as_str().unwrap(), vector["now"].as_u64().unwrap());
            let expiry = vector["ttl_sec"].as_u64().map_or(Expiry::Never, |seconds| Expiry::After { seconds, now });
            let ring = keyring(&vector);
            let opened = ring.open_by(token, expiry);
            assert_eq!(opened.is_ok(), vector["expect"]["valid"].as_bool().unwrap(), "{name}");
            let Ok((opened, by)) = opened else { continue };
            assert_eq!(opened.plain.as_slice(), vector["expect"]["plaintext"].as_str().unwrap().as_bytes(), "{name}");
            if let Some(index) = vector["expect"]["decrypted_with_index"].as_u64() {
                assert_eq!(by as u64, index, "{name}");
            }
            if vector["kind"] == "generate" {
                let iv: Vec<u8> = serde_json::from_value(vector["iv"].clone()).unwrap();
                assert_eq!(ring.first.seal_with(&opened.plain, now, iv.try_into().unwrap()).unwrap(), token, "{name}");
            }
            if let Some(after) = vector["expect"].get("after_rotate") {
                let Turned::Resealed(turned) = ring.turn(token).unwrap() else { panic!("{name}: nothing was turned") };
                let (again, by) = ring.open_by(&turned, Expiry::Never).unwrap();
                assert_eq!(
                    (by as u64, again.sealed_at),
                    (after["decrypts_with_index"].as_u64().unwrap(), after["timestamp"].as_u64().unwrap())
                );
                assert_eq!(ring.turn(&turned).unwrap(), Turned::Current, "{name}");
            }
        }
    }

    #[test]
    fn an_unreadable_secret_is_an_error_with_a_fix_and_never_empty() {
        let (one, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let token = Keyring::new(one, vec![]).seal(b"hunter2", 1).unwrap();
        let e = Keyring::new(other, vec![]).open(&token, Expiry::Never).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::DataInvalid);
        assert!(e.suggested_fix().unwrap().contains("CONNECTOR_ENCRYPTION_KEY"));
        assert!(!format!("{e:?}").contains(&token));
    }

    #[test]
    fn an_empty_keyring_and_a_bad_second_key_are_refused() {
        let good = Key::generate().unwrap().expose();
        assert!(Keyring::parse(&format!("{}, {}", *good, *Key::generate().unwrap().expose())).is_ok());
        for bad in ["", " , ", &format!("{},nonsense", *good)] {
            assert_eq!(Keyring::parse(bad).err().unwrap().kind(), ErrorKind::ConfigInvalid);
        }
    }
}
