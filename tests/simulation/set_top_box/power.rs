//! Mains power of a box, and the clock that starts with it.

use returnpath_delivery::Input;

use super::unix_ms;
use crate::{
    faults::Fault,
    transition::{BoxIndex, Transition},
    world::World,
};

pub(super) struct Power {
    pub(super) boot_id: u64,
    pub(super) since_ms: u64,
    /// What the untrusted clock is off by.
    pub(super) clock_off_ms: i64,
    pub(super) synchronised: bool,
}

impl World {
    pub(crate) fn power_on(&mut self, of: BoxIndex) {
        let in_1970 = self.random.chance(self.climate.boots_in_1970);
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        if stb.power.is_some() {
            return;
        }
        if stb.unplugged_until_ms > now_ms {
            let until_ms = stb.unplugged_until_ms;
            self.schedule.at(until_ms, Transition::PowerOn(of));
            return;
        }
        if in_1970 {
            self.faults.count(Fault::BootIn1970);
        }
        stb.boot += 1;
        let clock_off_ms = if in_1970 { -unix_ms(now_ms) } else { 0 };
        stb.power = Some(Power {
            boot_id: self.random.next() | 1,
            since_ms: now_ms,
            clock_off_ms,
            synchronised: false,
        });
        let boot = stb.boot;
        let starts_ms = self.random.between(100, 5_000);
        let synchronises_ms = self.random.between(10, 120_000);
        self.schedule
            .after(starts_ms, Transition::AgentStarts { of, boot });
        self.schedule
            .after(synchronises_ms, Transition::ClockSynchronises { of, boot });
    }

    pub(crate) fn power_cut(&mut self, of: BoxIndex) {
        let now_ms = self.schedule.now_ms();
        if self.boxes[of].power.is_none() {
            return;
        }
        self.end_run(of);
        let stb = &mut self.boxes[of];
        stb.powered_ms = stb.powered_ms(now_ms);
        stb.power = None;
        let took = stb.file.power_cut(&mut self.random);
        stb.viewer.power_cut();
        stb.player.power_cut();
        self.faults.count(if took {
            Fault::PowerCutLosesWrites
        } else {
            Fault::PowerCut
        });
        let off_ms = self.random.between(10, 120_000);
        self.schedule.after(off_ms, Transition::PowerOn(of));
        self.invariant_what_is_durable_stands_somewhere(of);
    }

    pub(crate) fn clock_synchronises(&mut self, of: BoxIndex, boot: u64) {
        let now_ms = self.schedule.now_ms();
        let stb = &mut self.boxes[of];
        let (true, Some(power)) = (stb.boot == boot, &mut stb.power) else {
            return;
        };
        power.synchronised = true;
        power.clock_off_ms = i64::try_from(self.random.below(200)).unwrap() - 100;
        let unix_ms = stb.clock(now_ms).unix_ms;
        self.tell(of, &Input::ClockSynchronised { unix_ms });
    }

    /// A clock that is called synchronised jumps seldom, and so far that nobody
    /// can believe it.
    pub(crate) fn clock_steps(&mut self, of: BoxIndex) {
        let hours = i64::try_from(self.random.below(20_000)).unwrap() - 10_000;
        let Some(power) = &mut self.boxes[of].power else {
            return;
        };
        if !power.synchronised {
            power.clock_off_ms = hours * 3_600_000;
            self.faults.count(Fault::ClockStepped);
        } else if hours % 4 == 0 && hours != 0 {
            power.clock_off_ms = hours * 3_600_000;
            self.reference.its_clock_lies(power.boot_id);
            self.faults.count(Fault::SynchronisedClockStepped);
        }
    }
}
