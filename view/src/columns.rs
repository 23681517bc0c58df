//! Addresses that every profile decides alike, as columns of the matrix: a set of 100,000 prefixes is one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mesh_bpf::flow::Direction;
use mesh_bpf::image::{MapImage, Node};
use mesh_bpf::prefix::Prefix;
use serde::Serialize;

/// So many prefixes of a column are listed.
const LISTED: usize = 64;

/// Addresses that are decided alike.
#[derive(Debug, Serialize)]
pub(crate) struct Column {
    /// What they are called, if anything: a workload, a set, a service.
    name: String,
    kind: Kind,
    /// The first of their prefixes. Addresses of narrower ones that stand in other columns are not meant.
    prefixes: Vec<String>,
    /// How many there are.
    count: usize,
}

/// What a column is, in the order of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// All addresses that no other column has.
    Any,
    Workload,
    Set,
    Prefix,
    /// Reached only by rules whose addresses lie inside: loopback, multicast, link-local.
    Apart,
}

/// What a prefix is called, and whether that is a workload.
type Name<'n> = Option<(&'n str, bool)>;

/// The columns of one direction, of all policies together.
pub(crate) fn columns(
    images: &[&MapImage],
    sets: &[(String, Vec<Prefix>)],
    direction: Direction,
) -> Vec<Column> {
    let names = names(images, sets);
    let trees: BTreeSet<&[Node]> = (images.iter().flat_map(|image| &image.profiles))
        .flat_map(|profile| profile.trees(direction))
        .map(|side| side.tree.as_slice())
        .collect();
    let mut written: BTreeMap<Prefix, Vec<(usize, [u32; 2])>> = BTreeMap::new();
    for (tree, nodes) in trees.iter().enumerate() {
        for node in *nodes {
            written.entry(node.prefix).or_default().push((tree, node.ports.map(|table| table.0)));
        }
    }
    // Addresses of a workload are a column even if no rule names them.
    for (prefix, _) in names.iter().filter(|(_, (_, is_workload))| *is_workload) {
        written.entry(*prefix).or_default();
    }
    written.entry(Prefix::Any).or_default();
    // By name, and a digest of the port tables in each tree.
    let mut known: HashMap<(Name<'_>, [u8; 32]), usize> = HashMap::new();
    let mut columns: Vec<(Kind, String, Vec<Prefix>)> = Vec::new();
    let mut open: Vec<(Prefix, Vec<[u32; 2]>)> = Vec::new();
    for (prefix, written) in written {
        while open.last().is_some_and(|(around, _)| !around.covers(prefix)) {
            open.pop();
        }
        let around = open.last().map(|(_, tables)| tables.clone());
        let mut tables = around.unwrap_or_else(|| vec![[u32::MAX; 2]; trees.len()]);
        for (tree, ports) in written {
            if let Some(table) = tables.get_mut(tree) {
                *table = ports;
            }
        }
        let apart = prefix.apart().map(|apart| (apart.word(), false));
        let name = apart.or_else(|| names.get(&prefix).map(|(name, is)| (name.as_str(), *is)));
        let kind = match (prefix, apart, name) {
            (Prefix::Any, ..) => Kind::Any,
            (_, Some(_), _) => Kind::Apart,
            (.., Some((_, true))) => Kind::Workload,
            (.., Some(_)) => Kind::Set,
            (.., None) => Kind::Prefix,
        };
        let digest = digest(&tables);
        let column = *known.entry((name, digest)).or_insert_with(|| {
            columns.push((kind, name.map_or_else(String::new, |(name, _)| name.to_owned()), Vec::new()));
            columns.len() - 1
        });
        if let Some((.., prefixes)) = columns.get_mut(column) {
            prefixes.push(prefix);
        }
        open.push((prefix, tables));
    }
    columns.sort_by(|a, b| (a.0, &a.1, &a.2).cmp(&(b.0, &b.1, &b.2)));
    let column = |(kind, name, prefixes): (Kind, String, Vec<Prefix>)| Column {
        name,
        kind,
        count: prefixes.len(),
        prefixes: prefixes.iter().take(LISTED).map(ToString::to_string).collect(),
    };
    columns.into_iter().map(column).collect()
}

fn digest(tables: &[[u32; 2]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for table in tables.iter().flatten() {
        hasher.update(&table.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// What prefixes are called, and whether it is a workload's name: that says more than a set's.
fn names(images: &[&MapImage], sets: &[(String, Vec<Prefix>)]) -> BTreeMap<Prefix, (String, bool)> {
    let mut names = BTreeMap::new();
    for workload in images.iter().flat_map(|image| &image.workloads) {
        if workload.selector.is_by_address() {
            for &prefix in &workload.selector.addresses {
                names.entry(prefix).or_insert_with(|| (workload.name.clone(), true));
            }
        }
    }
    for (name, prefixes) in sets {
        for &prefix in prefixes {
            names.entry(prefix).or_insert_with(|| (name.clone(), false));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use mesh_bpf::image::{PortTableId, Profile, Side, SourceId};

    use super::*;

    #[test]
    fn what_is_decided_alike_is_one_column_and_a_name_keeps_it_apart() {
        let prefix = |text: &str| Prefix::from(text.parse::<ipnet::IpNet>().unwrap());
        let node = |prefix, table| Node { prefix, source: SourceId(0), ports: [PortTableId(table); 2] };
        let tree = vec![
            node(Prefix::Any, 0),
            node(prefix("10.1.0.0/16"), 1),
            node(prefix("10.2.0.0/16"), 1),
            node(prefix("10.2.3.0/24"), 1),
            node(prefix("10.3.0.0/16"), 2),
            node(prefix("10.4.0.0/16"), 1),
            node(prefix("127.0.0.0/8"), 3),
        ];
        let side = Side { own: tree.clone(), tree };
        let profile = Profile { sides: [side.clone(), side], ..Profile::default() };
        let image = MapImage { profiles: vec![profile], ..MapImage::default() };
        let sets = [("named".to_owned(), vec![prefix("10.4.0.0/16")])];
        let found = columns(&[&image], &sets, Direction::Outbound);
        let shown: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.prefixes.join(" "))).collect();
        let expected = [
            ("", "any"),
            ("named", "10.4.0.0/16"),
            ("", "10.1.0.0/16 10.2.0.0/16 10.2.3.0/24"),
            ("", "10.3.0.0/16"),
            ("loopback", "127.0.0.0/8"),
        ];
        assert_eq!(shown, expected.map(|(name, prefixes)| (name, prefixes.to_owned())));
    }
}
