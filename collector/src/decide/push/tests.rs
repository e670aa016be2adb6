//! A connection against a broker played by the test.

use std::sync::mpsc as sync_mpsc;

use bytes::{Bytes, BytesMut};
use prometheus_client::{encoding::text, registry::Registry};
use rumqttc::mqttbytes::v5::{Packet, PubAck, PubAckReason, Publish};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::mqtt::Socket;

/// Long enough for a busy machine; waits end as soon as they can.
const PATIENCE: Duration = Duration::from_secs(30);

/// The publisher's side, without its dialling.
struct Setting {
    pusher: Pusher,
    outgoing: Outgoing,
    registry: Registry,
    pushed: sync_mpsc::Receiver<Pushed>,
}

impl Setting {
    fn new() -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, []);
        let (handed, taken) = mpsc::channel(HANDED_MAX);
        let (told, pushed) = sync_mpsc::channel();
        let pusher = Pusher {
            handed,
            connected: Arc::default(),
            metrics: metrics.clone(),
        };
        let outgoing = Outgoing {
            handed: taken,
            ended: false,
            backlog: Backlog::new(),
            metrics,
            on_pushed: Box::new(move |pushed| told.send(pushed).unwrap()),
        };
        Self {
            pusher,
            outgoing,
            registry,
            pushed,
        }
    }

    fn ended(&self, end: &str) -> bool {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).unwrap();
        let line = format!("pushes_total{{end=\"{end}\"}} 1");
        page.lines().any(|found| found == line)
    }
}

fn push(decision_id: &str, lives: Duration) -> Push {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Push {
        device: "box-1".into(),
        decision_id: decision_id.into(),
        payload: Bytes::from(decision_id.to_owned()),
        expiry_unix_ms: i64::try_from((now + lives).as_millis()).unwrap(),
        timing: None,
    }
}

/// The far end of a connection.
struct Broker {
    stream: DuplexStream,
    inbox: BytesMut,
}

impl Broker {
    fn new() -> (Socket<DuplexStream>, Self) {
        let (near, stream) = tokio::io::duplex(64 * 1024);
        let inbox = BytesMut::new();
        (Socket::new(near, Instant::now()), Self { stream, inbox })
    }

    async fn receive(&mut self) -> Packet {
        loop {
            if let Ok(packet) = Packet::read(&mut self.inbox, None) {
                return packet;
            }
            let read = time::timeout(PATIENCE, self.stream.read_buf(&mut self.inbox));
            assert_ne!(read.await.unwrap().unwrap(), 0, "the publisher is gone");
        }
    }

    async fn receive_publish(&mut self) -> Publish {
        let packet = self.receive().await;
        let Packet::Publish(publish) = packet else {
            panic!("{packet:?}");
        };
        publish
    }

    async fn acknowledge(&mut self, packet_id: u16, reason: PubAckReason) {
        let mut acknowledgement = PubAck::new(packet_id, None);
        acknowledgement.reason = reason;
        let mut bytes = BytesMut::new();
        acknowledgement.write(&mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }
}

#[tokio::test]
async fn a_decision_goes_to_its_box_alone_and_lives_no_longer_than_it_may() {
    let mut setting = Setting::new();
    let (socket, mut broker) = Broker::new();
    setting.pusher.push(3, push("d1", Duration::from_secs(600)));
    setting.outgoing.backlog.connected(None);
    let Setting {
        pusher,
        mut outgoing,
        pushed,
        ..
    } = setting;
    let played = async {
        let publish = broker.receive_publish().await;
        assert_eq!(publish.topic, "rp/v1/box-1/decisions");
        assert_eq!(publish.payload, "d1");
        assert!(!publish.retain);
        let properties = publish.properties.unwrap();
        assert_eq!(properties.message_expiry_interval, Some(60));
        broker
            .acknowledge(publish.pkid, PubAckReason::Success)
            .await;
        // What is left is waited for, then the connection ends in order.
        drop(pusher);
        assert!(matches!(broker.receive().await, Packet::Disconnect(_)));
    };
    let (served, ()) = tokio::join!(serve(socket, &mut outgoing), played);
    served.unwrap();
    let pushed = pushed.try_recv().unwrap();
    assert_eq!((pushed.partition, &*pushed.decision_id), (3, "d1"));
}

#[tokio::test]
async fn only_what_somebody_was_given_counts_as_pushed() {
    for (reason, end, confirms) in [
        (PubAckReason::Success, "Delivered", true),
        (PubAckReason::NoMatchingSubscribers, "NoSubscriber", false),
        (PubAckReason::NotAuthorized, "Refused", false),
        (PubAckReason::QuotaExceeded, "Refused", false),
    ] {
        let mut setting = Setting::new();
        let (socket, mut broker) = Broker::new();
        setting.pusher.push(0, push("d1", PATIENCE));
        setting.outgoing.backlog.connected(None);
        let (handed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut setting.pusher.handed, handed));
        let played = async {
            let publish = broker.receive_publish().await;
            broker.acknowledge(publish.pkid, reason).await;
            assert!(matches!(broker.receive().await, Packet::Disconnect(_)));
        };
        let (served, ()) = tokio::join!(serve(socket, &mut setting.outgoing), played);
        served.unwrap();
        assert!(setting.ended(end), "{end}");
        assert_eq!(setting.pushed.try_recv().is_ok(), confirms, "{end}");
    }
}

#[tokio::test]
async fn no_more_is_under_way_than_the_broker_grants() {
    let mut setting = Setting::new();
    let (socket, mut broker) = Broker::new();
    for id in ["d1", "d2"] {
        setting.pusher.push(0, push(id, PATIENCE));
    }
    setting.outgoing.backlog.connected(Some(1));
    let Setting {
        pusher,
        mut outgoing,
        ..
    } = setting;
    drop(pusher);
    let played = async {
        let first = broker.receive_publish().await;
        // Nothing else came with it, nor comes before it is acknowledged.
        assert!(broker.inbox.is_empty());
        broker.acknowledge(first.pkid, PubAckReason::Success).await;
        let second = broker.receive_publish().await;
        assert_eq!(
            (&first.payload[..], &second.payload[..]),
            (&b"d1"[..], &b"d2"[..])
        );
        broker.acknowledge(second.pkid, PubAckReason::Success).await;
        assert!(matches!(broker.receive().await, Packet::Disconnect(_)));
    };
    let (served, ()) = tokio::join!(serve(socket, &mut outgoing), played);
    served.unwrap();
}

#[tokio::test]
async fn what_a_broken_connection_did_not_confirm_goes_out_on_the_next() {
    let mut setting = Setting::new();
    setting.pusher.push(0, push("d1", PATIENCE));
    let (socket, mut broker) = Broker::new();
    setting.outgoing.backlog.connected(None);
    let breaks = async {
        broker.receive_publish().await;
        drop(broker);
    };
    let (served, ()) = tokio::join!(serve(socket, &mut setting.outgoing), breaks);
    assert!(served.is_err());

    let (socket, mut broker) = Broker::new();
    setting.outgoing.backlog.connected(None);
    let Setting {
        pusher,
        mut outgoing,
        pushed,
        ..
    } = setting;
    drop(pusher);
    let confirms = async {
        let again = broker.receive_publish().await;
        assert_eq!(again.payload, "d1");
        broker.acknowledge(again.pkid, PubAckReason::Success).await;
        assert!(matches!(broker.receive().await, Packet::Disconnect(_)));
    };
    let (served, ()) = tokio::join!(serve(socket, &mut outgoing), confirms);
    served.unwrap();
    assert!(pushed.try_recv().is_ok());
}

#[tokio::test]
async fn what_expired_while_it_waited_is_counted_and_not_sent() {
    let mut setting = Setting::new();
    setting.pusher.push(0, push("late", Duration::ZERO));
    setting.outgoing.changed().await;
    setting.outgoing.expire(Instant::now());
    assert_eq!(setting.outgoing.backlog.waiting(), 0);
    assert!(setting.ended("Expired"));
}

#[tokio::test]
async fn what_finds_no_room_is_counted_and_nobody_waits() {
    let setting = Setting::new();
    for _ in 0..=HANDED_MAX {
        setting.pusher.push(0, push("d", PATIENCE));
    }
    assert!(setting.ended("NoRoom"));
}
