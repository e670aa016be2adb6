//! The name of a collector among its peers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};

/// Names a collector: `[A-Za-z0-9_-]{1,64}`. Part of transactional ids and log
/// lines, so no two processes may share it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeId(String);

impl NodeId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if returnpath_shared::DeviceId::is_valid(text.as_bytes()) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be 1 to 64 of [A-Za-z0-9_-]")
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
