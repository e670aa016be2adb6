//! Keeps the accounts of a box: what turned, what it declared, what is told.

use returnpath_shared::Epoch;

use super::Device;
use crate::{
    arrivals::Outcome,
    completeness::{BoxCompleteness, Declaration, Forgotten, Totals},
    limit::Limits,
};

impl Device {
    /// Has the accounts written of what a batch, or what the box holds, turned.
    /// To be called whenever arrivals have changed.
    pub(crate) fn account_for(&mut self, outcome: Outcome, received_unix_ms: i64) {
        let arrivals = self.arrivals.get();
        if outcome.forgotten.epochs > 0 {
            self.completeness.change().forget_with(arrivals);
        }
        if !outcome.turned.is_empty() {
            let completeness = self.completeness.change();
            if completeness.knows_none() {
                let mut epochs = arrivals.epochs();
                if epochs.any(|epoch| !outcome.turned.contains(&epoch)) {
                    completeness.write_again(arrivals, received_unix_ms);
                }
            }
            completeness.write(outcome.turned, arrivals, received_unix_ms);
        }
        self.review_accounts(received_unix_ms);
    }

    fn review_accounts(&mut self, received_unix_ms: i64) {
        let arrivals = self.arrivals.get();
        if self.completeness.get().needs_review(arrivals) {
            self.completeness
                .change()
                .review(arrivals, received_unix_ms);
        }
    }

    /// Has the account written of a batch that was taken, where that is due.
    pub(crate) fn account_for_batch(&mut self, epoch: Epoch, received_unix_ms: i64) {
        let arrivals = self.arrivals.get();
        let completeness = self.completeness.get();
        if !completeness.is_due(epoch, received_unix_ms) {
            return;
        }
        let completeness = self.completeness.change();
        if completeness.knows_none() {
            completeness.write_again(arrivals, received_unix_ms);
        } else {
            completeness.write([epoch], arrivals, received_unix_ms);
        }
    }

    /// The box declares something lost. To be followed by
    /// [`account_for_declarations`](Self::account_for_declarations), once for
    /// all that a batch declares.
    pub(crate) fn declare(
        &mut self,
        epoch: Epoch,
        declaration: Declaration,
        received_unix_ms: i64,
    ) {
        let arrivals = self.arrivals.get();
        self.completeness
            .change()
            .declare(epoch, declaration, arrivals, received_unix_ms);
    }

    /// Has the accounts written that declarations changed, and forgets what
    /// there is no room for.
    pub(crate) fn account_for_declarations(
        &mut self,
        received_unix_ms: i64,
        limits: &Limits,
    ) -> Forgotten {
        let arrivals = self.arrivals.get();
        let completeness = self.completeness.change();
        let forgotten = completeness.forget_beyond_bounds(arrivals, received_unix_ms, limits);
        completeness.review(arrivals, received_unix_ms);
        forgotten
    }

    /// What has arrived of the box and what has not.
    pub(crate) fn tell_completeness(&self) -> BoxCompleteness<'_> {
        let (model, firmware) = self.profile().model_and_firmware();
        let mut told = BoxCompleteness {
            model,
            firmware,
            epochs: 0,
            epochs_complete: 0,
            totals: Totals::default(),
        };
        for account in self.completeness.get().accounts() {
            let of_epoch = self.arrivals.get().tell(account.epoch);
            let totals = account.totals(&of_epoch);
            let is_complete = totals.is_complete() && of_epoch.forgotten_through() == 0;
            told.epochs += 1;
            told.epochs_complete += u64::from(is_complete);
            told.totals.add_all(&totals);
        }
        told
    }
}
