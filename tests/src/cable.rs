//! A cable between two ends of a connection, such as a box and its broker,
//! which a test can spoil in the ways that networks do: the broker stays where
//! it is, and others stay connected.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

/// What is read at once from either end.
const BUFFER_BYTES: usize = 16 * 1024;

/// What a crawling cable lets through.
const CRAWL_BYTE_EVERY: Duration = Duration::from_secs(1);

/// What a cable does with what is put into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// Brings it to the other end.
    Carries,
    /// Is cut: both ends see it.
    Cut,
    /// Takes it, and it is never seen again; neither end is told.
    Swallows,
    /// Brings one byte a second, in each direction of each connection.
    Crawls,
}

/// A cable; what goes through it is cut when it is dropped.
pub struct Cable {
    port: u16,
    manner: watch::Sender<Manner>,
    carrying: JoinHandle<()>,
}

impl Cable {
    /// Lays a cable to a port of this machine, plugged in.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn lay(to_port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.context("a port for a cable")?;
        let port = listener.local_addr()?.port();
        let (manner, manners) = watch::channel(Manner::Carries);
        Ok(Self {
            port,
            manner,
            carrying: tokio::spawn(carry(listener, to_port, manners)),
        })
    }

    /// Where a box finds its broker.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts what is connected, at both ends, and lets nothing through.
    pub fn pull(&self) {
        self.manner.send_replace(Manner::Cut);
    }

    /// Takes everything from now on and brings nothing, as behind a gateway
    /// that has forgotten the connection: both ends believe that it stands.
    /// What is connected now, or meanwhile, stays so also after
    /// [`Self::plug`], until an end leaves it.
    pub fn swallow(&self) {
        self.manner.send_replace(Manner::Swallows);
    }

    /// Brings one byte a second from now on.
    pub fn crawl(&self) {
        self.manner.send_replace(Manner::Crawls);
    }

    /// Lets everything through again.
    pub fn plug(&self) {
        self.manner.send_replace(Manner::Carries);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn carry(listener: TcpListener, to_port: u16, manners: watch::Receiver<Manner>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            Ok((near, _)) = listener.accept() => {
                if *manners.borrow() != Manner::Cut {
                    connections.spawn(connect(near, to_port, manners.clone()));
                }
            }
        }
    }
}

/// What goes wrong here, either end sees for itself.
async fn connect(near: TcpStream, to_port: u16, mut manners: watch::Receiver<Manner>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", to_port)).await else {
        return;
    };
    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let there = pass(near_in, far_out, manners.clone());
    let back = pass(far_in, near_out, manners.clone());
    tokio::select! {
        _ended = async { tokio::join!(there, back) } => {}
        _cut = manners.wait_for(|manner| *manner == Manner::Cut) => {}
    }
}

/// Passes on what comes from one end until this ends. What was swallowed once
/// leaves a gap, so nothing passes after it, not even the end: the other one
/// is given back, since dropping it would tell.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut manners: watch::Receiver<Manner>,
) -> OwnedWriteHalf {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut has_gap = false;
    loop {
        let count = from.read(&mut buffer).await.unwrap_or_default();
        has_gap |= *manners.borrow() == Manner::Swallows;
        if count == 0 {
            if !has_gap {
                let _ = to.shutdown().await;
            }
            return to;
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() && !has_gap {
            let manner = *manners.borrow_and_update();
            let step = match manner {
                Manner::Carries => rest.len(),
                Manner::Crawls => 1,
                Manner::Swallows => {
                    has_gap = true;
                    continue;
                }
                Manner::Cut => return to,
            };
            if to.write_all(&rest[..step]).await.is_err() {
                return to;
            }
            rest = &rest[step..];
            if manner == Manner::Crawls {
                // Until the next byte, or at once in another manner.
                let _ = timeout(CRAWL_BYTE_EVERY, manners.changed()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// Nothing is there by then.
    const SILENCE: Duration = Duration::from_millis(200);

    const LIMIT: Duration = Duration::from_secs(10);

    async fn ends() -> (Cable, TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cable = Cable::lay(port).await.unwrap();
        let near = TcpStream::connect(("127.0.0.1", cable.port()))
            .await
            .unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (cable, listener, near, far)
    }

    async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = timeout(LIMIT, stream.read_exact(&mut bytes)).await;
        read.expect("in time").expect("all of it");
        bytes
    }

    #[tokio::test]
    async fn a_cut_is_seen_at_both_ends() {
        let (cable, _listener, mut near, mut far) = ends().await;
        near.write_all(b"there").await.unwrap();
        assert_eq!(read(&mut far, 5).await, b"there");
        cable.pull();
        for end in [&mut near, &mut far] {
            let end = timeout(LIMIT, end.read(&mut [0; 1])).await.unwrap();
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        }
    }

    #[tokio::test]
    async fn what_is_swallowed_is_seen_by_nobody_and_the_connection_stands() {
        let (cable, _listener, mut near, mut far) = ends().await;
        cable.swallow();
        near.write_all(b"lost").await.unwrap();
        far.write_all(b"lost").await.unwrap();
        for end in [&mut near, &mut far] {
            let read = timeout(SILENCE, end.read(&mut [0; 1])).await;
            assert!(read.is_err(), "{read:?}");
        }
        // Nor is what comes after a gap brought, or the end.
        cable.plug();
        near.write_all(b"after").await.unwrap();
        near.shutdown().await.unwrap();
        let read = timeout(SILENCE, far.read(&mut [0; 1])).await;
        assert!(read.is_err(), "{read:?}");
    }

    #[tokio::test]
    async fn a_crawling_cable_brings_one_byte_a_second() {
        let (cable, _listener, mut near, mut far) = ends().await;
        cable.crawl();
        let begun = Instant::now();
        near.write_all(b"slowly and then at once").await.unwrap();
        assert_eq!(read(&mut far, 3).await, b"slo");
        assert!(begun.elapsed() >= 2 * CRAWL_BYTE_EVERY);
        cable.plug();
        assert_eq!(read(&mut far, 20).await, b"wly and then at once");
    }
}
