//! Lowering: from a checked program to the map image.
//!
//! Two passes. [`resolve`] makes the IR: workloads with equal rules become profiles, and for each
//! profile and direction a prefix tree whose nodes have every port resolved. [`image`] gives it the shape
//! of the kernel's tables. What is lost is precedence: nothing after this needs to know it.
//!
//! No rule is compared with every other one. Addresses are sorted; nodes with the same rules on their way to
//! the root are resolved once; ports are swept.

mod acceleration;
mod conflict;
mod exempt;
mod image;
mod items;
mod origins;
mod placement;
mod ports;
mod profiles;
mod thin;
mod tree;

pub use conflict::Conflict;
pub use origins::{ItemOrigin, Origins};

use mesh_bpf::flow::Direction;
use mesh_bpf::image::MapImage;

use crate::hir::{Event, Program, WorkloadId};
use crate::ir::{Ir, Profile, Side};
use items::Items;
use placement::Placement;
use ports::Resolver;
use profiles::Class;
use tree::TablePool;

/// Lowers a program whose checks have passed. Does not check anything, nor prove the result.
#[must_use]
pub fn lower(program: &Program) -> MapImage {
    let (ir, _) = resolve(program);
    image(program, ir)
}

/// The first pass: trees with resolved ports. Gives back every pair of rules that tie, each with a flow.
#[must_use]
pub fn resolve(program: &Program) -> (Ir, Vec<Conflict>) {
    let (items, mut groups) = Items::of(program);
    let placement = Placement::of(program, &items, &mut groups);
    let parties = acceleration::Parties::of(program);
    let classes = profiles::classes(program, &parties);
    let targets = profiles::redirect_targets(program);
    let mut pool = TablePool::default();
    let mut sources = Vec::new();
    let mut conflicts = conflict::Conflicts::default();
    let mut lowered = Vec::with_capacity(classes.len());
    for class in &classes {
        let sidecar_ports = profiles::sidecar_ports(&targets, &class.scopes);
        let sides = Direction::ALL.map(|direction| {
            let placed = placement.merged(direction, &class.scopes);
            let sites = tree::sites(&placed, &mut groups);
            let resolver = Resolver { items: &items, scopes: &program.scopes, sidecar_ports: &sidecar_ports };
            let (side, tied) = tree::grow(resolver, direction, &mut pool, &sites, &groups);
            conflicts.note(&items, class, direction, &side, &tied);
            side
        });
        lowered.push(profile(program, class, sides, &mut sources));
    }
    let accelerations = parties.accelerations(&classes, &mut sources);
    for (profile, acceleration) in lowered.iter_mut().zip(accelerations) {
        profile.acceleration = acceleration;
    }
    let mut profile_of = vec![0; program.workloads.len()];
    for (index, member) in
        (0u32..).zip(&classes).flat_map(|(index, class)| class.members.iter().map(move |m| (index, m)))
    {
        if let Some(slot) = profile_of.get_mut(member.index()) {
            *slot = index;
        }
    }
    let ir = Ir { items: items.items, tables: pool.into_values(), profiles: lowered, profile_of, sources };
    let conflicts = conflicts.finish(program);
    (ir, conflicts)
}

/// How many prefixes the trees of all profiles have at the least, without growing one.
#[must_use]
pub fn nodes(program: &Program) -> usize {
    let (items, mut groups) = Items::of(program);
    let placement = Placement::of(program, &items, &mut groups);
    let classes = profiles::classes(program, &acceleration::Parties::of(program));
    let distinct = |placed: Vec<placement::Placed>| placed.chunk_by(|a, b| a.prefix == b.prefix).count();
    let of_class =
        |class: &Class| Direction::ALL.map(|direction| distinct(placement.merged(direction, &class.scopes)));
    classes.iter().flat_map(of_class).sum()
}

/// The second pass: the IR in the shape of the kernel's tables.
#[must_use]
pub fn image(program: &Program, ir: Ir) -> MapImage {
    image::image(program, ir)
}

fn profile(
    program: &Program,
    class: &Class,
    sides: [Side; 2],
    sources: &mut Vec<mesh_bpf::image::Source>,
) -> Profile {
    let member = class.members.first().copied().unwrap_or(WorkloadId(0));
    Profile {
        name: class.name.clone(),
        members: class.members.clone(),
        sides,
        exempt: exempt::exemptions(program, &class.scopes, sources),
        missing_sidecar_refuse: profiles::refuses(program, member, Event::MissingSidecar),
        failed_attach_refuse: profiles::refuses(program, member, Event::FailedAttach),
        acceleration: mesh_bpf::image::Acceleration::default(),
    }
}

/// Arenas hold fewer than 2³² things: a program of that many would not fit into memory.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
