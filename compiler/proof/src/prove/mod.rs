//! The proof of a compile: the tables say exactly what the policy means.
//!
//! Decisions are piecewise constant, so equality can be checked and need not be sampled. The tables are
//! read back as the programs walk them: for each profile and direction every stretch of addresses with the
//! node that serves it, and for each node every stretch of ports. The policy's meaning is worked out by
//! the evaluator on pieces that are cut at every boundary that a rule has. Both must agree on every piece,
//! in the verdict, in the item that is credited and in its address; and on no piece may two redirects tie,
//! since then the policy has no meaning there. Processes are cut in the same way, and all of this is compared for every
//! class of them. What has no address (exemptions, `on`, selectors,
//! acceleration) is compared beside it.
//!
//! Nothing here is shared with lowering. Pieces with the same rules around them are compared once.

mod addresses;
mod disproof;
mod meaning;
mod processes;
mod rest;

use std::collections::BTreeSet;

use mesh_bpf::flow::Direction;
use mesh_bpf::image::ProfileId;
use mesh_bpf::sim::Sim;
use mesh_bpf::tables::Tables;
use mesh_bpf::unpack::unpack;
use mesh_hir::region::applies;
use mesh_hir::{Program, ScopeId, WorkloadId};

use disproof::plain;
use meaning::Boxes;

pub use disproof::Disproof;

/// Proves that `tables` mean what `program` means.
///
/// # Errors
/// The first difference, with a flow as witness where it is about flows.
pub fn prove(program: &Program, tables: &Tables) -> Result<(), Box<Disproof>> {
    let image = unpack(tables).map_err(|damaged| plain("tables that can be read", damaged))?;
    let sim = Sim::new(tables).map_err(|damaged| plain("tables that can be read", damaged))?;
    rest::workloads(program, &image)?;
    let mut boxes = Boxes::of(program, &image);
    let mut proved: BTreeSet<(ProfileId, Vec<ScopeId>)> = BTreeSet::new();
    for (id, workload) in (0u32..).map(WorkloadId).zip(&image.workloads) {
        let scopes = reaching(program, id);
        if !proved.insert((workload.profile, scopes.clone())) {
            continue;
        }
        let at = |mut disproof: Box<Disproof>| {
            disproof.workload = Some(workload.name.clone());
            disproof
        };
        rest::profile(program, &image, id, workload.profile).map_err(at)?;
        for direction in Direction::ALL {
            let written = boxes.written(program, &scopes, direction);
            let pairs =
                processes::classes(program, &image, &scopes, (workload.profile, direction)).map_err(at)?;
            let mut memory = addresses::Memory::default();
            for ((whos, class), identity) in pairs {
                let written = boxes.of_processes(&written, &whos);
                let side = addresses::Side { boxes: &boxes, sim: &sim, image: &image, direction };
                let of = |mut disproof: Box<Disproof>| {
                    disproof.identity = disproof.flow.is_some().then(|| identity.clone());
                    at(disproof)
                };
                side.prove(program, &scopes, (workload.profile, class), &written, &mut memory).map_err(of)?;
            }
        }
    }
    rest::accelerations(program, &image)
}

/// The scopes that reach a workload.
fn reaching(program: &Program, workload: WorkloadId) -> Vec<ScopeId> {
    let scopes = (0u32..).map(ScopeId).zip(&program.scopes);
    scopes.filter(|(_, scope)| applies(scope, workload)).map(|(id, _)| id).collect()
}
