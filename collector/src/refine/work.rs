//! What refine does with a partition: hands records to the refinery, and what
//! comes out to the open transaction.

use std::{
    convert::Infallible,
    error::Error,
    time::{Duration, Instant},
};

use prost::Message as _;
use returnpath_refinery::{Destination, Output, Partition, RawRecord};
use returnpath_shared::{
    Lane, REJECTED_RECORD_BYTES_MAX,
    wire::{self, Rejected, RejectionReason},
};

use super::{Metrics, completeness::OfPartition};
use crate::{
    exactly_once::{Input, Record, Stand, Work, Writer},
    kafka::TopicNames,
};

/// Room in a rejected record for what stands around the original bytes.
const REJECTED_OVERHEAD_BYTES: usize = 4 * 1024;

/// The topics that hold what refine remembers, in the order in which they are
/// loaded.
pub(super) fn changelogs(names: &TopicNames) -> Vec<String> {
    vec![
        names.refine_state.clone(),
        names.devices.clone(),
        names.completeness.clone(),
    ]
}

/// Places of `rp.devices` and `rp.completeness` among the changelogs; the other
/// one is the state.
const PROFILES: usize = 1;
const COMPLETENESS: usize = 2;

/// How often the sums of what is missing are made anew for metrics. They go
/// over every box of the partition: half a millisecond for 5,000.
const SUM_INTERVAL: Duration = Duration::from_secs(15);

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
                Destination::Completeness => &self.names.completeness,
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

/// What is known of one partition, and what metrics say of it.
pub(super) struct Owned {
    core: Partition,
    completeness: OfPartition,
    summed: Instant,
}

impl Owned {
    fn sum(&mut self) {
        self.completeness.tell(self.core.completeness());
        self.summed = Instant::now();
    }
}

impl Work for Refining {
    /// Most of what it does nobody waits for, and its state is the larger.
    const WORKS_AHEAD: bool = false;

    type Partition = Owned;
    type News = Infallible;

    fn partition(&mut self, number: i32) -> Owned {
        Owned {
            core: Partition::new(),
            completeness: self.metrics.completeness.of_partition(number),
            summed: Instant::now(),
        }
    }

    fn restore(
        &mut self,
        partition: &mut Owned,
        changelog: usize,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        match changelog {
            PROFILES => partition.core.restore_profile(key, value)?,
            COMPLETENESS => partition.core.restore_completeness(key, value)?,
            _ => partition.core.restore(key, value)?,
        }
        Ok(())
    }

    fn resumed(&mut self, partition: &mut Owned, _now_ms: u64) {
        partition.sum();
    }

    fn take(
        &mut self,
        partition: &mut Owned,
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
        self.write(writer, |out| partition.core.refine(&raw, now_ms, out));
        Stand::Done
    }

    fn poll_timeout(&self, partition: &Owned, _now_ms: u64) -> Option<u64> {
        partition.core.poll_timeout()
    }

    fn handle_timeout(
        &mut self,
        partition: &mut Owned,
        now_ms: u64,
        writer: &mut Writer<'_>,
    ) -> Stand {
        self.write(writer, |out| partition.core.handle_timeout(now_ms, out));
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
        _partition: &mut Owned,
        news: Infallible,
        _now_ms: u64,
        _writer: &mut Writer<'_>,
    ) -> Stand {
        match news {}
    }

    fn flush(&mut self, partition: &mut Owned, writer: &mut Writer<'_>) -> Stand {
        if partition.core.waiting() == 0 {
            return Stand::Pending;
        }
        self.write(writer, |out| partition.core.flush(out));
        Stand::Done
    }

    fn lowest_unfinished(&self, partition: &Owned, input: Input) -> Option<i64> {
        partition.core.lowest_waiting_offset(lane(input))
    }

    fn changes(&mut self, partition: &mut Owned, writer: &mut Writer<'_>) {
        self.write(writer, |out| partition.core.changes(out));
    }

    fn committed(&mut self, partition: &mut Owned, _at: Instant) {
        self.metrics.add(&partition.core.commit());
        if partition.summed.elapsed() >= SUM_INTERVAL {
            partition.sum();
        }
    }

    fn aborted(&mut self, partition: &mut Owned) {
        partition.core.abort();
    }

    fn devices(&self, partition: &Owned) -> usize {
        partition.core.devices()
    }
}

/// The assigned topic is `rp.raw`, the followed one `rp.raw.backlog`.
fn lane(input: Input) -> Lane {
    match input {
        Input::Assigned => Lane::Live,
        Input::Followed => Lane::Backlog,
    }
}
