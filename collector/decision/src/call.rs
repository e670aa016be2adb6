//! The seam between an adapter and whoever speaks HTTP for it.

use alloc::{string::String, vec::Vec};

use bytes::Bytes;
use returnpath_shared::wire::{Exclusion, OfferRecord, Outcome};
use serde::Deserialize;
use thiserror::Error;

use crate::ask::Ask;

/// Turns what is asked into a request of one aggregator's API, and its answer
/// into offers. Pure: the core owns the connections, deadlines and limits.
pub trait Adapter: Send + Sync {
    /// The request for one slot.
    ///
    /// # Errors
    /// When the request must have what is not known, or may not be told.
    fn request(&self, ask: &Ask<'_>) -> Result<Request, Unaskable>;

    /// The offers in an answer, in its order, at most
    /// [`OFFERS_MAX`](crate::OFFERS_MAX); none when it says that there is
    /// nothing. One that cannot be read stands beside the good ones with the
    /// fault [`Field`](returnpath_shared::wire::OfferFault::Field), and with
    /// what of it could be read. Nothing else is judged here.
    ///
    /// # Errors
    /// When the answer as a whole is not as the configuration says that it is.
    fn offers(&self, response: &Response) -> Result<Vec<OfferRecord>, Unreadable>;
}

/// A request, ready to be sent. Holds secrets: never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// GET or POST.
    pub method: Method,
    /// Absolute, with its query.
    pub url: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// With POST.
    pub body: Option<Bytes>,
}

/// HTTP's method.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A whole answer came.
    Response(Response),
    /// The deadline passed first.
    Timeout,
    /// No connection, or it broke; for people, why.
    Unreachable(String),
    /// The body is larger than it may be.
    TooLarge,
}

/// A whole answer, its body as it came: a client that offers no encodings
/// takes none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// HTTP status; redirects are not followed.
    pub status: u16,
    /// `content-type`, as sent.
    pub content_type: Option<String>,
    /// `content-encoding`, as sent; anything but identity is unreadable.
    pub content_encoding: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why an aggregator cannot be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unaskable {
    /// The context lacks what the request must have.
    #[error("{field} is not known")]
    Missing {
        /// As the configuration names it.
        field: &'static str,
    },
    /// The request must have what may not be told without consent.
    #[error("{field} may not be told without consent")]
    Withheld {
        /// As the configuration names it.
        field: &'static str,
    },
}

impl Unaskable {
    /// How it is recorded.
    pub fn exclusion(self) -> Exclusion {
        match self {
            Self::Missing { .. } => Exclusion::FieldMissing,
            Self::Withheld { .. } => Exclusion::Privacy,
        }
    }
}

/// Why an answer holds neither offers nor a no-bid. Says nothing of the body
/// itself: it is the aggregator's, and may be hostile.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Unreadable {
    /// A status that is neither an offer nor a no-bid.
    #[error("status {status}: expected {expected}")]
    Status {
        /// What came.
        status: u16,
        /// What was expected, for people.
        expected: String,
    },
    /// The answer is not in the form that the configuration says.
    #[error("{place}: expected {expected}")]
    Form {
        /// `content-type`, `content-encoding`, `body`, or the pointer into the
        /// body (RFC 6901).
        place: String,
        /// What was expected there, for people.
        expected: String,
    },
}

impl Unreadable {
    /// How it is recorded.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Status { .. } => Outcome::Error,
            Self::Form { .. } => Outcome::Invalid,
        }
    }
}
