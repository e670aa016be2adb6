//! The server of one aggregator: TLS, HTTP, and the behaviour of the moment.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::pending,
    net::Ipv4Addr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, LOCATION},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::TLS13,
};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use super::{
    api::Api,
    behaviour::{Applied, Behaviour},
    body::AnswerBody,
    memory::{Asked, Memory},
    stock::Stock,
};
use crate::pki::{Flaw, Identity};

/// Requests are small; a client that sends more is not ours.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Neither text nor JSON.
const GARBAGE: &[u8] = b"{\"ad\": \xff\xfe<html>no";

/// What a web server without TLS says to a hello that it cannot read.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

/// One aggregator.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) tls: TlsAcceptor,
    pub(super) flawed: BTreeMap<Flaw, TlsAcceptor>,
    pub(super) api: Api,
    pub(super) secret: String,
    pub(super) stock: Stock,
    pub(super) seed: u64,
    pub(super) memory: Arc<Memory>,
    pub(super) behaviour: watch::Receiver<Behaviour>,
    pub(super) applied: watch::Sender<Applied>,
}

/// TLS 1.3 with this certificate, for HTTP/2 and 1.1.
pub(super) fn acceptor(identity: &Identity) -> anyhow::Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(&identity.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Server {
    /// Listens, unless it is told to refuse, until nobody can tell it anything
    /// any more.
    pub(super) async fn run(mut self) {
        loop {
            let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await else {
                tracing::error!(port = self.port, "an aggregator cannot listen");
                return;
            };
            let refuses = self.listen(listener).await;
            // Listener and connections are gone.
            self.applied.send_replace(Applied::Silent);
            if !refuses {
                return;
            }
            let ends = self.behaviour.wait_for(|now| *now != Behaviour::Refuses);
            if ends.await.is_err() {
                return;
            }
        }
    }

    /// Takes connections until it is to refuse them (true), or nobody can tell
    /// it anything any more.
    async fn listen(&mut self, listener: TcpListener) -> bool {
        let mut connections = JoinSet::new();
        let mut behaviour = self.behaviour.clone();
        behaviour.mark_changed();
        loop {
            tokio::select! {
                // Told first: nobody is met as it was before.
                biased;
                told = behaviour.changed() => {
                    let now = *behaviour.borrow_and_update();
                    if told.is_err() || now == Behaviour::Refuses {
                        return told.is_ok();
                    }
                    if now.shows_in_connecting() {
                        connections.shutdown().await;
                    }
                    self.applied.send_replace(Applied::Listening(now));
                }
                Some(_) = connections.join_next() => {}
                Ok((stream, _)) = listener.accept() => {
                    self.memory.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(self.clone().serve(stream));
                }
            }
        }
    }

    async fn serve(mut self, mut stream: TcpStream) {
        let behaviour = *self.behaviour.borrow();
        let tls = match behaviour {
            Behaviour::Dead => {
                // Held without a word; cut when life returns.
                let _ = self.behaviour.wait_for(|now| *now != Behaviour::Dead).await;
                return;
            }
            Behaviour::NoTls => {
                // Whoever waits for TLS hears something else.
                let _ = stream.write_all(NO_TLS).await;
                return;
            }
            Behaviour::Shows(flaw) => self.flawed.get(&flaw).unwrap_or(&self.tls).clone(),
            Behaviour::Fine
            | Behaviour::Slow(_)
            | Behaviour::Holds
            | Behaviour::Refuses
            | Behaviour::Status(_)
            | Behaviour::Garbage
            | Behaviour::Huge
            | Behaviour::CompressionBomb
            | Behaviour::RedirectLoop
            | Behaviour::WrongTypes
            | Behaviour::AbsurdNumbers => self.tls.clone(),
        };
        // What goes wrong here is the client's doing: it went away, or it did
        // not like us.
        let Ok(()) = stream.set_nodelay(true) else {
            return;
        };
        let Ok(stream) = tls.accept(stream).await else {
            return;
        };
        // Requests of an HTTP/2 connection are tasks of their own.
        let server = Arc::new(self);
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { server.answer(request).await }
        });
        let _ = auto::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
        // A request that cannot be read is answered as one that is not
        // understood.
        let answer = match asked(request).await {
            Ok(asked) => self.judge(asked).await,
            Err(_) => self.misunderstood(400),
        };
        Ok(answer)
    }

    async fn judge(&self, asked: Asked) -> Response<AnswerBody> {
        let target = asked.target.clone();
        let read = self.api.read(&asked, &self.secret);
        let number = self.memory.keep(asked);
        let duration_ms = match read {
            Ok(duration_ms) => duration_ms,
            Err(status) => return self.misunderstood(status),
        };
        let drawn = self.stock.draw(self.seed, number, duration_ms);
        let behaviour = self.released().await;
        let reply = self.api.reply(&drawn.contents);
        if !matches!(behaviour, Behaviour::Fine | Behaviour::Slow(_)) {
            self.memory.faulty.fetch_add(1, Ordering::Relaxed);
        }
        if behaviour == Behaviour::Dead {
            return pending().await;
        }
        let more = if let Behaviour::Slow(more) = behaviour {
            more
        } else {
            Duration::ZERO
        };
        sleep(drawn.latency + more).await;
        match behaviour {
            Behaviour::Fine | Behaviour::Slow(_) => {
                let counter = if drawn.contents.is_empty() {
                    &self.memory.no_bid
                } else {
                    &self.memory.offered
                };
                counter.fetch_add(1, Ordering::Relaxed);
                json(reply.status, reply.body)
            }
            // Cut before it can answer; so is the connection.
            Behaviour::Holds
            | Behaviour::Dead
            | Behaviour::Refuses
            | Behaviour::Shows(_)
            | Behaviour::NoTls => response(503, AnswerBody::of("")),
            Behaviour::Status(status) => response(status, AnswerBody::of("")),
            Behaviour::Garbage => typed(AnswerBody::of(GARBAGE)),
            Behaviour::Huge => typed(AnswerBody::huge(&self.memory)),
            Behaviour::CompressionBomb => with(
                typed(AnswerBody::compression_bomb(&self.memory)),
                CONTENT_ENCODING,
                "gzip",
            ),
            Behaviour::RedirectLoop => with(response(302, AnswerBody::of("")), LOCATION, &target),
            Behaviour::WrongTypes => {
                let body = self.offered(&drawn.contents, number, duration_ms);
                json(200, body.map(wrong_types))
            }
            Behaviour::AbsurdNumbers => {
                let body = self.offered(&drawn.contents, number, duration_ms);
                json(200, body.map(absurd_numbers))
            }
        }
    }

    /// The behaviour of the moment, or, while it holds, that which follows.
    async fn released(&self) -> Behaviour {
        let mut behaviour = self.behaviour.clone();
        let released = behaviour.wait_for(|now| *now != Behaviour::Holds).await;
        // Where nobody can tell it otherwise any more, its end is near.
        released.map_or(Behaviour::Refuses, |now| *now)
    }

    /// An offer to spoil, also where the stock had none.
    fn offered(
        &self,
        contents: &[super::stock::Content],
        number: u64,
        duration_ms: u32,
    ) -> Option<Value> {
        let full = Stock {
            fill: 1.0,
            ..self.stock.clone()
        };
        let contents = match contents {
            [] => full.draw(self.seed, number, duration_ms).contents,
            some => some.to_vec(),
        };
        self.api.reply(&contents).body
    }

    fn misunderstood(&self, status: u16) -> Response<AnswerBody> {
        self.memory.not_understood.fetch_add(1, Ordering::Relaxed);
        response(status, AnswerBody::of(""))
    }
}

async fn asked(request: Request<Incoming>) -> anyhow::Result<Asked> {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let body = Limited::new(body, REQUEST_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("the body of a request: {error}"))?
        .to_bytes();
    let target = head
        .uri
        .path_and_query()
        .context("a request without path")?;
    let headers: BTreeMap<_, _> = head
        .headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    Ok(Asked {
        at,
        method: head.method.as_str().to_owned(),
        target: target.as_str().to_owned(),
        headers,
        body,
    })
}

fn response(status: u16, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn json(status: u16, body: Option<Value>) -> Response<AnswerBody> {
    let mut response = match body {
        Some(body) => typed(AnswerBody::of(body.to_string())),
        None => response(status, AnswerBody::of("")),
    };
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response
}

fn typed(body: AnswerBody) -> Response<AnswerBody> {
    with(response(200, body), CONTENT_TYPE, "application/json")
}

fn with(mut response: Response<AnswerBody>, name: HeaderName, value: &str) -> Response<AnswerBody> {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Numbers for texts, texts for numbers, at every depth.
fn wrong_types(value: Value) -> Value {
    spoil(value, &|leaf| match &leaf {
        Value::String(_) => 7.into(),
        Value::Number(_) => "many".into(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => leaf,
    })
}

/// Every number becomes one that nobody can mean.
fn absurd_numbers(value: Value) -> Value {
    spoil(value, &|leaf| match &leaf {
        Value::Number(number) if number.is_f64() => (-1.0e300).into(),
        Value::Number(_) => u64::MAX.into(),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            leaf
        }
    })
}

fn spoil(value: Value, leaf: &impl Fn(Value) -> Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(|item| spoil(item, leaf)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, spoil(value, leaf)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => leaf(value),
    }
}
