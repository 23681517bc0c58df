//! Times: as RFC 3339 has them, in UTC, for scripts and records; in the local time zone for people who look at them.

use std::time::{Duration, UNIX_EPOCH};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// Milliseconds since 1970, to the second.
pub fn seconds(milliseconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(milliseconds)).to_string()
}

/// Microseconds since 1970, all of them.
pub fn micros(microseconds: u64) -> String {
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_micros(microseconds)).to_string()
}

/// How long ago something was, in the largest unit that it fills.
pub fn ago(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// A time zone.
#[derive(Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// That of `TZ`, or else the system's; UTC where neither says one that is known.
    pub fn local() -> Self {
        Self(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }

    fn at(&self, microseconds: u64) -> ZonedDateTime {
        let microseconds = i64::try_from(microseconds).unwrap_or(i64::MAX);
        Timestamp::from_microsecond(microseconds).unwrap_or_default().to_zoned_datetime(self.0.clone())
    }

    /// How far it is ahead of UTC at a moment, in microseconds since 1970: `+01:00`.
    pub fn offset(&self, microseconds: u64) -> String {
        self.at(microseconds).strftime("%:z").to_string()
    }

    /// What it is called, and how far it is ahead of UTC.
    pub fn name(&self, microseconds: u64) -> String {
        let offset = self.offset(microseconds);
        match self.0.iana_name() {
            Some("UTC" | "Etc/UTC") => "UTC".into(),
            Some(name) => format!("{name} ({offset})"),
            None => format!("UTC{offset}"),
        }
    }

    /// The time of the day, to the millisecond; before it the date, where that is wanted.
    pub fn clock(&self, microseconds: u64, dated: bool) -> String {
        let format = if dated { "%m-%d %H:%M:%S%.3f" } else { "%H:%M:%S%.3f" };
        self.at(microseconds).strftime(format).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_it_was_is_told_in_one_unit() {
        for (seconds, text) in [
            (0, "0 s ago"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (3_599, "59 min ago"),
            (3_600, "1 h ago"),
            (172_799, "47 h ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(ago(seconds * 1000 + 999), text);
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        // As `date -u -d @N` says.
        for (at, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_709_251_200, "2024-03-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(micros(at * 1_000_000 + 42), format!("{text}.000042Z"));
            assert_eq!(seconds(at * 1_000 + 999), format!("{text}Z"));
        }
    }

    #[test]
    fn a_zone_is_told_with_its_offset_at_that_moment() {
        let (winter, summer) = (1_767_225_600_123_456, 1_782_864_000_000_000);
        let berlin = Zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        assert_eq!((berlin.offset(winter), berlin.offset(summer)), ("+01:00".into(), "+02:00".into()));
        assert_eq!(berlin.name(winter), "UTC+01:00");
        assert_eq!(berlin.clock(winter, false), "01:00:00.123");
        assert_eq!(berlin.clock(winter, true), "01-01 01:00:00.123");
        assert_eq!(berlin.clock(summer, false), "02:00:00.000");
        assert_eq!(Zone(TimeZone::UTC).name(winter), "UTC");
    }
}
