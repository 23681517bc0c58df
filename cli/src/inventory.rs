//! The inventory: endpoints that a policy is compiled against by hand, and what is so in the cluster, in TOML.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use mesh_bpf::selector::Endpoint;
use mesh_compiler::resolve::Services;
use serde::Deserialize;

use crate::failure::Failure;
use crate::files;

/// Labels by key.
type Labels = BTreeMap<String, String>;

/// How many bytes are read at a time, at the least.
const PIECE: usize = 1 << 13;

/// The file. Unknown keys are errors: a misspelt one would silently select nothing.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default, rename = "endpoint")]
    endpoints: Vec<Entry>,
    #[serde(default, rename = "namespace")]
    namespaces: Vec<Namespace>,
    #[serde(default, rename = "service")]
    services: Vec<Service>,
}

/// A Kubernetes service: its cluster addresses and endpoints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    #[serde(default = "default_namespace")]
    namespace: String,
    addresses: Vec<IpAddr>,
}

fn default_namespace() -> String {
    "default".into()
}

/// A Kubernetes namespace.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Namespace {
    name: String,
    #[serde(default)]
    labels: Labels,
}

/// What an inventory says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Endpoints, with the labels of their namespaces.
    pub endpoints: Vec<Endpoint>,
    /// Labels of namespaces, by name.
    pub namespaces: BTreeMap<String, Arc<Labels>>,
    /// Addresses of services, by namespace and name.
    pub services: Services,
}

/// One endpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: Labels,
    service_account: Option<String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    cgroup: Option<String>,
}

impl Inventory {
    /// Labels of namespaces, by name.
    #[cfg_attr(
        not(all(feature = "kernel", target_os = "linux")),
        expect(dead_code, reason = "for commands that touch a kernel")
    )]
    pub fn labels(self) -> BTreeMap<String, Labels> {
        drop(self.endpoints);
        let own = |labels: Arc<Labels>| Arc::try_unwrap(labels).unwrap_or_else(|shared| (*shared).clone());
        self.namespaces.into_iter().map(|(name, labels)| (name, own(labels))).collect()
    }
}

/// Reads an inventory file.
pub fn read(path: &Path) -> Result<Inventory, Failure> {
    let refused = |why: String| {
        Failure::refused("bad-inventory", format!("`{}`: {why}", path.display())).help(
            "an inventory has `[[endpoint]]` tables with `name`, and as far as they apply `namespace`, \
             `labels`, `service-account`, `addresses`, `cgroup`; `[[namespace]]` tables with `name` and `labels`; and \
             `[[service]]` tables with `name`, `namespace` and `addresses`",
        )
    };
    let text = String::from_utf8(files::read(path)?).map_err(|_| refused("it is not UTF-8 text".into()))?;
    let Tables { endpoints, namespaces, services: listed } =
        parse(&text).map_err(|error| refused(error.to_string()))?;
    let mut labels: BTreeMap<String, Arc<Labels>> = BTreeMap::new();
    for Namespace { name, labels: own } in namespaces {
        if labels.contains_key(&name) {
            return Err(refused(format!("the namespace `{name}` is listed twice")));
        }
        labels.insert(name, Arc::new(own));
    }
    let mut names = HashSet::with_capacity(endpoints.len());
    for entry in &endpoints {
        if !names.insert((entry.namespace.as_deref(), entry.name.as_str())) {
            return Err(refused(format!("the endpoint `{}` is listed twice", entry.name)));
        }
        if let Some(cgroup) = entry.cgroup.as_deref().filter(|path| !is_path(path)) {
            return Err(refused(format!("`{cgroup}` is no absolute cgroup path")));
        }
    }
    let endpoints = endpoints.into_iter().map(|entry| entry.endpoint(&labels)).collect();
    let mut services = Services::new();
    for Service { name, namespace, addresses } in listed {
        let name = format!("{namespace}/{name}");
        let addresses = addresses.iter().map(IpAddr::to_canonical).collect();
        if services.insert(name.clone(), addresses).is_some() {
            return Err(refused(format!("the service `{name}` is listed twice")));
        }
    }
    Ok(Inventory { endpoints, namespaces: labels, services })
}

/// Reads the tables a piece at a time, which takes less time and a third of the memory: a parser of TOML keeps the tree
/// of all its text. What cannot be taken apart, or is wrong in a piece, is read as a whole, so that what is
/// said about it is about the whole.
fn parse(text: &str) -> Result<Tables, toml::de::Error> {
    let Some(pieces) = pieces(text) else { return toml::from_str(text) };
    match side_by_side(&pieces) {
        Some(tables) => Ok(tables),
        None => toml::from_str(text),
    }
}

/// Reads pieces on as many threads as run at once. Nothing where one of them is wrong, or no thread can be had.
fn side_by_side(pieces: &[&str]) -> Option<Tables> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(pieces.len());
    let share = pieces.len().div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        let read = |pieces: &[&str]| -> Option<Tables> {
            let mut all = Tables::default();
            for piece in pieces {
                all.extend(toml::from_str(piece).ok()?);
            }
            Some(all)
        };
        let start = |share| thread::Builder::new().spawn_scoped(scope, move || read(share)).ok();
        let running: Option<Vec<_>> = pieces.chunks(share).map(start).collect();
        let mut all = Tables::default();
        for thread in running? {
            all.extend(thread.join().ok().flatten()?);
        }
        Some(all)
    })
}

impl Tables {
    fn extend(&mut self, others: Self) {
        self.endpoints.extend(others.endpoints);
        self.namespaces.extend(others.namespaces);
        self.services.extend(others.services);
    }
}

/// The text cut before lines that begin an endpoint, where nothing but tables is there: no text of several lines, in
/// which such a line would begin nothing, and no key before the first of them.
fn pieces(text: &str) -> Option<Vec<&str>> {
    let is_plain = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let begins = text.lines().find(|line| !is_plain(line))?.starts_with("[[");
    if text.contains("\"\"\"") || text.contains("'''") || !begins {
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

impl Entry {
    /// The endpoint, whose namespace has these labels if it is listed.
    fn endpoint(self, namespaces: &BTreeMap<String, Arc<Labels>>) -> Endpoint {
        let namespace_labels = self.namespace.as_ref().and_then(|name| namespaces.get(name));
        Endpoint {
            name: self.name,
            namespace_labels: namespace_labels.cloned().unwrap_or_default(),
            namespace: self.namespace,
            labels: self.labels,
            service_account: self.service_account,
            addresses: self.addresses.iter().map(IpAddr::to_canonical).collect(),
            cgroup: self.cgroup,
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
        let text = "[[namespace]]\nname = \"a\"\n[namespace.labels]\nk = \"v\"\n\n".to_owned()
            + &text
            + "[[namespace]]\nname = \"b\"\n\n[[service]]\nname = \"s\"\naddresses = [\"10.43.0.1\"]\n";
        assert!(pieces(&text).unwrap().len() > 3);
        let whole: Tables = toml::from_str(&text).unwrap();
        let namespaces = |tables: &Tables| -> Vec<_> {
            tables.namespaces.iter().map(|one| (one.name.clone(), one.labels.clone())).collect()
        };
        assert_eq!(namespaces(&parse(&text).unwrap()), namespaces(&whole));
        assert_eq!(namespaces(&whole).len(), 2);
        let services = |tables: Tables| -> Vec<_> {
            tables.services.into_iter().map(|one| (one.namespace, one.name, one.addresses)).collect()
        };
        let parsed = services(parse(&text).unwrap());
        assert_eq!(parsed, [("default".into(), "s".into(), vec!["10.43.0.1".parse().unwrap()])]);
        assert_eq!(parsed, services(toml::from_str(&text).unwrap()));
        let names = |entries: Vec<Entry>| -> Vec<_> {
            entries.into_iter().map(|entry| (entry.name, entry.labels, entry.addresses)).collect()
        };
        assert_eq!(names(parse(&text).unwrap().endpoints), names(whole.endpoints));
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
        assert_eq!(parse(&strings).unwrap().endpoints.len(), 3001);
        let key = "endpoint = []\n".to_owned() + &text(3000);
        assert!(parse(&key).is_err());
    }
}
