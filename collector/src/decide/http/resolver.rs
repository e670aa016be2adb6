//! Names to addresses, without those that an aggregator may not have.
//!
//! The connection goes to one of the addresses that were checked here: nobody
//! resolves the name again, so a name that answers differently the second time
//! gains nothing.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use tokio::net;

use super::address;

/// Whether an aggregator may be at an address that not everybody can reach:
/// in the operator's own network, or on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::decide) enum Private {
    /// It may.
    Allowed,
    /// It may not: whoever can change its DNS could otherwise have us ask
    /// what only we can reach.
    Refused,
}

impl Private {
    /// Whether an address may be connected to.
    pub(super) fn admits(self, address: IpAddr) -> bool {
        match self {
            Self::Allowed => true,
            Self::Refused => address::is_public(address),
        }
    }
}

/// The system's resolver, and what is dropped of its answers.
pub(super) struct Resolver {
    private: Private,
}

#[derive(Debug, Error)]
#[error("its name resolves to no public address")]
struct NotPublic;

impl Resolver {
    pub(super) fn new(private: Private) -> Self {
        Self { private }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private = self.private;
        Box::pin(async move {
            // The port is the URL's, whatever stands here.
            let found = net::lookup_host((name.as_str(), 0)).await?;
            let admitted: Vec<SocketAddr> = found
                .filter(|address| private.admits(address.ip()))
                .collect();
            if admitted.is_empty() {
                return Err(NotPublic.into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}
