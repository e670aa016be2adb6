//! What the operator signs: decisions, and configuration of boxes, each with a
//! key of its own.
//!
//! Ed25519 (RFC 8032) over an ASCII purpose, a zero byte and the exact bytes
//! that travel: a signature for one purpose is none for the other. A box knows
//! up to four public keys at once, so a key is replaced without a gap: give the
//! boxes the new public key, wait for them, point `signing_key` at the new
//! file, and take the old public key away once its last decision has expired.
//! What was signed before keeps its old signature and stays valid meanwhile.
//!
//! `public` holds the other half, for those who look whether a signature is
//! good before a box does.

mod public;

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    digest,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem, pem::PemObject as _};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use returnpath_shared::hex;

pub(crate) use public::PublicKeys;
pub use public::PublicKeysError;

/// Permission bits that let others than the owner and the group read or change
/// a file.
const OTHERS: u32 = 0o007;

/// What a signature is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A decision for one box.
    Decision,
    /// A configuration for boxes.
    Config,
}

impl Purpose {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Decision => b"returnpath.decision.v1\0",
            Self::Config => b"returnpath.config.v1\0",
        }
    }
}

/// A private key and the name under which the boxes know its public half.
/// AWS-LC keeps the private half where it cannot be wiped: it is gone with the
/// process.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    /// The first 16 hexadecimal digits of the SHA-256 of the raw public key.
    key_id: String,
}

/// Why a file cannot be used as a signing key.
#[derive(Debug, Error)]
pub enum SigningKeyError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Whoever has an account on the machine could sign.
    #[error("{path} is open to everyone (mode {mode:04o}): take it away with chmod o-rwx")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no PEM of a private key.
    #[error("{path} must hold a PKCS#8 private key in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the parser met.
        source: pem::Error,
    },
    /// A key of another kind, or a broken one.
    #[error("{path} must hold an Ed25519 key (openssl genpkey -algorithm ed25519): {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// In AWS-LC's words.
        reason: String,
    },
}

impl SigningKey {
    /// Reads a PKCS#8 PEM file, as `openssl genpkey -algorithm ed25519` makes
    /// it. A file that is open to everyone is refused: who can read it can put
    /// an ad on every screen. The group may read it, so that it can belong to
    /// root.
    ///
    /// # Errors
    /// When there is no such file, or it is not that.
    pub(crate) fn read(path: &Path) -> Result<Self, SigningKeyError> {
        let unreadable = |source| SigningKeyError::Read {
            path: path.to_owned(),
            source,
        };
        let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(SigningKeyError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let text = Zeroizing::new(fs::read(path).map_err(unreadable)?);
        let mut key =
            PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|source| SigningKeyError::Pem {
                path: path.to_owned(),
                source,
            })?;
        // openssl writes the private half alone; AWS-LC computes the public one.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der());
        key.zeroize();
        let pair = pair.map_err(|reason| SigningKeyError::Key {
            path: path.to_owned(),
            reason: reason.to_string(),
        })?;
        let key_id = key_id(pair.public_key().as_ref());
        Ok(Self { pair, key_id })
    }

    /// Names the public half towards boxes.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Signs `bytes` for one purpose.
    #[must_use]
    pub(crate) fn signature(&self, purpose: Purpose, bytes: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(&signed_bytes(purpose, bytes)).as_ref());
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SigningKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// What a signature covers.
fn signed_bytes(purpose: Purpose, bytes: &[u8]) -> Vec<u8> {
    [purpose.prefix(), bytes].concat()
}

/// Names a raw public key: the first 16 hexadecimal digits of its SHA-256.
pub(crate) fn key_id(public_key: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, public_key);
    hex(&digest.as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// The key of RFC 8032, section 7.1, test 1, in the form of
    /// `openssl genpkey`, and its public half as that section gives it.
    const PRIVATE_PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    const PUBLIC_HEX: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    /// Beginning of the public half's SHA-256, by sha256sum.
    const KEY_ID: &str = "21fe31dfa154a261";

    /// A file for one test, gone with it.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, mode: u32, text: &str) -> Self {
            let name = format!("returnpath-sign-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let mut file = fs::File::create(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_key_of_openssl_signs_under_the_id_of_its_public_half() {
        let file = File::new("good", 0o640, PRIVATE_PEM);
        let key = SigningKey::read(&file.0).unwrap();
        assert_eq!(key.key_id(), KEY_ID);
        assert_eq!(hex(key.pair.public_key().as_ref()), PUBLIC_HEX);

        let public = UnparsedPublicKey::new(&ED25519, key.pair.public_key().as_ref());
        let verified = |message: &[u8], signature: &[u8]| public.verify(message, signature).is_ok();
        for (purpose, prefix) in [
            (Purpose::Decision, "returnpath.decision.v1\0"),
            (Purpose::Config, "returnpath.config.v1\0"),
        ] {
            let signature = key.signature(purpose, b"bytes");
            assert!(verified(
                &[prefix.as_bytes(), b"bytes"].concat(),
                &signature
            ));
            assert!(!verified(b"bytes", &signature));
        }
        let decision = key.signature(Purpose::Decision, b"bytes");
        assert!(!verified(b"returnpath.config.v1\0bytes", &decision));
    }

    #[test]
    fn what_is_no_signing_key_is_refused_by_its_path() {
        // The same bytes under the name of X25519.
        const OTHER_KIND: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        for (name, mode, text, expected) in [
            ("open", 0o644, PRIVATE_PEM, "open to everyone (mode 0644)"),
            ("empty", 0o600, "", "must hold a PKCS#8 private key in PEM"),
            ("other", 0o600, OTHER_KIND, "must hold an Ed25519 key"),
        ] {
            let file = File::new(name, mode, text);
            let error = SigningKey::read(&file.0).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains(&file.0.display().to_string()), "{error}");
        }
        let error = SigningKey::read(Path::new("/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere");
    }

    #[test]
    fn a_key_prints_its_id_alone() {
        let file = File::new("debug", 0o600, PRIVATE_PEM);
        let printed = format!("{:?}", SigningKey::read(&file.0).unwrap());
        assert_eq!(printed, format!("SigningKey {{ key_id: {KEY_ID:?}, .. }}"));
    }
}
