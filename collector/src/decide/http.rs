//! Asks aggregators over HTTPS, and turns whatever happens into an answer.
//!
//! Owns the pooled connections, the deadline of each call and the limit of what
//! is read. An aggregator is a third party: it is followed nowhere (no
//! redirects), told nothing (no cookies, no referer), unpacked not at all (no
//! encodings are offered, and what comes packed stays packed), and reached at
//! public addresses only, unless its configuration says otherwise (`resolver`,
//! `address`). Whom to ask and when, and how many calls may be under way, is
//! the core's; what the request says is the adapter's. Never logged: URLs,
//! headers, bodies.
//!
//! `warmth` keeps a host without connection from being stormed, and a deadline
//! that is shorter than a TLS handshake from never being met.

mod address;
mod resolver;
mod target;
mod trust;
mod warmth;

use std::{
    error::Error as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Client,
    header::{
        ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    },
};
use returnpath_decision::{Answer, Method, Request, Response};
use thiserror::Error;
use tokio::{sync::oneshot, time};

use self::{
    resolver::{Private, Resolver},
    target::Target,
    warmth::{Opening, Warmth},
};
use super::metrics::Metrics;

pub(super) use self::resolver::Private as PrivateAddresses;
pub use self::trust::TrustError;

/// How long a connection without calls is kept: aggregators close theirs after
/// one to several minutes, and a new handshake costs more than the memory.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// Connections without calls that are kept for one host that speaks HTTP/1.1,
/// where each carries one call at a time: 500 calls/s of 50 ms need 25. A host
/// that speaks HTTP/2 has one.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// How long bringing up a connection may take: a lost SYN or two, and TLS over
/// an ocean.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// An HTTP/2 connection that carries calls is asked for a sign of life after
/// this long, and given up when it gives none for half as long: calls into a
/// dead connection all end at their deadline.
const PING_AFTER: Duration = Duration::from_secs(5);

/// Bytes that a server may send ahead of our reading, on one call and on a
/// whole HTTP/2 connection: what bounds a body before it is counted.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Header fields of an answer: in bytes over HTTP/2, in number over HTTP/1.1
/// (there hyper itself stops at some 400 KiB). Answers have a dozen.
const HEADER_BYTES_MAX: u32 = 32 * 1024;
const HEADERS_MAX: usize = 64;

/// Longest reason in a record: of a chain of causes the first ones say most.
const REASON_BYTES_MAX: usize = 200;

/// How one aggregator is reached.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// PEM file of the authorities that may sign its certificate; the system's
    /// where there is none.
    pub(super) ca: Option<PathBuf>,
    /// Whether it may be at an address that not everybody can reach.
    pub(super) private: Private,
    /// Largest body of an answer that is read.
    pub(super) body_bytes_max: usize,
}

/// Why no aggregator can be asked.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The authorities cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// reqwest does not take its settings: a bug of ours.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Asks aggregators. Cheap to share: behind an `Arc`, from any task.
#[derive(Debug)]
pub(super) struct Caller {
    /// In the order of the configuration.
    aggregators: Vec<Arc<Aggregator>>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Aggregator {
    client: Client,
    private: Private,
    target: Target,
    body_bytes_max: usize,
    warmth: Warmth,
}

impl Caller {
    /// Makes the clients; connects to nobody. Aggregators that trust the same
    /// authorities and addresses share a pool.
    ///
    /// # Errors
    /// Which of them cannot be reached, because its file of authorities cannot
    /// be used.
    pub(super) fn new(
        endpoints: &[Endpoint],
        metrics: Metrics,
    ) -> Result<Self, (usize, ClientError)> {
        let mut aggregators: Vec<Arc<Aggregator>> = Vec::with_capacity(endpoints.len());
        for (place, endpoint) in endpoints.iter().enumerate() {
            let alike = endpoints[..place]
                .iter()
                .position(|other| other.ca == endpoint.ca && other.private == endpoint.private);
            let client = match alike {
                Some(other) => aggregators[other].client.clone(),
                None => client(endpoint).map_err(|cause| (place, cause))?,
            };
            aggregators.push(Arc::new(Aggregator {
                client,
                private: endpoint.private,
                target: Target::default(),
                body_bytes_max: endpoint.body_bytes_max,
                warmth: Warmth::new(IDLE_MAX),
            }));
        }
        Ok(Self {
            aggregators,
            metrics,
        })
    }

    /// Asks an aggregator, by its place in the configuration. Ends within
    /// `deadline`, whatever the world does. Dropping it cuts the call.
    pub(super) async fn call(
        &self,
        aggregator: usize,
        request: Request,
        deadline: Duration,
    ) -> Answer {
        let began = Instant::now();
        let Some(asked) = self.aggregators.get(aggregator) else {
            return Answer::Unreachable("no such aggregator".into());
        };
        let answer = match asked.prepared(request) {
            Ok(request) => Arc::clone(asked).ask(request, began + deadline).await,
            Err(reason) => Answer::Unreachable(reason.into()),
        };
        self.metrics.called(aggregator, began.elapsed());
        answer
    }
}

impl Aggregator {
    /// The request as reqwest takes it, or why it is not sent. Never repeats
    /// it: it holds secrets.
    fn prepared(&self, request: Request) -> Result<reqwest::Request, &'static str> {
        let url = self.target.url(&request.url, self.private)?;
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
        };
        let mut ready = reqwest::Request::new(method, url);
        let headers = ready.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in request.headers {
            let name = HeaderName::try_from(name).map_err(|_| "a header's name cannot be sent")?;
            let mut value =
                HeaderValue::try_from(value).map_err(|_| "a header's value cannot be sent")?;
            // Not kept in HTTP/2's table, nor printed.
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        *ready.body_mut() = request.body.map(Into::into);
        Ok(ready)
    }

    async fn ask(self: Arc<Self>, request: reqwest::Request, deadline: Instant) -> Answer {
        let Ok(opening) = time::timeout_at(deadline.into(), self.warmth.enter()).await else {
            return Answer::Timeout;
        };
        let Some(opening) = opening else {
            return self.exchange(request, None, deadline).await;
        };
        // A call that is cut at its deadline takes its half-made connection
        // with it. This one goes on for as long as connecting may take, for the
        // sake of the connection: else a deadline that is shorter than a
        // handshake would never be met.
        let (ended, answer) = oneshot::channel();
        tokio::spawn(async move {
            let longer = deadline.max(Instant::now() + CONNECT_MAX);
            let answer = self.exchange(request, Some(opening), longer).await;
            // Nobody waits any more once the deadline has passed.
            let _ = ended.send(answer);
        });
        match time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Answer::Unreachable("the call was given up".into()),
            Err(_) => Answer::Timeout,
        }
    }

    async fn exchange(
        &self,
        request: reqwest::Request,
        opening: Option<Opening>,
        deadline: Instant,
    ) -> Answer {
        match time::timeout_at(deadline.into(), self.fetch(request, opening)).await {
            Err(_) => Answer::Timeout,
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.warmth.lost();
                Answer::Unreachable(reason(&error))
            }
        }
    }

    async fn fetch(
        &self,
        request: reqwest::Request,
        opening: Option<Opening>,
    ) -> Result<Answer, reqwest::Error> {
        let mut response = self.client.execute(request).await?;
        self.warmth.answered();
        // The connection stands: others need not wait for the body.
        drop(opening);
        let announced = number(response.headers(), &CONTENT_LENGTH);
        if announced.is_some_and(|length| length > self.body_bytes_max as u64) {
            return Ok(Answer::TooLarge);
        }
        // Not what was announced: nothing need come of that.
        let mut body = Body::Empty;
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > self.body_bytes_max {
                return Ok(Answer::TooLarge);
            }
            body = body.with(chunk);
        }
        Ok(Answer::Response(Response {
            status: response.status().as_u16(),
            content_type: text(response.headers(), &CONTENT_TYPE),
            content_encoding: text(response.headers(), &CONTENT_ENCODING),
            body: body.into(),
        }))
    }
}

/// What came of a body. Mostly it comes in one piece, which is not copied.
enum Body {
    Empty,
    Whole(Bytes),
    Pieces(BytesMut),
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Whole(bytes) => bytes.len(),
            Self::Pieces(bytes) => bytes.len(),
        }
    }

    fn with(self, chunk: Bytes) -> Self {
        match self {
            Self::Empty => Self::Whole(chunk),
            Self::Whole(first) => {
                let mut bytes = BytesMut::from(first);
                bytes.extend_from_slice(&chunk);
                Self::Pieces(bytes)
            }
            Self::Pieces(mut bytes) => {
                bytes.extend_from_slice(&chunk);
                Self::Pieces(bytes)
            }
        }
    }
}

impl From<Body> for Bytes {
    fn from(body: Body) -> Self {
        match body {
            Body::Empty => Self::new(),
            Body::Whole(bytes) => bytes,
            Body::Pieces(bytes) => bytes.freeze(),
        }
    }
}

fn client(endpoint: &Endpoint) -> Result<Client, ClientError> {
    let tls = trust::client_config(endpoint)?;
    Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .dns_resolver(Resolver::new(endpoint.private))
        .connect_timeout(CONNECT_MAX)
        .pool_idle_timeout(IDLE_MAX)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http1_max_headers(HEADERS_MAX)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_AFTER / 2)
        .build()
        .map_err(ClientError::Client)
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The causes of an error without the URL that it may hold.
fn reason(error: &reqwest::Error) -> String {
    let mut reason = if error.is_connect() {
        "cannot connect".to_owned()
    } else {
        "the connection broke".to_owned()
    };
    // The outermost error repeats the URL; its causes do not.
    let mut cause = error.source();
    while let Some(error) = cause {
        let error_text = error.to_string();
        if !reason.contains(&error_text) {
            reason.push_str(": ");
            reason.push_str(&error_text);
        }
        cause = error.source();
    }
    if reason.len() > REASON_BYTES_MAX {
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        reason.truncate(end);
    }
    reason
}

#[cfg(test)]
mod tests;
