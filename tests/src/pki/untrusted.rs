//! Certificates of boxes and brokers that must not be let in or believed, each
//! for one reason: in all else they are as the good ones. And the list by which
//! an authority takes certificates back.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, PKCS_ECDSA_P256_SHA256,
    RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use returnpath_shared::DeviceId;

use super::{
    DevelopmentPki, Identity, Purpose, authority_parameters, leaf_parameters, sign_by, write_public,
};

/// Serial number of the one certificate that is taken back.
const REVOKED_SERIAL: u64 = 0x0bad_cafe;

/// How long a revocation list holds.
const LIST_VALID: Duration = Duration::from_secs(24 * 3_600);

/// Longer ago than any build of what judges the certificate.
const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Why a certificate must not be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Untrusted {
    /// It was good until a minute ago.
    Expired,
    /// It was good until years ago, as a clock in 1970 can know too: the
    /// program that judges it was built later.
    ExpiredForYears,
    /// It is for another host.
    OtherName,
    /// An authority signed it that nobody knows, under the known one's name.
    OtherAuthority,
}

impl DevelopmentPki {
    /// A broker that must not be believed; a new one at each asking.
    ///
    /// # Errors
    /// When a file cannot be written, or this was asked for before.
    pub fn untrusted_broker(&self, why: Untrusted) -> anyhow::Result<Identity> {
        let files = Identity::at(&self.directory, &format!("broker-{why:?}"));
        self.sign_untrusted(&files, "broker", Purpose::Server, why)?;
        Ok(files)
    }

    /// A box that must not be let in; a new one at each asking.
    ///
    /// # Errors
    /// When a file cannot be written, or this was asked for before.
    pub fn untrusted_device(&self, id: &DeviceId, why: Untrusted) -> anyhow::Result<Identity> {
        let files = Identity::at(&self.directory, &format!("{id}-{why:?}"));
        self.sign_untrusted(&files, id.as_str(), Purpose::Client, why)?;
        Ok(files)
    }

    /// A box that was good until it was taken back, and the list that says so,
    /// in PEM.
    ///
    /// # Errors
    /// When a file cannot be written, or this was asked for before.
    pub fn revoked_device(&self, id: &DeviceId) -> anyhow::Result<(Identity, PathBuf)> {
        let files = Identity::at(&self.directory, &format!("{id}-revoked"));
        let mut parameters = leaf_parameters(id.as_str(), self.validity, Purpose::Client)?;
        parameters.serial_number = Some(SerialNumber::from(REVOKED_SERIAL));
        sign_by(&self.issuer, &files, &parameters)?;

        // Backdated a little, as certificates are: clocks differ.
        let now = SystemTime::now();
        let list = CertificateRevocationListParams {
            this_update: (now - super::BACKDATED).into(),
            next_update: (now + LIST_VALID).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(REVOKED_SERIAL),
                revocation_time: (now - super::BACKDATED).into(),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.directory.join("revoked.pem");
        write_public(&path, &list.signed_by(&self.issuer)?.pem()?)?;
        Ok((files, path))
    }

    fn sign_untrusted(
        &self,
        files: &Identity,
        name: &str,
        purpose: Purpose,
        why: Untrusted,
    ) -> anyhow::Result<()> {
        let mut parameters = leaf_parameters(name, self.validity, purpose)?;
        let stranger;
        let mut issuer = &self.issuer;
        match why {
            Untrusted::Expired => {
                parameters.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
            }
            Untrusted::ExpiredForYears => {
                parameters.not_before = (SystemTime::now() - YEARS - LIST_VALID).into();
                parameters.not_after = (SystemTime::now() - YEARS).into();
            }
            Untrusted::OtherName => {
                let name = "elsewhere.example".try_into()?;
                parameters.subject_alt_names = vec![SanType::DnsName(name)];
            }
            Untrusted::OtherAuthority => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                stranger = Issuer::new(authority_parameters(self.validity)?, key);
                issuer = &stranger;
            }
        }
        sign_by(issuer, files, &parameters)
    }
}
