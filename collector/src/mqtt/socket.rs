//! Packets in and out of one connection, in bulk.
//!
//! The packets are rumqttc's, its event loop is not used: that takes one
//! request in each turn and flushes it, so that every acknowledgement becomes
//! a TLS record and a system call of its own, and it keeps queues in which an
//! acknowledgement can outlive its connection. Here a role encodes what it
//! has to say into one buffer, and each turn writes that once and reads what
//! is there.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::Poll,
    time::Instant,
};

use bytes::{Buf as _, BytesMut};
use returnpath_shared::MQTT_PACKET_BYTES_MAX;
use rumqttc::mqttbytes::{self, v5::Packet};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// Bytes asked of the stream at once: four TLS records.
const READ_BYTES: usize = 64 * 1024;

/// Bytes read in one turn at most, so that a turn stays short: some thousand
/// batches, a few milliseconds.
const TURN_BYTES_MAX: usize = 256 * 1024;

/// Whether a turn reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// What is there.
    Open,
    /// Nothing: enough is under way, and the broker's data waits in TCP.
    Paused,
}

/// Why a packet could not be read or written.
#[derive(Debug, Error)]
pub(crate) enum PacketError {
    /// The broker sent what is no MQTT 5, or more than was agreed.
    #[error("the broker's packet cannot be read")]
    Read(#[source] mqttbytes::Error),
    /// A packet of ours is larger than the broker takes.
    #[error("a packet cannot be written")]
    Write(#[source] mqttbytes::Error),
}

/// A stream with its buffers.
pub(crate) struct Socket<S> {
    stream: S,
    inbox: BytesMut,
    outbox: BytesMut,
    /// Whether the stream still holds something that was written to it.
    unflushed: bool,
    /// Largest packet that the broker takes.
    packet_bytes_max: Option<u32>,
    /// When something last came in.
    read_at: Instant,
    /// When something last went out, or there was nothing to send.
    written_at: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// A stream on which nothing was said yet.
    pub(crate) fn new(stream: S, now: Instant) -> Self {
        Self {
            stream,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            unflushed: false,
            packet_bytes_max: None,
            read_at: now,
            written_at: now,
        }
    }

    /// Sets the largest packet that the broker takes.
    pub(crate) fn limit_packets(&mut self, bytes_max: Option<u32>) {
        self.packet_bytes_max = bytes_max;
    }

    /// Waits until something came in, or all that was to go out is out. Cancel
    /// safe: what moved is in the buffers.
    pub(crate) async fn exchange(&mut self, reading: Reading) -> io::Result<()> {
        poll_fn(|context| {
            let had_to_write = !self.outbox.is_empty() || self.unflushed;
            while !self.outbox.is_empty() {
                match Pin::new(&mut self.stream).poll_write(context, &self.outbox)? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(written) => {
                        self.outbox.advance(written);
                        self.unflushed = true;
                        self.written_at = Instant::now();
                    }
                    Poll::Pending => break,
                }
            }
            if self.unflushed && Pin::new(&mut self.stream).poll_flush(context)?.is_ready() {
                self.unflushed = false;
            }
            let all_out = self.outbox.is_empty() && !self.unflushed;
            let mut read_total = 0;
            while reading == Reading::Open && read_total < TURN_BYTES_MAX {
                self.inbox.reserve(READ_BYTES);
                match pin!(self.stream.read_buf(&mut self.inbox)).poll(context)? {
                    // What came before the end is worth reading first.
                    Poll::Ready(0) if read_total > 0 => break,
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Poll::Ready(read) => read_total += read,
                    Poll::Pending => break,
                }
            }
            if read_total > 0 {
                self.read_at = Instant::now();
                return Poll::Ready(Ok(()));
            }
            if had_to_write && all_out {
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
        .await
    }

    /// The next whole packet that came in.
    pub(crate) fn receive(&mut self) -> Result<Option<Packet>, PacketError> {
        let bytes_max = u32::try_from(MQTT_PACKET_BYTES_MAX).unwrap_or(u32::MAX);
        match Packet::read(&mut self.inbox, Some(bytes_max)) {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(PacketError::Read(error)),
        }
    }

    /// Puts a packet after those that are to go out.
    pub(crate) fn send(&mut self, packet: &Packet, now: Instant) -> Result<(), PacketError> {
        self.about_to_write(now);
        packet
            .write(&mut self.outbox, self.packet_bytes_max)
            .map(|_| ())
            .map_err(PacketError::Write)
    }

    /// Puts a PUBACK after those that are to go out; by hand, since there are
    /// as many as batches.
    pub(crate) fn send_puback(&mut self, packet_id: u16, now: Instant) {
        /// Type 4, no flags, two more bytes: success, no properties.
        const HEADER: [u8; 2] = [0x40, 2];

        self.about_to_write(now);
        let [high, low] = packet_id.to_be_bytes();
        self.outbox
            .extend_from_slice(&[HEADER[0], HEADER[1], high, low]);
    }

    /// Bytes that are to go out.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.outbox.len()
    }

    /// When something last came in.
    pub(crate) fn read_at(&self) -> Instant {
        self.read_at
    }

    /// Since when what is to go out does not; `None` if nothing is.
    pub(crate) fn unsent_since(&self) -> Option<Instant> {
        (!self.outbox.is_empty() || self.unflushed).then_some(self.written_at)
    }

    fn about_to_write(&mut self, now: Instant) {
        if self.outbox.is_empty() && !self.unflushed {
            self.written_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::mqttbytes::{
        QoS,
        v5::{PubAck, Publish},
    };
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn publish(packet_id: u16) -> Vec<u8> {
        let mut publish = Publish::new("a", QoS::AtLeastOnce, vec![7; 3], None);
        publish.pkid = packet_id;
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        bytes.to_vec()
    }

    #[tokio::test]
    async fn packets_are_found_however_the_stream_cuts_them() {
        let (near, mut far) = tokio::io::duplex(1_024);
        let mut socket = Socket::new(near, Instant::now());
        let bytes = [publish(1), publish(2)].concat();
        let mut found = Vec::new();
        for byte in bytes {
            far.write_all(&[byte]).await.unwrap();
            socket.exchange(Reading::Open).await.unwrap();
            while let Some(packet) = socket.receive().unwrap() {
                let Packet::Publish(publish) = packet else {
                    panic!("{packet:?}");
                };
                found.push(publish.pkid);
            }
        }
        assert_eq!(found, [1, 2]);
        drop(far);
        assert!(socket.exchange(Reading::Open).await.is_err());
    }

    #[tokio::test]
    async fn what_is_said_in_one_turn_goes_out_as_rumqttc_would_write_it() {
        let (near, mut far) = tokio::io::duplex(1_024);
        let now = Instant::now();
        let mut socket = Socket::new(near, now);
        socket.send_puback(0x1234, now);
        socket.send(&Packet::PingReq, now).unwrap();
        assert_eq!(socket.unsent_since(), Some(now));
        socket.exchange(Reading::Open).await.unwrap();
        assert_eq!((socket.unsent_bytes(), socket.unsent_since()), (0, None));
        let mut expected = BytesMut::new();
        PubAck::new(0x1234, None).write(&mut expected).unwrap();
        Packet::PingReq.write(&mut expected, None).unwrap();
        let mut written = vec![0; expected.len()];
        far.read_exact(&mut written).await.unwrap();
        assert_eq!(written, expected);
    }

    #[tokio::test]
    async fn a_packet_over_the_limit_ends_the_connection_before_it_is_buffered() {
        let (near, mut far) = tokio::io::duplex(1_024);
        let mut socket = Socket::new(near, Instant::now());
        // PUBLISH of 2 MiB, of which only the header ever comes.
        far.write_all(&[0x30, 0x80, 0x80, 0x80, 0x01])
            .await
            .unwrap();
        socket.exchange(Reading::Open).await.unwrap();
        assert!(matches!(socket.receive(), Err(PacketError::Read(_))));
    }
}
