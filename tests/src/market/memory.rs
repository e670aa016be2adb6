//! What an aggregator remembers: totals, and the latest requests, so that a
//! test can see what an aggregator was told.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use serde::Serialize;

/// Requests kept: more than any test asks, little enough to forget; the oldest
/// go first.
const ASKED_MAX: usize = 4_096;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it was taken.
    pub at: Instant,
    /// HTTP's method.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Names in lower case; of a name that came twice, the last.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

impl Asked {
    /// Whether `text` stands anywhere in it, as sent.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        self.target.contains(text)
            || self.headers.values().any(|value| value.contains(text))
            || String::from_utf8_lossy(&self.body).contains(text)
    }

    /// A parameter of the query, as sent: percent-encoded.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// A header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// A place in the JSON body, by its pointer (RFC 6901).
    #[must_use]
    pub fn pointed(&self, pointer: &str) -> Option<serde_json::Value> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body.pointer(pointer).cloned()
    }
}

/// Totals of an aggregator. Every request is asked; those that its API
/// understands are then offered to or not, or met with a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Connections taken.
    pub connections: u64,
    /// Requests taken.
    pub asked: u64,
    /// Answered with an offer.
    pub offered: u64,
    /// Answered that there is none.
    pub no_bid: u64,
    /// Met with anything but an answer from the stock, as it was told to
    /// behave.
    pub faulty: u64,
    /// Answered 4xx: not as the API is, or without the secret.
    pub not_understood: u64,
    /// Bytes of endless bodies that were taken off.
    pub endless_bytes: u64,
}

/// Filled by the server, read by tests.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) connections: AtomicU64,
    asked: AtomicU64,
    pub(super) offered: AtomicU64,
    pub(super) no_bid: AtomicU64,
    pub(super) faulty: AtomicU64,
    pub(super) not_understood: AtomicU64,
    pub(super) endless_bytes: AtomicU64,
    latest: Mutex<VecDeque<Asked>>,
}

impl Memory {
    /// Keeps a request, and says how many came before it.
    pub(super) fn keep(&self, asked: Asked) -> u64 {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == ASKED_MAX {
            latest.pop_front();
        }
        latest.push_back(asked);
        // Under the lock: numbers and memory are in the same order.
        self.asked.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connections: read(&self.connections),
            asked: read(&self.asked),
            offered: read(&self.offered),
            no_bid: read(&self.no_bid),
            faulty: read(&self.faulty),
            not_understood: read(&self.not_understood),
            endless_bytes: read(&self.endless_bytes),
        }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.iter().cloned().collect()
    }
}
