//! The boxes that a message goes to: named one by one, or all that refine has
//! heard of.

use std::{collections::BTreeSet, time::Duration};

use rdkafka::Message as _;
use returnpath_shared::DeviceId;
use tracing::warn;

use crate::kafka::{self, Begin, Next, ReadError, TopicReader, Until};

/// Who reads, towards Kafka.
const OWNER: &str = "returnpath-config";

/// How long to wait for a record before looking again.
const IDLE: Duration = Duration::from_millis(100);

/// Every box of `rp.devices`, in order: some 50 bytes of memory each, 15 MB for
/// 300,000. Blocks its thread.
///
/// # Errors
/// When Kafka cannot be read.
pub(super) fn all(kafka: &kafka::Config) -> Result<BTreeSet<DeviceId>, ReadError> {
    let topic = &kafka.topics.devices;
    let mut reader = TopicReader::open(kafka, OWNER, topic, None, Begin::Oldest, Until::End)?;
    let mut boxes = BTreeSet::new();
    loop {
        let record = match reader.next(IDLE)? {
            Next::Record(record) => record,
            Next::Nothing => continue,
            Next::End => return Ok(boxes),
        };
        let key = str::from_utf8(record.key().unwrap_or_default());
        match key.ok().and_then(|key| key.parse().ok()) {
            Some(device) if record.payload().is_some() => {
                boxes.insert(device);
            }
            // The record says that the box is known no more.
            Some(device) => {
                boxes.remove(&device);
            }
            None => warn!(
                topic = record.topic(),
                partition = record.partition(),
                offset = record.offset(),
                "skipped a record whose key is no device id"
            ),
        }
    }
}
