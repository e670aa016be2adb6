//! The open batch: events are encoded as they come, because decoded they
//! would take several times the memory.

use alloc::vec::Vec;

use prost::encoding::{fixed64, message, uint64};
use returnpath_shared::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, Class, Kind, Ordinal, Packed, Stream, Urgency, pack_encoded,
    wire,
};

use crate::Uptime;

/// Bytes of a batch beside its events: boot id and first ordinal.
const HEADER_BYTES_MAX: usize = 9 + 11;

/// Bytes that precede an event in its batch: tag and length.
const EVENT_FRAME_BYTES_MAX: usize = 4;

/// The longest encoded event that fits a batch of its own.
pub(crate) const EVENT_BYTES_MAX: usize =
    BATCH_BYTES_MAX - HEADER_BYTES_MAX - EVENT_FRAME_BYTES_MAX;

#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) first_ordinal: Ordinal,
    pub(crate) events: u16,
    pub(crate) class: Class,
    pub(crate) urgency: Urgency,
    pub(crate) viewing: bool,
    /// When its first event was taken.
    pub(crate) opened_at: Uptime,
    encoded: Vec<u8>,
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
            urgency: Urgency::Batched,
            viewing: false,
            opened_at: now,
            encoded,
        }
    }

    /// Whether an event of this encoded length still fits.
    pub(crate) fn fits(&self, event_bytes: usize) -> bool {
        usize::from(self.events) < BATCH_EVENTS_MAX
            && self.encoded.len() + event_bytes + EVENT_FRAME_BYTES_MAX <= BATCH_BYTES_MAX
    }

    pub(crate) fn push(&mut self, event: &wire::Event) {
        self.events += 1;
        self.class = self.class.max(Class::of(event));
        self.urgency = self.urgency.max(Urgency::of(event));
        self.viewing |= says_what_was_viewed(event);
        message::encode(3, event, &mut self.encoded);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.encoded.len()
    }

    pub(crate) fn pack(self) -> Packed {
        pack_encoded(self.encoded)
    }
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
            (open.class, open.urgency, open.viewing),
            (Class::Ordinary, Urgency::Batched, true)
        );
        open.push(&event(wire::event::Kind::Consent(wire::Consent::default())));
        assert_eq!((open.class, open.urgency), (Class::Proof, Urgency::Urgent));
        open.push(&event(wire::event::Kind::Power(wire::Power::default())));
        assert_eq!((open.class, open.urgency), (Class::Proof, Urgency::Urgent));
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
