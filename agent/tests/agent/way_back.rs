//! Decisions and configuration, from a broker to the socket and to flash.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Instant,
};

use returnpath_shared::wire::Config;
use serde_json::{Value, json};

use crate::{
    bench::{Box, Client},
    broker::Broker,
    operator::{Operator, decision},
};

/// Time for all that a test does before a decision expires.
const AHEAD_MS: u64 = 120_000;

/// A box that trusts one key for decisions and one for configuration, at a
/// broker of its own.
struct Bench {
    box_: Box,
    broker: Broker,
    decider: Operator,
    configurer: Operator,
    device: String,
}

impl Bench {
    fn new(name: &str) -> Self {
        let broker = Broker::start();
        let (decider, configurer) = (Operator::new(), Operator::new());
        let mut box_ = Box::new(name);
        box_.connect(broker.port, &broker.certificate);
        box_.trust(Some(decider.public_pem()), Some(configurer.public_pem()));
        box_.start();
        Self {
            box_,
            broker,
            decider,
            configurer,
            device: format!("box-{name}"),
        }
    }

    fn follow(&self) -> Client {
        let mut client = self.box_.client();
        let answer = client.ask(&json!({"id": 1, "follow": "decisions"}));
        assert_eq!(answer, json!({"id": 1, "status": "following"}));
        client
    }

    /// Decides an ad for a break.
    fn decide(&self, break_id: &str, ad: &str) {
        let decision = decision(&self.device, break_id, ad, AHEAD_MS);
        self.send(&self.decider.decide(&decision));
    }

    fn send(&self, message: &[u8]) {
        let topic = format!("rp/v1/{}/decisions", self.device);
        self.broker.publish(&topic, message);
    }

    fn configure(&self, config: &Config) {
        let topic = format!("rp/v1/{}/config", self.device);
        let message = self.configurer.configure(config);
        self.broker.publish(&topic, &message);
    }

    fn wait_for(&mut self, pointer: &str, value: impl Into<Value>) {
        let value = value.into();
        self.box_
            .wait_for(pointer, |status| status.pointer(pointer) == Some(&value));
    }
}

/// The ad that a line hands over.
fn ad(line: &Value) -> &str {
    line["decision"]["creative"]["creativeId"].as_str().unwrap()
}

#[test]
fn a_decision_reaches_who_follows_and_survives_a_kill() {
    let mut bench = Bench::new("decided");
    let mut player = bench.follow();
    bench.decide("b1", "first");
    let line = player.answer();
    assert_eq!(ad(&line), "first", "{line}");
    assert_eq!(line["decision"]["breakId"], "b1");
    bench.wait_for("/decisions/handedOver", 1);
    // Told to the cloud, beside the boot event.
    bench.wait_for("/events/accepted", 2);

    bench.box_.kill();
    bench.box_.start();
    let mut player = bench.follow();
    assert_eq!(player.answer(), line);
    // Another ad for the slot finds it taken; the next break is free.
    bench.decide("b1", "second");
    bench.wait_for("/decisions/refused/superseded", 1);
    bench.decide("b2", "third");
    assert_eq!(ad(&player.answer()), "third");
}

#[test]
fn what_the_operator_did_not_sign_is_shown_to_nobody() {
    let mut bench = Bench::new("forged");
    let mut player = bench.follow();
    let good = decision(&bench.device, "b1", "good", AHEAD_MS);
    bench.send(&Operator::new().decide(&good));
    // A key for configuration is none for decisions.
    bench.send(&bench.configurer.decide(&good));
    bench.wait_for("/decisions/refused/forged", 2);
    let foreign = decision("box-other", "b1", "foreign", AHEAD_MS);
    bench.send(&bench.decider.decide(&foreign));
    bench.wait_for("/decisions/refused/foreign", 1);
    let late = decision(&bench.device, "b1", "late", 0);
    bench.send(&bench.decider.decide(&late));
    bench.wait_for("/decisions/refused/expired", 1);
    bench.send(b"\xff\xff");
    bench.wait_for("/decisions/refused/malformed", 1);
    // The first line that comes is that of the good one.
    bench.send(&bench.decider.decide(&good));
    assert_eq!(ad(&player.answer()), "good");
}

#[test]
fn signed_configuration_is_obeyed_in_the_order_of_its_versions() {
    let mut bench = Bench::new("steered");
    let next = Operator::new();
    let config = |version| Config {
        version,
        window_batches_max: Some(2),
        decision_keys: vec![next.public_raw().into()],
        ..Config::default()
    };
    bench.configure(&Config {
        window_batches_max: Some(65),
        ..config(9)
    });
    bench.wait_for("/config/refused/out_of_range", 1);
    bench.configure(&Config {
        device_id: "box-other".into(),
        ..config(9)
    });
    bench.wait_for("/config/refused/foreign", 1);
    bench.configure(&config(3));
    bench.wait_for("/config/version", 3);
    bench.wait_for("/link/window", 2);

    // The file's key decides nothing any more, also after a kill.
    for _ in 0..2 {
        bench.decide("b1", "old");
        bench.wait_for("/decisions/refused/forged", 1);
        bench.box_.kill();
        bench.box_.start();
        bench.wait_for("/config/version", 3);
    }
    bench.configure(&Config {
        version: 2,
        ..Config::default()
    });
    bench.configure(&Config {
        version: 4,
        ..Config::default()
    });
    bench.wait_for("/config/version", 4);
    let mut player = bench.follow();
    bench.decide("b1", "of the file's key");
    assert_eq!(ad(&player.answer()), "of the file's key");
}

#[test]
fn a_flood_of_forged_decisions_costs_little_and_is_counted_whole() {
    const FLOOD: u64 = 10_000;
    let mut bench = Bench::new("flood");
    let mut player = bench.follow();
    bench.wait_for("/link/up", true);
    let before = bench.box_.status();
    let forged = Operator::new().decide(&decision(&bench.device, "b1", "forged", AHEAD_MS));
    for _ in 0..FLOOD {
        bench.send(&forged);
    }
    bench.box_.wait_for("the whole flood", |status| {
        let refused = &status["decisions"]["refused"];
        let counted = refused["forged"].as_u64().zip(refused["too_many"].as_u64());
        counted.is_some_and(|(forged, too_many)| forged + too_many == FLOOD)
    });
    let after = bench.box_.status();
    let grown = |pointer| {
        let of = |status: &Value| status.pointer(pointer).and_then(Value::as_u64);
        of(&after)
            .zip(of(&before))
            .map(|(after, before)| after.saturating_sub(before))
    };
    println!(
        "{FLOOD} forged decisions: {:?} ms of CPU, {:?} bytes of memory, {} verified",
        grown("/process/cpuMs"),
        grown("/process/anonymousBytes"),
        after["decisions"]["refused"]["forged"]
    );
    let verified = after["decisions"]["refused"]["forged"].as_u64();
    let took_s = grown("/uptimeMs").map(|ms| ms / 1_000 + 1);
    assert!(verified <= took_s.map(|s| 128 + 8 * s), "{after}");
    assert!(grown("/process/anonymousBytes") < Some(1 << 20), "{after}");
    // The operator is heard again a moment later.
    let good = decision(&bench.device, "b1", "good", AHEAD_MS);
    let good = bench.decider.decide(&good);
    bench.box_.retry("a good decision to be taken", |box_| {
        let topic = format!("rp/v1/{}/decisions", bench.device);
        bench.broker.publish(&topic, &good);
        box_.status()["decisions"]["bound"] == 1
    });
    assert_eq!(ad(&player.answer()), "good");
}

#[test]
fn after_a_lost_connection_the_box_asks_again_for_what_is_undecided() {
    let mut bench = Bench::new("again");
    let mut player = bench.follow();
    bench.wait_for("/link/up", true);
    let mut client = bench.box_.client();
    let start_ms = returnpath_agent::clock::uptime_ms() + AHEAD_MS;
    for (break_id, slots_ms) in [("b1", vec![30_000]), ("b2", vec![15_000, 15_000])] {
        let opportunity = json!({"adOpportunity": {
            "breakId": break_id,
            "startUptimeMs": start_ms.to_string(),
            "durationMs": 30_000,
            "slotDurationsMs": slots_ms,
            "source": "SOURCE_LIVE",
        }});
        let event = json!({"event": opportunity});
        assert_eq!(client.ask(&event)["status"], "accepted");
    }
    // All of the first break is decided, and of the second one slot of two.
    for break_id in ["b1", "b2"] {
        bench.decide(break_id, "ad");
        assert_eq!(ad(&player.answer()), "ad");
    }
    bench.broker.hang_up();
    bench.wait_for("/link/reconnects", 1);
    bench.wait_for("/decisions/askedAgain", 1);
    let mut last = decision(&bench.device, "b2", "last", AHEAD_MS);
    last.slot = 1;
    last.decision_id = "id-b2-1".into();
    bench.send(&bench.decider.decide(&last));
    assert_eq!(ad(&player.answer()), "last");
}

#[test]
fn the_command_shows_decisions_to_people_and_programs() {
    let mut bench = Bench::new("shown");
    bench.decide("b1", "first");
    bench.wait_for("/decisions/open", 1);
    let output = bench.box_.run_to_end(&["decisions"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("id-b1 break b1 slot 0: https://c.example/first.mp4"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);

    let mut child = bench
        .box_
        .command(&["decisions", "--follow", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    for expected in ["first", "second"] {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(ad(&serde_json::from_str(&line).unwrap()), expected);
        bench.decide("b2", "second");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_box_without_keys_takes_no_decisions_and_says_so() {
    let mut box_ = Box::new("keyless");
    box_.start();
    let answer = box_.client().ask(&json!({"follow": "decisions"}));
    assert_eq!(answer["reason"], "unsupported", "{answer}");
    assert_eq!(answer["field"], "follow");
    let output = box_.run_to_end(&["decisions", "--follow"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(box_.status()["decisions"]["taken"], false);
}

#[test]
fn one_connection_follows_once_and_still_sends_events() {
    let bench = Bench::new("once");
    let mut player = bench.follow();
    let again = player.ask(&json!({"id": 2, "follow": "decisions"}));
    assert_eq!(again["reason"], "invalid_request", "{again}");
    let start = json!({"adEvent": {"kind": "KIND_START", "decisionId": "d"}});
    assert_eq!(player.ask(&json!({"event": start}))["status"], "durable");
    bench.decide("b1", "first");
    assert_eq!(ad(&player.answer()), "first");
}

#[test]
fn wrong_key_files_stop_the_agent_at_its_start() {
    let mut box_ = Box::new("keys");
    box_.trust(Some("no key"), None);
    for command in ["run", "check-config"] {
        let output = box_.run_to_end(&[command]);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("decision-keys.pem"), "{said}");
        assert!(said.contains("1 to 4 public keys"), "{said}");
    }
}

/// From the broker's socket to the player's line: verified, bound with a sync
/// and handed over. Printed, with what the sync took and what the agent weighs.
#[test]
fn decisions_reach_players_within_milliseconds() {
    let bench = Bench::new("speed");
    let mut player = bench.follow();
    let mut times: Vec<_> = (0..48)
        .map(|number| {
            let began = Instant::now();
            bench.decide(&format!("b{number}"), "ad");
            player.answer();
            began.elapsed()
        })
        .collect();
    times.sort();
    let status = bench.box_.status();
    println!(
        "broker to player: median {:?}, worst {:?}; binding at most {} ms; {} bytes resident",
        times[24], times[47], status["decisions"]["bindMsMax"], status["process"]["residentBytes"]
    );
    // The loop's whole budget is 300 ms; a loaded machine must not fail here.
    assert!(times[24].as_millis() < 100, "{times:?}");
    assert_eq!(status["decisions"]["bound"], 48);
}
