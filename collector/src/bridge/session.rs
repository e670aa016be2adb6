//! One connection, from SUBSCRIBE to its end. Waits in one function and
//! changes state in another.

use std::{
    io,
    time::{Duration, Instant},
};

use rumqttc::mqttbytes::{
    QoS,
    v5::{Disconnect, DisconnectReasonCode, Packet, SubscribeReasonCode, Unsubscribe},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time,
};

use super::{dial::PACKET_ID, passage::Passage, receipts::Receipts};
use crate::{
    admin::{Readiness, RoleHealth},
    mqtt::{KEEP_ALIVE_SECONDS, PacketError, Reading, Socket},
};

/// Shortest turn: at thousands of batches a second each turn then reads and
/// answers several, which halves the CPU time of a batch; an urgent event
/// waits at most this much longer.
const TURN_MIN: Duration = Duration::from_millis(1);

/// How often Kafka's reports are asked for while any are awaited. They only
/// move receipts and acknowledgements, so this is no part of an event's way.
const REPORT_INTERVAL: Duration = Duration::from_millis(5);

/// Longest sleep: health is reported at least this often.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// A quiet connection is asked for a sign of life after this long.
const PING_AFTER: Duration = Duration::from_secs(KEEP_ALIVE_SECONDS as u64 / 2);

/// A connection on which nothing comes in or goes out for this long, although
/// a sign of life was asked for, is torn down and made anew.
const NO_PROGRESS_MAX: Duration = Duration::from_secs(30);

/// Time for the broker to grant the subscription.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(10);

/// Time for what is under way to be confirmed after the role was told to
/// stop. Below the default drain budget of the process; what is left has no
/// receipt and is sent again.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Time for the last receipts to leave.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Why a connection ended before the role was told to stop.
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
    /// The broker does not let us subscribe.
    #[error("subscription refused: {0:?}")]
    Subscription(Vec<SubscribeReasonCode>),
    /// Nothing moves.
    #[error("no progress for {} s", NO_PROGRESS_MAX.as_secs())]
    NoProgress,
    /// The Kafka producer is at its end.
    #[error("Kafka producer failed: {0}")]
    Producer(String),
}

enum Phase {
    Subscribing { until: Instant },
    Subscribed,
    Draining { until: Instant },
    Unsubscribed { until: Instant },
}

/// Serves a connection until `stop` holds `true` and what is under way is
/// answered.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    passage: &mut Passage,
    mut socket: Socket<S>,
    filter: &str,
    health: &RoleHealth,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), Lost> {
    let mut now = Instant::now();
    let mut pinged_at = now;
    let mut paused_at = now;
    let mut phase = Phase::Subscribing {
        until: now + SUBSCRIBE_MAX,
    };
    passage.reconnected();
    loop {
        let until = wake_at(passage, &phase, now);
        let reading = if passage.is_full() {
            paused_at = now;
            Reading::Paused
        } else {
            Reading::Open
        };
        time::sleep_until((now + TURN_MIN).into()).await;
        wait(&mut socket, reading, stop, &phase, until).await?;
        now = Instant::now();
        health.progressed();

        while let Some(packet) = socket.receive()? {
            take(packet, passage, &mut phase, now)?;
        }
        passage.serve_kafka(now);
        if let Some(reason) = passage.producer_fault() {
            return Err(Lost::Producer(reason));
        }
        passage.answer(&mut socket, now, now)?;
        keep_alive(&mut socket, paused_at, &mut pinged_at, now)?;
        health.set(readiness(passage, &phase, now));

        match phase {
            Phase::Subscribing { until } if until <= now => return Err(Lost::NoProgress),
            Phase::Subscribing { .. } | Phase::Subscribed if *stop.borrow() => {
                let unsubscribe = Unsubscribe {
                    pkid: PACKET_ID,
                    ..Unsubscribe::new(filter, None)
                };
                socket.send(&Packet::Unsubscribe(unsubscribe), now)?;
                phase = Phase::Draining {
                    until: now + DRAIN_MAX,
                };
            }
            Phase::Subscribing { .. } | Phase::Subscribed => {}
            Phase::Unsubscribed { .. } if passage.is_drained() => break,
            Phase::Draining { until } | Phase::Unsubscribed { until } if until <= now => break,
            Phase::Draining { .. } | Phase::Unsubscribed { .. } => {}
        }
    }
    farewell(passage, socket, now).await
}

async fn wait<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    reading: Reading,
    stop: &mut watch::Receiver<bool>,
    phase: &Phase,
    until: Instant,
) -> Result<(), Lost> {
    let stoppable = matches!(phase, Phase::Subscribing { .. } | Phase::Subscribed);
    tokio::select! {
        exchanged = socket.exchange(reading) => exchanged.map_err(Lost::Io),
        () = time::sleep_until(until.into()) => Ok(()),
        _ = stop.wait_for(|stop| *stop), if stoppable => Ok(()),
    }
}

fn wake_at(passage: &Passage, phase: &Phase, now: Instant) -> Instant {
    let mut until = now + IDLE_MAX;
    if passage.awaits_kafka() {
        until = until.min(now + REPORT_INTERVAL);
    }
    if let Some(due) = passage.next_due() {
        until = until.min(due);
    }
    match phase {
        Phase::Subscribed => until,
        Phase::Subscribing { until: limit }
        | Phase::Draining { until: limit }
        | Phase::Unsubscribed { until: limit } => until.min(*limit),
    }
}

fn take(
    packet: Packet,
    passage: &mut Passage,
    phase: &mut Phase,
    now: Instant,
) -> Result<(), Lost> {
    match packet {
        Packet::Publish(publish) => {
            passage.publish(&publish, now);
            Ok(())
        }
        Packet::SubAck(suback) => {
            let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
            if suback.return_codes != [granted] {
                return Err(Lost::Subscription(suback.return_codes));
            }
            if let Phase::Subscribing { .. } = phase {
                *phase = Phase::Subscribed;
            }
            Ok(())
        }
        Packet::UnsubAck(_) => {
            if let Phase::Draining { until } = *phase {
                *phase = Phase::Unsubscribed { until };
            }
            Ok(())
        }
        Packet::Disconnect(disconnect) => Err(Lost::Disconnected(disconnect.reason_code)),
        Packet::PingResp
        | Packet::Auth(_)
        | Packet::ConnAck(_)
        | Packet::Connect(..)
        | Packet::PingReq
        | Packet::PubAck(_)
        | Packet::PubComp(_)
        | Packet::PubRec(_)
        | Packet::PubRel(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_) => Ok(()),
    }
}

fn keep_alive<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    paused_at: Instant,
    pinged_at: &mut Instant,
    now: Instant,
) -> Result<(), Lost> {
    let silent = now.saturating_duration_since(socket.read_at().max(paused_at));
    let stuck = socket
        .unsent_since()
        .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    if silent >= NO_PROGRESS_MAX || stuck >= NO_PROGRESS_MAX {
        return Err(Lost::NoProgress);
    }
    // In each interval, whether or not batches flow: a broker wants to hear
    // from us too, and we only speak when there is something to answer.
    if now.saturating_duration_since(*pinged_at) >= PING_AFTER {
        *pinged_at = now;
        socket.send(&Packet::PingReq, now)?;
    }
    Ok(())
}

fn readiness(passage: &Passage, phase: &Phase, now: Instant) -> Readiness {
    match phase {
        Phase::Subscribing { .. } => Readiness::NotReady("waiting for the MQTT subscription"),
        Phase::Subscribed if !passage.kafka_answers(now) => {
            Readiness::NotReady("Kafka does not confirm")
        }
        Phase::Subscribed => Readiness::Ready,
        Phase::Draining { .. } | Phase::Unsubscribed { .. } => Readiness::NotReady("draining"),
    }
}

/// Sends every receipt that is owed, due or not, and disconnects.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(
    passage: &mut Passage,
    mut socket: Socket<S>,
    now: Instant,
) -> Result<(), Lost> {
    let leave = async {
        loop {
            passage.answer(&mut socket, now, Receipts::all_due(now))?;
            if socket.unsent_since().is_none() {
                break;
            }
            socket.exchange(Reading::Open).await.map_err(Lost::Io)?;
            while socket.receive()?.is_some() {}
        }
        let disconnect = Disconnect::new(DisconnectReasonCode::NormalDisconnection);
        socket.send(&Packet::Disconnect(disconnect), now)?;
        while socket.unsent_since().is_some() {
            socket.exchange(Reading::Open).await.map_err(Lost::Io)?;
        }
        Ok(())
    };
    time::timeout(FAREWELL_MAX, leave)
        .await
        .unwrap_or(Err(Lost::NoProgress))
}

#[cfg(test)]
mod tests;
