//! The shared secret of a job's ranks, and proofs of knowing it.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::{fmt, io};

/// The environment variable with the secret.
pub(super) const TOKEN: &str = "MRCNN_TOKEN";

/// Bytes of a nonce and of a proof.
pub(super) const PROOF_BYTES: usize = 32;

/// Minimum length of a secret.
const FEWEST_CHARACTERS: usize = 16;

/// The shared secret of a job's ranks. It is never sent and never displayed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A new secret: 256 random bits of the operating system.
    pub fn random() -> io::Result<Self> {
        let bytes: [u8; 32] = nonce()?;
        Ok(Self(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    /// A secret that the user chose, of at least 16 characters.
    pub fn new(secret: &str) -> Option<Self> {
        let secret = secret.trim();
        (secret.len() >= FEWEST_CHARACTERS).then(|| Self(secret.into()))
    }

    /// The secret, for the environment of a process that is started.
    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// A proof that `parts` come from a holder of this token (HMAC).
    pub(super) fn proof(&self, parts: &[&[u8]]) -> [u8; PROOF_BYTES] {
        self.mac(parts).finalize().into_bytes().into()
    }

    /// Whether `proof` was created by a holder of this token; compared in constant time.
    pub(super) fn verifies(&self, parts: &[&[u8]], proof: &[u8]) -> bool {
        self.mac(parts).verify_slice(proof).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        // HMAC's own rule for keys that are longer than a block, applied to all keys.
        let mut key = [0; 64];
        key[..32].copy_from_slice(&Sha256::digest(self.0.as_bytes()));
        let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&key.into());
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A random number that is used once.
pub(super) fn nonce() -> io::Result<[u8; PROOF_BYTES]> {
    let mut bytes = [0; PROOF_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_of_one_token_and_one_message() {
        let (ours, other) = (Token::random().unwrap(), Token::random().unwrap());
        let proof = ours.proof(&[b"server", b"12"]);
        assert!(ours.verifies(&[b"server", b"12"], &proof));
        assert!(!other.verifies(&[b"server", b"12"], &proof));
        assert!(!ours.verifies(&[b"client", b"12"], &proof));
        assert!(
            !ours.verifies(&[b"server1", b"2"], &proof),
            "parts are delimited"
        );
        assert!(!ours.verifies(&[b"server", b"12"], &proof[..31]));
        assert!(Token::new("short").is_none());
        assert!(!format!("{ours:?}").contains(ours.secret()));
    }
}
