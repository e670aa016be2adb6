//! A partition as the shell drives it, with aggregators that answer what a test
//! says, and a changelog as Kafka would keep it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message as _;
use returnpath_decision::{
    Adapter, Aggregator, Answer, Ask, BreakerSettings, Call, Cap, Counts, Destination, Ended,
    Gates, Input, InputRecord, Lent, Limits, Method, Now, Output, Partition, Pseudonyms, Push,
    Request, Response, Rules, RulesConfig, Settings, Signer, Unaskable, UnknownConsent, Unreadable,
    WithoutConsent,
};
use returnpath_shared::wire::{
    self, AdEvent, AdOpportunity, BatchId, Decided, DecisionRecord, DeviceProfile, Epoch, Event,
    Lane, Offer, OfferRecord, Opportunity, Policy, PolicyKind, Progress, Refined, Stage, ad_event,
    decision_record::What, event,
};

pub(crate) const NOW_UNIX_MS: i64 = 1_800_000_000_000;
/// Uptime of a box at `NOW_UNIX_MS`.
pub(crate) const UPTIME_MS: u64 = 1_000_000;
pub(crate) const BOOT: u64 = 7;
pub(crate) const SLOT_MS: u32 = 30_000;

/// Names its slot in the URL, and reads offers as `price,advertiser,duration`
/// lines; `-` is no price.
pub(crate) struct LinesAdapter;

impl Adapter for LinesAdapter {
    fn request(&self, ask: &Ask<'_>) -> Result<Request, Unaskable> {
        let event = ask
            .opportunity
            .refined
            .as_ref()
            .and_then(|one| one.event.as_ref());
        match event.map(|event| event.client_id.as_str()) {
            Some("nameless") => Err(Unaskable::Missing { field: "name" }),
            _ => Ok(Request {
                method: Method::Get,
                url: format!(
                    "https://a.example/{}?slot={}&id={}&left={}",
                    ask.decision_id,
                    ask.slot,
                    ask.pseudonym.unwrap_or_default(),
                    ask.time_left_ms,
                ),
                headers: Vec::new(),
                body: None,
            }),
        }
    }

    fn offers(&self, response: &Response) -> Result<Vec<OfferRecord>, Unreadable> {
        if response.status != 200 {
            return Err(Unreadable::Status {
                status: response.status,
                expected: "200".into(),
            });
        }
        let text = std::str::from_utf8(&response.body).map_err(|_| Unreadable::Form {
            place: "body".into(),
            expected: "text".into(),
        })?;
        Ok(text.lines().map(offer).collect())
    }
}

fn offer(line: &str) -> OfferRecord {
    let parts: Vec<&str> = line.split(',').collect();
    OfferRecord {
        offer: Some(Offer {
            creative_id: format!("creative-{}", parts[0]),
            url: "https://cdn.example/ad.mp4".into(),
            media_type: "video/mp4".into(),
            duration_ms: parts[2].parse().unwrap(),
            price_micros: parts[0].parse().ok(),
            advertiser: parts[1].into(),
            ..Offer::default()
        }),
        ..OfferRecord::default()
    }
}

pub(crate) struct Keys;

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

pub(crate) fn aggregator(name: &str) -> Aggregator {
    Aggregator {
        name: name.into(),
        adapter: Arc::new(LinesAdapter),
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
    }
}

pub(crate) fn rules() -> Rules {
    let config = r#"{"duration_tolerance_ms": 500, "media_types": ["video/mp4"],
        "hosts": ["cdn.example"], "blocked_advertisers": [], "advertiser_required": false}"#;
    Rules::new(serde_json::from_str::<RulesConfig>(config).unwrap())
}

pub(crate) fn settings(kind: PolicyKind, aggregators: &[&str]) -> Settings {
    Settings {
        aggregators: aggregators.iter().map(|name| aggregator(name)).collect(),
        policy: Policy {
            version: "1".into(),
            kind: kind.into(),
            floor_price_micros: 1,
            currency: "EUR".into(),
            takes_unpriced: false,
        },
        rules: rules(),
        cap: Some(Cap {
            impressions_max: 2,
            window_ms: 60_000,
        }),
        late_ms: 1_000,
        budget_ms: 300,
        unknown_consent: UnknownConsent::OptedIn,
    }
}

/// An opportunity, to be made into a record.
#[derive(Clone, Debug)]
pub(crate) struct Opp {
    pub(crate) device: String,
    pub(crate) break_id: String,
    pub(crate) boot_id: u64,
    pub(crate) uptime_ms: u64,
    pub(crate) start_uptime_ms: u64,
    pub(crate) slots: usize,
    pub(crate) lane: Lane,
    pub(crate) received_unix_ms: i64,
    pub(crate) sent_uptime_ms: u64,
    pub(crate) settled_uptime_ms: u64,
    pub(crate) sequence: u64,
    pub(crate) client_id: String,
    pub(crate) consent: Option<wire::consent::Choice>,
}

impl Opp {
    /// One slot, starting now.
    pub(crate) fn new(break_id: &str) -> Self {
        Self {
            device: "box-1".into(),
            break_id: break_id.into(),
            boot_id: BOOT,
            uptime_ms: UPTIME_MS,
            start_uptime_ms: UPTIME_MS,
            slots: 1,
            lane: Lane::Live,
            received_unix_ms: NOW_UNIX_MS,
            sent_uptime_ms: UPTIME_MS,
            settled_uptime_ms: 0,
            sequence: 1,
            client_id: String::new(),
            consent: None,
        }
    }

    pub(crate) fn refined(&self) -> Refined {
        let asked = AdOpportunity {
            break_id: self.break_id.clone(),
            start_uptime_ms: self.start_uptime_ms,
            duration_ms: SLOT_MS * u32::try_from(self.slots).unwrap(),
            slot_durations_ms: vec![SLOT_MS; self.slots],
            ..AdOpportunity::default()
        };
        Refined {
            event: Some(Event {
                uptime_ms: self.uptime_ms,
                client_id: self.client_id.clone(),
                kind: Some(event::Kind::AdOpportunity(asked)),
            }),
            device_id: self.device.clone(),
            batch: Some(batch(self.sequence)),
            lane: self.lane.into(),
            received_unix_ms: self.received_unix_ms,
            boot_id: self.boot_id,
            ..Refined::default()
        }
    }

    pub(crate) fn message(&self) -> Opportunity {
        Opportunity {
            refined: Some(self.refined()),
            profile: Some(DeviceProfile {
                device_id: self.device.clone(),
                consent: self.consent.map(|choice| wire::Consent {
                    personalised_ads: choice.into(),
                    ..wire::Consent::default()
                }),
                ..DeviceProfile::default()
            }),
            sent_uptime_ms: self.sent_uptime_ms,
            sent_boot_id: self.boot_id,
            settled_uptime_ms: self.settled_uptime_ms,
        }
    }

    pub(crate) fn id(&self, slot: u32) -> String {
        returnpath_decision::decision_id(&self.device, self.boot_id, &self.break_id, slot)
    }
}

pub(crate) fn batch(sequence: u64) -> BatchId {
    BatchId {
        epoch: Some(Epoch {
            incarnation: 1,
            start: 1,
        }),
        sequence,
    }
}

pub(crate) fn told(device: &str, kind: ad_event::Kind, decision_id: &str) -> Refined {
    let event = AdEvent {
        kind: kind.into(),
        decision_id: decision_id.into(),
        ..AdEvent::default()
    };
    Refined {
        event: Some(Event {
            kind: Some(event::Kind::AdEvent(event)),
            ..Event::default()
        }),
        device_id: device.into(),
        event_unix_ms: NOW_UNIX_MS,
        ..Refined::default()
    }
}

pub(crate) type Changelog = BTreeMap<Vec<u8>, Vec<u8>>;

/// What one step or transaction put.
#[derive(Clone, Default, Debug)]
pub(crate) struct Out {
    pub(crate) records: Vec<DecisionRecord>,
    pub(crate) state: Changelog,
    pub(crate) is_urgent: bool,
}

impl Out {
    pub(crate) fn read(output: &Output) -> Self {
        let mut out = Self {
            is_urgent: output.is_urgent(),
            ..Self::default()
        };
        for record in output.records() {
            let value = record.value.unwrap();
            match record.destination {
                Destination::Decisions => {
                    let decoded = DecisionRecord::decode(value).unwrap();
                    assert_eq!(decoded.decision_id.as_bytes(), record.key);
                    out.records.push(decoded);
                }
                Destination::State => {
                    let again = out.state.insert(record.key.to_vec(), value.to_vec());
                    assert!(again.is_none(), "two changes of one device");
                }
            }
        }
        out
    }

    pub(crate) fn decided(&self) -> Vec<(String, Decided)> {
        let decided = |record: &DecisionRecord| match &record.what {
            Some(What::Decided(decided)) => Some((record.decision_id.clone(), decided.clone())),
            Some(What::Progress(_)) | None => None,
        };
        self.records.iter().filter_map(decided).collect()
    }

    pub(crate) fn progress(&self) -> Vec<(String, Progress)> {
        let progress = |record: &DecisionRecord| match &record.what {
            Some(What::Progress(progress)) => Some((record.decision_id.clone(), progress.clone())),
            Some(What::Decided(_)) | None => None,
        };
        self.records.iter().filter_map(progress).collect()
    }

    pub(crate) fn stages(&self) -> Vec<Stage> {
        self.progress().iter().map(|(_, one)| one.stage()).collect()
    }

    /// The one decision that it holds.
    pub(crate) fn only(&self) -> Decided {
        let decided = self.decided();
        assert_eq!(decided.len(), 1, "{decided:?}");
        decided[0].1.clone()
    }
}

pub(crate) struct Running {
    pub(crate) partition: Partition,
    pub(crate) gates: Gates,
    pub(crate) settings: Arc<Settings>,
    pub(crate) limits: Limits,
    pub(crate) now: Now,
    /// Made and not yet answered, oldest first.
    pub(crate) calls: Vec<Call>,
    pub(crate) output: Output,
    pub(crate) next_offset: i64,
    pub(crate) changelog: Changelog,
    pub(crate) pushes: Vec<Push>,
}

impl Running {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::with_limits(settings, Limits::DEFAULT)
    }

    pub(crate) fn with_limits(settings: Settings, limits: Limits) -> Self {
        let settings = settings.check().unwrap();
        Self {
            partition: Partition::with_limits(Arc::clone(&settings), limits),
            gates: Gates::new(&settings),
            settings,
            limits,
            now: Now {
                monotonic_us: 5_000_000,
                unix_ms: NOW_UNIX_MS,
            },
            calls: Vec::new(),
            output: Output::new(),
            next_offset: 0,
            changelog: Changelog::new(),
            pushes: Vec::new(),
        }
    }

    /// One step; says what it alone put.
    pub(crate) fn step(&mut self, step: impl FnOnce(&mut Partition, Lent<'_>, &mut Output)) -> Out {
        let before = self.output.len();
        let lent = Lent {
            now: self.now,
            gates: &mut self.gates,
            signer: &Keys,
            pseudonyms: &Keys,
        };
        step(&mut self.partition, lent, &mut self.output);
        self.calls.extend(self.output.take_calls());
        let mut out = Out::read(&self.output);
        out.records.drain(..before);
        out
    }

    pub(crate) fn ask(&mut self, opp: &Opp) -> Out {
        let offset = self.next_offset;
        self.next_offset += 1;
        self.ask_at(opp, offset)
    }

    pub(crate) fn ask_at(&mut self, opp: &Opp, offset: i64) -> Out {
        self.opportunity(
            opp.device.as_bytes(),
            &opp.message().encode_to_vec(),
            offset,
        )
    }

    pub(crate) fn opportunity(&mut self, key: &[u8], value: &[u8], offset: i64) -> Out {
        let record = InputRecord { key, value, offset };
        self.step(|partition, lent, out| partition.opportunity(&record, lent, out))
    }

    pub(crate) fn ad(&mut self, refined: &Refined) -> Out {
        self.ad_record(refined.device_id.as_bytes(), &refined.encode_to_vec())
    }

    pub(crate) fn ad_record(&mut self, key: &[u8], value: &[u8]) -> Out {
        let offset = 0;
        let record = InputRecord { key, value, offset };
        self.step(|partition, lent, out| partition.ad_event(&record, lent.now, out))
    }

    pub(crate) fn tell(&mut self, kind: ad_event::Kind, decision_id: &str) -> Out {
        self.ad(&told("box-1", kind, decision_id))
    }

    /// Ends one of the calls under way, `latency_ms` after it was sent.
    pub(crate) fn end(&mut self, place: usize, answer: Answer) -> Out {
        let call = self.calls.remove(place);
        let ended = Ended {
            call: call.id,
            answered: self.settings.read(call.id, call.slot_duration_ms, &answer),
            sent_us: self.now.monotonic_us,
            ended_us: self.now.monotonic_us,
        };
        self.step(|partition, lent, out| partition.answered(ended, lent, out))
    }

    /// The aggregator that is asked offers these, as lines.
    pub(crate) fn offer(&mut self, aggregator: &str, lines: &str) -> Out {
        let is_of = |call: &Call| self.settings.aggregators[call.id.aggregator].name == aggregator;
        let place = self
            .calls
            .iter()
            .position(is_of)
            .expect("it is being asked");
        self.end(place, body(lines))
    }

    pub(crate) fn pass(&mut self, ms: u64) -> Out {
        self.now.monotonic_us += ms * 1_000;
        self.now.unix_ms += i64::try_from(ms).unwrap();
        self.step(|partition, lent, out| partition.handle_timeout(lent, out))
    }

    pub(crate) fn commit(&mut self) -> Counts {
        self.partition.changes(&mut self.output);
        let out = Out::read(&self.output);
        self.changelog.extend(out.state);
        self.output.clear();
        self.pushes.clear();
        self.partition.commit(&mut self.pushes)
    }

    pub(crate) fn abort(&mut self) {
        self.partition.abort();
        self.output.clear();
    }

    /// Another node takes the partition over: it knows what was committed.
    pub(crate) fn take_over(&mut self) {
        let now_us = self.now.monotonic_us;
        for call in self.calls.drain(..) {
            self.gates.abandoned(call.id, now_us);
        }
        self.output.clear();
        self.partition = Partition::with_limits(Arc::clone(&self.settings), self.limits);
        for (key, value) in &self.changelog {
            self.partition.restore(key, Some(value)).unwrap();
        }
        self.pushes.clear();
        self.partition.resume(self.now, &mut self.pushes);
    }

    pub(crate) fn snapshot(&self) -> Changelog {
        let mut output = Output::new();
        self.partition.snapshot(&mut output);
        Out::read(&output).state
    }

    pub(crate) fn lowest_unfinished(&self) -> Option<i64> {
        self.partition
            .lowest_unfinished_offset(Input::Opportunities)
    }

    /// Names of those that are being asked.
    pub(crate) fn asked(&self) -> Vec<&str> {
        let name = |call: &Call| self.settings.aggregators[call.id.aggregator].name.as_str();
        self.calls.iter().map(name).collect()
    }
}

pub(crate) fn body(lines: &str) -> Answer {
    Answer::Response(Response {
        status: 200,
        content_type: None,
        content_encoding: None,
        body: Bytes::copy_from_slice(lines.as_bytes()),
    })
}

pub(crate) fn status(status: u16) -> Answer {
    Answer::Response(Response {
        status,
        content_type: None,
        content_encoding: None,
        body: Bytes::new(),
    })
}
