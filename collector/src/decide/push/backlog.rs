//! What waits for the broker and what is on its way there: bounded, in order,
//! each until it expires. Changes state and never waits; the time is an
//! argument.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use returnpath_shared::DeviceId;

/// Pushes that wait at most: 500 decisions/s over 8 s without a broker, longer
/// than a decision mostly lives. Of some 500 bytes each, 2 MB.
pub(super) const WAITING_MAX: usize = 4_096;

/// Pushes that the broker has not acknowledged, at most: each names one packet
/// id. Brokers grant fewer (Mosquitto 20 unless told otherwise), and a window
/// of 256 carries 25,000/s at 10 ms.
const IN_FLIGHT_MAX: u16 = 256;

/// One push and what it is judged by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Where its confirmation belongs.
    pub(super) partition: i32,
    pub(super) device: DeviceId,
    pub(super) decision_id: Arc<str>,
    /// An encoded `SignedDecision`.
    pub(super) payload: Bytes,
    /// The broker need not have it later.
    pub(super) expires: Instant,
}

/// Pushes on their way to the broker.
#[derive(Debug)]
pub(super) struct Backlog {
    waiting: VecDeque<Entry>,
    /// By packet id less one, each with when it went out.
    in_flight: Vec<Option<(Entry, Instant)>>,
    free: Vec<u16>,
    under_way: usize,
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            free: Vec::new(),
            under_way: 0,
        }
    }

    /// A connection began: its broker takes `receive_maximum` packets ahead of
    /// its acknowledgements. What the last one had not acknowledged goes out
    /// again, before the rest, the soonest to expire ahead: a box that gets one
    /// twice knows it.
    pub(super) fn connected(&mut self, receive_maximum: Option<u16>) {
        let again = self.in_flight.drain(..).flatten();
        let mut again: Vec<Entry> = again.map(|(entry, _)| entry).collect();
        again.sort_by_key(|entry| entry.expires);
        for entry in again.into_iter().rev() {
            self.waiting.push_front(entry);
        }
        let window = receive_maximum.unwrap_or(u16::MAX).clamp(1, IN_FLIGHT_MAX);
        self.in_flight.resize(usize::from(window), None);
        self.free = (1..=window).rev().collect();
        self.under_way = 0;
    }

    /// Takes a push to the end of those that wait.
    ///
    /// # Errors
    /// Gives it back where there is no room.
    pub(super) fn admit(&mut self, entry: Entry) -> Result<(), Entry> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(entry);
        }
        self.waiting.push_back(entry);
        Ok(())
    }

    /// Drops what has waited past its expiry, and says how many those were.
    pub(super) fn expire(&mut self, now: Instant) -> u64 {
        let before = self.waiting.len();
        self.waiting.retain(|entry| entry.expires > now);
        (before - self.waiting.len()) as u64
    }

    /// The next to go out, under its packet id; `None` where nothing waits or
    /// the window is full.
    pub(super) fn next(&mut self, now: Instant) -> Option<(u16, &Entry)> {
        if self.waiting.is_empty() {
            return None;
        }
        let packet_id = self.free.pop()?;
        let slot = self.in_flight.get_mut(usize::from(packet_id) - 1)?;
        let entry = self.waiting.pop_front()?;
        self.under_way += 1;
        let (entry, _) = slot.insert((entry, now));
        Some((packet_id, entry))
    }

    /// The broker acknowledged a packet. `None` where it was none of ours.
    pub(super) fn acknowledged(&mut self, packet_id: u16) -> Option<Entry> {
        let place = usize::from(packet_id).checked_sub(1)?;
        let (entry, _) = self.in_flight.get_mut(place)?.take()?;
        self.free.push(packet_id);
        self.under_way -= 1;
        Some(entry)
    }

    /// When the one went out that has waited longest for its acknowledgement.
    pub(super) fn unacknowledged_since(&self) -> Option<Instant> {
        self.in_flight.iter().flatten().map(|(_, sent)| *sent).min()
    }

    /// Pushes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Pushes without acknowledgement.
    pub(super) fn in_flight(&self) -> usize {
        self.under_way
    }

    /// Whether nothing is left to do.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }
}

/// MQTT's message expiry interval: whole seconds, at least the rest of the
/// time, so that a box that reads late still gets what it may show. A box
/// judges by its own clock; this only keeps brokers from piling up.
pub(super) fn expiry_seconds(left: Duration) -> u32 {
    /// Longest that a broker keeps a decision: a box that is away for longer
    /// asks again.
    const SECONDS_MAX: u64 = 60;

    let seconds = left.as_millis().div_ceil(1_000);
    u32::try_from(seconds.clamp(1, SECONDS_MAX.into())).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(number: u64, expires: Instant) -> Entry {
        Entry {
            partition: 0,
            device: "box-1".parse().unwrap(),
            decision_id: number.to_string().into(),
            payload: Bytes::new(),
            expires,
        }
    }

    fn id(entry: &Entry) -> u64 {
        entry.decision_id.parse().unwrap()
    }

    #[test]
    fn a_push_waits_for_the_window_and_no_longer_than_it_lives() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut backlog = Backlog::new();
        for (number, ms) in [(1, 100), (2, 50), (3, 100)] {
            backlog.admit(entry(number, at(ms))).unwrap();
        }
        assert!(backlog.next(now).is_none(), "no connection yet");
        backlog.connected(Some(1));
        let (packet_id, first) = backlog.next(now).unwrap();
        assert_eq!((packet_id, id(first)), (1, 1));
        assert!(backlog.next(now).is_none(), "the window is full");
        assert_eq!(backlog.expire(at(60)), 1);
        assert_eq!(backlog.acknowledged(2), None);
        assert_eq!(id(&backlog.acknowledged(1).unwrap()), 1);
        assert_eq!(backlog.acknowledged(1), None);
        assert_eq!(id(backlog.next(now).unwrap().1), 3);
    }

    #[test]
    fn what_a_lost_connection_had_under_way_goes_out_first_on_the_next() {
        let now = Instant::now();
        let later = |ms| now + Duration::from_millis(ms);
        let mut backlog = Backlog::new();
        backlog.connected(Some(2));
        for number in 1..=3 {
            backlog.admit(entry(number, later(number))).unwrap();
        }
        while backlog.next(now).is_some() {}
        assert_eq!((backlog.waiting(), backlog.in_flight()), (1, 2));
        backlog.connected(None);
        let mut order = Vec::new();
        while let Some((_, entry)) = backlog.next(now) {
            order.push(id(entry));
        }
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn past_the_bound_a_push_is_given_back() {
        let now = Instant::now();
        let mut backlog = Backlog::new();
        for _ in 0..WAITING_MAX {
            backlog.admit(entry(0, now)).unwrap();
        }
        assert_eq!(id(&backlog.admit(entry(7, now)).unwrap_err()), 7);
    }

    #[test]
    fn a_broker_keeps_a_decision_for_whole_seconds_and_never_for_ever() {
        for (ms, expected) in [
            (0, 1),
            (1, 1),
            (1_000, 1),
            (1_001, 2),
            (60_000, 60),
            (3_600_000, 60),
        ] {
            assert_eq!(expiry_seconds(Duration::from_millis(ms)), expected, "{ms}");
        }
    }

    proptest! {
        #[test]
        fn every_push_ends_once_whatever_the_broker_does(
            steps in prop::collection::vec((0..5_u8, 1..8_u16), 1..200),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut backlog = Backlog::new();
            let (mut admitted, mut ended) = (0_u64, 0_u64);
            let mut window = 0;
            for (step, number) in steps {
                match step {
                    0 => {
                        let expires = now + Duration::from_millis(number.into());
                        backlog.admit(entry(admitted, expires)).unwrap();
                        admitted += 1;
                    }
                    1 => {
                        backlog.connected(Some(number));
                        window = usize::from(number);
                    }
                    2 => while backlog.next(now).is_some() {},
                    3 => ended += u64::from(backlog.acknowledged(number).is_some()),
                    _ => {
                        now += Duration::from_millis(number.into());
                        ended += backlog.expire(now);
                    }
                }
                prop_assert!(backlog.in_flight() <= window);
                let left = (backlog.waiting() + backlog.in_flight()) as u64;
                prop_assert_eq!(admitted, ended + left);
            }
        }
    }
}
