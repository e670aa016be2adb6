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
        if let Some(Flight::Sent { at, .. }) = self.flights.remove(&place) {
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
