//! What an aggregator has to offer. Pure: the n-th request of the same seed has
//! the same fate.

use std::{ops::RangeInclusive, time::Duration};

use super::CREATIVES_HOST;
use crate::fleet::chance::Chance;

/// Advertisers of a market; each has a few creatives with an aggregator.
const ADVERTISERS: u64 = 40;
const CREATIVES_EACH: u64 = 5;

/// Offers in one answer, where the API takes several.
const OFFERS_MAX: u64 = 3;

/// Prices are whole cents above the lowest.
const CENT_MICROS: i64 = 10_000;

/// What an aggregator has, and how fast it says so.
#[derive(Clone, Debug)]
pub struct Stock {
    /// Part of the requests that it has an offer for, 0 to 1.
    pub fill: f64,
    /// What it pays, in millionths of the currency for 1,000 impressions.
    pub price_micros: RangeInclusive<i64>,
    /// How long it takes to answer.
    pub latency: Latency,
}

/// How long an aggregator takes: log-normal, as such services are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Latency {
    /// Half of the answers are faster.
    pub median: Duration,
    /// Standard deviation of the logarithm; 0 takes exactly the median.
    pub sigma: f64,
}

impl Latency {
    /// Always the same.
    #[must_use]
    pub fn fixed(latency: Duration) -> Self {
        Self {
            median: latency,
            sigma: 0.0,
        }
    }
}

/// What an aggregator does with one request.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Drawn {
    pub(super) latency: Duration,
    /// None: no fill.
    pub(super) contents: Vec<Content>,
}

/// One offer, before an API gives it a form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Content {
    pub(super) offer_id: String,
    pub(super) creative_id: String,
    pub(super) url: String,
    pub(super) media_type: &'static str,
    pub(super) duration_ms: u32,
    pub(super) price_micros: i64,
    pub(super) currency: &'static str,
    pub(super) advertiser: String,
}

impl Stock {
    /// What becomes of request `number` for a slot of this length.
    pub(super) fn draw(&self, seed: u64, number: u64, duration_ms: u32) -> Drawn {
        // A stream of its own for each request: what one draws does not move
        // the others.
        let mut chance = Chance::new(Chance::new(seed).bits() ^ number);
        let latency = self.latency.draw(&mut chance);
        let offers = if chance.happens(self.fill) {
            1 + chance.below(OFFERS_MAX)
        } else {
            0
        };
        let contents = (0..offers)
            .map(|place| self.content(&mut chance, number, place, duration_ms))
            .collect();
        Drawn { latency, contents }
    }

    fn content(&self, chance: &mut Chance, number: u64, place: u64, duration_ms: u32) -> Content {
        let advertiser = format!("advertiser-{}.example", chance.below(ADVERTISERS));
        let creative_id = format!("{advertiser}-{}", chance.below(CREATIVES_EACH));
        let (low, high) = (*self.price_micros.start(), *self.price_micros.end());
        let cents = u64::try_from(high.saturating_sub(low) / CENT_MICROS).unwrap_or(0);
        let above = i64::try_from(chance.below(cents.saturating_add(1))).unwrap_or(0);
        Content {
            offer_id: format!("offer-{number}-{place}"),
            url: format!("https://{CREATIVES_HOST}/{creative_id}.mp4"),
            creative_id,
            media_type: "video/mp4",
            duration_ms,
            price_micros: low.saturating_add(above * CENT_MICROS),
            currency: "EUR",
            advertiser,
        }
    }
}

impl Latency {
    fn draw(self, chance: &mut Chance) -> Duration {
        if self.sigma <= 0.0 {
            return self.median;
        }
        let seconds = chance.log_normal(self.median.as_secs_f64(), self.sigma);
        Duration::try_from_secs_f64(seconds).unwrap_or(self.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(fill: f64) -> Stock {
        Stock {
            fill,
            price_micros: 1_000_000..=9_000_000,
            latency: Latency {
                median: Duration::from_millis(20),
                sigma: 0.5,
            },
        }
    }

    #[test]
    fn a_request_has_the_same_fate_whatever_was_asked_before() {
        let stock = stock(0.5);
        let all: Vec<_> = (0..50).map(|n| stock.draw(3, n, 30_000)).collect();
        assert_eq!(stock.draw(3, 17, 30_000), all[17]);
        let other: Vec<_> = (0..50).map(|n| stock.draw(4, n, 30_000)).collect();
        assert_ne!(all, other);
    }

    #[test]
    fn it_fills_as_often_as_it_says_within_its_prices() {
        let stock = stock(0.3);
        let drawn: Vec<_> = (0..10_000).map(|n| stock.draw(1, n, 20_000)).collect();
        let filled = drawn.iter().filter(|it| !it.contents.is_empty()).count();
        assert!((2_800..3_200).contains(&filled), "{filled}");
        for content in drawn.iter().flat_map(|it| &it.contents) {
            assert!(stock.price_micros.contains(&content.price_micros));
            assert_eq!(content.duration_ms, 20_000);
        }
        let fast = drawn.iter().filter(|it| it.latency.as_millis() < 20);
        assert!((4_800..5_200).contains(&fast.count()));
    }
}
