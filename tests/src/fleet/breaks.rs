//! When ad breaks air: a pure function of service and time, so that all boxes
//! on a channel see the same break.
//!
//! How much: what Ofcom's Code on the Scheduling of Television Advertising
//! (COSTA) allows on average. Public service channels 7 minutes an hour over
//! the day and 8 between 18:00 and 23:00, others 9 (of spots, without
//! teleshopping); in three breaks an hour.

use super::lineup::{Advertising, Service};
use super::moment::{HOUR_MS, MINUTE_MS, Moment, SECOND_MS};

/// Minutes into the hour at which breaks begin, before the shift of a channel.
const BREAK_MINUTES: [u64; 3] = [8, 26, 44];

/// Breaks of one channel lie up to this much later than those of another, so
/// that channels do not all break at once.
const SHIFT_MS_MAX: u64 = 9 * MINUTE_MS;

/// Slots of a break in seconds.
const PUBLIC_SERVICE_SLOTS_S: [u32; 5] = [30, 30, 30, 30, 20];
const PUBLIC_SERVICE_PEAK_SLOTS_S: [u32; 6] = [30, 30, 30, 30, 30, 10];
const COMMERCIAL_SLOTS_S: [u32; 6] = [30; 6];

/// A break on one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdBreak {
    /// When it begins.
    pub start: Moment,
    /// Length of each slot, in seconds.
    pub slots_s: &'static [u32],
    /// Counts the breaks of the channel since the first simulated midnight.
    pub number: u64,
}

impl AdBreak {
    /// Length of the whole break.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        self.slots_s.iter().map(|s| u64::from(*s) * SECOND_MS).sum()
    }
}

/// The first break on `service` that begins after `after`; `None` where no
/// break ever airs.
#[must_use]
pub fn next(service: &Service, after: Moment) -> Option<AdBreak> {
    if service.advertising == Advertising::None {
        return None;
    }
    // Service ids are spread unevenly; the multiplication mixes them.
    let shift_ms = u64::from(service.service_id).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let shift_ms = shift_ms % SHIFT_MS_MAX;
    let hour = after.0 / HOUR_MS;
    (hour..=hour + 1)
        .flat_map(|hour| (0..).zip(BREAK_MINUTES).map(move |at| (hour, at)))
        .map(|(hour, (place, minute))| {
            let start = Moment(hour * HOUR_MS + minute * MINUTE_MS + shift_ms);
            AdBreak {
                start,
                slots_s: slots_s(service.advertising, start),
                number: hour * BREAK_MINUTES.len() as u64 + place,
            }
        })
        .find(|ad_break| ad_break.start > after)
}

fn slots_s(advertising: Advertising, start: Moment) -> &'static [u32] {
    match advertising {
        Advertising::None => &[],
        Advertising::PublicService if (18..23).contains(&start.hour_of_day()) => {
            &PUBLIC_SERVICE_PEAK_SLOTS_S
        }
        Advertising::PublicService => &PUBLIC_SERVICE_SLOTS_S,
        Advertising::Commercial => &COMMERCIAL_SLOTS_S,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::lineup::ServiceKind;

    fn service(service_id: u16, advertising: Advertising) -> Service {
        Service {
            network_id: 64_257,
            service_id,
            name: "test".into(),
            kind: ServiceKind::Television,
            advertising,
        }
    }

    /// Minutes of advertising in each hour of a day.
    fn minutes_by_hour(service: &Service) -> [f64; 24] {
        let mut minutes = [0.0; 24];
        let mut after = Moment(0);
        while let Some(ad_break) = next(service, after) {
            if ad_break.start.0 >= 24 * HOUR_MS {
                break;
            }
            let seconds: u32 = ad_break.slots_s.iter().sum();
            minutes[usize::try_from(ad_break.start.hour_of_day()).unwrap()] +=
                f64::from(seconds) / 60.0;
            after = ad_break.start;
        }
        minutes
    }

    #[test]
    fn channels_show_as_much_advertising_as_the_code_allows_and_no_more() {
        for service_id in [4_164, 8_261, 12_928, 34_752] {
            let itv = minutes_by_hour(&service(service_id, Advertising::PublicService));
            for (hour, minutes) in itv.iter().enumerate() {
                let expected = if (18..23).contains(&hour) { 8.0 } else { 7.0 };
                assert!((minutes - expected).abs() < 0.01, "{hour}: {minutes}");
            }
            let other = minutes_by_hour(&service(service_id, Advertising::Commercial));
            assert!(other.iter().all(|minutes| (minutes - 9.0).abs() < 0.01));
        }
        assert_eq!(next(&service(4_164, Advertising::None), Moment(0)), None);
    }

    #[test]
    fn breaks_of_a_channel_do_not_touch_and_are_numbered_in_order() {
        for service_id in 0..500 {
            let service = service(service_id, Advertising::Commercial);
            let mut before = next(&service, Moment(0)).unwrap();
            for _ in 0..100 {
                let ad_break = next(&service, before.start).unwrap();
                assert!(before.start.0 + before.duration_ms() + MINUTE_MS < ad_break.start.0);
                assert_eq!(ad_break.number, before.number + 1);
                before = ad_break;
            }
        }
    }

    #[test]
    fn channels_break_at_different_times() {
        let starts: std::collections::BTreeSet<_> = (0..100)
            .filter_map(|id| next(&service(id * 64, Advertising::Commercial), Moment(0)))
            .map(|ad_break| ad_break.start)
            .collect();
        assert!(starts.len() > 90, "{}", starts.len());
    }
}
