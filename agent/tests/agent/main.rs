//! The real binary on a box that never reaches its broker: what it promises on
//! the socket and on flash must hold without the network. What comes down to it
//! is in `way_back.rs`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod bench;
mod broker;
mod operator;
mod way_back;

use std::{
    collections::BTreeSet,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use bench::{Box, Client, tune};
use serde_json::{Value, json};

fn start_of(box_: &Box) -> u64 {
    let status = box_.status();
    let epoch = status["epoch"].as_str().unwrap();
    epoch.split_once('.').unwrap().1.parse().unwrap()
}

fn impression(decision: &str) -> Value {
    json!({"adEvent": {"kind": "KIND_START", "decisionId": decision}})
}

#[test]
fn proof_that_was_answered_durable_offline_survives_a_kill() {
    let mut box_ = Box::new("kill");
    box_.start();
    let mut client = box_.client();
    let mut answers = Vec::new();
    for decision in ["d1", "d2", "d3"] {
        let answer = client.ask(&json!({"id": decision, "event": impression(decision)}));
        assert_eq!(answer["status"], "durable", "{answer}");
        assert_eq!(answer["id"], decision);
        answers.push(answer);
    }
    box_.kill();

    box_.start();
    assert_eq!(start_of(&box_), 2);
    let status = box_.status();
    assert!(
        status["queue"]["proof"]["batches"].as_u64().unwrap() >= 1,
        "{status}"
    );
    // The client that got no answer asks again and gets the first one.
    let mut client = box_.client();
    for first in &answers {
        let decision = first["id"].as_str().unwrap();
        let again = client.ask(&json!({"id": decision, "event": impression(decision)}));
        assert_eq!(&again, first);
    }
    assert_eq!(box_.status()["events"]["repeated"], 3);
}

#[test]
fn an_orderly_stop_keeps_what_was_only_accepted() {
    let mut box_ = Box::new("stop");
    box_.start();
    let mut client = box_.client();
    for _ in 0..10 {
        assert_eq!(client.ask(&json!({"event": tune(7)}))["status"], "accepted");
    }
    box_.stop();
    box_.start();
    let status = box_.status();
    assert_eq!(status["queue"]["ordinary"]["batches"], 1, "{status}");
    // Only the boot event is new: an orderly stop declares nothing.
    assert_eq!(status["events"]["accepted"], 1, "{status}");
}

#[test]
fn a_kill_is_declared_at_the_next_start() {
    let mut box_ = Box::new("declared");
    box_.start();
    assert_eq!(
        box_.client().ask(&json!({"event": tune(1)}))["status"],
        "accepted"
    );
    box_.kill();
    box_.start();
    box_.wait_for("boot and unclean stop", |status| {
        status["events"]["accepted"] == 2
    });
}

#[test]
fn answers_to_one_client_are_not_held_up_by_the_bad_lines_of_another() {
    let mut box_ = Box::new("flood");
    box_.start();
    let mut bad = box_.client();
    let flood = thread::spawn(move || {
        let long = "x".repeat(40_000);
        let mut sent = 0_u64;
        for round in 0..200 {
            for line in [
                "nonsense",
                "{\"event\":{\"film\":{}}}",
                "{}",
                "\u{7f}",
                &long,
            ] {
                bad.send_line(line.as_bytes());
                sent += 1;
            }
            bad.send_line(b"\xff\xfe");
            sent += 1;
            // Reading every round keeps the flood going instead of blocking.
            for _ in 0..6 {
                assert_eq!(bad.answer()["status"], "refused", "round {round}");
            }
        }
        sent
    });
    let mut good = box_.client();
    let mut slowest = Duration::ZERO;
    let mut answered = 0;
    while !flood.is_finished() || answered < 100 {
        let began = Instant::now();
        let answer = good.ask(&json!({"id": answered, "event": tune(9)}));
        slowest = slowest.max(began.elapsed());
        assert!(
            answer["status"] == "accepted" || answer["status"] == "busy",
            "{answer}"
        );
        assert_eq!(answer["id"], answered);
        answered += 1;
    }
    let sent = flood.join().unwrap();
    let refused = box_.status()["events"]["refused"].clone();
    let counted: u64 = refused
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(counted, sent, "{refused}");
    for reason in [
        "invalid_json",
        "unknown_kind",
        "invalid_request",
        "line_too_long",
        "invalid_utf8",
    ] {
        assert!(refused[reason].as_u64().unwrap() >= 200, "{refused}");
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn a_client_that_does_not_read_blocks_nobody_but_itself() {
    let mut box_ = Box::new("deaf");
    box_.start();
    let mut deaf = box_.client();
    deaf.set_write_timeout(Duration::from_millis(200));
    let line = json!({"event": tune(3)}).to_string();
    // Until the socket is full: the agent has stopped reading from it.
    while deaf.try_send_line(line.as_bytes()).is_ok() {}
    let mut good = box_.client();
    for _ in 0..100 {
        let answer = good.ask(&json!({"event": tune(4)}));
        assert!(
            answer["status"] == "accepted" || answer["status"] == "busy",
            "{answer}"
        );
    }
}

#[test]
fn at_the_memory_bound_clients_are_told_busy_and_nothing_breaks() {
    let mut box_ = Box::new("busy");
    box_.configure("queue", "memory_bytes_max = 65536");
    box_.start();
    let mut client = box_.client();
    let filler = "x".repeat(500);
    let event = |n: u64| {
        let values: serde_json::Map<String, Value> = (0..16)
            .map(|key| (format!("k{key}"), json!(format!("{n}-{filler}"))))
            .collect();
        json!({"event": {"custom": {"name": "filler", "attributes": values}}})
    };
    let mut accepted = 0_u64;
    let busy = (0..1_000).any(|n| {
        let answer = client.ask(&event(n));
        accepted += u64::from(answer["status"] == "accepted");
        answer["status"] == "busy"
    });
    assert!(busy, "{accepted} accepted and never busy");
    assert!(accepted >= 1);
    let status = box_.status();
    assert!(
        status["queue"]["unflushedBytes"].as_u64().unwrap() <= 65_536,
        "{status}"
    );
    assert!(status["events"]["busy"].as_u64().unwrap() >= 1);
}

#[test]
fn more_clients_than_the_bound_are_turned_away_with_a_reason() {
    let mut box_ = Box::new("clients");
    box_.configure("intake", "clients_max = 2");
    box_.start();
    let first = box_.served_client();
    let _second = box_.served_client();
    let mut third = box_.client();
    let answer = third.answer();
    assert_eq!(answer["reason"], "too_many_clients", "{answer}");
    assert_eq!(third.read_line(), None);
    drop(first);
    box_.served_client();
}

#[test]
fn a_corrupt_queue_is_set_aside_and_the_agent_goes_on() {
    let mut box_ = Box::new("corrupt");
    box_.start();
    let before = box_.status()["epoch"].clone();
    box_.kill();
    box_.ruin_queue();
    box_.start();
    let after = box_.status();
    assert_ne!(after["epoch"], before);
    assert_eq!(after["queue"]["storageGood"], true);
    assert!(box_.queue_file("queue.bad").exists());
    assert_eq!(
        box_.client().ask(&json!({"event": impression("d")}))["status"],
        "durable"
    );
}

#[test]
fn a_second_agent_on_the_same_box_does_not_start() {
    let mut box_ = Box::new("second");
    box_.start();
    let output = box_.run_to_end(&["run"]);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert_eq!(
        box_.client().ask(&json!({"event": tune(2)}))["status"],
        "accepted"
    );
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_left_alone() {
    let mut box_ = Box::new("stale");
    box_.start();
    box_.kill();
    assert!(box_.socket().exists());
    box_.start();
    box_.stop();
    assert!(!box_.socket().exists());

    std::fs::write(box_.socket(), "precious").unwrap();
    let output = box_.run_to_end(&["run"]);
    assert_eq!(output.status.code(), Some(73), "{output:?}");
    assert_eq!(std::fs::read_to_string(box_.socket()).unwrap(), "precious");
}

#[test]
fn the_socket_has_the_mode_that_was_set() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut box_ = Box::new("mode");
    box_.configure("intake", "mode = \"0622\"");
    box_.start();
    let mode = std::fs::metadata(box_.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o622);
}

#[test]
fn wrong_configurations_are_refused_at_start_with_key_and_exit_code() {
    let mut box_ = Box::new("wrong");
    box_.configure("batch", "interval_ms = 1");
    for command in ["run", "check-config"] {
        let output = box_.run_to_end(&[command]);
        assert_eq!(output.status.code(), Some(78));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains("batch.interval_ms: expected an integer from 1000 to 300000"),
            "{said}"
        );
    }
    let mut other = Box::new("other");
    other.configure("identity", "device = \"another-box\"");
    let output = other.run_to_end(&["run"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another-box"));
}

#[test]
fn emit_prints_each_answer_and_says_by_its_exit_code_how_it_went() {
    let mut box_ = Box::new("emit");
    box_.start();
    let output = box_.run_to_end(&[
        "emit",
        "--kind",
        "tune",
        "--service-id",
        "4164",
        "--source",
        "live",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["status"], "accepted");

    let output = box_.run_to_end(&["emit", &impression("d").to_string(), r#"{"power":{}}"#]);
    assert_eq!(output.status.code(), Some(1));
    let lines: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].to_string())
        .collect();
    assert_eq!(
        lines,
        BTreeSet::from(["\"durable\"".into(), "\"refused\"".into()])
    );

    let mut many = Vec::new();
    for service in 1..=300 {
        writeln!(many, "{}", tune(service)).unwrap();
    }
    let output = box_.run_with_input(&["emit"], &many);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout.split(|byte| *byte == b'\n').count(), 301);

    box_.stop();
    let output = box_.run_to_end(&["emit", r#"{"power":{"state":"STATE_ON"}}"#]);
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn status_is_told_to_people_and_to_programs() {
    let mut box_ = Box::new("status");
    box_.start();
    let output = box_.run_to_end(&["status", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for path in [
        "/version",
        "/device",
        "/link/up",
        "/queue/proof/batches",
        "/queue/ordinary/bytes",
        "/queue/live/batches",
        "/queue/backlog/bytes",
        "/queue/oldestAgeS",
        "/events/accepted",
        "/events/receipted",
        "/events/dropped/queueFull",
        "/batches/sent",
        "/batches/resent",
        "/flash/writtenBytes",
        "/process/residentBytes",
        "/decisions/bound",
        "/decisions/refused",
        "/config/version",
    ] {
        assert!(report.pointer(path).is_some(), "{path} in {report}");
    }
    assert_eq!(report["device"], "box-status");
    let output = box_.run_to_end(&["status"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("device     box-status, epoch "), "{text}");
    assert_eq!(text.lines().count(), 18, "{text}");
}

/// Four clients as fast as they can for a while; each event taken or answered
/// busy, and no answer late.
#[test]
fn a_burst_of_four_clients_is_taken_or_answered_busy_without_blocking() {
    let mut box_ = Box::new("burst");
    box_.start();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client: Client = box_.client();
            thread::spawn(move || {
                let line = json!({"event": tune(5)}).to_string();
                let mut slowest = Duration::ZERO;
                for _ in 0..2_500 {
                    let began = Instant::now();
                    client.send_line(line.as_bytes());
                    let answer = client.answer();
                    slowest = slowest.max(began.elapsed());
                    assert!(answer["status"] == "accepted" || answer["status"] == "busy");
                }
                slowest
            })
        })
        .collect();
    let slowest = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .max();
    // A tenth of a second more than the promise: the machine is shared. The
    // promise itself is measured by the benchmark.
    assert!(slowest < Some(Duration::from_millis(150)), "{slowest:?}");
    let status = box_.status();
    let events = &status["events"];
    let clients_events = events["accepted"].as_u64().unwrap() + events["busy"].as_u64().unwrap();
    // One of them is the agent's own boot event.
    assert_eq!(clients_events, 10_001, "{status}");
}
