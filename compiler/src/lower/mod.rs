//! Lowering: from the IR to the map image, the shape of the kernel's tables. Items become sources, and all of
//! it its one canonical form.

mod origins;
#[cfg(test)]
mod tests;

pub use origins::{CountedOrigin, ItemOrigin, Origins};

use mesh_bpf::image::{
    Decision, MapImage, Node, PortTable, PortTableId, Profile, ProfileId, Side, Source, SourceId, Workload,
};

use crate::analysis::{Analyzed, Aside};
use crate::hir::item::{self, BuiltIn};
use crate::hir::{MeshId, Program};
use crate::ir::{self, Decider, Ir};

/// Gives what was decided, and found to be without error, the shape of the kernel's tables. Does not decide
/// anything, nor prove the result.
#[must_use]
pub fn lower(analyzed: Analyzed<'_>) -> MapImage {
    let program = analyzed.program();
    image(program, analyzed.into_ir())
}

/// The same of what was set aside, with its program, or one that says the same.
pub(crate) fn lower_aside(program: &Program, aside: Aside) -> Option<MapImage> {
    Some(image(program, aside.into_ir(program)?))
}

fn image(program: &Program, ir: Ir) -> MapImage {
    let numbers = Numbers { items: ir.sources.len(), built_ins: ir.sources.len() + ir.items.len() };
    let mut sources = ir.sources;
    sources.extend(ir.items.iter().map(|item| {
        let scope = program.scopes.get(item.scope.index()).map_or("", |scope| scope.name.as_str());
        item::source(scope, item.always, item.direction, item.verdict, item.protocol, &item.ports, &item.who)
    }));
    sources.extend(BuiltIn::ALL.map(BuiltIn::source));
    sources.push(Source::default());
    let workloads = (program.workloads.iter().zip(&ir.profile_of))
        .map(|(workload, &profile)| Workload {
            name: format!("{}/{}", mesh_name(program, workload.mesh), workload.name),
            selector: workload.selector.clone(),
            profile: ProfileId(profile),
        })
        .collect();
    MapImage {
        meshes: program.meshes.iter().map(|mesh| mesh.name.clone()).collect(),
        sources,
        port_tables: ir.tables.iter().map(|table| numbers.table(table)).collect(),
        profiles: ir.profiles.into_iter().map(|profile| numbers.profile(profile)).collect(),
        workloads,
    }
    .canonical()
}

fn mesh_name(program: &Program, mesh: MeshId) -> &str {
    program.meshes.get(mesh.index()).map_or("", |mesh| mesh.name.as_str())
}

/// Where items and built-ins begin among the sources; "no rule" is the last.
struct Numbers {
    items: usize,
    built_ins: usize,
}

impl Numbers {
    fn source(&self, decider: Decider) -> SourceId {
        let index = match decider {
            Decider::Item(item) => self.items + item.0 as usize,
            Decider::BuiltIn(built_in) => self.built_ins + built_in as usize,
            Decider::NoRule => self.built_ins + BuiltIn::ALL.len(),
        };
        SourceId(crate::ir::count(index))
    }

    fn table(&self, table: &ir::PortIntervals) -> PortTable {
        let decision = |outcome: ir::Outcome| Decision {
            verdict: outcome.verdict,
            source: self.source(outcome.decider),
            up: outcome.up,
        };
        PortTable { stretches: table.iter().map(|&(first, outcome)| (first, decision(outcome))).collect() }
    }

    fn profile(&self, profile: ir::Profile) -> Profile {
        let ir::Profile { name, sides, classes, exempt, acceleration, .. } = profile;
        let side = |side: ir::Side| Side { tree: self.nodes(&side.tree), own: self.nodes(&side.own) };
        Profile {
            name,
            sides: sides.map(side),
            classes: classes.map(side),
            exempt,
            missing_sidecar_refuse: profile.missing_sidecar_refuse,
            failed_attach_refuse: profile.failed_attach_refuse,
            acceleration,
        }
    }

    fn nodes(&self, nodes: &[ir::Node]) -> Vec<Node> {
        let table = |id: ir::TableId| PortTableId(id.0);
        let node = |node: &ir::Node| Node {
            prefix: node.prefix,
            source: self.source(node.least),
            ports: node.tables.map(table),
        };
        nodes.iter().map(node).collect()
    }
}
