//! Public halves of signing keys, as boxes are given them: files of PEM blocks
//! as `openssl pkey -pubout` writes them, one after the other.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use returnpath_shared::TRUSTED_KEYS_MAX;
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem, pem::PemObject as _};
use thiserror::Error;

use super::{Purpose, key_id, signed_bytes};

/// What stands before the 32 bytes of an Ed25519 key in its
/// SubjectPublicKeyInfo (RFC 8410, section 4), which has one encoding only.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// One to four keys that boxes trust.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PublicKeys(Vec<[u8; 32]>);

/// Why a file holds no keys that boxes could trust.
#[derive(Debug, Error)]
pub enum PublicKeysError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A block cannot be parsed.
    #[error("{path}, block {block}: expected a PEM file of public keys")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Which block, from 1.
        block: usize,
        /// What the parser met.
        source: pem::Error,
    },
    /// A block holds another kind of key.
    #[error("{path}, block {block}: expected an Ed25519 public key (openssl pkey -pubout)")]
    NotEd25519 {
        /// The file.
        path: PathBuf,
        /// Which block, from 1.
        block: usize,
    },
    /// None, or more than a box keeps.
    #[error("{path}: expected 1 to {TRUSTED_KEYS_MAX} public keys, found {count}")]
    Count {
        /// The file.
        path: PathBuf,
        /// As many are in it.
        count: usize,
    },
}

impl PublicKeys {
    /// Reads a file of PEM blocks.
    ///
    /// # Errors
    /// Names the file and the block.
    pub(crate) fn read(path: &Path) -> Result<Self, PublicKeysError> {
        let owned = || path.to_owned();
        let text = fs::read(path).map_err(|source| PublicKeysError::Read {
            path: owned(),
            source,
        })?;
        let mut keys = Vec::new();
        for (index, found) in SubjectPublicKeyInfoDer::pem_slice_iter(&text).enumerate() {
            let block = index + 1;
            let info = found.map_err(|source| PublicKeysError::Pem {
                path: owned(),
                block,
                source,
            })?;
            let raw = info.strip_prefix(&SPKI_PREFIX);
            let key = raw.and_then(|raw| raw.try_into().ok());
            keys.push(key.ok_or_else(|| PublicKeysError::NotEd25519 {
                path: owned(),
                block,
            })?);
        }
        if !(1..=TRUSTED_KEYS_MAX).contains(&keys.len()) {
            return Err(PublicKeysError::Count {
                path: owned(),
                count: keys.len(),
            });
        }
        Ok(Self(keys))
    }

    /// The raw keys, in the order of the file.
    pub(crate) fn raw(&self) -> &[[u8; 32]] {
        &self.0
    }

    /// Whether one of them, of this name, signed `bytes` for this purpose.
    pub(crate) fn is_signed(
        &self,
        purpose: Purpose,
        id: &str,
        bytes: &[u8],
        signature: &[u8],
    ) -> bool {
        let message = signed_bytes(purpose, bytes);
        let mut named = self.0.iter().filter(|key| key_id(*key) == id);
        named.any(|key| {
            UnparsedPublicKey::new(&ED25519, key)
                .verify(&message, signature)
                .is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::signing::SigningKey;

    /// A folder for one test, gone with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("returnpath-public-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn pair(folder: &Folder, name: &str) -> (SigningKey, String) {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let private = folder.file(name, &key.serialize_pem());
        (SigningKey::read(&private).unwrap(), key.public_key_pem())
    }

    #[test]
    fn each_key_of_a_file_verifies_what_it_signed_for_its_purpose() {
        let folder = Folder::new("verifies");
        let (one, one_pem) = pair(&folder, "one");
        let (two, two_pem) = pair(&folder, "two");
        let (other, _) = pair(&folder, "other");
        let keys = folder.file("keys.pem", &format!("{one_pem}{two_pem}"));
        let keys = PublicKeys::read(&keys).unwrap();
        assert_eq!(keys.raw().len(), 2);
        let config = Purpose::Config;
        for key in [&one, &two] {
            let signature = key.signature(config, b"bytes");
            assert!(keys.is_signed(config, key.key_id(), b"bytes", &signature));
            assert!(!keys.is_signed(config, key.key_id(), b"byteS", &signature));
            assert!(!keys.is_signed(Purpose::Decision, key.key_id(), b"bytes", &signature));
            assert!(!keys.is_signed(config, key.key_id(), b"bytes", &signature[..63]));
        }
        let swapped = one.signature(config, b"bytes");
        assert!(!keys.is_signed(config, two.key_id(), b"bytes", &swapped));
        let others = other.signature(config, b"bytes");
        assert!(!keys.is_signed(config, other.key_id(), b"bytes", &others));
    }

    #[test]
    fn what_is_no_file_of_keys_is_refused_with_file_and_block() {
        let folder = Folder::new("refused");
        let (_, pem) = pair(&folder, "key");
        let ecdsa = rcgen::KeyPair::generate().unwrap().public_key_pem();
        for (text, expected) in [
            (String::new(), "1 to 4 public keys, found 0"),
            (pem.repeat(5), "1 to 4 public keys, found 5"),
            (
                format!("{pem}{ecdsa}"),
                "block 2: expected an Ed25519 public key",
            ),
            (
                format!("{pem}-----BEGIN PUBLIC KEY-----\nMC"),
                "block 2: expected a PEM file",
            ),
        ] {
            let path = folder.file("keys.pem", &text);
            let error = PublicKeys::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
        let error = PublicKeys::read(Path::new("/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere");
    }
}
