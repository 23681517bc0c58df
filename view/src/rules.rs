//! The rules of a policy, for what the image does not keep: which of them match a flow and do not decide it.

use mesh_bpf::image::MapImage;
use mesh_hir::item::{exempt_source, write_ports};
use mesh_hir::region::real_ports;
use mesh_hir::span::Span;
use mesh_hir::{AddressItem, NameId, PortItem, WhoItem, WorkloadId};
use serde::Serialize;

use crate::Written;
use crate::numbers::{Numbered, Numbers, number};

/// All rules, in factored form: a rule is one item for each of its ports, addresses and processes. What the fields mean
/// for the page is said in `page/reasons.js`.
#[derive(Serialize)]
pub(crate) struct Rules {
    files: Vec<String>,
    /// By which rules stand for items that are written elsewhere.
    names: Vec<String>,
    /// Name, level and members.
    scopes: Vec<(String, u8, Vec<u32>)>,
    ports: Vec<Vec<Ports>>,
    addresses: Vec<Vec<Address>>,
    processes: Vec<Vec<Process>>,
    rules: Vec<Rule>,
    /// Scope, text, file and line of each exemption.
    exempts: Vec<(u32, String, u32, u32)>,
}

/// Protocol, ranges as pairs, text without the protocol, name, file and line.
type Ports = (u8, Vec<u16>, String, i64, u32, u32);
/// Prefix, name, file and line.
type Address = (u32, i64, u32, u32);
/// First and last user id, the same of groups, and a cgroup, −1 and nothing where a side is not named; and whether the node
/// alone is at the other end.
type Process = ([i64; 2], [i64; 2], String, bool);
/// Scope, always, direction, verdict, the numbers of its three lists, file and line.
type Rule = (u32, bool, u8, u32, u32, u32, u32, u32, u32);

/// Lists that rules share, each once.
struct Lists<T> {
    keys: Numbered<usize>,
    lists: Vec<Vec<T>>,
}

impl<T> Lists<T> {
    fn new() -> Self {
        Self { keys: Numbered::default(), lists: Vec::new() }
    }

    fn of(&mut self, key: usize, list: impl FnOnce() -> Vec<T>) -> u32 {
        let at = self.keys.of(key);
        if at as usize == self.lists.len() {
            self.lists.push(list());
        }
        at
    }
}

/// The rules, and the groups with their workloads.
pub(crate) fn rules(
    source: &Written<'_>,
    image: &MapImage,
    numbers: &mut Numbers,
) -> (Rules, Vec<(String, Vec<u32>)>) {
    let program = source.program;
    let mut files: Numbered<String> = Numbered::default();
    let mut at = |span: Span| {
        let (file, line) = (source.place)(span).unwrap_or_default();
        (files.of(file), line)
    };
    let members = |members: &[WorkloadId]| {
        let mut found: Vec<u32> = members.iter().filter_map(|&id| place(source, image, id)).collect();
        found.sort_unstable();
        found
    };
    let name = |by: NameId| if by == NameId::WRITTEN_OUT { -1 } else { i64::from(by.0) };
    let (mut ports, mut addresses, mut processes) = (Lists::new(), Lists::new(), Lists::new());
    let mut rules = Vec::new();
    for rule in &program.rules {
        let port_list = ports.of(rule.ports.key(), || {
            let port = |item: &PortItem| {
                let ranges = real_ports(&item.ports);
                let ranges = ranges.ranges().iter().flat_map(|range| [range.first, range.last]).collect();
                let mut text = String::new();
                write_ports(&mut text, &item.ports);
                let (file, line) = at(item.span);
                (item.protocol as u8, ranges, text, name(item.by), file, line)
            };
            rule.ports.iter().map(port).collect()
        });
        let address_list = addresses.of(rule.addresses.key(), || {
            let address = |item: &AddressItem| {
                // Addresses of a service are written nowhere.
                let is_service = program.service_named(item.by).is_some();
                let (file, line) = at(if is_service { rule.span } else { item.span });
                (numbers.prefixes.of(item.prefix), name(item.by), file, line)
            };
            rule.addresses.iter().map(address).collect()
        });
        let process_list = processes.of(rule.who.key(), || rule.who.iter().map(process).collect());
        let verdict = numbers.verdicts.of(rule.verdict);
        let (file, line) = at(rule.span);
        let direction = rule.direction as u8;
        let lists = (port_list, address_list, process_list);
        rules.push((rule.scope.0, rule.always, direction, verdict, lists.0, lists.1, lists.2, file, line));
    }
    let exempts = program.exempts.iter().map(|one| {
        let (file, line) = at(one.span);
        (one.scope.0, exempt_source("", &one.who).head, file, line)
    });
    let exempts = exempts.collect();
    let scopes = program.scopes.iter();
    let scopes = scopes.map(|it| (it.name.clone(), it.level as u8, members(&it.members))).collect();
    let groups = program.groups.iter().map(|group| {
        let mesh = program.meshes.get(group.mesh.index()).map_or("", |mesh| mesh.name.as_str());
        (format!("{mesh}/{}", group.name), members(&group.members))
    });
    let groups = groups.collect();
    let rules = Rules {
        names: program.names.clone(),
        scopes,
        ports: ports.lists,
        addresses: addresses.lists,
        processes: processes.lists,
        rules,
        exempts,
        files: files.into_values(),
    };
    (rules, groups)
}

fn process(item: &WhoItem) -> Process {
    let ids = |range: Option<mesh_bpf::image::IdRange>| {
        range.map_or([-1, -1], |range| [i64::from(range.first), i64::from(range.last)])
    };
    let cgroup = item.who.cgroup.clone().unwrap_or_default();
    (ids(item.who.uid), ids(item.who.gid), cgroup, item.who.node)
}

/// Where the image has a workload of the program.
fn place(source: &Written<'_>, image: &MapImage, id: WorkloadId) -> Option<u32> {
    let workload = source.program.workloads.get(id.index())?;
    let mesh = source.program.meshes.get(workload.mesh.index())?;
    let name = format!("{}/{}", mesh.name, workload.name);
    image.workloads.binary_search_by(|one| one.name.as_str().cmp(&name)).ok().map(number)
}
