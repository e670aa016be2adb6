//! MQTT topics: print and parse. The device in them is what the broker's
//! access control ties to the client certificate.

use std::fmt;

use thiserror::Error;

use crate::id::{DeviceId, IdError};

/// What a collector subscribes to, behind its `$share/{group}/`.
pub const UPLINK_FILTER: &str = "rp/v1/+/events/+";

const PREFIX: &str = "rp/v1/";

/// The two ways up: what happens now, and what waited out an outage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Sent as it was built.
    Live,
    /// Held over an outage; drained at a bounded share.
    Backlog,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Self; 2] = [Self::Live, Self::Backlog];

    /// As it stands in the topic.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backlog => "backlog",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where a box publishes its envelopes: `rp/v1/{device}/events/{lane}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uplink {
    /// The box.
    pub device: DeviceId,
    /// The lane.
    pub lane: Lane,
}

/// Why a topic is not one of ours.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TopicError {
    /// Not `rp/v1/{device}/events/{live|backlog}`.
    #[error("topic must be rp/v1/{{device}}/events/live or …/backlog")]
    Shape,
    /// The device part is no device id.
    #[error("device part of the topic is wrong")]
    Device(#[source] IdError),
}

impl Uplink {
    /// Reads a topic.
    ///
    /// # Errors
    /// Says whether its shape or its device is wrong.
    pub fn parse(topic: &str) -> Result<Self, TopicError> {
        let rest = topic.strip_prefix(PREFIX).ok_or(TopicError::Shape)?;
        let (device, rest) = rest.split_once('/').ok_or(TopicError::Shape)?;
        let lane = match rest {
            "events/live" => Lane::Live,
            "events/backlog" => Lane::Backlog,
            _ => return Err(TopicError::Shape),
        };
        Ok(Self {
            device: device.parse().map_err(TopicError::Device)?,
            lane,
        })
    }
}

impl fmt::Display for Uplink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}/events/{}", self.device, self.lane)
    }
}

/// Where the cloud answers a box: `rp/v1/{device}/{receipts,decisions,config}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Downlink {
    /// Receipts for batches.
    Receipts,
    /// Signed decisions.
    Decisions,
    /// Signed configuration, retained.
    Config,
}

impl Downlink {
    /// The topic for one box.
    #[must_use]
    pub fn topic(self, device: &DeviceId) -> String {
        let name = match self {
            Self::Receipts => "receipts",
            Self::Decisions => "decisions",
            Self::Config => "config",
        };
        format!("{PREFIX}{device}/{name}")
    }
}

/// Where a box, or the broker for it, says whether it is connected:
/// `rp/v1/{device}/presence`, retained.
#[must_use]
pub fn presence_topic(device: &DeviceId) -> String {
    format!("{PREFIX}{device}/presence")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uplink_topics_print_and_parse() {
        for lane in Lane::ALL {
            let topic = Uplink {
                device: "box-1".parse().unwrap(),
                lane,
            };
            assert_eq!(Uplink::parse(&topic.to_string()).unwrap(), topic);
        }
    }

    #[test]
    fn presence_is_beside_the_events_and_not_one_of_them() {
        let topic = presence_topic(&"box-1".parse().unwrap());
        assert_eq!(topic, "rp/v1/box-1/presence");
        assert_eq!(Uplink::parse(&topic), Err(TopicError::Shape));
    }

    #[test]
    fn other_topics_are_refused() {
        for topic in [
            "",
            "rp/v1/box",
            "rp/v1/box/events",
            "rp/v1/box/events/other",
            "rp/v1/box/events/live/",
            "rp/v2/box/events/live",
            "/rp/v1/box/events/live",
            "rp/v1/b/x/events/live",
        ] {
            assert_eq!(Uplink::parse(topic), Err(TopicError::Shape), "{topic}");
        }
        assert!(matches!(
            Uplink::parse("rp/v1//events/live"),
            Err(TopicError::Device(_))
        ));
    }
}
