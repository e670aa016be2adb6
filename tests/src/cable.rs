//! The cable between a box and its broker, which a test can pull out and plug
//! in again: the broker stays where it is, and others stay connected.

use anyhow::Context as _;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A cable; what goes through it is cut when it is dropped.
pub struct Cable {
    port: u16,
    plugged: watch::Sender<bool>,
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
        let (plugged, is_plugged) = watch::channel(true);
        Ok(Self {
            port,
            plugged,
            carrying: tokio::spawn(carry(listener, to_port, is_plugged)),
        })
    }

    /// Where a box finds its broker.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts what is connected, at both ends, and lets nothing through.
    pub fn pull(&self) {
        self.plugged.send_replace(false);
    }

    /// Lets everything through again.
    pub fn plug(&self) {
        self.plugged.send_replace(true);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn carry(listener: TcpListener, to_port: u16, is_plugged: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            Ok((near, _)) = listener.accept() => {
                if *is_plugged.borrow() {
                    connections.spawn(connect(near, to_port, is_plugged.clone()));
                }
            }
        }
    }
}

/// What goes wrong here, either end sees for itself.
async fn connect(mut near: TcpStream, to_port: u16, mut is_plugged: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", to_port)).await else {
        return;
    };
    if near.set_nodelay(true).is_err() || far.set_nodelay(true).is_err() {
        return;
    }
    tokio::select! {
        _ended = copy_bidirectional(&mut near, &mut far) => {}
        _pulled = is_plugged.wait_for(|plugged| !plugged) => {}
    }
}
