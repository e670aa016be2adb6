//! The operator: signs decisions and configuration, and hands out public keys.

use prost::Message as _;
use returnpath_shared::wire::{Config, Creative, Decision, SignedConfig, SignedDecision};
use ring::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};

/// One of the operator's keys.
pub(crate) struct Operator {
    pair: Ed25519KeyPair,
    public_pem: String,
}

impl Operator {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        Self {
            pair: Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key.serialize_der()).unwrap(),
            public_pem: key.public_key_pem(),
        }
    }

    pub(crate) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    pub(crate) fn public_raw(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    fn key_id(&self) -> String {
        let hash = digest(&SHA256, self.pair.public_key().as_ref());
        hash.as_ref()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn sign(&self, purpose: &[u8], payload: &[u8]) -> Vec<u8> {
        let message = [purpose, payload].concat();
        self.pair.sign(&message).as_ref().to_vec()
    }

    pub(crate) fn decide(&self, decision: &Decision) -> Vec<u8> {
        let decision = decision.encode_to_vec();
        SignedDecision {
            signature: self.sign(b"returnpath.decision.v1\0", &decision).into(),
            decision: decision.into(),
            key_id: self.key_id(),
        }
        .encode_to_vec()
    }

    pub(crate) fn configure(&self, config: &Config) -> Vec<u8> {
        let config = config.encode_to_vec();
        SignedConfig {
            signature: self.sign(b"returnpath.config.v1\0", &config).into(),
            config: config.into(),
            key_id: self.key_id(),
        }
        .encode_to_vec()
    }
}

/// A decision for slot 0 of a break, `ahead_ms` before it expires.
pub(crate) fn decision(device: &str, break_id: &str, ad: &str, ahead_ms: u64) -> Decision {
    Decision {
        decision_id: format!("id-{break_id}"),
        device_id: device.into(),
        break_id: break_id.into(),
        slot: 0,
        number: 1,
        expiry_boot_id: returnpath_agent::clock::boot_id(),
        expiry_uptime_ms: returnpath_agent::clock::uptime_ms() + ahead_ms,
        creative: Some(Creative {
            creative_id: ad.into(),
            url: format!("https://c.example/{ad}.mp4"),
            media_type: "video/mp4".into(),
            duration_ms: 30_000,
        }),
    }
}
