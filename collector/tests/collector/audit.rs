use std::{fs, io::Write as _, ops::ControlFlow, path::PathBuf, time::Instant};

use clap::Parser;
use prost::Message as _;
use returnpath_collector::audit::{self, Outcome, Tally, audit};
use returnpath_shared::wire::{
    AdEvent, DropReason, Ledger, Refined, Rejected, RejectionReason, Tune, event::Kind,
};

use crate::cluster::{Cluster, PATIENCE, batch, refined};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: audit::Args,
}

/// A file of answers that goes when its test does.
struct Answers(PathBuf);

impl Answers {
    fn write(test: &str, lines: &[String]) -> Self {
        let name = format!("returnpath-{test}-{}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, lines.concat()).unwrap();
        Self(path)
    }

    fn append(&self, line: &str) {
        let mut file = fs::OpenOptions::new().append(true).open(&self.0).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }

    fn args(&self, flags: &[&str]) -> audit::Args {
        let path = self.0.to_str().unwrap();
        Line::parse_from(["audit", path].iter().chain(flags)).args
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn answer(device: &str, ordinal: u64, status: &str) -> String {
    format!(
        "{{\"device\":\"{device}\",\"epoch\":\"00000000000000ab.1\",\"ordinal\":\"{ordinal}\",\"status\":\"{status}\"}}\n"
    )
}

fn tune() -> Kind {
    Kind::Tune(Tune::default())
}

fn ad(decision_id: &str) -> Kind {
    Kind::AdEvent(AdEvent {
        decision_id: decision_id.into(),
        ..AdEvent::default()
    })
}

fn go_on(_: &Tally) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn run(cluster: &Cluster, answers: &Answers, flags: &[&str]) -> Outcome {
    audit(&answers.args(flags), cluster.settled(), go_on).unwrap()
}

#[test]
fn what_stands_in_the_topics_is_clean_once_each() {
    let cluster = Cluster::start();
    let mut lines = Vec::new();
    for number in 0..20 {
        let device = format!("box-{number}");
        cluster.refined("rp.viewing", &refined(&device, 1, tune()));
        cluster.refined("rp.ads", &refined(&device, 2, ad("d")));
        lines.push(answer(&device, 1, "accepted"));
        lines.push(answer(&device, 2, "durable"));
    }
    let answers = Answers::write("clean", &lines);
    let outcome = run(&cluster, &answers, &[]);
    assert!(outcome.is_clean(), "{outcome:?}");
    let [ordinary, proof] = outcome.verdict.totals();
    assert_eq!((ordinary.arrived, proof.arrived), (20, 20));
}

#[test]
fn missing_duplicated_declared_and_rejected_are_told_apart() {
    let cluster = Cluster::start();
    cluster.refined("rp.ads", &refined("box-1", 2, ad("twice")));
    cluster.refined("rp.ads", &refined("box-1", 2, ad("twice")));
    let ledger = Ledger {
        reason: DropReason::QueueFull as i32,
        first_batch: Some(batch(2)),
        last_sequence: 2,
        first_ordinal: 3,
        event_count: 1,
        ..Ledger::default()
    };
    cluster.refined("rp.health", &refined("box-1", 9, Kind::Ledger(ledger)));
    let rejected = Rejected {
        reason: RejectionReason::UnknownKind as i32,
        key: "box-1".into(),
        batch: Some(batch(3)),
        index: Some(0),
        ordinal: 4,
        ..Rejected::default()
    };
    cluster.write("rp.rejected", "box-1", &rejected.encode_to_vec());
    let lines: Vec<String> = (1..=4)
        .map(|ordinal| answer("box-1", ordinal, "durable"))
        .collect();
    let answers = Answers::write("findings", &lines);
    let outcome = run(&cluster, &answers, &[]);
    assert!(!outcome.is_clean());
    let [_, proof] = outcome.verdict.totals();
    assert_eq!((proof.missing, proof.arrived, proof.duplicated), (1, 1, 1));
    assert_eq!(proof.declared, [("queue_full", 1)].into());
    assert_eq!(proof.rejected, [("unknown_kind", 1)].into());
    assert_eq!(outcome.verdict.boxes[0].missing[0].first_ordinal, 1);
}

#[test]
fn what_cannot_be_read_is_counted_and_hides_nothing_else() {
    let cluster = Cluster::start();
    cluster.write("rp.viewing", "box-1", &[0xff; 7]);
    cluster.refined("rp.viewing", &refined("box-1", 1, tune()));
    let lines = ["nonsense\n".to_owned(), answer("box-1", 1, "accepted")];
    let answers = Answers::write("unread", &lines);
    let outcome = run(&cluster, &answers, &[]);
    assert_eq!((outcome.unread.lines, outcome.unread.records), (1, 1));
    assert_eq!(outcome.verdict.totals()[0].arrived, 1);
    assert!(outcome.verdict.is_clean() && !outcome.is_clean());
}

#[test]
fn reading_may_begin_in_the_middle() {
    let cluster = Cluster::start();
    for ordinal in 1..=3 {
        cluster.refined("rp.viewing", &refined("box-1", ordinal, tune()));
    }
    let lines: Vec<String> = (1..=3)
        .map(|ordinal| answer("box-1", ordinal, "accepted"))
        .collect();
    let answers = Answers::write("since", &lines);
    let missing = |since| {
        run(&cluster, &answers, &["--since", since])
            .verdict
            .missing()
    };
    // The mock knows offsets only; it answers every time with the end.
    assert_eq!(missing("offset:1"), 1);
    assert_eq!(missing("offset:9"), 3);
}

/// Judges the topics by themselves.
fn run_without_answers(cluster: &Cluster, flags: &[&str]) -> Outcome {
    let args = Line::parse_from(["audit"].iter().chain(flags)).args;
    audit(&args, cluster.settled(), go_on).unwrap()
}

#[test]
fn topics_are_judged_by_themselves_where_no_answers_are_given() {
    let cluster = Cluster::start();
    for ordinal in [1, 2, 4] {
        cluster.refined("rp.viewing", &refined("box-1", ordinal, tune()));
        cluster.refined("rp.viewing", &refined("box-2", ordinal, tune()));
    }
    cluster.refined("rp.viewing", &refined("box-2", 3, tune()));
    let outcome = run_without_answers(&cluster, &[]);
    assert_eq!(outcome.missing(), 1);
    assert!(!outcome.is_clean());
    let missing = &outcome.verdict.boxes[0].missing[0];
    assert_eq!((missing.class, missing.first_ordinal), ("unanswered", 3));
    assert_eq!(outcome.verdict.out_of_order(), 1);
    assert!(run_without_answers(&cluster, &["--device", "box-2"]).is_clean());
    let strict = ["--device", "box-2", "--require-order"];
    assert!(!run_without_answers(&cluster, &strict).is_clean());
}

#[test]
fn a_stretch_of_time_is_judged_by_when_collectors_took_events() {
    let cluster = Cluster::start();
    // 2026-01-31T20:00:00Z, and an event an hour.
    let eight_ms = 1_769_889_600_000;
    for (hour, ordinal) in [(0, 1), (1, 2), (2, 4), (3, 7)] {
        let record = Refined {
            received_unix_ms: eight_ms + hour * 3_600_000,
            ..refined("box-1", ordinal, tune())
        };
        cluster.refined("rp.viewing", &record);
    }
    // The mock knows offsets only: a stretch here begins with the oldest record.
    let before = |until| {
        let outcome = run_without_answers(&cluster, &["--until", until]);
        let unanswered = outcome.verdict.unanswered();
        (unanswered.arrived, unanswered.missing)
    };
    let hours = ["20", "21", "22", "23"].map(|hour| format!("2026-01-31T{hour}:00:00Z"));
    assert_eq!(before(&hours[2]), (2, 0));
    assert_eq!(before(&hours[3]), (3, 1));
    assert_eq!(before("2026-02-01T00:00:00Z"), (4, 3));
    for flags in [
        ["--since", &hours[1], "--until", &hours[0]],
        ["--around", "1d", "--until", "offset:3"],
    ] {
        let args = Line::parse_from(["audit"].iter().copied().chain(flags)).args;
        let error = audit(&args, cluster.settled(), go_on).unwrap_err();
        assert!(error.to_string().contains("--until"), "{error:#}");
    }
}

#[test]
fn following_takes_in_what_comes_later() {
    let cluster = Cluster::start();
    let answers = Answers::write("follow", &[answer("box-1", 1, "accepted")]);
    let deadline = Instant::now() + PATIENCE;
    let mut told = false;
    let outcome = audit(&answers.args(&["--follow"]), cluster.settled(), |tally| {
        assert!(Instant::now() < deadline, "{:?}", tally.verdict());
        let [ordinary, _] = tally.verdict().totals();
        if ordinary.answered == 1 && !told {
            cluster.refined("rp.viewing", &refined("box-1", 1, tune()));
            cluster.refined("rp.viewing", &refined("box-1", 2, tune()));
            answers.append(&answer("box-1", 2, "accepted"));
            told = true;
        }
        if ordinary.arrived == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .unwrap();
    assert!(outcome.is_clean(), "{outcome:?}");
}

#[test]
fn a_missing_topic_or_file_is_an_error_that_names_it() {
    let cluster = Cluster::start();
    let answers = Answers::write("unreachable", &[]);
    let mut kafka = cluster.settled().clone();
    kafka.topics.health = "rp.nowhere".into();
    let error = audit(&answers.args(&[]), &kafka, go_on).unwrap_err();
    assert!(format!("{error:#}").contains("rp.nowhere"), "{error:#}");
    let gone = Answers(PathBuf::from("/nowhere/answers.jsonl"));
    let error = audit(&gone.args(&[]), cluster.settled(), go_on).unwrap_err();
    assert!(format!("{error:#}").contains("/nowhere/answers.jsonl"));
}
