//! The inventory: endpoints that a policy is compiled against by hand, in TOML.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::num::NonZero;
use std::path::Path;
use std::thread;

use mesh_bpf::selector::Endpoint;
use serde::Deserialize;

use crate::failure::Failure;
use crate::files;

/// How many bytes are read at a time, at the least.
const PIECE: usize = 1 << 13;

/// The file. Unknown keys are errors: a misspelt one would silently select nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inventory {
    #[serde(default, rename = "endpoint")]
    endpoints: Vec<Entry>,
}

/// One endpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    service_account: Option<String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    cgroup: Option<String>,
}

/// Reads the endpoints of an inventory file.
pub fn read(path: &Path) -> Result<Vec<Endpoint>, Failure> {
    let refused = |why: String| {
        Failure::refused("bad-inventory", format!("`{}`: {why}", path.display())).help(
            "an inventory has `[[endpoint]]` tables with `name`, and as far as they apply `namespace`, \
             `labels`, `service-account`, `addresses`, `cgroup`",
        )
    };
    let text = String::from_utf8(files::read(path)?).map_err(|_| refused("it is not UTF-8 text".into()))?;
    let entries = parse(&text).map_err(|error| refused(error.to_string()))?;
    let mut names = HashSet::with_capacity(entries.len());
    for entry in &entries {
        if !names.insert((entry.namespace.as_deref(), entry.name.as_str())) {
            return Err(refused(format!("the endpoint `{}` is listed twice", entry.name)));
        }
        if let Some(cgroup) = entry.cgroup.as_deref().filter(|path| !is_path(path)) {
            return Err(refused(format!("`{cgroup}` is no absolute cgroup path")));
        }
    }
    Ok(entries.into_iter().map(Endpoint::from).collect())
}

/// Reads the tables a piece at a time, which takes less time and a third of the memory: a parser of TOML keeps the tree
/// of all its text. What cannot be taken apart, or is wrong in a piece, is read as a whole, so that what is
/// said about it is about the whole.
fn parse(text: &str) -> Result<Vec<Entry>, toml::de::Error> {
    let whole = || toml::from_str(text).map(|Inventory { endpoints }| endpoints);
    let Some(pieces) = pieces(text) else { return whole() };
    match side_by_side(&pieces) {
        Some(entries) => Ok(entries),
        None => whole(),
    }
}

/// Reads pieces on as many threads as run at once. Nothing where one of them is wrong, or no thread can be had.
fn side_by_side(pieces: &[&str]) -> Option<Vec<Entry>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(pieces.len());
    let share = pieces.len().div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        let read = |pieces: &[&str]| -> Option<Vec<Entry>> {
            let mut entries = Vec::new();
            for piece in pieces {
                entries.extend(toml::from_str::<Inventory>(piece).ok()?.endpoints);
            }
            Some(entries)
        };
        let start = |share| thread::Builder::new().spawn_scoped(scope, move || read(share)).ok();
        let running: Option<Vec<_>> = pieces.chunks(share).map(start).collect();
        let mut entries = Vec::new();
        for thread in running? {
            entries.extend(thread.join().ok().flatten()?);
        }
        Some(entries)
    })
}

/// The text cut before lines that begin an endpoint, where nothing but such tables is there: no text of several lines,
/// in which such a line would begin nothing, and no key before the first of them.
fn pieces(text: &str) -> Option<Vec<&str>> {
    const HEAD: &str = "[[endpoint]]";
    let is_plain = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let (before, _) = text.split_once(HEAD)?;
    if text.contains("\"\"\"") || text.contains("'''") || !before.lines().all(is_plain) {
        return None;
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > PIECE {
        let from = (PIECE..rest.len()).find(|&at| rest.is_char_boundary(at))?;
        let Some(at) = rest.get(from..)?.find("\n[[endpoint]]") else { break };
        let (piece, after) = rest.split_at_checked(from + at)?;
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    Some(pieces)
}

/// As the language has cgroup paths: absolute, without `..`, without a slash at the end.
fn is_path(path: &str) -> bool {
    path == "/"
        || path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

impl From<Entry> for Endpoint {
    fn from(entry: Entry) -> Self {
        Self {
            name: entry.name,
            namespace: entry.namespace,
            labels: entry.labels,
            service_account: entry.service_account,
            addresses: entry.addresses.iter().map(IpAddr::to_canonical).collect(),
            cgroup: entry.cgroup,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some thousand endpoints, with a label each of letters of two bytes.
    fn text(count: usize) -> String {
        let one = |n| {
            format!(
                "[[endpoint]]\nname = \"p{n}\"\nnamespace = \"[[endpoint]]\"\naddresses = [\n  \"10.0.{}.{}\",\n]\n\
                 [endpoint.labels]\napp = \"größe-{n}\"\n\n",
                n / 256,
                n % 256
            )
        };
        "# all of them\n\n".chars().chain((0..count).map(one).collect::<String>().chars()).collect()
    }

    #[test]
    fn a_long_inventory_is_read_in_pieces_and_says_the_same() {
        let text = text(3000);
        assert!(pieces(&text).unwrap().len() > 3);
        let whole: Inventory = toml::from_str(&text).unwrap();
        let names = |entries: Vec<Entry>| -> Vec<_> {
            entries.into_iter().map(|entry| (entry.name, entry.labels, entry.addresses)).collect()
        };
        assert_eq!(names(parse(&text).unwrap()), names(whole.endpoints));
    }

    #[test]
    fn a_mistake_in_a_piece_is_told_with_its_place_in_the_whole() {
        let text = text(3000).replace("name = \"p2999\"", "nmae = \"p2999\"");
        let line = text.lines().position(|line| line.starts_with("nmae")).unwrap() + 1;
        let said = parse(&text).err().unwrap().to_string();
        assert!(said.contains(&format!("line {line}")) && said.contains("nmae"), "{said}");
    }

    #[test]
    fn what_cannot_be_cut_is_read_as_a_whole() {
        let strings = text(3000) + "[[endpoint]]\nname = \"\"\"\n[[endpoint]]\n\"\"\"\n";
        assert_eq!(pieces(&strings), None);
        assert_eq!(parse(&strings).unwrap().len(), 3001);
        let key = "endpoint = []\n".to_owned() + &text(3000);
        assert!(parse(&key).is_err());
    }
}
