//! Reads topics with `kcat`, a client that shares no code with the collector
//! beyond librdkafka itself.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{process::Command, time::timeout};

/// `kcat` waits for ever for a broker that is not there.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The end of a partition is told by an answer without records, which Kafka
/// holds back this long; half a second unless told otherwise.
const FETCH_WAIT: &str = "fetch.wait.max.ms=10";

/// One line of numbers in front of each record's key and value, which are
/// bytes: partition, offset, timestamp, length of key (-1 without), length of
/// value (-1 without).
const FORMAT: &str = "%p %o %T %K %S\n%k%s\n";

/// A record as it stands in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Partition it is in.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Kafka's timestamp, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key; empty when there is none.
    pub key: Vec<u8>,
    /// The value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
}

pub(super) async fn read_committed(address: &str, topic: &str) -> anyhow::Result<Vec<Record>> {
    let kcat = Command::new("kcat")
        .args([
            "-C",
            "-e",
            "-q",
            "-o",
            "beginning",
            "-b",
            address,
            "-t",
            topic,
        ])
        .args(["-X", "isolation.level=read_committed", "-X", FETCH_WAIT])
        .args(["-f", FORMAT])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(READ_LIMIT, kcat)
        .await
        .with_context(|| format!("kcat did not finish reading {topic} in {READ_LIMIT:?}"))?
        .context("start kcat")?;
    ensure!(
        output.status.success(),
        "kcat could not read {topic}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&output.stdout).with_context(|| format!("what kcat printed of {topic}"))
}

fn parse(mut bytes: &[u8]) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .context("a line of numbers has no end")?;
        let line = std::str::from_utf8(&bytes[..end])?;
        let numbers = line
            .split(' ')
            .map(str::parse)
            .collect::<Result<Vec<i64>, _>>()
            .with_context(|| format!("numbers in {line:?}"))?;
        let [partition, offset, timestamp_ms, key_length, value_length] = numbers[..] else {
            anyhow::bail!("{line:?} is not five numbers");
        };
        bytes = &bytes[end + 1..];
        let key = take(&mut bytes, key_length)?.unwrap_or_default();
        let value = take(&mut bytes, value_length)?;
        ensure!(
            bytes.first() == Some(&b'\n'),
            "no end after offset {offset}"
        );
        bytes = &bytes[1..];
        records.push(Record {
            partition: i32::try_from(partition)?,
            offset,
            timestamp_ms,
            key,
            value,
        });
    }
    Ok(records)
}

/// `None` for a length of -1.
fn take(bytes: &mut &[u8], length: i64) -> anyhow::Result<Option<Vec<u8>>> {
    let Ok(length) = usize::try_from(length) else {
        return Ok(None);
    };
    let (taken, rest) = bytes
        .split_at_checked(length)
        .context("shorter than announced")?;
    *bytes = rest;
    Ok(Some(taken.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_may_hold_newlines_and_be_absent() {
        let printed = b"0 7 1000 3 4\nboxa\nb\n\n1 0 2000 -1 -1\n\n";
        let records = parse(printed).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].key, b"box");
        assert_eq!(records[0].value.as_deref(), Some(&b"a\nb\n"[..]));
        assert_eq!((records[1].partition, &records[1].value), (1, &None));
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        for printed in [&b"0 7 1000 3"[..], b"0 7 1000 3 4\nbox", b"0 7\n", b"x\n"] {
            assert!(parse(printed).is_err());
        }
    }
}
