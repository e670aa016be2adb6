//! Takes the cloud's configuration: judged, stored, then applied, in this
//! order, so that a box that has obeyed a version never goes back behind it.

use bytes::Bytes;
use returnpath_delivery::{Input, Uptime};
use returnpath_slots::{BindOutcome, Bucket};
use tracing::{debug, info, warn};

use super::{Agent, report::stands_for_others, settings};
use crate::{
    config::Config,
    queue::{Found, Request},
    steering::{self, ConfigRefusal, Settings, StoredConfig},
    trust::{Keys, TrustError},
};

/// What the cloud set, and what is on its way.
#[derive(Debug)]
pub(super) struct Steered {
    /// `None`: the box takes no configuration.
    keys: Option<Keys>,
    of_file: Settings,
    in_force: Settings,
    /// Version of what is in force; 0 when that is the file.
    pub(super) version: u64,
    /// The highest version stored: lower ones are ignored.
    stored: Option<StoredConfig>,
    /// On its way to the medium.
    storing: Option<(StoredConfig, Settings)>,
    /// Counts of refusals, by [`ConfigRefusal::name`], in the order of
    /// [`REASONS`].
    refused: [u64; REASONS.len()],
    looks: Bucket,
}

const REASONS: [&str; 6] = [
    "forged",
    "foreign",
    "malformed",
    "out_of_range",
    "unstored",
    "too_many",
];

/// Messages looked into at once: an operator changes his mind a few times, and
/// the last word comes again with each connection.
const LOOKS_MAX: u32 = 16;

/// Beyond these, one is looked into after each interval of this many ms: a
/// signature takes a box's processor up to 1 ms to verify.
const LOOK_EVERY_MS: u64 = 1_000;

impl Steered {
    /// Reads the key files, and what an earlier run stored.
    pub(super) fn new(
        config: &Config,
        device: &returnpath_shared::DeviceId,
        found: &Found,
    ) -> Result<Self, TrustError> {
        let load = |path: &Option<_>, purpose| {
            path.as_deref()
                .map(|path| Keys::load(path, purpose))
                .transpose()
        };
        let of_file = Settings {
            pace: settings::pace(config),
            reconnect_spread: config.link.reconnect_spread,
            decision_keys: load(&config.trust.decision_keys, returnpath_slots::PURPOSE)?,
        };
        let mut steered = Self {
            keys: load(&config.trust.config_keys, steering::PURPOSE)?,
            in_force: of_file.clone(),
            of_file,
            version: 0,
            stored: None,
            storing: None,
            refused: [0; REASONS.len()],
            looks: Bucket::new(LOOKS_MAX, LOOK_EVERY_MS),
        };
        let (Some(stored), Some(keys)) = (&found.config, &steered.keys) else {
            return Ok(steered);
        };
        // It stays the floor, whether it can still be read or not.
        steered.stored = Some(stored.clone());
        match steering::read(&stored.signed, device, keys, &steered.of_file) {
            Ok((version, settings)) if version == stored.version => {
                steered.version = version;
                steered.in_force = settings;
            }
            Ok(_) => warn!("the stored configuration is of another version; the file's is used"),
            Err(error) => warn!(%error, "the stored configuration is not used"),
        }
        Ok(steered)
    }

    pub(super) fn in_force(&self) -> &Settings {
        &self.in_force
    }

    /// Whether the box takes configuration.
    pub(super) fn listens(&self) -> bool {
        self.keys.is_some()
    }

    /// Refusals so far, by reason; only reasons that occurred.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = REASONS.into_iter().zip(self.refused);
        counts.filter(|(_, count)| *count > 0)
    }

    fn refuse(&mut self, refusal: &ConfigRefusal) {
        let reason = refusal.name();
        let mut counts = REASONS.iter().zip(&mut self.refused);
        let Some((_, count)) = counts.find(|(one, _)| **one == reason) else {
            return;
        };
        *count += 1;
        if stands_for_others(*count) {
            warn!(reason, count, %refusal, "configuration refused; nothing of it is applied");
        } else {
            debug!(reason, count, %refusal, "configuration refused");
        }
    }

    /// Whether this is what the box obeys already, to the byte: the retained
    /// message comes with every connection.
    fn is_obeyed(&self, message: &Bytes) -> bool {
        let stored = self.stored.as_ref();
        stored.is_some_and(|config| config.signed == *message)
    }
}

impl Agent {
    pub(super) fn configured(&mut self, message: &Bytes, now: Uptime) {
        let steered = &mut self.steered;
        let Some(keys) = &steered.keys else {
            return;
        };
        if steered.is_obeyed(message) {
            return;
        }
        if !steered.looks.take(now.0) {
            steered.refuse(&ConfigRefusal::TooMany);
            return;
        }
        match steering::read(message, &self.device, keys, &steered.of_file) {
            Err(refusal) => steered.refuse(&refusal),
            Ok((version, settings)) => {
                let under_way = steered.storing.as_ref().map(|(config, _)| config.version);
                let stored = steered.stored.as_ref().map(|config| config.version);
                if under_way.max(stored) >= Some(version) {
                    debug!(version, ?stored, "configuration is not newer");
                    return;
                }
                let config = StoredConfig {
                    version,
                    // Not a part of the link's buffer.
                    signed: Bytes::copy_from_slice(message),
                };
                steered.storing = Some((config.clone(), settings));
                self.queue.request(Request::StoreConfig(config));
            }
        }
    }

    pub(super) fn config_stored(&mut self, version: u64, outcome: BindOutcome, now: Uptime) {
        let storing = &mut self.steered.storing;
        let Some((config, settings)) = storing.take_if(|(config, _)| config.version == version)
        else {
            // Overtaken by a newer one, or put again into a new file.
            return;
        };
        if outcome == BindOutcome::Failed {
            self.steered.refuse(&ConfigRefusal::Unstored);
            return;
        }
        info!(version, "configuration applied");
        self.steered.stored = Some(config);
        self.steered.version = version;
        self.steered.in_force = settings;
        let settings = self.steered.in_force.clone();
        self.delivery.handle(Input::Pace(settings.pace), now);
        self.dialling
            .reconnect
            .set_spread(settings.reconnect_spread);
        self.decisions.trust(settings.decision_keys);
    }

    /// The queue file was replaced: what could not be copied is put in again.
    pub(super) fn store_again(&mut self) {
        self.decisions.slots.file_replaced();
        if let Some(config) = &self.steered.stored {
            self.queue.request(Request::StoreConfig(config.clone()));
        }
    }
}
