//! What the boxes of a fleet do, and how their delivery cores are set for it.

use std::{sync::Arc, time::Duration};

use returnpath_delivery::{Config, Pace, SyncPolicy, Uptime};

use super::{
    feed::{Feed, ViewerPace},
    lineup::Lineup,
    moment::Moment,
    viewer::Viewer,
};

/// What the boxes do.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Households, from this time of day on, this many times faster than real.
    Viewers {
        /// Time of day at the start.
        from: Moment,
        /// At least 1.
        speed: u32,
        /// Where the ads come from that they see.
        ads: AdSource,
    },
    /// Batches of [`EVENTS_PER_BATCH`](super::EVENTS_PER_BATCH) events at this rate, over all boxes.
    Batches {
        /// Batches a second, at least 1.
        per_second: u32,
    },
}

/// Where the ads of households come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdSource {
    /// The players make them up: nobody decides.
    MadeUp,
    /// The boxes follow decisions, signed by `decision-a` of the development
    /// PKI, and the players show them.
    Decided,
}

impl Load {
    /// The agent's defaults (`returnpath-agent.example.toml`), except where a
    /// fixed rate needs more.
    pub(super) fn delivery(self) -> Config {
        let pace = match self {
            Self::Viewers { .. } => Pace {
                batch_interval: Duration::from_secs(5),
                window_batches_max: 16,
                backlog_rate: 50,
            },
            // Batches are handed in whole; nothing is gained by waiting. A real
            // box sends one in 5 s and has its receipt after 30: here a box
            // stands for many, and its window for theirs.
            Self::Batches { .. } => Pace {
                batch_interval: Duration::from_millis(5),
                window_batches_max: u32::from(self.in_flight_max()),
                backlog_rate: 50,
            },
        };
        Config {
            pace,
            flush_interval: Duration::from_secs(60),
            sync: SyncPolicy::WhenNeeded,
            durable_after: Duration::from_millis(300),
            group_commit: Duration::from_millis(20),
            queue_bytes_max: 32 * 1024 * 1024,
            queue_batches_max: 16_384,
            age_max: Duration::from_secs(14 * 24 * 3_600),
            ram_bytes_max: match self {
                Self::Viewers { .. } => 512 * 1024,
                Self::Batches { .. } => 4 * 1024 * 1024,
            },
            live_age_max: Duration::from_secs(60),
            resend_after_prompt: Duration::from_secs(5),
            resend_after: Duration::from_secs(45),
            resend_after_max: Duration::from_secs(300),
            // It has no flash.
            flash_bytes_per_day_max: None,
            proof_ids_max: 4_096,
            ordinary_ids_max: 256,
        }
    }

    pub(super) fn follows_decisions(self) -> bool {
        match self {
            Self::Viewers { ads, .. } => ads == AdSource::Decided,
            Self::Batches { .. } => false,
        }
    }

    pub(super) fn in_flight_max(self) -> u16 {
        match self {
            Self::Viewers { .. } => 16,
            Self::Batches { .. } => 4_096,
        }
    }

    pub(super) fn feed(
        self,
        lineup: &Arc<Lineup>,
        boxes: u32,
        number: u32,
        seed: u64,
        now: Uptime,
    ) -> Feed {
        match self {
            Self::Viewers { from, speed, ads } => {
                let speed = speed.max(1);
                let viewer = Viewer::new(Arc::clone(lineup), seed, from);
                let viewer = match ads {
                    AdSource::MadeUp => viewer,
                    AdSource::Decided => viewer.following_decisions(speed),
                };
                Feed::Household {
                    viewer: Box::new(viewer),
                    pace: ViewerPace {
                        begun: from,
                        begun_at: now,
                        speed,
                    },
                }
            }
            Self::Batches { per_second } => {
                let interval = Duration::from_secs(1) * boxes / per_second.max(1);
                Feed::Batches {
                    // Spread evenly over the interval.
                    next: now.plus(interval * number / boxes.max(1)),
                    interval,
                }
            }
        }
    }
}
