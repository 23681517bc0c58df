//! Lines that fit a terminal. Words are never broken: what is one word, such as a path, can be copied.

use unicode_width::UnicodeWidthStr;

/// So far right a line may go on, at most, below the text that stands behind a label.
const DEEPEST: usize = 26;

/// So much further right than its beginning a line goes on that begins at the edge: what belongs to it begins before that.
const BELOW_HEAD: usize = 6;
/// The same of a line that is indented.
const BELOW: usize = 4;

/// Text of which no line is wider than that, but for words that are. What goes on below is indented.
pub fn wrap(text: &str, columns: usize) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        if line.width() <= columns {
            out.push_str(line);
        } else {
            wrap_line(&mut out, line, columns);
        }
        out.push_str(end);
    }
    out
}

/// Paragraphs and items of Markdown on a line each, to be wrapped; code stays as it is.
pub fn reflow(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    let (mut is_code, mut goes_on) = (false, false);
    for line in page.lines() {
        let is_fence = line.starts_with("```");
        let begins = ["- ", "#", "|", "```"].iter().any(|sign| line.starts_with(sign)) || line.is_empty();
        if goes_on && !is_code && !begins {
            out.push(' ');
            out.push_str(line.trim_start());
        } else {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(line);
        }
        is_code ^= is_fence;
        goes_on = !is_code && !is_fence && !line.is_empty();
    }
    if page.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// What stands between two gaps stays together where it fits a line.
fn wrap_line(out: &mut String, line: &str, columns: usize) {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let pieces = pieces(line);
    let hang = hang(indent, &pieces, columns);
    let mut at = 0;
    let mut go_on = |out: &mut String, gap: usize, text: &str, wide: usize| {
        if at == 0 || at + gap + wide <= columns {
            out.extend(std::iter::repeat_n(' ', gap));
            at += gap + text.width();
        } else {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', hang));
            at = hang + text.width();
        }
        out.push_str(text);
    };
    for (gap, piece) in pieces {
        if hang + piece.width() <= columns {
            go_on(out, gap, piece, piece.width());
            continue;
        }
        let mut gap = gap;
        for word in words(piece, columns.saturating_sub(hang)) {
            go_on(out, gap, word, word.width());
            gap = 1;
        }
    }
}

/// Below the text that stands behind a gap or a label such as `help:`, or else a little further right than the line
/// begins.
fn hang(indent: usize, pieces: &[(usize, &str)], columns: usize) -> usize {
    let deepest = DEEPEST.min(columns / 3);
    let (gap, first) = pieces.first().copied().unwrap_or_default();
    let gap_after = pieces.get(1).map(|(next, _)| gap + first.width() + next);
    let label = first.split_once(' ').map(|(word, _)| word);
    let label =
        label.filter(|word| word.ends_with(':') || *word == "-").map(|word| indent + word.width() + 1);
    let behind = gap_after.into_iter().chain(label).find(|behind| *behind <= deepest);
    behind.unwrap_or(indent.min(deepest) + if indent == 0 { BELOW_HEAD } else { BELOW })
}

/// Words that lines may be broken between. What is quoted, such as a command line, is one where it fits a line.
fn words(piece: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = piece;
    while !rest.is_empty() {
        let ends = || rest.match_indices(' ').map(|(at, _)| at).chain([rest.len()]);
        let is_whole = |end: &usize| rest.get(..*end).is_some_and(|word| word.matches('`').count() % 2 == 0);
        let fits = |end: &usize| rest.get(..*end).is_some_and(|word| word.width() <= most);
        let end = ends().find(is_whole).filter(fits).or_else(|| ends().next()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    words
}

/// Texts between gaps of two spaces or more, each with the columns before it. What becomes of what, as in `all: a → b`, is
/// one of its own.
fn pieces(line: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut rest = line;
    loop {
        let text = rest.trim_start_matches(' ');
        let gap = rest.len() - text.len();
        if text.is_empty() {
            return found;
        }
        let gap_at = text.find("  ").unwrap_or(text.len());
        let change = text.get(..gap_at).filter(|piece| piece.contains(" → "));
        let change_at = change.and_then(|piece| piece.find(": ")).map(|colon| colon + 1);
        let (piece, after) = text.split_at(change_at.unwrap_or(gap_at));
        found.push((gap, piece));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_goes_on_below() {
        for (line, shown) in [
            ("", ""),
            ("it fits, and  keeps   its gaps", "it fits, and  keeps   its gaps"),
            ("one two three four five six seven eight", "one two three four five six\n      seven eight"),
            ("cart outbound tcp 25: excluded → denied", "cart outbound tcp 25:\n      excluded → denied"),
            (
                "  by    shop: deny outbound  shop.mesh:12",
                "  by    shop: deny outbound\n        shop.mesh:12",
            ),
            (
                "  by    shop: deny outbound tcp 25, 26 to blocked",
                "  by    shop: deny outbound\n        tcp 25, 26 to blocked",
            ),
            (
                "    without shop: deny outbound  a.mesh:1",
                "    without shop: deny\n        outbound  a.mesh:1",
            ),
            ("  help: write it on a line of its own", "  help: write it on a line of\n        its own"),
            ("make it again now and `meshc apply` it", "make it again now and\n      `meshc apply` it"),
            ("one ` is not a quote, and no word", "one ` is not a quote, and no\n      word"),
            ("- an item that is longer than that", "- an item that is longer than\n  that"),
            ("größe größe größe größe größe größe", "größe größe größe größe größe\n      größe"),
            ("漢字漢字漢字 漢字漢字漢字漢字 漢字", "漢字漢字漢字 漢字漢字漢字漢字\n      漢字"),
            (
                "see /a/path/that/is/longer/than/that/by/far it",
                "see\n      /a/path/that/is/longer/than/that/by/far\n      it",
            ),
        ] {
            assert_eq!(wrap(line, 30), shown);
            assert_eq!(wrap(&format!("{line}\n{line}\n"), 30), format!("{shown}\n{shown}\n"));
        }
    }

    #[test]
    fn nothing_is_lost_and_nothing_wider_but_single_words() {
        let words = "  rule    always deny outbound tcp 1, 22, 333 to partners  shop.mesh:12 (10.0.3.0/24, sets.mesh:4)";
        for columns in 20..110 {
            let wrapped = wrap(words, columns);
            let of = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(of(&wrapped), of(words));
            assert!(wrapped.lines().all(|line| line.width() <= columns), "{columns}: {wrapped}");
            assert!(wrapped.lines().all(|line| !line.ends_with(' ')), "{columns}: {wrapped}");
        }
    }

    #[test]
    fn paragraphs_are_lines_and_code_stays() {
        let page =
            "# a\n\nOne\ntwo.\n\n- an\n  item\n- other\n\n```mesh\nset a = 1,\n    2\n```\nThree\nfour.\n";
        let lines = "# a\n\nOne two.\n\n- an item\n- other\n\n```mesh\nset a = 1,\n    2\n```\nThree four.\n";
        assert_eq!(reflow(page), lines);
    }
}
