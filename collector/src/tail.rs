//! `returnpath-collector tail`: prints the records of a refined topic as JSON
//! lines in the proto3 mapping, so that people can look.
//!
//! Only reads; joins no group. Records that cannot be decoded are named on
//! standard error and skipped.

mod since;

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum;
use prost::Message as _;
use rdkafka::Message as _;
use returnpath_shared::{DeviceId, Stream, wire};
use tracing::warn;

use crate::{
    config::Config,
    kafka::{self, Begin, Next, TopicNames, TopicReader, Until},
};

pub use since::{Age, Since};

/// Wait for the next record before what was printed is flushed.
const IDLE: Duration = Duration::from_millis(100);

/// What to print.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which topic.
    #[arg(value_enum)]
    source: Source,
    /// Only records of this box.
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// Begin with the oldest record; otherwise with what comes from now on.
    #[arg(long)]
    from_beginning: bool,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop at the end instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
}

/// The topics that can be printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Source {
    /// Refined viewing events.
    Viewing,
    /// Refined ad events.
    Ads,
    /// Refined health, consent and ledger events.
    Health,
    /// Refined events of the operator's own.
    Custom,
    /// What could not be refined, with its reason.
    Rejected,
}

impl Source {
    /// The topic's name.
    #[must_use]
    pub fn topic(self, topics: &TopicNames) -> &str {
        match self {
            Self::Viewing => topics.refined(Stream::Viewing),
            Self::Ads => topics.refined(Stream::Ads),
            Self::Health => topics.refined(Stream::Health),
            Self::Custom => topics.refined(Stream::Custom),
            Self::Rejected => &topics.rejected,
        }
    }
}

/// Prints until there is no more to print, or the reader of our output leaves.
///
/// # Errors
/// When Kafka cannot be read, or standard output fails other than by closing.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    // Reading Kafka blocks its thread.
    let printed = tokio::task::spawn_blocking(move || {
        print(&args, &config.kafka, &mut BufWriter::new(io::stdout()))
    })
    .await
    .context("the printing thread ended")?;
    match printed {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints records to `out`, one a line.
///
/// # Errors
/// As [`run`]; a closed `out` is an [`io::Error`].
pub fn print(args: &Args, kafka: &kafka::Config, out: &mut impl Write) -> anyhow::Result<()> {
    let topic = args.source.topic(&kafka.topics);
    let begin = if args.from_beginning {
        Begin::Oldest
    } else {
        Begin::Now
    };
    let until = if args.no_follow {
        Until::End
    } else {
        Until::Forever
    };
    let device = args.device.as_ref();
    let mut reader = TopicReader::open(kafka, "returnpath-tail", topic, device, begin, until)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let record = match reader.next(IDLE)? {
            Next::Record(record) => record,
            Next::Nothing => {
                out.flush()?;
                continue;
            }
            Next::End => break,
        };
        let key = record.key().unwrap_or_default();
        if device.is_some_and(|device| device.as_str().as_bytes() != key) {
            continue;
        }
        match json(args.source, record.payload().unwrap_or_default()) {
            Ok(line) => {
                writeln!(out, "{line}")?;
                left -= 1;
            }
            Err(error) => warn!(
                topic,
                partition = record.partition(),
                offset = record.offset(),
                "skipped a record that cannot be decoded: {error:#}"
            ),
        }
    }
    out.flush()?;
    Ok(())
}

fn json(source: Source, payload: &[u8]) -> anyhow::Result<String> {
    Ok(match source {
        Source::Viewing | Source::Ads | Source::Health | Source::Custom => {
            serde_json::to_string(&wire::Refined::decode(payload)?)?
        }
        Source::Rejected => serde_json::to_string(&wire::Rejected::decode(payload)?)?,
    })
}
