//! An aggregator on loopback, played by the tests.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Frame, Incoming},
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use rumqttc::tokio_rustls::TlsAcceptor;
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::BODY_BYTES_MAX;

/// What says that it is packed. Nobody is to look whether it really is.
pub(super) const BOMB: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03bomb";

const GIGABYTE: usize = 1 << 30;

/// What it speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Speaks {
    /// HTTP/2 or 1.1, as the client prefers.
    Either,
    /// HTTP/1.1 alone.
    Http1,
    /// Nothing that one could understand.
    Garbage,
}

/// A running server; gone with it.
pub(super) struct Server {
    pub(super) port: u16,
    /// The authority that signed its certificate, for localhost.
    pub(super) authority_pem: String,
    shared: Arc<Shared>,
}

struct Shared {
    speaks: Speaks,
    tls: TlsAcceptor,
    connections: AtomicUsize,
    requests: AtomicUsize,
    body_bytes: AtomicUsize,
    open: AtomicUsize,
    handshakes: watch::Sender<bool>,
    /// Counts up when all connections are to be cut.
    cuts: watch::Sender<u32>,
}

impl Server {
    pub(super) async fn start(speaks: Speaks) -> Self {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, key()).unwrap();
        let own_key = key();
        let own = CertificateParams::new(vec!["localhost".into()])
            .unwrap()
            .signed_by(&own_key, &authority)
            .unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![own.der().clone()],
                PrivateKeyDer::try_from(own_key.serialize_der()).unwrap(),
            )
            .unwrap();
        if speaks == Speaks::Either {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            speaks,
            tls: TlsAcceptor::from(Arc::new(config)),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            body_bytes: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            handshakes: watch::Sender::new(true),
            cuts: watch::Sender::new(0),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::SeqCst);
                serving.open.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&serving);
                tokio::spawn(async move {
                    let mut cuts = shared.cuts.subscribe();
                    tokio::select! {
                        () = connection(stream, &shared) => {}
                        _ = cuts.changed() => {}
                    }
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            port,
            authority_pem: authority.pem(),
            shared,
        }
    }

    /// Connections accepted.
    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Requests that came.
    pub(super) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that somebody asked for.
    pub(super) fn body_bytes(&self) -> usize {
        self.shared.body_bytes.load(Ordering::SeqCst)
    }

    pub(super) fn hold_handshakes(&self) {
        self.shared.handshakes.send_replace(false);
    }

    pub(super) fn release_handshakes(&self) {
        self.shared.handshakes.send_replace(true);
    }

    /// Cuts every connection; returns once they are gone.
    pub(super) async fn cut_connections(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
        while self.shared.open.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// A port where nobody listens.
    pub(super) fn free_port(&self) -> u16 {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().port()
    }
}

async fn connection(stream: TcpStream, shared: &Arc<Shared>) {
    let mut handshakes = shared.handshakes.subscribe();
    if handshakes.wait_for(|open| *open).await.is_err() {
        return;
    }
    // What fails here is the client's choice.
    let Ok(mut stream) = shared.tls.accept(stream).await else {
        return;
    };
    if shared.speaks == Speaks::Garbage {
        let _ = stream.write_all(&[0xff; 4_096]).await;
        let _ = stream.shutdown().await;
        return;
    }
    let service = service_fn(|request| answer(request, Arc::clone(shared)));
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Filler>, Infallible> {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let answer = Response::builder();
    let filler = |bytes, chunk: &'static [u8]| Filler {
        left: bytes,
        chunk: Bytes::from_static(chunk),
        stalls: false,
        shared: Arc::clone(&shared),
    };
    const MANY: &[u8] = &[b' '; 16 * 1024];
    let answer = match request.uri().path() {
        "/ok" => answer.body(filler(2, b"{}")),
        "/echo" => {
            let text = echo(request).await;
            let filler = Filler {
                left: text.len(),
                chunk: text,
                stalls: false,
                shared: Arc::clone(&shared),
            };
            answer.header(CONTENT_TYPE, "text/plain").body(filler)
        }
        "/silent" => std::future::pending().await,
        "/stalls" => answer.body(Filler {
            stalls: true,
            ..filler(2, b"{}")
        }),
        "/gigabyte-announced" => answer
            .header(CONTENT_LENGTH, GIGABYTE)
            .body(filler(GIGABYTE, MANY)),
        "/gigabyte" => answer.body(filler(GIGABYTE, MANY)),
        "/limit" => answer.body(filler(BODY_BYTES_MAX, MANY)),
        "/limit-and-one" => answer.body(filler(BODY_BYTES_MAX + 1, MANY)),
        "/bomb" => answer
            .header(CONTENT_ENCODING, "gzip")
            .body(filler(BOMB.len(), BOMB)),
        "/loop" => answer
            .status(StatusCode::FOUND)
            .header(LOCATION, "/loop")
            .body(filler(0, b"")),
        _ => answer.status(StatusCode::NOT_FOUND).body(filler(0, b"")),
    };
    Ok(answer.unwrap())
}

/// The request as it came: its line, its headers, its body.
async fn echo(request: Request<Incoming>) -> Bytes {
    let mut text = format!("{} ", request.method());
    text.push_str(request.uri().path_and_query().unwrap().as_str());
    for (name, value) in request.headers() {
        text.push_str(&format!("\n{name}: {}", value.to_str().unwrap()));
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    text.push('\n');
    text.push_str(std::str::from_utf8(&body).unwrap());
    Bytes::from(text)
}

/// A body of so many bytes, in chunks, made as they are asked for. Its size is
/// not said before.
struct Filler {
    left: usize,
    chunk: Bytes,
    /// Never ends.
    stalls: bool,
    shared: Arc<Shared>,
}

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            // Whoever waits for the rest does so for ever.
            return if self.stalls {
                Poll::Pending
            } else {
                Poll::Ready(None)
            };
        }
        let bytes = self.left.min(self.chunk.len());
        self.left -= bytes;
        self.shared.body_bytes.fetch_add(bytes, Ordering::SeqCst);
        let chunk = self.chunk.slice(..bytes);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}
