//! The URL of a call. What an aggregator is asked at is mostly one place, and
//! only the query differs: that place is read and judged once.

use std::{net::IpAddr, sync::OnceLock};

use reqwest::Url;

use super::resolver::Private;

/// Where one aggregator was asked first.
#[derive(Debug, Default)]
pub(super) struct Target(OnceLock<Place>);

/// A URL without its query, and why nobody may be asked there, if so.
#[derive(Debug)]
struct Place {
    text: String,
    url: Result<Url, &'static str>,
}

impl Target {
    /// The URL as reqwest takes it, or why it is not asked for. Never repeats
    /// it: its query holds secrets.
    pub(super) fn url(&self, text: &str, private: Private) -> Result<Url, &'static str> {
        if text.contains('#') {
            // No URL of ours has a fragment.
            return read(text, private);
        }
        let (place, query) = match text.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (text, None),
        };
        let known = self.0.get_or_init(|| Place {
            text: place.to_owned(),
            url: read(place, private),
        });
        if known.text != place {
            return read(text, private);
        }
        let mut url = known.url.clone()?;
        url.set_query(query);
        Ok(url)
    }
}

fn read(text: &str, private: Private) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "the URL cannot be read")?;
    if url.scheme() != "https" {
        return Err("only https is spoken");
    }
    // The resolver does not see addresses.
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').unwrap_or(host);
    let host = host.strip_suffix(']').unwrap_or(host);
    if let Ok(address) = host.parse::<IpAddr>()
        && !private.admits(address)
    {
        return Err("its address is not public");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_reads_like_what_is_read_anew() {
        let texts = [
            "https://ads.example/v1/ads?key=a%20b&seconds=30",
            "https://ads.example/v1/ads?key=\"<ü>'&",
            "https://ads.example/v1/ads?",
            "https://ads.example/v1/ads",
            "https://ads.example/v1/ads?a?b",
            "https://ads.example/v1/ads?a#b",
            "https://ads.example/v1/ads#b",
            "https://other.example/v1/ads?key=a",
            "http://ads.example/v1/ads?key=a",
            "https://127.0.0.1/v1/ads?key=a",
            "https://[::1]/v1/ads",
            "https:// /",
        ];
        for first in texts {
            let target = Target::default();
            let _ = target.url(first, Private::Refused);
            for text in texts {
                assert_eq!(
                    target.url(text, Private::Refused),
                    read(text, Private::Refused),
                    "{text} after {first}"
                );
            }
        }
    }
}
