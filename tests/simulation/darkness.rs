//! A month without power, once a world: a box that holds a batch which Kafka
//! has, as the receipt was lost, is unplugged for 30 days and sends it again.
//! Its neighbours are gone for about as long, so that nobody's idle month is
//! lived through or counted.

use returnpath_shared::{BatchId, Epoch, wire::Receipt};

use crate::{
    faults::Fault,
    transition::{BoxIndex, Transition},
    world::World,
};

const DAY_MS: u64 = 86_400_000;

/// How long the box is away.
const MONTH_MS: u64 = 30 * DAY_MS;

/// How much later than that a box may come back.
const STRAGGLES_MS: u64 = 600_000;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Darkness {
    #[default]
    NotYet,
    /// Begins as soon as this box holds a batch whose receipt was lost.
    Awaits(BoxIndex),
    Over,
}

impl World {
    pub(crate) fn goes_dark(&mut self, of: BoxIndex) {
        if self.darkness == Darkness::NotYet {
            self.darkness = Darkness::Awaits(of);
        }
    }

    pub(crate) fn is_awaiting_the_dark(&self, of: BoxIndex) -> bool {
        self.darkness == Darkness::Awaits(of)
    }

    /// A receipt was lost: does its box hold on flash what it confirmed?
    pub(crate) fn goes_dark_if_it_holds(&mut self, of: BoxIndex, receipt: &Receipt) {
        if !self.is_awaiting_the_dark(of) {
            return;
        }
        let synced = &self.boxes[of].file.synced.batches;
        let holds = receipt.confirmed.iter().any(|range| {
            let epoch = Epoch::try_from(range.epoch.unwrap()).unwrap();
            let id = |sequence| BatchId {
                epoch,
                sequence: returnpath_shared::Sequence(sequence),
            };
            let mut held = synced.range(id(range.first_sequence)..=id(range.last_sequence));
            held.next().is_some()
        });
        if holds {
            self.faults.count(Fault::UnpluggedHoldingReceipted);
            self.darkness = Darkness::Over;
            self.schedule.after(0, Transition::MonthBegins);
        }
    }

    pub(crate) fn month_begins(&mut self) {
        let now_ms = self.schedule.now_ms();
        for of in 0..self.boxes.len() {
            let away_ms = self.random.between(MONTH_MS, MONTH_MS + STRAGGLES_MS);
            self.boxes[of].unplugged_until_ms = now_ms + away_ms;
            self.power_cut(of);
        }
        self.faults.count(Fault::Unplugged30Days);
        self.climate.stormy_ms += MONTH_MS + STRAGGLES_MS;
    }

    /// When the first box has mains again, or now.
    pub(crate) fn light_again_ms(&self) -> u64 {
        let until = self.boxes.iter().map(|stb| stb.unplugged_until_ms);
        until.min().unwrap_or_default().max(self.schedule.now_ms())
    }
}
