//! A signed configuration as it travels, made and read back.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message as _;
use returnpath_shared::{FieldError, SIGNED_CONFIG_BYTES_MAX, check_config, wire};
use thiserror::Error;

use crate::signing::{PublicKeys, Purpose, SigningKey};

/// A message that boxes can read; who signed it is another question.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Signed {
    /// What it says.
    pub(super) config: wire::Config,
    /// As it is published.
    pub(super) message: Bytes,
    parts: wire::SignedConfig,
}

/// Why a file is no message that boxes would read.
#[derive(Debug, Error)]
pub(super) enum SignedError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    /// Something else, such as the settings themselves.
    #[error(
        "{path}: expected a signed configuration of at most {SIGNED_CONFIG_BYTES_MAX} bytes, \
         as `config sign` writes it"
    )]
    Malformed { path: PathBuf },
    /// It says what boxes refuse.
    #[error("{path}: boxes refuse it: {problem}")]
    OutOfBounds { path: PathBuf, problem: FieldError },
}

impl Signed {
    /// Signs a configuration that was checked.
    pub(super) fn new(config: wire::Config, key: &SigningKey) -> Self {
        let bytes = config.encode_to_vec();
        let parts = wire::SignedConfig {
            signature: key.signature(Purpose::Config, &bytes).to_vec().into(),
            key_id: key.key_id().to_owned(),
            config: bytes.into(),
        };
        Self {
            config,
            message: parts.encode_to_vec().into(),
            parts,
        }
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When boxes could not read it, or would not take what it says.
    pub(super) fn read(path: &Path) -> Result<Self, SignedError> {
        let owned = || path.to_owned();
        let mut message = Vec::new();
        File::open(path)
            .and_then(|file| {
                file.take(SIGNED_CONFIG_BYTES_MAX as u64 + 1)
                    .read_to_end(&mut message)
            })
            .map_err(|source| SignedError::Read {
                path: owned(),
                source,
            })?;
        let message = Bytes::from(message);
        let (config, parts) =
            decode(message.clone()).ok_or_else(|| SignedError::Malformed { path: owned() })?;
        check_config(&config).map_err(|problem| SignedError::OutOfBounds {
            path: owned(),
            problem,
        })?;
        Ok(Self {
            config,
            message,
            parts,
        })
    }

    /// Names the key that it says to be signed with.
    pub(super) fn key_id(&self) -> &str {
        &self.parts.key_id
    }

    /// Whether one of `keys` signed it.
    pub(super) fn is_signed_by(&self, keys: &PublicKeys) -> bool {
        let parts = &self.parts;
        keys.is_signed(
            Purpose::Config,
            &parts.key_id,
            &parts.config,
            &parts.signature,
        )
    }
}

fn decode(message: Bytes) -> Option<(wire::Config, wire::SignedConfig)> {
    if message.len() > SIGNED_CONFIG_BYTES_MAX {
        return None;
    }
    let parts = wire::SignedConfig::decode(message).ok()?;
    let config = wire::Config::decode(parts.config.clone()).ok()?;
    Some((config, parts))
}

#[cfg(test)]
pub(super) mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A folder for one test, gone with it.
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Self {
            let name = format!("returnpath-steering-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.path(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        }

        /// A file of as many new public keys.
        pub(crate) fn keys(&self, name: &str, count: usize) -> PathBuf {
            let new = || rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            let blocks: String = (0..count).map(|_| new().public_key_pem()).collect();
            self.file(name, blocks.as_bytes())
        }

        /// Files of a new key: the private one, and the public one.
        pub(crate) fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
            (
                self.file(&format!("{name}.key"), key.serialize_pem().as_bytes()),
                self.file(&format!("{name}.pub"), key.public_key_pem().as_bytes()),
            )
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A message of version 7 for `device`, and the file of its public key.
    pub(crate) fn signed(folder: &Folder, device: &str) -> (Signed, PathBuf) {
        let (private, public) = folder.pair("config");
        let config = wire::Config {
            version: 7,
            device_id: device.to_owned(),
            ..wire::Config::default()
        };
        let key = SigningKey::read(&private).unwrap();
        (Signed::new(config, &key), public)
    }

    #[test]
    fn what_was_signed_is_read_back_and_found_good_by_its_key_alone() {
        let folder = Folder::new("read-back");
        let (signed, public) = signed(&folder, "box-1");
        let file = folder.file("message", &signed.message);
        let read = Signed::read(&file).unwrap();
        assert_eq!(read, signed);
        assert!(read.is_signed_by(&PublicKeys::read(&public).unwrap()));
        let others = folder.keys("others.pem", 4);
        assert!(!read.is_signed_by(&PublicKeys::read(&others).unwrap()));
    }

    #[test]
    fn a_message_that_was_changed_is_not_found_good() {
        let folder = Folder::new("changed");
        let (signed, public) = signed(&folder, "box-1");
        let keys = PublicKeys::read(&public).unwrap();
        let parts = wire::SignedConfig {
            config: wire::Config {
                version: 8,
                ..signed.config
            }
            .encode_to_vec()
            .into(),
            ..signed.parts
        };
        let file = folder.file("message", &parts.encode_to_vec());
        let changed = Signed::read(&file).unwrap();
        assert_eq!(changed.config.version, 8);
        assert!(!changed.is_signed_by(&keys));
    }

    #[test]
    fn what_boxes_would_not_read_or_take_is_refused() {
        let folder = Folder::new("refused");
        let unbounded = wire::SignedConfig {
            config: wire::Config {
                version: 1,
                window_batches_max: Some(65),
                ..wire::Config::default()
            }
            .encode_to_vec()
            .into(),
            ..wire::SignedConfig::default()
        };
        for (content, expected) in [
            (b"version = 7".to_vec(), "expected a signed configuration"),
            (vec![0; 5_000], "expected a signed configuration"),
            (
                unbounded.encode_to_vec(),
                "boxes refuse it: window_batches_max: expected a number from 1 to 64",
            ),
        ] {
            let file = folder.file("message", &content);
            let error = Signed::read(&file).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
