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

use super::Tls;

/// Why the files cannot be used. Names the key in the configuration.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{section}.{key}: cannot read {path}")]
    Read {
        /// Table of the configuration, as in `bridge.tls`.
        section: &'static str,
        /// Key in it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file does not hold what it must.
    #[error("{section}.{key}: {path} must hold {expected} in PEM")]
    Pem {
        /// Table of the configuration, as in `bridge.tls`.
        section: &'static str,
        /// Key in it.
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
    #[error("{section}.{key}: {path} cannot be used")]
    Unusable {
        /// Table of the configuration, as in `bridge.tls`.
        section: &'static str,
        /// Key in it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

/// Reads the files into what a connection needs. `section` is where the
/// configuration names them.
pub(crate) fn client_config(
    section: &'static str,
    tls: &Tls,
) -> Result<Arc<ClientConfig>, TlsError> {
    let file = |key, path| File { section, key, path };
    let (ca, key) = (file("ca", &tls.ca), file("key", &tls.key));
    let mut roots = RootCertStore::empty();
    for authority in ca.certificates()? {
        roots.add(authority).map_err(|source| ca.unusable(source))?;
    }
    let chain = file("certificate", &tls.certificate).certificates()?;
    let private = PrivateKeyDer::from_pem_slice(&key.read()?)
        .map_err(|source| key.wrong("a private key", Some(source)))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| ca.unusable(source))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private)
        .map_err(|source| key.unusable(source))?;
    Ok(Arc::new(config))
}

/// One of the files, and where the configuration names it.
#[derive(Clone, Copy)]
struct File<'a> {
    section: &'static str,
    key: &'static str,
    path: &'a Path,
}

impl File<'_> {
    fn certificates(self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        const EXPECTED: &str = "at least one certificate";

        let found: Vec<_> = CertificateDer::pem_slice_iter(&self.read()?)
            .collect::<Result<_, _>>()
            .map_err(|source| self.wrong(EXPECTED, Some(source)))?;
        if found.is_empty() {
            return Err(self.wrong(EXPECTED, None));
        }
        Ok(found)
    }

    fn read(self) -> Result<Vec<u8>, TlsError> {
        fs::read(self.path).map_err(|source| TlsError::Read {
            section: self.section,
            key: self.key,
            path: self.path.to_owned(),
            source,
        })
    }

    fn wrong(self, expected: &'static str, source: Option<pem::Error>) -> TlsError {
        TlsError::Pem {
            section: self.section,
            key: self.key,
            path: self.path.to_owned(),
            expected,
            source,
        }
    }

    fn unusable(self, source: rustls::Error) -> TlsError {
        TlsError::Unusable {
            section: self.section,
            key: self.key,
            path: self.path.to_owned(),
            source,
        }
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
            client_config("bridge.tls", &tls).unwrap_err().to_string()
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
