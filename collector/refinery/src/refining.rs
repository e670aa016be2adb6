//! One record whose turn has come: from its envelope to what goes out.

use alloc::{borrow::Cow, format, string::ToString, vec::Vec};
use core::ops::Range;

use prost::Message;
use returnpath_shared::{
    Class, Kind, Lane, Ordinal, ProofKey, UnpackError, Urgency, check,
    wire::{Event, RejectionReason, event},
};

use crate::{
    arrivals::{Full, Outcome, Standing},
    batch::{self, BatchHead},
    clock::{self, Seen},
    completeness::Declaration,
    counts::Counts,
    device::Device,
    encode::{
        Rejected, RejectedEvent, Sending, put_opportunity, put_refined, put_rejected, put_shared,
    },
    envelope::{Envelope, without_batch},
    fields::Fields,
    limit::{Limits, UPTIME_AHEAD_MAX_MS},
    order::Moment,
    output::{Destination, Output},
    profile::Place,
    record::RawRecord,
    rejection::Rejection,
    unpack::Unpacker,
};

/// Everything that refining one record touches.
pub(crate) struct Refining<'a> {
    pub(crate) record: &'a RawRecord<'a>,
    pub(crate) envelope: &'a Envelope<'a>,
    pub(crate) device: &'a mut Device,
    pub(crate) limits: &'a Limits,
    pub(crate) unpacker: &'a mut Unpacker,
    /// Scratch for what the events of a batch share.
    pub(crate) shared: &'a mut Vec<u8>,
    pub(crate) counts: &'a mut Counts,
    pub(crate) out: &'a mut Output,
}

impl Refining<'_> {
    /// Takes note of what the box says of itself, as true for a batch sent
    /// again as for a new one.
    pub(crate) fn hear(&mut self) {
        self.device.see(self.record.received_unix_ms);
        let declaration = self.envelope.declaration.as_ref();
        match clock::judge(self.envelope, self.record.received_unix_ms) {
            Seen::Unsynchronised => {}
            Seen::Impossible => self.counts.clocks_refused += 1,
            Seen::Synchronised => {
                if self.device.clocks.get().wants(self.envelope) {
                    let sender = declaration.map(|declaration| declaration.sender);
                    self.device.clocks.change().observe(self.envelope, sender);
                }
            }
        }
        match declaration {
            Some(declaration) => {
                let outcome = self.device.arrivals.change().release(
                    declaration.sender,
                    &declaration.oldest_held,
                    self.record.received_unix_ms,
                    self.limits,
                );
                self.account(outcome);
            }
            None => self.counts.declarations_refused += 1,
        }
    }

    /// Refines the batch, or rejects it.
    pub(crate) fn run(mut self) {
        self.hear();
        let id = self.envelope.id;
        match self.device.arrivals.get().standing(id) {
            Standing::Duplicate => {
                self.counts.duplicate_batches += 1;
                return;
            }
            Standing::Forgotten => {
                let detail = "the box had released this batch, and whether it had come before \
                              is not remembered";
                return self.reject_unopened(&Rejection::new(RejectionReason::Retired, detail));
            }
            Standing::Late => self.counts.late_batches += 1,
            Standing::New => {}
        }
        let taken =
            self.device
                .arrivals
                .change()
                .take(id, self.record.received_unix_ms, self.limits);
        match taken {
            Ok(outcome) => {
                self.account(outcome);
                self.device
                    .account_for_batch(id.epoch, self.record.received_unix_ms);
            }
            Err(full) => {
                let why = Rejection::new(RejectionReason::StateBound, full.detail(self.limits));
                return self.reject_unopened(&why);
            }
        }
        self.open();
    }

    fn account(&mut self, outcome: Outcome) {
        self.counts.holes_forgotten += outcome.forgotten.holes;
        self.counts.epochs_forgotten += outcome.forgotten.epochs;
        self.device
            .account_for(outcome, self.record.received_unix_ms);
    }

    fn open(self) {
        let Self {
            record,
            envelope,
            device,
            limits,
            unpacker,
            shared,
            counts,
            out,
        } = self;
        let unpacked = unpacker
            .unpack(envelope.codec, envelope.batch)
            .map_err(|error| (BatchHead::default(), codec_rejection(&error)));
        let batch = unpacked.and_then(|bytes| {
            let head = batch::read_head(bytes, envelope.id.sequence)?;
            Ok((bytes, head))
        });
        let (batch, head) = match batch {
            Ok(batch) => batch,
            Err((head, why)) => {
                reject_batch(record, envelope, head, &why, counts, out);
                return;
            }
        };
        device.arrivals.change().tell_ordinals(
            envelope.id,
            head.first_ordinal,
            head.first_ordinal + u64::from(head.event_count) - 1,
        );
        shared.clear();
        put_shared(shared, record, envelope.id, head.boot_id);
        counts.batches += 1;
        let mut events = Events {
            key: out.put_key(&[record.key]),
            record,
            envelope,
            head,
            envelope_alone: None,
            shared,
            device,
            declares: false,
            counts,
            out,
        };
        for (index, bytes) in (0..head.event_count).zip(batch::events(batch)) {
            events.refine(index, bytes);
        }
        if events.declares {
            account_for_declarations(events.device, record, limits, events.counts);
        }
    }

    /// Rejects a batch that is not taken, with the ordinals that it carries
    /// where they can be read. What it declares holds all the same: the box
    /// does not say it again.
    fn reject_unopened(self, why: &Rejection) {
        let unpacked = self
            .unpacker
            .unpack(self.envelope.codec, self.envelope.batch);
        let head = match unpacked.map(|bytes| {
            let head = batch::read_head(bytes, self.envelope.id.sequence);
            (bytes, head)
        }) {
            Ok((bytes, Ok(head))) => {
                let mut declares = false;
                for event in batch::events(bytes) {
                    if let Ok((event, kind)) = read_event(event)
                        && kind.is_agents_own()
                    {
                        declares |= declare(&event, self.device, self.record);
                    }
                }
                if declares {
                    account_for_declarations(self.device, self.record, self.limits, self.counts);
                }
                head
            }
            Ok((_, Err((head, _)))) => head,
            Err(_) => BatchHead::default(),
        };
        if why.reason == RejectionReason::StateBound {
            let sequence = self.envelope.id.sequence;
            let rejected =
                Declaration::rejected(sequence, head.first_ordinal, head.event_count, why.reason);
            if let Some(rejected) = rejected {
                let received_unix_ms = self.record.received_unix_ms;
                self.device
                    .declare(self.envelope.id.epoch, rejected, received_unix_ms);
                account_for_declarations(self.device, self.record, self.limits, self.counts);
            }
        }
        reject_batch(self.record, self.envelope, head, why, self.counts, self.out);
    }
}

/// The events of one batch, on their way out.
struct Events<'a> {
    key: Range<usize>,
    record: &'a RawRecord<'a>,
    envelope: &'a Envelope<'a>,
    head: BatchHead,
    /// Made when the first event is rejected.
    envelope_alone: Option<Vec<u8>>,
    shared: &'a [u8],
    device: &'a mut Device,
    /// An event so far declared something lost.
    declares: bool,
    counts: &'a mut Counts,
    out: &'a mut Output,
}

impl Events<'_> {
    /// Refines one event, or rejects it without harm to those beside it.
    fn refine(&mut self, index: u32, bytes: &[u8]) {
        let ordinal = self.head.first_ordinal + u64::from(index);
        let judged = read_event(bytes).and_then(|(event, kind)| {
            self.refuse_repeat(&event, kind)?;
            Ok((event, kind))
        });
        let (event, kind) = match judged {
            Ok(judged) => judged,
            Err(why) => return self.reject(index, ordinal, bytes, &why),
        };
        if let Some(event::Kind::Boot(boot)) = &event.kind
            && !boot.anchors.is_empty()
        {
            self.device
                .clocks
                .change()
                .learn(boot, self.record.received_unix_ms);
        }
        if kind.is_agents_own() {
            self.declares |= declare(&event, self.device, self.record);
        }
        let time = self
            .device
            .clocks
            .get()
            .timing(
                self.envelope,
                self.head.boot_id,
                self.record.received_unix_ms,
            )
            .of(event.uptime_ms);
        let stream = kind.stream();
        let destination = Destination::Refined(stream);
        let refined = self.out.put_record(destination, &self.key, |value| {
            put_refined(value, bytes, self.shared, index, ordinal, time);
        });
        self.counts.refined[stream as usize] += 1;
        if self.record.lane == Lane::Live && Urgency::of(&event) == Urgency::Urgent {
            self.out.urge();
        }
        let place = Place {
            moment: Moment {
                epoch: self.envelope.id.epoch,
                ordinal: Ordinal(ordinal),
            },
            boot_id: self.head.boot_id,
            uptime_ms: event.uptime_ms,
            unix_ms: time.unix_ms,
        };
        self.device
            .learn(event, &place, self.record.received_unix_ms);
        if kind == Kind::AdOpportunity {
            self.ask(refined, place.uptime_ms);
        }
    }

    /// Hands an opportunity, refined before, to whoever decides, with what is
    /// known of its box by now.
    fn ask(&mut self, refined: Range<usize>, uptime_ms: u64) {
        let sending = Sending {
            uptime_ms: self.envelope.uptime_ms,
            boot_id: self.envelope.boot_id,
            settled_uptime_ms: self.settled_uptime_ms(uptime_ms),
        };
        let device = &*self.device;
        self.out
            .put_record(Destination::Opportunity, &self.key, |value| {
                put_opportunity(value, refined, device.profile(), &device.key, sending);
            });
    }

    /// Up to which uptime everything has been refined that the run accepted
    /// which accepted an event of `uptime_ms` just refined; 0 when a batch of
    /// it is missing, the box still holds something of an earlier run, or its
    /// uptime is not that of the boot that sends.
    fn settled_uptime_ms(&self, uptime_ms: u64) -> u64 {
        let &Envelope { id, boot_id, .. } = self.envelope;
        let same_boot = boot_id == self.head.boot_id && boot_id != 0;
        let holds_nothing_earlier = self.envelope.holds_nothing_before_run();
        if !same_boot || !holds_nothing_earlier || !self.device.arrivals.get().has_all_up_to(id) {
            return 0;
        }
        // It was accepted by then: when it was sent, or when it says.
        uptime_ms
            .min(self.envelope.uptime_ms)
            .saturating_sub(UPTIME_AHEAD_MAX_MS)
    }

    /// Recognises a proof told twice; what the agent makes itself may be told
    /// again after a restart, whatever its class.
    fn refuse_repeat(&mut self, event: &Event, kind: Kind) -> Result<(), Rejection> {
        if Class::of(event) != Class::Proof && !kind.is_agents_own() {
            return Ok(());
        }
        let Some(key) = ProofKey::of(event) else {
            return Ok(());
        };
        if self.device.proofs.get().contains(kind, key) {
            let detail = "this proof was refined before, under another ordinal";
            return Err(Rejection::new(RejectionReason::Repeated, detail));
        }
        self.device.proofs.change().insert(kind, key);
        Ok(())
    }

    fn reject(&mut self, index: u32, ordinal: u64, bytes: &[u8], why: &Rejection) {
        let envelope = self
            .envelope_alone
            .get_or_insert_with(|| without_batch(self.record.value));
        let rejected = Rejected {
            record: self.record,
            envelope,
            id: Some(self.envelope.id),
            head: self.head,
            event: Some(RejectedEvent {
                index,
                ordinal,
                bytes,
            }),
        };
        self.out
            .put_record(Destination::Rejected, &self.key, |value| {
                put_rejected(value, &rejected, why);
            });
        self.counts.rejected[why.reason as usize] += 1;
    }
}

/// Decodes one event and judges it.
fn read_event(bytes: &[u8]) -> Result<(Event, Kind), Rejection> {
    let event = Event::decode(bytes).map_err(|_| {
        let detail = "the bytes must be a returnpath.v1.Event";
        Rejection::new(RejectionReason::Event, detail)
    })?;
    let Some(kind) = Kind::of(&event) else {
        return Err(match unknown_kind(bytes) {
            Some(number) => Rejection::new(
                RejectionReason::UnknownKind,
                format!("field {number} of Event is no kind that this version knows"),
            ),
            None => Rejection::new(RejectionReason::Event, "kind: expected exactly one"),
        });
    };
    check(&event).map_err(|error| Rejection::new(RejectionReason::Event, error.to_string()))?;
    Ok((event, kind))
}

/// Kinds have field numbers from 10 on; the number of one in an event that has
/// none of the known ones.
fn unknown_kind(bytes: &[u8]) -> Option<u32> {
    const KIND_MIN: u32 = 10;
    let mut fields = Fields::of(bytes);
    loop {
        let (number, _) = fields.next().ok().flatten()?;
        if number >= KIND_MIN {
            return Some(number);
        }
    }
}

/// Takes what a good event declares lost; says whether it declares anything.
fn declare(event: &Event, device: &mut Device, record: &RawRecord<'_>) -> bool {
    let Some((epoch, declaration)) = event.kind.as_ref().and_then(Declaration::read) else {
        return false;
    };
    device.declare(epoch, declaration, record.received_unix_ms);
    true
}

/// To be called once all declarations of a batch are taken.
fn account_for_declarations(
    device: &mut Device,
    record: &RawRecord<'_>,
    limits: &Limits,
    counts: &mut Counts,
) {
    let forgotten = device.account_for_declarations(record.received_unix_ms, limits);
    counts.declared_ranges_forgotten += forgotten.ranges;
    counts.declared_epochs_forgotten += forgotten.epochs;
}

fn codec_rejection(error: &UnpackError) -> Rejection {
    let reason = match error {
        UnpackError::TooLarge => RejectionReason::TooLarge,
        UnpackError::Codec(_) | UnpackError::Deflate | UnpackError::Decode(_) => {
            RejectionReason::Codec
        }
    };
    Rejection::new(reason, error.to_string())
}

fn reject_batch(
    record: &RawRecord<'_>,
    envelope: &Envelope<'_>,
    head: BatchHead,
    why: &Rejection,
    counts: &mut Counts,
    out: &mut Output,
) {
    let rejected = Rejected {
        record,
        envelope: record.value,
        id: Some(envelope.id),
        head,
        event: None,
    };
    let key = out.put_key(&[record.key]);
    out.put_record(Destination::Rejected, &key, |value| {
        put_rejected(value, &rejected, why);
    });
    counts.rejected[why.reason as usize] += 1;
}

impl Full {
    fn detail(self, limits: &Limits) -> Cow<'static, str> {
        let Limits {
            epochs_max,
            holes_max,
            ..
        } = limits;
        match self {
            Self::Incarnations => "the box has more queue files than are remembered".into(),
            Self::Epochs => format!("the box has more than {epochs_max} starts open").into(),
            Self::Holes => format!("the box has left more than {holes_max} gaps").into(),
        }
    }
}
