//! How many batches may be in flight without receipt, and what silence does.
//!
//! Receipts let the window grow by one each; silence (a batch is overdue and
//! nothing at all was receipted since it was sent) halves it, once for what
//! was sent before; at one batch it probes, with growing and jittered pauses.
//! A single batch that is overdue while others are receipted was lost alone:
//! it is sent again, and the window stays.

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

use returnpath_shared::Lane;

use crate::{Uptime, held::Place, jitter::Jitter, time::ms};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flight {
    /// Its bytes are being read from the queue file.
    Loading {
        /// The lane that it was chosen for.
        lane: Lane,
        /// Reads are answered in the order of their requests.
        request: u64,
    },
    /// Published.
    Sent { lane: Lane, at: Uptime, due: Uptime },
}

impl Flight {
    fn lane(self) -> Lane {
        match self {
            Self::Loading { lane, .. } | Self::Sent { lane, .. } => lane,
        }
    }
}

/// What is to be done with bytes that were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loaded {
    Send(Lane),
    /// Read again when there is.
    NoRoom,
    Unwanted,
}

#[derive(Debug)]
pub(crate) struct Window {
    flights: BTreeMap<Place, Flight>,
    limit: u32,
    limit_max: u32,
    requests: u64,
    /// Flights sent before this moment have halved the window already.
    halved_at: Option<Uptime>,
    last_receipt_at: Option<Uptime>,
    /// Probes in a row without a receipt.
    silent_probes: u32,
    /// Nothing is sent before this.
    quiet_until: Uptime,
    pause_base: Duration,
    pause_max: Duration,
}

impl Window {
    pub(crate) fn new(limit_max: u32, pause_base: Duration, pause_max: Duration) -> Self {
        let limit_max = limit_max.max(1);
        Self {
            flights: BTreeMap::new(),
            limit: (limit_max / 2).max(1),
            limit_max,
            requests: 0,
            halved_at: None,
            last_receipt_at: None,
            silent_probes: 0,
            quiet_until: Uptime(0),
            pause_base,
            pause_max,
        }
    }

    pub(crate) fn set_limit_max(&mut self, limit_max: u32) {
        self.limit_max = limit_max.max(1);
        self.limit = self.limit.min(self.limit_max);
    }

    /// Nothing sent before is under way for certain. A new link begins with
    /// half the window; one that comes in the middle of silence changes
    /// nothing, or rebuilding the link would turn probing into a storm.
    pub(crate) fn link_changed(&mut self) {
        self.flights.clear();
        if self.silent_probes == 0 {
            self.limit = (self.limit_max / 2).max(1);
        }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Batches that were sent and have no receipt.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights
            .values()
            .filter(|flight| matches!(flight, Flight::Sent { .. }))
            .count()
    }

    pub(crate) fn flight(&self, place: Place) -> Option<Flight> {
        self.flights.get(&place).copied()
    }

    /// From when on there is room for a batch of this lane; `None` while there
    /// is none. Backlog takes at most three quarters of the window.
    pub(crate) fn open_from(&self, lane: Lane) -> Option<Uptime> {
        let in_flight = self.flights.len();
        let limit = self.limit as usize;
        let room = match lane {
            Lane::Live => in_flight < limit,
            Lane::Backlog => {
                let backlog = self
                    .flights
                    .values()
                    .filter(|flight| flight.lane() == Lane::Backlog)
                    .count();
                in_flight < limit && backlog < (limit - limit / 4).max(1)
            }
        };
        room.then_some(self.quiet_until)
    }

    /// Whether a batch of this lane is being read: what follows it in the lane
    /// has to wait, or it would overtake.
    pub(crate) fn is_loading(&self, lane: Lane) -> bool {
        self.flights.values().any(
            |flight| matches!(flight, Flight::Loading { lane: loading, .. } if *loading == lane),
        )
    }

    /// Its bytes are being read.
    pub(crate) fn loading(&mut self, place: Place, lane: Lane) {
        self.requests += 1;
        let request = self.requests;
        self.set(place, Flight::Loading { lane, request });
    }

    /// The bytes of a batch were read: the lane to send it by, if it is still
    /// wanted and there is still room. An answer that comes before that of an
    /// earlier request belongs to a request since forgotten.
    pub(crate) fn loaded(&mut self, place: Place, now: Uptime) -> Loaded {
        let Some(Flight::Loading { lane, request }) = self.flight(place) else {
            return Loaded::Unwanted;
        };
        let is_stale = self.flights.values().any(|flight| {
            matches!(flight, Flight::Loading { lane: other, request: earlier }
                if *other == lane && *earlier < request)
        });
        if is_stale {
            return Loaded::Unwanted;
        }
        self.flights.remove(&place);
        if self.in_flight() < self.limit as usize && self.quiet_until <= now {
            return Loaded::Send(lane);
        }
        // The window closed meanwhile. Those behind it are read again too, or
        // they might overtake.
        self.flights.retain(
            |_, flight| !matches!(flight, Flight::Loading { lane: other, .. } if *other == lane),
        );
        Loaded::NoRoom
    }

    pub(crate) fn set(&mut self, place: Place, flight: Flight) {
        self.flights.insert(place, flight);
    }

    /// The batch is out of flight without saying anything about the way.
    pub(crate) fn forget(&mut self, place: Place) {
        self.flights.remove(&place);
    }

    /// The collector has answered for this batch.
    pub(crate) fn receipted(&mut self, place: Place, now: Uptime) {
        if self.flights.remove(&place).is_some() {
            self.limit = (self.limit + 1).min(self.limit_max);
        }
        self.last_receipt_at = Some(now);
        self.silent_probes = 0;
        self.quiet_until = Uptime(0);
    }

    /// The next flight that will be overdue.
    pub(crate) fn next_due(&self) -> Option<Uptime> {
        self.flights
            .values()
            .filter_map(|flight| match flight {
                Flight::Sent { due, .. } => Some(*due),
                Flight::Loading { .. } => None,
            })
            .min()
    }

    /// Takes what is overdue out of flight.
    pub(crate) fn expire(&mut self, jitter: &mut Jitter, now: Uptime) -> Vec<Place> {
        let overdue: Vec<(Place, Uptime)> = self
            .flights
            .iter()
            .filter_map(|(place, flight)| match flight {
                Flight::Sent { at, due, .. } if *due <= now => Some((*place, *at)),
                Flight::Sent { .. } | Flight::Loading { .. } => None,
            })
            .collect();
        for (place, at) in &overdue {
            self.flights.remove(place);
            if self.last_receipt_at.is_none_or(|receipt| receipt < *at) {
                self.silence(*at, jitter, now);
            }
        }
        overdue.into_iter().map(|(place, _)| place).collect()
    }

    /// The broker did not take it this time: pressure, like silence, and never
    /// tried again at once.
    pub(crate) fn not_taken(&mut self, place: Place, jitter: &mut Jitter, now: Uptime) {
        // What an earlier link gave back may be on its way again already.
        if let Some(Flight::Sent { at, .. }) = self.flight(place) {
            self.flights.remove(&place);
            self.silence(at, jitter, now);
            if self.quiet_until <= now {
                self.pause(jitter, now);
            }
        }
    }

    fn silence(&mut self, sent_at: Uptime, jitter: &mut Jitter, now: Uptime) {
        if self.halved_at.is_some_and(|halved| sent_at < halved) {
            return;
        }
        self.halved_at = Some(now);
        if self.limit > 1 {
            self.limit /= 2;
        } else {
            self.pause(jitter, now);
        }
    }

    /// Between half and the whole of a bound that doubles.
    fn pause(&mut self, jitter: &mut Jitter, now: Uptime) {
        let bound_ms = ms(self.pause_base)
            .saturating_mul(1 << self.silent_probes.min(32))
            .min(ms(self.pause_max));
        self.silent_probes = self.silent_probes.saturating_add(1);
        let pause_ms = bound_ms / 2 + jitter.below(bound_ms / 2 + 1);
        self.quiet_until = self.quiet_until.max(Uptime(now.0.saturating_add(pause_ms)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use returnpath_shared::{BatchId, Class, Epoch, Incarnation, Ordinal, Sequence, wire};

    use crate::{Powered, StoredBatch, held::Held};

    const PAUSE: Duration = Duration::from_secs(10);
    const PAUSE_MAX: Duration = Duration::from_secs(300);

    fn places() -> Vec<Place> {
        let mut held = Held::default();
        let epoch = Epoch {
            incarnation: Incarnation::new(1).unwrap(),
            start: 1,
        };
        let batch = |sequence| StoredBatch {
            id: BatchId {
                epoch,
                sequence: Sequence(sequence),
            },
            boot_id: 1,
            class: Class::Ordinary,
            codec: wire::Codec::Identity,
            size_bytes: 1,
            first_ordinal: Ordinal(sequence),
            events: 1,
            viewing: false,
            opened: Powered::default(),
        };
        (1..=40)
            .filter_map(|sequence| held.insert(&batch(sequence), true))
            .collect()
    }

    fn sent(at: u64) -> Flight {
        Flight::Sent {
            lane: Lane::Live,
            at: Uptime(at),
            due: Uptime(at + 10_000),
        }
    }

    fn filled(limit_max: u32, at: u64) -> Window {
        let mut window = Window::new(limit_max, PAUSE, PAUSE_MAX);
        for place in places() {
            if window.open_from(Lane::Live).is_some() {
                window.set(place, sent(at));
            }
        }
        window
    }

    #[test]
    fn a_window_begins_at_half_and_grows_by_one_a_receipt_up_to_its_bound() {
        let mut window = filled(8, 0);
        let mut limits = vec![window.limit()];
        for place in places() {
            window.set(place, sent(0));
            window.receipted(place, Uptime(1));
            limits.push(window.limit());
        }
        assert_eq!(limits[..6], [4, 5, 6, 7, 8, 8]);
    }

    #[test]
    fn silence_halves_once_for_everything_that_was_sent_before() {
        let mut window = filled(32, 0);
        let mut jitter = Jitter::new(1);
        assert_eq!(window.in_flight(), 16);
        assert_eq!(window.expire(&mut jitter, Uptime(10_000)).len(), 16);
        assert_eq!((window.limit(), window.in_flight()), (8, 0));
    }

    #[test]
    fn a_receipt_in_between_makes_it_a_single_loss() {
        let mut window = filled(8, 1_000);
        window.receipted(places()[3], Uptime(1_000));
        let limit = window.limit();
        let overdue = window.expire(&mut Jitter::new(1), Uptime(11_000));
        assert_eq!(overdue.len(), 3);
        assert_eq!(window.limit(), limit);
    }

    #[test]
    fn probes_pause_longer_and_longer_and_are_jittered() {
        let mut highest = [0; 8];
        let mut lowest = [u64::MAX; 8];
        for seed in 0..200 {
            let mut window = Window::new(1, PAUSE, PAUSE_MAX);
            let mut jitter = Jitter::new(seed);
            let mut now = 0;
            for probe in 0..8 {
                window.set(places()[0], sent(now));
                now += 10_000;
                window.expire(&mut jitter, Uptime(now));
                let pause = window.open_from(Lane::Live).unwrap().0 - now;
                highest[probe] = highest[probe].max(pause);
                lowest[probe] = lowest[probe].min(pause);
                now += pause;
            }
        }
        for (probe, (lowest, highest)) in lowest.into_iter().zip(highest).enumerate() {
            let bound = (10_000_u64 << probe).min(300_000);
            assert!(lowest >= bound / 2 && lowest < bound * 6 / 10, "{probe}");
            assert!(highest <= bound && highest > bound * 9 / 10, "{probe}");
        }
    }

    #[test]
    fn the_backlog_leaves_a_quarter_of_the_window_to_live() {
        let mut window = Window::new(16, PAUSE, PAUSE_MAX);
        for place in places() {
            if window.open_from(Lane::Backlog).is_some() {
                window.loading(place, Lane::Backlog);
            }
        }
        assert_eq!(window.flights.len(), 6);
        assert!(window.open_from(Lane::Live).is_some());
    }

    #[test]
    fn bytes_read_after_the_window_closed_are_read_again_in_their_order() {
        let places = places();
        let mut window = Window::new(2, PAUSE, PAUSE_MAX);
        window.loading(places[0], Lane::Live);
        window.set(places[5], sent(0));
        assert_eq!(window.loaded(places[0], Uptime(1)), Loaded::NoRoom);
        assert_eq!(window.flight(places[0]), None);
    }

    #[test]
    fn an_answer_to_a_forgotten_request_is_not_taken_for_a_later_one() {
        let places = places();
        let mut window = Window::new(8, PAUSE, PAUSE_MAX);
        window.loading(places[0], Lane::Live);
        window.loading(places[1], Lane::Live);
        window.link_changed();
        window.loading(places[0], Lane::Live);
        window.loading(places[1], Lane::Live);
        // The second answer to the first link's requests.
        assert_eq!(window.loaded(places[1], Uptime(1)), Loaded::Unwanted);
        assert_eq!(
            window.loaded(places[0], Uptime(1)),
            Loaded::Send(Lane::Live)
        );
        assert_eq!(
            window.loaded(places[1], Uptime(1)),
            Loaded::Send(Lane::Live)
        );
    }

    #[test]
    fn what_an_earlier_link_gives_back_does_not_stop_a_read() {
        let places = places();
        let mut window = Window::new(8, PAUSE, PAUSE_MAX);
        window.loading(places[0], Lane::Live);
        window.not_taken(places[0], &mut Jitter::new(1), Uptime(1));
        assert!(window.is_loading(Lane::Live));
    }
}
