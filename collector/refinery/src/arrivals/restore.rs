//! Arrivals as `state.proto` keeps them.

use alloc::vec::Vec;

use returnpath_shared::{
    Incarnation,
    wire::{DeviceState, EpochState, HoleState, IncarnationState},
};

use super::{
    Arrivals, Arrived, Known, Place,
    runs::{Gap, Run, Runs},
};
use crate::state::RestoreError;

impl Arrivals {
    pub(crate) fn to_wire(&self) -> DeviceState {
        DeviceState {
            incarnations: self.incarnations.iter().map(Known::to_wire).collect(),
            viewing_told: None,
            forgotten_incarnations: self.forgotten.iter().map(|known| known.get()).collect(),
        }
    }

    pub(crate) fn from_wire(state: &DeviceState) -> Result<Self, RestoreError> {
        let mut incarnations: Vec<Known> = Vec::with_capacity(state.incarnations.len());
        for known in &state.incarnations {
            let known = Known::from_wire(known)?;
            let in_order = incarnations
                .last()
                .is_none_or(|before| before.first_received_unix_ms <= known.first_received_unix_ms);
            let twice = incarnations
                .iter()
                .any(|other| other.incarnation == known.incarnation);
            if !in_order || twice {
                return Err(RestoreError::Rule {
                    field: "incarnations",
                });
            }
            incarnations.push(known);
        }
        let mut forgotten = Vec::with_capacity(state.forgotten_incarnations.len());
        for number in &state.forgotten_incarnations {
            let incarnation = Incarnation::new(*number)
                .filter(|number| incarnations.iter().all(|of| of.incarnation != *number))
                .ok_or(RestoreError::Rule {
                    field: "forgotten_incarnations",
                })?;
            forgotten.push(incarnation);
        }
        Ok(Self {
            incarnations,
            forgotten: forgotten.into(),
        })
    }
}

impl Known {
    fn to_wire(&self) -> IncarnationState {
        IncarnationState {
            incarnation: self.incarnation.get(),
            first_received_unix_ms: self.first_received_unix_ms,
            held_from_start: self.held_from.start,
            held_from_sequence: self.held_from.sequence,
            forgotten_below_start: self.forgotten_below_start,
            epochs: self.epochs.iter().map(Arrived::to_wire).collect(),
        }
    }

    fn from_wire(state: &IncarnationState) -> Result<Self, RestoreError> {
        let incarnation = Incarnation::new(state.incarnation).ok_or(RestoreError::Rule {
            field: "incarnations.incarnation",
        })?;
        let mut lowest = state.forgotten_below_start.max(1);
        let mut epochs = Vec::with_capacity(state.epochs.len());
        for epoch in &state.epochs {
            if epoch.start < lowest {
                return Err(RestoreError::Rule {
                    field: "incarnations.epochs.start",
                });
            }
            lowest = epoch.start.saturating_add(1);
            epochs.push(Arrived::from_wire(epoch)?);
        }
        Ok(Self {
            incarnation,
            first_received_unix_ms: state.first_received_unix_ms,
            held_from: Place {
                start: state.held_from_start,
                sequence: state.held_from_sequence,
            },
            forgotten_below_start: state.forgotten_below_start,
            epochs,
        })
    }
}

impl Arrived {
    fn to_wire(&self) -> EpochState {
        let Runs {
            forgotten_through,
            runs,
            gaps,
            highest_ordinal,
        } = &self.sequences;
        let mut before = *forgotten_through;
        let mut intervals = Vec::with_capacity(runs.len() * 2);
        for Run { first, last } in runs {
            intervals.push(first - before - 1);
            intervals.push(last - first + 1);
            before = *last;
        }
        EpochState {
            start: self.start,
            forgotten_through: *forgotten_through,
            intervals,
            highest_ordinal: *highest_ordinal,
            holes: gaps.iter().copied().map(Gap::to_wire).collect(),
        }
    }

    fn from_wire(state: &EpochState) -> Result<Self, RestoreError> {
        let rule = RestoreError::Rule {
            field: "incarnations.epochs.intervals",
        };
        let (pairs, []) = state.intervals.as_chunks::<2>() else {
            return Err(rule);
        };
        let mut before = state.forgotten_through;
        let mut runs = Vec::with_capacity(pairs.len());
        for (index, [missing, arrived]) in pairs.iter().enumerate() {
            if *arrived == 0 || (*missing == 0 && index > 0) {
                return Err(rule);
            }
            let first = before
                .checked_add(*missing)
                .and_then(|end| end.checked_add(1));
            let run = first.and_then(|first| {
                let last = first.checked_add(arrived - 1)?;
                Some(Run { first, last })
            });
            let run = run.ok_or_else(|| rule.clone())?;
            before = run.last;
            runs.push(run);
        }
        let mut sequences = Runs {
            forgotten_through: state.forgotten_through,
            runs,
            gaps: state.holes.iter().map(Gap::from_wire).collect(),
            highest_ordinal: state.highest_ordinal,
        };
        let holes = sequences.holes().count();
        if sequences.gaps.is_empty() {
            sequences.gaps.resize(holes, Gap::default());
        }
        if sequences.gaps.len() != holes {
            return Err(RestoreError::Rule {
                field: "incarnations.epochs.holes",
            });
        }
        Ok(Self {
            start: state.start,
            sequences,
        })
    }
}

impl Gap {
    fn to_wire(self) -> HoleState {
        HoleState {
            first_ordinal: self.first_ordinal,
            last_ordinal: self.last_ordinal,
            since_unix_ms: self.since_unix_ms,
        }
    }

    fn from_wire(state: &HoleState) -> Self {
        Self {
            first_ordinal: state.first_ordinal,
            last_ordinal: state.last_ordinal,
            since_unix_ms: state.since_unix_ms,
        }
    }
}
