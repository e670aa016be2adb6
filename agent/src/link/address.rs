//! Where brokers are: `host:port`, in the order of trying.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Port of MQTT over TLS (IANA `secure-mqtt`).
const PORT: u16 = 8_883;

/// A broker's name or IP address, and its port. The name is what the broker's
/// certificate must say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerAddress {
    /// DNS name or IP address; an IPv6 one without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Not `host`, `host:port` or `[ipv6]:port`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("must be host, host:port or [ipv6]:port")]
pub struct AddressError;

impl FromStr for BrokerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(AddressError)?,
            None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_not_a_port| AddressError)?,
            None if port.is_empty() => PORT,
            None => return Err(AddressError),
        };
        let named = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'));
        if !named || port == 0 {
            return Err(AddressError);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_and_parse() {
        for (text, printed) in [
            ("broker.example", "broker.example:8883"),
            ("broker.example:1", "broker.example:1"),
            ("10.0.0.1:8883", "10.0.0.1:8883"),
            ("[::1]:9", "[::1]:9"),
            ("[::1]", "[::1]:8883"),
        ] {
            let address: BrokerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
        }
        for bad in [
            "", ":1", "a:", "a:0", "a:65536", "a:b", "[::1", "[::1]9", "::1", "a b", "a/b",
        ] {
            assert!(bad.parse::<BrokerAddress>().is_err(), "{bad:?}");
        }
    }
}
