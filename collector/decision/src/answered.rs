//! What came of a call: its answer, read by the adapter of whoever gave it, and
//! its offers judged by the rules.
//!
//! Knows neither box nor transaction: it is done as soon as the answer is there
//! and wherever it arrived, so that the one thread which decides has it ready.
//! Whether an advertiser is capped is said when the slot is decided.

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};

use returnpath_shared::wire::{AggregatorRecord, OfferRecord, Outcome};

use crate::{
    call::{Answer, Unreadable},
    gates::{CallId, Health},
    offer::{OFFERS_MAX, bound_detail},
    settings::Settings,
};

/// What came of a call.
#[derive(Clone, PartialEq, Debug)]
pub struct Answered {
    outcome: Outcome,
    http_status: u32,
    detail: String,
    offers: Vec<OfferRecord>,
}

impl Settings {
    /// Reads an answer to a call, made for a slot of `slot_duration_ms`
    /// ([`Call`](crate::Call)). An aggregator that there is not has given none.
    #[must_use]
    pub fn read(&self, call: CallId, slot_duration_ms: u32, answer: &Answer) -> Answered {
        let response = match answer {
            Answer::Timeout => return Answered::nothing(Outcome::Timeout, ""),
            Answer::Unreachable(why) => return Answered::nothing(Outcome::Unreachable, why),
            Answer::TooLarge => return Answered::nothing(Outcome::TooLarge, ""),
            Answer::Response(response) => response,
        };
        let Some(aggregator) = self.aggregators.get(call.aggregator) else {
            return Answered::nothing(Outcome::Unreachable, "no such aggregator");
        };
        let (outcome, detail, mut offers) = match aggregator.adapter.offers(response) {
            Ok(offers) if offers.is_empty() => (Outcome::NoBid, String::new(), offers),
            Ok(offers) => (Outcome::Offered, String::new(), offers),
            Err(why) => (Unreadable::outcome(&why), why.to_string(), Vec::new()),
        };
        offers.truncate(OFFERS_MAX);
        let never = |_: &str| false;
        let is_capped = self.cap.is_some().then_some(&never as _);
        Answered {
            outcome,
            http_status: response.status.into(),
            detail: bound_detail(detail),
            offers: self
                .rules
                .judge(offers, slot_duration_ms, &self.policy, is_capped),
        }
    }
}

impl Answered {
    fn nothing(outcome: Outcome, detail: &str) -> Self {
        Self {
            outcome,
            http_status: 0,
            detail: bound_detail(detail.into()),
            offers: Vec::new(),
        }
    }

    pub(crate) fn health(&self) -> Health {
        match self.outcome {
            Outcome::Offered | Outcome::NoBid => Health::Worked,
            Outcome::Unspecified
            | Outcome::Timeout
            | Outcome::Error
            | Outcome::Unreachable
            | Outcome::Invalid
            | Outcome::TooLarge => Health::Failed,
        }
    }

    /// Writes it down; how it ended is given back.
    pub(crate) fn record(self, record: &mut AggregatorRecord) -> Outcome {
        record.http_status = self.http_status;
        record.detail = self.detail;
        record.offers = self.offers;
        self.outcome
    }
}
