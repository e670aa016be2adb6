//! Milliseconds since 1970 as a date and time of the Gregorian calendar, UTC.

use alloc::{format, string::String};

const DAY_MS: i64 = 86_400_000;

/// As RFC 3339 has it, with milliseconds; `None` beyond the years 0 to 9999.
///
/// Counts in eras of 400 years that begin on 1 March, so that the leap day is
/// the last of its year.
pub(super) fn rfc3339(unix_ms: i64) -> Option<String> {
    let day_ms = unix_ms.rem_euclid(DAY_MS);
    // Days since 0000-03-01.
    let days = unix_ms.div_euclid(DAY_MS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March, of 153 days in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    if !(0..=9_999).contains(&year) {
        return None;
    }
    let (hour, minute) = (day_ms / 3_600_000, day_ms / 60_000 % 60);
    let (second, millisecond) = (day_ms / 1_000 % 60, day_ms % 1_000);
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z"
    ))
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates_follow_the_gregorian_calendar() {
        for (unix_ms, expected) in [
            (0, Some("1970-01-01T00:00:00.000Z")),
            (-1, Some("1969-12-31T23:59:59.999Z")),
            (951_782_400_000, Some("2000-02-29T00:00:00.000Z")),
            (4_107_542_399_999, Some("2100-02-28T23:59:59.999Z")),
            (4_107_542_400_000, Some("2100-03-01T00:00:00.000Z")),
            (1_763_728_496_789, Some("2025-11-21T12:34:56.789Z")),
            (253_402_300_799_999, Some("9999-12-31T23:59:59.999Z")),
            (253_402_300_800_000, None),
            (i64::MIN, None),
            (i64::MAX, None),
        ] {
            assert_eq!(rfc3339(unix_ms).as_deref(), expected, "{unix_ms}");
        }
    }
}
