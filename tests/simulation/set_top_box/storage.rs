//! The thread of a box that has its queue file: commits, loads and the copy to a
//! new file, each taking its time and going wrong.

use returnpath_delivery::{CommitOutcome, Input, Unreadable};
use returnpath_shared::BatchId;

use crate::{faults::Fault, transition::BoxIndex, world::World};

impl World {
    pub(crate) fn committed(&mut self, of: BoxIndex, run: u64) {
        let rolls_back = self.random.chance(self.climate.commit_rolls_back);
        let fails = self.random.chance(self.climate.commit_fails);
        let is_calm = self.is_calm;
        let stb = &mut self.boxes[of];
        let (true, Some(agent)) = (stb.run == run, &mut stb.agent) else {
            return;
        };
        let Some(commit) = agent.commit.take() else {
            return;
        };
        let outcome = if is_calm || (!rolls_back && !fails) {
            stb.file.commit(&commit);
            CommitOutcome::Done
        } else if rolls_back {
            self.faults.count(Fault::CommitRolledBack);
            CommitOutcome::RolledBack
        } else {
            self.faults.count(Fault::CommitFailed);
            if self.random.chance(500) {
                stb.file.commit(&commit);
            }
            CommitOutcome::Failed
        };
        let number = commit.number;
        self.tell(of, &Input::Committed { number, outcome });
        self.invariant_what_left_the_file_stands_somewhere(of);
    }

    pub(crate) fn loaded(&mut self, of: BoxIndex, run: u64, id: BatchId) {
        if self.boxes[of].run != run {
            return;
        }
        let bytes = self.boxes[of].file.load(id).ok_or(Unreadable);
        if bytes.is_err() {
            self.reference.unreadable += 1;
        }
        self.tell(of, &Input::Loaded { id, bytes });
    }

    pub(crate) fn rebuilt(&mut self, of: BoxIndex, run: u64) {
        let now_ms = self.schedule.now_ms();
        let fails = !self.is_calm && self.random.chance(200);
        let stb = &mut self.boxes[of];
        let now = stb.uptime(now_ms);
        let (true, Some(agent)) = (stb.run == run, &mut stb.agent) else {
            return;
        };
        if fails {
            agent.delivery.handle(Input::RebuildFailed, now);
            self.faults.count(Fault::RebuildFailed);
        } else {
            let (epoch, copied, declared) = stb.file.rebuild(&mut self.random);
            let trace = (of, epoch, copied.clone(), declared.clone());
            agent.delivery.rebuilt(epoch, copied, declared, now);
            agent.slots.file_replaced();
            self.trace(&trace);
            self.reference.rebuilds += 1;
        }
        self.settle(of);
        self.invariant_what_is_durable_stands_somewhere(of);
    }

    pub(crate) fn page_goes_bad(&mut self, of: BoxIndex) {
        if self.boxes[of].file.page_goes_bad(&mut self.random) {
            self.faults.count(Fault::PageWentBad);
        }
    }

    /// When the queue's thread has done one more thing.
    pub(super) fn file_done_at_ms(&mut self, of: BoxIndex, takes_ms: u64) -> u64 {
        let now_ms = self.schedule.now_ms();
        let Some(agent) = &mut self.boxes[of].agent else {
            return now_ms;
        };
        agent.file_busy_until_ms = agent.file_busy_until_ms.max(now_ms) + takes_ms;
        agent.file_busy_until_ms
    }
}
