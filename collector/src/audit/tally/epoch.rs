//! One epoch of one box: which ordinals were answered, arrived, were turned
//! away or declared, and what follows from that for each class.

use std::collections::BTreeMap;

use returnpath_shared::{Class, Epoch, Stream, wire::Lane};

use super::{
    super::{
        declaration::Declared,
        intervals::Intervals,
        order::Order,
        stretch::{Place, Seen, Stretch},
        verdict::{
            ClassVerdict, EpochVerdict, Ordinals, RANGES_LISTED_MAX, UNANSWERED, declared_name,
            rejected_name,
        },
    },
    class_name,
};

/// What an epoch costs beside its intervals, in theirs: 400 bytes.
pub(super) const ITSELF: usize = 10;

#[derive(Debug, Default)]
pub(super) struct EpochTally {
    /// Answered, of either class.
    answered: Intervals,
    /// Answered `durable`.
    durable: Intervals,
    arrived: Intervals,
    /// By the class of the later record.
    duplicated: OfClass,
    out_of_order: OfClass,
    order: Order,
    seen: Seen,
    /// By number of `RejectionReason`.
    rejected: BTreeMap<i32, Intervals>,
    /// By number of `DropReason`.
    declared: BTreeMap<i32, Intervals>,
    /// The reason of a ledger that declares whatever is missing as lost.
    whole_epoch: Option<i32>,
    /// The lowest `last_known_ordinal` of its unclean stops: each of them is a
    /// declaration, so together they declare what any of them does.
    unclean_above: Option<u64>,
}

/// Ordinals by the class of their records.
#[derive(Debug, Default)]
struct OfClass {
    ordinary: Intervals,
    proof: Intervals,
}

/// An event in a refined topic.
pub(super) struct Arrival {
    pub(super) ordinal: u64,
    pub(super) class: Class,
    pub(super) lane: Lane,
    /// `None` where its kind is not known.
    pub(super) stream: Option<Stream>,
    pub(super) place: Place,
}

/// Which ordinals, by what was found of them.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) missing: Vec<Ordinals>,
    pub(super) duplicated: Vec<Ordinals>,
    pub(super) out_of_order: Vec<Ordinals>,
    pub(super) excused: Vec<Ordinals>,
}

impl EpochTally {
    pub(super) fn answered(&mut self, ordinal: u64, class: Class) {
        self.answered.insert(ordinal, ordinal);
        if class == Class::Proof {
            self.durable.insert(ordinal, ordinal);
        }
    }

    pub(super) fn arrived(&mut self, arrival: &Arrival) {
        let &Arrival { ordinal, class, .. } = arrival;
        self.seen.see(arrival.place, ordinal, ordinal);
        if self.arrived.contains(ordinal) {
            self.duplicated.change(class).insert(ordinal, ordinal);
            return;
        }
        self.arrived.insert(ordinal, ordinal);
        if let Some(stream) = arrival.stream
            && self.order.take(arrival.lane, stream, ordinal)
        {
            self.out_of_order.change(class).insert(ordinal, ordinal);
        }
    }

    pub(super) fn rejected(&mut self, reason: i32, first: u64, last: u64, place: Place) {
        self.seen.see(place, first, last);
        self.rejected.entry(reason).or_default().insert(first, last);
    }

    pub(super) fn declare(&mut self, what: Declared) {
        match what {
            Declared::Dropped {
                reason,
                first,
                last,
            } => self.declared.entry(reason).or_default().insert(first, last),
            Declared::WholeEpoch { reason } => self.whole_epoch = Some(reason),
            Declared::UncleanAbove(ordinal) => {
                self.unclean_above =
                    Some(self.unclean_above.map_or(ordinal, |low| low.min(ordinal)));
            }
        }
    }

    /// What it costs.
    pub(super) fn intervals(&self) -> usize {
        let by_reason = |sets: &BTreeMap<i32, Intervals>| -> usize {
            sets.values().map(|set| 1 + set.len()).sum()
        };
        ITSELF
            + self.answered.len()
            + self.durable.len()
            + self.arrived.len()
            + self.duplicated.len()
            + self.out_of_order.len()
            + by_reason(&self.rejected)
            + by_reason(&self.declared)
    }

    pub(super) fn verdict(&self, epoch: Epoch, stretch: Stretch) -> (EpochVerdict, Findings) {
        let mut verdict = EpochVerdict {
            epoch: epoch.to_string(),
            unclean_stop_above: self.unclean_above,
            ..EpochVerdict::default()
        };
        let mut findings = Findings::default();
        let Some((first, last)) = self.seen.judged(stretch) else {
            verdict.outside = self.answered.count();
            return (verdict, findings);
        };
        verdict.begins_unseen = self.seen.begins_unseen(stretch);
        let answered = self.answered.within(first, last);
        verdict.outside = self.answered.count() - answered.count();
        let durable = self.durable.within(first, last);
        let unanswered = self.known_of(first, last).without(&self.answered);
        let mut lists = Lists {
            epoch: &verdict.epoch,
            findings: &mut findings,
        };
        let ordinary = self.judge(
            Some(Class::Ordinary),
            &answered.without(&durable),
            &mut lists,
        );
        let proof = self.judge(Some(Class::Proof), &durable, &mut lists);
        let unanswered = self.judge(None, &unanswered, &mut lists);
        verdict.ordinary = self.judge_records(Class::Ordinary, ordinary, first, last, &mut lists);
        verdict.proof = self.judge_records(Class::Proof, proof, first, last, &mut lists);
        verdict.unanswered = ClassVerdict {
            answered: 0,
            ..unanswered
        };
        (verdict, findings)
    }

    /// Every ordinal that the box must have given to an event.
    fn known_of(&self, first: u64, last: u64) -> Intervals {
        let sets = [&self.answered, &self.arrived].into_iter();
        let sets = sets.chain(self.rejected.values());
        let highest = sets
            .chain(self.declared.values())
            .filter_map(Intervals::last)
            .max();
        Intervals::of(first, last.min(highest.unwrap_or(0)))
    }

    /// What became of `events`: of one class, or answered to nobody.
    fn judge(
        &self,
        class: Option<Class>,
        events: &Intervals,
        lists: &mut Lists<'_>,
    ) -> ClassVerdict {
        let mut verdict = ClassVerdict {
            answered: events.count(),
            ..ClassVerdict::default()
        };
        let mut open = events.without(&self.arrived);
        verdict.arrived = verdict.answered - open.count();
        let mut settle = |open: &mut Intervals, excused: &Intervals, what, why| -> u64 {
            let rest = open.without(excused);
            let settled = open.without(&rest);
            lists.excused(class, &settled, what, why);
            *open = rest;
            settled.count()
        };
        for (reason, ordinals) in &self.rejected {
            let why = rejected_name(*reason);
            let count = settle(&mut open, ordinals, What::Rejected, why);
            *verdict.rejected.entry(why).or_default() += count;
        }
        for (reason, ordinals) in &self.declared {
            let why = declared_name(*reason);
            let count = settle(&mut open, ordinals, What::Declared, why);
            *verdict.declared.entry(why).or_default() += count;
        }
        if let Some(reason) = self.whole_epoch {
            let why = declared_name(reason);
            let all = open.clone();
            let count = settle(&mut open, &all, What::Declared, why);
            *verdict.declared.entry(why).or_default() += count;
        }
        if let Some(known) = self.unclean_above
            && class != Some(Class::Proof)
        {
            let died = open.above(known);
            verdict.unclean_stop = settle(&mut open, &died, What::UncleanStop, "");
        }
        verdict.rejected.retain(|_, count| *count > 0);
        verdict.declared.retain(|_, count| *count > 0);
        verdict.missing = open.count();
        lists.missing(class, &open);
        verdict
    }

    /// Adds what the records of a class show, whoever was answered for them.
    fn judge_records(
        &self,
        class: Class,
        verdict: ClassVerdict,
        first: u64,
        last: u64,
        lists: &mut Lists<'_>,
    ) -> ClassVerdict {
        let duplicated = self.duplicated.get(class).within(first, last);
        let out_of_order = self.out_of_order.get(class).within(first, last);
        lists.duplicated(class, &duplicated);
        lists.out_of_order(class, &out_of_order);
        ClassVerdict {
            duplicated: duplicated.count(),
            out_of_order: out_of_order.count(),
            ..verdict
        }
    }
}

impl OfClass {
    fn get(&self, class: Class) -> &Intervals {
        match class {
            Class::Ordinary => &self.ordinary,
            Class::Proof => &self.proof,
        }
    }

    fn change(&mut self, class: Class) -> &mut Intervals {
        match class {
            Class::Ordinary => &mut self.ordinary,
            Class::Proof => &mut self.proof,
        }
    }

    fn len(&self) -> usize {
        self.ordinary.len() + self.proof.len()
    }
}

/// What excuses an event.
#[derive(Clone, Copy)]
enum What {
    Rejected,
    Declared,
    UncleanStop,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Declared => "declared",
            Self::UncleanStop => "unclean_stop",
        }
    }
}

/// Where ordinals are named, as many as are listed.
struct Lists<'a> {
    epoch: &'a str,
    findings: &'a mut Findings,
}

impl Lists<'_> {
    fn missing(&mut self, class: Option<Class>, events: &Intervals) {
        let class = class.map_or(UNANSWERED, class_name);
        let list = &mut self.findings.missing;
        extend(list, self.epoch, class, events, "missing", "");
    }

    fn duplicated(&mut self, class: Class, events: &Intervals) {
        let list = &mut self.findings.duplicated;
        extend(
            list,
            self.epoch,
            class_name(class),
            events,
            "duplicated",
            "",
        );
    }

    fn out_of_order(&mut self, class: Class, events: &Intervals) {
        let list = &mut self.findings.out_of_order;
        extend(
            list,
            self.epoch,
            class_name(class),
            events,
            "out_of_order",
            "",
        );
    }

    fn excused(&mut self, class: Option<Class>, events: &Intervals, what: What, why: &'static str) {
        let class = class.map_or(UNANSWERED, class_name);
        let list = &mut self.findings.excused;
        extend(list, self.epoch, class, events, what.name(), why);
    }
}

fn extend(
    list: &mut Vec<Ordinals>,
    epoch: &str,
    class: &'static str,
    events: &Intervals,
    what: &'static str,
    reason: &'static str,
) {
    let room = RANGES_LISTED_MAX.saturating_sub(list.len());
    let listed = events.iter().take(room);
    list.extend(listed.map(|(first_ordinal, last_ordinal)| Ordinals {
        epoch: epoch.to_owned(),
        class,
        what,
        reason,
        first_ordinal,
        last_ordinal,
    }));
}
