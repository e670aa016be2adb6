//! Who advertises: one name for each, however aggregators write it.

use alloc::{
    format,
    string::{String, ToString as _},
};
use core::{fmt, str};

use psl::{List, Psl as _, Type};
use serde::{Deserialize, Deserializer, de};
use url::Host;

use super::DOMAIN_BYTES_MAX;

/// An advertiser, by the domain that it has registered: ASCII (RFC 5890
/// A-labels), lower case, without the root's dot. `shop.brand.co.uk` and
/// `www.brand.co.uk` are both `brand.co.uk`.
///
/// What can be registered is said by the Public Suffix List, as it was when
/// this was built. Below a name that somebody lets others use (`github.io`)
/// each has their own; that name itself is its owner's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Advertiser(String);

impl Advertiser {
    /// Reads any domain name of an advertiser; `None` when it is none, or one
    /// that nobody can register, such as `co.uk`.
    pub fn parse(text: &str) -> Option<Self> {
        let Ok(Host::Domain(name)) = Host::parse(text.trim()) else {
            return None;
        };
        let name = name.strip_suffix('.').unwrap_or(&name);
        let has_labels = name.contains('.') && name.split('.').all(is_label);
        if !has_labels || name.len() > DOMAIN_BYTES_MAX {
            return None;
        }
        let registered = match List.domain(name.as_bytes()) {
            Some(domain) => str::from_utf8(domain.as_bytes()).ok()?,
            None => {
                let suffix = List.suffix(name.as_bytes())?;
                (suffix.typ() == Some(Type::Private)).then_some(name)?
            }
        };
        Some(Self(registered.to_string()))
    }

    /// The domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `other`, or uses a name below that of `other`.
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

impl fmt::Display for Advertiser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Advertiser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "{text:?} is no domain that an advertiser can register, such as brand.example"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertiser_has_one_name() {
        for (text, expected) in [
            ("brand.example", Some("brand.example")),
            ("WWW.Brand.Example.", Some("brand.example")),
            (" brand.example ", Some("brand.example")),
            ("shop.brand.example", Some("brand.example")),
            ("brand.co.uk", Some("brand.co.uk")),
            ("www.brand.co.uk", Some("brand.co.uk")),
            ("a.b.shop.brand.co.uk", Some("brand.co.uk")),
            ("www.com", Some("www.com")),
            // Rules with an asterisk, and the exceptions to them.
            ("a.brand.fuso.ck", Some("brand.fuso.ck")),
            ("shop.www.ck", Some("www.ck")),
            // In either writing.
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("BÜCHER.example", Some("xn--bcher-kva.example")),
            ("shop.brand.公司.cn", Some("brand.xn--55qx5d.cn")),
            ("shop.brand.xn--55qx5d.cn", Some("brand.xn--55qx5d.cn")),
            // Names that their owners let others use.
            ("a.github.io", Some("a.github.io")),
            ("x.a.github.io", Some("a.github.io")),
            ("github.io", Some("github.io")),
            // What nobody can register.
            ("co.uk", None),
            ("com", None),
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
                Advertiser::parse(text).as_ref().map(Advertiser::as_str),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_name_holds_itself_and_what_others_use_below_it() {
        let github = Advertiser::parse("github.io").unwrap();
        for (text, expected) in [
            ("github.io", true),
            ("a.github.io", true),
            ("notgithub.io", false),
            ("github.com", false),
        ] {
            assert_eq!(
                Advertiser::parse(text).unwrap().is_within(&github),
                expected,
                "{text}"
            );
        }
    }
}
