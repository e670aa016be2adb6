//! `returnpath-faults`: faults on real parts, for as long as one likes, each
//! ended by the audit. Run it through `tests/faults`, which builds everything
//! in the release profile.

use std::{
    env,
    fmt::Display,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use returnpath_tests::{
    arguments::parse_time,
    bench::process_usage::machine,
    faults::{kills, loss, namespace, outage, page, reconnects, stage::Stage},
    kafka::Kafka,
};
use serde::Serialize;

/// Exit code when a run could not be made, so that nothing is known.
const EXIT_NOT_RUN: u8 = 2;

/// The argument that says that we are in a namespace of our own.
const INSIDE: &str = "--inside";

/// Makes faults on real parts (agents, Mosquitto, collectors, Kafka) and audits
/// what became of every event that was answered. Without a command, everything
/// is killed at random.
///
/// Exit codes: 0 nothing missing outside of what boxes declared lost, nothing
/// twice; 1 a promise was broken; 2 the run could not be made.
#[derive(Parser)]
#[command(
    name = "returnpath-faults",
    version,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    kills: Kills,
    /// Print the result as JSON on standard output instead of for people.
    #[arg(long, global = true)]
    json: bool,
    /// Write the result into this page of numbers, in place of the last one of
    /// its kind.
    #[arg(long, global = true, value_name = "FILE")]
    page: Option<PathBuf>,
}

/// `kill -9` of agents, collectors, Mosquitto and Kafka, in random order.
#[derive(Args)]
struct Kills {
    /// How long, in minutes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: u64,
    /// Boxes with real agents.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=200))]
    boxes: u64,
    /// Simulated households beside them, which are not killed themselves.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(..=5_000))]
    households: u32,
    /// Names the kills, to repeat them; a fresh one without, and printed.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Subcommand)]
enum What {
    /// Kafka hangs for longer than every timeout, and goes on.
    Outage {
        /// How long, in minutes.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_440))]
        minutes: u64,
        /// Boxes with real agents.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=200))]
        boxes: u64,
    },
    /// Packets between boxes, broker and collector are lost at random, in a
    /// network namespace (root, or user namespaces; nftables).
    Loss {
        /// How long, as in 90s or 5m.
        #[arg(long = "for", value_name = "TIME", default_value = "2m", value_parser = parse_time)]
        span: Duration,
        /// Boxes with real agents.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=200))]
        boxes: u64,
        /// How many of 100 packets.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=90))]
        percent: u32,
        /// We are in the namespace already.
        #[arg(long, hide = true)]
        inside: bool,
    },
    /// A fleet of simulated boxes loses its broker at once.
    Fleet {
        /// How many boxes.
        #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
        boxes: u32,
        /// Over which time they are to come back, as in 90s or 5m.
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
        spread: Duration,
        /// Of the households; a fresh one without.
        #[arg(long)]
        seed: Option<u64>,
    },
}

/// A run that has ended.
struct Ended {
    /// Of the page.
    name: &'static str,
    section: String,
    json: serde_json::Value,
    is_clean: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match act(&arguments).await {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("could not be run: {error:#}"));
            ExitCode::from(EXIT_NOT_RUN)
        }
    }
}

async fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let tell = |what: &str| {
        say(format_args!(
            "{:7.1} s  {what}",
            begun.elapsed().as_secs_f64()
        ))
    };
    let ended = match &arguments.what {
        None => {
            let Kills {
                minutes,
                boxes,
                households,
                seed,
            } = arguments.kills;
            let seed = seed.map_or_else(seed_from_clock, Ok)?;
            say(format_args!("seed {seed}"));
            let settings = kills::Settings {
                span: Duration::from_secs(60 * minutes),
                boxes,
                households,
                seed,
            };
            let report = kills::run(settings, tell).await?;
            ended("kills", report.section(), &report, report.is_clean())?
        }
        Some(What::Outage { minutes, boxes }) => {
            let kafka = Kafka::start().await?;
            let stage = Stage::set("outage", &[kafka.address()]).await?;
            let settings = outage::Settings {
                span: Duration::from_secs(60 * minutes),
                boxes: *boxes,
                deliver_within_s: None,
            };
            let report = outage::hang(&kafka, &stage, settings, tell).await?;
            ended("outage", report.section(), &report, report.is_clean())?
        }
        Some(What::Loss { inside: false, .. }) => {
            let mut again: Vec<String> = env::args().skip(1).collect();
            again.push(INSIDE.to_owned());
            return namespace::run_inside(&again).await;
        }
        Some(What::Loss {
            span,
            boxes,
            percent,
            inside: true,
        }) => {
            let settings = loss::Settings {
                span: *span,
                boxes: *boxes,
                percent: *percent,
            };
            let report = loss::run(settings, tell).await?;
            ended("loss", report.section(), &report, report.is_clean())?
        }
        Some(What::Fleet {
            boxes,
            spread,
            seed,
        }) => {
            let kafka = Kafka::start().await?;
            let settings = reconnects::Settings {
                boxes: *boxes,
                spread: *spread,
                seed: seed.map_or_else(seed_from_clock, Ok)?,
            };
            let report = reconnects::run(&kafka, settings, tell).await?;
            ended("fleet", report.section(), &report, report.is_clean())?
        }
    };
    if let Some(path) = &arguments.page {
        let text = format!("On {}.\n\n{}", build(), ended.section);
        page::write(path, ended.name, &text)?;
    }
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &ended.json)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", ended.section)?;
    }
    Ok(if ended.is_clean {
        ExitCode::SUCCESS
    } else {
        say("a promise was broken");
        ExitCode::FAILURE
    })
}

fn ended(
    name: &'static str,
    section: String,
    report: &impl Serialize,
    is_clean: bool,
) -> anyhow::Result<Ended> {
    let mut json = serde_json::to_value(report)?;
    json["clean"] = is_clean.into();
    Ok(Ended {
        name,
        section,
        json,
        is_clean,
    })
}

/// What the figures were made on.
fn build() -> String {
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    format!("{}, {profile} build", machine())
}

/// Progress, for people: nothing is lost when nobody reads it.
fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn seed_from_clock() -> anyhow::Result<u64> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock stands before 1970")?;
    Ok(u64::try_from(now.as_millis())?)
}
