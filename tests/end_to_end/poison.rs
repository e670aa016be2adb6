//! `rp.raw` with records that nobody should write there: each ends where it
//! can be found, with its reason, and the good ones beside it go on.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use prost::Message as _;
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
};
use returnpath_shared::{
    BATCH_EVENTS_MAX, RAW_RECORD_BYTES_MAX,
    wire::{self, Codec, RejectionReason},
};
use returnpath_tests::{faults::peak_memory::PeakMemory, fleet::chance::Chance, wait::wait_until};

use crate::{
    envelope::envelope,
    event,
    flow::Flow,
    scene::{Losses, play},
};

/// As many as the topics of tests have: poison stands beside the good whatever
/// partition that is in.
const PARTITIONS: i32 = 4;

/// What a bomb unpacks to.
const BOMB_BYTES: usize = 64 * 1024 * 1024;

/// Far below one unpacked bomb.
const GROWTH_KIB_MAX: u64 = 24 * 1024;

const LIMIT: Duration = Duration::from_secs(90);

/// Keys that are no device's.
const NO_DEVICES: [&[u8]; 4] = [b"", b"box 9", b"../box-1", &[0xff; 16]];

/// A record, and where it must end.
struct Poison {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    reason: RejectionReason,
}

#[tokio::test]
async fn poison_is_rejected_with_its_reason_and_the_good_beside_it_goes_on() -> anyhow::Result<()> {
    play("poison", async |scene| {
        let collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut flow = Flow::start("poison", scene.client(&agent).await?);
        flow.more(3).await?;
        let mut before = PeakMemory::default();
        before.look("collector", collector.process_id());

        let poison = poison();
        let topic = scene.topic("raw");
        for partition in 0..PARTITIONS {
            produce(&scene.kafka.address(), &topic, partition, &poison)?;
            flow.more(1).await?;
        }
        let expected = poison.len() * usize::try_from(PARTITIONS)?;
        wait_until("all poison to be rejected", LIMIT, async || {
            let count = scene.rejected().await?.len();
            ensure!(count >= expected, "{count} of {expected}");
            Ok(())
        })
        .await?;
        flow.more(3).await?;
        flow.stop().await?;
        scene.settle(Losses::None).await?;

        let rejected = scene.rejected().await?;
        assert_eq!(rejected.len(), expected);
        for (number, Poison { key, value, reason }) in poison.iter().enumerate() {
            let key = key.as_deref().unwrap_or_default();
            let value = value.as_deref().unwrap_or_default();
            let stands = rejected
                .iter()
                .filter(|rejected| {
                    rejected.reason() == *reason
                        && rejected.key == key
                        // Of a single event, and of what no record can hold,
                        // the rest is kept.
                        && (rejected.envelope == value
                            || rejected.index.is_some()
                            || value.len() > RAW_RECORD_BYTES_MAX)
                })
                .count();
            let partitions = usize::try_from(PARTITIONS)?;
            assert!(
                stands >= partitions,
                "poison {number}, {reason:?} for {key:?}: {stands} of {partitions} in {:#?}",
                reasons(&rejected)
            );
        }
        let mut after = PeakMemory::default();
        after.look("collector", collector.process_id());
        let growth_kib = after.kib()["collector"] - before.kib()["collector"];
        assert!(growth_kib < GROWTH_KIB_MAX, "grew by {growth_kib} KiB");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn anothers_batch_under_a_boxs_own_name_is_its_own_and_harms_nobody() -> anyhow::Result<()> {
    play("anothers-batch", async |scene| {
        let _collector = scene.running_collector().await?;
        let agent = scene.running_agent("box-1").await?;
        let mut client = scene.client(&agent).await?;
        // Before box-1 has sent anything of the kind, the same ids come under
        // another name: who sent is said by the key, which the broker vouches
        // for, and by nothing inside.
        client
            .expect("durable", &event::impression("first"))
            .await?;
        scene.settle(Losses::None).await?;
        let topic = scene.topic("raw");
        let raw = scene.kafka.records(&topic).await?;
        let copied: Vec<_> = raw
            .iter()
            .map(|record| Poison {
                key: Some(b"box-9".to_vec()),
                value: record.value.clone(),
                reason: RejectionReason::Unspecified,
            })
            .collect();
        let partition = raw.first().context("nothing in rp.raw")?.partition;
        let of_box_9 = async || -> anyhow::Result<usize> {
            let refined = scene.refined().await?;
            Ok(refined
                .iter()
                .filter(|(_, refined)| refined.device_id == "box-9")
                .count())
        };
        let own = scene.refined().await?.len();
        produce(&scene.kafka.address(), &topic, partition, &copied)?;
        wait_until("the copies to be refined", LIMIT, async || {
            let count = of_box_9().await?;
            ensure!(count >= own, "{count} of {own}");
            Ok(())
        })
        .await?;
        // And again: now they are repeats, of box-9.
        produce(&scene.kafka.address(), &topic, partition, &copied)?;
        client
            .expect("durable", &event::impression("second"))
            .await?;
        scene.settle(Losses::None).await?;
        assert_eq!(of_box_9().await?, own);
        assert!(scene.rejected().await?.is_empty());
        Ok(())
    })
    .await
}

/// One of each kind, every batch with a sequence of its own.
fn poison() -> Vec<Poison> {
    use RejectionReason as Reason;

    let mut sequences = 1..;
    let mut of_box = |codec: i32, batch: Vec<u8>, reason| Poison {
        key: Some(b"box-9".to_vec()),
        value: sequences
            .next()
            .map(|sequence| envelope(sequence, codec, batch)),
        reason,
    };
    let plain = i32::from(Codec::Identity);
    let deflate = i32::from(Codec::Deflate);
    let bomb = miniz_oxide::deflate::compress_to_vec(&vec![0; BOMB_BYTES], 9);
    assert!(bomb.len() < RAW_RECORD_BYTES_MAX, "{} bytes", bomb.len());

    let mut all = vec![
        of_box(deflate, bomb.clone(), Reason::TooLarge),
        // The bomb's beginning: a stream without an end.
        of_box(deflate, bomb[..bomb.len() / 2].to_vec(), Reason::TooLarge),
        of_box(deflate, b"no deflate stream at all".to_vec(), Reason::Codec),
        of_box(77, b"?".to_vec(), Reason::Codec),
        of_box(i32::MIN, b"?".to_vec(), Reason::Codec),
        of_box(plain, vec![0xff; 100], Reason::Batch),
        of_box(plain, Vec::new(), Reason::Batch),
        of_box(
            plain,
            batch(1, BATCH_EVENTS_MAX + 1, tune(1)),
            Reason::Batch,
        ),
        of_box(plain, batch(u64::MAX - 1, 3, tune(1)), Reason::Batch),
        of_box(plain, batch(0, 3, tune(1)), Reason::Batch),
        // One event that says nothing sensible.
        of_box(plain, batch(1_000, 1, tune(u32::MAX)), Reason::Event),
    ];
    let absurd_ids = [
        wire::BatchId {
            epoch: None,
            sequence: 1,
        },
        wire::BatchId {
            epoch: Some(wire::Epoch::default()),
            sequence: u64::MAX,
        },
    ];
    for id in absurd_ids {
        let envelope = wire::Envelope {
            id: Some(id),
            uptime_ms: u64::MAX,
            unix_ms: i64::MIN,
            clock_synchronised: true,
            ..wire::Envelope::default()
        };
        all.push(Poison {
            key: Some(b"box-9".to_vec()),
            value: Some(envelope.encode_to_vec()),
            reason: Reason::Envelope,
        });
    }
    let mut chance = Chance::new(5);
    for length in [1, 100, 10_000] {
        let bytes = (0..length).map(|_| chance.bits().to_le_bytes()[0]);
        all.push(Poison {
            key: Some(b"box-9".to_vec()),
            value: Some(bytes.collect()),
            reason: Reason::Envelope,
        });
    }
    all.push(Poison {
        key: Some(b"box-9".to_vec()),
        value: None,
        reason: Reason::Envelope,
    });
    all.push(Poison {
        key: None,
        value: Some(b"whose?".to_vec()),
        reason: Reason::Key,
    });
    for key in NO_DEVICES {
        all.push(Poison {
            key: Some(key.to_vec()),
            value: Some(b"of nobody".to_vec()),
            reason: Reason::Key,
        });
    }
    all
}

fn tune(service_id: u32) -> wire::Event {
    wire::Event {
        uptime_ms: 50_000,
        kind: Some(wire::event::Kind::Tune(wire::Tune {
            channel: Some(wire::Channel {
                network_id: 9018,
                transport_stream_id: 4164,
                service_id,
                ..wire::Channel::default()
            }),
            source: wire::Source::Live.into(),
            ..wire::Tune::default()
        })),
        ..wire::Event::default()
    }
}

fn batch(first_ordinal: u64, count: usize, event: wire::Event) -> Vec<u8> {
    wire::Batch {
        boot_id: 5,
        first_ordinal,
        events: vec![event; count],
    }
    .encode_to_vec()
}

/// Writes the records past the bridge, which would not, and waits for Kafka.
fn produce(kafka: &str, topic: &str, partition: i32, records: &[Poison]) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("acks", "all")
        .create()?;
    for Poison { key, value, .. } in records {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_secs(30))?)
}

fn reasons(rejected: &[wire::Rejected]) -> Vec<(RejectionReason, String, usize)> {
    rejected
        .iter()
        .map(|rejected| {
            let detail = format!("{:?} {}", rejected.key, rejected.detail);
            (rejected.reason(), detail, rejected.envelope.len())
        })
        .collect()
}
