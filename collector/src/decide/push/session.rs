//! One connection of the publisher, from CONNACK to its end. Waits in one
//! place and changes state in another.

use std::{
    io,
    time::{Duration, Instant},
};

use returnpath_shared::Downlink;
use rumqttc::mqttbytes::{
    QoS,
    v5::{
        Disconnect, DisconnectReasonCode, Packet, PubAck, PubAckReason, Publish, PublishProperties,
    },
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time,
};
use tracing::debug;

use super::{
    Outgoing, Pushed,
    backlog::{Entry, expiry_seconds},
};
use crate::{
    decide::metrics::PushEnd,
    mqtt::{KEEP_ALIVE_SECONDS, PacketError, Reading, Socket},
};

/// A connection is asked for a sign of life this often: a broker wants to hear
/// from us too, and we only speak when a decision is made.
const PING_INTERVAL: Duration = Duration::from_secs(KEEP_ALIVE_SECONDS as u64 / 2);

/// A connection on which nothing comes in or goes out for this long, although
/// a sign of life was asked for, is torn down and made anew.
const NO_PROGRESS_MAX: Duration = Duration::from_secs(15);

/// A broker that answers pings and not a PUBLISH for this long is no use.
const ACKNOWLEDGEMENT_MAX: Duration = Duration::from_secs(10);

/// Longest sleep: what waits is looked through for what has expired.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Time for what is left to be confirmed once nothing more comes.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Why a connection ended before it was to.
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
    /// Nothing moves.
    #[error("no progress for {} s", NO_PROGRESS_MAX.as_secs())]
    NoProgress,
    /// The broker is silent about what it was given.
    #[error("no acknowledgement for {} s", ACKNOWLEDGEMENT_MAX.as_secs())]
    Unacknowledged,
}

/// Publishes until nothing more comes and what came is confirmed.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: Socket<S>,
    outgoing: &mut Outgoing,
) -> Result<(), Lost> {
    let mut pinged_at = Instant::now();
    let mut leave_at = None;
    loop {
        let now = Instant::now();
        outgoing.expire(now);
        publish(&mut socket, outgoing, now)?;
        keep_alive(&mut socket, outgoing, &mut pinged_at, now)?;
        outgoing.observe();
        if outgoing.ended {
            let leave_at = *leave_at.get_or_insert(now + FAREWELL_MAX);
            if outgoing.backlog.is_empty() || leave_at <= now {
                break;
            }
        }
        tokio::select! {
            exchanged = socket.exchange(Reading::Open) => exchanged.map_err(Lost::Io)?,
            () = outgoing.changed() => {}
            () = time::sleep(LOOK_INTERVAL) => {}
        }
        while let Some(packet) = socket.receive()? {
            take(packet, outgoing)?;
        }
    }
    farewell(socket).await
}

/// Puts out all that the window takes.
fn publish<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    outgoing: &mut Outgoing,
    now: Instant,
) -> Result<(), Lost> {
    while let Some((packet_id, entry)) = outgoing.backlog.next(now) {
        socket.send(&packet(packet_id, entry, now), now)?;
    }
    Ok(())
}

fn packet(packet_id: u16, entry: &Entry, now: Instant) -> Packet {
    let left = entry.expires.saturating_duration_since(now);
    let properties = PublishProperties {
        message_expiry_interval: Some(expiry_seconds(left)),
        ..PublishProperties::default()
    };
    let mut publish = Publish::new(
        Downlink::Decisions.topic(&entry.device),
        QoS::AtLeastOnce,
        entry.payload.clone(),
        Some(properties),
    );
    publish.pkid = packet_id;
    Packet::Publish(publish)
}

fn take(packet: Packet, outgoing: &mut Outgoing) -> Result<(), Lost> {
    match packet {
        Packet::PubAck(acknowledgement) => {
            acknowledged(&acknowledgement, outgoing);
            Ok(())
        }
        Packet::Disconnect(disconnect) => Err(Lost::Disconnected(disconnect.reason_code)),
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
        | Packet::Unsubscribe(_) => Ok(()),
    }
}

fn acknowledged(acknowledgement: &PubAck, outgoing: &mut Outgoing) {
    let how = match acknowledgement.reason {
        PubAckReason::Success => PushEnd::Delivered,
        PubAckReason::NoMatchingSubscribers => PushEnd::NoSubscriber,
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::NotAuthorized
        | PubAckReason::TopicNameInvalid
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded
        | PubAckReason::PayloadFormatInvalid => PushEnd::Refused,
    };
    if how == PushEnd::Refused {
        debug!(reason = ?acknowledgement.reason, "broker refused a decision");
    }
    end(outgoing, acknowledgement.pkid, how);
}

fn end(outgoing: &mut Outgoing, packet_id: u16, how: PushEnd) {
    let Some(entry) = outgoing.backlog.acknowledged(packet_id) else {
        return;
    };
    outgoing.metrics.push_ended(how);
    if how == PushEnd::Delivered {
        (outgoing.on_pushed)(Pushed {
            partition: entry.partition,
            device: entry.device,
            decision_id: entry.decision_id,
        });
    }
}

fn keep_alive<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    outgoing: &Outgoing,
    pinged_at: &mut Instant,
    now: Instant,
) -> Result<(), Lost> {
    let since = |then: Option<Instant>| {
        then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then))
    };
    if since(Some(socket.read_at())) >= NO_PROGRESS_MAX
        || since(socket.unsent_since()) >= NO_PROGRESS_MAX
    {
        return Err(Lost::NoProgress);
    }
    if since(outgoing.backlog.unacknowledged_since()) >= ACKNOWLEDGEMENT_MAX {
        return Err(Lost::Unacknowledged);
    }
    if since(Some(*pinged_at)) >= PING_INTERVAL {
        *pinged_at = now;
        socket.send(&Packet::PingReq, now)?;
    }
    Ok(())
}

/// Says good-bye, and waits for it to leave.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(mut socket: Socket<S>) -> Result<(), Lost> {
    let leave = async {
        let disconnect = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
        socket.send(&Packet::Disconnect(disconnect), Instant::now())?;
        while socket.unsent_since().is_some() {
            socket.exchange(Reading::Open).await.map_err(Lost::Io)?;
        }
        Ok(())
    };
    time::timeout(FAREWELL_MAX, leave)
        .await
        .unwrap_or(Err(Lost::NoProgress))
}
