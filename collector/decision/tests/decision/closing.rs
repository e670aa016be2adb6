//! What becomes of decisions, and when what is reserved for caps ends.

use returnpath_decision::Cap;
use returnpath_shared::wire::{
    Lane, NoFill, OfferFault, PolicyKind, Refined, Stage, ad_event::Kind, event,
};

use crate::running::{BOOT, Opp, Running, UPTIME_MS, settings, told};

/// One ad of an advertiser in a long time.
fn capped() -> Running {
    let mut settings = settings(PolicyKind::Waterfall, &["a"]);
    settings.cap = Some(Cap {
        impressions_max: 1,
        window_ms: 3_600_000,
    });
    Running::new(settings)
}

/// An opportunity of later, that says how far its box is settled.
fn later(running: &Running, break_id: &str, sequence: u64, settled_uptime_ms: u64) -> Opp {
    let passed_ms = running.now.unix_ms - crate::running::NOW_UNIX_MS;
    let uptime_ms = UPTIME_MS + u64::try_from(passed_ms).unwrap();
    Opp {
        uptime_ms,
        start_uptime_ms: uptime_ms,
        sent_uptime_ms: uptime_ms,
        received_unix_ms: running.now.unix_ms,
        settled_uptime_ms,
        sequence,
        ..Opp::new(break_id)
    }
}

/// Whether the one aggregator's only advertiser is capped.
fn is_capped(running: &mut Running, opp: &Opp) -> bool {
    running.ask(opp);
    let decided = running.offer("a", "5,x.example,30000").only();
    let fault = decided.aggregators[0].offers[0].fault();
    assert!(matches!(
        fault,
        OfferFault::Unspecified | OfferFault::Capped
    ));
    fault == OfferFault::Capped
}

#[test]
fn each_stage_is_recorded_once_with_what_the_box_said() {
    let mut running = capped();
    let opp = Opp::new("b");
    assert!(!is_capped(&mut running, &opp));
    running.commit();
    let id = opp.id(0);
    let pushed = running.step(|partition, lent, out| partition.pushed("box-1", &id, lent.now, out));
    assert_eq!(pushed.stages(), [Stage::Pushed]);
    for (kind, stage) in [
        (Kind::DecisionAcknowledged, Stage::Acknowledged),
        (Kind::DecisionRefused, Stage::Refused),
        (Kind::Start, Stage::Shown),
        (Kind::FirstQuartile, Stage::FirstQuartile),
        (Kind::Midpoint, Stage::Midpoint),
        (Kind::ThirdQuartile, Stage::ThirdQuartile),
        (Kind::Complete, Stage::Completed),
        (Kind::Skip, Stage::Skipped),
        (Kind::Click, Stage::Clicked),
        (Kind::Error, Stage::Failed),
    ] {
        let mut event = told("box-1", kind, &id);
        event.ordinal = 5;
        if let Some(event::Kind::AdEvent(ad)) = &mut event.event.as_mut().unwrap().kind {
            ad.error_code = 405;
            ad.instance = 2;
        }
        let out = running.ad(&event);
        let progress = &out.progress()[0];
        assert_eq!(
            (progress.0.as_str(), progress.1.stage()),
            (id.as_str(), stage)
        );
        assert_eq!((progress.1.ordinal, progress.1.instance), (5, 2));
        assert_eq!(progress.1.event_unix_ms, event.event_unix_ms);
        assert_eq!(progress.1.error_code, 405);
        assert!(running.ad(&event).records.is_empty(), "{kind:?} again");
    }
    let counts = running.commit();
    assert_eq!(counts.repeated_ad_events, 10);
    assert_eq!(counts.progress[Stage::Shown as usize], 1);
}

#[test]
fn only_the_box_that_was_decided_for_is_believed() {
    let mut running = capped();
    let opp = Opp::new("b");
    is_capped(&mut running, &opp);
    for event in [
        told("box-2", Kind::Start, &opp.id(0)),
        told("box-1", Kind::Start, "ffffffffffffffffffffffffffffffff"),
    ] {
        assert!(running.ad(&event).records.is_empty());
    }
    assert_eq!(running.commit().unknown_ad_events, 2);
}

#[test]
fn records_of_ads_that_cannot_be_read_are_counted() {
    let mut running = capped();
    running.ad_record(b"box-1", b"\xff");
    running.ad_record(b"not a box", b"");
    running.ad(&Refined {
        device_id: "box-1".into(),
        ..Refined::default()
    });
    running.tell(Kind::Unspecified, "id");
    assert_eq!(running.commit().undecodable_ads, 4);
}

#[test]
fn an_ad_that_was_never_shown_counts_until_its_box_has_told_everything() {
    let mut running = capped();
    let first = Opp::new("b-1");
    assert!(!is_capped(&mut running, &first));
    running.pass(50_000);
    // Settled past the expiry, but the proofs before it are not read yet.
    let second = later(&running, "b-2", 2, UPTIME_MS + 20_000);
    assert!(is_capped(&mut running, &second));
    let out = running.ad(&second.refined());
    assert_eq!(out.stages(), [Stage::Expired]);
    running.pass(1_000);
    let third = later(&running, "b-3", 3, 0);
    assert!(!is_capped(&mut running, &third));
}

#[test]
fn a_proof_that_was_read_before_the_settlement_keeps_counting() {
    let mut running = capped();
    let first = Opp::new("b-1");
    assert!(!is_capped(&mut running, &first));
    running.pass(50_000);
    running.tell(Kind::Start, &first.id(0));
    let second = later(&running, "b-2", 2, UPTIME_MS + 20_000);
    assert!(running.ad(&second.refined()).records.is_empty());
    assert!(is_capped(&mut running, &second));
}

#[test]
fn a_settlement_short_of_the_expiry_frees_nothing() {
    let mut running = capped();
    assert!(!is_capped(&mut running, &Opp::new("b-1")));
    running.pass(20_000);
    let second = later(&running, "b-2", 2, UPTIME_MS + 6_000);
    assert!(running.ad(&second.refined()).records.is_empty());
    assert!(is_capped(&mut running, &second));
}

#[test]
fn a_later_boot_settles_what_the_former_left() {
    let mut running = capped();
    assert!(!is_capped(&mut running, &Opp::new("b-1")));
    running.pass(120_000);
    let mut second = later(&running, "b-2", 2, 1);
    second.boot_id = BOOT + 1;
    running.ad(&second.refined());
    assert!(!is_capped(&mut running, &second));
}

#[test]
fn what_is_never_acknowledged_is_recorded_as_expired_and_still_counts() {
    let mut running = capped();
    let first = Opp::new("b-1");
    assert!(!is_capped(&mut running, &first));
    let due_us = running.partition.poll_timeout(running.now).unwrap();
    assert_eq!(due_us - running.now.monotonic_us, 61_000_000);
    assert!(running.pass(60_999).records.is_empty());
    let out = running.pass(1);
    assert_eq!(out.stages(), [Stage::Expired]);
    assert_eq!(running.partition.poll_timeout(running.now), None);
    let second = later(&running, "b-2", 2, 0);
    assert!(is_capped(&mut running, &second));
    let out = running.tell(Kind::Start, &first.id(0));
    assert_eq!(out.stages(), [Stage::Shown]);
}

#[test]
fn what_was_acknowledged_is_left_to_its_box() {
    let mut running = capped();
    let first = Opp::new("b-1");
    is_capped(&mut running, &first);
    running.tell(Kind::DecisionAcknowledged, &first.id(0));
    assert!(running.pass(600_000).records.is_empty());
}

#[test]
fn a_decision_refused_for_its_age_counts_no_longer_unless_it_was_bound() {
    for (is_bound, refusal, still_counts) in [
        (false, "expired", false),
        (true, "expired", true),
        (false, "superseded", true),
        (false, "replayed", true),
    ] {
        let mut running = capped();
        let first = Opp::new("b-1");
        is_capped(&mut running, &first);
        if is_bound {
            running.tell(Kind::DecisionAcknowledged, &first.id(0));
        }
        let mut refused = told("box-1", Kind::DecisionRefused, &first.id(0));
        if let Some(event::Kind::AdEvent(ad)) = &mut refused.event.as_mut().unwrap().kind {
            ad.refusal = refusal.into();
        }
        assert_eq!(running.ad(&refused).progress()[0].1.refusal, refusal);
        let second = later(&running, "b-2", 2, 0);
        assert_eq!(
            is_capped(&mut running, &second),
            still_counts,
            "{refusal} {is_bound}"
        );
    }
}

#[test]
fn an_ad_leaves_the_window_of_its_cap() {
    let mut running = capped();
    let first = Opp::new("b-1");
    is_capped(&mut running, &first);
    running.tell(Kind::Start, &first.id(0));
    running.pass(3_599_999);
    let second = later(&running, "b-2", 2, 0);
    assert!(is_capped(&mut running, &second));
    running.pass(1);
    let third = later(&running, "b-3", 3, 0);
    assert!(!is_capped(&mut running, &third));
}

#[test]
fn an_unfilled_slot_expires_silently() {
    let mut running = capped();
    running.ask(&Opp::new("b-1"));
    let decided = running.offer("a", "").only();
    assert_eq!(decided.choice.unwrap().no_fill(), NoFill::NoOffer);
    assert!(running.pass(600_000).records.is_empty());
}

#[test]
fn a_flood_of_old_opportunities_forgets_no_ad_that_may_be_told_of() {
    let mut running = capped();
    let first = Opp::new("b-1");
    is_capped(&mut running, &first);
    running.pass(60_000);
    for old in 0..1_000 {
        let mut opp = later(&running, &format!("old-{old}"), 2 + old, 0);
        opp.lane = Lane::Backlog;
        running.ask(&opp).only();
    }
    running.commit();
    assert_eq!(
        running.tell(Kind::Start, &first.id(0)).stages(),
        [Stage::Shown]
    );
    let bytes: usize = running.snapshot().values().map(Vec::len).sum();
    assert!(bytes < 32 * 1024, "{bytes} bytes of state");
}
