//! What holds for every opportunity, every answer and every secret.

use std::{collections::BTreeSet, fmt::Write as _, fs, sync::LazyLock};

use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use returnpath_decision::{
    Adapter, Field, OFFERS_MAX, ParametersAdapter, ParametersConfig, Request, Response,
};
use returnpath_shared::wire::{
    Channel, Consent, Impression, OfferFault, Opportunity, Privacy, ViewedChannel, Viewing,
    consent::Choice, event,
};
use serde_json::{Value, json};
use url::Url;

use crate::opportunity::{adapter, ask, fixtures, opportunity};

/// An adapter that tells every field there is, in every place there is.
static TELLS_ALL: LazyLock<ParametersAdapter> =
    LazyLock::new(|| adapter(&configuration()).unwrap());

fn configuration() -> String {
    let mut sees = String::new();
    let mut tables = [
        String::from("[query]\n"),
        String::from("[headers]\n"),
        String::from("[body]\n"),
    ];
    for (index, field) in Field::all().enumerate() {
        let name = field.name();
        write!(sees, "\"{name}\", ").unwrap();
        let header = format!("x-{index}");
        let pointer = format!("/{}", name.replace('.', "/"));
        for (table, key) in tables.iter_mut().zip([name, &header, &pointer]) {
            writeln!(table, "\"{key}\" = {{ field = \"{name}\" }}").unwrap();
        }
    }
    let [query, headers, body] = tables;
    format!(
        r#"
        method = "POST"
        url = "https://all.example/"
        sees = [{sees}]
        {query}
        {headers}
        {body}
        [response]
        offers = ""
        [response.offer]
        creative_id = "/id"
        url = "/url"
        media_type = "/type"
        duration = {{ pointer = "/ms", unit = "ms" }}
        price = {{ pointer = "/price", unit = "cpm" }}
        currency = "/currency"
        advertiser = "/advertiser"
        offer_id = "/offer"
        "#
    )
}

/// An opportunity that holds something for every field.
fn evening() -> Opportunity {
    opportunity(
        "evening",
        &json!({"refined": {"event": {"adOpportunity": {
            "channel": {"channelId": "one"},
            "lastChannel": {"channelId": "two"},
        }}}}),
    )
}

fn channel() -> impl Strategy<Value = Channel> {
    let triplet = (0_u32..=0xffff, 0_u32..=0xffff, 0_u32..=0xffff);
    (triplet, "\\PC{0,16}").prop_map(|((network_id, transport_stream_id, service_id), id)| {
        Channel {
            network_id,
            transport_stream_id,
            service_id,
            channel_id: id,
        }
    })
}

prop_compose! {
    /// What only boxes with consent may have told of them.
    fn personal()(
        last_channel in proptest::option::of(channel()),
        viewed_before in proptest::collection::vec(channel(), 0..3),
        ads in proptest::collection::vec(("\\PC{0,64}", any::<i64>()), 0..3),
        (model, firmware, pseudonym) in ("\\PC{0,64}", "\\PC{0,64}", "[0-9a-f]{16}"),
        (since_boot_id, since_uptime_ms, since_unix_ms) in (76_u64..78, any::<u64>(), any::<i64>()),
        last_activity_unix_ms in any::<i64>(),
    ) -> (Opportunity, String) {
        let mut opportunity = evening();
        if let Some(ad) = ad_opportunity(&mut opportunity) {
            ad.last_channel = last_channel;
        }
        let profile = opportunity.profile.get_or_insert_default();
        profile.viewed_before = viewed_before
            .into_iter()
            .map(|channel| ViewedChannel {
                channel: Some(channel),
                ..ViewedChannel::default()
            })
            .collect();
        profile.recent_impressions = ads
            .into_iter()
            .map(|(id, shown_unix_ms)| Impression {
                decision_id: id.clone(),
                creative_id: id,
                shown_unix_ms,
                ..Impression::default()
            })
            .collect();
        profile.model = model;
        profile.firmware = firmware;
        profile.last_activity_unix_ms = last_activity_unix_ms;
        let viewing = profile.viewing.get_or_insert_default();
        viewing.since_boot_id = since_boot_id;
        viewing.since_uptime_ms = since_uptime_ms;
        viewing.since_unix_ms = since_unix_ms;
        (opportunity, pseudonym)
    }
}

fn ad_opportunity(
    opportunity: &mut Opportunity,
) -> Option<&mut returnpath_shared::wire::AdOpportunity> {
    let event = opportunity.refined.as_mut()?.event.as_mut()?;
    match event.kind.as_mut()? {
        event::Kind::AdOpportunity(ad) => Some(ad),
        _ => None,
    }
}

/// The opportunity with nothing left that only boxes with consent may have
/// told of them.
fn anonymous(opportunity: &Opportunity) -> Opportunity {
    let mut anonymous = opportunity.clone();
    anonymous.refined.as_mut().unwrap().device_id.clear();
    ad_opportunity(&mut anonymous).unwrap().last_channel = None;
    let profile = anonymous.profile.get_or_insert_default();
    *profile = returnpath_shared::wire::DeviceProfile {
        viewing: profile.viewing.take().map(|viewing| Viewing {
            channel: viewing.channel,
            source: viewing.source,
            ..Viewing::default()
        }),
        consent: profile.consent.take(),
        ..Default::default()
    };
    anonymous
}

fn parts(request: Request) -> (String, Vec<(String, String)>, Value) {
    let body = request.body.unwrap();
    let body = serde_json::from_slice(&body).unwrap();
    (request.url, request.headers, body)
}

#[test]
fn with_consent_every_field_is_told_and_without_only_the_contextual_ones() {
    let opportunity = opportunity("evening", &json!({}));
    let streamed = evening();
    for privacy in [
        Privacy::Personalised,
        Privacy::Contextual,
        Privacy::Unspecified,
    ] {
        let mut told = BTreeSet::new();
        for opportunity in [&opportunity, &streamed] {
            let (url, ..) = parts(TELLS_ALL.request(&ask(opportunity, privacy)).unwrap());
            let url = Url::parse(&url).unwrap();
            told.extend(url.query_pairs().map(|(name, _)| name.into_owned()));
        }
        let expected: BTreeSet<_> = Field::all()
            .filter(|field| privacy == Privacy::Personalised || field.is_contextual())
            .map(|field| field.name().to_owned())
            .collect();
        assert_eq!(told, expected, "{privacy:?}");
    }
}

#[test]
fn fields_have_names_of_their_own_and_are_described() {
    let mut seen = BTreeSet::new();
    for field in Field::all() {
        assert!(seen.insert(field.name()), "{field:?} comes twice");
        assert_eq!(Field::named(field.name()), Some(field));
        assert!(!field.about().is_empty(), "{field:?} is not described");
    }
}

proptest! {
    /// Nothing personal has any influence on what is told without consent: the
    /// request is the one that an unknown box on the same channel would get.
    #[test]
    fn without_consent_a_request_depends_on_nothing_personal(
        (opportunity, pseudonym) in personal(),
        privacy in prop_oneof![Just(Privacy::Contextual), Just(Privacy::Unspecified)],
    ) {
        let mut asked = ask(&opportunity, privacy);
        asked.pseudonym = Some(&pseudonym);
        let anonymous = anonymous(&opportunity);
        let mut unknown = ask(&anonymous, privacy);
        unknown.pseudonym = None;
        prop_assert_eq!(
            parts(TELLS_ALL.request(&asked).unwrap()),
            parts(TELLS_ALL.request(&unknown).unwrap())
        );
    }

    /// Whatever a box sends: it comes out at the other end as it was, and in
    /// its own place.
    #[test]
    fn what_is_told_can_be_read_back(
        break_id in "(?s).{1,32}",
        version in "(?s).{1,32}",
        channel in channel(),
    ) {
        let mut opportunity = evening();
        let ad = ad_opportunity(&mut opportunity).unwrap();
        ad.break_id.clone_from(&break_id);
        ad.channel = Some(channel);
        let profile = opportunity.profile.get_or_insert_default();
        profile.consent = Some(Consent {
            personalised_ads: Choice::OptedIn.into(),
            version: version.clone(),
            ..Consent::default()
        });
        let request = TELLS_ALL.request(&ask(&opportunity, Privacy::Personalised)).unwrap();
        let (url, headers, body) = parts(request);

        prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic()));
        let url = Url::parse(&url).unwrap();
        prop_assert_eq!(url.host_str(), Some("all.example"));
        prop_assert_eq!(url.fragment(), None);
        let names: BTreeSet<_> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        prop_assert!(names.iter().all(|name| Field::named(name).is_some()));
        for (name, expected) in [("break.id", &break_id), ("consent.version", &version)] {
            let told = url.query_pairs().find(|(told, _)| told == name).unwrap().1;
            prop_assert_eq!(&told, expected);
            let index = Field::all().position(|field| field.name() == name).unwrap();
            let header = format!("x-{index}");
            let told = &headers.iter().find(|(name, _)| *name == header).unwrap().1;
            prop_assert!(told.bytes().all(|byte| byte.is_ascii_graphic()));
            let told = percent_decode_str(told).decode_utf8().unwrap();
            prop_assert_eq!(&told, expected);
            let pointer = format!("/{}", name.replace('.', "/"));
            prop_assert_eq!(body.pointer(&pointer).unwrap(), expected);
        }
    }

    #[test]
    fn no_secret_is_ever_printed(secret in "[!-~]{8,64}", prefix in "[a-z]{0,8}") {
        let text = format!(
            r#"
            method = "POST"
            url = "https://secret.example/"
            sees = []
            query = {{ q = {{ secret = "one" }} }}
            headers = {{ h = {{ secret = "one", prefix = "{prefix}" }} }}
            body = {{ "/b" = {{ secret = "one" }} }}
            [response]
            offers = ""
            [response.offer]
            creative_id = "/id"
            url = "/url"
            media_type = "/type"
            duration = {{ pointer = "/ms", unit = "ms" }}
            "#
        );
        let config: ParametersConfig = toml::from_str(&text).unwrap();
        let adapter = ParametersAdapter::new(config, |_| Some(secret.as_str())).unwrap();
        let opportunity = evening();
        let request = adapter.request(&ask(&opportunity, Privacy::Personalised)).unwrap();
        let told = request.headers.iter().find(|(name, _)| name == "h");
        prop_assert_eq!(&told.unwrap().1, &format!("{prefix}{secret}"));
        for printed in [format!("{adapter:?}"), format!("{adapter:#?}")] {
            prop_assert!(!printed.contains(&secret), "{}", printed);
        }
    }
}

/// JSON of any form, with the names that adapters look for.
fn answers() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has finite numbers alone", |number| number.is_finite())
            .prop_map(|number| number.to_string()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,6})?",
        "\\PC{0,300}".prop_map(|text| Value::from(text).to_string()),
        "-?[0-9]{1,20}(\\.[0-9]{1,8})?".prop_map(|number| format!("\"{number}\"")),
        Just("\"\\ud800\"".to_owned()),
    ];
    let name = prop_oneof![
        4 => prop_oneof![
            Just("ads"), Just("ad"), Just("id"), Just("url"), Just("creative"), Just("cpm"),
            Just("ms"), Just("seconds"), Just("price"), Just("result"), Just("bids/list"),
            Just("adomain"), Just("c~id"), Just("link"), Just("length"), Just("src"),
        ].prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ];
    leaf.prop_recursive(5, 64, 20, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20)
                .prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((name.clone(), inner), 0..8).prop_map(|members| {
                let members: Vec<_> = members
                    .into_iter()
                    .map(|(name, value)| format!("{}:{value}", Value::from(name)))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A case's good answer with bytes changed, cut and doubled.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let path = fixtures().join("aggregators/north/offers.json");
    let case: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let good = case["answer"]["body"].to_string().into_bytes();
    let changes =
        proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 1..6);
    changes.prop_map(move |changes| {
        let mut damaged = good.clone();
        for (index, byte, how) in changes {
            if damaged.is_empty() {
                break;
            }
            let at = index.index(damaged.len());
            match how {
                0 => damaged[at] = byte,
                1 => damaged.insert(at, byte),
                2 => damaged.truncate(at),
                _ => damaged.extend_from_within(at..),
            }
        }
        damaged
    })
}

static ALL: LazyLock<Vec<ParametersAdapter>> = LazyLock::new(|| {
    let folders = fs::read_dir(fixtures().join("aggregators")).unwrap();
    let adapters = folders.map(|folder| {
        let path = folder.unwrap().path().join("adapter.toml");
        adapter(&fs::read_to_string(path).unwrap()).unwrap()
    });
    adapters.collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_answer_is_too_strange(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..512),
            damaged(),
            answers().prop_map(String::into_bytes),
        ],
        status in prop_oneof![4 => Just(200), 1 => any::<u16>()],
    ) {
        let response = Response {
            status,
            content_type: Some("application/json".to_owned()),
            content_encoding: None,
            body: body.into(),
        };
        for adapter in ALL.iter() {
            match adapter.offers(&response) {
                Ok(offers) => {
                    prop_assert!(offers.len() <= OFFERS_MAX);
                    for record in offers {
                        prop_assert_eq!(
                            record.fault() == OfferFault::Field,
                            !record.detail.is_empty()
                        );
                        prop_assert!(record.detail.len() <= 256);
                        let offer = record.offer.unwrap();
                        prop_assert!(offer.price_micros.is_none_or(|price| price >= 0));
                        for (text, bytes_max) in [
                            (&offer.offer_id, 128),
                            (&offer.creative_id, 64),
                            (&offer.url, 2_048),
                            (&offer.media_type, 255),
                            (&offer.currency, 3),
                            (&offer.advertiser, 253),
                        ] {
                            prop_assert!(text.len() <= bytes_max);
                            prop_assert!(!text.chars().any(char::is_control));
                        }
                    }
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
