//! Cuts a file into statements.
//!
//! It does not look at what a statement says. It knows strings, comments, brackets, braces and the
//! rules by which a statement goes on in the next line, and it finds the characters that may stand
//! nowhere.

use crate::statement::begins_statement;

/// How many faults of one file are kept one by one. A file of ten million control characters is
/// one mistake made often; the rest is counted, so that nothing is silent.
const KEPT_FAULTS: usize = 1000;

/// A part of the text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Extent {
    /// The text that it covers.
    #[must_use]
    pub fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// A file, cut.
#[derive(Debug, Default)]
pub struct Scan {
    /// Statements and braces, in order.
    pub pieces: Vec<Piece>,
    /// Comments, in order.
    pub comments: Vec<Comment>,
    /// What is wrong with the characters themselves, in order.
    pub faults: Vec<Fault>,
    /// How many more faults there are than were kept.
    pub more_faults: usize,
}

/// One step through the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole statement, from its first token to its last.
    Statement(Extent),
    /// What stands before a `{`; empty where nothing does.
    Head {
        /// From the first token to the last.
        extent: Extent,
        /// Where the `{` is.
        brace: u32,
    },
    /// A `}`.
    Close(u32),
}

/// From `#` to the end of the line, without the newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Where it is, with the `#`.
    pub extent: Extent,
    /// Whether nothing else stands on its line.
    pub alone: bool,
}

/// Something that no statement may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where. Neighbours of one kind are one fault.
    pub extent: Extent,
    /// What.
    pub kind: FaultKind,
}

/// What a [`Fault`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A control character other than tab and newline; a carriage return that ends no line.
    Control(char),
    /// A character that changes the direction in which text is shown, so that a reviewer may see
    /// something else than the compiler does.
    Bidirectional(char),
    /// A character that a word processor put in the place of an ASCII one.
    Typographic {
        /// What stands there.
        found: char,
        /// What kind of character it is: `dash`, `arrow`, `quote` or `space`.
        what: &'static str,
        /// What to write instead.
        write: &'static str,
    },
    /// A string without its second quote; the extent goes to the end of the line.
    UnclosedString,
    /// A `[` without its `]`.
    UnclosedBracket,
}

/// Cuts `text` into statements. A byte order mark at the start is skipped.
///
/// The text must be shorter than 4 GiB; what lies beyond is not looked at, and the caller refuses
/// such files before.
#[must_use]
pub fn scan(text: &str) -> Scan {
    let mut scanner = Scanner::new(text);
    if text.starts_with('\u{feff}') {
        scanner.at = '\u{feff}'.len_utf8();
    }
    scanner.run();
    scanner.scan
}

struct Scanner<'i> {
    text: &'i str,
    bytes: &'i [u8],
    at: usize,
    /// The first byte of the statement that is open, if one is.
    start: Option<usize>,
    /// The byte after its last token.
    end: usize,
    /// How many brackets are open, and where the first is.
    brackets: usize,
    bracket_at: usize,
    /// Whether a newline lies between the last token and `at`.
    newline: bool,
    /// Whether a token stands on the line of `at`.
    token_on_line: bool,
    scan: Scan,
}

impl<'i> Scanner<'i> {
    fn new(text: &'i str) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            start: None,
            end: 0,
            brackets: 0,
            bracket_at: 0,
            newline: false,
            token_on_line: false,
            scan: Scan::default(),
        }
    }

    fn run(&mut self) {
        while let Some(byte) = self.byte(0) {
            match byte {
                b' ' | b'\t' => self.at += 1,
                b'\r' if self.byte(1) == Some(b'\n') => self.at += 1,
                b'\n' => {
                    self.at += 1;
                    self.newline = true;
                    self.token_on_line = false;
                }
                b'#' => self.comment(),
                _ => self.token(byte),
            }
        }
        self.close_brackets();
        self.finish();
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn comment(&mut self) {
        let start = self.at;
        self.raw(|byte| byte == b'\n');
        let mut end = self.at;
        if end > start && self.bytes.get(end - 1) == Some(&b'\r') {
            end -= 1;
        }
        let extent = extent(start, end);
        self.scan.comments.push(Comment { extent, alone: !self.token_on_line });
    }

    /// Goes on to where `stop` says, through text that is not code: only what may stand nowhere is
    /// a fault there.
    fn raw(&mut self, stop: impl Fn(u8) -> bool) {
        while let Some(byte) = self.byte(0) {
            match byte {
                _ if stop(byte) => return,
                b'\t' | b' '..=b'~' => self.at += 1,
                b'\r' if self.byte(1) == Some(b'\n') => self.at += 1,
                _ => {
                    let found = self.character();
                    let start = self.at;
                    self.at += found.len_utf8();
                    if let Some(kind) = forbidden(found) {
                        self.fault(start, kind);
                    }
                }
            }
        }
    }

    fn token(&mut self, byte: u8) {
        if self.newline && self.ends_before_this_line() {
            self.close_brackets();
            self.finish();
        }
        self.newline = false;
        self.token_on_line = true;
        match byte {
            b';' if self.brackets == 0 => {
                self.at += 1;
                self.finish();
            }
            b'{' => self.brace_open(),
            b'}' => self.brace_close(),
            _ => {
                self.start.get_or_insert(self.at);
                self.inner_token(byte);
                self.end = self.at;
            }
        }
    }

    fn inner_token(&mut self, byte: u8) {
        match byte {
            b'"' => self.string(),
            b'-' if self.byte(1) == Some(b'>') => self.at += 2,
            _ if is_word(byte) => self.at += self.word().len(),
            b' '..=b'~' => {
                self.bracket(byte);
                self.at += 1;
            }
            _ => {
                let found = self.character();
                let start = self.at;
                self.at += found.len_utf8();
                if let Some(kind) = forbidden(found).or_else(|| typographic(found)) {
                    self.fault(start, kind);
                }
            }
        }
    }

    fn bracket(&mut self, byte: u8) {
        if byte == b'[' {
            if self.brackets == 0 {
                self.bracket_at = self.at;
            }
            self.brackets += 1;
        } else if byte == b']' {
            self.brackets = self.brackets.saturating_sub(1);
        }
    }

    fn string(&mut self) {
        let start = self.at;
        self.at += 1;
        self.raw(|byte| byte == b'"' || byte == b'\n');
        if self.byte(0) == Some(b'"') {
            self.at += 1;
        } else {
            let line = self.text.get(start..self.at).unwrap_or_default();
            let text = line.trim_end();
            // The block after `test "…` is still a block.
            self.at = start + text.strip_suffix('{').unwrap_or(line).len();
            let end = start + text.strip_suffix('{').unwrap_or(text).trim_end().len();
            self.keep_fault(Fault { extent: extent(start, end), kind: FaultKind::UnclosedString });
        }
    }

    fn brace_open(&mut self) {
        self.close_brackets();
        let start = self.start.take();
        let extent = start.map_or(extent(self.at, self.at), |start| extent(start, self.end));
        self.scan.pieces.push(Piece::Head { extent, brace: offset(self.at) });
        self.at += 1;
    }

    fn brace_close(&mut self) {
        self.close_brackets();
        self.finish();
        self.scan.pieces.push(Piece::Close(offset(self.at)));
        self.at += 1;
    }

    fn finish(&mut self) {
        if let Some(start) = self.start.take() {
            self.scan.pieces.push(Piece::Statement(extent(start, self.end)));
        }
    }

    /// A bracket that is open where its statement must end was never closed.
    fn close_brackets(&mut self) {
        if self.brackets > 0 {
            self.brackets = 0;
            let at = extent(self.bracket_at, self.bracket_at + 1);
            self.keep_fault(Fault { extent: at, kind: FaultKind::UnclosedBracket });
        }
    }

    /// Whether the open statement ends before the line whose first token is at `at`.
    ///
    /// A comma at the end of a line joins it with the next. But where the next begins like a
    /// statement of its own, the comma is the mistake, and both statements are read.
    fn ends_before_this_line(&self) -> bool {
        let Some(start) = self.start else { return false };
        let word = self.word();
        let written = self.bytes.get(start..self.end).unwrap_or_default();
        if self.brackets > 0 {
            return begins_statement(word) && !self.is_whole_item(word);
        }
        let open_end = written.ends_with(b",")
            || written.ends_with(b"=")
            || (written.ends_with(b"->") && !written.ends_with(b"<->"));
        if open_end {
            return begins_statement(word) && !self.is_whole_item(word);
        }
        let arrow = self.byte(0) == Some(b'-') && self.byte(1) == Some(b'>');
        !(arrow || matches!(word, "to" | "from" | "as" | "and"))
    }

    /// Whether the word at `at` can only be an item of a list: a selector's values may be words that begin
    /// statements elsewhere, and no statement is one such word.
    fn is_whole_item(&self, word: &str) -> bool {
        let rest = self.bytes.get(self.at + word.len()..).unwrap_or_default();
        let next = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
        matches!(next, None | Some(b',' | b']' | b'\n' | b'\r' | b'#' | b';' | b'}'))
    }

    /// The word that begins at `at`; empty where none does.
    fn word(&self) -> &'i str {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut len = 0;
        while let Some(&byte) = rest.get(len) {
            let within = is_word(byte) || (byte == b'-' && len > 0 && rest.get(len + 1) != Some(&b'>'));
            if !within {
                break;
            }
            len += 1;
        }
        self.text.get(self.at..self.at + len).unwrap_or_default()
    }

    fn character(&self) -> char {
        let rest = self.text.get(self.at..).unwrap_or_default();
        rest.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn fault(&mut self, start: usize, kind: FaultKind) {
        let extent = extent(start, self.at);
        match self.scan.faults.last_mut() {
            Some(last) if last.kind == kind && last.extent.end == extent.start => {
                last.extent.end = extent.end
            }
            _ => self.keep_fault(Fault { extent, kind }),
        }
    }

    fn keep_fault(&mut self, fault: Fault) {
        if self.scan.faults.len() < KEPT_FAULTS {
            self.scan.faults.push(fault);
        } else {
            self.scan.more_faults += 1;
        }
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'/' | b'%')
}

/// Characters that may stand nowhere, comments and strings included.
fn forbidden(found: char) -> Option<FaultKind> {
    match found {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some(FaultKind::Bidirectional(found))
        }
        // These two end a line for some editors and not for the compiler.
        '\u{2028}' | '\u{2029}' => Some(FaultKind::Control(found)),
        _ if found.is_control() => Some(FaultKind::Control(found)),
        _ => None,
    }
}

fn typographic(found: char) -> Option<FaultKind> {
    let (what, write) = match found {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => ("dash", "-"),
        '\u{2190}'..='\u{21ff}' | '\u{27f5}'..='\u{27ff}' | '\u{2794}' | '\u{2799}'..='\u{27be}' => {
            ("arrow", if is_double_arrow(found) { "<->" } else { "->" })
        }
        '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}' | '\u{2039}' | '\u{203a}' | '\u{ff02}' => {
            ("quote", "\"")
        }
        '\u{a0}'
        | '\u{1680}'
        | '\u{2000}'..='\u{200d}'
        | '\u{202f}'
        | '\u{205f}'
        | '\u{2060}'
        | '\u{3000}'
        | '\u{feff}' => ("space", " "),
        _ => return None,
    };
    Some(FaultKind::Typographic { found, what, write })
}

const fn is_double_arrow(found: char) -> bool {
    matches!(found, '\u{2194}' | '\u{21d4}' | '\u{27f7}' | '\u{27fa}')
}

fn extent(start: usize, end: usize) -> Extent {
    Extent { start: offset(start), end: offset(end) }
}

/// Longer files are refused before they come here, so the fallback is never seen.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expect`: each statement, a head with ` {` after it, and `}`.
    #[track_caller]
    fn check(text: &str, expect: &[&str]) {
        let pieces: Vec<String> = (scan(text).pieces.iter())
            .map(|piece| match piece {
                Piece::Statement(extent) => extent.of(text).to_owned(),
                Piece::Head { extent, .. } => format!("{} {{", extent.of(text)),
                Piece::Close(_) => "}".to_owned(),
            })
            .collect();
        assert_eq!(pieces, expect);
    }

    #[track_caller]
    fn check_faults(text: &str, expect: &[(&str, FaultKind)]) {
        let scan = scan(text);
        let faults: Vec<_> = scan.faults.iter().map(|fault| (fault.extent.of(text), fault.kind)).collect();
        assert_eq!(faults, expect);
    }

    #[test]
    fn a_statement_ends_at_a_newline_a_semicolon_or_a_brace() {
        check("a b\nc; d", &["a b", "c", "d"]);
        check("mesh m { any; deny outbound }", &["mesh m {", "any", "deny outbound", "}"]);
        check("a\r\nb\r\n", &["a", "b"]);
        check(";;\n;", &[]);
    }

    #[test]
    fn a_newline_after_an_open_end_goes_on() {
        check("x 1,\n 2\ny", &["x 1,\n 2", "y"]);
        check("set a =\n 1", &["set a =\n 1"]);
        check("redirect outbound ->\n 15001", &["redirect outbound ->\n 15001"]);
        check("set a = [\n 1\n,\n]\nb", &["set a = [\n 1\n,\n]", "b"]);
    }

    #[test]
    fn a_line_that_begins_with_an_arrow_or_a_preposition_goes_on() {
        check("redirect outbound\n -> 1", &["redirect outbound\n -> 1"]);
        check("deny outbound # why\n\n # more\n to a", &["deny outbound # why\n\n # more\n to a"]);
        check("deny inbound\nfromage", &["deny inbound", "fromage"]);
    }

    #[test]
    fn an_end_after_the_double_arrow_is_an_end() {
        check("accelerate a <->\nb", &["accelerate a <->", "b"]);
    }

    #[test]
    fn a_comma_does_not_swallow_the_next_statement() {
        check("exclude outbound tcp 80,\ndeny outbound", &["exclude outbound tcp 80,", "deny outbound"]);
        check("set a = tcp 80,\n udp 53", &["set a = tcp 80,\n udp 53"]);
        check("namespace a,\n deny\nany", &["namespace a,\n deny", "any"]);
    }

    #[test]
    fn strings_and_comments_hide_what_is_in_them() {
        check("test \"a { b; # c\" {", &["test \"a { b; # c\" {"]);
        check("a # { ; }\nb", &["a", "b"]);
        check("a#b\n", &["a"]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_only_at_the_start() {
        check("\u{feff}a", &["a"]);
        check_faults(
            "a \u{feff}b",
            &[("\u{feff}", FaultKind::Typographic { found: '\u{feff}', what: "space", write: " " })],
        );
    }

    #[test]
    fn control_and_bidirectional_characters_are_faults_in_comments_too() {
        check_faults("# a\u{202e}b", &[("\u{202e}", FaultKind::Bidirectional('\u{202e}'))]);
        check_faults("a # \u{7}", &[("\u{7}", FaultKind::Control('\u{7}'))]);
        check_faults("a\rb", &[("\r", FaultKind::Control('\r'))]);
        check_faults("import \"\u{0}\"", &[("\u{0}", FaultKind::Control('\u{0}'))]);
    }

    #[test]
    fn typographic_characters_are_faults_in_code_only() {
        check_faults("# an em dash \u{2014} and \u{201c}quotes\u{201d}", &[]);
        check_faults("test \"a \u{2192} b\" {", &[]);
        check_faults(
            "a \u{2192} b",
            &[("\u{2192}", FaultKind::Typographic { found: '\u{2192}', what: "arrow", write: "->" })],
        );
    }

    #[test]
    fn an_unclosed_string_ends_with_its_line() {
        check_faults("import \"a\r\nb", &[("\"a", FaultKind::UnclosedString)]);
        check("import \"a\nb", &["import \"a", "b"]);
        check("test \"a {\nb\n}", &["test \"a  {", "b", "}"]);
    }

    #[test]
    fn an_unclosed_bracket_ends_before_the_next_statement() {
        check("set a = [ 1,\ndeny outbound", &["set a = [ 1,", "deny outbound"]);
        check_faults("set a = [ 1,\ndeny outbound", &[("[", FaultKind::UnclosedBracket)]);
        check("namespace [\n deny,\n set\n]", &["namespace [\n deny,\n set\n]"]);
        check("mesh m { namespace [ a }", &["mesh m {", "namespace [ a", "}"]);
    }

    #[test]
    fn a_comment_knows_whether_it_is_alone_on_its_line() {
        let alone: Vec<bool> = scan("# a\nb # c\n  # d").comments.iter().map(|c| c.alone).collect();
        assert_eq!(alone, [true, false, true]);
    }

    #[test]
    fn ten_million_faults_are_counted_not_kept() {
        let scan = scan(&"\u{1}\u{2}".repeat(10_000));
        assert_eq!(scan.faults.len() + scan.more_faults, 20_000);
        assert_eq!(scan.faults.len(), KEPT_FAULTS);
    }
}
