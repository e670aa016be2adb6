//! Where an MQTT broker is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};

/// Address of an MQTT broker: `host:port`. The host is what its certificate
/// must name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Broker {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be \"host:port\", as in \"mqtt-1.example.net:8883\"";
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let host = host
            .strip_prefix('[')
            .map_or(Some(host), |host| host.strip_suffix(']'))
            .ok_or(FORM)?;
        let port = port.parse().map_err(|_| FORM)?;
        if host.is_empty() || host.contains(['/', ' ']) || port == 0 {
            return Err(FORM);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

impl<'de> Deserialize<'de> for Broker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_addresses_are_host_and_port() {
        for (text, host) in [("mqtt-1:8883", "mqtt-1"), ("[::1]:8883", "::1")] {
            let broker: Broker = text.parse().unwrap();
            assert_eq!((broker.host.as_str(), broker.port), (host, 8883));
            assert_eq!(broker.to_string(), text);
        }
        for wrong in [
            "mqtt-1",
            ":8883",
            "mqtt-1:0",
            "mqtt-1:x",
            "[::1:8883",
            "mqtts://a:1",
        ] {
            assert!(wrong.parse::<Broker>().is_err(), "{wrong}");
        }
    }
}
