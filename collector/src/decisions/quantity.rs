//! Times, spans and prices as people read them.

use std::fmt::Write as _;

const MS_PER_DAY: i64 = 86_400_000;

/// A moment in UTC, to the millisecond: `2026-11-21 12:35:07.123`.
#[must_use]
pub fn moment(unix_ms: i64) -> String {
    let (year, month, day) = date(unix_ms.div_euclid(MS_PER_DAY));
    format!("{year:04}-{month:02}-{day:02} {}", time_of_day(unix_ms))
}

/// The time of day in UTC, to the millisecond: `12:35:07.123`.
#[must_use]
pub fn time_of_day(unix_ms: i64) -> String {
    let ms = unix_ms.rem_euclid(MS_PER_DAY);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1_000 % 60, ms % 1_000);
    format!("{hour:02}:{minute:02}:{second:02}.{ms:03}")
}

/// Year, month and day of a day counted from 1970-01-01, with years that begin
/// in March, so that the leap day comes last (H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
fn date(day: i64) -> (i64, i64, i64) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01; 146,097 make 400 years.
    let day = day + 719_468;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// A span of up to minutes, as latencies and ads have it: `850 us`, `52.1 ms`,
/// `30 s`, `2 min 5 s`.
#[must_use]
pub fn span_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => {
            let (ms, tenth) = (us / 1_000, us / 100 % 10);
            if tenth == 0 {
                format!("{ms} ms")
            } else {
                format!("{ms}.{tenth} ms")
            }
        }
        _ => span_ms(us / 1_000),
    }
}

/// A span, its two largest units: `5 ms`, `30 s`, `1.25 s`, `12 min 3 s`,
/// `2 h 5 min`, `3 d`.
#[must_use]
pub fn span_ms(ms: u64) -> String {
    if ms < 1_000 {
        return format!("{ms} ms");
    }
    let s = ms / 1_000;
    if s < 60 {
        let fraction = format!("{:03}", ms % 1_000);
        let fraction = fraction.trim_end_matches('0');
        return if fraction.is_empty() {
            format!("{s} s")
        } else {
            format!("{s}.{fraction} s")
        };
    }
    let (large, small, units) = match s {
        0..3_600 => (s / 60, s % 60, ["min", "s"]),
        3_600..86_400 => (s / 3_600, s / 60 % 60, ["h", "min"]),
        _ => (s / 86_400, s / 3_600 % 24, ["d", "h"]),
    };
    let mut text = format!("{large} {}", units[0]);
    if small > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, " {small} {}", units[1]);
    }
    text
}

/// What lies between two moments, with its sign: `+8 ms`, `-1.5 s`.
#[must_use]
pub fn difference_ms(from_unix_ms: i64, to_unix_ms: i64) -> String {
    let sign = if to_unix_ms < from_unix_ms { '-' } else { '+' };
    format!("{sign}{}", span_ms(to_unix_ms.abs_diff(from_unix_ms)))
}

/// Where one moment lies from another: `4 s after`, `250 ms before`.
#[must_use]
pub fn distance_ms(from_ms: u64, to_ms: u64) -> String {
    let side = if to_ms < from_ms { "before" } else { "after" };
    format!("{} {side}", span_ms(to_ms.abs_diff(from_ms)))
}

/// A price for 1,000 impressions: `7.25 EUR`, `0.001 EUR`.
#[must_use]
pub fn price(micros: i64, currency: &str) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let (units, mut fraction) = (micros / 1_000_000, format!("{:06}", micros % 1_000_000));
    while fraction.len() > 2 && fraction.ends_with('0') {
        fraction.pop();
    }
    let space = if currency.is_empty() { "" } else { " " };
    format!("{sign}{units}.{fraction}{space}{currency}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_printed_in_utc() {
        // As `date -u -d @… "+%F %T"` prints them.
        for (unix_ms, expected) in [
            (0, "1970-01-01 00:00:00.000"),
            (951_825_600_007, "2000-02-29 12:00:00.007"),
            (1_769_890_500_123, "2026-01-31 20:15:00.123"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000"),
            (-1, "1969-12-31 23:59:59.999"),
            (i64::MAX, "292278994-08-17 07:12:55.807"),
        ] {
            assert_eq!(moment(unix_ms), expected, "{unix_ms}");
        }
    }

    #[test]
    fn spans_have_at_most_two_units() {
        for (ms, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_250, "1.25 s"),
            (59_999, "59.999 s"),
            (60_000, "1 min"),
            (723_900, "12 min 3 s"),
            (7_500_000, "2 h 5 min"),
            (259_200_000, "3 d"),
            (360_000_000, "4 d 4 h"),
        ] {
            assert_eq!(span_ms(ms), expected);
        }
        for (us, expected) in [
            (0, "0 us"),
            (850, "850 us"),
            (52_149, "52.1 ms"),
            (52_000, "52 ms"),
            (30_000_000, "30 s"),
        ] {
            assert_eq!(span_us(us), expected);
        }
        assert_eq!(difference_ms(10, 18), "+8 ms");
        assert_eq!(difference_ms(2_000, 500), "-1.5 s");
        assert_eq!(distance_ms(2_000, 500), "1.5 s before");
        assert_eq!(distance_ms(500, 2_000), "1.5 s after");
        assert_eq!(
            difference_ms(i64::MIN, i64::MAX),
            format!("+{}", span_ms(u64::MAX))
        );
    }

    #[test]
    fn prices_keep_their_fraction() {
        for (micros, expected) in [
            (7_250_000, "7.25 EUR"),
            (7_000_000, "7.00 EUR"),
            (1, "0.000001 EUR"),
            (1_234_500, "1.2345 EUR"),
            (-500_000, "-0.50 EUR"),
        ] {
            assert_eq!(price(micros, "EUR"), expected);
        }
        assert_eq!(price(1_000_000, ""), "1.00");
    }
}
