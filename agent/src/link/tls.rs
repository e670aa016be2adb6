//! TLS for the link: version 1.3 only, the box's client certificate, and a
//! judgement of the broker's certificate that copes with a clock in 1970.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption, VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::TLS13,
};
use thiserror::Error;

use crate::{clock::TrustedTime, identity::Identity};

/// Sessions kept for resumption: one for each of a handful of brokers. rustls
/// would keep 256, which a box cannot use.
const SESSIONS_MAX: usize = 8;

/// Certificates between the broker's and a root, beyond which no further
/// moment is tried.
const CHAIN_MAX: usize = 6;

/// Why there is no TLS configuration.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The roots are unusable.
    #[error("the trusted certificates cannot be used")]
    Roots(#[source] VerifierBuilderError),
    /// The client certificate and its key do not go together, or are unusable.
    #[error("the client certificate and its key cannot be used")]
    Client(#[source] Error),
}

/// Builds the configuration with which a box connects.
///
/// # Errors
/// When roots, certificate or key cannot be used.
pub fn client_config(
    identity: &Identity,
    time: TrustedTime,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let webpki = WebPkiServerVerifier::builder_with_provider(
        Arc::clone(&identity.roots),
        Arc::clone(&provider),
    )
    .build()
    .map_err(TlsError::Roots)?;

    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Client)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { webpki, time }))
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(TlsError::Client)?;
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Ok(Arc::new(config))
}

/// webpki's verification at a moment that we choose; everything else is its
/// own.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    time: TrustedTime,
}

impl ServerCertVerifier for Verifier {
    /// With a synchronised clock: at its time, but never before the latest
    /// moment known to have passed.
    ///
    /// Without: at that moment. A certificate that begins later shows that
    /// more time has passed, because who signed it did so no earlier; the
    /// chain is then judged at its beginning. So "not yet valid" is held
    /// against nobody, and "expired" still is.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |unix_s: u64| {
            let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(unix_s));
            self.webpki.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                at,
            )
        };
        let floor_unix_s = self.time.floor_unix_s();
        if self.time.is_synchronised() {
            return verify(now.as_secs().max(floor_unix_s));
        }
        let mut unix_s = floor_unix_s;
        for _ in 0..CHAIN_MAX {
            match verify(unix_s) {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) if not_before.as_secs() > unix_s => unix_s = not_before.as_secs(),
                verdict => return verdict,
            }
        }
        verify(unix_s)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Never offered; a broker that picks it anyway is not obeyed.
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
