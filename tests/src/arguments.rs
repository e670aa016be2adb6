//! Values on the command lines of this crate's programs.

use std::time::Duration;

use crate::fleet::moment::Moment;

/// Reads a time with its unit: `90s`, `5m` or `1h`.
///
/// # Errors
/// Says which form is expected.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a time as in 90s, 5m or 1h, got {text:?}");
    let (count, unit_s) = [("s", 1), ("m", 60), ("h", 3_600)]
        .into_iter()
        .find_map(|(unit, unit_s)| Some((text.strip_suffix(unit)?, unit_s)))
        .ok_or_else(expected)?;
    let count: u32 = count.parse().map_err(|_| expected())?;
    Ok(Duration::from_secs(u64::from(count) * unit_s))
}

/// Reads a time of day, `HH:MM`.
///
/// # Errors
/// Says which form is expected.
pub fn parse_moment(text: &str) -> Result<Moment, String> {
    Moment::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_time("1h"), Ok(Duration::from_secs(3_600)));
        for bad in ["", "s", "60", "-1s", "1.5s", "1d", "99999999999s", "6 s"] {
            assert!(parse_time(bad).is_err(), "{bad:?}");
        }
    }
}
