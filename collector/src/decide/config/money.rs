//! Prices as people write them, to millionths without rounding.

use serde::{Deserialize, Deserializer, de};

/// Decimals that a millionth has.
const DECIMALS: usize = 6;

/// Digits before the point: a million for 1,000 impressions is no price.
const WHOLE_DIGITS_MAX: usize = 6;

/// Reads a price such as `"0.50"`: a text, because a TOML float is binary.
pub(super) fn micros<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        de::Error::custom(
            "must be a decimal number in quotes, as in \"0.50\", with at most 6 decimals",
        )
    })
}

fn parse(text: &str) -> Option<i64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, WHOLE_DIGITS_MAX) || !digits(decimals, DECIMALS) {
        return None;
    }
    format!("{whole}{decimals:0<DECIMALS$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_to_the_millionth_and_nothing_else_is() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1_000_000)),
            ("0.5", Some(500_000)),
            ("0.50", Some(500_000)),
            ("12.345678", Some(12_345_678)),
            ("999999.999999", Some(999_999_999_999)),
            ("007.10", Some(7_100_000)),
            ("", None),
            (".5", None),
            ("5.", None),
            ("1.2345678", None),
            ("1000000", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("1,5", None),
            (" 1", None),
            ("1.5.0", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
