//! `returnpath-collector completeness`: what has not arrived of the boxes, and
//! why, for people: which runs have holes, what the box declared lost, what
//! nothing explains.
//!
//! Only reads `rp.completeness`, to its end; joins no group. Records that
//! cannot be decoded are named on standard error and skipped.
//!
//! Exit codes: 0 nothing is missing without an explanation; 1 something is; 2
//! Kafka cannot be read.

mod page;

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use prost::Message as _;
use rdkafka::Message as _;
use returnpath_shared::{
    DeviceId,
    wire::{self, Missing},
};
use tracing::{error, warn};

use crate::{
    config::Config,
    kafka::{self, Begin, Next, TopicReader, Until},
};

/// What this command is called in Kafka's logs and quotas.
const OWNER: &str = "returnpath-completeness";

/// Wait for the next record.
const IDLE: Duration = Duration::from_millis(100);

/// Runs that are kept while the topic is read, some 150 bytes each: all that
/// refine remembers of 400,000 boxes. Beyond it one box has to be named.
const RUNS_MAX: usize = 4_000_000;

/// Exit code when Kafka cannot be read.
pub const EXIT_UNREACHABLE: u8 = 2;

/// What the words of the page mean.
const TEACHING: &str = "\
A box numbers its batches within each run of its agent, and says which it still
holds. So what has not come is, batch by batch, one of:
  may still come  the box may hold it: wait
  declared        the box dropped it and says why
  lost with power it was only accepted, never durable, when the agent ended
                  without a clean stop
  rejected        it came when refine had no room to remember it: rp.rejected
  UNEXPLAINED     the box neither holds nor declares it. May pass while a batch
                  lies in the other lane's topic, or a declaration is on its
                  way; what stays so is lost without a reason
  forgotten       as UNEXPLAINED, but of what the box declared there, beyond 1,024
                  ranges and 256 runs of which nothing came, it is not known
                  any more whether this was among it: rp.health has it
What merely grows is written every ten minutes; see the time behind 'as of'.

Examples:
  completeness                    every run that is anything but complete
  completeness --device box-1     one box, with every run that is remembered
  completeness --json             one record of rp.completeness a line

Exit codes: 0 nothing is UNEXPLAINED, 1 something is, 2 Kafka cannot be read.
'returnpath-collector audit' tells the same event by event, from the topics.";

/// What to tell.
#[derive(Debug, clap::Args)]
#[command(after_long_help = TEACHING)]
pub struct Args {
    /// Only this box, with every run that is remembered of it.
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// Tells the runs of which nothing is missing, too.
    #[arg(long)]
    all: bool,
    /// Prints the records as JSON lines instead of text.
    #[arg(long)]
    json: bool,
}

/// Tells what is missing.
///
/// # Errors
/// When standard output fails other than by closing.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    // Reading Kafka blocks its thread.
    let done = tokio::task::spawn_blocking(move || {
        let out = &mut BufWriter::new(io::stdout());
        let code = tell(&args, &config.kafka, out)?;
        out.flush()?;
        anyhow::Ok(code)
    })
    .await
    .context("the reading thread ended")?;
    match done {
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is::<io::Error>() => Err(error).context("cannot print"),
        Err(error) => {
            error!("cannot tell what is complete: {error:#}");
            Ok(ExitCode::from(EXIT_UNREACHABLE))
        }
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn tell(args: &Args, kafka: &kafka::Config, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let tells_all = args.all || args.device.is_some();
    let runs = read(kafka, args.device.as_ref(), tells_all)?;
    let told = runs.told.values();
    if args.json {
        for run in told.clone() {
            writeln!(out, "{}", serde_json::to_string(run)?)?;
        }
    } else {
        page::print(out, told.clone(), runs.others)?;
    }
    let is_explained = !told.clone().any(has_unexplained);
    Ok(if is_explained {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What stands in the topic.
#[derive(Debug, Default)]
struct Runs {
    /// By the key of their records.
    told: BTreeMap<Box<[u8]>, wire::Completeness>,
    /// Complete ones, which are not told.
    others: usize,
}

fn read(kafka: &kafka::Config, device: Option<&DeviceId>, tells_all: bool) -> anyhow::Result<Runs> {
    let topic = &kafka.topics.completeness;
    let mut reader = TopicReader::open(kafka, OWNER, topic, device, Begin::Oldest, Until::End)?;
    // `None` is not told: a box that loses nothing takes a key's room.
    let mut runs: BTreeMap<Box<[u8]>, Option<wire::Completeness>> = BTreeMap::new();
    loop {
        let record = match reader.next(IDLE)? {
            Next::Record(record) => record,
            Next::Nothing => continue,
            Next::End => break,
        };
        let key = record.key().unwrap_or_default();
        if device.is_some_and(|device| !is_of(key, device)) {
            continue;
        }
        let Some(value) = record.payload() else {
            runs.remove(key);
            continue;
        };
        match wire::Completeness::decode(value) {
            Ok(run) => {
                let told = (tells_all || is_worth_telling(&run)).then_some(run);
                runs.insert(key.into(), told);
            }
            Err(error) => warn!(
                topic,
                partition = record.partition(),
                offset = record.offset(),
                "skipped a record that cannot be decoded: {error}"
            ),
        }
        if runs.len() > RUNS_MAX {
            bail!("{topic} holds more than {RUNS_MAX} runs: name one box with --device");
        }
    }
    let all = runs.len();
    let told: BTreeMap<_, _> = runs
        .into_iter()
        .filter_map(|(key, run)| Some((key, run?)))
        .collect();
    Ok(Runs {
        others: all - told.len(),
        told,
    })
}

/// Whether a key names a run of this box.
fn is_of(key: &[u8], device: &DeviceId) -> bool {
    key.strip_prefix(device.as_str().as_bytes())
        .is_some_and(|rest| rest.first() == Some(&b'#'))
}

/// Whether a run is anything but complete.
fn is_worth_telling(run: &wire::Completeness) -> bool {
    !run.missing_totals.is_empty()
        || !run.declared.is_empty()
        || run.declared_ranges_forgotten > 0
        || run.declared_forgotten_last_sequence > 0
        || run.whole_epoch_reason != 0
        || run.unclean_stop
        || run.forgotten_through_sequence > 0
}

fn has_unexplained(run: &wire::Completeness) -> bool {
    let mut totals = run.missing_totals.iter();
    totals.any(|total| total.missing() == Missing::Unexplained)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_box_that_it_names_and_to_no_other() {
        let device: DeviceId = "box-1".parse().unwrap();
        assert!(is_of(b"box-1#0000000000000001.1", &device));
        for key in [&b"box-10#0000000000000001.1"[..], b"box-1", b"box#1", b""] {
            assert!(!is_of(key, &device), "{key:?}");
        }
    }

    #[test]
    fn a_run_of_which_nothing_is_missing_is_not_worth_telling() {
        let complete = wire::Completeness {
            highest_sequence: 7,
            ended: true,
            ..wire::Completeness::default()
        };
        assert!(!is_worth_telling(&complete));
        let unclean = wire::Completeness {
            unclean_stop: true,
            ..complete
        };
        assert!(is_worth_telling(&unclean));
        assert!(!has_unexplained(&unclean));
        let lost = wire::Completeness {
            missing_totals: vec![wire::MissingTotal {
                missing: Missing::Unexplained.into(),
                ..wire::MissingTotal::default()
            }],
            ..unclean
        };
        assert!(is_worth_telling(&lost) && has_unexplained(&lost));
    }
}
