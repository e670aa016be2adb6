//! `returnpath-demo`: the whole path on one machine, with a proof at its end.

use std::{
    fs::File,
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use returnpath_collector::decisions::paint::Paint;
use returnpath_tests::{
    arguments::{parse_moment, parse_time},
    demo::{self, Output, Settings},
    fleet::moment::Moment,
    pki::WARNING,
    place,
};
use tracing_subscriber::EnvFilter;

/// What differs from the real thing.
const LIMITS: &str = "\
Limits: the MQTT broker is embedded and does not tie the client id to the
certificate. Kafka is librdkafka's mock cluster: it delivers aborted
transactions and keeps 5 MiB a partition, so nothing is aborted here and the
audit reads along; and it answers a waiting fetch late, so latencies are longer
than Kafka's. The tests run on Mosquitto and Apache Kafka instead.";

/// Exit code when the demo could not run to its end.
const EXIT_BROKEN: u8 = 2;

/// Boxes, agents, an MQTT broker with TLS, a collector, Kafka and an ad market
/// of three aggregators, all on this machine; shows what flows, and proves at
/// its end that every answered event stands in the refined topics once, and
/// that every slot was decided once and on record. NOT FOR PRODUCTION.
///
/// Exit codes: 0 clean; 1 something is missing, duplicated, decided or filled
/// twice, or without a record; 2 it could not run.
#[derive(Parser)]
#[command(name = "returnpath-demo", version, after_long_help = LIMITS)]
struct Arguments {
    /// How long boxes are fed, as in 60s or 5m; until ctrl-c without.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    feed_for: Option<Duration>,
    /// Simulated boxes.
    #[arg(long, default_value_t = 200)]
    boxes: u32,
    /// Agents as processes of their own.
    #[arg(long, default_value_t = 3)]
    agents: u32,
    /// Seed of the households.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Time of day at which the households begin.
    #[arg(long, value_name = "HH:MM", default_value = "20:05", value_parser = parse_moment)]
    from: Moment,
    /// How many times faster than real the households live, 1 to 600.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    speed: u32,
    /// Print the summary as JSON, and what flows to standard error.
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "\nthe demo did not run: {error:#}");
            ExitCode::from(EXIT_BROKEN)
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    demo::check_size(arguments.agents, arguments.boxes)?;
    let directory = place::fresh_directory("demo")?;
    let log = directory.join("demo.log");
    let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")),
        )
        .with_ansi(false)
        .with_writer(Arc::new(file))
        .init();
    let mut stderr = io::stderr();
    stderr.write_all(WARNING.as_bytes())?;
    writeln!(stderr, "logs, certificates, flash: {}", directory.display())?;

    let summary = demo::run(Settings {
        agents: arguments.agents,
        boxes: arguments.boxes,
        seed: arguments.seed,
        from: arguments.from,
        speed: arguments.speed,
        feed_for: arguments.feed_for,
        output: if arguments.json {
            Output::Json
        } else {
            Output::People
        },
        directory,
    })
    .await?;
    let mut stdout = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut stdout, &summary)?;
        writeln!(stdout)?;
    } else {
        stdout.write_all(summary.text(Paint::of_stdout()).as_bytes())?;
    }
    Ok(if summary.clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
