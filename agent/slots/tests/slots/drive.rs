//! Drives the core by hand, one call after another.

use returnpath_shared::wire::{AdEvent, Decision};
use returnpath_slots::{BindOutcome, Output, Refusal, Row, Slots, Start, TellOutcome, Verify};

use crate::messages::{DEVICE, Signed, decision, signed, slot};

pub(crate) const BOOT: u64 = 7;

pub(crate) fn with_rows(rows: Vec<Row>, verify: &dyn Verify) -> Slots {
    let start = Start {
        device: DEVICE.parse().unwrap(),
        boot_id: BOOT,
        rows,
    };
    Slots::new(start, verify, 100)
}

pub(crate) fn slots() -> Slots {
    with_rows(Vec::new(), &Signed)
}

pub(crate) fn outputs(slots: &mut Slots) -> Vec<Output> {
    std::iter::from_fn(|| slots.poll_output()).collect()
}

/// A decision for a slot of this boot.
pub(crate) fn open(index: u32, ad: u8, expiry_uptime_ms: u64) -> Decision {
    decision(&slot(BOOT, 1, index), ad, expiry_uptime_ms)
}

/// The one binding among the outputs.
pub(crate) fn binding(slots: &mut Slots) -> (u64, Row) {
    let outputs = outputs(slots);
    let [Output::Bind { number, row }] = outputs.as_slice() else {
        panic!("{outputs:?}");
    };
    (*number, row.clone())
}

pub(crate) fn bind(slots: &mut Slots, decision: &Decision, now_ms: u64) -> (Row, Vec<Output>) {
    slots.arrived(&signed(decision), &Signed, now_ms);
    let (number, row) = binding(slots);
    slots.bound(number, BindOutcome::Done, now_ms);
    (row, outputs(slots))
}

/// Arrives and is refused; what is told of it, if anything.
pub(crate) fn refused(
    slots: &mut Slots,
    message: &[u8],
    now_ms: u64,
) -> (Refusal, Option<AdEvent>) {
    slots.arrived(message, &Signed, now_ms);
    let mut reason = None;
    let mut told = None;
    for output in outputs(slots) {
        match output {
            Output::Refused(refused) => reason = Some(refused.reason),
            Output::Tell(tell) => {
                slots.told(tell.number, TellOutcome::Taken, now_ms);
                told = Some(tell.event);
            }
            other @ (Output::Bind { .. }
            | Output::HandOver(_)
            | Output::AskAgain(_)
            | Output::Forget(_)) => panic!("{other:?}"),
        }
    }
    (reason.expect("refused"), told)
}
