use alloc::{string::String, vec, vec::Vec};

use super::*;

const SLOT_MS: u32 = 30_000;

fn rules() -> Rules {
    let advertiser = |text| Advertiser::parse(text).unwrap();
    let host = |text| HostRule::parse(text).unwrap();
    Rules::new(RulesConfig {
        duration_tolerance_ms: 500,
        media_types: vec!["video/mp4".into()],
        hosts: vec![host("*.cdn.example"), host("ads.example:8443")],
        blocked_advertisers: vec![
            advertiser("betting.example"),
            advertiser("www.lottery.co.uk"),
        ],
        advertiser_required: false,
    })
}

fn policy() -> Policy {
    Policy {
        floor_price_micros: 1_500_000,
        currency: "EUR".into(),
        ..Policy::default()
    }
}

fn good() -> Offer {
    Offer {
        offer_id: "o-1".into(),
        creative_id: "c-1".into(),
        url: "https://a.cdn.example/c-1.mp4".into(),
        media_type: "video/mp4".into(),
        duration_ms: SLOT_MS,
        price_micros: Some(2_350_000),
        currency: "EUR".into(),
        advertiser: "brand.example".into(),
    }
}

fn judge_by(rules: &Rules, offer: Offer, is_capped: Option<IsCapped<'_>>) -> OfferRecord {
    let record = OfferRecord {
        offer: Some(offer),
        ..OfferRecord::default()
    };
    let mut judged = rules.judge(vec![record], SLOT_MS, &policy(), is_capped);
    assert_eq!(judged.len(), 1);
    judged.remove(0)
}

/// The good offer, changed.
fn judge(change: impl FnOnce(&mut Offer)) -> OfferRecord {
    let mut offer = good();
    change(&mut offer);
    judge_by(&rules(), offer, None)
}

fn fault(change: impl FnOnce(&mut Offer)) -> OfferFault {
    let record = judge(change);
    assert_eq!(
        record.fault() == OfferFault::Unspecified,
        record.detail.is_empty(),
        "{record:?}"
    );
    record.fault()
}

#[test]
fn a_good_offer_stands() {
    assert_eq!(
        judge(|_| {}),
        OfferRecord {
            offer: Some(good()),
            ..OfferRecord::default()
        }
    );
}

#[test]
fn the_duration_must_be_that_of_the_slot_within_the_tolerance() {
    for (duration_ms, expected) in [
        (29_500, OfferFault::Unspecified),
        (30_500, OfferFault::Unspecified),
        (29_499, OfferFault::Duration),
        (30_501, OfferFault::Duration),
        (0, OfferFault::Duration),
        (u32::MAX, OfferFault::Duration),
    ] {
        assert_eq!(
            fault(|offer| offer.duration_ms = duration_ms),
            expected,
            "{duration_ms}"
        );
    }
}

#[test]
fn an_ad_without_a_duration_suits_no_slot_however_short() {
    let record = OfferRecord {
        offer: Some(Offer {
            duration_ms: 0,
            ..good()
        }),
        ..OfferRecord::default()
    };
    let judged = rules().judge(vec![record], 100, &policy(), None);
    assert_eq!(judged[0].fault(), OfferFault::Duration);
}

#[test]
fn the_media_type_must_be_one_that_the_boxes_play() {
    for (media_type, expected) in [
        ("video/mp4", OfferFault::Unspecified),
        ("Video/MP4; codecs=\"avc1\"", OfferFault::Unspecified),
        ("video/webm", OfferFault::MediaType),
        ("", OfferFault::MediaType),
    ] {
        let judged = judge(|offer| offer.media_type = media_type.into());
        assert_eq!(judged.fault(), expected, "{media_type}");
        if expected == OfferFault::Unspecified {
            assert_eq!(judged.offer.unwrap().media_type, "video/mp4");
        }
    }
}

#[test]
fn creatives_come_by_https_from_allowed_hosts() {
    for (url, expected) in [
        ("https://a.cdn.example/x", OfferFault::Unspecified),
        ("https://ads.example:8443/x", OfferFault::Unspecified),
        ("https://ads.example/x", OfferFault::Url),
        ("https://a.cdn.example:8443/x", OfferFault::Url),
        ("http://a.cdn.example/x", OfferFault::Url),
        ("ftp://a.cdn.example/x", OfferFault::Url),
        ("//a.cdn.example/x", OfferFault::Url),
        ("/x", OfferFault::Url),
        ("", OfferFault::Url),
        ("file:///etc/passwd", OfferFault::Url),
        ("data:video/mp4;base64,AAAA", OfferFault::Url),
        ("https://user@a.cdn.example/x", OfferFault::Url),
        ("https://user:word@a.cdn.example/x", OfferFault::Url),
        ("https://a.cdn.example@evil.example/x", OfferFault::Url),
        (
            "https://evil.example/?https://a.cdn.example/",
            OfferFault::Url,
        ),
        ("https://evil.example#a.cdn.example", OfferFault::Url),
        ("https://evilcdn.example/x", OfferFault::Url),
        ("https://127.0.0.1/x", OfferFault::Url),
    ] {
        assert_eq!(fault(|offer| offer.url = url.into()), expected, "{url}");
    }
}

#[test]
fn the_box_gets_the_url_that_was_checked() {
    for (url, expected) in [
        (
            "https:\\\\A.CDN.example:443\\x\\..\\y.mp4",
            "https://a.cdn.example/y.mp4",
        ),
        (
            "https://a.cdn.example/ä b.mp4?n=ü",
            "https://a.cdn.example/%C3%A4%20b.mp4?n=%C3%BC",
        ),
    ] {
        let judged = judge(|offer| offer.url = url.into());
        assert_eq!(judged.fault(), OfferFault::Unspecified, "{judged:?}");
        assert_eq!(judged.offer.unwrap().url, expected);
    }
}

#[test]
fn blocked_advertisers_are_refused_by_any_name_of_theirs() {
    for (advertiser, expected) in [
        ("brand.example", OfferFault::Unspecified),
        ("", OfferFault::Unspecified),
        ("betting.example", OfferFault::Advertiser),
        ("WWW.Betting.Example.", OfferFault::Advertiser),
        ("poker.betting.example", OfferFault::Advertiser),
        ("notbetting.example", OfferFault::Unspecified),
        ("lottery.co.uk", OfferFault::Advertiser),
        ("play.lottery.co.uk", OfferFault::Advertiser),
        ("brand.co.uk", OfferFault::Unspecified),
        ("co.uk", OfferFault::Advertiser),
        ("ACME Corp", OfferFault::Advertiser),
    ] {
        assert_eq!(
            fault(|offer| offer.advertiser = advertiser.into()),
            expected,
            "{advertiser}"
        );
    }
}

#[test]
fn an_advertiser_must_be_named_where_it_is_required_or_capped() {
    let unnamed = || Offer {
        advertiser: String::new(),
        ..good()
    };
    let never: IsCapped<'_> = &|_| false;
    let capped = judge_by(&rules(), unnamed(), Some(never));
    assert_eq!(capped.fault(), OfferFault::Advertiser);

    let Rules(config) = rules();
    let strict = Rules::new(RulesConfig {
        advertiser_required: true,
        ..config
    });
    let required = judge_by(&strict, unnamed(), None);
    assert_eq!(required.fault(), OfferFault::Advertiser);
}

#[test]
fn a_cap_is_asked_for_the_advertiser_in_its_one_form() {
    let is_capped: IsCapped<'_> = &|advertiser| advertiser == "brand.example";
    for (advertiser, expected) in [
        ("brand.example", OfferFault::Capped),
        ("www.BRAND.example", OfferFault::Capped),
        ("shop.brand.example", OfferFault::Capped),
        ("other.example", OfferFault::Unspecified),
    ] {
        let offer = Offer {
            advertiser: advertiser.into(),
            ..good()
        };
        let judged = judge_by(&rules(), offer, Some(is_capped));
        assert_eq!(judged.fault(), expected, "{advertiser}");
    }
}

#[test]
fn prices_keep_to_floor_and_currency() {
    for (price_micros, currency, expected) in [
        (Some(1_500_000), "EUR", OfferFault::Unspecified),
        (Some(1_499_999), "EUR", OfferFault::BelowFloor),
        (Some(2_000_000), "", OfferFault::Unspecified),
        (Some(2_000_000), "eur", OfferFault::Unspecified),
        (Some(2_000_000), "USD", OfferFault::Price),
        (Some(2_000_000), "E1R", OfferFault::Price),
        (Some(-1), "EUR", OfferFault::Price),
        (Some(i64::MIN), "EUR", OfferFault::Price),
        (Some(i64::MAX), "EUR", OfferFault::Price),
        (Some(PRICE_MICROS_MAX), "EUR", OfferFault::Unspecified),
        (None, "EUR", OfferFault::Price),
    ] {
        let found = fault(|offer| {
            offer.price_micros = price_micros;
            offer.currency = currency.into();
        });
        assert_eq!(found, expected, "{price_micros:?} {currency}");
    }
}

#[test]
fn offers_without_a_price_stand_where_the_policy_takes_them() {
    let unpriced = OfferRecord {
        offer: Some(Offer {
            price_micros: None,
            ..good()
        }),
        ..OfferRecord::default()
    };
    let policy = Policy {
        takes_unpriced: true,
        ..policy()
    };
    let judged = rules().judge(vec![unpriced], SLOT_MS, &policy, None);
    assert_eq!(judged[0].fault(), OfferFault::Unspecified);
}

#[test]
fn texts_that_are_too_long_or_hold_control_characters_are_not_kept() {
    for (name, text) in [
        ("long", "c".repeat(65)),
        ("newline", "c\n1".into()),
        ("missing", String::new()),
    ] {
        let judged = judge(|offer| offer.creative_id = text);
        assert_eq!(judged.fault(), OfferFault::Field, "{name}");
        assert_eq!(judged.offer.unwrap().creative_id, "", "{name}");
    }
    let judged = judge(|offer| {
        offer.url = format!("https://a.cdn.example/{}", "x".repeat(2_048));
    });
    assert_eq!(judged.fault(), OfferFault::Field);
    let judged = judge(|offer| offer.url = format!("https://a.cdn.example/{}", "ä".repeat(600)));
    assert_eq!(
        judged.fault(),
        OfferFault::Url,
        "written again it is three times as long"
    );
}

#[test]
fn what_an_adapter_faulted_stays_faulted_and_bounded() {
    let record = OfferRecord {
        offer: Some(Offer {
            creative_id: "x".repeat(1_000),
            ..good()
        }),
        fault: OfferFault::Field.into(),
        detail: "/price: expected a number".into(),
    };
    let judged = rules().judge(vec![record], SLOT_MS, &policy(), None);
    assert_eq!(judged[0].fault(), OfferFault::Field);
    assert_eq!(judged[0].detail, "/price: expected a number");
    assert_eq!(judged[0].offer.as_ref().unwrap().creative_id, "");
}

#[test]
fn no_more_offers_are_looked_at_than_the_bound() {
    let one = OfferRecord {
        offer: Some(good()),
        ..OfferRecord::default()
    };
    let many: Vec<_> = core::iter::repeat_n(one, OFFERS_MAX + 4).collect();
    let judged = rules().judge(many, SLOT_MS, &policy(), None);
    assert_eq!(judged.len(), OFFERS_MAX);
}
