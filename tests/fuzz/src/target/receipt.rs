//! Receipts, as whoever can publish to a box writes them, while it sends.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use returnpath_delivery::{
    Acceptance, BootFacts, ClientToken, CommitOutcome, Config, Delivery, Effect, Input, Op, Pace,
    PubAckOutcome, Start, SyncPolicy, Unreadable, Uptime,
};
use returnpath_shared::{
    BatchId, Epoch, Sequence,
    wire::{Receipt, Refusal, RefusalReason, SequenceRange},
};

use crate::{
    script::{Script, ScriptWriter},
    seed,
};

/// Steps of one input; with the time that each may take, far less passes than
/// what makes a box drop anything by itself.
const STEPS_MAX: usize = 64;

const RECEIPT: u8 = 0;
const EVENT: u8 = 1;
const TIME: u8 = 2;
const PUBACK: u8 = 3;
const RECONNECT: u8 = 4;
const STEPS: u8 = 5;

/// Once receipts come, a box sends all that it holds within this many of them.
const LAST_RECEIPTS: usize = 100;

/// A batch leaves the box because it was named, and for nothing else: in the
/// end, when receipts come as they should, all that was not is sent again.
pub fn run(input: &[u8]) {
    let mut script = Script::of(input);
    let mut bench = Bench::new();
    let mut events = seed::events().into_iter().cycle();
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        match script.byte() % STEPS {
            // What cannot be decoded is skipped by the link.
            RECEIPT => {
                if let Ok(receipt) = Receipt::decode(script.message()) {
                    bench.receipt(&receipt);
                }
            }
            EVENT => {
                let token = ClientToken(bench.next_token);
                bench.next_token += 1;
                let event = events.next().unwrap();
                let acceptance = bench.delivery.accept(event, token, bench.now);
                assert!(!matches!(acceptance, Acceptance::TooLarge { .. }));
                bench.drain();
            }
            TIME => bench.pass(u64::from(script.byte()) * 100),
            PUBACK => {
                let place = usize::from(script.byte());
                bench.puback(place);
            }
            _ => bench.reconnect(),
        }
    }
    bench.send_all();
}

struct Bench {
    delivery: Delivery,
    now: Uptime,
    next_token: u64,
    file: BTreeMap<BatchId, Bytes>,
    /// Since the end of the script.
    published: BTreeSet<BatchId>,
    ever_published: BTreeSet<BatchId>,
    /// Those that a receipt has named.
    named: BTreeSet<BatchId>,
}

impl Bench {
    fn new() -> Self {
        let epoch = seed::epoch(1).try_into().unwrap();
        let start = Start {
            epoch,
            boot_id: seed::BOOT,
            facts: BootFacts::default(),
            ledger: Vec::new(),
            proof_ids: Vec::new(),
            anchors: Vec::new(),
            unclean: Vec::new(),
            powered: None,
            seed: 1,
        };
        let now = Uptime(seed::UPTIME_MS);
        let mut bench = Self {
            delivery: Delivery::new(config(), start, [], now),
            now,
            next_token: 1,
            file: BTreeMap::new(),
            published: BTreeSet::new(),
            ever_published: BTreeSet::new(),
            named: BTreeSet::new(),
        };
        bench.drain();
        bench.handle(Input::LinkUp);
        bench
    }

    fn receipt(&mut self, receipt: &Receipt) {
        let ranges = receipt.confirmed.iter().filter_map(|range| {
            let epoch = Epoch::try_from(range.epoch?).ok()?;
            Some((epoch, range.first_sequence..=range.last_sequence))
        });
        let ranges: Vec<_> = ranges.collect();
        let refused = receipt.refused.iter();
        let refused: Vec<_> = refused
            .filter_map(|refusal| BatchId::try_from(refusal.batch?).ok())
            .collect();
        // Of what was never sent nobody can have a receipt.
        for id in &self.ever_published {
            let is_confirmed = ranges
                .iter()
                .any(|(epoch, sequences)| *epoch == id.epoch && sequences.contains(&id.sequence.0));
            if is_confirmed || refused.contains(id) {
                self.named.insert(*id);
            }
        }
        self.handle(Input::Receipt(receipt));
    }

    fn puback(&mut self, place: usize) {
        if let Some(id) = self.ever_published.iter().nth(place).copied() {
            let outcome = match place % 2 {
                0 => PubAckOutcome::Ok,
                _ => PubAckOutcome::Retry,
            };
            self.handle(Input::PubAck { id, outcome });
        }
    }

    /// A last connection, on which every batch gets its receipt.
    fn send_all(&mut self) {
        let wanted: Vec<_> = self
            .ever_published
            .difference(&self.named)
            .copied()
            .collect();
        self.published.clear();
        self.reconnect();
        for _ in 0..LAST_RECEIPTS {
            let confirmed = self.published.iter().map(|id| SequenceRange {
                epoch: Some(id.epoch.into()),
                first_sequence: id.sequence.0,
                last_sequence: id.sequence.0,
            });
            let receipt = Receipt {
                confirmed: confirmed.collect(),
                refused: Vec::new(),
            };
            self.receipt(&receipt);
            self.pass(1_000);
        }
        for id in wanted {
            assert!(
                self.published.contains(&id),
                "{id} is gone and nobody had it"
            );
        }
        assert!(self.file.is_empty(), "what everybody has is still held");
    }

    fn reconnect(&mut self) {
        self.handle(Input::LinkDown);
        self.handle(Input::LinkUp);
    }

    fn pass(&mut self, ms: u64) {
        let end = Uptime(self.now.0 + ms);
        while let Some(at) = self.delivery.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.delivery.tick(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn handle(&mut self, input: Input<'_>) {
        self.delivery.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.delivery.poll_effect() {
            let input = match effect {
                Effect::Publish(publish) => {
                    assert!(
                        !self.named.contains(&publish.id),
                        "sent though it was named"
                    );
                    self.published.insert(publish.id);
                    self.ever_published.insert(publish.id);
                    continue;
                }
                Effect::Commit(commit) => {
                    for op in &commit.ops {
                        self.apply(op);
                    }
                    Input::Committed {
                        number: commit.number,
                        outcome: CommitOutcome::Done,
                    }
                }
                Effect::Load(id) => Input::Loaded {
                    id,
                    bytes: self.file.get(&id).cloned().ok_or(Unreadable),
                },
                Effect::Answer { .. } => continue,
                Effect::ReadStarts | Effect::Rebuild { .. } | Effect::Stopped => {
                    panic!("nothing asks for {effect:?}")
                }
            };
            self.delivery.handle(input, self.now);
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::InsertBatch { batch, bytes } => {
                assert!(self.file.insert(batch.id, bytes.clone()).is_none());
            }
            Op::DeleteBatches { epoch, first, last } => {
                let id = |sequence: Sequence| BatchId {
                    epoch: *epoch,
                    sequence,
                };
                let leaving: Vec<_> = self.file.range(id(*first)..=id(*last)).collect();
                let leaving: Vec<BatchId> = leaving.into_iter().map(|(id, _)| *id).collect();
                for id in leaving {
                    assert!(
                        self.named.contains(&id),
                        "{id} is deleted and nobody has it"
                    );
                    self.file.remove(&id);
                }
            }
            Op::LedgerPut(_)
            | Op::LedgerDelete { .. }
            | Op::ProofIdPut(_)
            | Op::ProofIdsDeleteThrough { .. }
            | Op::AnchorPut(_)
            | Op::AnchorDelete { .. }
            | Op::StartPut(_)
            | Op::StartDelete(_)
            | Op::PoweredPut(_) => {}
        }
    }
}

fn config() -> Config {
    Config {
        pace: Pace {
            batch_interval: Duration::from_secs(1),
            window_batches_max: 32,
            backlog_rate: 1_000,
        },
        flush_interval: Duration::from_secs(10),
        sync: SyncPolicy::WhenNeeded,
        durable_after: Duration::from_millis(300),
        group_commit: Duration::from_millis(20),
        queue_bytes_max: 1024 * 1024,
        queue_batches_max: 1_024,
        age_max: Duration::from_secs(7 * 24 * 3_600),
        ram_bytes_max: 256 * 1024,
        live_age_max: Duration::from_secs(30),
        resend_after_prompt: Duration::from_secs(10),
        resend_after: Duration::from_secs(45),
        resend_after_max: Duration::from_secs(300),
        flash_bytes_per_day_max: Some(64 << 20),
        proof_ids_max: 64,
        ordinary_ids_max: 64,
    }
}

/// A few batches, and receipts for some of them.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let range = |first_sequence, last_sequence| SequenceRange {
        epoch: Some(seed::epoch(1)),
        first_sequence,
        last_sequence,
    };
    let confirming = |confirmed: &[SequenceRange]| Receipt {
        confirmed: confirmed.to_vec(),
        refused: Vec::new(),
    };
    let refusing = Receipt {
        confirmed: vec![range(2, 2)],
        refused: vec![Refusal {
            batch: Some(seed::batch_id(1)),
            reason: RefusalReason::Undecodable as i32,
        }],
    };
    let another = Receipt {
        confirmed: vec![SequenceRange {
            epoch: Some(seed::epoch(7)),
            ..range(1, 9)
        }],
        ..refusing.clone()
    };
    let busy = || {
        (0..6).fold(ScriptWriter::default(), |script, _| {
            script.byte(EVENT).byte(EVENT).byte(TIME).byte(30)
        })
    };
    let receipts = [
        confirming(&[range(1, 1)]),
        confirming(&[range(1, 3), range(5, 6)]),
        confirming(&[range(1, u64::MAX)]),
        confirming(&[range(9, 2), range(0, 0)]),
        refusing,
        another,
    ];
    let one = |receipt: Receipt| {
        busy()
            .byte(PUBACK)
            .byte(0)
            .byte(RECEIPT)
            .message(&receipt.encode_to_vec())
            .byte(EVENT)
            .byte(RECONNECT)
            .rest(&[TIME, 100])
    };
    receipts.map(one).into()
}
