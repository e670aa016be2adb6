//! The Kafka under test does what the tests lean on: it keeps what it
//! confirmed when killed, refuses on demand, and freezes.

use std::time::Duration;

use anyhow::ensure;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use returnpath_tests::{
    kafka::{Kafka, Refusal},
    wait::wait_until,
};

const TOPIC: &str = "kept";

#[tokio::test]
async fn kafka_keeps_what_it_confirmed_refuses_on_demand_and_freezes() -> anyhow::Result<()> {
    let mut kafka = Kafka::start().await?;
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", kafka.address());
    let admin: AdminClient<DefaultClientContext> = client.create()?;
    let topic = NewTopic::new(TOPIC, 2, TopicReplication::Fixed(1));
    admin.create_topics(&[topic], &AdminOptions::new()).await?;
    wait_until("the topic", Duration::from_secs(10), async || {
        ensure!(kafka.topics().await? == [TOPIC], "no topic yet");
        Ok(())
    })
    .await?;
    client.set("acks", "all").set("linger.ms", "5");
    let producer: ThreadedProducer<DefaultProducerContext> = client.create()?;
    let send = |payload: &'static str| -> Result<(), KafkaError> {
        let record = BaseRecord::to(TOPIC).key("box").payload(payload);
        producer.send(record).map_err(|(error, _)| error)
    };
    let confirm = |limit_ms| producer.flush(Duration::from_millis(limit_ms));
    let values = async |kafka: &Kafka| -> anyhow::Result<Vec<String>> {
        let records = kafka.records(TOPIC).await?;
        let values = records
            .into_iter()
            .map(|record| record.value.unwrap_or_default());
        Ok(values.map(String::from_utf8).collect::<Result<_, _>>()?)
    };

    send("confirmed\n")?;
    confirm(30_000)?;
    kafka.kill()?;
    kafka.resume().await?;
    assert_eq!(values(&kafka).await?, ["confirmed\n"]);

    let refusing = kafka.refuse(TOPIC, Refusal::Everything).await?;
    send("refused")?;
    confirm(30_000)?;
    assert_eq!(values(&kafka).await?, ["confirmed\n"]);

    kafka.accept(refusing).await?;

    let refusing = kafka.refuse(TOPIC, Refusal::AllButMarkers).await?;
    send("more than a hundred bytes with Kafka's own around them, like any record of ours")?;
    confirm(30_000)?;
    assert_eq!(values(&kafka).await?, ["confirmed\n"]);
    kafka.accept(refusing).await?;

    kafka.freeze();
    send("late")?;
    assert_eq!(
        confirm(300).unwrap_err().rdkafka_error_code(),
        Some(RDKafkaErrorCode::OperationTimedOut)
    );
    kafka.thaw();
    confirm(30_000)?;
    assert_eq!(values(&kafka).await?, ["confirmed\n", "late"]);
    kafka.stop().await
}
