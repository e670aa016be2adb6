//! What became of each box, for people and for programs.

use std::{collections::BTreeSet, io::Write, process::ExitCode};

use returnpath_shared::{DeviceId, Downlink};
use serde_json::json;
use tracing::{error, info};

use super::sending::{Confirmed, Sending};
use crate::steering::{Error, print};

/// How results are told.
#[derive(Clone, Copy)]
pub(super) struct Report {
    pub(super) version: u64,
    pub(super) as_json: bool,
}

impl Report {
    /// Says where it would go.
    pub(super) fn dry_run(
        self,
        boxes: &BTreeSet<DeviceId>,
        out: &mut impl Write,
    ) -> Result<ExitCode, Error> {
        for device in boxes {
            if self.as_json {
                self.object(out, device, "would_publish", None)?;
            } else {
                print(out, format_args!("would publish {}", topic(device)))?;
            }
        }
        info!(
            "version {}: boxes {}, nothing was published",
            self.version,
            boxes.len()
        );
        Ok(ExitCode::SUCCESS)
    }

    /// Says what became of each box; `failed` is why the last connection did not
    /// end well.
    pub(super) fn done(
        self,
        sending: Sending,
        failed: Option<String>,
        out: &mut impl Write,
    ) -> Result<ExitCode, Error> {
        let (mut published, mut refused, mut unconfirmed) = (0_usize, 0_usize, 0_usize);
        for (device, confirmed) in sending.ended() {
            let (outcome, reason) = match confirmed {
                Some(Confirmed::Published) => {
                    published += 1;
                    ("published", None)
                }
                Some(Confirmed::Refused(reason)) => {
                    refused += 1;
                    ("refused", Some(format!("{reason:?}")))
                }
                None => {
                    unconfirmed += 1;
                    ("unconfirmed", None)
                }
            };
            if self.as_json {
                self.object(out, &device, outcome, reason)?;
            } else if let Some(reason) = reason {
                print(
                    out,
                    format_args!("{device}: the broker refused it: {reason}"),
                )?;
            } else {
                print(out, format_args!("{device}: {outcome}"))?;
            }
        }
        let version = self.version;
        if let Some(reason) = failed {
            error!("{reason}");
        }
        if refused + unconfirmed > 0 {
            error!(
                "version {version}: boxes published {published}, refused {refused}, unconfirmed \
                 {unconfirmed}"
            );
            return Ok(ExitCode::FAILURE);
        }
        info!("version {version}: boxes published {published}");
        Ok(ExitCode::SUCCESS)
    }

    fn object(
        self,
        out: &mut impl Write,
        device: &DeviceId,
        outcome: &str,
        reason: Option<String>,
    ) -> Result<(), Error> {
        print(
            out,
            json!({
                "device": device.as_str(),
                "topic": topic(device),
                "version": self.version,
                "outcome": outcome,
                "reason": reason,
            }),
        )
    }
}

fn topic(device: &DeviceId) -> String {
    Downlink::Config.topic(device)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rumqttc::mqttbytes::v5::{PubAck, PubAckReason};

    use super::*;

    /// A box that was published to, one that was refused, and one unconfirmed.
    fn told(as_json: bool) -> (ExitCode, String) {
        let boxes = ["a", "b", "c"].map(|id| id.parse().unwrap());
        let mut sending = Sending::new(boxes.into(), Bytes::new());
        while sending.next().is_some() {}
        for (packet_id, reason) in [(1, PubAckReason::Success), (2, PubAckReason::NotAuthorized)] {
            let mut acknowledgement = PubAck::new(packet_id, None);
            acknowledgement.reason = reason;
            sending.acknowledged(&acknowledgement);
        }
        let report = Report {
            version: 7,
            as_json,
        };
        let mut out = Vec::new();
        let code = report.done(sending, None, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_box_is_told_of_and_one_that_is_not_confirmed_is_a_failure() {
        let (code, text) = told(false);
        assert_eq!(code, ExitCode::FAILURE);
        assert_eq!(
            text,
            "a: published\nb: the broker refused it: NotAuthorized\nc: unconfirmed\n"
        );
        let (code, text) = told(true);
        assert_eq!(code, ExitCode::FAILURE);
        let second: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        let expected = json!({
            "device": "b", "topic": "rp/v1/b/config", "version": 7,
            "outcome": "refused", "reason": "NotAuthorized",
        });
        assert_eq!(second, expected);
    }
}
