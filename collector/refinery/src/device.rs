//! All that is known of one box, and its records in the changelog, in
//! `rp.devices` and in `rp.completeness`.

use alloc::{boxed::Box, string::String, vec::Vec};

use core::ops::Range;

use prost::Message;
use returnpath_shared::{
    Epoch,
    wire::{self, ClockState, DeviceProfile, DeviceState, EventMoment, ProofState},
};
use returnpath_transaction::Versioned;

use crate::{
    arrivals::Arrivals,
    clock::Clocks,
    completeness::{self, Account, Completeness},
    order::Moment,
    output::{Destination, Output},
    profile::{self, Profile},
    proofs::Proofs,
    state::{CLOCK_SUFFIX, PROOF_SUFFIX, RestoreError},
};

mod accounting;
mod learning;

/// One box. Its parts are kept in records of their own, because they change at
/// different paces.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) key: Box<[u8]>,
    pub(crate) arrivals: Versioned<Arrivals>,
    pub(crate) clocks: Versioned<Clocks>,
    pub(crate) proofs: Versioned<Proofs>,
    completeness: Versioned<Completeness>,
    /// `None` until something is known.
    profile: Versioned<Option<Box<Profile>>>,
    /// The latest event that said what is viewed; it may have said nothing new.
    viewing_told: Versioned<Option<Moment>>,
    /// Whether the open transaction lists it already.
    pub(crate) is_listed: bool,
}

impl Device {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self {
            key: key.into(),
            arrivals: Versioned::default(),
            clocks: Versioned::default(),
            proofs: Versioned::default(),
            completeness: Versioned::default(),
            profile: Versioned::default(),
            viewing_told: Versioned::default(),
            is_listed: false,
        }
    }

    pub(crate) fn restore_arrivals(&mut self, value: Option<&[u8]>) -> Result<(), RestoreError> {
        let state: DeviceState = decode(value)?;
        let told = profile::moment(state.viewing_told, "viewing_told")?;
        self.arrivals.load(Arrivals::from_wire(&state)?);
        self.viewing_told.load(told);
        Ok(())
    }

    pub(crate) fn restore_clocks(&mut self, value: Option<&[u8]>) -> Result<(), RestoreError> {
        let state: ClockState = decode(value)?;
        self.clocks.load(Clocks::from_wire(&state)?);
        Ok(())
    }

    pub(crate) fn restore_proofs(&mut self, value: Option<&[u8]>) -> Result<(), RestoreError> {
        let state: ProofState = decode(value)?;
        self.proofs.load(Proofs::from_wire(&state)?);
        Ok(())
    }

    pub(crate) fn restore_profile(&mut self, value: Option<&[u8]>) -> Result<(), RestoreError> {
        let Some(value) = value else {
            self.profile.load(None);
            return Ok(());
        };
        let profile: DeviceProfile = decode(Some(value))?;
        if profile.device_id.as_bytes() != &*self.key {
            return Err(RestoreError::Rule { field: "device_id" });
        }
        let profile = Profile::from_wire(profile)?;
        self.profile.load(Some(Box::new(profile)));
        Ok(())
    }

    pub(crate) fn restore_completeness(
        &mut self,
        epoch: Epoch,
        value: Option<&[u8]>,
    ) -> Result<(), RestoreError> {
        let mut completeness = self.completeness.get().clone();
        match value {
            None => completeness.restore(epoch, None)?,
            Some(value) => {
                let record: wire::Completeness = decode(Some(value))?;
                if record.device_id.as_bytes() != &*self.key {
                    return Err(RestoreError::Rule { field: "device_id" });
                }
                completeness.restore(epoch, Some(&record))?;
            }
        }
        self.completeness.load(completeness);
        Ok(())
    }

    /// The profile as the open transaction has it.
    pub(crate) fn profile(&self) -> &Profile {
        self.profile.get().as_deref().unwrap_or(&profile::UNKNOWN)
    }

    /// Appends the records that the open transaction changes.
    pub(crate) fn put_changes(&self, out: &mut Output) {
        if self.arrivals.is_changed() || self.viewing_told.is_changed() {
            self.put_arrivals(out);
        }
        if self.clocks.is_changed() {
            self.put_clocks(out);
        }
        if self.proofs.is_changed() {
            self.put_proofs(out);
        }
        if self.profile.is_changed() {
            self.put_profile(out);
        }
        self.put_changed_accounts(out);
    }

    /// Appends all records, as they stand; none for what is empty.
    pub(crate) fn put_all(&self, out: &mut Output) {
        if *self.arrivals.get() != Arrivals::default() || self.viewing_told.get().is_some() {
            self.put_arrivals(out);
        }
        if *self.clocks.get() != Clocks::default() {
            self.put_clocks(out);
        }
        if *self.proofs.get() != Proofs::default() {
            self.put_proofs(out);
        }
        self.put_profile(out);
        for account in self.completeness.get().accounts() {
            self.put_account(account, out);
        }
    }

    fn put_arrivals(&self, out: &mut Output) {
        let state = DeviceState {
            viewing_told: self.viewing_told.get().map(|moment| EventMoment {
                epoch: Some(moment.epoch.into()),
                ordinal: moment.ordinal.0,
            }),
            ..self.arrivals.get().to_wire()
        };
        put(out, &[&self.key], &state);
    }

    fn put_profile(&self, out: &mut Output) {
        if let Some(profile) = self.profile.get() {
            let key = out.put_key(&[&self.key]);
            out.put_record(Destination::Device, &key, |bytes| {
                profile.put(bytes, &self.key);
            });
        }
    }

    /// An account that is written has changed: its revision counts.
    fn put_changed_accounts(&self, out: &mut Output) {
        let Some(committed) = self.completeness.committed() else {
            return;
        };
        let now = self.completeness.get();
        for account in now.accounts() {
            if committed.account(account.epoch) != Some(account) {
                self.put_account(account, out);
            }
        }
        for account in committed.accounts() {
            if now.account(account.epoch).is_none() {
                let key = self.put_account_key(account.epoch, out);
                out.put_tombstone(Destination::Completeness, &key);
            }
        }
    }

    fn put_account(&self, account: &Account, out: &mut Output) {
        let (model, firmware) = self.profile().model_and_firmware();
        let record = wire::Completeness {
            device_id: String::from_utf8_lossy(&self.key).into(),
            model: model.into(),
            firmware: firmware.into(),
            ..account.to_wire(self.arrivals.get())
        };
        let key = self.put_account_key(account.epoch, out);
        out.put_record(Destination::Completeness, &key, |bytes| {
            // A `Vec` grows: encoding into it cannot fail.
            let _ = record.encode(bytes);
        });
    }

    fn put_account_key(&self, epoch: Epoch, out: &mut Output) -> Range<usize> {
        let mut suffix = String::new();
        completeness::put_key(&mut suffix, epoch);
        out.put_key(&[&self.key, suffix.as_bytes()])
    }

    fn put_clocks(&self, out: &mut Output) {
        put(
            out,
            &[&self.key, CLOCK_SUFFIX],
            &self.clocks.get().to_wire(),
        );
    }

    fn put_proofs(&self, out: &mut Output) {
        put(
            out,
            &[&self.key, PROOF_SUFFIX],
            &self.proofs.get().to_wire(),
        );
    }

    pub(crate) fn commit(&mut self) {
        self.arrivals.commit();
        self.clocks.commit();
        self.proofs.commit();
        self.completeness.commit();
        self.profile.commit();
        self.viewing_told.commit();
        self.is_listed = false;
    }

    pub(crate) fn abort(&mut self) {
        self.arrivals.abort();
        self.clocks.abort();
        self.proofs.abort();
        self.completeness.abort();
        self.profile.abort();
        self.viewing_told.abort();
        self.is_listed = false;
    }
}

/// Appends one record of state.
pub(crate) fn put(out: &mut Output, key: &[&[u8]], state: &impl Message) {
    let key = out.put_key(key);
    out.put_record(Destination::State, &key, |bytes: &mut Vec<u8>| {
        // A `Vec` grows: encoding into it cannot fail.
        let _ = state.encode(bytes);
    });
}

/// A tombstone reads as a state that knows nothing.
pub(crate) fn decode<M: Message + Default>(value: Option<&[u8]>) -> Result<M, RestoreError> {
    M::decode(value.unwrap_or_default()).map_err(RestoreError::Decode)
}
