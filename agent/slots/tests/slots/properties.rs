//! Generated lives: whatever arrives, wherever the agent is killed.
//!
//! `PROPTEST_CASES=50000` searches longer.

use proptest::{collection::vec, prelude::*};
use returnpath_slots::TellOutcome;

use crate::{
    messages::{decision, forged, signed, slot},
    world::{Commit, World},
};

#[derive(Clone, Debug)]
enum Action {
    Arrive {
        break_number: u8,
        index: u32,
        ad: u8,
        expires_in_ms: i64,
        how: How,
    },
    ArriveAgain {
        which: usize,
    },
    Noise(Vec<u8>),
    Commit(Commit),
    Tell(TellOutcome),
    Follow,
    Leave,
    Ask {
        break_number: u8,
        lead_ms: u64,
    },
    Link(bool),
    Pass(u64),
    ReplaceFile {
        copied: bool,
    },
    Crash {
        stand: usize,
        reboot: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Signed,
    Forged,
    Foreign,
    OtherBoot,
    WithoutBreak,
    WithoutAd,
}

fn action() -> impl Strategy<Value = Action> {
    let how = prop_oneof![
        8 => Just(How::Signed),
        1 => Just(How::Forged),
        1 => Just(How::Foreign),
        1 => Just(How::OtherBoot),
        1 => Just(How::WithoutBreak),
        1 => Just(How::WithoutAd),
    ];
    // The same slot has one expiry with its decision; few slots, so that
    // decisions meet.
    let arrive = (0..2_u8, 0..3_u32, 0..2_u8, -500_i64..3_000, how).prop_map(
        |(break_number, index, ad, expires_in_ms, how)| Action::Arrive {
            break_number,
            index,
            ad,
            expires_in_ms,
            how,
        },
    );
    let commit = prop_oneof![
        6 => Just(Commit::Done),
        1 => Just(Commit::Failed),
        1 => Just(Commit::FailedButStands),
    ];
    let tell = prop_oneof![
        3 => Just(TellOutcome::Settled),
        1 => Just(TellOutcome::Taken),
        1 => Just(TellOutcome::Busy),
    ];
    prop_oneof![
        6 => arrive,
        3 => any::<usize>().prop_map(|which| Action::ArriveAgain { which }),
        1 => vec(any::<u8>(), 0..40).prop_map(Action::Noise),
        6 => commit.prop_map(Action::Commit),
        4 => tell.prop_map(Action::Tell),
        2 => Just(Action::Follow),
        1 => Just(Action::Leave),
        2 => (0..2_u8, 0..20_000_u64)
            .prop_map(|(break_number, lead_ms)| Action::Ask { break_number, lead_ms }),
        2 => any::<bool>().prop_map(Action::Link),
        3 => (0..2_000_u64).prop_map(Action::Pass),
        1 => any::<bool>().prop_map(|copied| Action::ReplaceFile { copied }),
        2 => (0..3_usize, any::<bool>())
            .prop_map(|(stand, reboot)| Action::Crash { stand, reboot }),
    ]
}

/// Does it; remembers every message, so that it can come again in any later
/// boot.
fn apply(world: &mut World, sent: &mut Vec<Vec<u8>>, action: Action) {
    match action {
        Action::Arrive {
            break_number,
            index,
            ad,
            expires_in_ms,
            how,
        } => {
            let boot_id = world.boot_id + u64::from(matches!(how, How::OtherBoot));
            let slot = slot(boot_id, break_number, index);
            let expiry_uptime_ms = world.now_ms.saturating_add_signed(expires_in_ms);
            let mut decision = decision(&slot, ad, expiry_uptime_ms);
            match how {
                How::Signed | How::Forged | How::OtherBoot => {}
                How::Foreign => decision.device_id = "box-2".into(),
                How::WithoutBreak => decision.break_id.clear(),
                How::WithoutAd => decision.creative = None,
            }
            let message = if matches!(how, How::Forged) {
                forged(&decision)
            } else {
                signed(&decision)
            };
            world.arrive(&message);
            sent.push(message);
        }
        Action::ArriveAgain { which } => {
            if let Some(message) = sent.get(which % sent.len().max(1)) {
                world.arrive(message);
            }
        }
        Action::Noise(bytes) => world.arrive(&bytes),
        Action::Commit(how) => world.commit(how),
        Action::Tell(outcome) => world.tell(outcome),
        Action::Follow => world.follow(),
        Action::Leave => world.leave(),
        Action::Ask {
            break_number,
            lead_ms,
        } => world.ask(break_number, lead_ms),
        Action::Link(is_up) => world.link(is_up),
        Action::Pass(ms) => world.pass(ms),
        Action::ReplaceFile { copied } => world.replace_file(copied),
        Action::Crash { stand, reboot } => world.crash(stand, reboot),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 20_000,
        ..ProptestConfig::with_cases(
            std::env::var("PROPTEST_CASES").map_or(2_000, |cases| cases.parse().unwrap())
        )
    })]

    #[test]
    fn no_slot_gets_two_decisions_and_every_bound_one_is_acknowledged(
        actions in vec(action(), 1..120),
    ) {
        let mut world = World::new();
        let mut sent = Vec::new();
        for action in actions {
            apply(&mut world, &mut sent, action);
            world.counts_add_up();
        }
        world.come_to_rest();
    }
}
