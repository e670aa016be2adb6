//! Whose certificates are believed of an aggregator, and how TLS is spoken
//! with it: 1.3 or 1.2, since it is a third party.

use std::{fs, io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use thiserror::Error;

use super::Endpoint;

/// What is spoken over TLS, the most wanted first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why no certificate could be believed.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file does not hold what it must.
    #[error("{path} must hold at least one certificate in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the parser met; nothing where it found none.
        source: Option<pem::Error>,
    },
    /// A certificate in the file is none of an authority.
    #[error("{path} holds what is no authority's certificate")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The system keeps no authorities where they are looked for.
    #[error("the system has no authorities' certificates (SSL_CERT_FILE names others): {reason}")]
    System {
        /// What went wrong in looking for them.
        reason: String,
    },
    /// ring lacks what TLS needs: a bug of ours.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// How TLS is spoken with an aggregator.
pub(super) fn client_config(endpoint: &Endpoint) -> Result<ClientConfig, TrustError> {
    let roots = match &endpoint.ca {
        Some(path) => of_file(path)?,
        None => of_system()?,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TrustError::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn of_file(path: &PathBuf) -> Result<RootCertStore, TrustError> {
    let wrong = |source| TrustError::Pem {
        path: path.clone(),
        source,
    };
    let text = fs::read(path).map_err(|source| TrustError::Read {
        path: path.clone(),
        source,
    })?;
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&text) {
        let authority = authority.map_err(|source| wrong(Some(source)))?;
        roots
            .add(authority)
            .map_err(|source| TrustError::Authority {
                path: path.clone(),
                source,
            })?;
    }
    if roots.is_empty() {
        return Err(wrong(None));
    }
    Ok(roots)
}

/// The system's: a bundle holds some that rustls cannot use, which is no
/// reason to believe none of the others.
fn of_system() -> Result<RootCertStore, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TrustError::System {
            reason: reasons.join("; "),
        });
    }
    Ok(roots)
}
