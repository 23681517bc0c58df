//! The one place that prints. What comes from outside is spelled out here where a terminal would obey it; what may hold
//! line breaks and is one word of a line, such as the name of a process, is spelled out where it is read.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use mesh_bpf::text;
use serde::Serialize;
use serde_json::{Map, Value};
use terminal_size::{Height, Width, terminal_size_of};

use crate::args::{ColorChoice, Format, Global};
use crate::failure::Failure;
use crate::github;
#[cfg(all(feature = "kernel", target_os = "linux"))]
use crate::tint::Color;
use crate::tint::Tint;
use crate::wrap::wrap;

/// How a command talks: answers go to standard output, everything else to standard error.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Text or JSON.
    pub format: Format,
    /// Whether messages are coloured.
    pub color: bool,
    /// Whether answers are.
    pub colors_answers: bool,
    /// Only errors are said.
    pub quiet: bool,
    /// More is said, where there is more.
    pub verbose: bool,
    /// Columns of what is shown of sources: those of the terminal, or what fits one.
    pub width: usize,
    /// Columns of the terminal that answers go to; none where they go elsewhere, in whole lines.
    pub columns: Option<usize>,
    /// The same of messages.
    pub message_columns: Option<usize>,
}

/// Text of an answer with colours. What is put into it is spelled out where a terminal would obey it, so that nothing
/// but the colours is obeyed.
#[derive(Debug)]
#[cfg_attr(
    not(all(feature = "kernel", target_os = "linux")),
    expect(dead_code, reason = "for commands that touch a kernel")
)]
pub struct Painted {
    text: String,
    is_colored: bool,
}

#[cfg(all(feature = "kernel", target_os = "linux"))]
impl Painted {
    /// Without colours, to be filled.
    pub const fn plain() -> Self {
        Self { text: String::new(), is_colored: false }
    }

    /// Adds text on one line.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(&text::one_line(text));
    }

    /// The same in a colour.
    pub fn paint(&mut self, color: Option<Color>, text: &str) {
        match color.filter(|_| self.is_colored) {
            Some(color) => self.text.push_str(&color.paint(&text::one_line(text))),
            None => self.push(text),
        }
    }

    /// Ends a line.
    pub fn end_line(&mut self) {
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
    }

    /// What a terminal gets.
    pub fn into_text(self) -> String {
        self.text
    }

    /// How many lines it has.
    pub fn lines(&self) -> usize {
        self.text.matches('\n').count()
    }
}

/// Where there is less room than that, lines are not wrapped for it.
const NARROWEST: usize = 40;

/// Version of every JSON answer.
const FORMAT: u32 = 1;

impl Output {
    /// As the user asked for it.
    pub fn new(global: &Global) -> Self {
        let is_colored = |terminal: bool| match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        let color = is_colored(io::stderr().is_terminal());
        let colors_answers = is_colored(io::stdout().is_terminal());
        let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let columns = |size: Option<(Width, Height)>, is_terminal: bool| {
            // Some terminals do not know how wide they are.
            let wide = size.map(|(Width(columns), _)| columns.into()).or(said).unwrap_or(80);
            is_terminal.then_some(wide.max(NARROWEST))
        };
        let message_columns = columns(terminal_size_of(io::stderr()), io::stderr().is_terminal());
        let columns = columns(terminal_size_of(io::stdout()), io::stdout().is_terminal());
        let width = message_columns.or(said).unwrap_or(100).clamp(60, 140);
        Self {
            format: global.format,
            color,
            colors_answers,
            quiet: global.quiet,
            verbose: global.verbose,
            width,
            columns,
            message_columns,
        }
    }

    /// For whoever gives no options: no colours, and nothing left out.
    #[cfg(feature = "node")]
    pub const fn plain() -> Self {
        Self {
            format: Format::Text,
            color: false,
            colors_answers: false,
            quiet: false,
            verbose: false,
            width: 100,
            columns: None,
            message_columns: None,
        }
    }

    /// Whether answers are JSON.
    pub const fn is_json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// Whether answers are text, and what is wrong is told to the runner of GitHub Actions too.
    pub const fn is_github(&self) -> bool {
        matches!(self.format, Format::Github)
    }

    /// An answer as text. A reader that has gone away is no error.
    #[expect(clippy::unused_self, reason = "printing goes through an Output, so that it can be found")]
    pub fn text(&self, text: &str) {
        let _ = io::stdout().lock().write_all(text::lines(text).as_bytes());
    }

    /// One of many answers, as soon as it is known; whether somebody still reads them.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn stream<T: Serialize>(&self, answer: &T, text: impl FnOnce() -> Painted) -> bool {
        let line = if self.is_json() { Self::line(answer) } else { text().text };
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_ok()
    }

    /// What is to be seen for now on a terminal, in the place of its last lines; whether somebody still reads it. What is
    /// wider than the terminal is cut, since what it wraps would be lines more.
    #[cfg(all(feature = "kernel", target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "printing goes through an Output, so that it can be found")]
    pub fn put_in_place(&self, lines: usize, text: &Painted) -> bool {
        let back = if lines == 0 { String::new() } else { format!("\x1b[{lines}A\x1b[J") };
        let put = format!("{back}\x1b[?7l{}\x1b[?7h", text.text);
        let mut out = io::stdout().lock();
        out.write_all(put.as_bytes()).and_then(|()| out.flush()).is_ok()
    }

    /// Columns and lines of the terminal that answers go to; `None` where they go elsewhere.
    #[cfg(all(feature = "kernel", target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "printing goes through an Output, so that it can be found")]
    pub fn screen(&self) -> Option<(usize, usize)> {
        let (Width(columns), Height(lines)) = terminal_size_of(io::stdout())?;
        Some((columns.into(), lines.into()))
    }

    /// Text of an answer, to be filled.
    #[cfg(all(feature = "kernel", target_os = "linux"))]
    pub const fn painted(&self) -> Painted {
        Painted { text: String::new(), is_colored: self.colors_answers }
    }

    /// An answer as JSON, in the common envelope.
    pub fn json<T: Serialize>(&self, answer: &T) {
        self.text(&Self::line(answer));
    }

    fn line<T: Serialize>(answer: &T) -> String {
        let mut envelope = Map::new();
        envelope.insert("format".into(), FORMAT.into());
        match serde_json::to_value(answer) {
            Ok(Value::Object(fields)) => envelope.extend(fields),
            Ok(other) => drop(envelope.insert("answer".into(), other)),
            Err(_) => {}
        }
        let mut line = text::json(Value::Object(envelope).to_string());
        line.push('\n');
        line
    }

    /// The answer, in the format that was asked for. What is wider than the terminal is wrapped.
    pub fn answer<T: Serialize>(&self, answer: &T, text: impl FnOnce() -> String) {
        if self.is_json() {
            self.json(answer);
        } else {
            self.text(&fitting(&text(), self.columns));
        }
    }

    /// The same of a text that is a file for others: its lines are as they are.
    pub fn document<T: Serialize>(&self, answer: &T, text: impl FnOnce() -> String) {
        if self.is_json() {
            self.json(answer);
        } else {
            self.text(&text());
        }
    }

    /// The same, and words or lines of the text stand out.
    pub fn tinted<T: Serialize>(&self, answer: &T, tint: Tint, text: impl FnOnce() -> String) {
        if self.is_json() {
            return self.json(answer);
        }
        self.text_tinted(tint, &text());
    }

    /// Text in which words or lines stand out. Lines of files are as they are; others fit the terminal.
    pub fn text_tinted(&self, tint: Tint, text: &str) {
        let text = match tint {
            Tint::Verdicts => fitting(text, self.columns),
            Tint::Difference => Cow::Borrowed(text),
        };
        if !self.colors_answers {
            return self.text(&text);
        }
        let shown = text::lines(&text);
        let lines = shown.split_inclusive('\n').map(|line| match line.strip_suffix('\n') {
            Some(line) => tint.line(line) + "\n",
            None => tint.line(line),
        });
        let _ = io::stdout().lock().write_all(lines.collect::<String>().as_bytes());
    }

    /// Something worth knowing that is not the answer.
    pub fn info(&self, text: &str) {
        if !self.quiet {
            self.print_error(text);
        }
    }

    /// Something that must be known.
    pub fn print_error(&self, text: &str) {
        self.put(&fitting(&text::lines(text), self.message_columns));
    }

    /// Several messages as [`render`](crate::render) coloured them, or none.
    pub fn print_diagnostics(&self, rendered: &str) {
        if !rendered.is_empty() {
            self.put(rendered);
        }
    }

    /// What a terminal may obey.
    #[expect(clippy::unused_self, reason = "printing goes through an Output, so that it can be found")]
    fn put(&self, text: &str) {
        let mut line = text.to_owned();
        if !line.ends_with('\n') {
            line.push('\n');
        }
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }

    /// A warning that has no place in the source.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn warn(&self, text: &str) {
        if !self.quiet {
            self.put(&self.labeled("33", "warning:", text));
        }
    }

    /// Why the command failed.
    pub fn failure(&self, failure: &Failure) {
        if self.is_json() {
            let Failure { code, message, help, .. } = failure;
            self.json(&serde_json::json!({ "error": { "code": code, "message": message, "help": help } }));
            return;
        }
        let mut text = self.labeled("31", "error:", &failure.message);
        if let Some(help) = &failure.help {
            text.push('\n');
            text.push_str(&self.labeled("36", "  help:", help));
        }
        self.put(&text);
        if self.is_github() {
            let help = failure.help.as_ref().map_or_else(String::new, |help| format!("\nhelp: {help}"));
            self.text(&github::command("error", None, failure.code, &format!("{}{help}", failure.message)));
        }
    }

    /// A message behind a coloured label.
    fn labeled(&self, color: &str, label: &str, text: &str) -> String {
        let line = format!("{label} {}", text::lines(text));
        let shown = fitting(&line, self.message_columns);
        let (indent, word) = label.split_at(label.len() - label.trim_start().len());
        match shown.strip_prefix(label).filter(|_| self.color) {
            Some(rest) => format!("{indent}\x1b[{color};1m{word}\x1b[0m{rest}"),
            None => shown.into_owned(),
        }
    }
}

/// Whole lines, or what fits so many columns. What a terminal would obey is spelled out before its width is taken.
fn fitting(text: &str, columns: Option<usize>) -> Cow<'_, str> {
    columns.map_or(Cow::Borrowed(text), |columns| Cow::Owned(wrap(&text::lines(text), columns)))
}
