//! A connection against a broker played by the test, and librdkafka's mock of
//! Kafka, which fails on demand.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::BytesMut;
use prometheus_client::{encoding::text, registry::Registry};
use prost::Message as _;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use returnpath_shared::{
    MQTT_PACKET_BYTES_MAX,
    wire::{self, Envelope, Receipt, RefusalReason},
};
use rumqttc::mqttbytes::v5::{PubAck, Publish, SubAck, UnsubAck, UnsubAckReason};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
};

use super::*;
use crate::{
    bridge::{Config, Metrics, producer::Producer},
    config::Config as Whole,
    kafka,
};

/// Long enough for a busy machine; waits end as soon as they can.
const PATIENCE: Duration = Duration::from_secs(30);

const LIVE: &str = "rp/v1/box-1/events/live";
const PARTITIONS: u32 = 3;

/// What outlives a connection.
struct Setting {
    mock: MockCluster<'static, DefaultProducerContext>,
    kafka: kafka::Config,
    config: Config,
    registry: Registry,
}

impl Setting {
    fn new() -> (Self, Passage) {
        let mock = MockCluster::new(1).unwrap();
        let whole = Whole::parse(&format!(
            "node_id = \"test\"\n\
             kafka = {{ brokers = [{:?}], plaintext = true, development = true }}\n\
             bridge.brokers = [\"localhost:8883\"]\n\
             bridge.tls = {{ ca = \"a\", certificate = \"b\", key = \"c\" }}",
            mock.bootstrap_servers()
        ))
        .unwrap();
        for topic in whole.kafka.topics.all() {
            let partitions = i32::try_from(PARTITIONS).unwrap();
            mock.create_topic(topic, partitions, 1).unwrap();
        }
        let mut setting = Self {
            mock,
            kafka: whole.kafka,
            config: whole.bridge,
            registry: Registry::default(),
        };
        setting.config.in_flight.batches = NonZeroU32::new(2).unwrap();
        let passage = setting.passage();
        (setting, passage)
    }

    fn producer(&self) -> Producer {
        let node_id = "test".parse().unwrap();
        Producer::open(&self.config, &self.kafka, &node_id, PARTITIONS).unwrap()
    }

    fn passage(&mut self) -> Passage {
        self.registry = Registry::default();
        let metrics = Metrics::register(&mut self.registry);
        Passage::new(&self.config, self.producer(), metrics, Instant::now())
    }

    /// Value of a counter, as a scraper reads it.
    fn counter(&self, line: &str) -> u64 {
        let mut metrics = String::new();
        text::encode(&mut metrics, &self.registry).unwrap();
        metrics
            .lines()
            .find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
            .unwrap_or(0)
    }

    /// The only record of a topic: its key, partition and value.
    fn record(&self, topic: &str) -> (String, i32, Vec<u8>) {
        let consumer: BaseConsumer = self
            .kafka
            .client_config("test")
            .unwrap()
            .set("group.id", "test")
            .create()
            .unwrap();
        let mut from = TopicPartitionList::new();
        for partition in 0..i32::try_from(PARTITIONS).unwrap() {
            from.add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&from).unwrap();
        let record = consumer.poll(PATIENCE).unwrap().unwrap();
        (
            String::from_utf8(record.key().unwrap().to_vec()).unwrap(),
            record.partition(),
            record.payload().unwrap().to_vec(),
        )
    }
}

/// The broker's end of a connection that is being served.
struct Broker {
    stream: DuplexStream,
    inbox: BytesMut,
    stop: watch::Sender<bool>,
    served: JoinHandle<(Passage, Result<(), Lost>)>,
}

impl Broker {
    async fn start(mut passage: Passage) -> Self {
        let (near, far) = tokio::io::duplex(4 * MQTT_PACKET_BYTES_MAX);
        let (stop, mut stopped) = watch::channel(false);
        let served = tokio::spawn(async move {
            let socket = Socket::new(near, Instant::now());
            let health = RoleHealth::unobserved();
            let end = serve(&mut passage, socket, "$share/g/f", &health, &mut stopped).await;
            (passage, end)
        });
        let mut broker = Self {
            stream: far,
            inbox: BytesMut::new(),
            stop,
            served,
        };
        broker
            .send(&Packet::SubAck(SubAck {
                pkid: PACKET_ID,
                return_codes: vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)],
                properties: None,
            }))
            .await;
        broker
    }

    async fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn publish(&mut self, packet_id: u16, topic: &str, payload: Vec<u8>) {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload, None);
        publish.pkid = packet_id;
        self.send(&Packet::Publish(publish)).await;
    }

    /// The next packet from the bridge.
    async fn next(&mut self) -> Packet {
        loop {
            if let Ok(packet) = Packet::read(&mut self.inbox, None) {
                if packet != Packet::PingReq {
                    return packet;
                }
                continue;
            }
            let read = self.stream.read_buf(&mut self.inbox);
            let read = time::timeout(PATIENCE, read).await.unwrap().unwrap();
            assert!(read > 0, "the bridge hung up");
        }
    }

    async fn acknowledgement(&mut self) -> PubAck {
        let packet = self.next().await;
        let Packet::PubAck(puback) = packet else {
            panic!("{packet:?}");
        };
        puback
    }

    async fn receipt(&mut self) -> Receipt {
        let packet = self.next().await;
        let Packet::Publish(publish) = packet else {
            panic!("{packet:?}");
        };
        assert_eq!(publish.topic, "rp/v1/box-1/receipts");
        assert_eq!((publish.qos, publish.retain), (QoS::AtMostOnce, false));
        Receipt::decode(publish.payload).unwrap()
    }

    async fn hang_up(self) -> (Passage, Lost) {
        drop(self.stream);
        let (passage, end) = self.served.await.unwrap();
        (passage, end.unwrap_err())
    }
}

fn envelope(class: wire::Class, sequence: u64) -> Vec<u8> {
    Envelope {
        id: Some(wire::BatchId {
            epoch: Some(wire::Epoch {
                incarnation: 7,
                start: 1,
            }),
            sequence,
        }),
        class: class.into(),
        batch: vec![1, 2, 3].into(),
        ..Envelope::default()
    }
    .encode_to_vec()
}

/// First and last sequence of the only range.
fn confirmed(receipt: &Receipt) -> (u64, u64) {
    assert_eq!((receipt.confirmed.len(), receipt.refused.len()), (1, 0));
    let range = &receipt.confirmed[0];
    (range.first_sequence, range.last_sequence)
}

#[tokio::test]
async fn a_proof_is_acknowledged_and_receipted_when_kafka_has_it() {
    let (setting, passage) = Setting::new();
    let mut broker = Broker::start(passage).await;
    let payload = envelope(wire::Class::Proof, 5);
    broker.publish(9, LIVE, payload.clone()).await;
    assert_eq!(broker.acknowledgement().await.pkid, 9);
    assert_eq!(confirmed(&broker.receipt().await), (5, 5));
    let partition = kafka::partition(b"box-1", PARTITIONS);
    let record = ("box-1".to_owned(), partition, payload);
    assert_eq!(setting.record(&setting.kafka.topics.raw), record);
    assert_eq!(setting.counter("confirmed_total"), 1);
    assert_eq!(setting.counter("acknowledged_at_deadline_total"), 0);
}

#[tokio::test]
async fn the_backlog_goes_to_its_own_topic() {
    let (setting, passage) = Setting::new();
    let mut broker = Broker::start(passage).await;
    let payload = envelope(wire::Class::Ordinary, 1);
    let topic = "rp/v1/box-1/events/backlog";
    broker.publish(1, topic, payload.clone()).await;
    assert_eq!(broker.acknowledgement().await.pkid, 1);
    assert_eq!(confirmed(&broker.receipt().await), (1, 1));
    assert_eq!(setting.record(&setting.kafka.topics.raw_backlog).2, payload);
}

#[tokio::test]
async fn while_kafka_is_away_nothing_is_receipted_and_the_bound_holds() {
    let (mut setting, _) = Setting::new();
    setting.config.acknowledge_after = Duration::from_millis(50);
    let passage = setting.passage();
    setting.mock.broker_down(1).unwrap();
    let mut broker = Broker::start(passage).await;
    for sequence in 1..=3_u16 {
        let payload = envelope(wire::Class::Proof, sequence.into());
        broker.publish(sequence, LIVE, payload).await;
    }
    // Each acknowledged although none is confirmed; and no receipt between.
    for packet_id in 1..=3 {
        assert_eq!(broker.acknowledgement().await.pkid, packet_id);
    }
    assert_eq!(setting.counter("acknowledged_at_deadline_total"), 2);
    assert_eq!(setting.counter("unreceipted_total{reason=\"InFlight\"}"), 1);
    assert_eq!(setting.counter("confirmed_total"), 0);
    setting.mock.broker_up(1).unwrap();
    // It goes on by itself; the third was over the bound and is sent again.
    let mut last = 0;
    while last < 2 {
        last = confirmed(&broker.receipt().await).1;
    }
    assert_eq!(last, 2);
    broker
        .publish(4, LIVE, envelope(wire::Class::Proof, 3))
        .await;
    assert_eq!(broker.acknowledgement().await.pkid, 4);
    assert_eq!(confirmed(&broker.receipt().await), (3, 3));
}

#[tokio::test]
async fn nothing_more_is_read_at_the_receive_maximum() {
    let (mut setting, _) = Setting::new();
    setting.config.acknowledge_after = Duration::from_millis(100);
    setting.config.receive_maximum = NonZeroU16::MIN;
    let passage = setting.passage();
    setting.mock.broker_down(1).unwrap();
    let mut broker = Broker::start(passage).await;
    for packet_id in [1, 2] {
        // The second is read only after the first was acknowledged, although
        // it is sent without waiting for that by a broker that does not care.
        broker
            .publish(packet_id, LIVE, envelope(wire::Class::Ordinary, 1))
            .await;
        assert_eq!(broker.acknowledgement().await.pkid, packet_id);
    }
    assert_eq!(setting.counter("acknowledged_at_deadline_total"), 2);
}

#[tokio::test]
async fn what_is_refused_is_said_and_does_not_reach_kafka() {
    let (setting, passage) = Setting::new();
    let mut broker = Broker::start(passage).await;
    let payload = envelope(wire::Class::Ordinary, 4);
    broker.publish(1, "rp/v1/box-1/events/other", payload).await;
    assert_eq!(broker.acknowledgement().await.pkid, 1);
    let receipt = broker.receipt().await;
    assert_eq!((receipt.confirmed.len(), receipt.refused.len()), (0, 1));
    assert_eq!(receipt.refused[0].reason(), RefusalReason::NotAllowed);
    assert_eq!(setting.counter("confirmed_total"), 0);
}

#[tokio::test]
async fn a_box_over_its_quota_gets_no_receipt() {
    let (mut setting, _) = Setting::new();
    setting.config.quota.batches_per_second = NonZeroU32::MIN;
    setting.config.quota.batches_burst = NonZeroU32::MIN;
    let passage = setting.passage();
    let mut broker = Broker::start(passage).await;
    for sequence in [1, 2] {
        let payload = envelope(wire::Class::Ordinary, sequence.into());
        broker.publish(sequence, LIVE, payload).await;
        assert_eq!(broker.acknowledgement().await.pkid, sequence);
    }
    assert_eq!(
        setting.counter("unreceipted_total{reason=\"QuotaBatches\"}"),
        1
    );
    assert_eq!(setting.counter("confirmed_total"), 1);
}

#[tokio::test]
async fn told_to_stop_the_bridge_answers_all_that_is_owed_and_leaves() {
    let (_setting, passage) = Setting::new();
    let mut broker = Broker::start(passage).await;
    broker
        .publish(1, LIVE, envelope(wire::Class::Ordinary, 1))
        .await;
    assert_eq!(broker.acknowledgement().await.pkid, 1);
    broker.stop.send_replace(true);
    assert!(matches!(broker.next().await, Packet::Unsubscribe(_)));
    // A batch that was on its way still gets its answer.
    broker
        .publish(2, LIVE, envelope(wire::Class::Ordinary, 2))
        .await;
    broker
        .send(&Packet::UnsubAck(UnsubAck {
            pkid: PACKET_ID,
            reasons: vec![UnsubAckReason::Success],
            properties: None,
        }))
        .await;
    assert_eq!(broker.acknowledgement().await.pkid, 2);
    assert_eq!(confirmed(&broker.receipt().await), (1, 2));
    assert!(matches!(broker.next().await, Packet::Disconnect(_)));
    let (_, end) = broker.served.await.unwrap();
    assert!(end.is_ok(), "{end:?}");
}

#[tokio::test]
async fn what_a_box_is_owed_outlives_the_connection_and_acknowledgements_do_not() {
    let (setting, passage) = Setting::new();
    let mut broker = Broker::start(passage).await;
    broker
        .publish(1, LIVE, envelope(wire::Class::Ordinary, 1))
        .await;
    assert_eq!(broker.acknowledgement().await.pkid, 1);
    setting.mock.broker_down(1).unwrap();
    broker
        .publish(2, LIVE, envelope(wire::Class::Ordinary, 2))
        .await;
    let (passage, lost) = broker.hang_up().await;
    assert!(matches!(lost, Lost::Io(_)), "{lost}");

    let mut broker = Broker::start(passage).await;
    setting.mock.broker_up(1).unwrap();
    broker
        .publish(3, LIVE, envelope(wire::Class::Proof, 3))
        .await;
    // Not 2: that packet id may be another batch's on this connection.
    assert_eq!(broker.acknowledgement().await.pkid, 3);
    let receipt = broker.receipt().await;
    assert!(matches!(confirmed(&receipt), (1, 2 | 3)), "{receipt:?}");
}

#[tokio::test]
async fn a_producer_at_its_end_is_noticed_and_another_goes_on() {
    let (mut setting, _) = Setting::new();
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    setting
        .mock
        .request_errors(RDKafkaApiKey::InitProducerId, &[denied; 3]);
    let passage = setting.passage();
    let mut broker = Broker::start(passage).await;
    broker
        .publish(1, LIVE, envelope(wire::Class::Proof, 1))
        .await;
    let (mut passage, end) = broker.served.await.unwrap();
    assert!(matches!(end, Err(Lost::Producer(_))), "{end:?}");
    assert_eq!(setting.counter("unreceipted_total{reason=\"Kafka\"}"), 1);

    setting
        .mock
        .clear_request_errors(RDKafkaApiKey::InitProducerId);
    passage.replace_producer(setting.producer(), Instant::now());
    let mut broker = Broker::start(passage).await;
    broker
        .publish(1, LIVE, envelope(wire::Class::Proof, 1))
        .await;
    assert_eq!(broker.acknowledgement().await.pkid, 1);
    assert_eq!(confirmed(&broker.receipt().await), (1, 1));
}

#[tokio::test]
async fn a_refused_subscription_ends_the_connection() {
    let (_setting, passage) = Setting::new();
    let mut broker = Broker::start(passage).await;
    broker
        .send(&Packet::SubAck(SubAck {
            pkid: PACKET_ID,
            return_codes: vec![SubscribeReasonCode::NotAuthorized],
            properties: None,
        }))
        .await;
    let (_, end) = broker.served.await.unwrap();
    assert!(matches!(end, Err(Lost::Subscription(_))), "{end:?}");
}
