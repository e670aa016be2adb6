//! When an event happened: turns the uptime of a box into wall-clock time and
//! says how good that is. Boxes boot in 1970, lose their clock, and claim
//! things; nothing here ever orders or drops an event.

use alloc::vec::Vec;

use returnpath_shared::{
    Epoch,
    wire::{self, Boot, ClockAnchor, ClockState, TimeQuality},
};

use crate::{
    envelope::Envelope,
    limit::{
        CLOCK_AHEAD_MAX_MS, CLOCK_BEHIND_MAX_MS, CLOCK_MIN_UNIX_MS, CLOCK_REFRESH_MS,
        CLOCK_STEP_MS, CLOCKS_MAX,
    },
    state::RestoreError,
};

/// When an event happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EventTime {
    /// Best estimate.
    pub(crate) unix_ms: i64,
    pub(crate) quality: TimeQuality,
    /// Both 0 unless the quality is bounded; `earliest_unix_ms` is 0 also
    /// where nothing is known.
    pub(crate) earliest_unix_ms: i64,
    pub(crate) latest_unix_ms: i64,
}

/// The clocks of one box, by boot.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Clocks {
    /// In the order in which boots became known.
    boots: Vec<BootClock>,
}

/// In boot `boot_id`, at `uptime_ms`, it was `unix_ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct BootClock {
    boot_id: u64,
    uptime_ms: u64,
    unix_ms: i64,
    /// The run of the agent that saw it; `None` where a boot event told of it.
    sender: Option<Epoch>,
}

/// What the envelope at hand says of the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// The box does not trust its clock.
    Unsynchronised,
    /// The box trusts it, and it can be true.
    Synchronised,
    /// The box trusts it, and it cannot be true.
    Impossible,
}

/// Judges the clock of an envelope against the collector's.
pub(crate) fn judge(envelope: &Envelope<'_>, received_unix_ms: i64) -> Seen {
    if !envelope.clock_synchronised || envelope.boot_id == 0 {
        return Seen::Unsynchronised;
    }
    let behind_ms = i128::from(received_unix_ms) - i128::from(envelope.unix_ms);
    let possible = (-i128::from(CLOCK_AHEAD_MAX_MS)..=i128::from(CLOCK_BEHIND_MAX_MS))
        .contains(&behind_ms)
        && boots_in_our_time(envelope.unix_ms, envelope.uptime_ms);
    if possible {
        Seen::Synchronised
    } else {
        Seen::Impossible
    }
}

/// Whether a box of which the clock shows this after this uptime was booted
/// after the first such box was built.
fn boots_in_our_time(unix_ms: i64, uptime_ms: u64) -> bool {
    i128::from(unix_ms) - i128::from(uptime_ms) >= i128::from(CLOCK_MIN_UNIX_MS)
}

impl Clocks {
    /// Whether [`observe`](Self::observe) has something to learn.
    pub(crate) fn wants(&self, envelope: &Envelope<'_>) -> bool {
        self.boot(envelope.boot_id).is_none_or(|known| {
            let step_ms = known.unix_at(envelope.uptime_ms).abs_diff(envelope.unix_ms);
            let later = envelope.uptime_ms > known.uptime_ms;
            known.sender.is_none()
                || later && step_ms > CLOCK_STEP_MS
                || envelope.uptime_ms.saturating_sub(known.uptime_ms) >= CLOCK_REFRESH_MS
        })
    }

    /// Learns the clock of an envelope that is [`Seen::Synchronised`].
    pub(crate) fn observe(&mut self, envelope: &Envelope<'_>, sender: Option<Epoch>) {
        let seen = BootClock {
            boot_id: envelope.boot_id,
            uptime_ms: envelope.uptime_ms,
            unix_ms: envelope.unix_ms,
            sender,
        };
        match self
            .boots
            .iter_mut()
            .find(|known| known.boot_id == seen.boot_id)
        {
            Some(known) => *known = seen,
            None => self.push(seen),
        }
    }

    /// Learns the clocks that a boot event tells of, where they can be true
    /// and nothing better is known.
    pub(crate) fn learn(&mut self, boot: &Boot, received_unix_ms: i64) {
        for anchor in &boot.anchors {
            let possible = anchor.boot_id != 0
                && boots_in_our_time(anchor.unix_ms, anchor.uptime_ms)
                && anchor.unix_ms <= received_unix_ms.saturating_add(CLOCK_AHEAD_MAX_MS);
            if possible && self.boot(anchor.boot_id).is_none() {
                self.push(BootClock {
                    boot_id: anchor.boot_id,
                    uptime_ms: anchor.uptime_ms,
                    unix_ms: anchor.unix_ms,
                    sender: None,
                });
            }
        }
    }

    fn push(&mut self, clock: BootClock) {
        if self.boots.len() >= CLOCKS_MAX {
            self.boots.remove(0);
        }
        self.boots.push(clock);
    }

    fn boot(&self, boot_id: u64) -> Option<&BootClock> {
        // The running boot is nearly always the last.
        self.boots
            .iter()
            .rev()
            .find(|known| known.boot_id == boot_id)
    }

    /// How to time the events of one batch of boot `boot_id`.
    pub(crate) fn timing(
        &self,
        envelope: &Envelope<'_>,
        boot_id: u64,
        received_unix_ms: i64,
    ) -> Timing {
        let sent_in_boot = boot_id == envelope.boot_id && boot_id != 0;
        let seen = judge(envelope, received_unix_ms);
        let uptime_max_ms = if sent_in_boot {
            envelope.uptime_ms
        } else {
            u64::MAX
        };
        let known = if sent_in_boot && seen == Seen::Synchronised {
            Some((BootClock::of(envelope), TimeQuality::Synchronised))
        } else {
            self.boot(boot_id).map(|known| {
                // A clock seen in an earlier boot, or earlier in this one, was
                // known when this was sent; else it has come later.
                let later = sent_in_boot && known.uptime_ms > envelope.uptime_ms;
                let quality = if later {
                    TimeQuality::Corrected
                } else {
                    TimeQuality::Synchronised
                };
                (*known, quality)
            })
        };
        // The box sent before the bridge received, and booted its uptime
        // before it sent; an uptime longer than any box has lived says nothing.
        let booted_by_ms = if boots_in_our_time(received_unix_ms, envelope.uptime_ms) {
            received_unix_ms.saturating_sub_unsigned(envelope.uptime_ms)
        } else {
            received_unix_ms
        };
        let (earliest_unix_ms, mut latest_unix_ms) =
            self.bounds(envelope.id.epoch, boot_id, received_unix_ms);
        if !sent_in_boot && envelope.boot_id != 0 {
            // Events of an earlier boot were over when this one began.
            latest_unix_ms = latest_unix_ms.min(booted_by_ms);
        }
        Timing {
            known,
            booted_by_ms: sent_in_boot.then_some(booted_by_ms),
            uptime_max_ms,
            earliest_unix_ms: if earliest_unix_ms <= latest_unix_ms {
                earliest_unix_ms
            } else {
                0
            },
            latest_unix_ms,
            received_unix_ms,
        }
    }

    /// Between which clock readings the run `epoch` lies, by those of earlier
    /// and later runs on the same queue file in other boots.
    fn bounds(&self, epoch: Epoch, boot_id: u64, received_unix_ms: i64) -> (i64, i64) {
        let (mut earliest, mut latest) = (0, received_unix_ms);
        for known in &self.boots {
            let Some(sender) = known.sender else {
                continue;
            };
            if known.boot_id == boot_id || sender.incarnation != epoch.incarnation {
                continue;
            }
            if sender.start < epoch.start {
                earliest = earliest.max(known.unix_ms);
            } else if sender.start > epoch.start {
                latest = latest.min(known.unix_at(0));
            }
        }
        (earliest, latest)
    }

    pub(crate) fn to_wire(&self) -> ClockState {
        ClockState {
            boots: self
                .boots
                .iter()
                .map(|known| wire::BootClock {
                    anchor: Some(ClockAnchor {
                        boot_id: known.boot_id,
                        uptime_ms: known.uptime_ms,
                        unix_ms: known.unix_ms,
                    }),
                    sender: known.sender.map(Into::into),
                })
                .collect(),
        }
    }

    pub(crate) fn from_wire(state: &ClockState) -> Result<Self, RestoreError> {
        // A version with a higher bound may have written more.
        let older = state.boots.len().saturating_sub(CLOCKS_MAX);
        let boots = state.boots.iter().skip(older).map(|known| {
            let anchor = known.anchor.ok_or(RestoreError::Rule {
                field: "boots.anchor",
            })?;
            let sender = known.sender.map(Epoch::try_from).transpose();
            Ok(BootClock {
                boot_id: anchor.boot_id,
                uptime_ms: anchor.uptime_ms,
                unix_ms: anchor.unix_ms,
                sender: sender.map_err(|_| RestoreError::Rule {
                    field: "boots.sender",
                })?,
            })
        });
        Ok(Self {
            boots: boots.collect::<Result<_, RestoreError>>()?,
        })
    }
}

impl BootClock {
    fn of(envelope: &Envelope<'_>) -> Self {
        Self {
            boot_id: envelope.boot_id,
            uptime_ms: envelope.uptime_ms,
            unix_ms: envelope.unix_ms,
            sender: None,
        }
    }

    fn unix_at(&self, uptime_ms: u64) -> i64 {
        self.unix_ms
            .saturating_sub_unsigned(self.uptime_ms)
            .saturating_add_unsigned(uptime_ms)
    }
}

/// How to time the events of one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    known: Option<(BootClock, TimeQuality)>,
    /// For events of the boot that sent them: it had begun by then.
    booted_by_ms: Option<i64>,
    /// No event of the batch can be later than this.
    uptime_max_ms: u64,
    /// 0 where nothing is known.
    earliest_unix_ms: i64,
    latest_unix_ms: i64,
    received_unix_ms: i64,
}

impl Timing {
    /// When an event at `uptime_ms` happened.
    pub(crate) fn of(&self, uptime_ms: u64) -> EventTime {
        if let Some((known, quality)) = self.known {
            let unix_ms = known.unix_at(uptime_ms);
            let possible = uptime_ms <= self.uptime_max_ms
                && unix_ms <= self.received_unix_ms.saturating_add(CLOCK_AHEAD_MAX_MS);
            if possible {
                return EventTime {
                    unix_ms,
                    quality,
                    earliest_unix_ms: 0,
                    latest_unix_ms: 0,
                };
            }
            // The uptime of the event is wrong; its boot and its sending bound it.
            let latest_unix_ms = known.unix_at(self.uptime_max_ms).min(self.latest_unix_ms);
            return bounded(
                known.unix_at(0).min(latest_unix_ms),
                latest_unix_ms,
                latest_unix_ms,
            );
        }
        if let Some(booted_by_ms) = self.booted_by_ms {
            // It was sent at once, as far as anyone can tell.
            let latest_unix_ms = if uptime_ms <= self.uptime_max_ms {
                booted_by_ms
                    .saturating_add_unsigned(uptime_ms)
                    .min(self.latest_unix_ms)
            } else {
                self.latest_unix_ms
            };
            let earliest_unix_ms = if self.earliest_unix_ms <= latest_unix_ms {
                self.earliest_unix_ms
            } else {
                0
            };
            return bounded(earliest_unix_ms, latest_unix_ms, latest_unix_ms);
        }
        let middle_unix_ms = if self.earliest_unix_ms == 0 {
            self.latest_unix_ms
        } else {
            self.earliest_unix_ms.midpoint(self.latest_unix_ms)
        };
        bounded(self.earliest_unix_ms, self.latest_unix_ms, middle_unix_ms)
    }
}

fn bounded(earliest_unix_ms: i64, latest_unix_ms: i64, unix_ms: i64) -> EventTime {
    EventTime {
        unix_ms,
        quality: TimeQuality::Bounded,
        earliest_unix_ms,
        latest_unix_ms,
    }
}
