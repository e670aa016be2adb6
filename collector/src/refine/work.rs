//! What refine does with a partition: hands records to the refinery, and what
//! comes out to the open transaction.

use std::{convert::Infallible, error::Error};

use prost::Message as _;
use returnpath_refinery::{Destination, Output, Partition, RawRecord};
use returnpath_shared::{
    Lane, REJECTED_RECORD_BYTES_MAX,
    wire::{self, Rejected, RejectionReason},
};

use super::Metrics;
use crate::{
    exactly_once::{Input, Record, Stand, Work, Writer},
    kafka::TopicNames,
};

/// Room in a rejected record for what stands around the original bytes.
const REJECTED_OVERHEAD_BYTES: usize = 4 * 1024;

/// The topics that hold what refine remembers, in the order in which they are
/// loaded.
pub(super) fn changelogs(names: &TopicNames) -> Vec<String> {
    vec![names.refine_state.clone(), names.devices.clone()]
}

/// Place of `rp.devices` among the changelogs; the other one is the state.
const PROFILES: usize = 1;

/// What the partitions share.
pub(super) struct Refining {
    names: TopicNames,
    metrics: Metrics,
    out: Output,
}

impl Refining {
    pub(super) fn new(names: TopicNames, metrics: Metrics) -> Self {
        Self {
            names,
            metrics,
            out: Output::new(),
        }
    }

    /// Lets the refinery do something, and writes what comes of it.
    fn write(&mut self, writer: &mut Writer<'_>, refine: impl FnOnce(&mut Output)) {
        self.out.clear();
        refine(&mut self.out);
        for record in self.out.records() {
            let topic = match record.destination {
                Destination::Refined(stream) => self.names.refined(stream),
                Destination::Rejected => &self.names.rejected,
                Destination::State => &self.names.refine_state,
                Destination::Device => &self.names.devices,
                Destination::Opportunity => &self.names.opportunities,
            };
            writer.write(topic, record.key, record.value);
        }
        if self.out.is_urgent() {
            writer.urge();
        }
    }

    /// Writes a rejection without the original bytes, which are too many to be
    /// copied.
    fn reject_too_large(&self, record: &Record<'_>, writer: &mut Writer<'_>) {
        self.metrics.oversize.inc();
        let lane = lane(record.input);
        let rejected = Rejected {
            reason: RejectionReason::TooLarge.into(),
            detail: format!(
                "{} bytes at {}[{}]@{}, left there: too large to be copied",
                record.value.len(),
                self.names.raw(lane),
                record.partition,
                record.offset
            ),
            key: record.key.to_vec().into(),
            lane: match lane {
                Lane::Live => wire::Lane::Live,
                Lane::Backlog => wire::Lane::Backlog,
            }
            .into(),
            received_unix_ms: record.timestamp_unix_ms,
            ..Rejected::default()
        };
        let value = rejected.encode_to_vec();
        writer.write(&self.names.rejected, record.key, Some(&value));
    }
}

impl Work for Refining {
    type Partition = Partition;
    type News = Infallible;

    fn partition(&mut self, _number: i32) -> Partition {
        Partition::new()
    }

    fn restore(
        &mut self,
        partition: &mut Partition,
        changelog: usize,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        if changelog == PROFILES {
            partition.restore_profile(key, value)?;
        } else {
            partition.restore(key, value)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        partition: &mut Partition,
        record: &Record<'_>,
        now_ms: u64,
        writer: &mut Writer<'_>,
    ) -> Stand {
        if record.value.len() > REJECTED_RECORD_BYTES_MAX - REJECTED_OVERHEAD_BYTES {
            self.reject_too_large(record, writer);
            return Stand::Done;
        }
        let raw = RawRecord {
            key: record.key,
            value: record.value,
            lane: lane(record.input),
            received_unix_ms: record.timestamp_unix_ms,
            offset: record.offset,
        };
        self.write(writer, |out| partition.refine(&raw, now_ms, out));
        Stand::Done
    }

    fn poll_timeout(&self, partition: &Partition, _now_ms: u64) -> Option<u64> {
        partition.poll_timeout()
    }

    fn handle_timeout(
        &mut self,
        partition: &mut Partition,
        now_ms: u64,
        writer: &mut Writer<'_>,
    ) -> Stand {
        self.write(writer, |out| partition.handle_timeout(now_ms, out));
        Stand::Done
    }

    fn news(&mut self) -> Option<(i32, Infallible)> {
        None
    }

    fn disregard(&mut self, news: Infallible) {
        match news {}
    }

    fn hear(
        &mut self,
        _partition: &mut Partition,
        news: Infallible,
        _now_ms: u64,
        _writer: &mut Writer<'_>,
    ) -> Stand {
        match news {}
    }

    fn flush(&mut self, partition: &mut Partition, writer: &mut Writer<'_>) -> Stand {
        if partition.waiting() == 0 {
            return Stand::Pending;
        }
        self.write(writer, |out| partition.flush(out));
        Stand::Done
    }

    fn lowest_unfinished(&self, partition: &Partition, input: Input) -> Option<i64> {
        partition.lowest_waiting_offset(lane(input))
    }

    fn changes(&mut self, partition: &Partition, writer: &mut Writer<'_>) {
        self.write(writer, |out| partition.changes(out));
    }

    fn committed(&mut self, partition: &mut Partition) {
        self.metrics.add(&partition.commit());
    }

    fn aborted(&mut self, partition: &mut Partition) {
        partition.abort();
    }

    fn devices(&self, partition: &Partition) -> usize {
        partition.devices()
    }
}

/// The assigned topic is `rp.raw`, the followed one `rp.raw.backlog`.
fn lane(input: Input) -> Lane {
    match input {
        Input::Assigned => Lane::Live,
        Input::Followed => Lane::Backlog,
    }
}
