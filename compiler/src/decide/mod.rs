//! Deciding: from a checked program to the IR.
//!
//! Workloads with equal rules become profiles, and for each profile and direction a prefix tree whose nodes
//! have every port decided. What is lost is precedence: nothing after this needs to know it. Redirects that
//! tie are found on the way, each with a flow; that they are errors is said by [`analysis`](crate::analysis).
//!
//! No rule is compared with every other one. Addresses are sorted; nodes with the same rules on their way to
//! the root are decided once; ports are swept.

mod acceleration;
mod boxes;
mod capacity;
mod conflict;
mod exempt;
mod items;
mod parties;
mod placement;
mod ports;
mod processes;
mod profiles;
mod thin;
mod tree;
mod written;

pub use capacity::TooLarge;
pub use conflict::Conflict;

pub(crate) use capacity::{fit_by_far, is_small, placed, things};
pub(crate) use parties::written as written_accelerations;
pub(crate) use processes::CLASSES;

use mesh_bpf::flow::{Direction, Identity};
use mesh_bpf::image::Classes;

use crate::check::Checked;
use crate::hir::{Event, Program, WorkloadId};
use crate::ir::{Ir, Profile, Side};
use boxes::Boxes;
use items::Groups;
use placement::Placed;
use ports::PortDecider;
use processes::{Processes, TooMany};
use profiles::Class;
use tree::{Contexts, TablePool};
use written::Written;

/// A checked program with everything decided, and the redirects that tie.
#[derive(Debug)]
pub struct Decided<'p> {
    program: &'p Program,
    ir: Ir,
    conflicts: Vec<Conflict>,
}

impl<'p> Decided<'p> {
    /// What was decided.
    #[must_use]
    pub const fn program(&self) -> &'p Program {
        self.program
    }

    /// Its trees, with a decision for every port.
    #[must_use]
    pub const fn ir(&self) -> &Ir {
        &self.ir
    }

    /// Every pair of rules that tie, each with a flow.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// The trees alone.
    #[must_use]
    pub fn into_ir(self) -> Ir {
        self.ir
    }
}

/// Decides every flow of a program whose statements are checked. Does not judge what comes out.
///
/// # Errors
/// Where the trees will not fit into tables of at most so many `lines` of 64 bytes: nothing is grown then. Where a
/// profile has more classes of processes than there may be.
pub fn decide(checked: Checked<'_>, lines: usize) -> Result<Decided<'_>, TooLarge> {
    decide_program(checked.program(), lines)
}

/// The same of a program that is known to be sound.
pub(crate) fn decide_program(program: &Program, lines: usize) -> Result<Decided<'_>, TooLarge> {
    let mut written = Written::of(program);
    capacity::foresee(program, &mut written, lines)?;
    let (ir, conflicts) = grow(program, written)?;
    Ok(Decided { program, ir, conflicts })
}

fn grow(program: &Program, written: Written) -> Result<(Ir, Vec<Conflict>), TooLarge> {
    let Written { items, mut groups, placement, parties, classes } = written;
    let targets = profiles::redirect_targets(program);
    let mut pool = TablePool::default();
    let mut sources = Vec::new();
    let mut conflicts = conflict::Conflicts::default();
    let mut decided = Vec::with_capacity(classes.len());
    for class in &classes {
        let sidecar_ports = profiles::sidecar_ports(&targets, &class.scopes);
        let [outbound, inbound] = Direction::ALL.map(|direction| placement.merged(direction, &class.scopes));
        let of_side = |placed: &[Placed], groups: &Groups| {
            let processes = Processes::of(&items, groups, placed);
            processes.map_err(|TooMany| capacity::too_many_classes(program, class))
        };
        let (opened, received) = (of_side(&outbound, &groups)?, of_side(&inbound, &groups)?);
        let mut contexts = [Contexts::default(), Contexts::default()];
        let mut side = |direction: Direction, placed: &[Placed], groups: &mut Groups, identity: Identity| {
            let [of_outbound, of_inbound] = &mut contexts;
            let contexts = match direction {
                Direction::Outbound => of_outbound,
                Direction::Inbound => of_inbound,
            };
            let sites = tree::sites(placed, groups);
            let boxes = Boxes { items: &items, scopes: &program.scopes };
            let decider = PortDecider { boxes, sidecar_ports: &sidecar_ports };
            let (side, tied) = tree::grow(decider, direction, (&mut pool, contexts), &sites, groups);
            conflicts.note(&items, class, (direction, identity), &side, &tied);
            side
        };
        let mut by_class = |direction: Direction, processes: &Processes, placed: &[Placed]| -> Vec<Side> {
            let all = 0..=processes.len();
            all.map(|at| {
                let placed = processes.placed(at, &items, &mut groups, placed);
                side(direction, &placed, &mut groups, processes.example(at))
            })
            .collect()
        };
        let mut outbound = by_class(Direction::Outbound, &opened, &outbound).into_iter();
        // What somebody else opens is told apart by its address alone: from the node, or not.
        let mut inbound = by_class(Direction::Inbound, &received, &inbound).into_iter();
        let sides = [outbound.next().unwrap_or_default(), inbound.next().unwrap_or_default()];
        let classes = opened.with_sides(outbound.collect(), inbound.next());
        decided.push(profile(program, class, (sides, classes), &mut sources));
    }
    let accelerations = acceleration::accelerations(&parties, &classes, &mut sources);
    for (profile, acceleration) in decided.iter_mut().zip(accelerations) {
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
    let ir = Ir { items: items.items, tables: pool.into_values(), profiles: decided, profile_of, sources };
    let conflicts = conflicts.finish(program);
    Ok((ir, conflicts))
}

fn profile(
    program: &Program,
    class: &Class,
    (sides, classes): ([Side; 2], Classes<Side>),
    sources: &mut Vec<mesh_bpf::image::Source>,
) -> Profile {
    let member = class.members.first().copied().unwrap_or(WorkloadId(0));
    Profile {
        name: class.name.clone(),
        members: class.members.clone(),
        sides,
        classes,
        exempt: exempt::exemptions(program, &class.scopes, sources),
        missing_sidecar_refuse: profiles::refuses(program, member, Event::MissingSidecar),
        failed_attach_refuse: profiles::refuses(program, member, Event::FailedAttach),
        acceleration: mesh_bpf::image::Acceleration::default(),
    }
}
