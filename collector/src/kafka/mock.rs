//! librdkafka's mock of a cluster, for tests of roles with edges of their own.
//! Its transactions are none: what was aborted is delivered all the same.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    mocking::{MockCluster, MockCoordinator},
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use super::Config;

/// Long enough for a busy machine; waits end as soon as they can.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster with one partition of every topic.
pub(crate) struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
    config: Config,
    producer: BaseProducer,
}

impl Mock {
    pub(crate) fn start() -> Self {
        Self::of(MockCluster::new(1).unwrap())
    }

    /// One of three nodes: the first leads everything, and sees to the
    /// transactions of this id; the second sees to this group.
    pub(crate) fn with_coordinator_apart(group: &str, transactional_id: &str) -> Self {
        let mock = Self::of(MockCluster::new(3).unwrap());
        for topic in mock.config.topics.all() {
            mock.cluster.partition_leader(topic, 0, Some(1)).unwrap();
        }
        mock.coordinate(MockCoordinator::Transaction(transactional_id.into()), 1);
        mock.coordinate(MockCoordinator::Group(group.into()), 2);
        mock
    }

    /// The second of three nodes dies, and the third sees to the group.
    pub(crate) fn lose_coordinator(&self, group: &str) {
        self.coordinate(MockCoordinator::Group(group.into()), 3);
        self.cluster.broker_down(2).unwrap();
    }

    fn coordinate(&self, what: MockCoordinator, node: i32) {
        self.cluster.coordinator(what, node).unwrap();
    }

    fn of(cluster: MockCluster<'static, DefaultProducerContext>) -> Self {
        let servers = cluster.bootstrap_servers();
        let brokers: Vec<_> = servers.split(',').collect();
        let config: Config = toml::from_str(&format!(
            "brokers = {brokers:?}\nplaintext = true\ndevelopment = true\ntopic_prefix = \"rp\""
        ))
        .unwrap();
        for topic in config.topics.all() {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        let producer = ClientConfig::new()
            .set("bootstrap.servers", &servers)
            .create()
            .unwrap();
        Self {
            cluster,
            config,
            producer,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Writes a record, and waits until it stands there.
    pub(crate) fn write(&self, topic: &str, key: &str, value: &[u8]) {
        let record = BaseRecord::to(topic).key(key).partition(0).payload(value);
        self.producer
            .send(record)
            .map_err(|(error, _)| error)
            .unwrap();
        self.producer.flush(PATIENCE).unwrap();
    }

    /// Has the next transactions aborted: their offsets are refused.
    pub(crate) fn abort_next(&self, transactions: usize) {
        let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
        let refusals = vec![refusal; transactions];
        self.cluster
            .request_errors(RDKafkaApiKey::TxnOffsetCommit, &refusals);
    }

    /// Answers the next commit as if another had taken the client's place: what
    /// became of it is not known.
    pub(crate) fn fence_next(&self) {
        let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
        self.cluster
            .request_errors(RDKafkaApiKey::EndTxn, &[refusal]);
    }

    /// Is not there any more.
    pub(crate) fn go_down(&self) {
        self.cluster.broker_down(1).unwrap();
    }

    /// Every value of a topic, in order.
    pub(crate) fn values(&self, topic: &str) -> Vec<Vec<u8>> {
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "reader")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning)
            .unwrap();
        reader.assign(&list).unwrap();
        let mut values = Vec::new();
        loop {
            match reader.poll(PATIENCE).unwrap() {
                Ok(message) => values.push(message.payload().unwrap_or_default().to_vec()),
                Err(KafkaError::PartitionEOF(_)) => return values,
                Err(error) => panic!("reading {topic}: {error}"),
            }
        }
    }
}
