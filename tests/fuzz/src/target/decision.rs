//! Decisions as they reach a box: forged, signed and repeated ones, while the
//! queue file takes their rows or fails, players come, time passes and the
//! agent starts again.

use std::collections::{BTreeMap, VecDeque};

use prost::Message as _;
use returnpath_shared::{
    CREATIVE_URL_BYTES_MAX, check,
    wire::{Decision, Event, SignedDecision, event},
};
use returnpath_slots::{
    BindOutcome, Follower, HELD_MAX, HandOver, Output, Refusal, Refused, Row, Slot, Slots, Start,
    Tell, TellOutcome, Verify,
};

use crate::{
    script::{Script, ScriptWriter},
    seed,
};

/// Steps of one input: more say no more.
const STEPS_MAX: usize = 128;

const FORGED: u8 = 0;
const SIGNED: u8 = 1;
const TIME: u8 = 2;
const COMMIT: u8 = 3;
const FAILED_COMMIT: u8 = 4;
const FOLLOW: u8 = 5;
const RESTART: u8 = 6;
const TOLD: u8 = 7;
const STEPS: u8 = 8;

const KEY_ID: &str = "operator";
const SIGNATURE: &[u8] = b"signed";

/// What a box hands to players is signed for it, in time, on flash, and for
/// each slot always the same; every message is counted once.
pub fn run(input: &[u8]) {
    let mut script = Script::of(input);
    let mut world = World::new();
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        match script.byte() % STEPS {
            FORGED => world.arrive(script.message(), false),
            SIGNED => world.arrive(&signed(script.message()), true),
            TIME => {
                world.now_ms += u64::from(script.byte()) * 100;
                let now_ms = world.now_ms;
                world.slots.tick(now_ms);
            }
            COMMIT => world.commit(BindOutcome::Done),
            FAILED_COMMIT => world.commit(BindOutcome::Failed),
            FOLLOW => {
                let (follower, now_ms) = (Follower(script.byte().into()), world.now_ms);
                world.slots.followed(follower, now_ms);
            }
            RESTART => world.restart(),
            _ => world.told(),
        }
        world.carry_out();
    }
}

struct Operator;

impl Verify for Operator {
    fn is_signed(&self, key_id: &str, _decision: &[u8], signature: &[u8]) -> bool {
        key_id == KEY_ID && signature == SIGNATURE
    }
}

struct World {
    slots: Slots,
    now_ms: u64,
    file: BTreeMap<Slot, Row>,
    binding: VecDeque<(u64, Row)>,
    telling: VecDeque<u64>,
    /// What players got, of slots that are not forgotten.
    handed: BTreeMap<Slot, Decision>,
    /// Messages of this run.
    arrived: u64,
}

impl World {
    fn new() -> Self {
        Self {
            slots: start(Vec::new(), seed::UPTIME_MS),
            now_ms: seed::UPTIME_MS,
            file: BTreeMap::new(),
            binding: VecDeque::new(),
            telling: VecDeque::new(),
            handed: BTreeMap::new(),
            arrived: 0,
        }
    }

    fn arrive(&mut self, message: &[u8], is_signed: bool) {
        let before = self.slots.status(self.now_ms);
        self.slots.arrived(message, &Operator, self.now_ms);
        self.arrived += 1;
        let after = self.slots.status(self.now_ms);
        let refused = |reason| after.refused(reason) - before.refused(reason);
        if is_signed {
            assert_eq!(refused(Refusal::Forged), 0);
        } else if SignedDecision::decode(message)
            .is_ok_and(|message| message.key_id != KEY_ID || message.signature != SIGNATURE)
        {
            let reasons = [Refusal::Forged, Refusal::Malformed, Refusal::TooMany];
            assert_eq!(reasons.map(refused).iter().sum::<u64>(), 1);
        }
    }

    fn commit(&mut self, outcome: BindOutcome) {
        if let Some((number, row)) = self.binding.pop_front() {
            if outcome == BindOutcome::Done {
                self.file.insert(row.slot.clone(), row);
                assert!(self.file.len() <= HELD_MAX);
            }
            self.slots.bound(number, outcome, self.now_ms);
        }
    }

    /// The agent is killed: what was not committed is gone.
    fn restart(&mut self) {
        self.binding.clear();
        self.telling.clear();
        self.arrived = 0;
        let rows = self.file.values().cloned().collect();
        self.slots = start(rows, self.now_ms);
    }

    fn told(&mut self) {
        if let Some(number) = self.telling.pop_front() {
            self.slots.told(number, TellOutcome::Settled, self.now_ms);
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.slots.poll_output() {
            match output {
                Output::Bind { number, row } => self.binding.push_back((number, row)),
                Output::HandOver(hand_over) => self.hand_over(&hand_over),
                Output::Tell(Tell { number, event }) => {
                    let event = Event {
                        kind: Some(event::Kind::AdEvent(event)),
                        ..Event::default()
                    };
                    check(&event).expect("what is told is good");
                    self.telling.push_back(number);
                }
                Output::AskAgain(_) => panic!("no box asked for anything"),
                Output::Forget(slot) => {
                    self.file.remove(&slot);
                    self.handed.remove(&slot);
                }
                Output::Refused(refused) => judged(&refused),
            }
        }
        let status = self.slots.status(self.now_ms);
        let refused: u64 = Refusal::ALL
            .map(|reason| status.refused(reason))
            .iter()
            .sum();
        let under_way = self.binding.len() as u64;
        assert_eq!(
            self.arrived,
            status.bound + status.repeated + refused + under_way
        );
    }

    fn hand_over(&mut self, HandOver { decision, .. }: &HandOver) {
        let slot = Slot {
            boot_id: decision.expiry_boot_id,
            break_id: decision.break_id.clone(),
            index: decision.slot,
        };
        assert_eq!(decision.device_id, seed::DEVICE);
        assert_eq!(decision.expiry_boot_id, seed::BOOT);
        assert!(
            self.now_ms < decision.expiry_uptime_ms,
            "handed over too late"
        );
        let row = self.file.get(&slot).expect("its row is on flash");
        assert_eq!(row.decision_id, decision.decision_id);
        let signed = SignedDecision::decode(&row.signed[..]).unwrap();
        assert_eq!(Decision::decode(signed.decision).as_ref(), Ok(decision));
        if let Some(creative) = &decision.creative {
            assert!(creative.url.starts_with("https://"));
            assert!(creative.url.len() <= CREATIVE_URL_BYTES_MAX);
            assert!(creative.duration_ms > 0);
        }
        // Players get it as JSON.
        let line = serde_json::to_string(decision).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&line).unwrap(), *decision);
        self.slots.handed_over(&decision.decision_id);
        if let Some(former) = self.handed.insert(slot, decision.clone()) {
            assert_eq!(former, *decision, "two decisions for one slot");
        }
    }
}

fn judged(refused: &Refused) {
    assert!(!refused.expected.is_empty());
    let nobody_vouches = matches!(refused.reason, Refusal::Forged | Refusal::Foreign);
    assert!(!nobody_vouches || refused.decision_id.is_empty());
    if refused.reason.is_told() {
        assert!(!refused.decision_id.is_empty());
    }
}

fn start(rows: Vec<Row>, now_ms: u64) -> Slots {
    let start = Start {
        device: seed::device(),
        boot_id: seed::BOOT,
        rows,
    };
    Slots::new(start, &Operator, now_ms)
}

fn signed(decision: &[u8]) -> Vec<u8> {
    SignedDecision {
        decision: decision.to_vec().into(),
        key_id: KEY_ID.into(),
        signature: SIGNATURE.into(),
    }
    .encode_to_vec()
}

/// Lives of a decision or two.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let bytes = |change: fn(&mut Decision)| {
        let mut decision = seed::decision(0);
        change(&mut decision);
        decision.encode_to_vec()
    };
    let good = bytes(|_| ());
    let other = bytes(|it| it.number = 5);
    let script = |messages: &[&[u8]]| {
        messages
            .iter()
            .fold(ScriptWriter::default(), |script, message| {
                script.byte(SIGNED).message(message).byte(COMMIT)
            })
    };
    let all = |script: ScriptWriter| {
        script
            .byte(FOLLOW)
            .byte(1)
            .byte(TOLD)
            .byte(TIME)
            .byte(100)
            .byte(RESTART)
            .rest(&[TOLD, TOLD, TIME, 200, FOLLOW, 2])
    };
    vec![
        all(script(&[&good, &good])),
        all(script(&[&good, &other])),
        all(script(&[&good, &seed::decision(1).encode_to_vec()])),
        all(script(&[&bytes(|it| it.device_id = "another".into())])),
        all(script(&[&bytes(|it| it.expiry_uptime_ms = 1)])),
        all(script(&[&bytes(|it| it.creative = None)])),
        all(script(&[&bytes(|it| it.break_id.clear())])),
        ScriptWriter::default()
            .byte(FORGED)
            .message(&good)
            .byte(FORGED)
            .message(&signed(&good))
            .byte(FAILED_COMMIT)
            .byte(SIGNED)
            .message(&good)
            .rest(&[COMMIT]),
    ]
}
