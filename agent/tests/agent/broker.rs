//! As much of an MQTT 5 broker as one agent needs: TLS with a certificate of
//! its own, every subscription granted, every publish acknowledged and thrown
//! away. What a test sends goes to the agent that is connected, or waits for
//! the next.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread,
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer,
    version::TLS13,
};

/// How long it listens before it looks for something to send.
const TURN: Duration = Duration::from_millis(5);

/// Kinds of packets (MQTT 5.0, section 2.1.2), in the upper half of a byte.
const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const PINGREQ: u8 = 12;

/// A running broker.
pub(crate) struct Broker {
    pub(crate) port: u16,
    /// Its certificate, PEM: whom a box must trust.
    pub(crate) certificate: String,
    outgoing: Sender<Outgoing>,
}

/// What the broker does next to the agent that is connected.
enum Outgoing {
    Packet(Vec<u8>),
    HangUp,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (outgoing, queued) = channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                stream.set_read_timeout(Some(TURN)).unwrap();
                Session::new(StreamOwned::new(connection, stream), &queued).run();
            }
        });
        Self {
            port,
            certificate: certificate.pem(),
            outgoing,
        }
    }

    /// Publishes to the agent with QoS 1.
    pub(crate) fn publish(&self, topic: &str, payload: &[u8]) {
        let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        // Packet id, and no properties.
        body.extend([0, 7, 0]);
        body.extend(payload);
        let packet = packet(0x32, &body);
        self.outgoing.send(Outgoing::Packet(packet)).unwrap();
    }

    /// Ends the connection without a word; the agent may come back at once.
    pub(crate) fn hang_up(&self) {
        self.outgoing.send(Outgoing::HangUp).unwrap();
    }
}

/// One connection.
struct Session<'a> {
    stream: StreamOwned<ServerConnection, TcpStream>,
    queued: &'a Receiver<Outgoing>,
    read: Vec<u8>,
    subscribed: bool,
}

impl<'a> Session<'a> {
    fn new(
        stream: StreamOwned<ServerConnection, TcpStream>,
        queued: &'a Receiver<Outgoing>,
    ) -> Self {
        Self {
            stream,
            queued,
            read: Vec::new(),
            subscribed: false,
        }
    }

    /// Until the agent hangs up, or the test has ended.
    fn run(mut self) {
        let mut bytes = [0; 4_096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return,
                Ok(length) => self.read.extend(&bytes[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {}
                Err(_) => return,
            }
            while let Some((kind, body)) = self.take_packet() {
                let Some(answer) = self.answer(kind, &body) else {
                    continue;
                };
                if self.stream.write_all(&answer).is_err() {
                    return;
                }
            }
            while self.subscribed {
                match self.queued.try_recv() {
                    Ok(Outgoing::Packet(packet)) => self.stream.write_all(&packet).unwrap(),
                    Err(TryRecvError::Empty) => break,
                    Ok(Outgoing::HangUp) | Err(TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    /// First byte and body of the next whole packet.
    fn take_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (length, digits) = length(self.read.get(1..)?)?;
        let end = 1 + digits + length;
        if self.read.len() < end {
            return None;
        }
        let packet: Vec<u8> = self.read.drain(..end).collect();
        Some((packet[0], packet[1 + digits..].to_vec()))
    }

    fn answer(&mut self, first: u8, body: &[u8]) -> Option<Vec<u8>> {
        match first >> 4 {
            CONNECT => Some(packet(0x20, &[0, 0, 0])),
            SUBSCRIBE => {
                self.subscribed = true;
                let (properties, digits) = length(&body[2..]).unwrap();
                let mut filters = &body[2 + digits + properties..];
                let mut granted = vec![body[0], body[1], 0];
                while let [high, low, rest @ ..] = filters {
                    let name = usize::from(u16::from_be_bytes([*high, *low]));
                    granted.push(rest[name] & 3);
                    filters = &rest[name + 1..];
                }
                Some(packet(0x90, &granted))
            }
            PUBLISH if first & 0x06 != 0 => {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                Some(packet(0x40, &body[2 + topic..4 + topic]))
            }
            PINGREQ => Some(packet(0xd0, &[])),
            _ => None,
        }
    }
}

/// A remaining length and the bytes that it takes (MQTT 5.0, section 1.5.5).
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let digit = u8::try_from(rest % 128).unwrap();
        rest /= 128;
        packet.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}
