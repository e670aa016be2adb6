//! What the agent tells about itself: the status that clients ask for, and its
//! health events.

use std::collections::BTreeMap;

use returnpath_delivery::{Held, Status, Uptime};
use returnpath_shared::wire::{Event, Health, event};
use returnpath_slots::Refusal;
use serde_json::{Map, Value, json};

use super::{Agent, decisions};
use crate::{intake::Counters, process, queue};

/// Facts beside those of the core.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) device: &'a str,
    pub(super) epoch: String,
    pub(super) uptime_ms: u64,
    pub(super) clock_synchronised: bool,
    pub(super) link_error: Option<&'a str>,
    pub(super) reconnects: u32,
    pub(super) queue_file_bytes: u64,
    pub(super) queue_bytes_max: u64,
    pub(super) counters: &'a Counters,
    pub(super) way_back: WayBack,
}

/// Facts of the way back.
#[derive(Debug)]
pub(super) struct WayBack {
    pub(super) decisions: decisions::Facts,
    pub(super) decisions_served: bool,
    pub(super) config_version: u64,
    pub(super) config_refused: Vec<(&'static str, u64)>,
}

impl WayBack {
    /// Decisions refused, by reason; only reasons that occurred.
    fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::ALL
            .into_iter()
            .map(|reason| (reason.name(), self.decisions.status.refused(reason)))
            .filter(|(_, count)| *count > 0)
    }
}

/// Whether the log tells of a refusal that comes as the `count`th of its kind.
/// What strangers send must not fill it: each that is told stands for as many
/// as were told before it, and all are counted.
pub(super) fn stands_for_others(count: u64) -> bool {
    count.is_power_of_two()
}

/// The status as JSON. Names are those of health events where both have one.
pub(super) fn status(status: &Status, facts: &Facts<'_>) -> Value {
    let usage = process::usage();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": facts.device,
        "epoch": facts.epoch,
        "uptimeMs": facts.uptime_ms,
        "clockSynchronised": facts.clock_synchronised,
        "link": {
            "up": status.link_up,
            "reconnects": facts.reconnects,
            "lastError": facts.link_error,
            "batchesInFlight": status.in_flight,
            "window": status.window,
        },
        "queue": {
            "storageGood": status.storage_good,
            "ordinary": held(status.ordinary),
            "proof": held(status.proof),
            "live": held(status.live),
            "backlog": held(status.backlog),
            "oldestAgeS": status.oldest_age.map(|age| age.as_secs()),
            "openEvents": status.open_events,
            "unflushedBytes": status.unflushed_bytes,
            "ledgerRows": status.ledger_rows,
            "fileBytes": facts.queue_file_bytes,
            "fileBytesMax": facts.queue_bytes_max,
            "sqliteVersion": queue::sqlite_version(),
        },
        "events": {
            "accepted": status.events_accepted,
            "receipted": status.events_receipted,
            "repeated": status.events_repeated,
            "busy": status.events_busy,
            "refused": Value::Object(refused(facts.counters)),
            "dropped": {
                "queueFull": status.dropped.queue_full,
                "tooOld": status.dropped.too_old,
                "consent": status.dropped.consent,
                "corrupt": status.dropped.corrupt,
                "refused": status.dropped.refused,
            },
            "awaitingDurable": status.waiting,
        },
        "batches": {
            "sent": status.batches_sent,
            "resent": status.batches_resent,
            "receipted": status.batches_receipted,
            "written": status.batches_written,
        },
        "flash": {
            "writtenBytes": usage.written_bytes,
            "batchBytesWritten": status.batch_bytes_written,
            "commits": status.commits,
            "commitsSynced": status.commits_synced,
            "commitsFailed": status.commits_failed,
            "chargedBytes": status.flash_charged_bytes,
            "budgetLeftBytes": status.flash_left_bytes,
            "budgetSpent": status.flash_budget_spent,
        },
        "decisions": {
            "taken": facts.way_back.decisions_served,
            "open": facts.way_back.decisions.status.open,
            "bound": facts.way_back.decisions.status.bound,
            "handedOver": facts.way_back.decisions.status.handed_over,
            "repeated": facts.way_back.decisions.status.repeated,
            "refused": Value::Object(counts(facts.way_back.refused())),
            "refusalsUntold": facts.way_back.decisions.status.untold,
            "askedAgain": facts.way_back.decisions.status.asked_again,
            "followers": facts.way_back.decisions.followers,
            "bindMsMax": u64::try_from(facts.way_back.decisions.bind_time_max.as_millis()).unwrap_or(u64::MAX),
        },
        "config": {
            "version": facts.way_back.config_version,
            "refused": Value::Object(counts(facts.way_back.config_refused.iter().copied())),
        },
        "clients": {
            "connected": facts.counters.clients(),
            "turnedAway": facts.counters.clients_turned_away(),
            "tooSlow": facts.counters.clients_too_slow(),
        },
        "process": {
            "residentBytes": usage.resident_bytes,
            "anonymousBytes": usage.anonymous_bytes,
            "cpuMs": usage.cpu_ms,
        },
    })
}

fn held(held: Held) -> Value {
    json!({ "batches": held.batches, "bytes": held.bytes })
}

fn counts(counts: impl Iterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    counts
        .map(|(reason, count)| (reason.to_owned(), count.into()))
        .collect()
}

fn refused(counters: &Counters) -> Map<String, Value> {
    counters
        .refused()
        .map(|(reason, count)| (reason.name().to_owned(), count.into()))
        .collect()
}

/// A health event.
pub(super) fn health(
    status: &Status,
    reconnects: u32,
    counters: &Counters,
    way_back: &WayBack,
    uptime_ms: u64,
) -> Event {
    let usage = process::usage();
    let batches = |held: Held| u32::try_from(held.batches).unwrap_or(u32::MAX);
    let refused: BTreeMap<String, u64> = counters
        .refused()
        .map(|(reason, count)| (reason.name().to_owned(), count))
        .collect();
    let health = Health {
        agent_resident_bytes: usage.resident_bytes,
        agent_cpu_ms: usage.cpu_ms,
        flash_written_bytes: usage.written_bytes,
        queue_proof_bytes: status.proof.bytes,
        queue_ordinary_bytes: status.ordinary.bytes,
        queue_proof_batches: batches(status.proof),
        queue_ordinary_batches: batches(status.ordinary),
        events_accepted: status.events_accepted,
        events_receipted: status.events_receipted,
        batches_resent: status.batches_resent,
        reconnects,
        refused,
        temperature_decicelsius: None,
        decisions_bound: way_back.decisions.status.bound,
        decisions_handed_over: way_back.decisions.status.handed_over,
        decisions_refused: way_back
            .refused()
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect(),
        config_version: way_back.config_version,
        flash_charged_bytes: status.flash_charged_bytes,
        flash_budget_spent: status.flash_budget_spent,
    };
    Event {
        uptime_ms,
        client_id: String::new(),
        kind: Some(event::Kind::Health(health)),
    }
}
impl Agent {
    /// The status that clients ask for.
    pub(super) fn report(&self, now: Uptime) -> serde_json::Value {
        status(
            &self.delivery.status(now),
            &Facts {
                device: self.device.as_str(),
                epoch: self.epoch.to_string(),
                uptime_ms: now.0,
                clock_synchronised: self.timekeeping.is_synchronised(),
                link_error: self.dialling.error(),
                reconnects: self.dialling.reconnects(),
                queue_file_bytes: queue::size_bytes(&self.config.queue.directory),
                queue_bytes_max: self.config.queue.bytes_max,
                counters: self.intake.counters(),
                way_back: self.way_back(now),
            },
        )
    }

    fn way_back(&self, now: Uptime) -> WayBack {
        WayBack {
            decisions: self.decisions.facts(now),
            decisions_served: self.steered.in_force().decision_keys.is_some(),
            config_version: self.steered.version,
            config_refused: self.steered.refused().collect(),
        }
    }

    /// A health event.
    pub(super) fn health(&self, now: Uptime) -> Event {
        let status = self.delivery.status(now);
        let reconnects = self.dialling.reconnects();
        let way_back = self.way_back(now);
        health(
            &status,
            reconnects,
            self.intake.counters(),
            &way_back,
            now.0,
        )
    }
}
