//! One connection of the publisher, from CONNACK until every box is confirmed.

use std::{
    io,
    time::{Duration, Instant},
};

use rumqttc::mqttbytes::v5::{Disconnect, DisconnectReasonCode, Packet};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time,
};

use super::sending::Sending;
use crate::mqtt::{PacketError, Reading, Socket};

/// Time for the good-bye to leave.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Why a connection ended before everything was confirmed.
#[derive(Debug, Error)]
pub(super) enum Lost {
    /// The stream broke.
    #[error("connection broke")]
    Io(#[source] io::Error),
    /// The broker broke the protocol.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The broker ended it.
    #[error("broker disconnected: {0:?}")]
    Disconnected(DisconnectReasonCode),
    /// The broker is silent.
    #[error("no confirmation for {} s", .0.as_secs())]
    Silent(Duration),
}

/// Sends, and takes confirmations, until there is nothing left. A broker that
/// confirms nothing for as long as `patience` is no use.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: Socket<S>,
    sending: &mut Sending,
    patience: Duration,
) -> Result<(), Lost> {
    let mut confirmed_at = time::Instant::now();
    while !sending.is_done() {
        while let Some(publish) = sending.next() {
            socket.send(&Packet::Publish(publish), Instant::now())?;
        }
        let deadline = confirmed_at + patience;
        match time::timeout_at(deadline, socket.exchange(Reading::Open)).await {
            Err(_) => return Err(Lost::Silent(patience)),
            Ok(exchanged) => exchanged.map_err(Lost::Io)?,
        }
        while let Some(packet) = socket.receive()? {
            match packet {
                Packet::PubAck(acknowledgement) => {
                    sending.acknowledged(&acknowledgement);
                    confirmed_at = time::Instant::now();
                }
                Packet::Disconnect(disconnect) => {
                    return Err(Lost::Disconnected(disconnect.reason_code));
                }
                // Nothing that we asked for.
                Packet::PingResp
                | Packet::Auth(_)
                | Packet::ConnAck(_)
                | Packet::Connect(..)
                | Packet::PingReq
                | Packet::PubComp(_)
                | Packet::PubRec(_)
                | Packet::PubRel(_)
                | Packet::Publish(_)
                | Packet::SubAck(_)
                | Packet::Subscribe(_)
                | Packet::UnsubAck(_)
                | Packet::Unsubscribe(_) => {}
            }
        }
    }
    // Everything is confirmed: a good-bye that does not leave changes nothing.
    let _ = time::timeout(FAREWELL_MAX, farewell(socket)).await;
    Ok(())
}

async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(mut socket: Socket<S>) -> Result<(), Lost> {
    let disconnect = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
    socket.send(&Packet::Disconnect(disconnect), Instant::now())?;
    while socket.unsent_since().is_some() {
        socket.exchange(Reading::Open).await.map_err(Lost::Io)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use rumqttc::mqttbytes::v5::PubAck;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// Long enough for a busy machine; waits end as soon as they can.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn sending(count: usize) -> Sending {
        let boxes = (0..count).map(|index| format!("box-{index}").parse().unwrap());
        Sending::new(boxes.collect(), Bytes::from_static(b"message"))
    }

    fn connection() -> (Socket<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        (Socket::new(near, Instant::now()), far)
    }

    /// A broker that confirms everything; says how much it was given, and
    /// whether it was told good-bye.
    async fn confirm_all(mut stream: DuplexStream) -> (usize, bool) {
        let (mut inbox, mut count) = (BytesMut::new(), 0);
        loop {
            match Packet::read(&mut inbox, None) {
                Ok(Packet::Publish(publish)) => {
                    count += 1;
                    let mut bytes = BytesMut::new();
                    PubAck::new(publish.pkid, None).write(&mut bytes).unwrap();
                    stream.write_all(&bytes).await.unwrap();
                }
                Ok(Packet::Disconnect(_)) => return (count, true),
                Ok(other) => panic!("{other:?}"),
                Err(_) if stream.read_buf(&mut inbox).await.unwrap() == 0 => return (count, false),
                Err(_) => {}
            }
        }
    }

    #[tokio::test]
    async fn every_box_is_confirmed_before_the_connection_is_left() {
        let (socket, far) = connection();
        let mut sending = sending(200);
        let (served, seen) = tokio::join!(serve(socket, &mut sending, PATIENCE), confirm_all(far));
        served.unwrap();
        assert_eq!(seen, (200, true));
        assert_eq!(sending.confirmed(), 200);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_no_confirmation() {
        let (socket, far) = connection();
        drop(far);
        let mut sending = sending(1);
        assert!(matches!(
            serve(socket, &mut sending, PATIENCE).await,
            Err(Lost::Io(_))
        ));
        assert!(!sending.is_done());
    }

    #[tokio::test]
    async fn a_broker_that_confirms_nothing_is_left() {
        let (socket, _far) = connection();
        let mut sending = sending(1);
        let served = serve(socket, &mut sending, Duration::from_millis(1)).await;
        assert!(matches!(served, Err(Lost::Silent(_))), "{served:?}");
    }
}
