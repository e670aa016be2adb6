//! Finds all records of one decision and tells them.

use std::{io::Write, process::ExitCode, time::SystemTime};

use rdkafka::Message as _;
use returnpath_shared::{DeviceId, wire::DecisionRecord};
use tracing::error;

use super::{IDLE, OWNER, decoded, kafka, paint::Paint, story};
use crate::{
    kafka::{Begin, Next, TopicReader, Until},
    tail::Since,
};

/// Records of one decision that are read. Every stage is recorded once, some
/// once for each play; a decision with more is told as far as it was read.
const RECORDS_MAX: usize = 4_096;

/// Which decision.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The decision's id, 32 hexadecimal digits: in `decisions tail`, in the ad
    /// events of `tail ads`, and in what the player was handed.
    #[arg(value_name = "ID", value_parser = decision_id)]
    id: String,
    /// The box that it was for: only its partition is read then.
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceId>,
    /// Read from there instead of from the beginning: an age as in 90s, 15m, 2h
    /// or 1d, a time as in 2026-01-31T20:15:00Z, or offset:N.
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// Print the records as JSON lines in the proto3 mapping.
    #[arg(long)]
    json: bool,
}

/// The id of a decision; printed by others in upper case, it is still it.
pub(super) fn decision_id(text: &str) -> Result<String, &'static str> {
    let good = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| text.to_ascii_lowercase())
        .ok_or("must be 32 hexadecimal digits")
}

pub(super) fn run(
    args: &Args,
    kafka: &kafka::Config,
    paint: Paint,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let records = find(args, kafka)?;
    if records.is_empty() {
        let mut hints = Vec::new();
        if let Some(device) = &args.device {
            hints.push(format!(" in the partition of {device}"));
        }
        if args.since.is_some() {
            hints.push(" since then".to_owned());
        }
        error!(
            "{} has no decision {}{}",
            kafka.topics.decisions,
            args.id,
            hints.concat()
        );
        return Ok(ExitCode::FAILURE);
    }
    if args.json {
        for record in &records {
            writeln!(out, "{}", serde_json::to_string(record)?)?;
        }
    } else {
        write!(out, "{}", story::tell(&records, paint))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All records of the decision, in the order in which they were written.
fn find(args: &Args, kafka: &kafka::Config) -> anyhow::Result<Vec<DecisionRecord>> {
    let begin = match args.since {
        Some(since) => since.start(SystemTime::now()),
        None => Begin::Oldest,
    };
    let topic = &kafka.topics.decisions;
    let device = args.device.as_ref();
    let mut reader = TopicReader::open(kafka, OWNER, topic, device, begin, Until::End)?;
    let mut records = Vec::new();
    while records.len() < RECORDS_MAX {
        match reader.next(IDLE)? {
            Next::Record(message) => {
                if message.key() == Some(args.id.as_bytes()) {
                    records.extend(decoded(&message));
                }
            }
            Next::Nothing => {}
            Next::End => break,
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_decisions_have_32_digits() {
        let id = "0123456789abcdef0123456789ABCDEF";
        assert_eq!(decision_id(id), Ok(id.to_ascii_lowercase()));
        for wrong in ["", "0123", &id[1..], "0123456789abcdef0123456789abcdeg"] {
            assert!(decision_id(wrong).is_err(), "{wrong}");
        }
    }
}
