//! What of the time of a decision was ours: neither aggregators' nor Kafka's.
//! Pure: times are arguments, in microseconds of one monotonic clock.

use std::{collections::VecDeque, time::Duration};

use returnpath_decision::Timing;

/// Waits for Kafka that are remembered: a decision takes seconds at most, and
/// there are some 30 transactions in a second.
const WAITS_MAX: usize = 512;

/// When Kafka was asked to confirm a transaction. What is decided then is in the
/// next one, and waits for both.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    /// From and to, in order.
    waits: VecDeque<(u64, u64)>,
    began_us: Option<u64>,
}

/// Time of one decision, from taking its opportunity to handing it over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Time {
    pub(super) own: Duration,
    pub(super) total: Duration,
}

impl Confirmations {
    /// All that we have to say of a partition in the open transaction is said.
    /// To be told once a partition: the last counts, from then on it is Kafka's.
    pub(super) fn begin(&mut self, now_us: u64) {
        self.began_us = Some(now_us);
    }

    /// Kafka has answered. To be told once a partition: the first counts.
    pub(super) fn end(&mut self, now_us: u64) {
        if let Some(began_us) = self.began_us.take() {
            if self.waits.len() >= WAITS_MAX {
                self.waits.pop_front();
            }
            self.waits.push_back((began_us, now_us));
        }
    }

    /// The time of a decision that is handed over now. What passed until it was
    /// decided is ours, but for the aggregators, whatever Kafka did meanwhile.
    pub(super) fn judge(&self, timing: Timing, now_us: u64) -> Time {
        let total_us = now_us.saturating_sub(timing.taken_us);
        let kafka_us: u64 = self
            .waits
            .iter()
            .rev()
            .take_while(|(_, to_us)| *to_us > timing.decided_us)
            .map(|(from_us, to_us)| {
                let to_us = (*to_us).min(now_us);
                to_us.saturating_sub((*from_us).max(timing.decided_us))
            })
            .sum();
        let own_us = total_us
            .saturating_sub(timing.waited_us)
            .saturating_sub(kafka_us);
        Time {
            own: Duration::from_micros(own_us),
            total: Duration::from_micros(total_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken at 1,000 and handed over at 10,000.
    fn judge(waits: &[(u64, u64)], waited_us: u64, decided_us: u64) -> (u64, u64) {
        let mut confirmations = Confirmations::default();
        for (from_us, to_us) in waits {
            confirmations.begin(*from_us - 1);
            confirmations.begin(*from_us);
            confirmations.end(*to_us);
            confirmations.end(*to_us + 1);
        }
        let timing = Timing {
            taken_us: 1_000,
            decided_us,
            waited_us,
        };
        let time = confirmations.judge(timing, 10_000);
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap();
        (us(time.own), us(time.total))
    }

    #[test]
    fn waiting_for_aggregators_and_for_kafka_is_not_ours() {
        for (waits, waited_us, decided_us, expected) in [
            (&[][..], 0, 1_000, (9_000, 9_000)),
            (&[], 5_000, 6_000, (4_000, 9_000)),
            (&[(7_000, 9_000)], 5_000, 6_000, (2_000, 9_000)),
            // Decided while another transaction was confirmed, then its own.
            (
                &[(4_000, 7_000), (8_000, 9_500)],
                5_000,
                6_000,
                (1_500, 9_000),
            ),
            // Decided late, while Kafka was at work: our own doing.
            (&[(4_000, 8_000)], 5_000, 7_500, (3_500, 9_000)),
            // Over before it was decided.
            (&[(2_000, 5_900)], 5_000, 6_000, (4_000, 9_000)),
            (&[(500, 900)], 0, 1_000, (9_000, 9_000)),
        ] {
            let judged = judge(waits, waited_us, decided_us);
            assert_eq!(judged, expected, "{waits:?}");
        }
    }

    #[test]
    fn of_the_waits_the_oldest_are_forgotten() {
        let mut confirmations = Confirmations::default();
        for number in 0..2 * WAITS_MAX as u64 {
            confirmations.begin(10 * number);
            confirmations.end(10 * number + 5);
        }
        assert_eq!(confirmations.waits.len(), WAITS_MAX);
    }
}
