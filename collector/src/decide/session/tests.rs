//! The session against a mock of Kafka, with aggregators that answer when a
//! test lets them, and boxes that keep what they are sent.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use prometheus_client::{encoding::text, registry::Registry};
use prost::Message as _;
use returnpath_decision::{
    Adapter, Aggregator, Ask, BreakerSettings, Method, Response, Rules, RulesConfig, Unaskable,
    UnknownConsent, Unreadable, WithoutConsent, decision_id,
};
use returnpath_shared::wire::{
    AdEvent, AdOpportunity, BatchId, Decided, Decision, DecisionRecord, Epoch, Event, Offer,
    OfferRecord, Opportunity, Policy, PolicyKind, Refined, SignedDecision, Stage, ad_event,
    decision_record::What, event,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;
use crate::{
    admin::RoleHealth,
    decide,
    exactly_once::{self, Bell},
    kafka::mock::{Mock, PATIENCE},
};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

const DEVICE: &str = "box-1";
const BOOT_ID: u64 = 7;

/// Asks nothing in particular; takes the body for the creative's id.
struct BodyAdapter;

impl Adapter for BodyAdapter {
    fn request(&self, _ask: &Ask<'_>) -> Result<Request, Unaskable> {
        Ok(Request {
            method: Method::Get,
            url: "https://ads.example/".into(),
            headers: Vec::new(),
            body: None,
        })
    }

    fn offers(&self, response: &Response) -> Result<Vec<OfferRecord>, Unreadable> {
        let offer = Offer {
            creative_id: String::from_utf8_lossy(&response.body).into_owned(),
            url: "https://cdn.example/ad.mp4".into(),
            media_type: "video/mp4".into(),
            duration_ms: 30_000,
            price_micros: Some(1_000_000),
            advertiser: "shop.example".into(),
            ..Offer::default()
        };
        Ok(vec![OfferRecord {
            offer: Some(offer),
            ..OfferRecord::default()
        }])
    }
}

struct Keys;

impl Signer for Keys {
    fn key_id(&self) -> &str {
        "0123456789abcdef"
    }

    fn sign(&self, _decision: &[u8]) -> [u8; 64] {
        [7; 64]
    }
}

impl Pseudonyms for Keys {
    fn pseudonym(&self, _aggregator: &str, _device: &str) -> Option<String> {
        None
    }
}

/// Offers another creative with every call; answers while it is open.
struct Market {
    calls: AtomicU32,
    open: watch::Sender<bool>,
}

impl Market {
    fn new(open: bool) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicU32::new(0),
            open: watch::Sender::new(open),
        })
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Aggregators for Market {
    async fn call(&self, _aggregator: usize, _request: Request, deadline: Duration) -> Answer {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let mut open = self.open.subscribe();
        let opened = timeout(deadline, open.wait_for(|open| *open)).await;
        if !matches!(opened, Ok(Ok(_))) {
            return Answer::Timeout;
        }
        Answer::Response(Response {
            status: 200,
            content_type: None,
            content_encoding: None,
            body: Bytes::from(format!("creative-{number}")),
        })
    }
}

/// What boxes were sent, in order.
#[derive(Clone, Default)]
struct Screens(Arc<Mutex<Vec<Push>>>);

impl Screens {
    fn pushes(&self) -> Vec<Push> {
        self.0.lock().unwrap().clone()
    }

    async fn until(&self, count: usize) -> Vec<Push> {
        until("pushes", || self.pushes().len() >= count).await;
        self.pushes()
    }
}

impl Boxes for Screens {
    fn push(&self, _partition: i32, push: Push) {
        self.0.lock().unwrap().push(push);
    }

    fn is_connected(&self) -> bool {
        true
    }
}

fn settings() -> Arc<Settings> {
    let rules = r#"{"duration_tolerance_ms": 500, "media_types": ["video/mp4"],
        "hosts": ["cdn.example"], "blocked_advertisers": [], "advertiser_required": false}"#;
    let settings = Settings {
        aggregators: vec![Aggregator {
            name: "a".into(),
            adapter: Arc::new(BodyAdapter),
            // No test waits for it; one box that is slow fails none.
            deadline_ms: 10_000,
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
        }],
        policy: Policy {
            version: "1".into(),
            kind: PolicyKind::HighestPrice.into(),
            floor_price_micros: 1,
            currency: "EUR".into(),
            takes_unpriced: false,
        },
        rules: Rules::new(serde_json::from_str::<RulesConfig>(rules).unwrap()),
        cap: None,
        late_ms: 60_000,
        budget_ms: 10_000,
        unknown_consent: UnknownConsent::OptedOut,
    };
    settings.check().unwrap()
}

/// The role, with edges of its own.
struct Role {
    registry: Registry,
    confirmations: super::news::ConfirmationSlot,
    stop: watch::Sender<bool>,
    running: JoinHandle<Result<(), exactly_once::Error>>,
}

impl Role {
    fn start(kafka: &Mock, market: &Arc<Market>, screens: &Screens) -> Self {
        let settings = settings();
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, ["a"]);
        let engine = metrics.engine.clone();
        let bell = Bell::default();
        let (letterbox, confirmations) = post(&settings, &bell);
        let names = kafka.config().topics.clone();
        let group = "decide".to_owned().try_into().unwrap();
        let terms = decide::terms(group, Duration::from_secs(10), &names, bell);
        let (stop, stopped) = watch::channel(false);
        let deciding = Deciding {
            state: State::new(&settings),
            settings,
            signer: Box::new(Keys),
            pseudonyms: Box::new(Keys),
            aggregators: Arc::clone(market),
            boxes: screens.clone(),
            names,
            metrics,
            clock: Clock::start(),
            runtime: Handle::current(),
            letterbox,
        };
        let running = exactly_once::run(
            terms,
            kafka.config().clone(),
            "collector-1".parse().unwrap(),
            RoleHealth::unobserved(),
            engine,
            stopped,
            move || deciding,
        );
        Self {
            registry,
            confirmations,
            stop,
            running: tokio::spawn(running),
        }
    }

    /// The value of a metric without labels, or the sum over them.
    fn metric(&self, name: &str) -> f64 {
        let mut lines = String::new();
        text::encode(&mut lines, &self.registry).unwrap();
        lines
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .map(|(_, value)| value.parse::<f64>().unwrap())
            .sum()
    }

    async fn until(&self, name: &str, least: f64) {
        until(name, || self.metric(name) >= least).await;
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waiting for {what}");
        sleep(LOOK).await;
    }
}

/// A box asks for a break that begins now.
fn ask(kafka: &Mock, break_id: &str, slots: usize) {
    let received_unix_ms = Clock::start().now().unix_ms;
    let asked = AdOpportunity {
        break_id: break_id.into(),
        start_uptime_ms: 1_000_000,
        duration_ms: 30_000 * u32::try_from(slots).unwrap(),
        slot_durations_ms: vec![30_000; slots],
        ..AdOpportunity::default()
    };
    let refined = Refined {
        event: Some(Event {
            uptime_ms: 1_000_000,
            kind: Some(event::Kind::AdOpportunity(asked)),
            ..Event::default()
        }),
        device_id: DEVICE.into(),
        batch: Some(BatchId {
            epoch: Some(Epoch {
                incarnation: 1,
                start: 1,
            }),
            sequence: 1,
        }),
        lane: returnpath_shared::wire::Lane::Live.into(),
        received_unix_ms,
        boot_id: BOOT_ID,
        ..Refined::default()
    };
    let opportunity = Opportunity {
        refined: Some(refined),
        sent_uptime_ms: 1_000_000,
        sent_boot_id: BOOT_ID,
        ..Opportunity::default()
    };
    let topic = &kafka.config().topics.opportunities;
    kafka.write(topic, DEVICE, &opportunity.encode_to_vec());
}

/// A box tells what became of a decision.
fn tell(kafka: &Mock, kind: ad_event::Kind, decision_id: &str) {
    let refined = Refined {
        event: Some(Event {
            kind: Some(event::Kind::AdEvent(AdEvent {
                kind: kind.into(),
                decision_id: decision_id.into(),
                ..AdEvent::default()
            })),
            ..Event::default()
        }),
        device_id: DEVICE.into(),
        ..Refined::default()
    };
    let topic = &kafka.config().topics.ads;
    kafka.write(topic, DEVICE, &refined.encode_to_vec());
}

fn records(kafka: &Mock) -> Vec<DecisionRecord> {
    kafka
        .values(&kafka.config().topics.decisions)
        .iter()
        .map(|value| DecisionRecord::decode(value.as_slice()).unwrap())
        .collect()
}

fn decided(kafka: &Mock) -> Vec<(String, Decided)> {
    let decided = |record: DecisionRecord| match record.what {
        Some(What::Decided(decided)) => Some((record.decision_id, decided)),
        Some(What::Progress(_)) | None => None,
    };
    records(kafka).into_iter().filter_map(decided).collect()
}

fn stages(kafka: &Mock) -> Vec<Stage> {
    let stage = |record: DecisionRecord| match record.what {
        Some(What::Progress(progress)) => Some(progress.stage()),
        Some(What::Decided(_)) | None => None,
    };
    records(kafka).into_iter().filter_map(stage).collect()
}

fn signed(decided: &Decided) -> Vec<u8> {
    decided.signed.as_ref().unwrap().encode_to_vec()
}

#[tokio::test]
async fn each_slot_has_one_record_and_its_course_follows() {
    let (kafka, market, screens) = (Mock::start(), Market::new(true), Screens::default());
    let role = Role::start(&kafka, &market, &screens);
    ask(&kafka, "break", 2);
    let pushes = screens.until(2).await;
    let decided = decided(&kafka);
    assert_eq!(decided.len(), 2);
    for (slot, (id, decided)) in (0..).zip(&decided) {
        assert_eq!(*id, decision_id(DEVICE, BOOT_ID, "break", slot));
        let push = pushes.iter().find(|push| *push.decision_id == **id);
        assert_eq!(push.unwrap().payload, signed(decided));
    }

    let first = &pushes[0];
    let device = DEVICE.parse().unwrap();
    let id = Arc::clone(&first.decision_id);
    assert!(role.confirmations.pushed(0, device, id));
    role.until("progress_total", 1.0).await;
    tell(&kafka, ad_event::Kind::Start, &first.decision_id);
    role.until("progress_total", 2.0).await;
    assert_eq!(stages(&kafka), [Stage::Pushed, Stage::Shown]);
    role.stop().await;
}

#[tokio::test]
async fn a_decision_whose_transaction_is_aborted_is_never_pushed() {
    let (kafka, market, screens) = (Mock::start(), Market::new(true), Screens::default());
    let role = Role::start(&kafka, &market, &screens);
    role.until("partitions", 1.0).await;
    kafka.abort_next(2);
    ask(&kafka, "break", 1);
    let pushes = screens.until(1).await;
    assert!(role.metric("transactions_aborted_total") >= 1.0);
    role.until("filled_total", 1.0).await;
    assert_eq!(role.metric("filled_total"), 1.0);
    // Asked again after each abort, and each time offered another: the box is
    // sent what the committed transaction holds.
    let signed = SignedDecision::decode(pushes[0].payload.clone()).unwrap();
    let decision = Decision::decode(signed.decision).unwrap();
    let calls = market.calls();
    assert!(calls >= 2);
    assert_eq!(
        decision.creative.unwrap().creative_id,
        format!("creative-{calls}")
    );
    let (_, last) = decided(&kafka).pop().unwrap();
    assert_eq!(last.signed.unwrap().encode_to_vec(), pushes[0].payload);
    assert_eq!(screens.pushes().len(), 1);
    role.stop().await;
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_read_from_kafka_and_the_role_goes_on() {
    let (kafka, market, screens) = (Mock::start(), Market::new(true), Screens::default());
    let role = Role::start(&kafka, &market, &screens);
    role.until("partitions", 1.0).await;
    kafka.fence_next();
    ask(&kafka, "break-1", 1);
    role.until("sessions_rebuilt_total", 1.0).await;
    screens.until(1).await;
    ask(&kafka, "break-2", 1);
    let pushes = screens.until(2).await;
    assert_ne!(pushes[0].decision_id, pushes[1].decision_id);
    role.stop().await;
}

#[tokio::test]
async fn a_stop_is_not_held_up_by_a_commit_that_kafka_does_not_answer() {
    let (kafka, market, screens) = (Mock::start(), Market::new(false), Screens::default());
    let role = Role::start(&kafka, &market, &screens);
    ask(&kafka, "break", 1);
    until("a call", || market.calls() == 1).await;
    kafka.go_down();
    market.open.send_replace(true);
    // Whether the commit is under way by then or comes with the stop, it ends.
    role.stop().await;
    assert!(screens.pushes().is_empty());
}

/// Kafka's client looks for a coordinator that is gone from the cluster only
/// when a connection comes or goes, however short the time that it was given.
#[tokio::test]
async fn the_death_of_the_node_that_sees_to_the_group_is_survived() {
    let kafka = Mock::with_coordinator_apart("decide", "decide-collector-1");
    let (market, screens) = (Market::new(true), Screens::default());
    let role = Role::start(&kafka, &market, &screens);
    ask(&kafka, "break-1", 1);
    screens.until(1).await;
    kafka.lose_coordinator("decide");
    ask(&kafka, "break-2", 1);
    screens.until(2).await;
    role.stop().await;
}

#[tokio::test]
async fn who_asks_again_is_sent_the_same_bytes_again() {
    let (kafka, market, screens) = (Mock::start(), Market::new(true), Screens::default());
    let role = Role::start(&kafka, &market, &screens);
    ask(&kafka, "break", 1);
    screens.until(1).await;
    ask(&kafka, "break", 1);
    let pushes = screens.until(2).await;
    assert_eq!(pushes[0].payload, pushes[1].payload);
    assert_eq!(decided(&kafka).len(), 1);
    assert_eq!(market.calls(), 1);
    role.stop().await;
}

#[tokio::test]
async fn the_next_owner_pushes_what_is_open_and_decides_nothing_twice() {
    let (kafka, market, screens) = (Mock::start(), Market::new(true), Screens::default());
    let first = Role::start(&kafka, &market, &screens);
    ask(&kafka, "break", 1);
    screens.until(1).await;
    first.stop().await;

    let second = Role::start(&kafka, &market, &screens);
    let pushes = screens.until(2).await;
    assert_eq!(pushes[0].payload, pushes[1].payload);
    ask(&kafka, "break", 1);
    screens.until(3).await;
    tell(
        &kafka,
        ad_event::Kind::DecisionAcknowledged,
        &pushes[0].decision_id,
    );
    second.until("progress_total", 1.0).await;
    second.stop().await;

    // What a box has acknowledged need not be pushed again.
    let third = Role::start(&kafka, &market, &screens);
    third.until("partitions", 1.0).await;
    ask(&kafka, "another", 1);
    let pushes = screens.until(4).await;
    assert_eq!(pushes.len(), 4);
    assert_ne!(pushes[3].decision_id, pushes[0].decision_id);
    assert_eq!(decided(&kafka).len(), 2);
    assert_eq!(market.calls(), 2);
    third.stop().await;
}

#[tokio::test]
async fn what_was_being_asked_at_a_stop_is_asked_by_the_next_owner() {
    let (kafka, market, screens) = (Mock::start(), Market::new(false), Screens::default());
    let first = Role::start(&kafka, &market, &screens);
    ask(&kafka, "break", 1);
    until("a call", || market.calls() == 1).await;
    let began = Instant::now();
    first.stop().await;
    // Not after the deadline of the call: nobody waits for its answer.
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(decided(&kafka).is_empty());

    market.open.send_replace(true);
    let second = Role::start(&kafka, &market, &screens);
    let pushes = screens.until(1).await;
    let decided = decided(&kafka);
    assert_eq!(decided.len(), 1);
    assert_eq!(pushes[0].payload, signed(&decided[0].1));
    assert_eq!(market.calls(), 2);
    second.stop().await;
}
