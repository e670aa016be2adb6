//! What a seed's world is like: how large it is, how often what goes wrong.
//!
//! Not everything goes wrong everywhere: a fault that is rare next to others
//! hides behind them, so each is left out of some worlds (Groce and others,
//! "Swarm testing", 2012).

use std::time::Duration;

use returnpath_decision::Cap;
use returnpath_delivery::{Config, Pace, SyncPolicy};
use returnpath_refinery::Limits;
use returnpath_shared::wire::PolicyKind;

use crate::random::Random;

pub(crate) struct Climate {
    pub(crate) boxes: usize,
    pub(crate) bridges: usize,
    pub(crate) partitions: usize,
    /// How long things go wrong, in virtual ms.
    pub(crate) stormy_ms: u64,
    /// Longest pause between what one viewer does.
    pub(crate) act_ms_max: u64,
    /// Longest pause between two misfortunes.
    pub(crate) misfortune_ms_max: u64,
    /// How often each misfortune is drawn.
    pub(crate) weights: Weights,
    /// In a thousand: a message that the broker took and drops.
    pub(crate) broker_drops: u64,
    /// A message that the broker delivers twice.
    pub(crate) broker_doubles: u64,
    /// A message that the broker delivers minutes late.
    pub(crate) broker_delays: u64,
    /// A PUBLISH that is answered by a refusal.
    pub(crate) broker_refuses: u64,
    /// A batch that the bridge refuses.
    pub(crate) bridge_refuses: u64,
    /// A receipt that is lost.
    pub(crate) receipts_lost: u64,
    /// A produce whose outcome the bridge never learns.
    pub(crate) produce_unknown: u64,
    /// A refine transaction that is aborted, or whose outcome is not known.
    pub(crate) refine_aborts: u64,
    /// A commit of the queue file that is rolled back.
    pub(crate) commit_rolls_back: u64,
    /// A commit after which the file is not to be trusted.
    pub(crate) commit_fails: u64,
    /// An answer that never reaches its client.
    pub(crate) answers_lost: u64,
    /// An event that is not as it must be.
    pub(crate) invalid_events: u64,
    /// A boot with a clock in 1970.
    pub(crate) boots_in_1970: u64,
    pub(crate) config: Config,
    pub(crate) way_back: WayBack,
}

/// What the way back is like.
#[derive(Clone)]
pub(crate) struct WayBack {
    /// Longest pause between two breaks of a box; none where it is 0.
    pub(crate) break_ms_max: u64,
    pub(crate) aggregators: usize,
    pub(crate) policy: PolicyKind,
    pub(crate) cap: Cap,
    /// How late an ad may begin, in ms.
    pub(crate) late_ms: u32,
    pub(crate) limits: returnpath_decision::Limits,
    /// In a thousand: an aggregator that does not answer.
    pub(crate) aggregators_silent: u64,
    /// One that answers what is no answer.
    pub(crate) aggregators_err: u64,
    /// One that answers when nobody waits any more.
    pub(crate) aggregators_late: u64,
    /// A decide transaction that is aborted, or whose outcome is not known.
    pub(crate) decide_aborts: u64,
    /// A decide node that dies or stands still in the middle of deciding.
    pub(crate) decide_falters: u64,
    /// A decide node that dies with what it was about to push.
    pub(crate) decide_dies_unpushed: u64,
    /// A push of which its node does not hear that the broker has it.
    pub(crate) confirmations_lost: u64,
    /// A box that a stranger publishes to as soon as its player has an ad.
    pub(crate) stranger_meddles: u64,
    /// A box that dies when a slot is bound and nobody has the ad.
    pub(crate) killed_when_bound: u64,
}

pub(crate) struct Weights {
    pub(crate) power_cut: u64,
    pub(crate) goes_dark: u64,
    pub(crate) agent_killed: u64,
    pub(crate) agent_stops: u64,
    pub(crate) link_cut: u64,
    pub(crate) clock_steps: u64,
    pub(crate) page_goes_bad: u64,
    pub(crate) broker_forgets: u64,
    pub(crate) bridge_dies: u64,
    pub(crate) kafka_refuses: u64,
    pub(crate) leader_changes: u64,
    pub(crate) lanes_part: u64,
    pub(crate) refine_dies: u64,
    pub(crate) handed_over: u64,
    pub(crate) taken_away: u64,
    pub(crate) refine_stalls: u64,
    pub(crate) decide_dies: u64,
    pub(crate) decide_handed_over: u64,
    pub(crate) decide_stalls: u64,
    pub(crate) strangers: u64,
}

/// What viewers do to their boxes, and how long a world of it lasts.
#[derive(Clone, Copy)]
struct Load {
    act_ms_max: u64,
    minutes: (u64, u64),
    misfortune_ms_max: [u64; 3],
}

/// A household makes an event every five seconds; it is told in most worlds,
/// for hours. Two smaller kinds of worlds drive everything to its bounds.
const LOADS: [Load; 6] = [
    HOUSEHOLD,
    HOUSEHOLD,
    HOUSEHOLD,
    HOUSEHOLD,
    Load {
        act_ms_max: 2_000,
        minutes: (2, 20),
        misfortune_ms_max: [2_000, 20_000, 120_000],
    },
    Load {
        act_ms_max: 200,
        minutes: (1, 5),
        misfortune_ms_max: [2_000, 20_000, 120_000],
    },
];

const HOUSEHOLD: Load = Load {
    act_ms_max: 10_000,
    minutes: (20, 360),
    misfortune_ms_max: [120_000, 300_000, 600_000],
};

/// How the climate of a world is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Zone {
    /// Anything goes wrong, seldom or often.
    #[default]
    Temperate,
    /// See [`Climate::of_worn_flash`].
    WornFlash,
}

impl Zone {
    pub(crate) const ALL: [Self; 2] = [Self::Temperate, Self::WornFlash];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Temperate => "temperate",
            Self::WornFlash => "worn_flash",
        }
    }
}

impl Climate {
    pub(crate) fn of(zone: Zone, random: &mut Random) -> Self {
        match zone {
            Zone::Temperate => Self::drawn(random),
            Zone::WornFlash => Self::of_worn_flash(random),
        }
    }

    fn drawn(random: &mut Random) -> Self {
        let load = random.pick(&LOADS);
        Self::under(load, random)
    }

    /// Flash wears out: queue files are lost every minute or two, while messages
    /// come late.
    fn of_worn_flash(random: &mut Random) -> Self {
        let load = Load {
            minutes: (20, 120),
            misfortune_ms_max: [5_000, 10_000, 20_000],
            ..random.pick(&LOADS)
        };
        let mut climate = Self::under(load, random);
        climate.weights.page_goes_bad = random.between(3, 60);
        climate.weights.lanes_part = random.between(3, 20);
        climate.commit_fails = random.between(1, 50);
        climate.broker_delays = random.between(1, 200);
        climate
    }

    fn under(load: Load, random: &mut Random) -> Self {
        let mut some = |most: u64| {
            if random.chance(350) {
                0
            } else {
                random.between(1, most)
            }
        };
        let weights = Weights {
            power_cut: some(10),
            goes_dark: some(3),
            agent_killed: some(10),
            agent_stops: some(6),
            link_cut: some(20),
            clock_steps: some(5),
            page_goes_bad: some(3),
            broker_forgets: some(5),
            bridge_dies: some(6),
            kafka_refuses: some(6),
            leader_changes: some(6),
            lanes_part: some(3),
            refine_dies: some(6),
            handed_over: some(4),
            taken_away: some(6),
            refine_stalls: some(2),
            decide_dies: some(2),
            decide_handed_over: some(2),
            decide_stalls: some(2),
            strangers: some(4),
        };
        Self {
            broker_drops: some(100),
            broker_doubles: some(100),
            broker_delays: some(30),
            broker_refuses: some(10),
            bridge_refuses: some(10),
            receipts_lost: some(300),
            produce_unknown: some(100),
            refine_aborts: some(100),
            commit_rolls_back: some(50),
            commit_fails: some(10),
            answers_lost: some(50),
            invalid_events: some(20),
            boots_in_1970: some(1_000),
            weights,
            boxes: random.index(4) + 1,
            bridges: random.index(3) + 1,
            partitions: random.index(2) + 1,
            stormy_ms: random.between(load.minutes.0, load.minutes.1) * 60_000,
            act_ms_max: load.act_ms_max,
            misfortune_ms_max: random.pick(&load.misfortune_ms_max),
            config: config(random),
            way_back: WayBack::of(load, random),
        }
    }
}

/// Longest pause between two breaks on television.
const ON_TELEVISION_MS: u64 = 1_200_000;

impl WayBack {
    /// In half of the worlds there are breaks, as often as on television or so
    /// often that they meet all that goes wrong.
    fn of(load: Load, random: &mut Random) -> Self {
        let mut some = |most: u64| {
            if random.chance(350) {
                0
            } else {
                random.between(1, most)
            }
        };
        let [aggregators_silent, aggregators_err, aggregators_late] =
            [200, 200, 100].map(&mut some);
        let [decide_aborts, decide_dies_unpushed, decide_falters] = [150, 60, 300].map(&mut some);
        let [confirmations_lost, killed_when_bound, stranger_meddles] =
            [300, 100, 100].map(&mut some);
        let often_ms = 30 * load.act_ms_max;
        Self {
            break_ms_max: random.pick(&[0, 0, 0, often_ms, ON_TELEVISION_MS, ON_TELEVISION_MS]),
            aggregators: random.index(3) + 1,
            policy: random.pick(&[PolicyKind::HighestPrice, PolicyKind::Waterfall]),
            cap: Cap {
                impressions_max: u32::try_from(random.between(1, 4)).unwrap(),
                window_ms: random.pick(&[300_000, 3_600_000, 86_400_000]),
            },
            late_ms: random.pick(&[0, 1_000, 5_000]),
            limits: random.pick(&[
                returnpath_decision::Limits::DEFAULT,
                returnpath_decision::Limits::DEFAULT,
                returnpath_decision::Limits {
                    open_decisions_max: 8,
                    over_decisions_max: 4,
                    exposures_max: 6,
                },
            ]),
            aggregators_silent,
            aggregators_err,
            aggregators_late,
            decide_aborts,
            decide_dies_unpushed,
            decide_falters,
            confirmations_lost,
            stranger_meddles,
            killed_when_bound,
        }
    }
}

/// What refine remembers of a box: as a collector does, or so few declarations
/// that most are forgotten, which a box comes to by itself only in months of
/// misfortune. Drawn apart, so that a seed's world is the same within any bounds.
pub(crate) fn limits(seed: u64) -> Limits {
    let random = &mut Random::new(!seed);
    if random.chance(500) {
        return Limits::DEFAULT;
    }
    Limits {
        declared_epochs_max: random.index(4),
        declared_ranges_max: random.index(8),
        ..Limits::DEFAULT
    }
}

/// The agent's defaults, or bounds so tight that they are reached.
fn config(random: &mut Random) -> Config {
    let tight = random.chance(500);
    let mut bound = |usual: u64, low: u64, high: u64| {
        if tight && random.chance(600) {
            random.between(low, high)
        } else {
            usual
        }
    };
    let seconds = Duration::from_secs;
    Config {
        pace: Pace {
            batch_interval: seconds(bound(5, 1, 30)),
            window_batches_max: u32::try_from(bound(32, 1, 4)).unwrap(),
            backlog_rate: u32::try_from(bound(10, 1, 2)).unwrap(),
        },
        flush_interval: seconds(bound(60, 5, 300)),
        durable_after: Duration::from_millis(300),
        group_commit: Duration::from_millis(20),
        queue_bytes_max: bound(16 << 20, 24_000, 60_000),
        queue_batches_max: usize::try_from(bound(16_384, 12, 40)).unwrap(),
        age_max: seconds(bound(30 * 86_400, 60, 600)),
        ram_bytes_max: usize::try_from(bound(256 << 10, 2_000, 10_000)).unwrap(),
        live_age_max: seconds(bound(60, 5, 20)),
        resend_after_prompt: seconds(5),
        resend_after: seconds(60),
        resend_after_max: seconds(600),
        proof_ids_max: usize::try_from(bound(256, 2, 8)).unwrap(),
        ordinary_ids_max: usize::try_from(bound(64, 1, 4)).unwrap(),
        flash_bytes_per_day_max: Some(bound(64 << 20, 100_000, 10_000_000)),
        sync: random.pick(&[
            SyncPolicy::WhenNeeded,
            SyncPolicy::WhenNeeded,
            SyncPolicy::Always,
        ]),
    }
}
