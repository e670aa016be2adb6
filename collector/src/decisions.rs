//! `returnpath-collector decisions`: what was decided, for people: follows the
//! decisions as they come, tells one from beginning to end, and makes choices
//! again from what was recorded.
//!
//! Only reads `rp.decisions`; joins no group. Records that cannot be decoded
//! are named on standard error and skipped.

mod line;
pub mod paint;
pub mod quantity;
mod replay;
mod show;
mod story;
mod tail;
pub mod words;

#[cfg(test)]
mod sample;

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use prost::Message as _;
use rdkafka::{Message as _, message::BorrowedMessage};
use returnpath_shared::wire::{self, DecisionRecord};
use tracing::warn;

use crate::{config::Config, kafka};
use paint::Paint;

/// Wait for the next record before what was printed is flushed.
const IDLE: Duration = Duration::from_millis(100);

/// What these commands are called in Kafka's logs and quotas.
const OWNER: &str = "returnpath-decisions";

/// What to do with decisions.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Prints each decision, and what becomes of it, as it comes: one line a
    /// record.
    Tail(tail::Args),
    /// Tells one decision from beginning to end.
    ///
    /// What was known of the box, who was asked and what each answered, what
    /// was picked and why, and each stage on the way to the screen with its
    /// time. Exits with 1 when there is no such decision.
    Show(show::Args),
    /// Makes every recorded choice again, from its recorded inputs.
    ///
    /// A choice depends on nothing but what its record holds. Exits with 1 when
    /// one comes out otherwise, or a named decision is not there.
    Replay(replay::Args),
}

/// Runs one of the commands, until its end or until the reader of our output
/// leaves.
///
/// # Errors
/// When Kafka cannot be read, or standard output fails other than by closing.
pub async fn run(args: Args, config: Config) -> anyhow::Result<ExitCode> {
    let paint = Paint::of_stdout();
    // Reading Kafka blocks its thread.
    let done = tokio::task::spawn_blocking(move || {
        let out = &mut BufWriter::new(io::stdout());
        let kafka = &config.kafka;
        let code = match args.command {
            Command::Tail(args) => tail::run(args, kafka, paint, out),
            Command::Show(args) => show::run(&args, kafka, paint, out),
            Command::Replay(args) => replay::run(&args, kafka, paint, out),
        }?;
        out.flush()?;
        anyhow::Ok(code)
    })
    .await
    .context("the reading thread ended")?;
    match done {
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The record in a message; `None` when it cannot be decoded, which is logged.
fn decoded(message: &BorrowedMessage<'_>) -> Option<DecisionRecord> {
    DecisionRecord::decode(message.payload().unwrap_or_default())
        .inspect_err(|error| {
            warn!(
                topic = message.topic(),
                partition = message.partition(),
                offset = message.offset(),
                "skipped a record that cannot be decoded: {error}"
            );
        })
        .ok()
}

/// The offer that was taken, and whose it is.
fn chosen(decided: &wire::Decided) -> Option<(&wire::AggregatorRecord, &wire::OfferRecord)> {
    let choice = decided.choice.as_ref()?;
    let at = |index: Option<u32>| usize::try_from(index?).ok();
    let aggregator = decided.aggregators.get(at(choice.aggregator)?)?;
    Some((aggregator, aggregator.offers.get(at(choice.offer)?)?))
}
