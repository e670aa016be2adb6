//! Tests of the refinery through its public interface, as the shell uses it.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what cannot fail in a test fails it loudly, in its helpers too"
)]

mod clocks;
mod completeness;
mod profiles;
mod properties;
mod rejections;
mod running;
mod transactions;
mod waits;

use running::{Batch, Running, TUNE};

#[test]
fn a_batch_becomes_one_refined_record_an_event() {
    let mut running = Running::new();
    let out = running.refine(&Batch::new(1).events([TUNE, TUNE, TUNE]));
    assert_eq!(out.refined_ordinals(), [1, 2, 3]);
    assert!(out.rejected.is_empty());
    for (index, refined) in out.refined.iter().enumerate() {
        assert_eq!(refined.device_id, "box-1");
        assert_eq!(refined.batch, Some(running::id(1, 1, 1).into()));
        assert_eq!(refined.index as usize, index);
        assert_eq!(refined.received_unix_ms, running::NOW_UNIX_MS);
        assert_eq!(refined.boot_id, running::BOOT);
        assert_eq!(refined.event, Some(TUNE.event()));
    }
    let counts = running.commit();
    assert_eq!(counts.batches, 1);
    assert_eq!(counts.refined(returnpath_shared::Stream::Viewing), 3);
}

#[test]
fn each_kind_goes_to_its_stream() {
    use running::Short;
    let kinds = [TUNE, Short::AdStart("d"), Short::Health, Short::Custom];
    let mut running = Running::new();
    let out = running.refine(&Batch::new(1).events(kinds));
    assert_eq!(out.streams, returnpath_shared::Stream::ALL);
}
