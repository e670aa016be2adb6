//! From when on a topic is read, as people say it: an age, a time, or an
//! offset.

use std::{
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::kafka::Begin;

/// The accepted forms, for messages.
const EXPECTED: &str =
    "must be an age as in 90s, 15m, 2h or 1d, a time as in 2026-01-31T20:15:00Z, or offset:N";

/// A length of time, as given by the user: 90s, 15m, 2h or 1d.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Age(Duration);

impl Age {
    /// In milliseconds.
    #[must_use]
    pub fn ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Age {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        age(text)
            .map(Self)
            .ok_or("must be as in 90s, 15m, 2h or 1d")
    }
}

/// Where to begin, as given by the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// So long before the start of the command.
    Age(Duration),
    /// Milliseconds since 1970.
    UnixMs(i64),
    /// The same offset in each partition.
    Offset(i64),
}

impl Since {
    /// Where to begin when the command starts at `now`.
    #[must_use]
    pub fn start(self, now: SystemTime) -> Begin {
        match self {
            Self::Age(age) => {
                let since = now
                    .checked_sub(age)
                    .and_then(|since| since.duration_since(UNIX_EPOCH).ok())
                    .unwrap_or_default();
                Begin::UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Self::UnixMs(unix_ms) => Begin::UnixMs(unix_ms),
            Self::Offset(offset) => Begin::Offset(offset),
        }
    }
}

impl FromStr for Since {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(offset) = text.strip_prefix("offset:") {
            return match offset.parse() {
                Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
                Ok(_) | Err(_) => Err(EXPECTED),
            };
        }
        age(text)
            .map(Self::Age)
            .or_else(|| utc(text).map(Self::UnixMs))
            .ok_or(EXPECTED)
    }
}

fn age(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    digits(text.strip_suffix(unit)?)?
        .checked_mul(seconds)
        .map(Duration::from_secs)
}

fn digits(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// RFC 3339 in UTC, to the second.
fn utc(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut fields = [0; 6];
    let separated = date.split('-').chain(time.split(':'));
    let mut lengths = [4, 2, 2, 2, 2, 2].into_iter();
    let mut filled = fields.iter_mut();
    for part in separated {
        if part.len() != lengths.next()? {
            return None;
        }
        *filled.next()? = i64::try_from(digits(part)?).ok()?;
    }
    if filled.next().is_some() {
        return None;
    }
    let [year, month, day, hour, minute, second] = fields;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let good = (1970..=9999).contains(&year)
        && (1..=days_in_month).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    if !good {
        return None;
    }
    // Days from 1970-01-01 with years that begin in March, so that the leap day
    // comes last (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted_year = if month > 2 { year } else { year - 1 };
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_times_and_offsets_are_read() {
        for (text, expected) in [
            ("90s", Since::Age(Duration::from_secs(90))),
            ("15m", Since::Age(Duration::from_secs(900))),
            ("2h", Since::Age(Duration::from_secs(7_200))),
            ("1d", Since::Age(Duration::from_secs(86_400))),
            ("offset:12", Since::Offset(12)),
            ("1970-01-01T00:00:00Z", Since::UnixMs(0)),
            // As `date -u -d … +%s` prints them.
            ("2000-02-29T12:00:00Z", Since::UnixMs(951_825_600_000)),
            ("2026-01-31T20:15:00Z", Since::UnixMs(1_769_890_500_000)),
            ("2100-03-01T00:00:00Z", Since::UnixMs(4_107_542_400_000)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_forms_are_refused_with_what_is_accepted() {
        for text in [
            "",
            "s",
            "5",
            "-5m",
            "5w",
            "99999999999999999999d",
            "offset:-1",
            "offset:",
            "2026-02-29T00:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T20:15:00",
            "2026-01-31T20:15Z",
            "2026-01-31",
            "é",
        ] {
            assert_eq!(text.parse::<Since>(), Err(EXPECTED), "{text}");
        }
    }

    #[test]
    fn an_age_is_counted_from_the_start() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let start = Since::Age(Duration::from_secs(90)).start(now);
        assert_eq!(start, Begin::UnixMs(910_000));
        let before_1970 = Since::Age(Duration::from_secs(2_000)).start(now);
        assert_eq!(before_1970, Begin::UnixMs(0));
    }
}
