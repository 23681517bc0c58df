//! Times as RFC 3339 has them, in UTC.

use std::time::{Duration, UNIX_EPOCH};

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

#[cfg(test)]
mod tests {
    use super::{ago, micros, seconds};

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
}
