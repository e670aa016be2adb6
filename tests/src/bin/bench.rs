//! `returnpath-bench`: the figures of the README, on real parts. Run it
//! through `tests/bench`, which builds everything in the release profile.

use std::{
    env,
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use returnpath_delivery::Dropped;
use returnpath_tests::bench::{
    bridge, decide, drain, households, intake, memory, metrics::Histogram, outage::configured,
    process_usage::machine, refine, scene::Scene, takeover, urgent, week::events_in,
};
use returnpath_tests::place;

/// Measures returnpath on a real Kafka and a real Mosquitto with TLS.
///
/// Exits with 1 when a figure misses its limit.
#[derive(Parser)]
#[command(name = "returnpath-bench", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// CPU of `bridge` per 3-event batch, draining a full broker.
    BridgeDrain {
        /// Batches in each run.
        #[arg(long, default_value_t = 100_000)]
        batches: u64,
        /// Runs; each figure is printed.
        #[arg(long, default_value_t = 3)]
        runs: u64,
    },
    /// CPU of `bridge` per 3-event batch, at a rate.
    BridgeLive {
        /// Batches a second.
        #[arg(long, default_value_t = 5_000)]
        rate: u32,
        /// Seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// CPU of `refine` per 3-event batch, transactions on.
    Refine {
        /// Batches in each run.
        #[arg(long, default_value_t = 100_000)]
        batches: u64,
        /// Runs; each figure is printed.
        #[arg(long, default_value_t = 3)]
        runs: u64,
    },
    /// CPU of the collector per batch that simulated households send.
    Households {
        /// Boxes.
        #[arg(long, default_value_t = 500)]
        boxes: u32,
        /// How many times faster than real they live.
        #[arg(long, default_value_t = 30)]
        speed: u32,
        /// Seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Urgent event, from the socket to a reader of rp.ads.
    Urgent {
        /// Impressions handed in.
        #[arg(long, default_value_t = 500)]
        events: usize,
        /// Batches a second of other boxes beside them.
        #[arg(long, default_value_t = 0)]
        load: u32,
    },
    /// The way back: from an opportunity on the box's socket to its decision
    /// there, aggregators answering after 50 ms.
    Decide {
        /// Opportunities in each run, one after another.
        #[arg(long, default_value_t = 300)]
        opportunities: usize,
        /// Batches a second of other boxes beside them.
        #[arg(long, default_value_t = 0)]
        load: u32,
        /// Runs; each figure is printed.
        #[arg(long, default_value_t = 3)]
        runs: u64,
    },
    /// Opportunities at a rate to a collector that only decides, asking three
    /// aggregators over TLS: CPU, memory and own time.
    DecideThroughput {
        /// Opportunities a second.
        #[arg(long, default_value_t = 500)]
        rate: u32,
        /// Seconds of each run.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Boxes that take turns. What is remembered of each is bounded, and
        /// reached the sooner the fewer they are.
        #[arg(long, default_value_t = 5_000)]
        boxes: u64,
        /// The boxes show what they get within seconds, and caps count half a
        /// minute: with 500 boxes all that is remembered of them has come to
        /// its bounds after half of a run. CPU is told with what impressions
        /// cost, and not judged.
        #[arg(long)]
        shown: bool,
        /// Runs; each figure is printed.
        #[arg(long, default_value_t = 3)]
        runs: u64,
    },
    /// How fast an aggregator that only fails is left alone, and asked again.
    Breaker {
        /// Opportunities a second.
        #[arg(long, default_value_t = 50)]
        rate: u32,
        /// Runs of each way to fail; each figure is printed.
        #[arg(long, default_value_t = 3)]
        runs: u64,
    },
    /// Memory of the agent at 4 events in 5 s, link up.
    Memory {
        /// Seconds.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// How long another node takes to stand in for one that was killed.
    Takeover {
        /// Boxes whose state it must load.
        #[arg(long, default_value_t = 300_000)]
        boxes: usize,
        /// Runs; each figure is printed.
        #[arg(long, default_value_t = 3)]
        runs: u64,
    },
    /// Room that an outage takes in the queue file: four events in 5 s of the
    /// simulated fleet.
    Outage {
        /// Hours offline.
        #[arg(long, default_value_t = 168)]
        hours: usize,
    },
    /// A real agent sends what it held over an outage of four events in 5 s,
    /// while the viewer goes on.
    Drain {
        /// Hours offline.
        #[arg(long, default_value_t = 24)]
        hours: usize,
        /// Runs; each figure is printed.
        #[arg(long, default_value_t = 3)]
        runs: u64,
    },
    /// A burst of ordinary events on the agent's socket.
    Intake {
        /// Clients at once.
        #[arg(long, default_value_t = 4)]
        clients: usize,
        /// Seconds.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let what = Arguments::parse().what;
    let command: Vec<String> = env::args().skip(1).collect();
    say(format_args!("command: tests/bench {}", command.join(" ")))?;
    say(format_args!("machine: {}", machine()))?;
    let mut good = true;
    match what {
        What::BridgeDrain { batches, runs } => {
            for run in 1..=runs {
                let outcome = bridge::drain(&mut Scene::set().await?, batches, run).await?;
                good &= limit(
                    format_args!(
                        "bridge, draining {batches} batches in {:.2} s",
                        outcome.wall.as_secs_f64()
                    ),
                    outcome.us_per_batch(),
                    "us CPU per batch",
                    8.0,
                )?;
            }
        }
        What::BridgeLive { rate, seconds } => {
            let span = Duration::from_secs(seconds);
            let outcome = bridge::live(&mut Scene::set().await?, rate, span, 1).await?;
            say(format_args!(
                "bridge, live at {rate}/s for {seconds} s: {:.2} us CPU per batch",
                outcome.us_per_batch()
            ))?;
        }
        What::Refine { batches, runs } => {
            for run in 1..=runs {
                let outcome = refine::drain(&mut Scene::set().await?, batches, run).await?;
                good &= limit(
                    format_args!(
                        "refine, {batches} batches in {:.2} s",
                        outcome.wall.as_secs_f64()
                    ),
                    outcome.us_per_batch(),
                    "us CPU per batch",
                    12.0,
                )?;
            }
        }
        What::Households {
            boxes,
            speed,
            seconds,
        } => {
            let span = Duration::from_secs(seconds);
            let outcome = households::watch(&mut Scene::set().await?, boxes, speed, span).await?;
            say(format_args!(
                "collector, {boxes} households at {speed} times life for {seconds} s: \
                 {} batches, {:.1} us CPU per batch",
                outcome.batches,
                outcome.us_per_batch()
            ))?;
        }
        What::Urgent { events, load } => {
            let spread = urgent::latency(&mut Scene::set().await?, events, load, 1).await?;
            let limit_ms = if load == 0 { 300.0 } else { 500.0 };
            good &= limit(
                format_args!("urgent, load {load}/s: {spread}; p99"),
                spread.percentile(99).as_secs_f64() * 1e3,
                "ms",
                limit_ms,
            )?;
        }
        What::Decide {
            opportunities,
            load,
            runs,
        } => {
            for run in 1..=runs {
                good &= decide_latency(opportunities, load, run).await?;
            }
        }
        What::DecideThroughput {
            rate,
            seconds,
            boxes,
            shown,
            runs,
        } => {
            let load = decide::Load {
                boxes,
                rate,
                span: Duration::from_secs(seconds),
                is_shown: shown,
            };
            for _ in 0..runs {
                good &= decide_throughput(load).await?;
            }
        }
        What::Breaker { rate, runs } => {
            for fault in decide::Fault::ALL {
                for _ in 0..runs {
                    good &= breaker(rate, fault).await?;
                }
            }
        }
        What::Memory { seconds } => {
            let outcome =
                memory::run(&mut Scene::set().await?, Duration::from_secs(seconds)).await?;
            let peak = outcome.peak();
            say(format_args!(
                "agent memory over {seconds} s: anonymous grew {} KiB in the second half",
                outcome.growth_kib()
            ))?;
            good &= limit(
                "agent resident",
                peak.resident_kib as f64,
                "KiB",
                6.0 * 1024.0,
            )?;
            good &= limit(
                "agent anonymous",
                peak.anonymous_kib as f64,
                "KiB",
                2.5 * 1024.0,
            )?;
        }
        What::Takeover { boxes, runs } => {
            for run in 1..=runs {
                let outcome = takeover::takeover(&mut Scene::set().await?, boxes, run).await?;
                good &= limit(
                    format_args!(
                        "refine, node killed, {boxes} boxes known to another (state loaded in \
                         {:.1} s, {} KiB resident) after",
                        outcome.restoring.as_secs_f64(),
                        outcome.resident_kib,
                    ),
                    outcome.taken.as_secs_f64(),
                    "s",
                    20.0,
                )?;
            }
        }
        What::Outage { hours } => good &= outage(hours).await?,
        What::Drain { hours, runs } => {
            for _ in 0..runs {
                good &= after_outage(hours).await?;
            }
        }
        What::Intake { clients, seconds } => {
            let span = Duration::from_secs(seconds);
            let outcome = intake::burst(&mut Scene::set().await?, clients, span).await?;
            say(format_args!(
                "intake, {clients} clients: {:.0} events/s answered ({} accepted, {} busy)",
                outcome.per_second(),
                outcome.accepted,
                outcome.busy
            ))?;
            good &= outcome.per_second() >= 10_000.0;
            good &= limit(
                "longest wait",
                outcome.wait_max.as_secs_f64() * 1e3,
                "ms",
                50.0,
            )?;
        }
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the flash budget of the defaults holds back is asked elsewhere: here it
/// is how much room everything takes.
const WITHOUT_FLASH_BUDGET: &str = "[queue]\nflash_bytes_per_day_max = 0";

async fn outage(hours: usize) -> anyhow::Result<bool> {
    const FILE_MIB_MAX: f64 = 32.0;

    let directory = place::fresh_directory("outage")?;
    let config = configured(WITHOUT_FLASH_BUDGET)?;
    let events = events_in(hours);
    let device = "outage-1".parse()?;
    let answers = directory.join("answers.jsonl");
    let held = drain::fill(&device, &directory.join("flash"), &config, events, &answers).await?;
    let (batches, packed) = (held.batches(), held.packed_bytes());
    say(format_args!(
        "{hours} h offline, {events} events in {batches} batches: {:.1} bytes packed and {:.1} \
         in the file an event, {} synced commits, {} events dropped, {} requests answered busy",
        packed as f64 / events as f64,
        held.file_bytes as f64 / events as f64,
        held.status.commits_synced,
        held.status.dropped.queue_full + held.status.dropped.too_old,
        held.status.events_busy,
    ))?;
    let good = held.status.events_busy == 0 && held.status.dropped == Dropped::default();
    let file_mib = held.file_bytes as f64 / f64::from(1 << 20);
    Ok(limit("queue file", file_mib, "MiB", FILE_MIB_MAX)? && good)
}

async fn after_outage(hours: usize) -> anyhow::Result<bool> {
    const PER_SECOND_MIN: f64 = 500.0;
    const LIVE_MS_MAX: f64 = 1_000.0;

    let config = configured(WITHOUT_FLASH_BUDGET)?;
    let outcome = drain::drain(&mut Scene::set().await?, &config, events_in(hours)).await?;
    let rate = outcome.per_second();
    let good = rate >= PER_SECOND_MIN;
    say(format_args!(
        "drain of {hours} h: {} events of {} batches in {:.1} s, {rate:.0} events/s ({} {PER_SECOND_MIN})",
        outcome.events,
        outcome.held.batches(),
        outcome.wall.as_secs_f64(),
        if good { "keeps" } else { "MISSES" },
    ))?;
    let live_ms = outcome.live.percentile(100).as_secs_f64() * 1e3;
    let what = format_args!("live meanwhile, socket to rp.ads: {}; max", outcome.live);
    Ok(limit(what, live_ms, "ms", LIVE_MS_MAX)? && good)
}

async fn decide_latency(opportunities: usize, load: u32, run: u64) -> anyhow::Result<bool> {
    let mut scene = Scene::set().await?;
    let _market = decide::market(&scene, decide::CAP).await?;
    let outcome = decide::latency(&mut scene, opportunities, load, run).await?;
    let spread = &outcome.spread;
    let [refine, decide] = outcome.transactions_per_s;
    say(format_args!(
        "decision on the box, load {load}/s: {refine:.1} transactions/s of refine, {decide:.1} of \
         decide"
    ))?;
    let limit_ms = if load == 0 { 300.0 } else { 500.0 };
    let good = limit(
        format_args!("decision on the box, load {load}/s: {spread}; p99"),
        spread.percentile(99).as_secs_f64() * 1e3,
        "ms",
        limit_ms,
    )?;
    let good = own_time(&outcome.own)? && good;
    Ok(promises(outcome.broke)? && good)
}

/// Our own time for a decision: neither aggregators' nor Kafka's.
fn own_time(own: &Histogram) -> anyhow::Result<bool> {
    let own_ms = |part| own.within(part).unwrap_or(f64::INFINITY) * 1e3;
    limit(
        format_args!(
            "decide, own time mean {:.2} ms, p50 at most {} ms, p99",
            own.mean() * 1e3,
            own_ms(0.5)
        ),
        own_ms(0.99),
        "ms at most",
        5.0,
    )
}

async fn decide_throughput(load: decide::Load) -> anyhow::Result<bool> {
    let decide::Load {
        boxes, rate, span, ..
    } = load;
    let mut scene = Scene::set().await?;
    let cap = if load.is_shown {
        decide::BRIEF_CAP
    } else {
        decide::CAP
    };
    let market = decide::market(&scene, cap).await?;
    let outcome = decide::throughput(&mut scene, &market, load).await?;
    let wall_s = outcome.wall.as_secs_f64();
    say(format_args!(
        "decide at {rate}/s of {boxes} boxes for {} s: {} fed, {} decided in {wall_s:.1} s ({} filled), {} pushed; \
         {} requests on {} connections",
        span.as_secs(),
        outcome.fed,
        outcome.decided,
        outcome.filled,
        outcome.pushed,
        outcome.asked,
        outcome.connections,
    ))?;
    say(format_args!(
        "decide, {:.1} transactions/s of {:.1} decisions, each committed in {:.1} ms on average",
        outcome.transactions / wall_s,
        outcome.decided as f64 / outcome.transactions,
        outcome.commits.mean() * 1e3,
    ))?;
    for (thread, cpu) in &outcome.cpu_by_thread {
        let us = outcome.us(*cpu);
        if us >= 1.0 {
            say(format_args!(
                "decide, thread {thread}: {us:.0} us CPU per decision"
            ))?;
        }
    }
    // Until the last push, and as many pushes as decisions: nobody is forgotten.
    let all = outcome.decided == outcome.fed && outcome.pushed == outcome.fed;
    let mut good = all && promises(outcome.broke)?;
    good &= own_time(&outcome.own)?;
    if load.is_shown {
        say(format_args!(
            "decide, three aggregators and an impression: {:.1} us CPU per decision",
            outcome.us_per_decision()
        ))?;
    } else {
        good &= limit(
            "decide, three aggregators",
            outcome.us_per_decision(),
            "us CPU per decision",
            300.0,
        )?;
    }
    // Flat: what an allocator breathes, not what a leak adds.
    good &= limit(
        format_args!(
            "decide, resident memory up to {} KiB, its median grew by {} KiB from the second \
             third to the last, its largest by",
            outcome.resident_kib_max(),
            outcome.median_growth_kib(),
        ),
        outcome.growth_kib() as f64,
        "KiB",
        4.0 * 1024.0,
    )?;
    Ok(good)
}

async fn breaker(rate: u32, fault: decide::Fault) -> anyhow::Result<bool> {
    const FAILURES_MAX: u64 = 20;
    const STOPPED_WITHIN: Duration = Duration::from_secs(2);

    let mut scene = Scene::set().await?;
    let market = decide::market(&scene, decide::CAP).await?;
    let outcome = decide::breaker(&mut scene, &market, rate, fault).await?;
    let good = outcome.failures <= FAILURES_MAX || outcome.stopped_after <= STOPPED_WITHIN;
    say(format_args!(
        "breaker at {rate}/s, an aggregator that {fault}: {} failing calls in {:.0} ms ({} \
         {FAILURES_MAX} or {} ms), asked again {:.1} s after its recovery",
        outcome.failures,
        outcome.stopped_after.as_secs_f64() * 1e3,
        if good { "within" } else { "MISSES" },
        STOPPED_WITHIN.as_millis(),
        outcome.resumed_after.as_secs_f64(),
    ))?;
    Ok(good)
}

/// Prints what must never be, and says whether it never was.
fn promises(broke: decide::Broke) -> anyhow::Result<bool> {
    let good = broke.none();
    let verdict = if good { "within" } else { "MISSES" };
    say(format_args!(
        "decide, {} decisions without a record, {} slots decided twice ({verdict} 0)",
        broke.unrecorded, broke.twice
    ))?;
    Ok(good)
}

/// Prints a figure beside its limit, and says whether it keeps it.
fn limit(what: impl Display, figure: f64, unit: &str, figure_max: f64) -> anyhow::Result<bool> {
    let good = figure <= figure_max;
    let verdict = if good { "within" } else { "MISSES" };
    say(format_args!(
        "{what}: {figure:.2} {unit} ({verdict} {figure_max})"
    ))?;
    Ok(good)
}

fn say(line: impl Display) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{line}")?)
}
