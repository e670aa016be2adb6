//! Recognises a repeated proof: the same thing told twice by a client that got
//! no answer. The agent uses it within its window, refine across restarts.

use crate::wire::{Event, event};

/// What a proof is recognised by, for one device: 128 bits of FNV-1a over the
/// decision id, kind and instance of an ad event, or over the client's own id.
///
/// FNV is enough: keys are compared within one device only, and a box that
/// makes collisions on purpose can only hide its own events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProofKey(pub u128);

/// FNV-1a, 128 bit: offset basis and prime
/// (draft-eastlake-fnv-21, section 5).
const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

impl ProofKey {
    /// The key by which an event is recognised; `None` where nothing names it.
    ///
    /// Ad events have one always (their decision id is needed); others when
    /// the client gave them an id.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        if let Some(event::Kind::AdEvent(ad)) = &event.kind
            && !ad.decision_id.is_empty()
        {
            let mut hash = Fnv(OFFSET);
            hash.write(b"ad\0");
            hash.write(ad.decision_id.as_bytes());
            hash.write(&[0]);
            hash.write(&ad.kind.to_le_bytes());
            hash.write(&ad.instance.to_le_bytes());
            return Some(Self(hash.0));
        }
        if event.client_id.is_empty() {
            return None;
        }
        let mut hash = Fnv(OFFSET);
        hash.write(b"id\0");
        hash.write(event.client_id.as_bytes());
        Some(Self(hash.0))
    }
}

struct Fnv(u128);

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{AdEvent, Consent};

    fn ad(decision_id: &str, kind: i32, instance: u32) -> Event {
        Event {
            kind: Some(event::Kind::AdEvent(AdEvent {
                decision_id: decision_id.into(),
                kind,
                instance,
                ..AdEvent::default()
            })),
            ..Event::default()
        }
    }

    #[test]
    fn ad_events_are_told_apart_by_decision_kind_and_instance() {
        let base = ProofKey::of(&ad("d1", 1, 0)).unwrap();
        assert_eq!(ProofKey::of(&ad("d1", 1, 0)).unwrap(), base);
        for other in [ad("d2", 1, 0), ad("d1", 2, 0), ad("d1", 1, 1)] {
            assert_ne!(ProofKey::of(&other).unwrap(), base);
        }
    }

    #[test]
    fn other_events_are_recognised_by_the_clients_id_only() {
        let consent = |client_id: &str| Event {
            client_id: client_id.into(),
            kind: Some(event::Kind::Consent(Consent::default())),
            ..Event::default()
        };
        assert_eq!(ProofKey::of(&consent("")), None);
        assert_eq!(ProofKey::of(&consent("a")), ProofKey::of(&consent("a")));
        assert_ne!(ProofKey::of(&consent("a")), ProofKey::of(&consent("b")));
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // Test vectors of the same draft, appendix C: empty, "a", "foobar".
        for (text, expected) in [
            ("", OFFSET),
            ("a", 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964),
            ("foobar", 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18),
        ] {
            let mut hash = Fnv(OFFSET);
            hash.write(text.as_bytes());
            assert_eq!(hash.0, expected, "{text:?}");
        }
    }
}
