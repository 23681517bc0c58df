//! Where the agent's log goes: a line of JSON for each thing, by `tracing`.

use std::io::{self, Write};

use mesh_runtime::Error;

/// Writes the log of this process to what `sink` opens: time, level, message and what else is known, in one object.
///
/// # Errors
/// Where the process has a log already.
pub fn start<W: Write + 'static>(sink: impl Fn() -> W + Send + Sync + 'static) -> io::Result<()> {
    tracing::subscriber::set_global_default(subscriber(sink)).map_err(io::Error::other)
}

fn subscriber<W: Write + 'static>(
    sink: impl Fn() -> W + Send + Sync + 'static,
) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_writer(move || Sink(sink()))
        .finish()
}

/// Says what could not be done, and what may help.
pub(super) fn failed(message: &str, error: &Error) {
    tracing::error!(code = error.code(), error = %error, help = error.help(), "{message}");
}

/// What is wrong: a code, and what with. Words are no part of it: the time for which another command has held a lock
/// is in them.
pub(super) type Wrong = (&'static str, String);

/// What was said last, where a thing that stays wrong is said once.
#[derive(Debug, Default)]
pub(super) struct LastSaid(Option<Wrong>);

impl LastSaid {
    /// Whether this is something else. Nothing at all is no news, and makes news of what comes next.
    pub(super) fn is_news(&mut self, wrong: Option<Wrong>) -> bool {
        let is_news = wrong.is_some() && wrong != self.0;
        self.0 = wrong;
        is_news
    }

    /// The same of an error.
    pub(super) fn is_new_error(&mut self, error: Option<&Error>) -> bool {
        self.is_news(error.map(|error| (error.code(), about(error))))
    }
}

/// What an error is about, where its code alone does not tell two of them apart.
fn about(error: &Error) -> String {
    match error {
        Error::System(step) => format!("{} {} {:?}", step.call, step.object, step.errno()),
        Error::Ambiguous(found) => found.to_string(),
        Error::DamagedFile { file, .. } => file.display().to_string(),
        _ => String::new(),
    }
}

/// Escapes what a terminal would obey: names in the log are chosen by others.
struct Sink<W>(W);

impl<W: Write> Write for Sink<W> {
    /// Gets each line as a whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let mut escaped = mesh_bpf::text::json(text.trim_end_matches('\n').to_owned());
        escaped.push('\n');
        self.0.write_all(escaped.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use mesh_runtime::Holder;
    use mesh_runtime::system::{Process, SysError};
    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_object_whatever_is_in_it() {
        let kept = Kept::default();
        let sink = kept.clone();
        tracing::subscriber::with_default(subscriber(move || sink.clone()), || {
            tracing::warn!(pod = "a\n\u{9b}2J\u{202e}", generation = 7_u64, "something");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.is_ascii() && text.lines().count() == 1 && text.ends_with("}\n"), "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["generation", "level", "message", "pod", "timestamp"]);
        assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &"something".into()));
        assert_eq!((&line["pod"], &line["generation"]), (&"a\n\u{9b}2J\u{202e}".into(), &7.into()));
        let time = line["timestamp"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    }

    #[test]
    fn what_stays_wrong_is_said_once() {
        let mut said = LastSaid::default();
        let wrong = |code| Some((code, String::new()));
        let all = [None, wrong("a"), wrong("a"), wrong("b"), None, wrong("b")];
        assert_eq!(all.map(|it| said.is_news(it)), [false, true, false, true, false, true]);
    }

    #[test]
    fn a_lock_that_is_held_for_longer_is_no_news_and_another_file_is() {
        let holder =
            Holder { process: Process { pid: 7, start: 1 }, command: "meshc apply".into(), since: 1_000 };
        let held = |now| Error::Held { holder: Some(holder.clone()), now };
        assert_ne!(held(2_000).to_string(), held(9_000).to_string());
        let failed = |file: &str| SysError::new("writing", file, io::ErrorKind::StorageFull).into();
        let all = [held(2_000), held(9_000), failed("/a"), failed("/a"), failed("/b")];
        let mut said = LastSaid::default();
        assert_eq!(all.map(|error| said.is_new_error(Some(&error))), [true, false, true, false, true]);
    }
}
