//! Why a run does not begin, or ends unasked, and the exit code of each.

use std::io;

use returnpath_shared::DeviceId;
use thiserror::Error;

use crate::{
    exit::Exit, identity::IdentityError, intake::SocketError, link::TlsError, queue::QueueError,
    trust::TrustError,
};

/// Why the agent did not run, or stopped unasked.
#[derive(Debug, Error)]
pub enum RunError {
    /// The box's identity is unusable.
    #[error("identity")]
    Identity(#[from] IdentityError),
    /// The certificate names another device than the configuration.
    #[error("identity.device is {configured}, but the certificate names {certified}")]
    OtherDevice {
        /// From the configuration.
        configured: DeviceId,
        /// From the certificate.
        certified: DeviceId,
    },
    /// A file of public keys cannot be used.
    #[error("trust")]
    Trust(#[from] TrustError),
    /// Certificate and key cannot be used.
    #[error("identity")]
    Tls(#[from] TlsError),
    /// The queue cannot be used.
    #[error("queue")]
    Queue(#[from] QueueError),
    /// The socket cannot be made.
    #[error("intake")]
    Socket(#[from] SocketError),
    /// The runtime or signals cannot be set up.
    #[error("the system refused")]
    System(#[from] io::Error),
    /// A part ended that should not have.
    #[error("the {0} ended unasked")]
    Ended(&'static str),
}

impl RunError {
    /// The process's exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Identity(_) | Self::OtherDevice { .. } | Self::Tls(_) | Self::Trust(_) => {
                Exit::Configuration
            }
            Self::Socket(SocketError::Group { .. }) => Exit::Configuration,
            Self::Socket(SocketError::InUse { .. }) => Exit::TemporaryFailure,
            Self::Queue(error) if error.is_in_use() => Exit::TemporaryFailure,
            Self::Queue(_) | Self::Socket(_) => Exit::CannotCreate,
            Self::System(_) | Self::Ended(_) => Exit::Software,
        }
    }
}
