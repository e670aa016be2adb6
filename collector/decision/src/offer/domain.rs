//! Domain names as advertisers are known by: one form for each.

use alloc::{
    format,
    string::{String, ToString as _},
};
use core::fmt;

use serde::{Deserialize, Deserializer, de};
use url::Host;

use super::DOMAIN_BYTES_MAX;

/// A domain name in its one form: ASCII (RFC 5890 A-labels), lower case,
/// without a leading `www.` and without the root's dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Domain(String);

impl Domain {
    /// Reads a domain name in any form; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let Ok(Host::Domain(name)) = Host::parse(text.trim()) else {
            return None;
        };
        let name = name.strip_suffix('.').unwrap_or(&name);
        let name = match name.strip_prefix("www.") {
            // `www.com` is a name of its own.
            Some(rest) if rest.contains('.') => rest,
            _ => name,
        };
        let has_labels = name.contains('.') && name.split('.').all(is_label);
        (has_labels && name.len() <= DOMAIN_BYTES_MAX).then(|| Self(name.to_string()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `other` or lies below it.
    pub fn is_within(&self, other: &Self) -> bool {
        let above = self.0.strip_suffix(&other.0);
        above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

/// URLs carry hosts that no registry gives out; advertisers are registered.
fn is_label(label: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(is_good)
}

impl fmt::Display for Domain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!("{text:?} is no domain name such as brand.example"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Domain;

    #[test]
    fn a_domain_has_one_form() {
        for (text, expected) in [
            ("brand.example", Some("brand.example")),
            ("WWW.Brand.Example.", Some("brand.example")),
            (" brand.example ", Some("brand.example")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("BÜCHER.example", Some("xn--bcher-kva.example")),
            ("www.com", Some("www.com")),
            ("shop.brand.example", Some("shop.brand.example")),
            ("localhost", None),
            ("", None),
            ("ACME Corp", None),
            ("https://brand.example/", None),
            ("192.0.2.1", None),
            ("[::1]", None),
            ("brand..example", None),
            ("brand.example:443", None),
        ] {
            assert_eq!(
                Domain::parse(text).as_ref().map(Domain::as_str),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_domain_holds_itself_and_what_lies_below() {
        let brand = Domain::parse("brand.example").unwrap();
        for (text, expected) in [
            ("brand.example", true),
            ("shop.brand.example", true),
            ("notbrand.example", false),
            ("example.net", false),
        ] {
            assert_eq!(
                Domain::parse(text).unwrap().is_within(&brand),
                expected,
                "{text}"
            );
        }
    }
}
