//! From calendar time to moments: what a cron expression means where clocks are put forward and back.

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

use super::cron::Cron;

/// The first moment after `after`.
///
/// Between two changes of the clocks, calendar time runs with the moments, so each such stretch is searched by its calendar. At a
/// change, a rhythm goes on by the time that passes. A time of the day comes once: what falls into skipped time comes at its end,
/// what falls into repeated time comes the first time only.
pub(super) fn next(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut from = whole_second_after(after)?;
    let mut civil = if cron.is_rhythm() { local(zone, from) } else { unrepeated(zone, from) };
    loop {
        let offset = zone.to_offset(from);
        let change = zone.following(from).next().map(|c| c.timestamp());
        let found = cron.from(civil)?;
        let moment = offset.to_timestamp(found).ok()?;
        let Some(change) = change.filter(|change| *change <= moment) else { return Some(moment) };
        let (before, behind) = (offset.to_datetime(change), local(zone, change));
        if !cron.is_rhythm() && behind > before && found < behind {
            return Some(change);
        }
        civil = if cron.is_rhythm() { behind } else { behind.max(before) };
        from = change;
    }
}

fn local(zone: &TimeZone, at: Timestamp) -> DateTime {
    zone.to_offset(at).to_datetime(at)
}

/// The calendar time from which on nothing has been before: behind a repeated hour, its end.
fn unrepeated(zone: &TimeZone, at: Timestamp) -> DateTime {
    let here = local(zone, at);
    // `preceding` looks strictly before.
    let Some(last) = at.checked_add(SignedDuration::from_nanos(1)).ok().and_then(|t| zone.preceding(t).next()) else { return here };
    let Ok(before) = last.timestamp().checked_sub(SignedDuration::from_nanos(1)) else { return here };
    here.max(zone.to_offset(before).to_datetime(last.timestamp()))
}

fn whole_second_after(at: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(at.as_nanosecond().div_euclid(1_000_000_000).try_into().ok()?)
        .ok()?
        .checked_add(SignedDuration::from_secs(1))
        .ok()
}

#[cfg(test)]
mod tests {
    use linkspan_core::time_zone;

    use super::*;

    fn runs(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (cron, zone): (Cron, _) = (cron.parse().unwrap(), time_zone(zone).unwrap());
        let mut at: Timestamp = after.parse().unwrap();
        (0..count)
            .map(|_| {
                at = next(&cron, &zone, at).unwrap();
                at.to_string()
            })
            .collect()
    }

    #[test]
    fn a_time_of_the_day_that_is_skipped_comes_when_the_skipped_hour_ends() {
        // Berlin goes from 02:00 to 03:00 on 2026-03-29 at 01:00Z.
        assert_eq!(
            runs("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            runs("0,30 2,3 * * *", "Europe/Berlin", "2026-03-28T20:00:00Z", 3),
            ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"],
            "two skipped ones and the one at three are one"
        );
    }

    #[test]
    fn a_time_of_the_day_that_is_repeated_comes_once() {
        // Berlin goes from 03:00 back to 02:00 on 2026-10-25 at 01:00Z.
        let expected = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
        assert_eq!(runs("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 3), expected);
        assert_eq!(runs("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), [expected[2]], "asked inside the repeated hour");
        assert_eq!(runs("0 3 * * *", "Europe/Berlin", "2026-10-24T23:00:00Z", 1), ["2026-10-25T02:00:00Z"]);
    }

    #[test]
    fn a_rhythm_follows_the_time_that_passes() {
        let forward = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
        assert_eq!(runs("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3), forward);
        let back = ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"];
        assert_eq!(runs("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 4), back);
    }

    #[test]
    fn half_hour_changes_and_skipped_days_are_handled_alike() {
        // Lord Howe: half an hour forward at 02:00 on 2026-10-04, at 15:30Z of the day before.
        assert_eq!(runs("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 1), ["2026-10-03T15:30:00Z"]);
        // Samoa had no 2011-12-30 at all; what was due then came when that day ended.
        assert_eq!(
            runs("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3),
            ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]
        );
    }

    #[test]
    fn every_run_of_a_decade_is_later_than_the_one_before_and_no_day_is_left_out() {
        for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Africa/Casablanca"] {
            let tz = time_zone(zone).unwrap();
            let cron: Cron = "30 2 * * *".parse().unwrap();
            let (mut at, mut days): (Timestamp, _) = ("2020-01-01T12:00:00Z".parse().unwrap(), 0);
            let end: Timestamp = "2030-01-01T12:00:00Z".parse().unwrap();
            while at < end {
                let then = next(&cron, &tz, at).unwrap();
                let hours = then.duration_since(at).as_hours();
                assert!(days == 0 || (22..=25).contains(&hours), "{zone}: {at} {then}");
                (at, days) = (then, days + i32::from(then <= end));
            }
            assert_eq!(days, 3653, "{zone}");
        }
    }
}
