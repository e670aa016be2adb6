//! The core: takes what happens, asks the leaves, and lines up effects.
//!
//! Every call ends in [`Delivery::advance`], which does in one order whatever
//! has become due: age, overdue receipts, the agent's own events, closing,
//! sending, committing.

mod closing;
mod dropping;
mod growing;
mod sending;
mod storing;

use alloc::{collections::VecDeque, vec::Vec};

use self::growing::Growing;
use prost::Message as _;
use returnpath_shared::{Class, Epoch, Ordinal, ProofKey, Sequence, Urgency, wire};

use crate::{
    Acceptance, Answer, BootFacts, ClientToken, CommitOutcome, Config, Effect, FirstAnswer, Input,
    Start, StartRow, Status, StoredBatch, SyncPolicy, Uptime,
    anchors::Anchors,
    budget::{self, Budget},
    held::{Held, Place},
    jitter::Jitter,
    leaving::Leaving,
    ledger::{Drop, Ledger},
    open::{EVENT_BYTES_MAX, Open},
    own::OwnEvents,
    repeat::{First, Repeats},
    share::Share,
    status,
    storage::{File, Storage},
    time::PoweredClock,
    unwritten::AllUnwritten,
    waiting::Waiting,
    window::Window,
};

/// Of the queue's bytes, kept free for the agent's own events, which are never
/// turned away: [`UNDER_WAY_MAX`](crate::ledger) declarations, and what a
/// batch of them takes unpacked.
const OWN_RESERVE_BYTES: u64 = 16 * 1024;

/// Of the queue's batches, kept free likewise.
const OWN_RESERVE_BATCHES: u64 = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Running,
    /// Nothing is accepted any more; the last commit is due or under way.
    Stopping,
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    Up,
    Down,
}

/// What to store, send, resend and drop, and when.
///
/// What it promises, each checked in `tests/delivery` after every step of a generated life:
/// no durable event is lost; every drop is in the ledger; a sequence is never
/// used for other data; bounds are kept; the window is kept; order is kept
/// within an epoch and lane.
///
/// What happens at the bound of the queue: the oldest ordinary batches are
/// evicted, into the ledger. Proof is never evicted for want of space: when
/// only proof is left, clients are answered `busy`, so that `durable` stays
/// true; only age, a refusal and bad flash remove it, and the ledger says so.
#[derive(Debug)]
pub struct Delivery {
    config: Config,
    epoch: Epoch,
    boot_id: u64,
    facts: BootFacts,
    powered: PoweredClock,
    /// The latest moment that it was told of.
    now: Uptime,
    phase: Phase,
    link: Link,
    jitter: Jitter,
    next_sequence: Sequence,
    next_ordinal: Ordinal,
    open: Option<Open>,
    /// The batch that was closed last, while it may grow.
    growing: Option<Growing>,
    held: Held,
    unwritten: AllUnwritten,
    waiting: Waiting,
    proof_repeats: Repeats,
    ordinary_repeats: Repeats,
    window: Window,
    share: Share,
    storage: Storage,
    budget: Budget,
    leaving: Leaving,
    ledger: Ledger,
    anchors: Anchors,
    own: OwnEvents,
    effects: VecDeque<Effect>,
    /// Counters; what can be computed is filled in by `status`.
    totals: Status,
}

impl Delivery {
    /// Starts a run with what the queue file holds. `recovered` are its
    /// batches, oldest first; an iterator, because a full queue's rows would
    /// not fit the box's memory budget at once.
    #[must_use]
    pub fn new(
        config: Config,
        start: Start,
        recovered: impl IntoIterator<Item = StoredBatch>,
        now: Uptime,
    ) -> Self {
        let mut own = OwnEvents::new(start.unclean);
        let mut held = Held::default();
        for batch in recovered {
            held.insert(&batch, true);
            settle_with(&mut own.unclean_owed, &batch);
        }
        held.begin_run(start.epoch, start.boot_id);
        let mut delivery = Self {
            epoch: start.epoch,
            boot_id: start.boot_id,
            facts: start.facts,
            powered: PoweredClock::new(start.powered, start.boot_id),
            now,
            phase: Phase::Running,
            link: Link::Down,
            jitter: Jitter::new(start.seed),
            next_sequence: Sequence::FIRST,
            next_ordinal: Ordinal::FIRST,
            open: None,
            growing: None,
            held,
            unwritten: AllUnwritten::default(),
            waiting: Waiting::default(),
            proof_repeats: Repeats::new(start.proof_ids, config.proof_ids_max),
            ordinary_repeats: Repeats::new(alloc::vec![], config.ordinary_ids_max),
            window: Window::new(
                config.pace.window_batches_max,
                config.resend_after_prompt,
                config.resend_after_max,
            ),
            share: Share::new(config.pace.backlog_rate, now),
            storage: Storage::new(),
            budget: Budget::new(config.flash_bytes_per_day_max, now),
            leaving: Leaving::default(),
            ledger: Ledger::new(start.ledger),
            anchors: Anchors::new(start.anchors),
            own,
            effects: VecDeque::new(),
            totals: Status::default(),
            config,
        };
        delivery.drop_excess_incarnations();
        delivery.advance(now);
        delivery
    }

    /// Takes an event. A client that gets [`Acceptance::Pending`] is answered
    /// later by an [`Effect::Answer`] with its token.
    pub fn accept(
        &mut self,
        mut event: wire::Event,
        token: ClientToken,
        now: Uptime,
    ) -> Acceptance {
        self.now = self.now.max(now);
        if self.phase == Phase::Stopped {
            return Acceptance::Busy;
        }
        let class = Class::of(&event);
        let key = ProofKey::of(&event);
        if let Some(repeated) = key.and_then(|key| self.repeated(key, class, token)) {
            return repeated;
        }
        if event.uptime_ms == 0 {
            event.uptime_ms = self.now.0;
        }
        let length = event.encoded_len();
        if length > EVENT_BYTES_MAX {
            return Acceptance::TooLarge {
                length,
                length_max: EVENT_BYTES_MAX,
            };
        }
        if self.phase != Phase::Running || !self.has_room(class, length as u64) {
            self.totals.events_busy += 1;
            return Acceptance::Busy;
        }

        if withdraws_consent(&event) {
            self.withdraw_consent();
        }
        let ordinal = self.push(&event, length);
        let epoch = self.epoch;
        let acceptance = match class {
            Class::Ordinary => {
                if let Some(key) = key {
                    self.ordinary_repeats
                        .remember(key, epoch, ordinal, First::Accepted);
                }
                Acceptance::Accepted { epoch, ordinal }
            }
            Class::Proof => {
                if let Some(key) = key {
                    self.proof_repeats
                        .remember(key, epoch, ordinal, First::Pending);
                }
                self.waiting.for_open(token, ordinal);
                self.want_sync();
                Acceptance::Pending { epoch, ordinal }
            }
        };
        if Urgency::of(&event) == Urgency::Urgent && self.link == Link::Up {
            self.close();
        }
        self.advance(now);
        acceptance
    }

    /// Takes what happened.
    pub fn handle(&mut self, input: Input<'_>, now: Uptime) {
        self.now = self.now.max(now);
        if self.phase == Phase::Stopped {
            return;
        }
        match input {
            Input::LinkUp => self.link_changed(Link::Up),
            Input::LinkDown => self.link_changed(Link::Down),
            Input::PubAck { id, outcome } => self.acknowledged(id, outcome),
            Input::Receipt(receipt) => self.receipt(receipt),
            Input::Committed { number, outcome } => self.committed(number, outcome),
            Input::Loaded { id, bytes } => self.loaded(id, bytes),
            Input::Starts(rows) => self.owe_starts(rows),
            Input::ClockSynchronised { unix_ms } => {
                self.own.boot_owed |= self.anchors.synchronised(self.boot_id, self.now, unix_ms);
            }
            Input::Pace(pace) => {
                self.config.pace = pace;
                self.window.set_limit_max(pace.window_batches_max);
                self.share.set_rate(pace.backlog_rate, self.now);
            }
            Input::RebuildFailed => {
                if self.storage.file == File::Rebuilding {
                    self.storage.wait_for_rebuild(self.now);
                }
            }
            Input::Stop => {
                if self.phase == Phase::Running {
                    self.phase = Phase::Stopping;
                    self.close();
                }
            }
        }
        self.advance(now);
    }

    /// Does what is due; to be called when [`Self::poll_timeout`] has passed.
    pub fn tick(&mut self, now: Uptime) {
        self.advance(now);
    }

    /// The next thing to do; to be called until `None` after every call.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Self::tick`] is wanted; `None` when nothing is pending, so that
    /// an idle box is never woken.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Uptime> {
        if self.phase == Phase::Stopped {
            return None;
        }
        [
            self.close_due(),
            self.age_due(),
            self.sending_due(),
            self.storing_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A view for people and health events.
    #[must_use]
    pub fn status(&self, now: Uptime) -> Status {
        let now = self.now.max(now);
        let mut live = status::Held::default();
        let mut backlog = status::Held::default();
        for view in self.held.iter() {
            let lane = if self.is_live(&view, now) {
                &mut live
            } else {
                &mut backlog
            };
            lane.batches += 1;
            lane.bytes += u64::from(view.batch.size_bytes);
        }
        let oldest_age = self.held.oldest().map(|view| {
            let seconds = self
                .powered
                .at(now)
                .seconds
                .saturating_sub(view.batch.opened.seconds);
            core::time::Duration::from_secs(u64::from(seconds))
        });
        Status {
            link_up: self.link == Link::Up,
            storage_good: self.storage.file == File::Good,
            ordinary: self.held.ordinary(),
            proof: self.held.proof(),
            live,
            backlog,
            oldest_age,
            unflushed_bytes: self.ram_bytes(),
            open_events: self.open.as_ref().map_or(0, |open| u32::from(open.events)),
            in_flight: count(self.window.in_flight()),
            window: self.window.limit(),
            ledger_rows: count(self.ledger.len()),
            waiting: count(self.waiting.count()),
            flash_charged_bytes: self.budget.charged_bytes(),
            flash_left_bytes: self.budget.bytes_left(now),
            flash_budget_spent: self.budget.is_spent(now),
            ..self.totals
        }
    }

    /// Whether the flash budget is spent, and ordinary batches stay in RAM.
    #[must_use]
    pub fn is_flash_budget_spent(&self) -> bool {
        self.budget.is_spent(self.now)
    }

    /// The shell wrote a row of its own in a commit of its own.
    pub fn written_beside(&mut self, now: Uptime) {
        self.now = self.now.max(now);
        self.budget.charge(budget::COMMIT_BYTES, self.now);
    }

    /// The run of the agent that is going on.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn advance(&mut self, now: Uptime) {
        self.now = self.now.max(now);
        if self.phase == Phase::Stopped {
            return;
        }
        self.drop_too_old();
        self.expire_flights();
        self.ask_for_starts();
        self.make_own_events();
        if self.close_due().is_some_and(|due| due <= self.now) {
            self.close();
            self.make_own_events();
        }
        self.send();
        self.store();
    }

    /// Asks for the unclean stops beyond those that were owed at first, once these
    /// have left the file. Until then the cloud misses what they take, so that
    /// their leaving waits for no other commit.
    fn ask_for_starts(&mut self) {
        if !self.own.may_owe_more() {
            return;
        }
        if !self.storage.declared.is_empty() {
            self.storage.tidy_now = true;
        } else if self.storage.committing.is_none() && self.storage.file == File::Good {
            self.own.asked_for_more();
            self.effects.push_back(Effect::ReadStarts);
        }
    }

    fn owe_starts(&mut self, mut rows: Vec<StartRow>) {
        rows.retain(|row| row.epoch != self.epoch);
        self.own.owe(rows);
    }

    /// The answer to an event that is known by its id.
    fn repeated(&mut self, key: ProofKey, class: Class, token: ClientToken) -> Option<Acceptance> {
        let repeats = match class {
            Class::Ordinary => &self.ordinary_repeats,
            Class::Proof => &self.proof_repeats,
        };
        let (epoch, ordinal, first) = repeats.find(key)?;
        let answer = match first {
            First::Accepted => FirstAnswer::Accepted,
            First::Durable => FirstAnswer::Durable,
            First::Pending if self.waiting.is_full() => {
                self.totals.events_busy += 1;
                return Some(Acceptance::Busy);
            }
            First::Pending => {
                self.totals.events_repeated += 1;
                match self.held.place_of_event(epoch, ordinal) {
                    Some(place) => self.waiting.for_closed(place, token, ordinal),
                    None => self.waiting.for_open(token, ordinal),
                }
                return Some(Acceptance::Pending { epoch, ordinal });
            }
        };
        self.totals.events_repeated += 1;
        Some(Acceptance::Repeated {
            epoch,
            ordinal,
            answer,
        })
    }

    /// Whether an event may be taken. Ordinary events leave a quarter of the
    /// RAM to proof; the queue's bound counts only what could not be evicted.
    fn has_room(&self, class: Class, length: u64) -> bool {
        let ram_max = self.config.ram_bytes_max as u64;
        let ram_max = match class {
            Class::Ordinary => ram_max - ram_max / 4,
            Class::Proof => ram_max,
        };
        let open_bytes = self.open.as_ref().map_or(0, |open| open.bytes() as u64);
        let (stays, stay) = if self.ledger.is_full() {
            (self.held.bytes(), self.held.batches())
        } else {
            let proof = self.held.proof();
            (proof.bytes, proof.batches)
        };
        self.ram_bytes() + length <= ram_max
            && stays + open_bytes + length + OWN_RESERVE_BYTES <= self.config.queue_bytes_max
            && stay + OWN_RESERVE_BATCHES < self.config.queue_batches_max as u64
            && !(class == Class::Proof && self.waiting.is_full())
    }

    fn ram_bytes(&self) -> u64 {
        let open_bytes = self.open.as_ref().map_or(0, Open::bytes);
        (open_bytes + self.unwritten.bytes()) as u64
    }

    fn link_changed(&mut self, link: Link) {
        self.link = link;
        self.window.link_changed();
        // What was not handed over yet belongs to the former link.
        self.effects
            .retain(|effect| !matches!(effect, Effect::Publish(_) | Effect::Load(_)));
        if link == Link::Up {
            self.split_open();
        }
        if link == Link::Up && self.config.sync == SyncPolicy::WhenNeeded {
            self.storage.sync_due = None;
        } else if self.awaits_durable() {
            self.want_sync();
        }
    }

    /// Proof in a batch has become durable, or its clients have to live with
    /// less.
    fn answer(&mut self, place: Place, to: First) {
        if let Some(view) = self.held.get(place) {
            self.answer_batch(place, &view.batch, to);
        }
    }

    fn answer_batch(&mut self, place: Place, batch: &StoredBatch, to: First) {
        let epoch = batch.id.epoch;
        if batch.class == Class::Proof {
            let last = batch
                .first_ordinal
                .plus(u64::from(batch.events).saturating_sub(1));
            self.proof_repeats
                .settle(epoch, batch.first_ordinal, last, to);
        }
        for (token, ordinal) in self.waiting.take(place) {
            let answer = match to {
                First::Durable => Answer::Durable { epoch, ordinal },
                First::Accepted | First::Pending => Answer::AcceptedOnly { epoch, ordinal },
            };
            self.effects.push_back(Effect::Answer { token, answer });
        }
    }
}

/// Whether this event takes back the consent to measuring; a choice that is
/// not said counts as opted out. Personalised ads are the cloud's concern:
/// what was viewed may still be counted.
fn withdraws_consent(event: &wire::Event) -> bool {
    matches!(&event.kind, Some(wire::event::Kind::Consent(consent))
        if consent.measurement() != wire::consent::Choice::OptedIn)
}

/// What the file holds of an unclean run, without a gap, is settled too.
fn settle_with(unclean: &mut [StartRow], batch: &StoredBatch) {
    let row = unclean.iter_mut().find(|row| {
        row.epoch == batch.id.epoch && batch.first_ordinal.0 == row.settled.ordinal + 1
    });
    if let Some(row) = row {
        row.settled.ordinal += u64::from(batch.events);
        row.settled.sequence = batch.id.sequence.0;
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
