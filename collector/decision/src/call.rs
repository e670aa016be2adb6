//! The seam between an adapter and whoever speaks HTTP for it.

use alloc::{string::String, vec::Vec};

use bytes::Bytes;
use returnpath_shared::wire::Offer;
use thiserror::Error;

use crate::ask::Ask;

/// Turns what is asked into a request of one aggregator's API, and its answer
/// into offers. Pure: the core owns the connections, deadlines and limits.
pub trait Adapter: Send + Sync {
    /// The request for one slot.
    ///
    /// # Errors
    /// When the context lacks what the request must have.
    fn request(&self, ask: &Ask<'_>) -> Result<Request, FieldMissing>;

    /// The offers in an answer; none when it says that there is nothing.
    ///
    /// # Errors
    /// When the answer is not as the configuration says that it is.
    fn offers(&self, response: &Response) -> Result<Vec<Offer>, Unreadable>;
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// The context lacks what a request must have.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{field} is not known")]
pub struct FieldMissing {
    /// Which, as the configuration names it.
    pub field: &'static str,
}

/// An answer cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{place}: expected {expected}")]
pub struct Unreadable {
    /// `status`, `content-type`, or the pointer into the body (RFC 6901).
    pub place: String,
    /// What was expected there, for people; nothing of the body itself.
    pub expected: String,
}
