//! Answers `GET` on three paths, one request a connection.
//!
//! Written by hand because that is all it does: no bodies are read, no
//! keep-alive, no routing table, and every resource is bounded below. hyper
//! or axum would bring some 20 crates for it. If a role ever needs a real API
//! (`report` will), that role brings a real server, and these paths move there.

use std::{fmt::Write as _, io, net::SocketAddr, sync::Arc, time::Duration};

use prometheus_client::{encoding::text, registry::Registry};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};
use tracing::debug;

use super::Health;

/// Longest request head read: a scraper sends some 200 bytes.
const HEAD_BYTES_MAX: usize = 4_096;

/// Connections answered at once; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 16;

/// Time for one whole exchange: a slow client cannot hold a place.
const EXCHANGE_MAX: Duration = Duration::from_secs(5);

/// A bound listener, not yet answering.
#[derive(Debug)]
pub struct Listener(TcpListener);

/// What is answered.
struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Listener {
    /// Binds, so that a port in use is found before any role starts.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// The address bound, with the port that was chosen for port 0.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers for ever.
    pub async fn serve(self, health: Health, metrics: Arc<Registry>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = match self.0.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: do not spin.
                    debug!(%error, "admin connection not accepted");
                    time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (health, metrics) = (health.clone(), Arc::clone(&metrics));
            tokio::spawn(async move {
                match time::timeout(EXCHANGE_MAX, exchange(stream, &health, &metrics)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => debug!(%error, "admin connection failed"),
                    Err(_) => debug!("admin connection too slow"),
                }
                drop(place);
            });
        }
    }
}

async fn exchange(mut stream: TcpStream, health: &Health, metrics: &Registry) -> io::Result<()> {
    let mut head = Vec::with_capacity(512);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let room = HEAD_BYTES_MAX.saturating_sub(head.len());
        if room == 0 {
            return reply(stream, &plain("431 Request Header Fields Too Large", "")).await;
        }
        let mut chunk = [0; 512];
        let read = stream.read(&mut chunk[..room.min(512)]).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&chunk[..read]);
    }
    reply(stream, &answer(&head, health, metrics)).await
}

async fn reply(mut stream: TcpStream, answer: &Answer) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(answer.body.as_bytes()).await?;
    stream.shutdown().await
}

fn answer(head: &[u8], health: &Health, metrics: &Registry) -> Answer {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = target
        .split(|&byte| byte == b'?')
        .next()
        .unwrap_or_default();
    match (method, path) {
        (b"GET", b"/healthz") => {
            let mut body = String::new();
            for (role, silent) in health.stuck() {
                let _ = writeln!(body, "{role}: no progress for {} s", silent.as_secs());
            }
            verdict(body)
        }
        (b"GET", b"/readyz") => {
            let mut body = String::new();
            for (role, reason) in health.unready() {
                let _ = writeln!(body, "{role}: {reason}");
            }
            verdict(body)
        }
        (b"GET", b"/metrics") => {
            let mut body = String::new();
            if text::encode(&mut body, metrics).is_err() {
                return plain("500 Internal Server Error", "metrics cannot be encoded\n");
            }
            Answer {
                status: "200 OK",
                content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body,
            }
        }
        (b"GET", _) => plain("404 Not Found", "try /healthz, /readyz or /metrics\n"),
        _ => plain("405 Method Not Allowed", "only GET is answered\n"),
    }
}

fn verdict(faults: String) -> Answer {
    if faults.is_empty() {
        plain("200 OK", "ok\n")
    } else {
        plain("503 Service Unavailable", &faults)
    }
}

fn plain(status: &'static str, body: &str) -> Answer {
    Answer {
        status,
        content_type: "text/plain; charset=utf-8",
        body: body.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Readiness;

    #[test]
    fn each_path_gets_its_answer() {
        let mut health = Health::new();
        let bridge = health.role("bridge", Duration::MAX);
        let registry = Registry::default();
        let status = |request: &str| {
            let answer = answer(request.as_bytes(), &health, &registry);
            format!("{} {}", answer.status, answer.body.trim_end())
        };
        assert_eq!(status("GET /healthz HTTP/1.1\r\n\r\n"), "200 OK ok");
        assert_eq!(
            status("GET /readyz HTTP/1.1\r\n\r\n"),
            "503 Service Unavailable bridge: starting"
        );
        bridge.set(Readiness::Ready);
        assert_eq!(status("GET /readyz?x=1 HTTP/1.1\r\n\r\n"), "200 OK ok");
        assert_eq!(status("GET /metrics HTTP/1.1\r\n\r\n"), "200 OK # EOF");
        assert!(status("GET / HTTP/1.1\r\n\r\n").starts_with("404 "));
        assert!(status("POST /healthz HTTP/1.1\r\n\r\n").starts_with("405 "));
        assert!(status("\r\n\r\n").starts_with("405 "));
    }

    #[tokio::test]
    async fn a_real_connection_is_answered_and_closed() {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address().unwrap();
        let serving = tokio::spawn(listener.serve(Health::new(), Arc::default()));
        let exchange = async |request: &[u8]| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
        let long = vec![b'x'; HEAD_BYTES_MAX];
        assert!(exchange(&long).await.starts_with("HTTP/1.1 431 "));
        serving.abort();
    }
}
