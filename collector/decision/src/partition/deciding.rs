//! Decides slots: asks who is to be asked, and turns what was answered into one
//! decision with its record. How an answer is read is `answered`'s.

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};
use core::mem;

use prost::Message as _;
use returnpath_shared::wire::{
    AggregatorRecord, Choice, Creative, Decided, Decision, Exclusion, NoFill, Offer, OfferFault,
    OpenDecision, Privacy, SignedDecision,
};

use super::{
    DeviceIndex, Lent, Partition, Pushing,
    asking::{Asking, Part, PartState, SlotAsking, Step, Waiting},
};
use crate::{
    ask::Ask,
    device::Asked,
    encode::put_decided,
    limit::{ASKINGS_MAX, DEADLINE_PART_MIN, PUSH_MARGIN_MS},
    offer::bound_detail,
    opportunity::{Read, Slot},
    output::{Call, Output},
    policy::{choose, nothing, stands},
    push::Timing,
    settings::WithoutConsent,
    signer::Signer,
};

impl Partition {
    /// A slot about to be decided.
    pub(super) fn slot_asking(
        &self,
        slot: &Slot,
        read: &Read,
        room: &mut usize,
        lent: &Lent<'_>,
    ) -> SlotAsking {
        let left_ms = slot.expiry_unix_ms.saturating_sub(lent.now.unix_ms);
        let verdict = if read.is_stale || left_ms <= 0 {
            Some(NoFill::Expired)
        } else if *room == 0 {
            Some(NoFill::StateBound)
        } else if self.askings.len() >= ASKINGS_MAX {
            *room -= 1;
            Some(NoFill::NobodyAsked)
        } else {
            *room -= 1;
            None
        };
        let ask_ms = u64::try_from(left_ms.saturating_sub(PUSH_MARGIN_MS)).unwrap_or(0);
        let ask_ms = ask_ms.min(self.settings.budget_ms.into());
        let names = self
            .settings
            .aggregators
            .iter()
            .map(|one| one.name.as_str());
        SlotAsking {
            slot: slot.clone(),
            parts: names.map(Part::new).collect(),
            deadline_us: lent.now.monotonic_us.saturating_add(ask_ms * 1_000),
            verdict,
            is_decided: false,
        }
    }

    /// Begins to decide the slots of an opportunity.
    pub(super) fn begin(
        &mut self,
        device: DeviceIndex,
        read: Read,
        slots: Vec<SlotAsking>,
        lent: &mut Lent<'_>,
        out: &mut Output,
    ) {
        let ids = slots.iter().map(|slot| slot.slot.decision_id.clone());
        self.devices[device].askings.push(Asked {
            number: read.number,
            decision_ids: ids.collect(),
            room: slots.iter().filter(|slot| !slot.is_unsent()).count(),
        });
        let asking = Asking {
            device,
            read,
            taken_us: lent.now.monotonic_us,
            slots,
            waiting: Waiting::default(),
        };
        self.proceed(asking, lent, out);
    }

    /// Takes an opportunity as far as it goes without further answers, and
    /// those of its box that waited for it.
    pub(super) fn proceed(&mut self, asking: Asking, lent: &mut Lent<'_>, out: &mut Output) {
        let mut next = Some(asking);
        while let Some(mut asking) = next.take() {
            self.decide_sent(&mut asking, lent, out);
            self.decide_unsent(&mut asking, lent, out);
            let number = asking.read.number;
            if asking.slots.iter().any(|slot| !slot.is_decided) {
                self.deadlines.extend(
                    asking
                        .deadline_us()
                        .map(|deadline_us| (deadline_us, number)),
                );
                self.askings.insert(number, asking);
                return;
            }
            let device = &mut self.devices[asking.device];
            device.askings.retain(|asked| asked.number != number);
            let oldest = device.oldest_asking();
            self.finish(asking.device, asking.read.received_unix_ms);
            next = oldest.and_then(|oldest| self.take(oldest));
        }
    }

    /// Decides the slots that a box is sent something for, in their order, so
    /// that each one knows which ads the box gets before it. Those that wait
    /// for that are asked for meanwhile.
    fn decide_sent(&mut self, asking: &mut Asking, lent: &mut Lent<'_>, out: &mut Output) {
        let mut is_first = true;
        for place in 0..asking.slots.len() {
            let slot = &asking.slots[place];
            if slot.is_decided || slot.is_unsent() {
                continue;
            }
            loop {
                let known = self.devices[asking.device].known.get();
                let is_capped = |advertiser: &str| {
                    self.settings.cap.is_some_and(|cap| {
                        known.is_capped(advertiser, cap, &self.limits, lent.now.unix_ms)
                    })
                };
                let slot = &asking.slots[place];
                match slot.step(&self.settings.policy, lent.now.monotonic_us, is_capped) {
                    Step::Ask(aggregator) => self.ask(asking, place, aggregator, lent, out),
                    Step::Decide if is_first => {
                        self.decide(asking, place, lent, out);
                        break;
                    }
                    Step::Decide | Step::Wait => {
                        is_first = false;
                        break;
                    }
                }
            }
        }
    }

    /// Records the slots that nothing is sent for, which nobody waits for, with
    /// the end of their opportunity: they may not be remembered, and only
    /// what is finished is not read again.
    fn decide_unsent(&mut self, asking: &mut Asking, lent: &mut Lent<'_>, out: &mut Output) {
        let is_oldest = self.devices[asking.device].oldest_asking() == Some(asking.read.number);
        let mut slots = asking.slots.iter();
        if !is_oldest || slots.any(|slot| !slot.is_decided && !slot.is_unsent()) {
            return;
        }
        for place in 0..asking.slots.len() {
            if !asking.slots[place].is_decided {
                self.decide(asking, place, lent, out);
            }
        }
    }

    /// Asks one aggregator for one slot, or says why not.
    fn ask(
        &mut self,
        asking: &mut Asking,
        place: usize,
        index: usize,
        lent: &mut Lent<'_>,
        out: &mut Output,
    ) {
        let now_us = lent.now.monotonic_us;
        let slot = &mut asking.slots[place];
        let part = &mut slot.parts[index];
        let aggregator = &self.settings.aggregators[index];
        let is_personal = asking.read.privacy == Privacy::Personalised;
        if !is_personal && aggregator.without_consent == WithoutConsent::NotAsked {
            return part.exclude(Exclusion::Privacy);
        }
        let left_ms = slot.deadline_us.saturating_sub(now_us) / 1_000;
        let deadline_ms = u32::try_from(left_ms)
            .unwrap_or(u32::MAX)
            .min(aggregator.deadline_ms);
        if deadline_ms == 0 || deadline_ms < aggregator.deadline_ms / DEADLINE_PART_MIN {
            return part.exclude(Exclusion::TooLate);
        }
        if let Some(refusal) = lent.gates.refusal(index, now_us) {
            return part.exclude(refusal);
        }
        let device = &self.devices[asking.device].key;
        let pseudonym = is_personal
            .then(|| lent.pseudonyms.pseudonym(&aggregator.name, device))
            .flatten();
        let request = aggregator.adapter.request(&Ask {
            opportunity: &asking.read.opportunity,
            decision_id: &slot.slot.decision_id,
            slot: slot.slot.slot,
            slot_duration_ms: slot.slot.duration_ms,
            privacy: asking.read.privacy,
            now_unix_ms: lent.now.unix_ms,
            time_left_ms: deadline_ms,
            pseudonym: pseudonym.as_deref(),
        });
        let request = match request {
            Ok(request) => request,
            Err(why) => {
                part.record.detail = bound_detail(why.to_string());
                return part.exclude(why.exclusion());
            }
        };
        let id = lent.gates.begin(index, now_us);
        part.state = PartState::UnderWay {
            number: id.number,
            asked_us: now_us,
        };
        self.calls.insert(id.number, (asking.read.number, place));
        out.call(Call {
            id,
            request,
            deadline_ms,
            slot_duration_ms: slot.slot.duration_ms,
        });
    }

    /// Decides one slot by what is there, and records it.
    fn decide(&mut self, asking: &mut Asking, place: usize, lent: &mut Lent<'_>, out: &mut Output) {
        let now = lent.now;
        let slot = &mut asking.slots[place];
        slot.is_decided = true;
        slot.close(asking.taken_us, now.monotonic_us, &mut asking.waiting);
        let waited_us = asking.waiting.waited_us();
        let parts = mem::take(&mut slot.parts);
        let mut aggregators: Vec<AggregatorRecord> =
            parts.into_iter().map(|part| part.record).collect();
        self.touch(asking.device);
        let known = self.devices[asking.device].known.change();
        known.tidy(&self.limits, self.settings.cap, now.unix_ms);
        if let Some(cap) = self.settings.cap {
            let offers = aggregators.iter_mut().flat_map(|one| &mut one.offers);
            for record in offers.filter(|record| stands(record)) {
                let advertiser = record.offer.as_ref().map_or("", |offer| &offer.advertiser);
                if known.is_capped(advertiser, cap, &self.limits, now.unix_ms) {
                    record.set_fault(OfferFault::Capped);
                    record.detail = CAPPED.into();
                }
            }
        }
        let mut choice = match slot.verdict {
            Some(verdict @ (NoFill::Expired | NoFill::StateBound)) => nothing(verdict),
            Some(_) | None => choose(&self.settings.policy, &aggregators),
        };
        let is_sent = !matches!(choice.no_fill(), NoFill::Expired | NoFill::StateBound);
        let (aggregator, offer) = chosen(&choice, &aggregators).unzip();
        let signed = is_sent.then(|| {
            let device = &self.devices[asking.device].key;
            sign(device, &asking.read, &slot.slot, offer, lent.signer)
        });
        let open = OpenDecision {
            decision_id: slot.slot.decision_id.clone(),
            boot_id: asking.read.boot_id,
            break_id: asking.read.break_id.clone(),
            slot: slot.slot.slot,
            expiry_uptime_ms: slot.slot.expiry_uptime_ms,
            expiry_unix_ms: slot.slot.expiry_unix_ms,
            decided_unix_ms: now.unix_ms,
            signed: signed.clone(),
            aggregator: aggregator.unwrap_or_default().into(),
            advertiser: offer.map_or_else(String::new, |offer| offer.advertiser.clone()),
            is_settled: !is_sent,
            ..OpenDecision::default()
        };
        let advertiser = open.advertiser.clone();
        let is_filled = offer.is_some();
        let known = self.devices[asking.device].known.change();
        // What cannot be remembered could be decided twice: it is not sent.
        let mut signed = signed;
        let is_remembered = choice.no_fill() != NoFill::StateBound
            && known.remember(open, &self.limits, now.unix_ms);
        if is_sent && !is_remembered {
            choice = nothing(NoFill::StateBound);
            signed = None;
        }
        if signed.is_some() {
            if is_filled && self.settings.cap.is_some() && !advertiser.is_empty() {
                known.reserve(
                    &advertiser,
                    &slot.slot.decision_id,
                    &self.limits,
                    now.unix_ms,
                );
            }
            if is_filled {
                self.closings
                    .insert(super::Closing::of(asking.device, &slot.slot));
            }
            out.urge();
            self.open.pushes.push(Pushing {
                device: asking.device,
                decision_id: slot.slot.decision_id.as_str().into(),
                timing: Some(Timing {
                    taken_us: asking.taken_us,
                    decided_us: now.monotonic_us,
                    waited_us,
                }),
            });
        }
        self.open.counts.decided(&aggregators, &choice);
        let decided = Decided {
            opportunity: None,
            number: asking.read.number,
            slot: slot.slot.slot,
            slot_duration_ms: slot.slot.duration_ms,
            privacy: asking.read.privacy.into(),
            policy: Some(self.settings.policy.clone()),
            aggregators,
            choice: Some(choice),
            signed,
            elapsed_us: now.monotonic_us.saturating_sub(asking.taken_us),
            waited_us,
        };
        let device = &self.devices[asking.device].key;
        put_decided(
            out,
            &slot.slot.decision_id,
            device,
            now,
            &asking.read.bytes,
            &decided,
        );
    }
}

const CAPPED: &str = "expected an advertiser that this box has not seen as often as it may";

/// Who was chosen, and what of theirs.
fn chosen<'a>(
    choice: &Choice,
    aggregators: &'a [AggregatorRecord],
) -> Option<(&'a str, &'a Offer)> {
    let aggregator = aggregators.get(choice.aggregator? as usize)?;
    let offer = aggregator.offers.get(choice.offer? as usize)?;
    Some((&aggregator.name, offer.offer.as_ref()?))
}

fn sign(
    device: &str,
    read: &Read,
    slot: &Slot,
    offer: Option<&Offer>,
    signer: &dyn Signer,
) -> SignedDecision {
    let decision = Decision {
        decision_id: slot.decision_id.clone(),
        device_id: device.into(),
        break_id: read.break_id.clone(),
        slot: slot.slot,
        number: read.number,
        expiry_boot_id: read.boot_id,
        expiry_uptime_ms: slot.expiry_uptime_ms,
        creative: offer.map(|offer| Creative {
            creative_id: offer.creative_id.clone(),
            url: offer.url.clone(),
            media_type: offer.media_type.clone(),
            duration_ms: offer.duration_ms,
        }),
    }
    .encode_to_vec();
    SignedDecision {
        signature: signer.sign(&decision).to_vec().into(),
        decision: decision.into(),
        key_id: signer.key_id().into(),
    }
}
