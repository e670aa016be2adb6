//! Records at the bounds of all that they hold, and boxes that do not count as
//! boxes should.

use std::sync::Arc;

use prost::Message as _;
use returnpath_decision::{
    AGGREGATORS_MAX, AHEAD_MS_MAX, Adapter, Ask, Method, OFFERS_MAX, OPEN_DECISIONS_MAX,
    OPPORTUNITY_BYTES_MAX, OVER_DECISIONS_MAX, RECORD_BYTES_MAX, Request, Response,
    UNSETTLED_MS_MAX, Unaskable, Unreadable,
};
use returnpath_shared::wire::{
    Decided, Decision, Lane, NoFill, Offer, OfferFault, OfferRecord, PolicyKind, SignedDecision,
};

use crate::running::{Opp, Running, UPTIME_MS, body, settings};

/// Offers as many as it may and more, each as long as it may be.
struct LongestAdapter;

impl Adapter for LongestAdapter {
    fn request(&self, _ask: &Ask<'_>) -> Result<Request, Unaskable> {
        Ok(Request {
            method: Method::Get,
            url: "https://a.example/".into(),
            headers: Vec::new(),
            body: None,
        })
    }

    fn offers(&self, _response: &Response) -> Result<Vec<OfferRecord>, Unreadable> {
        let url = format!("https://cdn.example/{}", "u".repeat(2_048 - 20));
        let longest = OfferRecord {
            offer: Some(Offer {
                offer_id: "o".repeat(128),
                creative_id: "c".repeat(64),
                url,
                media_type: format!("video/mp4; {}", "p".repeat(254 - 11)),
                duration_ms: u32::MAX,
                price_micros: Some(i64::MIN),
                currency: "EUR".into(),
                advertiser: format!("{}.example", ["a".repeat(60).as_str(); 4].join(".")),
            }),
            fault: OfferFault::Field.into(),
            detail: "d".repeat(256),
        };
        let mut all = vec![longest.clone(); OFFERS_MAX + 4];
        // One of them stands, so that the longest is signed too.
        all[0].fault = 0;
        all[0].detail.clear();
        let offer = all[0].offer.as_mut().unwrap();
        offer.duration_ms = 30_000;
        offer.price_micros = Some(1_000_000);
        offer.advertiser = format!("{}.{}", "a".repeat(63), "b".repeat(63));
        Ok(all)
    }
}

#[test]
fn the_largest_record_fits_and_so_does_what_is_signed() {
    let names: Vec<String> = (0..AGGREGATORS_MAX)
        .map(|number| format!("{number:064}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut settings = settings(PolicyKind::HighestPrice, &names);
    settings.policy.version = "v".repeat(64);
    for aggregator in &mut settings.aggregators {
        aggregator.adapter = Arc::new(LongestAdapter);
    }
    let mut running = Running::new(settings);
    let mut opp = Opp::new(&"b".repeat(64));
    opp.device = "d".repeat(64);
    let mut message = opp.message();
    let room = OPPORTUNITY_BYTES_MAX - message.encoded_len() - 16;
    message.profile.as_mut().unwrap().model = "m".repeat(room);
    let value = message.encode_to_vec();
    running.opportunity(opp.device.as_bytes(), &value, 0);
    let mut out = None;
    while !running.calls.is_empty() {
        out = Some(running.end(0, body("")));
    }
    let out = out.unwrap();
    let decided = out.only();
    for aggregator in &decided.aggregators {
        assert_eq!(aggregator.offers.len(), OFFERS_MAX);
    }
    let bytes = out.records[0].encoded_len();
    assert!(bytes > RECORD_BYTES_MAX / 2, "{bytes}: not the largest");
    assert!(bytes <= RECORD_BYTES_MAX, "{bytes}");
    let signed: SignedDecision = decided.signed.unwrap();
    // What the test of the state counts with.
    assert!(signed.encoded_len() <= 2_600, "{}", signed.encoded_len());
    running.commit();
    assert_eq!(running.pushes.len(), 1);
}

#[test]
fn an_opportunity_larger_than_any_that_refine_writes_is_counted_and_skipped() {
    let mut running = Running::new(settings(PolicyKind::Waterfall, &["a"]));
    let mut message = Opp::new("b").message();
    message.profile.as_mut().unwrap().model = "m".repeat(OPPORTUNITY_BYTES_MAX);
    let out = running.opportunity(b"box-1", &message.encode_to_vec(), 0);
    assert!(out.records.is_empty() && running.calls.is_empty());
    assert_eq!(running.commit().undecodable_opportunities, 1);
}

#[test]
fn breaks_that_lie_absurdly_far_ahead_do_not_fill_a_box_for_ever() {
    for start_uptime_ms in [UPTIME_MS + 2 * AHEAD_MS_MAX, u64::MAX] {
        let mut running = Running::new(settings(PolicyKind::Waterfall, &["a"]));
        let ask = |running: &mut Running, number: usize| {
            let mut opp = Opp::new(&format!("b-{number}"));
            opp.start_uptime_ms = start_uptime_ms;
            opp.slots = 16;
            opp.received_unix_ms = running.now.unix_ms;
            running.ask(&opp)
        };
        // A player that counts in another unit, and never stops asking.
        for number in 0..OPEN_DECISIONS_MAX / 16 {
            ask(&mut running, number);
            let mut out = None;
            while !running.calls.is_empty() {
                let place = running.calls.len() - 1;
                out = Some(running.end(place, body(&format!("1,x{number}.example,30000"))));
            }
            for (_, decided) in out.unwrap().decided() {
                let signed = decided.signed.unwrap();
                let decision = Decision::decode(signed.decision).unwrap();
                assert_eq!(decision.expiry_uptime_ms, UPTIME_MS + AHEAD_MS_MAX);
            }
            running.commit();
        }
        let no_fill = |decided: &Decided| decided.choice.unwrap().no_fill();
        for (_, decided) in ask(&mut running, 1_000).decided() {
            assert_eq!(no_fill(&decided), NoFill::StateBound);
        }
        running.commit();
        // Not a word of what became of them.
        running.pass(AHEAD_MS_MAX + UNSETTLED_MS_MAX.unsigned_abs() + 1);
        running.commit();
        assert!(ask(&mut running, 2_000).records.is_empty());
        assert_eq!(running.calls.len(), 16);
    }
}

#[test]
fn what_a_box_has_waited_out_does_not_have_a_slot_decided_again() {
    let mut running = Running::new(settings(PolicyKind::Waterfall, &["a"]));
    let asked = Opp::new("now");
    running.ask(&asked);
    running.end(0, body(""));
    running.commit();
    // All that waited in the backlog of the box comes at once.
    for number in 0..2 * OVER_DECISIONS_MAX {
        let waited_out = Opp {
            lane: Lane::Backlog,
            ..Opp::new(&format!("waited-out-{number}"))
        };
        running.ask(&waited_out);
    }
    running.commit();
    running.pass(60_000);
    let later = Opp {
        uptime_ms: UPTIME_MS + 60_000,
        sent_uptime_ms: UPTIME_MS + 60_000,
        received_unix_ms: running.now.unix_ms,
        ..asked
    };
    running.ask(&Opp {
        break_id: "next".into(),
        ..later.clone()
    });
    running.end(0, body(""));
    running.commit();
    assert!(running.ask(&later).records.is_empty());
    assert!(running.calls.is_empty());
    assert_eq!(running.commit().repeated_late, 1);
}
