//! Signs decisions and configuration for boxes, as the contract in
//! `decision.proto` and `config.proto` says, written here a second time: what
//! tests forge and send must not come from the code that they test.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use prost::Message as _;
use returnpath_shared::wire;
use ring::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

use crate::pki::SigningKey;

/// Hexadecimal digits of the public key's digest that name it.
const KEY_ID_DIGITS: usize = 16;

/// A key pair, ready to sign.
pub struct Signer {
    key: Ed25519KeyPair,
}

impl Signer {
    /// Reads the private key of `files`.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no Ed25519 key.
    pub fn load(files: &SigningKey) -> anyhow::Result<Self> {
        let path: &Path = &files.private;
        let der = PrivatePkcs8KeyDer::from_pem_file(path)
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .ok()
            .with_context(|| format!("{} holds no Ed25519 key", path.display()))?;
        Ok(Self { key })
    }

    /// What boxes know the key by.
    #[must_use]
    pub fn key_id(&self) -> String {
        let hash = digest(&SHA256, self.key.public_key().as_ref());
        let mut digits: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        digits.truncate(KEY_ID_DIGITS);
        digits
    }

    /// The raw public key, as it stands in [`wire::Config`].
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.key.public_key().as_ref().to_vec()
    }

    /// A decision as it travels.
    #[must_use]
    pub fn decision(&self, decision: &wire::Decision) -> wire::SignedDecision {
        let decision = decision.encode_to_vec();
        wire::SignedDecision {
            signature: self.sign("returnpath.decision.v1", &decision).into(),
            decision: decision.into(),
            key_id: self.key_id(),
        }
    }

    /// A configuration as it travels.
    #[must_use]
    pub fn config(&self, config: &wire::Config) -> wire::SignedConfig {
        let config = config.encode_to_vec();
        wire::SignedConfig {
            signature: self.sign("returnpath.config.v1", &config).into(),
            config: config.into(),
            key_id: self.key_id(),
        }
    }

    /// The signature over `purpose`, a zero byte and `payload`.
    #[must_use]
    pub fn sign(&self, purpose: &str, payload: &[u8]) -> Vec<u8> {
        let mut signed = purpose.as_bytes().to_vec();
        signed.push(0);
        signed.extend_from_slice(payload);
        self.key.sign(&signed).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::{pki::DevelopmentPki, place};

    #[test]
    fn what_it_signs_verifies_with_its_purpose_only() {
        let directory = place::fresh_directory("signer").unwrap();
        let pki = DevelopmentPki::create(&directory, Duration::from_secs(60)).unwrap();
        let signer = Signer::load(&pki.signing_key("decision-a")).unwrap();
        let other = Signer::load(&pki.signing_key("decision-b")).unwrap();
        assert_ne!(signer.key_id(), other.key_id());

        let decision = wire::Decision {
            decision_id: "d".into(),
            ..wire::Decision::default()
        };
        let signed = signer.decision(&decision);
        assert_eq!(signed.key_id, signer.key_id());
        let verify = |key: &Signer, purpose: &[u8]| {
            let message = [purpose, &[0], &signed.decision].concat();
            let key = UnparsedPublicKey::new(&ED25519, key.public_key());
            key.verify(&message, &signed.signature).is_ok()
        };
        assert!(verify(&signer, b"returnpath.decision.v1"));
        assert!(!verify(&signer, b"returnpath.config.v1"));
        assert!(!verify(&other, b"returnpath.decision.v1"));
    }
}
