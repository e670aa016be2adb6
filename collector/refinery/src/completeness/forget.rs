//! What becomes of declarations for which there is no room: which are forgotten
//! first, and what is remembered in their place.
//!
//! Of ranges it is where they lay in their epoch. Of a run of which nothing has
//! arrived, and of which everything is forgotten, it is a *mark*: the account
//! of the last such run of a queue file stays, says nothing but how many they
//! are, and stands for those below it. An account that is entered below a mark
//! may once have been among them, so nothing missing of it is unexplained.

use alloc::vec::Vec;

use returnpath_shared::Epoch;

use super::{
    Account, Completeness,
    declared::{Declared, Dropped},
};
use crate::{arrivals::Arrivals, limit::Limits};

/// What was forgotten to make room.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Forgotten {
    pub(crate) ranges: u64,
    pub(crate) epochs: u64,
}

/// Which ranges are forgotten, those that explain the least first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    /// Those of which nothing is missing.
    Idle,
    /// Those of epochs of which nothing is called missing but what is declared.
    OfForgottenEpochs,
    /// The lowest of the oldest epochs.
    Lowest,
}

impl Completeness {
    /// Forgets declarations for which there is no room. Of the epochs of which
    /// nothing has arrived, first those that the box has released, the oldest
    /// first; of all ranges first those of which nothing is missing, then those
    /// of epochs whose arrivals are forgotten, then the lowest of the oldest
    /// epoch.
    pub(crate) fn forget_beyond_bounds(
        &mut self,
        arrivals: &Arrivals,
        received_unix_ms: i64,
        limits: &Limits,
    ) -> Forgotten {
        Forgotten {
            epochs: self.forget_epochs_beyond_bounds(arrivals, received_unix_ms, limits),
            ranges: self.forget_ranges_beyond_bounds(arrivals, received_unix_ms, limits),
        }
    }

    /// Whether something may have been declared of an epoch that has no account,
    /// and forgotten.
    pub(super) fn may_have_forgotten(&self, epoch: Epoch) -> bool {
        self.later_runs(epoch)
            .any(|account| account.runs_forgotten() > 0)
    }

    fn forget_epochs_beyond_bounds(
        &mut self,
        arrivals: &Arrivals,
        received_unix_ms: i64,
        limits: &Limits,
    ) -> u64 {
        let declared = self.count(Account::is_only_declared);
        let excess = declared.saturating_sub(limits.declared_epochs_max);
        if excess == 0 {
            return 0;
        }
        let mut oldest = self.oldest_first(Account::is_only_declared);
        oldest.sort_by_key(|epoch| !arrivals.tell(*epoch).is_released());
        oldest.truncate(excess);
        for epoch in oldest {
            self.forget_epoch(epoch, arrivals, received_unix_ms);
        }
        self.forget_marks_beyond_bounds(arrivals, limits);
        excess as u64
    }

    fn forget_epoch(&mut self, epoch: Epoch, arrivals: &Arrivals, received_unix_ms: i64) {
        let Ok(at) = self.position(epoch) else {
            return;
        };
        let mut runs = 1_u32.saturating_add(self.accounts[at].runs_forgotten());
        if let Some(mark) = self.mark_beyond(epoch) {
            mark.add_runs_forgotten(runs, received_unix_ms);
            self.accounts.remove(at);
            return;
        }
        // Nothing is called missing of what arrivals have forgotten: no mark is
        // needed.
        if arrivals.has_forgotten(epoch) {
            self.accounts.remove(at);
            return;
        }
        self.accounts.retain_mut(|account| {
            if !account.is_of_file_of(epoch) || account.epoch >= epoch {
                return true;
            }
            let taken = account.take_runs_forgotten(received_unix_ms);
            runs = runs.saturating_add(taken);
            // It was a mark, and is none any more.
            taken == 0 || !account.is_bare()
        });
        if let Ok(at) = self.position(epoch) {
            self.accounts[at].forget_declared(runs);
            self.accounts[at].write(received_unix_ms);
        }
    }

    /// Marks of as many queue files are kept as of which the number is, and for
    /// the same reason.
    fn forget_marks_beyond_bounds(&mut self, arrivals: &Arrivals, limits: &Limits) {
        let marks = self.count(Account::is_mark);
        let excess = marks.saturating_sub(limits.forgotten_incarnations_max);
        if excess == 0 {
            return;
        }
        let mut oldest = self.oldest_first(Account::is_mark);
        oldest.sort_by_key(|epoch| !arrivals.has_forgotten(*epoch));
        oldest.truncate(excess);
        self.accounts
            .retain(|account| !account.is_mark() || !oldest.contains(&account.epoch));
    }

    fn forget_ranges_beyond_bounds(
        &mut self,
        arrivals: &Arrivals,
        received_unix_ms: i64,
        limits: &Limits,
    ) -> u64 {
        let ranges: usize = self.accounts.iter().map(Account::declared_ranges).sum();
        let mut excess = ranges.saturating_sub(limits.declared_ranges_max);
        if excess == 0 {
            return 0;
        }
        let mut forgotten = 0;
        let oldest = self.oldest_first(|account| account.declared_ranges() > 0);
        for pass in [Pass::Idle, Pass::OfForgottenEpochs, Pass::Lowest] {
            for epoch in &oldest {
                let Ok(at) = self.position(*epoch) else {
                    continue;
                };
                let account = &mut self.accounts[at];
                let ranges = account.forget_ranges(pass, arrivals, excess);
                if ranges > 0 {
                    account.write(received_unix_ms);
                    excess -= ranges;
                    forgotten += ranges as u64;
                }
            }
        }
        forgotten
    }

    fn count(&self, of: impl Fn(&Account) -> bool) -> usize {
        self.accounts.iter().filter(|account| of(account)).count()
    }

    fn oldest_first(&self, of: impl Fn(&Account) -> bool) -> Vec<Epoch> {
        let accounts = self.accounts.iter().filter(|account| of(account));
        let mut accounts: Vec<&Account> = accounts.collect();
        accounts.sort_unstable_by_key(|account| (account.first_received_unix_ms, account.epoch));
        accounts.iter().map(|account| account.epoch).collect()
    }

    /// Accounts of later runs on the queue file of an epoch.
    fn later_runs(&self, epoch: Epoch) -> impl Iterator<Item = &Account> {
        let from = self
            .accounts
            .partition_point(|account| account.epoch <= epoch);
        self.accounts[from..]
            .iter()
            .take_while(move |account| account.is_of_file_of(epoch))
    }

    /// The account of a later run that stands for those that are forgotten.
    fn mark_beyond(&mut self, epoch: Epoch) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| {
            account.is_of_file_of(epoch) && account.epoch > epoch && account.runs_forgotten() > 0
        })
    }
}

impl Account {
    /// Nothing of the epoch has arrived, but something is declared of it.
    fn is_only_declared(&self) -> bool {
        !self.has_arrived && !self.is_mark()
    }

    /// Only stands for runs of which everything is forgotten.
    fn is_mark(&self) -> bool {
        self.runs_forgotten() > 0 && self.is_bare()
    }

    /// Nothing of the epoch has arrived, and nothing is remembered of what was
    /// declared of it.
    fn is_bare(&self) -> bool {
        let says_nothing = self.declared.as_deref().is_none_or(Declared::says_nothing);
        !self.has_arrived && says_nothing
    }

    fn is_of_file_of(&self, epoch: Epoch) -> bool {
        self.epoch.incarnation == epoch.incarnation
    }

    fn runs_forgotten(&self) -> u32 {
        self.declared.as_deref().map_or(0, Declared::runs_forgotten)
    }

    fn add_runs_forgotten(&mut self, runs: u32, received_unix_ms: i64) {
        if let Some(dropped) = self.dropped_mut() {
            dropped.runs_forgotten = dropped.runs_forgotten.saturating_add(runs);
            self.write(received_unix_ms);
        }
    }

    fn take_runs_forgotten(&mut self, received_unix_ms: i64) -> u32 {
        let runs = self
            .dropped_mut()
            .map_or(0, |dropped| core::mem::take(&mut dropped.runs_forgotten));
        if runs > 0 {
            self.write(received_unix_ms);
        }
        runs
    }

    fn declared_ranges(&self) -> usize {
        self.declared
            .as_ref()
            .map_or(0, |declared| declared.ranges().len())
    }

    /// Forgets up to `ranges_max` ranges, where it is their turn. Says how many.
    fn forget_ranges(&mut self, pass: Pass, arrivals: &Arrivals, ranges_max: usize) -> usize {
        let epoch = self.epoch;
        let Some(dropped) = self.dropped_mut() else {
            return 0;
        };
        match pass {
            Pass::Idle => dropped.forget_idle(&arrivals.tell(epoch), ranges_max),
            Pass::OfForgottenEpochs if !arrivals.has_forgotten(epoch) => 0,
            Pass::OfForgottenEpochs | Pass::Lowest => dropped.forget_lowest(ranges_max),
        }
    }

    fn dropped_mut(&mut self) -> Option<&mut Dropped> {
        self.declared.as_deref_mut()?.dropped.as_deref_mut()
    }
}
