//! Our side of mutual TLS 1.3, read from files. Read again for every
//! connection, so that a renewed certificate needs no restart.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    version::TLS13,
};
use thiserror::Error;

use super::config::Tls;

/// Why the files cannot be used. Names the key in the configuration.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("bridge.tls.{key}: cannot read {path}")]
    Read {
        /// Key under `bridge.tls`.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file does not hold what it must.
    #[error("bridge.tls.{key}: {path} must hold {expected} in PEM")]
    Pem {
        /// Key under `bridge.tls`.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it must hold.
        expected: &'static str,
        /// What the parser met; nothing where it found none.
        source: Option<pem::Error>,
    },
    /// rustls does not take it, for example because key and certificate do not
    /// belong together.
    #[error("bridge.tls.{key}: {path} cannot be used")]
    Unusable {
        /// Key under `bridge.tls`.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// Reads the files into what a connection needs.
pub(super) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates("ca", &tls.ca)? {
        roots
            .add(authority)
            .map_err(|source| unusable("ca", &tls.ca, source))?;
    }
    let chain = certificates("certificate", &tls.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read("key", &tls.key)?)
        .map_err(|source| wrong("key", &tls.key, "a private key", Some(source)))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| unusable("ca", &tls.ca, source))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|source| unusable("key", &tls.key, source))?;
    Ok(Arc::new(config))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const EXPECTED: &str = "at least one certificate";

    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(key, path)?)
        .collect::<Result<_, _>>()
        .map_err(|source| wrong(key, path, EXPECTED, Some(source)))?;
    if found.is_empty() {
        return Err(wrong(key, path, EXPECTED, None));
    }
    Ok(found)
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        key,
        path: path.to_owned(),
        source,
    })
}

fn wrong(
    key: &'static str,
    path: &Path,
    expected: &'static str,
    source: Option<pem::Error>,
) -> TlsError {
    TlsError::Pem {
        key,
        path: path.to_owned(),
        expected,
        source,
    }
}

fn unusable(key: &'static str, path: &Path, source: rustls::Error) -> TlsError {
    TlsError::Unusable {
        key,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named_with_their_key() {
        let empty = std::env::temp_dir().join(format!("returnpath-empty-{}", std::process::id()));
        fs::write(&empty, "").unwrap();
        let missing = PathBuf::from("/nowhere/ca.pem");
        let message = |ca: &Path| {
            let tls = Tls {
                ca: ca.to_owned(),
                certificate: missing.clone(),
                key: missing.clone(),
            };
            client_config(&tls).unwrap_err().to_string()
        };
        assert_eq!(
            message(&missing),
            "bridge.tls.ca: cannot read /nowhere/ca.pem"
        );
        let expected = "must hold at least one certificate in PEM";
        assert_eq!(
            message(&empty),
            format!("bridge.tls.ca: {} {expected}", empty.display())
        );
        fs::remove_file(empty).unwrap();
    }
}
