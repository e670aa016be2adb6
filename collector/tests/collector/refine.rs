//! The role `refine` against a Kafka that refuses steps of its transactions.

use std::time::{Duration, Instant};

use prometheus_client::{encoding::text, registry::Registry};
use prost::Message as _;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use returnpath_collector::{
    admin::RoleHealth,
    refine::{self, Metrics},
};
use returnpath_shared::{
    pack,
    wire::{Batch, Class, Envelope, Event, UserActivity, event},
};
use tokio::{sync::watch, task::JoinHandle, time};

use crate::cluster::{Cluster, PATIENCE, batch};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

struct Refine {
    registry: Registry,
    stop: watch::Sender<bool>,
    role: JoinHandle<Result<(), refine::Error>>,
}

impl Refine {
    fn start(cluster: &Cluster) -> Self {
        let config = toml::from_str("group = \"refine\"\ntransaction_timeout_ms = 10000").unwrap();
        let (stop, stopped) = watch::channel(false);
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let kafka = cluster.settled().clone();
        let node_id = "collector-1".parse().unwrap();
        let health = RoleHealth::unobserved();
        Self {
            registry,
            stop,
            role: tokio::spawn(refine::run(
                config, kafka, node_id, health, metrics, stopped,
            )),
        }
    }

    /// The value of a metric without labels, or the sum over them.
    fn metric(&self, name: &str) -> f64 {
        let mut lines = String::new();
        text::encode(&mut lines, &self.registry).unwrap();
        lines
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .map(|(_, value)| value.parse::<f64>().unwrap())
            .sum()
    }

    async fn until(&self, name: &str, least: f64) {
        let began = Instant::now();
        while self.metric(name) < least {
            assert!(!self.role.is_finished(), "refine ended");
            assert!(began.elapsed() < PATIENCE, "{name} stays below {least}");
            time::sleep(LOOK).await;
        }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        time::timeout(PATIENCE, self.role)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

/// A batch of one event, as the bridge would have passed it on.
fn send(cluster: &Cluster, device: &str, sequence: u64) {
    let event = Event {
        uptime_ms: 1_000,
        kind: Some(event::Kind::UserActivity(UserActivity { inputs: 1 })),
        ..Event::default()
    };
    let packed = pack(&Batch {
        boot_id: 1,
        first_ordinal: sequence,
        events: vec![event],
    })
    .unwrap();
    let envelope = Envelope {
        id: Some(batch(sequence)),
        class: Class::Ordinary.into(),
        codec: packed.codec.into(),
        batch: packed.bytes,
        boot_id: 1,
        uptime_ms: 2_000,
        sender: batch(sequence).epoch,
        oldest_held: vec![batch(sequence)],
        ..Envelope::default()
    };
    cluster.write("rp.raw", device, &envelope.encode_to_vec());
}

#[tokio::test]
async fn batches_of_both_lanes_are_refined_and_repeats_are_not() {
    let cluster = Cluster::start();
    let refine = Refine::start(&cluster);
    for number in 0..20 {
        send(&cluster, &format!("box-{number}"), 1);
        send(&cluster, &format!("box-{number}"), 1);
    }
    cluster.settled();
    refine.until("events_refined_total", 20.0).await;
    refine.until("duplicate_batches_total", 20.0).await;
    assert_eq!(refine.metric("events_refined_total"), 20.0);
    refine.stop().await;
}

#[tokio::test]
async fn an_aborted_transaction_is_undone_and_done_again() {
    let cluster = Cluster::start();
    let refine = Refine::start(&cluster);
    send(&cluster, "box-1", 1);
    cluster.settled();
    refine.until("events_refined_total", 1.0).await;

    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    cluster.refuse(RDKafkaApiKey::TxnOffsetCommit, &[refusal; 2]);
    send(&cluster, "box-1", 2);
    cluster.settled();
    refine.until("transactions_aborted_total", 1.0).await;
    refine.until("events_refined_total", 2.0).await;
    // Had the first try left a trace, the second would be a duplicate.
    assert_eq!(refine.metric("duplicate_batches_total"), 0.0);
    assert_eq!(refine.metric("sessions_rebuilt_total"), 0.0);
    refine.stop().await;
}

#[tokio::test]
async fn a_fenced_producer_is_replaced_and_the_state_loaded_again() {
    let cluster = Cluster::start();
    let refine = Refine::start(&cluster);
    send(&cluster, "box-1", 1);
    cluster.settled();
    refine.until("events_refined_total", 1.0).await;

    let fenced = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
    cluster.refuse(RDKafkaApiKey::EndTxn, &[fenced]);
    send(&cluster, "box-1", 2);
    cluster.settled();
    refine.until("sessions_rebuilt_total", 1.0).await;

    // What was known before is known again.
    send(&cluster, "box-1", 1);
    cluster.settled();
    refine.until("duplicate_batches_total", 1.0).await;
    refine.stop().await;
}

#[tokio::test]
async fn a_coordinator_that_moves_is_waited_for() {
    let cluster = Cluster::start();
    let refine = Refine::start(&cluster);
    let moving = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
    let loading = RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS;
    for request in [RDKafkaApiKey::TxnOffsetCommit, RDKafkaApiKey::EndTxn] {
        cluster.refuse(request, &[moving, loading, moving]);
    }
    send(&cluster, "box-1", 1);
    cluster.settled();
    refine.until("events_refined_total", 1.0).await;
    assert_eq!(refine.metric("transactions_aborted_total"), 0.0);
    refine.stop().await;
}

#[tokio::test]
async fn what_cannot_be_refined_does_not_stop_its_partition() {
    let cluster = Cluster::start();
    let refine = Refine::start(&cluster);
    cluster.write("rp.raw", "box-1", &[0xff; 9]);
    cluster.write("rp.raw", "not a device", b"");
    // Larger than the rejected topic may carry.
    cluster.write("rp.raw", "box-1", &vec![0; 300 * 1024]);
    send(&cluster, "box-1", 1);
    cluster.settled();
    refine.until("events_refined_total", 1.0).await;
    refine.until("rejected_total", 2.0).await;
    refine.until("oversize_total", 1.0).await;
    refine.stop().await;
}

#[tokio::test]
async fn a_kafka_that_would_lose_data_is_refused() {
    let cluster = Cluster::start();
    let mut kafka = cluster.settled().clone();
    kafka.development = false;
    let config = toml::from_str("group = \"refine\"\ntransaction_timeout_ms = 10000").unwrap();
    let (_stop, stopped) = watch::channel(false);
    let metrics = Metrics::register(&mut Registry::default());
    let health = RoleHealth::unobserved();
    let node_id = "collector-1".parse().unwrap();
    let error = refine::run(config, kafka, node_id, health, metrics, stopped)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("rp.raw: replication is 1, expected at least 3"),
        "{error}"
    );
}
