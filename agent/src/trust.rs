//! The operator's public keys: read from a file or brought by signed
//! configuration, and asked whether they signed something.
//!
//! Ed25519 over an ASCII purpose, a zero byte and the exact bytes: a signature
//! for one purpose is none for another.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use returnpath_shared::TRUSTED_KEYS_MAX;
use returnpath_slots::Verify;
use ring::{
    digest::{SHA256, digest},
    signature::{ED25519, UnparsedPublicKey},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem, pem::PemObject as _};
use thiserror::Error;

use crate::identity::{self, IdentityError};

/// What stands before the 32 bytes of an Ed25519 key in its
/// SubjectPublicKeyInfo (RFC 8410, section 4), which has one encoding only.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Hexadecimal digits of a key's id.
const KEY_ID_DIGITS: usize = 16;

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] IdentityError),
    /// A block cannot be parsed.
    #[error("{path}, block {block}: expected a PEM file of public keys")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Which block, from 1.
        block: usize,
        /// What is wrong.
        #[source]
        source: pem::Error,
    },
    /// A block is no Ed25519 key.
    #[error("{path}, block {block}: expected an Ed25519 public key (openssl pkey -pubout)")]
    NotEd25519 {
        /// The file.
        path: PathBuf,
        /// Which block, from 1.
        block: usize,
    },
    /// None, or too many.
    #[error("{path}: expected 1 to {TRUSTED_KEYS_MAX} public keys, found {count}")]
    Count {
        /// The file.
        path: PathBuf,
        /// As many are in it.
        count: usize,
    },
}

/// Keys that are trusted for one purpose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keys {
    purpose: &'static [u8],
    keys: Vec<Key>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Key {
    id: String,
    public: [u8; 32],
}

impl Keys {
    /// Reads a file of PEM blocks. `purpose` with its zero byte.
    ///
    /// # Errors
    /// Names the file and the block.
    pub fn load(path: &Path, purpose: &'static [u8]) -> Result<Self, TrustError> {
        let pem = identity::read(path)?;
        let mut keys = Vec::new();
        for (index, block) in SubjectPublicKeyInfoDer::pem_slice_iter(&pem).enumerate() {
            let (path, block_number) = (path.to_owned(), index + 1);
            let spki = block.map_err(|source| TrustError::Pem {
                path: path.clone(),
                block: block_number,
                source,
            })?;
            let key = spki.strip_prefix(&SPKI_PREFIX).and_then(Key::of);
            keys.push(key.ok_or(TrustError::NotEd25519 {
                path,
                block: block_number,
            })?);
        }
        if !(1..=TRUSTED_KEYS_MAX).contains(&keys.len()) {
            return Err(TrustError::Count {
                path: path.to_owned(),
                count: keys.len(),
            });
        }
        Ok(Self { purpose, keys })
    }

    /// Raw keys; `None` where one is not 32 bytes long, or there are too many.
    #[must_use]
    pub fn of_raw<K: AsRef<[u8]>>(raw: &[K], purpose: &'static [u8]) -> Option<Self> {
        if raw.len() > TRUSTED_KEYS_MAX {
            return None;
        }
        let keys: Option<Vec<_>> = raw.iter().map(|key| Key::of(key.as_ref())).collect();
        Some(Self {
            purpose,
            keys: keys?,
        })
    }
}

impl Verify for Keys {
    fn is_signed(&self, key_id: &str, payload: &[u8], signature: &[u8]) -> bool {
        let Some(key) = self.keys.iter().find(|key| key.id == key_id) else {
            return false;
        };
        let message = [self.purpose, payload].concat();
        UnparsedPublicKey::new(&ED25519, key.public)
            .verify(&message, signature)
            .is_ok()
    }
}

impl Key {
    fn of(raw: &[u8]) -> Option<Self> {
        let public = raw.try_into().ok()?;
        let mut id = String::with_capacity(KEY_ID_DIGITS);
        for byte in digest(&SHA256, raw).as_ref().iter().take(KEY_ID_DIGITS / 2) {
            // Writing to a string cannot fail.
            let _written = write!(id, "{byte:02x}");
        }
        Some(Self { id, public })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;

    const PURPOSE: &[u8] = b"test\0";

    /// A key pair and its public half as `openssl pkey -pubout` writes it.
    fn pair() -> (Ed25519KeyPair, String) {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).unwrap();
        (pair, key.public_key_pem())
    }

    fn file(name: &str, text: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("returnpath-trust-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        path
    }

    fn loaded(name: &str, text: &str) -> Result<Keys, String> {
        let path = file(name, text);
        let keys = Keys::load(&path, PURPOSE).map_err(|error| error.to_string());
        fs::remove_file(path).unwrap();
        keys
    }

    fn id(pair: &Ed25519KeyPair) -> String {
        Key::of(pair.public_key().as_ref()).unwrap().id
    }

    #[test]
    fn each_key_of_a_file_verifies_what_it_signed_for_its_purpose() {
        let ((one, one_pem), (two, two_pem), (other, _)) = (pair(), pair(), pair());
        let keys = loaded("two", &format!("{one_pem}{two_pem}")).unwrap();
        let signed = |pair: &Ed25519KeyPair, message: &[u8]| pair.sign(message);
        for pair in [&one, &two] {
            let good = signed(pair, b"test\0payload");
            assert!(keys.is_signed(&id(pair), b"payload", good.as_ref()));
            assert!(!keys.is_signed(&id(pair), b"payloaD", good.as_ref()));
            assert!(!keys.is_signed(&id(&other), b"payload", good.as_ref()));
            assert!(!keys.is_signed(&id(pair), b"payload", &good.as_ref()[..63]));
            let other_purpose = signed(pair, b"toast\0payload");
            assert!(!keys.is_signed(&id(pair), b"payload", other_purpose.as_ref()));
        }
        // By the other's id.
        let swapped = signed(&one, b"test\0payload");
        assert!(!keys.is_signed(&id(&two), b"payload", swapped.as_ref()));
        let raw = [one.public_key().as_ref(), two.public_key().as_ref()];
        assert_eq!(Keys::of_raw(&raw, PURPOSE), Some(keys));
        assert_eq!(Keys::of_raw(&[&raw[0][1..]], PURPOSE), None);
    }

    #[test]
    fn what_is_no_file_of_keys_is_refused_with_file_and_block() {
        let (_, pem) = pair();
        let ecdsa = rcgen::KeyPair::generate().unwrap().public_key_pem();
        for (name, text, said) in [
            ("none", String::new(), "1 to 4 public keys, found 0"),
            ("many", pem.repeat(5), "1 to 4 public keys, found 5"),
            (
                "kind",
                format!("{pem}{ecdsa}"),
                "block 2: expected an Ed25519",
            ),
            (
                "torn",
                format!("{pem}-----BEGIN PUBLIC KEY-----\nMC"),
                "block 2: expected a PEM",
            ),
        ] {
            let error = loaded(name, &text).unwrap_err();
            assert!(error.contains(said), "{error}");
            assert!(
                error.contains(&format!("returnpath-trust-{name}")),
                "{error}"
            );
        }
        let missing = Keys::load(Path::new("/nonexistent/keys"), PURPOSE).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/keys"));
    }
}
