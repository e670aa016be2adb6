//! `returnpath-fleet`: simulated boxes against any broker.

use std::{
    fs::File,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use returnpath_agent::link::BrokerAddress;
use returnpath_tests::{
    arguments::{parse_moment, parse_time},
    fleet::{AdSource, Fleet, FleetCounts, FleetSettings, Load, moment::Moment, write_answers},
    pki::{DevelopmentPki, WARNING},
};
use tokio::{
    sync::mpsc,
    time::{Instant, interval},
};
use tracing_subscriber::EnvFilter;

/// Answers on their way to the file; boxes wait when it is full.
const ANSWERS_WAITING_MAX: usize = 4_096;

/// How often the totals are printed.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Certificates live no longer than a run may.
const VALIDITY: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Feeds simulated boxes and sends what they hold to a broker, until the time
/// is over or ctrl-c; then waits until everything is receipted. Prints totals
/// as JSON lines. The boxes use development certificates: NOT FOR PRODUCTION.
///
/// Exit codes: 0 everything was receipted; 1 something was not.
#[derive(Parser)]
#[command(name = "returnpath-fleet", version)]
struct Arguments {
    /// The MQTT broker, host:port.
    #[arg(long)]
    broker: BrokerAddress,
    /// Folder of the development certificates (`returnpath-dev-pki`), whose
    /// authority signs the boxes'.
    #[arg(long, value_name = "FOLDER")]
    pki: PathBuf,
    /// How many boxes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    boxes: u32,
    /// What their ids begin with.
    #[arg(long, default_value = "box-")]
    prefix: String,
    /// Seed of the households; one from the clock without, and printed. A
    /// second run with the same seed and boxes repeats the ids of its proof,
    /// which is then removed as a repetition.
    #[arg(long)]
    seed: Option<u64>,
    /// Time of day at which the households begin.
    #[arg(long, value_name = "HH:MM", default_value = "20:05", value_parser = parse_moment)]
    from: Moment,
    /// How many times faster than real the households live, 1 to 600.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=600))]
    speed: u32,
    /// The boxes follow decisions and show them; without, the players make up
    /// what they show.
    #[arg(long)]
    decisions: bool,
    /// Instead of households: batches of 3 events at this rate, in batches a
    /// second over all boxes.
    #[arg(long, value_name = "BATCHES", conflicts_with_all = ["from", "speed", "decisions"], value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// How long boxes are fed, as in 60s or 5m; until ctrl-c without.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    feed_for: Option<Duration>,
    /// How long to wait for receipts afterwards.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse_time)]
    drain_for: Duration,
    /// File for what the boxes' clients were answered, for
    /// `returnpath-collector audit`; it must not exist.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error")),
        )
        .with_writer(io::stderr)
        .init();
    io::stderr().write_all(WARNING.as_bytes())?;

    let pki = DevelopmentPki::open(&arguments.pki, VALIDITY)?;
    let seed = arguments.seed.map_or_else(seed_from_clock, Ok)?;
    let load = match arguments.rate {
        Some(per_second) => Load::Batches { per_second },
        None => Load::Viewers {
            from: arguments.from,
            speed: arguments.speed,
            ads: if arguments.decisions {
                AdSource::Decided
            } else {
                AdSource::MadeUp
            },
        },
    };
    let (answers, answered) = mpsc::channel(ANSWERS_WAITING_MAX);
    let file = arguments
        .answers
        .as_ref()
        .map(|path| File::create_new(path).with_context(|| format!("create {}", path.display())));
    let file = file.transpose()?;
    let writer = thread::spawn(move || match file {
        Some(file) => write_answers(answered, file),
        None => write_answers(answered, io::sink()),
    });
    let mut fleet = Fleet::start(
        &FleetSettings {
            broker: arguments.broker,
            boxes: arguments.boxes,
            prefix: arguments.prefix,
            seed,
            load,
        },
        &pki,
        &answers,
    )?;
    drop(answers);

    let started = Instant::now();
    feed(&fleet, seed, arguments.feed_for).await?;
    let drained = fleet.drain(arguments.drain_for).await;
    report("end", seed, started, &fleet.stop().await)?;
    match writer.join() {
        Ok(written) => written?,
        Err(_) => ensure!(false, "the thread that writes answers panicked"),
    }
    if let Err(error) = drained {
        writeln!(io::stderr(), "not everything was receipted: {error:#}")?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

async fn feed(fleet: &Fleet, seed: u64, feed_for: Option<Duration>) -> anyhow::Result<()> {
    let started = Instant::now();
    let end = async {
        match feed_for {
            Some(time) => tokio::time::sleep_until(started + time).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let mut reports = interval(REPORT_EVERY);
    loop {
        tokio::select! {
            _ = reports.tick() => report("feeding", seed, started, &fleet.counts())?,
            () = &mut end => return Ok(()),
            result = tokio::signal::ctrl_c() => return result.context("wait for ctrl-c"),
        }
    }
}

fn report(stage: &str, seed: u64, started: Instant, counts: &FleetCounts) -> anyhow::Result<()> {
    let line = serde_json::json!({
        "stage": stage,
        "seed": seed.to_string(),
        "elapsedS": started.elapsed().as_secs(),
        "counts": counts,
    });
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

fn seed_from_clock() -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_millis())?)
}
