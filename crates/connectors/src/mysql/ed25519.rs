//! MariaDB's `client_ed25519`: the challenge is signed by a key that is the password's hash. The curve is a crate's; the hash is ring's.

use curve25519_dalek::{EdwardsPoint, Scalar, scalar::clamp_integer};
use ring::digest::{Context, SHA512};

/// The signature of the challenge.
pub(super) fn signature(password: &str, nonce: &[u8]) -> Vec<u8> {
    let hashed = hash(&[password.as_bytes()]);
    let (mut secret, mut prefix) = ([0; 32], [0; 32]);
    secret.copy_from_slice(&hashed[..32]);
    prefix.copy_from_slice(&hashed[32..]);
    let secret = Scalar::from_bytes_mod_order(clamp_integer(secret));
    let public = EdwardsPoint::mul_base(&secret).compress();
    let once = Scalar::from_bytes_mod_order_wide(&hash(&[&prefix, nonce]));
    let commitment = EdwardsPoint::mul_base(&once).compress();
    let challenge = Scalar::from_bytes_mod_order_wide(&hash(&[commitment.as_bytes(), public.as_bytes(), nonce]));
    [*commitment.as_bytes(), (challenge * secret + once).to_bytes()].concat()
}

fn hash(parts: &[&[u8]]) -> [u8; 64] {
    let mut context = Context::new(&SHA512);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 64];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// With a password of 32 bytes it is Ed25519 itself, whose seed they are: another library's check and this one must agree.
    #[test]
    fn a_signature_is_one_of_ed25519() {
        let password = "0123456789abcdef0123456789abcdef";
        let nonce: Vec<u8> = (0..32).collect();
        let key = ring::signature::Ed25519KeyPair::from_seed_unchecked(password.as_bytes()).unwrap();
        let ours = signature(password, &nonce);
        assert_eq!(ours, key.sign(&nonce).as_ref());
        let public = ring::signature::KeyPair::public_key(&key);
        assert!(UnparsedPublicKey::new(&ED25519, public).verify(&nonce, &ours).is_ok());
        assert_eq!(signature("short", &nonce).len(), 64);
    }
}
