//! What stands in `rp.completeness` of one box: an account of each run of its
//! agent.
//!
//! Owns what nobody else remembers: when an account was written, and what the
//! box declared lost. What has arrived is [`Arrivals`]' and is only told here,
//! so an account of a box that loses nothing is a few numbers, and taking a
//! batch that merely continues its epoch changes none of them. An account is
//! written when something *turns* ([`Outcome::turned`](crate::arrivals::Outcome)),
//! when its [`Outlook`] changes, when something is declared, and otherwise
//! every [`COMPLETENESS_REFRESH_MS`]. The topic is the only copy, as
//! `rp.devices` is of profiles.
//!
//! There is room for so many declarations (`forget.rs`). Of those that are
//! forgotten it is remembered where they were, so that what is missing there is
//! told as *forgotten* and never called unexplained.

use alloc::{boxed::Box, vec::Vec};

use returnpath_shared::Epoch;

use crate::{arrivals::Arrivals, limit::COMPLETENESS_REFRESH_MS};

mod declaration;
mod declared;
mod forget;
mod missing;
mod total;
mod wire;

pub(crate) use declaration::Declaration;
pub(crate) use forget::Forgotten;
pub(crate) use wire::{key_epoch, put_key};

pub(crate) use total::Totals;
pub use total::{BoxCompleteness, Missing, Total};

use declared::Declared;

/// The accounts of one box.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Completeness {
    /// By epoch.
    accounts: Vec<Account>,
}

/// The account of one epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    pub(crate) epoch: Epoch,
    /// When the bridge took what led to the last writing.
    as_of_unix_ms: i64,
    /// When the bridge took the first batch, or else the first declaration.
    first_received_unix_ms: i64,
    /// Writings. One more is what has the account written.
    revision: u32,
    /// Something of the epoch has arrived; else it is only declared.
    has_arrived: bool,
    /// As written, which is as it is: see [`Completeness::review`].
    outlook: Outlook,
    declared: Option<Box<Declared>>,
}

/// What about an epoch somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Outlook {
    /// Something is missing that the box may still hold.
    has_held: bool,
    /// Something is missing and nothing says why.
    has_unexplained: bool,
    /// Something is missing, and what may have said why is forgotten.
    has_forgotten: bool,
    is_ended: bool,
    is_released: bool,
}

impl Completeness {
    /// The accounts, by epoch.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter()
    }

    pub(crate) fn account(&self, epoch: Epoch) -> Option<&Account> {
        self.position(epoch).ok().map(|at| &self.accounts[at])
    }

    /// Whether a batch of an epoch, taken just now, has its account written
    /// though nothing turned.
    pub(crate) fn is_due(&self, epoch: Epoch, received_unix_ms: i64) -> bool {
        self.account(epoch).is_none_or(|account| {
            let age_ms = received_unix_ms.saturating_sub(account.as_of_unix_ms);
            age_ms >= COMPLETENESS_REFRESH_MS || !account.has_arrived
        })
    }

    /// Whether there is no account at all: of a new box, or in a topic that has
    /// been made anew.
    pub(crate) fn knows_none(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Has the accounts written of all that arrivals remember: the topic has been
    /// made anew. What was declared before nobody knows.
    pub(crate) fn write_again(&mut self, arrivals: &Arrivals, received_unix_ms: i64) {
        for epoch in arrivals.epochs() {
            self.entered(epoch, received_unix_ms).forget_declared(0);
        }
        self.write(arrivals.epochs(), arrivals, received_unix_ms);
    }

    /// Has the accounts of these epochs written.
    pub(crate) fn write(
        &mut self,
        epochs: impl IntoIterator<Item = Epoch>,
        arrivals: &Arrivals,
        received_unix_ms: i64,
    ) {
        for epoch in epochs {
            let remembered = arrivals.remembers(epoch);
            if !remembered && self.account(epoch).is_none() {
                continue;
            }
            let account = self.entered(epoch, received_unix_ms);
            if remembered && !account.has_arrived {
                account.has_arrived = true;
                account.first_received_unix_ms = received_unix_ms;
            }
            account.outlook = account.outlook_by(&arrivals.tell(epoch));
            account.write(received_unix_ms);
        }
    }

    /// Has the accounts written whose outlook is no longer as it was written.
    /// To be called whenever arrivals or declarations may have changed it.
    pub(crate) fn review(&mut self, arrivals: &Arrivals, received_unix_ms: i64) {
        for account in &mut self.accounts {
            let outlook = account.outlook_by(&arrivals.tell(account.epoch));
            if account.outlook != outlook {
                account.outlook = outlook;
                account.write(received_unix_ms);
            }
        }
    }

    /// Whether [`review`](Self::review) would find something.
    pub(crate) fn needs_review(&self, arrivals: &Arrivals) -> bool {
        // Where nothing is missing, only what turns and what is declared changes
        // an outlook; a declaration may mean that something will be missing
        // until the box has released all.
        let may_change = arrivals.may_be_missing()
            || self.accounts.iter().any(|account| {
                let Outlook {
                    has_held,
                    has_unexplained,
                    has_forgotten: _,
                    is_ended,
                    is_released,
                } = account.outlook;
                let is_over = is_ended && is_released;
                has_held || has_unexplained || account.declared.is_some() && !is_over
            });
        may_change
            && self
                .accounts
                .iter()
                .any(|account| account.outlook != account.outlook_by(&arrivals.tell(account.epoch)))
    }

    /// Forgets the accounts of epochs that arrivals have forgotten.
    pub(crate) fn forget_with(&mut self, arrivals: &Arrivals) {
        self.accounts
            .retain(|account| !account.has_arrived || arrivals.remembers(account.epoch));
    }

    /// The box declares something lost. To be followed by
    /// [`forget_beyond_bounds`](Self::forget_beyond_bounds) and
    /// [`review`](Self::review), once for all that a batch declares.
    pub(crate) fn declare(
        &mut self,
        epoch: Epoch,
        declaration: Declaration,
        arrivals: &Arrivals,
        received_unix_ms: i64,
    ) {
        let account = self.entered(epoch, received_unix_ms);
        account.has_arrived |= arrivals.remembers(epoch);
        let declared = account.declared.get_or_insert_default();
        if declared.add(declaration, received_unix_ms) {
            account.write(received_unix_ms);
        }
    }

    /// The account of an epoch, perhaps a new one.
    fn entered(&mut self, epoch: Epoch, received_unix_ms: i64) -> &mut Account {
        let at = match self.position(epoch) {
            Ok(at) => at,
            Err(at) => {
                let mut account = Account::new(epoch, received_unix_ms);
                if self.may_have_forgotten(epoch) {
                    account.forget_declared(0);
                }
                self.accounts.insert(at, account);
                at
            }
        };
        &mut self.accounts[at]
    }

    fn position(&self, epoch: Epoch) -> Result<usize, usize> {
        self.accounts
            .binary_search_by_key(&epoch, |account| account.epoch)
    }
}

impl Account {
    fn new(epoch: Epoch, received_unix_ms: i64) -> Self {
        Self {
            epoch,
            as_of_unix_ms: received_unix_ms,
            first_received_unix_ms: received_unix_ms,
            revision: 0,
            has_arrived: false,
            outlook: Outlook::default(),
            declared: None,
        }
    }

    fn write(&mut self, received_unix_ms: i64) {
        self.revision = self.revision.wrapping_add(1);
        self.as_of_unix_ms = self.as_of_unix_ms.max(received_unix_ms);
    }

    /// Whatever was declared of the epoch is forgotten, and everything on this
    /// many runs of its queue file.
    fn forget_declared(&mut self, runs: u32) {
        self.declared = Some(Box::new(Declared::forgotten(runs)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_small() {
        // Each of 300,000 boxes has as many as arrivals remember epochs.
        assert!(size_of::<Account>() <= 56, "{}", size_of::<Account>());
    }
}
