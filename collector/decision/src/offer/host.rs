//! Which hosts creatives may come from.

use alloc::{
    format,
    string::{String, ToString as _},
};

use serde::{Deserialize, Deserializer, de};
use url::{Host, Url};

/// A host that creatives may come from: `cdn.example`, or `*.cdn.example` for
/// everything below it (itself not included), each with `:8443` for another
/// port than 443.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostRule {
    /// As URLs are written again: lower case, ASCII.
    host: String,
    /// Whether it is for what lies below `host`, rather than for `host`.
    is_below: bool,
    port: u16,
}

/// Where https is spoken unless the URL says otherwise.
const HTTPS_PORT: u16 = 443;

impl HostRule {
    /// Reads a rule; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, is_below) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (text, HTTPS_PORT),
        };
        let host = Host::parse(host).ok()?;
        if is_below && !matches!(host, Host::Domain(_)) {
            return None;
        }
        let host = host.to_string();
        let is_whole = !host.contains('*') && !host.is_empty();
        is_whole.then_some(Self {
            host,
            is_below,
            port,
        })
    }

    /// Whether the URL's host and port are allowed by it.
    pub fn allows(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else {
            return false;
        };
        let is_host = if self.is_below {
            let above = host.strip_suffix(self.host.as_str());
            above.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        is_host && url.port_or_known_default() == Some(self.port)
    }
}

impl<'de> Deserialize<'de> for HostRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "{text:?} is no host; expected cdn.example, *.cdn.example or cdn.example:8443"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_allows_its_host_on_its_port() {
        for (rule, url, expected) in [
            ("cdn.example", "https://cdn.example/a.mp4", true),
            ("cdn.example", "https://CDN.example:443/a.mp4", true),
            ("CDN.example", "https://cdn.example/a.mp4", true),
            ("cdn.example", "https://cdn.example:8443/a.mp4", false),
            ("cdn.example:8443", "https://cdn.example:8443/a", true),
            ("cdn.example:8443", "https://cdn.example/a", false),
            ("cdn.example", "https://a.cdn.example/", false),
            ("cdn.example", "https://cdn.example.evil.example/", false),
            ("cdn.example", "https://evil.example/cdn.example", false),
            ("cdn.example", "https://cdn.example@evil.example/", false),
            ("cdn.example", "https://evil.example\\@cdn.example/", false),
            ("*.cdn.example", "https://a.cdn.example/", true),
            ("*.cdn.example", "https://a.b.cdn.example/", true),
            ("*.cdn.example", "https://cdn.example/", false),
            ("*.cdn.example", "https://evilcdn.example/", false),
            ("bücher.example", "https://xn--bcher-kva.example/", true),
            ("127.0.0.1:8443", "https://127.0.0.1:8443/", true),
            ("127.0.0.1", "https://2130706433/", true),
            ("[::1]:8443", "https://[::1]:8443/", true),
            ("[::1]", "https://[0:0::1]/", true),
        ] {
            let parsed = HostRule::parse(rule).unwrap();
            let url = Url::parse(url).unwrap();
            assert_eq!(parsed.allows(&url), expected, "{rule} {url}");
        }
    }

    #[test]
    fn what_is_no_host_is_no_rule() {
        for text in [
            "",
            "*",
            "*.",
            "a*.example",
            "*.127.0.0.1",
            "cdn.example:",
            "cdn.example:x",
            "cdn.example:70000",
            "cdn.example/path",
            "https://cdn.example",
            "a b",
        ] {
            assert_eq!(HostRule::parse(text), None, "{text:?}");
        }
    }
}
