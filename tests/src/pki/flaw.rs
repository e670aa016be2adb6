//! Certificates of an aggregator that nobody should believe, each for one
//! reason: in all else they are as the good one.

use std::time::{Duration, SystemTime};

use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};

use super::{DevelopmentPki, Identity, Purpose, authority_parameters, leaf_parameters, sign_by};

/// What is wrong with a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Flaw {
    /// It was good until a minute ago.
    Expired,
    /// It is somebody else's.
    OtherName,
    /// An authority signed it that nobody knows, under a known one's name.
    OtherAuthority,
}

impl Flaw {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Expired, Self::OtherName, Self::OtherAuthority];

    fn file(self) -> &'static str {
        match self {
            Self::Expired => "aggregators-expired",
            Self::OtherName => "aggregators-other-name",
            Self::OtherAuthority => "aggregators-other-authority",
        }
    }
}

impl DevelopmentPki {
    /// An identity of the stand-in ad market with a flaw; signed at the first
    /// asking.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn flawed_aggregators(&self, flaw: Flaw) -> anyhow::Result<Identity> {
        let files = Identity::at(&self.directory, flaw.file());
        if files.certificate.exists() {
            return Ok(files);
        }
        let mut parameters = leaf_parameters("aggregators", self.validity, Purpose::Server)?;
        let stranger;
        let issuer = match flaw {
            Flaw::Expired => {
                parameters.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
                &self.issuer
            }
            Flaw::OtherName => {
                let name = "elsewhere.example".try_into()?;
                parameters.subject_alt_names = vec![SanType::DnsName(name)];
                &self.issuer
            }
            Flaw::OtherAuthority => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                stranger = Issuer::new(authority_parameters(self.validity)?, key);
                &stranger
            }
        };
        sign_by(issuer, &files, &parameters)?;
        Ok(files)
    }
}
