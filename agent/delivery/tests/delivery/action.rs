//! What can happen to a box, generated.

use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    Tune,
    Opportunity,
    Impression,
    Quartile,
    OptIn,
    OptOut,
    /// An ordinary event of some size that carries an id.
    Custom {
        bytes: usize,
    },
    /// A proof event that was sent before, counted back.
    Repeat {
        back: usize,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Accept(Client),
    Burst {
        client: Client,
        events: usize,
    },
    Pass {
        ms: u64,
    },
    LinkUp,
    LinkDown,
    /// Whether commits and loads are answered at once from here on.
    DiskAnswers(bool),
    CommitDone,
    CommitRolledBack,
    /// A commit fails; whether the file has it, and which row is unreadable.
    CommitFailed {
        landed: bool,
        unreadable: Option<usize>,
    },
    RebuildFails,
    LoadDone,
    LoadUnreadable,
    /// What the broker and the collector do with publishes from here on.
    Broker(Broker),
    Arrives {
        index: usize,
    },
    Lost {
        index: usize,
    },
    BrokerRefuses {
        index: usize,
    },
    BrokerRetry {
        index: usize,
    },
    Receipt {
        index: usize,
    },
    /// Again, for something long receipted.
    LateReceipt {
        index: usize,
    },
    CollectorRefuses {
        index: usize,
    },
    SenselessReceipt,
    ClockSynchronised {
        unix_ms: i64,
    },
    Pace {
        window: u32,
        rate: u32,
    },
    /// The power goes: how much of what was not synced survives.
    Crash {
        survive: usize,
        commit_landed: bool,
        same_boot: bool,
    },
    StopAndStart,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broker {
    /// Publishes wait for an action.
    Holds,
    /// They arrive; receipts wait for an action.
    Delivers,
    /// They arrive and are receipted at once.
    Receipts,
    Loses,
}

fn client() -> impl Strategy<Value = Client> {
    prop_oneof![
        4 => Just(Client::Tune),
        2 => Just(Client::Opportunity),
        3 => Just(Client::Impression),
        3 => Just(Client::Quartile),
        1 => Just(Client::OptIn),
        1 => Just(Client::OptOut),
        3 => (0..900_usize).prop_map(|bytes| Client::Custom { bytes }),
        2 => (0..40_usize).prop_map(|back| Client::Repeat { back }),
    ]
}

pub(crate) fn action() -> impl Strategy<Value = Action> {
    let index = 0..16_usize;
    prop_oneof![
        12 => client().prop_map(Action::Accept),
        2 => (client(), 1..60_usize)
            .prop_map(|(client, events)| Action::Burst { client, events }),
        8 => prop_oneof![0..50_u64, 0..2_000_u64, 0..70_000_u64, 0..1_200_000_u64]
            .prop_map(|ms| Action::Pass { ms }),
        3 => Just(Action::LinkUp),
        2 => Just(Action::LinkDown),
        2 => any::<bool>().prop_map(Action::DiskAnswers),
        4 => Just(Action::CommitDone),
        1 => Just(Action::CommitRolledBack),
        1 => (any::<bool>(), proptest::option::of(0..8_usize)).prop_map(|(landed, unreadable)| {
            Action::CommitFailed { landed, unreadable }
        }),
        1 => Just(Action::RebuildFails),
        3 => Just(Action::LoadDone),
        1 => Just(Action::LoadUnreadable),
        2 => prop_oneof![
            Just(Broker::Holds),
            Just(Broker::Delivers),
            Just(Broker::Receipts),
            Just(Broker::Loses)
        ]
        .prop_map(Action::Broker),
        4 => index.clone().prop_map(|index| Action::Arrives { index }),
        1 => index.clone().prop_map(|index| Action::Lost { index }),
        1 => index.clone().prop_map(|index| Action::BrokerRefuses { index }),
        1 => index.clone().prop_map(|index| Action::BrokerRetry { index }),
        4 => index.clone().prop_map(|index| Action::Receipt { index }),
        1 => index.clone().prop_map(|index| Action::LateReceipt { index }),
        1 => index.prop_map(|index| Action::CollectorRefuses { index }),
        1 => Just(Action::SenselessReceipt),
        1 => any::<i64>().prop_map(|unix_ms| Action::ClockSynchronised { unix_ms }),
        1 => (1..9_u32, 0..40_u32).prop_map(|(window, rate)| Action::Pace { window, rate }),
        1 => (0..4_usize, any::<bool>(), any::<bool>()).prop_map(
            |(survive, commit_landed, same_boot)| Action::Crash {
                survive,
                commit_landed,
                same_boot
            }
        ),
        1 => Just(Action::StopAndStart),
    ]
}
