//! The page itself: markup, style, scripts and data in one file.

use std::fmt::Write as _;

use mesh_bpf::flow::Direction;
use mesh_bpf::text;
use serde::Serialize;

use crate::columns::{Column, columns};
use crate::model::{Model, model};
use crate::{Change, Picture};

/// The scripts, in the order in which they build on each other.
const SCRIPTS: [(&str, &str); 9] = [
    ("text.js", include_str!("../page/text.js")),
    ("walk.js", include_str!("../page/walk.js")),
    ("reasons.js", include_str!("../page/reasons.js")),
    ("ask.js", include_str!("../page/ask.js")),
    ("parts.js", include_str!("../page/parts.js")),
    ("matrix.js", include_str!("../page/matrix.js")),
    ("graph.js", include_str!("../page/graph.js")),
    ("live.js", include_str!("../page/live.js")),
    ("main.js", include_str!("../page/main.js")),
];
const STYLE: &str = include_str!("../page/style.css");
const MARKUP: &str = include_str!("../page/page.html");

/// Raised when the page could not read what an earlier one could.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Data<'a> {
    format: u32,
    title: &'a str,
    live: bool,
    policies: Vec<Model<'a>>,
    /// Destinations, then sources.
    columns: [Vec<Column>; 2],
    changes: &'a [Change],
    notes: &'a [String],
}

/// A page, and what a server says beside it.
pub struct Page {
    /// HTML.
    pub html: String,
    /// The value of `Content-Security-Policy`: the page's own script and style, and nothing else.
    pub policy: String,
}

impl Page {
    /// The page of a picture. Equal pictures have equal pages.
    #[must_use]
    pub fn of(picture: &Picture<'_>) -> Self {
        let data = data(picture);
        let script = script();
        // Whoever puts markup into a name cannot know the digest of the page that it will be in.
        let nonce = nonce(&[MARKUP, STYLE, &script, &data]);
        let policy = content_policy(&nonce, picture.live);
        let mut html = String::with_capacity(data.len() + script.len() + STYLE.len() + MARKUP.len());
        let title = escaped(&text::one_line(picture.title));
        for piece in MARKUP.split_inclusive("}}") {
            let (plain, name) = match piece.strip_suffix("}}").and_then(|piece| piece.rsplit_once("{{")) {
                Some((plain, name)) => (plain, name),
                None => (piece, ""),
            };
            html.push_str(plain);
            html.push_str(match name {
                "title" => &title,
                "policy" => &policy,
                "nonce" => &nonce,
                "style" => STYLE,
                "data" => &data,
                "script" => &script,
                _ => "",
            });
        }
        Self { html, policy }
    }
}

/// The data of a page, as its script reads it.
#[must_use]
pub fn data(picture: &Picture<'_>) -> String {
    let images: Vec<_> = picture.policies.iter().map(|policy| policy.image).collect();
    let mut sets: Vec<_> = picture.policies.iter().flat_map(|policy| policy.sets.iter().cloned()).collect();
    sets.sort();
    sets.dedup();
    let data = Data {
        format: FORMAT,
        title: picture.title,
        live: picture.live,
        policies: picture.policies.iter().map(model).collect(),
        columns: Direction::ALL.map(|direction| columns(&images, &sets, direction)),
        changes: &picture.changes,
        notes: &picture.notes,
    };
    // Strings and numbers can always be written.
    harmless(serde_json::to_string(&data).unwrap_or_default())
}

/// JSON that ends no element, whatever stands in it.
fn harmless(json: String) -> String {
    let mut text = String::with_capacity(json.len() + json.len() / 64);
    for c in text::json(json).chars() {
        match c {
            // They occur in strings alone.
            '<' | '>' | '&' => drop(write!(text, "\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

/// All scripts as one: what they import from each other is there.
fn script() -> String {
    let mut script = String::new();
    for (name, text) in SCRIPTS {
        let _ = writeln!(script, "// {name}");
        for line in text.lines().filter(|line| !line.starts_with("import ")) {
            script.push_str(line.strip_prefix("export ").unwrap_or(line));
            script.push('\n');
        }
    }
    script
}

fn nonce(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn content_policy(nonce: &str, live: bool) -> String {
    let connect = if live { "'self'" } else { "'none'" };
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src {connect}; \
         base-uri 'none'; form-action 'none'"
    )
}

/// Text within markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use mesh_bpf::image::{MapImage, ProfileId, Workload};
    use mesh_bpf::selector::Selector;

    use super::*;
    use crate::Policy;

    fn page(name: &str) -> Page {
        let workload =
            Workload { name: format!("m/{name}"), selector: Selector::default(), profile: ProfileId(0) };
        let image = MapImage { workloads: vec![workload], ..MapImage::default() };
        let policy = Policy { name, image: &image, sets: Vec::new(), source: None, place: &|_, _| None };
        Page::of(&Picture {
            title: name,
            policies: vec![policy],
            changes: Vec::new(),
            notes: Vec::new(),
            live: false,
        })
    }

    #[test]
    fn a_name_ends_no_element() {
        let name = "</script><script>alert(1)</script><!--&quot;\u{2028}\u{202e}{{script}}";
        let html = page(name).html;
        assert_eq!(html.matches("</script>").count(), 2, "the data's and the script's own");
        assert!(!html.contains("alert(1)</script>") && !html.contains(['\u{2028}', '\u{202e}']));
        let (_, data) = html.split_once("type=\"application/json\">").unwrap();
        let (data, _) = data.split_once("</script>").unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["title"], name);
        assert_eq!(data["policies"][0]["workloads"][0]["name"], format!("m/{name}"));
    }

    #[test]
    fn equal_pictures_are_equal_pages_and_another_has_another_nonce() {
        let (one, again, other) = (page("a"), page("a"), page("b"));
        assert_eq!((&one.html, &one.policy), (&again.html, &again.policy));
        assert_ne!(one.policy, other.policy);
        assert!(one.html.contains(&escaped(&one.policy)) || one.html.contains(&one.policy));
    }

    #[test]
    fn scripts_are_one_module() {
        let script = script();
        let outer = script.lines().filter(|line| line.starts_with("import ") || line.starts_with("export "));
        assert_eq!(outer.count(), 0);
        assert!(!script.contains("</script"), "it would end there");
    }
}
