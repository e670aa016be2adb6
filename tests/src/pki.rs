//! The development PKI: one throw-away authority that signs a broker,
//! collectors, an ad market and devices, and the keys that sign decisions and
//! configuration; for tests, demo and trying things out.
//!
//! **Not for production.** The authority's key lies unencrypted beside what it
//! signed, there is no revocation, and anyone who can read the folder can be
//! any box and put any ad on it. It owns the folder's layout and the
//! certificates' profile, and nothing of TLS settings:
//!
//! ```text
//! ca.pem  ca.key  broker.pem  broker.key  aggregators.pem  aggregators.key
//! collector-a.pem  collector-a.key  collector-a-decide.pem  collector-a-decide.key …
//! operator.pem  operator.key
//! decision-a.key  decision-a.pub  decision-b…  config-a…  config-b…
//! devices/{device}.pem  devices/{device}.key  NOT-FOR-PRODUCTION.txt
//! ```

mod flaw;
mod untrusted;

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType, date_time_ymd,
};
use returnpath_shared::DeviceId;

pub use self::{flaw::Flaw, untrusted::Untrusted};

/// What is printed wherever such certificates are made.
pub const WARNING: &str = "\
############################################################
##  DEVELOPMENT CERTIFICATES - NOT FOR PRODUCTION         ##
##  The authority's key lies unencrypted in this folder:  ##
##  whoever reads it can be any box, and the broker, and  ##
##  sign any ad.                                          ##
############################################################
";

/// Common name of the authority. Constant, so that an authority can be opened
/// again from its key alone.
const AUTHORITY_NAME: &str = "returnpath development CA (not for production)";

/// Device ids must not begin so: the broker's access control tells collectors
/// from boxes by their common names.
const COLLECTOR_PREFIX: &str = "collector-";

/// Common name of the person who steers boxes; no device's id either.
const OPERATOR: &str = "operator";

/// The collectors that have certificates.
const COLLECTORS: [&str; 3] = ["collector-a", "collector-b", "collector-c"];

/// The keys that sign: two of each kind, because during a rotation two are
/// valid.
const SIGNING_KEYS: [&str; 4] = ["decision-a", "decision-b", "config-a", "config-b"];

/// Certificates begin this much earlier than they are made, for containers
/// and virtual machines whose clocks differ a little.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, signed by the authority.
    pub certificate: PathBuf,
    /// Its private key (PKCS #8), readable by the owner only.
    pub key: PathBuf,
}

impl Identity {
    fn at(directory: &Path, name: &str) -> Self {
        Self {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        }
    }
}

/// An Ed25519 key that signs decisions or configuration, as PEM files.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// The private key (PKCS #8), readable by the owner only.
    pub private: PathBuf,
    /// The public key (`SubjectPublicKeyInfo`), for those who verify.
    pub public: PathBuf,
}

/// A throw-away authority in a folder.
pub struct DevelopmentPki {
    directory: PathBuf,
    validity: Duration,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate may be used for.
enum Purpose {
    /// Proves the broker to both ends (`serverAuth`).
    Server,
    /// Proves a box or a collector to the broker (`clientAuth`).
    Client,
}

impl DevelopmentPki {
    /// Makes a new authority in `directory`, with certificates for the broker,
    /// the collectors, the ad market and the operator, all valid
    /// for `validity`, and the keys that sign decisions and configuration.
    ///
    /// # Errors
    /// When the folder already holds an authority, or cannot be written.
    pub fn create(directory: &Path, validity: Duration) -> anyhow::Result<Self> {
        let devices = directory.join("devices");
        fs::create_dir_all(&devices).with_context(|| format!("create {}", devices.display()))?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = authority_parameters(validity)?.self_signed(&key)?;
        let files = Identity::at(directory, "ca");
        write_private(&files.key, &key.serialize_pem())?;
        write_public(&files.certificate, &certificate.pem())?;
        write_public(&directory.join("NOT-FOR-PRODUCTION.txt"), WARNING)?;
        let pki = Self {
            directory: directory.to_owned(),
            validity,
            issuer: Issuer::new(authority_parameters(validity)?, key),
        };
        pki.sign(&pki.broker(), "broker", Purpose::Server)?;
        pki.sign(&pki.aggregators(), "aggregators", Purpose::Server)?;
        for name in COLLECTORS {
            pki.sign(&pki.collector(name), name, Purpose::Client)?;
            let decide = decide_name(name);
            pki.sign(&pki.decide(name), &decide, Purpose::Client)?;
        }
        pki.sign(&pki.operator(), OPERATOR, Purpose::Client)?;
        for name in SIGNING_KEYS {
            let files = pki.signing_key(name);
            let key = KeyPair::generate_for(&PKCS_ED25519)?;
            write_private(&files.private, &key.serialize_pem())?;
            write_public(&files.public, &key.public_key_pem())?;
        }
        Ok(pki)
    }

    /// Opens the authority in `directory` to sign more devices.
    ///
    /// # Errors
    /// When there is none, or its key cannot be read.
    pub fn open(directory: &Path, validity: Duration) -> anyhow::Result<Self> {
        let path = Identity::at(directory, "ca").key;
        let pem = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let key = KeyPair::from_pem(&pem).with_context(|| format!("parse {}", path.display()))?;
        Ok(Self {
            directory: directory.to_owned(),
            validity,
            issuer: Issuer::new(authority_parameters(validity)?, key),
        })
    }

    /// Signs a certificate for a device, or returns the one that is there.
    ///
    /// # Errors
    /// When the id is reserved for collectors, or a file cannot be written.
    pub fn device(&self, id: &DeviceId) -> anyhow::Result<Identity> {
        ensure!(
            !id.as_str().starts_with(COLLECTOR_PREFIX),
            "device id {id} begins with {COLLECTOR_PREFIX:?}, which is reserved for collectors"
        );
        ensure!(
            id.as_str() != OPERATOR,
            "device id {id} is reserved for the person who steers boxes"
        );
        let identity = Identity::at(&self.directory.join("devices"), id.as_str());
        if !identity.certificate.exists() {
            self.sign(&identity, id.as_str(), Purpose::Client)?;
        }
        Ok(identity)
    }

    /// The authority's certificate, which all ends trust.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        Identity::at(&self.directory, "ca").certificate
    }

    /// The broker's identity; it answers to `localhost` and the loopback
    /// addresses.
    #[must_use]
    pub fn broker(&self) -> Identity {
        Identity::at(&self.directory, "broker")
    }

    /// The identity of `collector-a`, `collector-b` or `collector-c`.
    #[must_use]
    pub fn collector(&self, name: &str) -> Identity {
        Identity::at(&self.directory, name)
    }

    /// What the decide role of a collector shows to the broker: a connection of its own, with rights of its own.
    #[must_use]
    pub fn decide(&self, collector: &str) -> Identity {
        Identity::at(&self.directory, &decide_name(collector))
    }

    /// What the person who steers boxes shows to the broker.
    #[must_use]
    pub fn operator(&self) -> Identity {
        Identity::at(&self.directory, OPERATOR)
    }

    /// The identity of the stand-in ad market; it answers to `localhost` and
    /// the loopback addresses.
    #[must_use]
    pub fn aggregators(&self) -> Identity {
        Identity::at(&self.directory, "aggregators")
    }

    /// The signing key `decision-a`, `decision-b`, `config-a` or `config-b`.
    #[must_use]
    pub fn signing_key(&self, name: &str) -> SigningKey {
        SigningKey {
            private: self.directory.join(format!("{name}.key")),
            public: self.directory.join(format!("{name}.pub")),
        }
    }

    fn sign(&self, files: &Identity, name: &str, purpose: Purpose) -> anyhow::Result<()> {
        sign_by(
            &self.issuer,
            files,
            &leaf_parameters(name, self.validity, purpose)?,
        )
    }
}

fn sign_by(
    issuer: &Issuer<'_, KeyPair>,
    files: &Identity,
    parameters: &CertificateParams,
) -> anyhow::Result<()> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = parameters
        .signed_by(&key, issuer)
        .with_context(|| format!("sign {}", files.certificate.display()))?;
    write_private(&files.key, &key.serialize_pem())?;
    write_public(&files.certificate, &certificate.pem())
}

fn leaf_parameters(
    name: &str,
    validity: Duration,
    purpose: Purpose,
) -> anyhow::Result<CertificateParams> {
    let mut parameters = parameters(name, validity)?;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = match purpose {
        Purpose::Server => {
            parameters.subject_alt_names = vec![
                SanType::DnsName("localhost".try_into()?),
                SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            ];
            vec![ExtendedKeyUsagePurpose::ServerAuth]
        }
        Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    Ok(parameters)
}

/// Common name of the decide role of a collector.
fn decide_name(collector: &str) -> String {
    format!("{collector}-decide")
}

fn authority_parameters(validity: Duration) -> anyhow::Result<CertificateParams> {
    let mut parameters = parameters(AUTHORITY_NAME, validity)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters)
}

fn parameters(common_name: &str, validity: Duration) -> anyhow::Result<CertificateParams> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    let epoch = date_time_ymd(1970, 1, 1);
    let mut parameters = CertificateParams::default();
    parameters.not_before = epoch + now.saturating_sub(BACKDATED);
    parameters.not_after = epoch + (now + validity);
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    parameters.distinguished_name = name;
    Ok(parameters)
}

/// Keys are made with their final mode, so that no moment exists in which
/// others may read them; an existing file is never overwritten.
fn write_private(path: &Path, pem: &str) -> anyhow::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(pem.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

fn write_public(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
