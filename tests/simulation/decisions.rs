//! What is true of decisions, kept beside the world in the simplest form: what
//! stands in rp.decisions, what was pushed, what players have and what they
//! showed. What must hold of these is asserted here, at once.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use bytes::Bytes;
use prost::Message as _;
use returnpath_decision::{Counts, Limits, Push, decision_id, replay};
use returnpath_shared::wire::{
    self, AdEvent, Decided, Decision, DecisionRecord, NoFill, Progress, Refined, SignedDecision,
    Stage, ad_event, decision_record::What, event,
};
use returnpath_slots::Slot;

use crate::{climate::WayBack, reference::index, transition::BoxIndex};

/// A box and an advertiser.
type Audience = (BoxIndex, String);

/// What stands in rp.decisions of one slot.
#[derive(Debug)]
struct Recorded {
    /// As it may be pushed; none where nothing is sent.
    signed: Vec<Bytes>,
    decisions: Vec<Decision>,
    no_fill: NoFill,
    /// Of the ad that was chosen.
    advertiser: Option<String>,
    recorded_unix_ms: i64,
    /// Stages recorded, one bit each.
    stages: u32,
}

pub(crate) struct Decisions {
    way_back: WayBack,
    recorded: BTreeMap<String, Recorded>,
    /// Slots of which an opportunity reached rp.opportunities.
    asked: BTreeSet<String>,
    /// What players got, ever.
    handed_over: BTreeMap<(BoxIndex, Slot), Decision>,
    /// Ads that rp.ads knows to have been shown, and when they were decided.
    shown: BTreeMap<Audience, BTreeMap<String, i64>>,
    /// Opportunities of the last decision that reached each box.
    last_arrived: BTreeMap<BoxIndex, u64>,
    /// Decisions whose ad began and was told later: until then nobody can count
    /// it.
    told_late: BTreeSet<String>,
    /// Slots decided once more when they were over.
    pub(crate) again: u64,
    pub(crate) takeovers: u64,
    pub(crate) pushed: u64,
    /// What the nodes count.
    pub(crate) counts: Counts,
}

impl Decisions {
    pub(crate) fn new(way_back: WayBack) -> Self {
        Self {
            way_back,
            recorded: BTreeMap::new(),
            asked: BTreeSet::new(),
            handed_over: BTreeMap::new(),
            shown: BTreeMap::new(),
            last_arrived: BTreeMap::new(),
            told_late: BTreeSet::new(),
            again: 0,
            takeovers: 0,
            pushed: 0,
            counts: Counts::default(),
        }
    }

    /// Slots that an ad was decided for, those that none was, and those that a
    /// player got.
    pub(crate) fn totals(&self) -> [u64; 3] {
        let filled = self.recorded.values().filter(|it| it.advertiser.is_some());
        let filled = filled.count();
        let all = [filled, self.recorded.len() - filled, self.handed_over.len()];
        all.map(|count| count as u64)
    }

    /// An opportunity stands in rp.opportunities.
    pub(crate) fn asked(&mut self, value: &[u8]) {
        let opportunity = wire::Opportunity::decode(value).unwrap();
        let refined = opportunity.refined.unwrap();
        let Some(event::Kind::AdOpportunity(asked)) = refined.event.unwrap().kind else {
            panic!("no opportunity stands in rp.opportunities");
        };
        let slots = u32::try_from(asked.slot_durations_ms.len().max(1)).unwrap();
        self.asked.extend(
            (0..slots).map(|slot| {
                decision_id(&refined.device_id, refined.boot_id, &asked.break_id, slot)
            }),
        );
    }

    /// A record stands in rp.decisions. `is_over` says whether a decision has
    /// expired at its box.
    pub(crate) fn recorded(
        &mut self,
        key: &[u8],
        value: &[u8],
        is_over: impl FnOnce(&Decision) -> bool,
    ) {
        let record = DecisionRecord::decode(value).unwrap();
        let id = record.decision_id;
        assert_eq!(id.as_bytes(), key);
        match record.what.unwrap() {
            What::Decided(decided) => {
                self.invariant_a_slot_is_decided_once(&id, &decided, is_over);
                let recorded = Recorded::of(&decided, record.recorded_unix_ms);
                match self.recorded.entry(id) {
                    Entry::Vacant(entry) => {
                        entry.insert(recorded);
                    }
                    Entry::Occupied(mut entry) if entry.get().signed.is_empty() => {
                        entry.insert(recorded);
                    }
                    // Asked for again when it was forgotten, and recorded as
                    // what nothing is sent for: nothing becomes of that.
                    Entry::Occupied(_) if recorded.signed.is_empty() => {}
                    Entry::Occupied(mut entry) => {
                        self.again += recorded.signed.len() as u64;
                        entry.get_mut().stages = 0;
                        entry.get_mut().signed.extend(recorded.signed);
                        entry.get_mut().decisions.extend(recorded.decisions);
                    }
                }
            }
            What::Progress(progress) => self.invariant_a_decision_moves_forward(&id, &progress),
        }
    }

    /// The beginning of an ad was told later than it was.
    pub(crate) fn is_told_late(&mut self, decision_id: &str) {
        self.told_late.insert(decision_id.into());
    }

    /// An ad event stands in rp.ads.
    pub(crate) fn told(&mut self, refined: &Refined) {
        let event = refined.event.as_ref().and_then(|event| event.kind.as_ref());
        let Some(event::Kind::AdEvent(told)) = event else {
            return;
        };
        if told.kind() == ad_event::Kind::Start {
            self.invariant_no_cap_is_exceeded(index(&refined.device_id), told);
        }
    }

    /// Whether a later decision reached the box before this one.
    pub(crate) fn arrives_out_of_order(&mut self, of: BoxIndex, payload: &Bytes) -> bool {
        let signed = SignedDecision::decode(payload.clone()).unwrap();
        let number = Decision::decode(signed.decision).unwrap().number;
        let last = self.last_arrived.entry(of).or_default();
        let is_late = *last > number;
        *last = number.max(*last);
        is_late
    }

    /// What has been signed for a slot is all that ever is. Asked for again when
    /// that was forgotten, it is recorded as expired. What nothing was sent for
    /// may be decided later where it could not be remembered; and what was,
    /// when it is over at its box: its opportunity was so long on its way that
    /// nobody else could know, and no box takes the decision. Bounds that a
    /// world sets itself forget a slot of a break while others of it are open;
    /// then it is the box that takes one only.
    fn invariant_a_slot_is_decided_once(
        &self,
        id: &str,
        decided: &Decided,
        is_over: impl FnOnce(&Decision) -> bool,
    ) {
        assert!(self.asked.contains(id), "{id} was asked for by nobody");
        assert_eq!(
            Some(replay(decided)),
            decided.choice,
            "{id} does not explain itself"
        );
        let Some(former) = self.recorded.get(id) else {
            return;
        };
        let Some(signed) = &decided.signed else {
            let no_fill = decided.choice.map(|choice| choice.no_fill());
            let is_late = matches!(no_fill, Some(NoFill::Expired | NoFill::StateBound));
            assert!(is_late, "{id} was decided to nothing: {decided:?}");
            return;
        };
        let decision = Decision::decode(signed.decision.clone()).unwrap();
        let is_unsent = former.signed.is_empty() && former.no_fill == NoFill::StateBound
            || self.way_back.limits != Limits::DEFAULT;
        assert!(
            is_unsent || is_over(&decision),
            "{id} was decided as {former:?}, and again: {decided:?}"
        );
    }

    /// Each stage is recorded once, of what was decided before. Who takes over
    /// pushes again, and may say so.
    fn invariant_a_decision_moves_forward(&mut self, id: &str, progress: &Progress) {
        let recorded = self.recorded.get_mut(id);
        let recorded = recorded.unwrap_or_else(|| panic!("{id} goes on before it is decided"));
        assert!(!recorded.signed.is_empty(), "{id} goes on and was not sent");
        let bit = 1 << progress.stage() as u32;
        assert!(
            recorded.stages & bit == 0 || progress.stage() == Stage::Pushed,
            "{id}: {:?} once more",
            progress.stage()
        );
        recorded.stages |= bit;
    }

    /// Gives the box that it is for.
    pub(crate) fn invariant_what_is_pushed_is_committed(&mut self, push: &Push) -> BoxIndex {
        self.pushed += 1;
        let recorded = self.recorded.get(&*push.decision_id);
        assert!(
            recorded.is_some_and(|recorded| recorded.signed.contains(&push.payload)),
            "{} is pushed and not committed as such",
            push.decision_id
        );
        index(&push.device)
    }

    /// A player gets what the operator decided for this slot of this box, in
    /// time, and never anything else for it.
    pub(crate) fn invariant_a_slot_gets_one_ad(
        &mut self,
        of: BoxIndex,
        slot: Slot,
        (boot_id, uptime_ms): (u64, u64),
        decision: &Decision,
    ) {
        let recorded = self.recorded.get(&decision.decision_id);
        assert!(
            recorded.is_some_and(|recorded| recorded.decisions.contains(decision)),
            "box {of} hands over what is not committed: {decision:?}"
        );
        assert_eq!(index(&decision.device_id), of, "of another box");
        assert_eq!(decision.expiry_boot_id, boot_id, "of another boot");
        assert!(uptime_ms < decision.expiry_uptime_ms, "expired");
        let first = self.handed_over.entry((of, slot));
        let first = first.or_insert_with(|| decision.clone());
        assert_eq!(first, decision, "a slot of box {of} gets two ads");
    }

    /// Of one advertiser, no more ads that rp.ads knows to have been shown lie
    /// within the window of the cap, from decision to decision. Such as a player
    /// told at once: what it tells later may have been settled as not shown.
    fn invariant_no_cap_is_exceeded(&mut self, of: BoxIndex, told: &AdEvent) {
        let Some(recorded) = self.recorded.get(&told.decision_id) else {
            return;
        };
        let Some(advertiser) = recorded.advertiser.clone() else {
            return;
        };
        if self.told_late.contains(&told.decision_id) {
            return;
        }
        let shown = self.shown.entry((of, advertiser)).or_default();
        shown.insert(told.decision_id.clone(), recorded.recorded_unix_ms);
        let cap = self.way_back.cap;
        let window_ms = i64::try_from(cap.window_ms).unwrap();
        for last in shown.values() {
            let within = last - window_ms + 1..=*last;
            let count = shown.values().filter(|at| within.contains(at)).count();
            assert!(
                count <= cap.impressions_max as usize,
                "box {of} has seen too many of {}: {shown:?}",
                told.decision_id
            );
        }
    }

    /// At the end: decided, or recorded as what could not be.
    pub(crate) fn invariant_every_opportunity_is_answered(&self) {
        let unanswered = self
            .asked
            .iter()
            .filter(|id| !self.recorded.contains_key(*id));
        let unanswered: Vec<_> = unanswered.collect();
        assert!(unanswered.is_empty(), "never answered: {unanswered:?}");
    }

    /// At the end: what holds an ad was taken, refused or shown, or is said to
    /// have expired. Of a slot decided again the first was forgotten.
    pub(crate) fn invariant_every_ad_comes_to_an_end(&self) {
        let ends = [
            Stage::Acknowledged,
            Stage::Refused,
            Stage::Shown,
            Stage::Expired,
        ];
        let ends = ends.into_iter().fold(0, |bits, end| bits | 1 << end as u32);
        let open = self.recorded.iter().filter(|(_, recorded)| {
            recorded.advertiser.is_some()
                && recorded.signed.len() == 1
                && recorded.stages & ends == 0
        });
        let open: Vec<_> = open.map(|(id, recorded)| (id, recorded.stages)).collect();
        assert!(open.is_empty(), "never closed: {open:?}");
    }
}

impl Recorded {
    fn of(decided: &Decided, recorded_unix_ms: i64) -> Self {
        let signed = decided.signed.as_ref();
        let choice = decided.choice.unwrap();
        let advertiser = choice.aggregator.zip(choice.offer).map(|(who, what)| {
            let offers = &decided.aggregators[who as usize].offers;
            let offer = offers[what as usize].offer.as_ref().unwrap();
            offer.advertiser.clone()
        });
        Self {
            signed: signed
                .map(|signed| signed.encode_to_vec().into())
                .into_iter()
                .collect(),
            decisions: signed
                .map(|signed| Decision::decode(signed.decision.clone()).unwrap())
                .into_iter()
                .collect(),
            no_fill: choice.no_fill(),
            advertiser,
            recorded_unix_ms,
            stages: 0,
        }
    }
}
