//! What decide reads of its two topics, while aggregators answer anything,
//! time passes, transactions end and another node takes over.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use prost::Message as _;
use returnpath_decision::{
    Aggregator, Answer, BreakerSettings, Call, Cap, Destination, Ended, Gates, Input, InputRecord,
    Lent, Now, Output, Partition, Pseudonyms, Push, Settings, Signer, UnknownConsent,
    WithoutConsent, replay,
};
use returnpath_shared::{
    SIGNED_DECISION_BYTES_MAX,
    wire::{
        DecideState, Decided, Decision, DecisionRecord, NoFill, SignedDecision, Stage, ad_event,
        decision_record::What,
    },
};

use crate::{
    aggregator,
    script::{Script, ScriptWriter},
    seed,
};

/// Steps of one input.
const STEPS_MAX: usize = 48;

const OPPORTUNITY: u8 = 0;
const AD_EVENT: u8 = 1;
const ANSWER: u8 = 2;
const NO_ANSWER: u8 = 3;
const TIME: u8 = 4;
const COMMIT: u8 = 5;
const ABORT: u8 = 6;
const TAKE_OVER: u8 = 7;
const PUSHED: u8 = 8;
const STEPS: u8 = 9;

/// Every choice follows from what is recorded, what is pushed fits a box's
/// bounds, no slot is filled twice, and a partition that another takes over is
/// the same.
pub fn run(input: &[u8]) {
    let mut script = Script::of(input);
    let mut running = Running::new();
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        match script.byte() % STEPS {
            OPPORTUNITY => running.write(Input::Opportunities, script.message()),
            AD_EVENT => running.write(Input::Ads, script.message()),
            ANSWER => running.answer(Answer::Response(aggregator::json(script.message()))),
            NO_ANSWER => running.answer(match script.byte() % 3 {
                0 => Answer::Timeout,
                1 => Answer::Unreachable("no route".into()),
                _ => Answer::TooLarge,
            }),
            TIME => running.pass(u64::from(script.byte()).pow(2)),
            COMMIT => running.commit(),
            ABORT => running.abort(),
            TAKE_OVER => running.take_over(),
            _ => running.pushed(),
        }
    }
    // Whoever was asked has answered or timed out by now.
    running.pass(60_000);
    while !running.calls.is_empty() {
        running.answer(Answer::Timeout);
    }
    running.commit();
    assert_eq!(
        running.lowest_unfinished(),
        None,
        "something is never decided"
    );
    running.take_over();
}

struct Written {
    input: Input,
    value: Vec<u8>,
    offset: i64,
}

type Changelog = BTreeMap<Vec<u8>, Vec<u8>>;

struct Running {
    settings: Arc<Settings>,
    partition: Partition,
    gates: Gates,
    now: Now,
    output: Output,
    /// Records of `output` that were looked at.
    looked: usize,
    calls: VecDeque<Call>,
    pushes: VecDeque<Push>,
    /// Both topics in one.
    written: Vec<Written>,
    next: usize,
    /// The first that is read again after an abort.
    read_from: usize,
    changelog: Changelog,
    /// Slots that hold an ad, until when: committed, and in the open
    /// transaction.
    filled: BTreeMap<String, i64>,
    filled_now: BTreeMap<String, i64>,
}

impl Running {
    fn new() -> Self {
        let settings = settings();
        Self {
            partition: Partition::new(Arc::clone(&settings)),
            gates: Gates::new(&settings),
            settings,
            now: Now {
                monotonic_us: 5_000_000,
                unix_ms: seed::NOW_UNIX_MS,
            },
            output: Output::new(),
            looked: 0,
            calls: VecDeque::new(),
            pushes: VecDeque::new(),
            written: Vec::new(),
            next: 0,
            read_from: 0,
            changelog: Changelog::new(),
            filled: BTreeMap::new(),
            filled_now: BTreeMap::new(),
        }
    }

    fn write(&mut self, input: Input, value: &[u8]) {
        let offset = i64::try_from(self.written.len()).unwrap();
        self.written.push(Written {
            input,
            value: value.to_vec(),
            offset,
        });
        self.read();
    }

    /// Reads all there is.
    fn read(&mut self) {
        while let Some(written) = self.written.get(self.next) {
            self.next += 1;
            let record = InputRecord {
                key: seed::DEVICE.as_bytes(),
                value: &written.value,
                offset: written.offset,
            };
            let lent = Lent {
                now: self.now,
                gates: &mut self.gates,
                signer: &Keys,
                pseudonyms: &Keys,
            };
            match written.input {
                Input::Opportunities => {
                    self.partition.opportunity(&record, lent, &mut self.output);
                }
                Input::Ads => self.partition.ad_event(&record, lent.now, &mut self.output),
            }
            self.look();
        }
    }

    fn step(&mut self, step: impl FnOnce(&mut Partition, Lent<'_>, &mut Output)) {
        let lent = Lent {
            now: self.now,
            gates: &mut self.gates,
            signer: &Keys,
            pseudonyms: &Keys,
        };
        step(&mut self.partition, lent, &mut self.output);
        self.look();
    }

    fn answer(&mut self, answer: Answer) {
        let Some(call) = self.calls.pop_front() else {
            return;
        };
        let ended = Ended {
            call: call.id,
            answered: self.settings.read(call.id, call.slot_duration_ms, &answer),
            sent_us: self.now.monotonic_us,
            ended_us: self.now.monotonic_us,
        };
        self.step(|partition, lent, out| partition.answered(ended, lent, out));
    }

    fn pass(&mut self, ms: u64) {
        self.now.monotonic_us += ms * 1_000;
        self.now.unix_ms += i64::try_from(ms).unwrap();
        self.step(|partition, lent, out| partition.handle_timeout(lent, out));
        let due = self.partition.poll_timeout(self.now);
        assert!(
            due.is_none_or(|due_us| due_us > self.now.monotonic_us),
            "it spins"
        );
    }

    fn pushed(&mut self) {
        if let Some(push) = self.pushes.pop_front() {
            self.step(|partition, lent, out| {
                partition.pushed(&push.device, &push.decision_id, lent.now, out);
            });
        }
    }

    fn look(&mut self) {
        self.calls.extend(self.output.take_calls());
        let records: Vec<_> = self.output.records().skip(self.looked).collect();
        self.looked += records.len();
        for record in records {
            assert_eq!(record.destination, Destination::Decisions);
            let read = DecisionRecord::decode(record.value.unwrap()).unwrap();
            assert_eq!(record.key, read.decision_id.as_bytes());
            assert_eq!(read.device_id, seed::DEVICE);
            match read.what.unwrap() {
                What::Decided(decided) => {
                    let signed = decided_well(&read.decision_id, &decided);
                    let Some(decision) = signed.filter(|it| it.creative.is_some()) else {
                        continue;
                    };
                    let expired_unix_ms = expiry_unix_ms(&decided, &decision);
                    let known = [&self.filled, &self.filled_now];
                    for former in known.into_iter().filter_map(|it| it.get(&read.decision_id)) {
                        assert!(*former <= self.now.unix_ms, "an ad for a slot that has one");
                    }
                    self.filled_now.insert(read.decision_id, expired_unix_ms);
                }
                What::Progress(progress) => {
                    assert_ne!(progress.stage(), Stage::Unspecified);
                }
            }
        }
    }

    fn commit(&mut self) {
        self.partition.changes(&mut self.output);
        for record in self.output.records().skip(self.looked) {
            assert_eq!(record.destination, Destination::State);
            let value = record.value.unwrap().to_vec();
            self.changelog.insert(record.key.to_vec(), value);
        }
        self.forget_output();
        let mut pushes = Vec::new();
        self.partition.commit(&mut pushes);
        self.filled.append(&mut self.filled_now);
        let opportunities = self.lowest_unfinished();
        self.read_from = opportunities.map_or(self.next, |it| usize::try_from(it).unwrap());
        self.check_and_keep(pushes);
        assert_eq!(remembered(&self.restored()), remembered(&self.partition));
    }

    fn abort(&mut self) {
        self.partition.abort();
        self.forget_output();
        assert_eq!(remembered(&self.restored()), remembered(&self.partition));
        self.read_again();
    }

    fn take_over(&mut self) {
        for call in self.calls.drain(..) {
            self.gates.abandoned(call.id, self.now.monotonic_us);
        }
        self.forget_output();
        self.partition = self.restored();
        let mut pushes = Vec::new();
        self.partition.resume(self.now, &mut pushes);
        self.pushes.clear();
        self.check_and_keep(pushes);
        self.read_again();
    }

    fn check_and_keep(&mut self, pushes: Vec<Push>) {
        for push in pushes {
            assert_eq!(&*push.device, seed::DEVICE);
            assert!(
                push.payload.len() <= SIGNED_DECISION_BYTES_MAX,
                "no box takes it"
            );
            let signed = SignedDecision::decode(&push.payload[..]).unwrap();
            let decision = Decision::decode(&signed.decision[..]).unwrap();
            assert_eq!(decision.decision_id, *push.decision_id);
            assert_eq!(signed.signature[..], Keys.sign(&signed.decision));
            self.pushes.push_back(push);
        }
    }

    fn forget_output(&mut self) {
        self.output.clear();
        self.looked = 0;
    }

    fn read_again(&mut self) {
        self.filled_now.clear();
        self.next = self.read_from;
        self.read();
    }

    fn lowest_unfinished(&self) -> Option<i64> {
        self.partition
            .lowest_unfinished_offset(Input::Opportunities)
    }

    fn restored(&self) -> Partition {
        let mut partition = Partition::new(Arc::clone(&self.settings));
        for (key, value) in &self.changelog {
            partition
                .restore(key, Some(value))
                .expect("what it wrote can be loaded");
        }
        partition
    }
}

/// The decision that was signed, where one was.
fn decided_well(id: &str, decided: &Decided) -> Option<Decision> {
    let choice = decided.choice.expect("a choice is recorded");
    assert_eq!(replay(decided), choice, "it cannot be made again");
    assert_eq!(choice.aggregator.is_some(), choice.offer.is_some());
    assert_eq!(
        choice.aggregator.is_some(),
        choice.no_fill() == NoFill::Unspecified
    );
    assert!(decided.waited_us <= decided.elapsed_us);
    let Some(signed) = &decided.signed else {
        assert_eq!(choice.aggregator, None, "an ad that nobody signed");
        return None;
    };
    let decision = Decision::decode(&signed.decision[..]).unwrap();
    assert_eq!(decision.decision_id, id);
    assert_eq!(decision.device_id, seed::DEVICE);
    assert_eq!(decision.slot, decided.slot);
    assert_eq!(decision.creative.is_some(), choice.aggregator.is_some());
    if let (Some(creative), Some(place), Some(offer)) =
        (&decision.creative, choice.aggregator, choice.offer)
    {
        let offers = &decided.aggregators[place as usize].offers;
        let offer = offers[offer as usize].offer.as_ref().unwrap();
        assert_eq!(
            (&creative.url, &creative.creative_id),
            (&offer.url, &offer.creative_id)
        );
        assert_eq!(creative.duration_ms, offer.duration_ms);
    }
    Some(decision)
}

/// When the slot is over, by the collector's clock.
fn expiry_unix_ms(decided: &Decided, decision: &Decision) -> i64 {
    let opportunity = decided.opportunity.as_ref().unwrap();
    let refined = opportunity.refined.as_ref().unwrap();
    let sent_uptime_ms = opportunity
        .sent_uptime_ms
        .max(refined.event.as_ref().unwrap().uptime_ms);
    let left_ms = i128::from(decision.expiry_uptime_ms) - i128::from(sent_uptime_ms);
    let left_ms = i64::try_from(left_ms).unwrap_or(i64::MAX);
    refined.received_unix_ms.saturating_add(left_ms)
}

struct Keys;

impl Signer for Keys {
    fn key_id(&self) -> &str {
        "0123456789abcdef"
    }

    fn sign(&self, decision: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        for (place, byte) in decision.iter().enumerate() {
            signature[place % 64] ^= byte;
        }
        signature
    }
}

impl Pseudonyms for Keys {
    fn pseudonym(&self, aggregator: &str, device: &str) -> Option<String> {
        Some(format!("{aggregator}.{device}"))
    }
}

pub(crate) fn settings() -> Arc<Settings> {
    let aggregator = |place: u8, name: &str| Aggregator {
        name: name.into(),
        adapter: aggregator::adapter(place),
        deadline_ms: 200,
        rate: None,
        breaker: BreakerSettings {
            window_ms: 10_000,
            calls_min: 20,
            failures_percent: 50,
            open_ms: 1_000,
            probes_min: 3,
        },
        calls_max: 1_000,
        without_consent: WithoutConsent::Asked,
    };
    Settings {
        aggregators: vec![aggregator(0, "north"), aggregator(1, "quick")],
        policy: aggregator::policy(),
        rules: aggregator::rules(),
        cap: Some(Cap {
            impressions_max: 2,
            window_ms: 60_000,
        }),
        late_ms: 1_000,
        budget_ms: 300,
        unknown_consent: UnknownConsent::OptedIn,
    }
    .check()
    .unwrap()
}

/// The state of a partition, without the knowledge which decisions were
/// pushed: that is written with what changes next.
fn remembered(partition: &Partition) -> BTreeMap<Vec<u8>, DecideState> {
    let unpushed = |value: &[u8]| {
        let mut state = DecideState::decode(value).unwrap();
        for open in &mut state.open {
            open.stages &= !(1 << Stage::Pushed as u32);
        }
        state
    };
    let snapshot = snapshot(partition);
    let entries = snapshot.into_iter();
    entries
        .map(|(key, value)| (key, unpushed(&value)))
        .collect()
}

fn snapshot(partition: &Partition) -> Changelog {
    let mut output = Output::new();
    partition.snapshot(&mut output);
    let records = output.records();
    records
        .map(|record| (record.key.to_vec(), record.value.unwrap().to_vec()))
        .collect()
}

/// Breaks that are decided, shown, asked for again, and not answered.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let opportunity = seed::opportunity().encode_to_vec();
    let refined = seed::opportunity().refined.unwrap();
    let answers: Vec<_> = aggregator::answers().collect();
    let asked = || {
        ScriptWriter::default()
            .byte(OPPORTUNITY)
            .message(&opportunity)
    };
    let answered =
        |script: ScriptWriter, place: usize| script.byte(ANSWER).message(&answers[place].1);
    let id = returnpath_decision::decision_id(seed::DEVICE, seed::BOOT, "b-17", 0);
    let told = |kind| seed::told(kind, &id).encode_to_vec();
    let decided = || {
        answered(answered(asked(), 0), 7)
            .byte(TIME)
            .byte(30)
            .byte(COMMIT)
    };
    vec![
        decided().rest(&[PUSHED, COMMIT, TAKE_OVER]),
        [
            ad_event::Kind::DecisionAcknowledged,
            ad_event::Kind::Start,
            ad_event::Kind::Complete,
            ad_event::Kind::Error,
        ]
        .into_iter()
        .fold(decided(), |script, kind| {
            script.byte(AD_EVENT).message(&told(kind))
        })
        .byte(AD_EVENT)
        .message(&refined.encode_to_vec())
        .rest(&[TIME, 255, COMMIT, ABORT]),
        decided()
            .byte(OPPORTUNITY)
            .message(&opportunity)
            .rest(&[COMMIT, PUSHED, ABORT, TIME, 200]),
        answered(asked(), 1).rest(&[NO_ANSWER, 0, NO_ANSWER, 1, ABORT, NO_ANSWER, 2, TIME, 20]),
        answered(answered(asked(), 4), 8).rest(&[ABORT, TAKE_OVER, TIME, 250, TIME, 250]),
        asked().rest(&[TIME, 100, COMMIT]),
    ]
}
