//! A partition that is ours: its state, and how far both of its lanes were read.
//!
//! Asks nothing of Kafka, and does not know how a transaction ends.

use rdkafka::{Message as _, message::BorrowedMessage};
use returnpath_refinery::{Output, Partition, RawRecord};
use returnpath_shared::{
    Lane, REJECTED_RECORD_BYTES_MAX,
    wire::{self, Rejected, RejectionReason},
};

use crate::refine::source::Positions;

/// Room in a rejected record for what stands around the original bytes.
const REJECTED_OVERHEAD_BYTES: usize = 4 * 1024;

/// A partition that is ours.
pub(super) struct Owned {
    pub(super) state: Partition,
    /// What is read next.
    pub(super) next: Positions,
    /// What Kafka has of it.
    pub(super) committed: Positions,
    /// Whether the open transaction concerns it.
    pub(super) is_touched: bool,
}

impl Owned {
    /// Gives one record to the refinery; one that is too large to be copied to
    /// the rejected topic comes back as a rejection without its bytes.
    pub(super) fn take(
        &mut self,
        lane: Lane,
        message: &BorrowedMessage<'_>,
        now_ms: u64,
        out: &mut Output,
        oversize: &mut Option<Rejected>,
    ) {
        let value = message.payload().unwrap_or_default();
        let received_unix_ms = message.timestamp().to_millis().unwrap_or_default();
        let offset = message.offset();
        self.next.set(lane, offset + 1);
        self.is_touched = true;
        if value.len() > REJECTED_RECORD_BYTES_MAX - REJECTED_OVERHEAD_BYTES {
            *oversize = Some(too_large(lane, message, value.len(), received_unix_ms));
            return;
        }
        let record = RawRecord {
            key: message.key().unwrap_or_default(),
            value,
            lane,
            received_unix_ms,
            offset,
        };
        self.state.refine(&record, now_ms, out);
    }

    /// What waits has to be read again by the next owner.
    pub(super) fn to_commit(&self) -> Positions {
        let mut positions = self.next;
        for lane in Lane::ALL {
            if let Some(offset) = self.state.lowest_waiting_offset(lane) {
                positions.set(lane, offset);
            }
        }
        positions
    }
}

fn too_large(
    lane: Lane,
    message: &BorrowedMessage<'_>,
    length: usize,
    received_unix_ms: i64,
) -> Rejected {
    Rejected {
        reason: RejectionReason::TooLarge.into(),
        detail: format!(
            "{length} bytes at {}[{}]@{}, left there: too large to be copied",
            message.topic(),
            message.partition(),
            message.offset()
        ),
        key: message.key().unwrap_or_default().to_vec().into(),
        lane: match lane {
            Lane::Live => wire::Lane::Live,
            Lane::Backlog => wire::Lane::Backlog,
        }
        .into(),
        received_unix_ms,
        ..Rejected::default()
    }
}
