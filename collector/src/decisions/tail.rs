//! Follows decisions as they come.

use std::{io::Write, process::ExitCode, time::Instant};

use returnpath_shared::DeviceId;

use super::{
    IDLE, OWNER, decoded, kafka,
    line::{Filter, line},
    paint::Paint,
};
use crate::{
    kafka::{Begin, Next, TopicReader, Until},
    tail::Since,
};

/// What to print.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only decisions for this box.
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// Only slots filled by this aggregator, and what becomes of them.
    #[arg(long, value_name = "NAME")]
    aggregator: Option<String>,
    /// Only slots that were filled, and what becomes of them.
    #[arg(long)]
    filled: bool,
    /// Begin with the oldest record; otherwise with what comes from now on.
    #[arg(long, conflicts_with = "since")]
    from_beginning: bool,
    /// Begin there: an age as in 90s, 15m, 2h or 1d, a time as in
    /// 2026-01-31T20:15:00Z, or offset:N.
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop at the end instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
    /// Print JSON lines in the proto3 mapping, whole records.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    args: Args,
    kafka: &kafka::Config,
    paint: Paint,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let begin = match args.since {
        Some(since) => since.start(std::time::SystemTime::now()),
        None if args.from_beginning => Begin::Oldest,
        None => Begin::Now,
    };
    let until = if args.no_follow {
        Until::End
    } else {
        Until::Forever
    };
    let topic = &kafka.topics.decisions;
    let device = args.device.as_ref();
    let mut reader = TopicReader::open(kafka, OWNER, topic, device, begin, until)?;
    let mut filter = Filter::new(args.device, args.aggregator, args.filled);
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut flushed = Instant::now();
    while left > 0 {
        let message = match reader.next(IDLE)? {
            Next::Record(message) => message,
            Next::Nothing => {
                out.flush()?;
                flushed = Instant::now();
                continue;
            }
            Next::End => break,
        };
        let Some(record) = decoded(&message) else {
            continue;
        };
        if filter.wants(&record) {
            if args.json {
                writeln!(out, "{}", serde_json::to_string(&record)?)?;
            } else {
                writeln!(out, "{}", line(&record, paint))?;
            }
            left -= 1;
            // Where records never stop coming, nobody is idle.
            if flushed.elapsed() >= IDLE {
                out.flush()?;
                flushed = Instant::now();
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
