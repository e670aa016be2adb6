//! Who this box is: its certificate, its key, whom it trusts, and the device
//! id that its certificate names. Reads files once; never logs what is in them.

mod subject;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use returnpath_shared::{DeviceId, IdError};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};
use thiserror::Error;

/// Larger files are no certificates of ours: bounds what a wrong path costs.
const PEM_BYTES_MAX: u64 = 256 * 1024;

/// Where a box's identity lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityFiles {
    /// Client certificate and intermediates, PEM.
    pub certificate: PathBuf,
    /// Private key of the first certificate, PEM.
    pub private_key: PathBuf,
    /// Certificates that may have signed the broker's, PEM.
    pub ca: PathBuf,
}

/// A box's identity, loaded.
#[derive(Debug)]
pub struct Identity {
    /// Common name of the client certificate.
    pub device: DeviceId,
    /// The client certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Whom to trust.
    pub roots: Arc<RootCertStore>,
}

/// Why there is no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is no PEM file with {expected}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was expected in it.
        expected: &'static str,
        /// Why it is not there.
        #[source]
        source: pem::Error,
    },
    /// A certificate cannot be parsed, or names nobody.
    #[error("{path} holds a certificate without a readable common name")]
    Subject {
        /// The file.
        path: PathBuf,
    },
    /// The common name is no device id.
    #[error("the common name in {path} is no device id")]
    Device {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: IdError,
    },
    /// A certificate cannot serve as a root.
    #[error("{path} holds a certificate that cannot be a root")]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

impl Identity {
    /// Reads the three files.
    ///
    /// # Errors
    /// Names the file and what was expected in it.
    pub fn load(files: &IdentityFiles) -> Result<Self, IdentityError> {
        let chain = certificates(&files.certificate)?;
        let path = || files.certificate.clone();
        let device = chain
            .first()
            .and_then(|certificate| {
                let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
                subject::common_name(certificate.subject())
            })
            .ok_or_else(|| IdentityError::Subject { path: path() })?
            .parse()
            .map_err(|source| IdentityError::Device {
                path: path(),
                source,
            })?;

        let key_pem = read(&files.private_key)?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|source| IdentityError::Pem {
            path: files.private_key.clone(),
            expected: "a private key",
            source,
        })?;

        let mut roots = RootCertStore::empty();
        for root in certificates(&files.ca)? {
            roots.add(root).map_err(|source| IdentityError::Root {
                path: files.ca.clone(),
                source,
            })?;
        }
        Ok(Self {
            device,
            chain,
            key,
            roots: Arc::new(roots),
        })
    }
}

/// At least one certificate.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read(path)?;
    let wrong = |source| IdentityError::Pem {
        path: path.to_owned(),
        expected: "certificates",
        source,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    if chain.is_empty() {
        return Err(wrong(pem::Error::NoItemsFound));
    }
    Ok(chain)
}

/// A small file, whole.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let read = || {
        let length = fs::metadata(path)?.len();
        if length > PEM_BYTES_MAX {
            return Err(io::Error::other(format!(
                "{length} bytes, at most {PEM_BYTES_MAX} expected"
            )));
        }
        fs::read(path)
    };
    read().map_err(|source| IdentityError::Read {
        path: path.to_owned(),
        source,
    })
}
