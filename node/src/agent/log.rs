//! What the agent does, a line of JSON for each thing.

use std::fmt;
use std::io::Write;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It was done.
    Info,
    /// Somebody should look.
    Warning,
    /// It could not be done.
    Error,
}

/// Where lines go.
pub struct Log(Mutex<Box<dyn Write + Send>>);

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// A log that is written to `sink`.
    pub fn new(sink: impl Write + Send + 'static) -> Self {
        Self(Mutex::new(Box::new(sink)))
    }

    /// Something that was done.
    pub fn info(&self, message: &str, fields: Value) {
        self.write(Level::Info, message, fields);
    }

    /// Something that somebody should look at.
    pub fn warn(&self, message: &str, fields: Value) {
        self.write(Level::Warning, message, fields);
    }

    /// Something that could not be done.
    pub fn error(&self, message: &str, fields: Value) {
        self.write(Level::Error, message, fields);
    }

    fn write(&self, level: Level, message: &str, fields: Value) {
        let level = match level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let mut line = Map::new();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        line.insert("time".into(), time(since.as_secs(), since.subsec_millis()).into());
        line.insert("level".into(), level.into());
        line.insert("message".into(), message.into());
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        let mut text = mesh_bpf::text::json(Value::Object(line).to_string());
        text.push('\n');
        // A log that nobody reads is no reason to stop.
        let Ok(mut sink) = self.0.lock() else { return };
        let _ = sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
    }
}

/// `2026-01-31T12:34:56.789Z`, from seconds since 1970 in the calendar that knows no leap seconds.
fn time(seconds: u64, milliseconds: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that a leap day is the last of its year; eras have 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(seconds, 0), expected);
        }
    }
}
