//! The open batch: events are encoded as they come, because decoded they
//! would take several times the memory.

use alloc::vec::Vec;

use prost::encoding::{fixed64, message, uint64};
use returnpath_shared::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Class, Kind, Ordinal, Packed, Stream, Urgency, pack_encoded,
    wire,
};

use crate::{StoredBatch, Uptime};

/// Bytes of a batch beside its events: boot id and first ordinal.
const HEADER_BYTES_MAX: usize = 9 + 11;

/// Bytes that precede an event in its batch: tag and length.
const EVENT_FRAME_BYTES_MAX: usize = 4;

/// The longest encoded event that fits a batch of its own.
pub(crate) const EVENT_BYTES_MAX: usize =
    BATCH_BYTES_MAX - HEADER_BYTES_MAX - EVENT_FRAME_BYTES_MAX;

#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) first_ordinal: Ordinal,
    pub(crate) events: u16,
    pub(crate) class: Class,
    pub(crate) viewing: bool,
    /// When its first event was taken.
    pub(crate) opened_at: Uptime,
    /// What the queue file holds of it; a batch that goes on growing.
    pub(crate) stored: Option<Stored>,
    /// Of what the file does not hold.
    pub(crate) added: Added,
    encoded: Vec<u8>,
}

/// The events of an open batch that no queue file holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Added {
    pub(crate) class: Class,
    pub(crate) urgency: Urgency,
    viewing: bool,
    /// When the first of them was taken.
    pub(crate) since: Uptime,
}

/// The beginning of an open batch, as the queue file holds it under the
/// sequence that the whole will have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) batch: StoredBatch,
    /// How many of the agent's own events are in it.
    pub(crate) own_events: usize,
    encoded_bytes: usize,
}

impl Open {
    pub(crate) fn new(boot_id: u64, first_ordinal: Ordinal, now: Uptime) -> Self {
        let mut encoded = Vec::new();
        fixed64::encode(1, &boot_id, &mut encoded);
        uint64::encode(2, &first_ordinal.0, &mut encoded);
        Self {
            first_ordinal,
            events: 0,
            class: Class::Ordinary,
            viewing: false,
            opened_at: now,
            stored: None,
            added: Added::since(now),
            encoded,
        }
    }

    /// Goes on with a batch that the queue file holds.
    pub(crate) fn reopen(&mut self, batch: StoredBatch, own_events: usize, now: Uptime) {
        self.stored = Some(Stored {
            batch,
            own_events,
            encoded_bytes: self.encoded.len(),
        });
        self.added = Added::since(now);
    }

    /// Parts what the queue file holds, which is named by its row, from what
    /// was added, which becomes a batch of its own.
    pub(crate) fn split(&self, boot_id: u64) -> Option<(Stored, Self)> {
        let stored = self.stored?;
        let Stored {
            batch,
            encoded_bytes,
            ..
        } = stored;
        let first_ordinal = self.first_ordinal.plus(u64::from(batch.events));
        let mut rest = Self::new(boot_id, first_ordinal, self.added.since);
        let added = self.encoded.get(encoded_bytes..)?;
        rest.encoded.extend_from_slice(added);
        rest.events = self.events - batch.events;
        rest.class = self.added.class;
        rest.viewing = self.added.viewing;
        rest.added = self.added;
        Some((stored, rest))
    }

    /// What the queue file holds of it, packed as it is there.
    pub(crate) fn pack_stored(mut self) -> Packed {
        if let Some(stored) = self.stored {
            self.encoded.truncate(stored.encoded_bytes);
        }
        pack_encoded(self.encoded)
    }

    /// Takes over the events of a batch that follows this one.
    pub(crate) fn append(&mut self, later: &Self) {
        let events = &later.encoded[header(later.first_ordinal)..];
        self.encoded.extend_from_slice(events);
        self.events += later.events;
        self.class = self.class.max(later.class);
        self.viewing |= later.viewing;
        self.added.class = self.added.class.max(later.class);
        self.added.urgency = self.added.urgency.max(later.added.urgency);
        self.added.viewing |= later.viewing;
    }

    /// Whether the events of a batch that follows this one still fit.
    pub(crate) fn fits_all(&self, later: &Self) -> bool {
        usize::from(self.events) + usize::from(later.events) <= BATCH_EVENTS_MAX
            && self.encoded.len() + later.encoded.len() <= BATCH_BYTES_MAX
    }

    /// Whether an event of this encoded length still fits.
    pub(crate) fn fits(&self, event_bytes: usize) -> bool {
        usize::from(self.events) < BATCH_EVENTS_MAX
            && self.encoded.len() + event_bytes + EVENT_FRAME_BYTES_MAX <= BATCH_BYTES_MAX
    }

    pub(crate) fn push(&mut self, event: &wire::Event) {
        let (class, viewing) = (Class::of(event), says_what_was_viewed(event));
        self.events += 1;
        self.class = self.class.max(class);
        self.viewing |= viewing;
        self.added.class = self.added.class.max(class);
        self.added.urgency = self.added.urgency.max(Urgency::of(event));
        self.added.viewing |= viewing;
        message::encode(3, event, &mut self.encoded);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.encoded.len()
    }

    pub(crate) fn pack(self) -> Packed {
        pack_encoded(self.encoded)
    }
}

impl Added {
    fn since(now: Uptime) -> Self {
        Self {
            class: Class::Ordinary,
            urgency: Urgency::Batched,
            viewing: false,
            since: now,
        }
    }
}

/// Bytes that precede the events of a batch.
fn header(first_ordinal: Ordinal) -> usize {
    1 + size_of::<u64>() + uint64::encoded_len(2, &first_ordinal.0)
}

/// Whether consent to measuring covers this event: everything that goes to
/// `rp.viewing`, and opportunities, which carry the channel and the last one.
fn says_what_was_viewed(event: &wire::Event) -> bool {
    Kind::of(event)
        .is_some_and(|kind| kind == Kind::AdOpportunity || kind.stream() == Stream::Viewing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use returnpath_shared::unpack;

    fn event(kind: wire::event::Kind) -> wire::Event {
        wire::Event {
            uptime_ms: 77,
            kind: Some(kind),
            ..wire::Event::default()
        }
    }

    #[test]
    fn what_is_appended_decodes_as_a_batch() {
        let tune = event(wire::event::Kind::Tune(wire::Tune {
            content_id: "news at ten".into(),
            ..wire::Tune::default()
        }));
        let mut open = Open::new(9, Ordinal(300), Uptime(5));
        for _ in 0..40 {
            open.push(&tune);
        }
        let packed = open.pack();
        let batch = unpack(packed.codec as i32, packed.bytes).unwrap();
        let expected = wire::Batch {
            boot_id: 9,
            first_ordinal: 300,
            events: vec![tune; 40],
        };
        assert_eq!(batch, expected);
    }

    #[test]
    fn class_and_urgency_are_the_highest_inside() {
        let mut open = Open::new(1, Ordinal(1), Uptime(0));
        open.push(&event(wire::event::Kind::Power(wire::Power::default())));
        assert_eq!(
            (open.class, open.added.urgency, open.viewing),
            (Class::Ordinary, Urgency::Batched, true)
        );
        open.push(&event(wire::event::Kind::Consent(wire::Consent::default())));
        assert_eq!(
            (open.class, open.added.urgency),
            (Class::Proof, Urgency::Urgent)
        );
        open.push(&event(wire::event::Kind::Power(wire::Power::default())));
        assert_eq!(
            (open.class, open.added.urgency),
            (Class::Proof, Urgency::Urgent)
        );
    }

    #[test]
    fn health_says_nothing_of_viewing_and_an_opportunity_does() {
        for (kind, viewing) in [
            (wire::event::Kind::Health(wire::Health::default()), false),
            (wire::event::Kind::Boot(wire::Boot::default()), false),
            (wire::event::Kind::Custom(wire::Custom::default()), false),
            (
                wire::event::Kind::AdOpportunity(wire::AdOpportunity::default()),
                true,
            ),
            (
                wire::event::Kind::UserActivity(wire::UserActivity::default()),
                true,
            ),
        ] {
            assert_eq!(
                says_what_was_viewed(&event(kind.clone())),
                viewing,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_batch_is_full_at_its_bytes_or_its_events() {
        let mut open = Open::new(u64::MAX, Ordinal(u64::MAX), Uptime(0));
        assert!(open.fits(EVENT_BYTES_MAX));
        assert!(!open.fits(EVENT_BYTES_MAX + 1));
        let tiny = event(wire::event::Kind::UserActivity(
            wire::UserActivity::default(),
        ));
        for _ in 0..BATCH_EVENTS_MAX {
            assert!(open.fits(2));
            open.push(&tiny);
        }
        assert!(!open.fits(2));
        assert!(open.bytes() < BATCH_BYTES_MAX);
    }
}
