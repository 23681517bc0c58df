//! Commands that the runner of GitHub Actions reads from what a step prints: it shows each of them on its line of the
//! pull request.
//!
//! `::LEVEL key=value,key=value::message`, in a line. As in the actions' own toolkit, `%` and line breaks are written as
//! `%25`, `%0D`, `%0A`, and in values also `:` and `,` as `%3A`, `%2C`.

use std::path::Path;

/// Characters of a title: what the service takes.
const TITLE: usize = 255;

/// Where in a file, counted from 1; the end is the place after the last character.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Line and column of the first character.
    pub start: (u32, u32),
    /// Line and column after the last one.
    pub end: (u32, u32),
}

/// A command in a line of its own. `level` is `error`, `warning` or `notice`.
pub fn command(level: &str, place: Option<(&str, Option<Region>)>, title: &str, message: &str) -> String {
    let mut properties = Vec::new();
    if let Some((file, region)) = place {
        properties.push(format!("file={}", property(&from_the_root(file))));
        if let Some(Region { start, end }) = region {
            properties.push(format!("line={}", start.0));
            properties.push(format!("endLine={}", end.0));
            // Columns are taken only where they are those of one line.
            if start.0 == end.0 {
                properties.push(format!("col={}", start.1));
                properties.push(format!("endColumn={}", end.1));
            }
        }
    }
    properties.push(format!("title={}", property(&title.chars().take(TITLE).collect::<String>())));
    format!("::{level} {}::{}\n", properties.join(","), data(message))
}

/// The runner looks for files from the root of what was checked out, wherever the step runs.
fn from_the_root(file: &str) -> String {
    let whole = std::path::absolute(file).ok();
    let root = std::env::var_os("GITHUB_WORKSPACE");
    let below = whole
        .as_deref()
        .zip(root.as_deref())
        .and_then(|(file, root)| file.strip_prefix(Path::new(root)).ok());
    below.map_or_else(
        || file.trim_start_matches("./").to_owned(),
        |below| below.to_string_lossy().into_owned(),
    )
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_command_or_a_value_is_escaped() {
        let region = Region { start: (3, 5), end: (3, 9) };
        assert_eq!(
            command("error", Some(("a,b:c%.mesh", Some(region))), "bad: one, two", "100 %: a, b\r\nhelp"),
            "::error file=a%2Cb%3Ac%25.mesh,line=3,endLine=3,col=5,endColumn=9,title=bad%3A one%2C two::100 %25: a, \
             b%0D%0Ahelp\n"
        );
    }

    #[test]
    fn several_lines_have_no_columns() {
        let region = Region { start: (3, 5), end: (4, 2) };
        assert_eq!(
            command("warning", Some(("./a.mesh", Some(region))), "unused", "m"),
            "::warning file=a.mesh,line=3,endLine=4,title=unused::m\n"
        );
        assert_eq!(command("error", None, "write", "m"), "::error title=write::m\n");
    }
}
