//! The market as its clients see it, the collector's own adapter among them.

use std::{sync::LazyLock, time::Duration};

use anyhow::ensure;
use reqwest::{Certificate, Client, StatusCode, Version, redirect};
use returnpath_collector::config::Config;
use returnpath_decision::{Adapter as _, Ask, Method, ParametersAdapter, Response};
use returnpath_shared::wire::{OfferFault, Opportunity, Privacy};
use serde_json::Value;

use super::*;
use crate::{
    collector::{Collector, Deciding, Surroundings},
    wait::wait_until,
};

const LIMIT: Duration = Duration::from_secs(20);

fn settings(api: Api, fill: f64) -> AggregatorSettings {
    AggregatorSettings {
        name: "north".into(),
        api,
        stock: Stock {
            fill,
            price_micros: 2_500_000..=2_500_000,
            latency: Latency::fixed(Duration::from_millis(1)),
        },
    }
}

struct Stall {
    market: Market,
    client: Client,
}

impl Stall {
    async fn open(api: Api, fill: f64) -> Self {
        let directory = place::fresh_directory("market").unwrap();
        let pki = DevelopmentPki::create(&directory.join("pki"), Duration::from_secs(600)).unwrap();
        let market = Market::open(&pki, &directory, 1, &[settings(api, fill)])
            .await
            .unwrap();
        let client = client(&pki);
        Self { market, client }
    }

    fn aggregator(&self) -> &Aggregator {
        self.market.aggregator("north").unwrap()
    }

    /// A request as the API wants it, for a slot of 20 s.
    fn request(&self) -> reqwest::RequestBuilder {
        let aggregator = self.aggregator();
        let secret = fs::read_to_string(aggregator.secret_file()).unwrap();
        let url = aggregator.url();
        match aggregator.api() {
            Api::Query => self
                .client
                .get(format!("{url}?key={secret}&seconds=20&channel=7")),
            Api::Json => self
                .client
                .post(url)
                .header("authorization", format!("Bearer {secret}"))
                .body(r#"{"slot":{"duration_ms":20000}}"#),
            Api::Keyed => self
                .client
                .get(url)
                .header("x-api-key", secret)
                .header("x-slot-ms", "20000"),
        }
    }

    async fn answer(&self) -> reqwest::Response {
        self.request().send().await.unwrap()
    }

    async fn json(&self) -> Value {
        serde_json::from_slice(&self.answer().await.bytes().await.unwrap()).unwrap()
    }
}

fn client(pki: &DevelopmentPki) -> Client {
    let authority = fs::read(pki.authority()).unwrap();
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .tls_certs_only([Certificate::from_pem(&authority).unwrap()])
        .redirect(redirect::Policy::none())
        .build()
        .unwrap()
}

#[tokio::test]
async fn each_api_offers_in_its_own_form_over_http_2() {
    for (api, price) in [
        (Api::Query, "/ad/cpm/amount"),
        (Api::Json, "/offers/0/price_micros"),
        (Api::Keyed, "/cents"),
    ] {
        let stall = Stall::open(api, 1.0).await;
        let answer = stall.answer().await;
        assert_eq!(answer.version(), Version::HTTP_2);
        assert_eq!(answer.status(), StatusCode::OK);
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let expected = match api {
            Api::Query => Value::from(2.5),
            Api::Json => Value::from(2_500_000),
            Api::Keyed => Value::from(250.0),
        };
        assert_eq!(body.pointer(price), Some(&expected), "{body}");
        let counts = stall.aggregator().counts();
        assert_eq!((counts.asked, counts.offered), (1, 1));
    }
}

#[tokio::test]
async fn each_api_says_in_its_own_way_that_it_has_nothing() {
    for (api, status) in [(Api::Query, 204), (Api::Json, 200), (Api::Keyed, 404)] {
        let stall = Stall::open(api, 0.0).await;
        assert_eq!(stall.answer().await.status(), status);
        assert_eq!(stall.aggregator().counts().no_bid, 1);
    }
}

#[tokio::test]
async fn who_shows_no_secret_is_refused_and_remembered() {
    let stall = Stall::open(Api::Query, 1.0).await;
    let url = format!("{}?seconds=20&viewer=box-1", stall.aggregator().url());
    let answer = stall.client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(stall.aggregator().counts().not_understood, 1);
    let asked = stall.aggregator().asked();
    assert!(asked[0].mentions("box-1"));
    assert_eq!(asked[0].parameter("viewer"), Some("box-1"));
}

#[tokio::test]
async fn it_answers_as_badly_as_it_is_told_and_well_again() {
    let stall = Stall::open(Api::Json, 1.0).await;
    let aggregator = stall.aggregator();
    aggregator.behave(Behaviour::Status(500)).await.unwrap();
    assert_eq!(stall.answer().await.status(), 500);

    aggregator.behave(Behaviour::Garbage).await.unwrap();
    let body = stall.answer().await.bytes().await.unwrap();
    assert!(serde_json::from_slice::<Value>(&body).is_err());

    aggregator.behave(Behaviour::RedirectLoop).await.unwrap();
    let answer = stall.answer().await;
    assert_eq!(answer.headers()["location"], Api::Json.path());

    aggregator.behave(Behaviour::WrongTypes).await.unwrap();
    assert_eq!(stall.json().await["offers"][0]["media_url"], 7);

    aggregator.behave(Behaviour::AbsurdNumbers).await.unwrap();
    assert_eq!(stall.json().await["offers"][0]["duration_ms"], u64::MAX);

    aggregator.behave(Behaviour::Fine).await.unwrap();
    assert_eq!(stall.json().await["offers"][0]["duration_ms"], 20_000);
    assert_eq!(aggregator.counts().faulty, 5);
}

#[tokio::test]
async fn a_dead_one_never_answers_and_one_that_refuses_cannot_be_reached() {
    let stall = Stall::open(Api::Keyed, 1.0).await;
    let aggregator = stall.aggregator();
    let patience = Duration::from_millis(200);
    assert!(stall.answer().await.status().is_success());

    aggregator.behave(Behaviour::Dead).await.unwrap();
    let silent = stall.request().timeout(patience).send().await.unwrap_err();
    assert!(silent.is_timeout(), "{silent:?}");

    aggregator.behave(Behaviour::Refuses).await.unwrap();
    wait_until("the connection to be refused", LIMIT, async || {
        let error = stall.request().timeout(patience).send().await.unwrap_err();
        ensure!(error.is_connect(), "{error:?}");
        Ok(())
    })
    .await
    .unwrap();

    aggregator.behave(Behaviour::Fine).await.unwrap();
    assert!(stall.answer().await.status().is_success());
}

#[tokio::test]
async fn one_that_holds_keeps_what_it_is_asked_until_it_is_told_how_to_answer() {
    let stall = Stall::open(Api::Keyed, 1.0).await;
    let aggregator = stall.aggregator();
    aggregator.behave(Behaviour::Holds).await.unwrap();
    let asked = async {
        wait_until("two to be asked", LIMIT, async || {
            ensure!(aggregator.counts().asked == 2);
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(aggregator.counts().offered, 0);
        aggregator.behave(Behaviour::Fine).await.unwrap();
    };
    let (first, second, ()) = tokio::join!(stall.answer(), stall.answer(), asked);
    assert!(first.status().is_success() && second.status().is_success());
    assert_eq!(aggregator.counts().offered, 2);
}

#[tokio::test]
async fn one_that_cannot_prove_who_it_is_is_believed_by_nobody() {
    let stall = Stall::open(Api::Keyed, 1.0).await;
    let aggregator = stall.aggregator();
    let flaws = Flaw::ALL.map(Behaviour::Shows);
    for behaviour in flaws.into_iter().chain([Behaviour::NoTls]) {
        assert!(stall.answer().await.status().is_success());
        let asked = aggregator.counts().asked;
        aggregator.behave(behaviour).await.unwrap();
        // A connection that was just cut may be noticed only in using it.
        wait_until("the connection to fail", LIMIT, async || {
            let error = stall.request().send().await.unwrap_err();
            ensure!(error.is_connect(), "{error:?}");
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(aggregator.counts().asked, asked, "{behaviour:?}");
        aggregator.behave(Behaviour::Fine).await.unwrap();
    }
}

#[tokio::test]
async fn an_endless_body_is_sent_as_far_as_it_is_read() {
    for behaviour in [Behaviour::Huge, Behaviour::CompressionBomb] {
        let stall = Stall::open(Api::Query, 1.0).await;
        stall.aggregator().behave(behaviour).await.unwrap();
        let mut answer = stall.answer().await;
        assert!(answer.status().is_success());
        assert!(answer.chunk().await.unwrap().is_some());
        drop(answer);
        assert!(stall.aggregator().counts().endless_bytes < body::ENDLESS_BYTES / 100);
    }
}

#[tokio::test]
async fn a_collector_asks_every_api_by_configuration_and_reads_its_offers() {
    let directory = place::fresh_directory("sections").unwrap();
    let pki = DevelopmentPki::create(&directory.join("pki"), Duration::from_secs(600)).unwrap();
    let apis = [Api::Query, Api::Json, Api::Keyed];
    let aggregators = apis.map(|api| AggregatorSettings {
        name: format!("{api:?}").to_lowercase(),
        ..settings(api, 1.0)
    });
    let market = Market::open(&pki, &directory, 1, &aggregators)
        .await
        .unwrap();
    let surroundings = Surroundings {
        kafka: "127.0.0.1:9092".into(),
        topic_prefix: "rp".into(),
        mqtt_port: 8_883,
        authority: pki.authority(),
    };
    let collector = Collector::prepare("collector-a", &directory, &pki, &surroundings).unwrap();
    let deciding = Deciding {
        cap: Some((2, 60_000)),
        ..Deciding::of(&market, &pki, &Terms::default())
    };
    collector.decides(&pki, &surroundings, &deciding).unwrap();
    let config = Config::read(&directory.join("collector-a.toml")).unwrap();
    let decide = config.decide.unwrap();
    returnpath_collector::decide::check(&decide).unwrap();

    let client = client(&pki);
    for (aggregator, section) in market.aggregators().iter().zip(decide.aggregators) {
        let secret = fs::read_to_string(aggregator.secret_file()).unwrap();
        let adapter = ParametersAdapter::new(section.parameters, |_| Some(&secret)).unwrap();
        let request = adapter.request(&ask(Privacy::Contextual)).unwrap();
        let mut sending = match request.method {
            Method::Get => client.get(&request.url),
            Method::Post => client.post(&request.url),
        };
        for (name, value) in &request.headers {
            sending = sending.header(name, value);
        }
        let answer = sending
            .body(request.body.unwrap_or_default())
            .send()
            .await
            .unwrap();
        let response = Response {
            status: answer.status().as_u16(),
            content_type: Some("application/json".into()),
            content_encoding: None,
            body: answer.bytes().await.unwrap(),
        };
        let offers = adapter.offers(&response).unwrap();
        let offer = offers[0].offer.as_ref().unwrap();
        assert_eq!(offers[0].fault(), OfferFault::Unspecified, "{offers:?}");
        assert_eq!(offer.price_micros, Some(2_500_000));
        assert_eq!(offer.duration_ms, 20_000);
        assert_eq!(offer.media_type, "video/mp4");
        assert!(offer.url.contains(CREATIVES_HOST));
        assert!(offer.advertiser.ends_with(".example"));
        assert!(!aggregator.asked()[0].mentions("pseudonym-of-the-box"));
        let told = adapter.request(&ask(Privacy::Personalised)).unwrap();
        let told = format!("{}{:?}{:?}", told.url, told.headers, told.body);
        assert!(told.contains("pseudonym-of-the-box"), "{told}");
    }
}

fn ask(privacy: Privacy) -> Ask<'static> {
    static OPPORTUNITY: LazyLock<Opportunity> = LazyLock::new(Opportunity::default);
    Ask {
        opportunity: &OPPORTUNITY,
        decision_id: "0123",
        slot: 0,
        slot_duration_ms: 20_000,
        privacy,
        now_unix_ms: 0,
        time_left_ms: 100,
        pseudonym: Some("pseudonym-of-the-box"),
    }
}
