//! What is killed when: drawn from a seed, before anything runs. Pure; knows
//! nothing of the processes that it names.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::fleet::chance::Chance;

/// Kinds of processes that are killed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `returnpath-agent`.
    Agent,
    /// `returnpath-collector`.
    Collector,
    /// Mosquitto.
    MqttBroker,
    /// An Apache Kafka node.
    Kafka,
}

/// One process: its kind, and which of them, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Which one.
    pub number: usize,
}

/// A kill, and how long until the process is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kill {
    /// When, since the beginning.
    pub at: Duration,
    /// Who.
    pub part: Part,
    /// How long it stays dead.
    pub down_for: Duration,
}

/// Bounds in ms between which times are drawn evenly.
struct Habit {
    up_ms: [u64; 2],
    down_ms: [u64; 2],
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Collector, Self::MqttBroker, Self::Kafka];

    /// What it is called in a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Collector => "collector",
            Self::MqttBroker => "Mosquitto",
            Self::Kafka => "Kafka",
        }
    }

    /// Long enough up that work gets done, which the next kill can interrupt;
    /// short enough that it often has not been done. Kafka takes seconds to be
    /// back, and everything else stands still until then.
    fn habit(self) -> Habit {
        match self {
            Self::Agent => Habit {
                up_ms: [500, 12_000],
                down_ms: [0, 3_000],
            },
            Self::Collector => Habit {
                up_ms: [1_000, 18_000],
                down_ms: [0, 4_000],
            },
            Self::MqttBroker => Habit {
                up_ms: [1_000, 15_000],
                down_ms: [0, 3_000],
            },
            Self::Kafka => Habit {
                up_ms: [6_000, 30_000],
                down_ms: [0, 5_000],
            },
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind.name(), self.number + 1)
    }
}

/// All kills of `parts` within `span`, in order. Each part dies at least once,
/// and goes its own way: kills fall into each other's downtime and recovery.
#[must_use]
pub fn kills(seed: u64, parts: &[Part], span: Duration) -> Vec<Kill> {
    let mut seeds = Chance::new(seed);
    let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut kills = Vec::new();
    for part in parts {
        let mut chance = Chance::new(seeds.bits());
        let habit = part.kind.habit();
        let mut between = |[from, to]: [u64; 2]| from + chance.below(to - from);
        let mut at_ms = between([0, habit.up_ms[1].min(span_ms).max(1)]);
        while at_ms < span_ms {
            let down_ms = between(habit.down_ms);
            kills.push(Kill {
                at: Duration::from_millis(at_ms),
                part: *part,
                down_for: Duration::from_millis(down_ms),
            });
            at_ms += down_ms + between(habit.up_ms);
        }
    }
    kills.sort_by_key(|kill| (kill.at, kill.part));
    kills
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(40);

    fn parts() -> Vec<Part> {
        Kind::ALL
            .into_iter()
            .flat_map(|kind| (0..2).map(move |number| Part { kind, number }))
            .collect()
    }

    #[test]
    fn a_seed_names_its_kills_and_another_names_others() {
        assert_eq!(kills(7, &parts(), SPAN), kills(7, &parts(), SPAN));
        assert_ne!(kills(7, &parts(), SPAN), kills(8, &parts(), SPAN));
    }

    #[test]
    fn every_part_dies_within_the_span_and_in_order() {
        for seed in 0..100 {
            let kills = kills(seed, &parts(), SPAN);
            assert!(kills.is_sorted_by_key(|kill| kill.at));
            assert!(kills.iter().all(|kill| kill.at < SPAN));
            for part in parts() {
                assert!(kills.iter().any(|kill| kill.part == part), "{seed}: {part}");
            }
        }
    }

    #[test]
    fn nobody_is_killed_who_has_not_been_started_again() {
        for seed in 0..100 {
            for part in parts() {
                let kills = kills(seed, &parts(), SPAN);
                let own: Vec<_> = kills.iter().filter(|kill| kill.part == part).collect();
                for pair in own.windows(2) {
                    let up_ms = part.kind.habit().up_ms[0];
                    let up_at = pair[0].at + pair[0].down_for;
                    assert!(pair[1].at >= up_at + Duration::from_millis(up_ms));
                }
            }
        }
    }
}
