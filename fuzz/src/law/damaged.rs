//! An image with one mistake in it: what lowering might have made, had it a bug. The proof refuses each that
//! decides a flow otherwise, or credits it to another item.
//!
//! What a flow becomes is read from the tables here as the programs walk them, and by nothing of the proof.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Identity, Protocol, Verdict};
use mesh_bpf::image::{Classes, IdRange, MapImage, Node, PortTableId, Profile, ProfileId, SourceId};
use mesh_bpf::pack::pack;
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::sim::{Sim, TreeOf};
use mesh_bpf::tables::Tables;
use mesh_compiler::compile::Compiled;
use mesh_compiler::hir::Program;
use mesh_compiler::prove::prove;

use crate::random::Random;
use crate::{Broken, Held};

/// One way to damage an image, somewhere. Gives nothing back where there is no place for it.
type Mistake = fn(&mut MapImage, &mut Random) -> Option<()>;

/// All ways, each with a name.
pub const MISTAKES: [(&str, Mistake); 26] = [
    ("a stretch of ports is dropped", drop_stretch),
    ("a bound of ports is off by one", shift_bound),
    ("a verdict is another", change_verdict),
    ("a redirect leads to another port", change_sidecar),
    ("a redirect is transparent, or no more", change_transparency),
    ("an item is looked for at another node", climb_elsewhere),
    ("another source is credited", credit_another),
    ("a node has the ports of another", swap_table),
    ("a node has TCP and UDP the wrong way round", swap_protocols),
    ("a node is dropped", drop_node),
    ("a node is at another prefix", move_node),
    ("outbound and inbound are the wrong way round", swap_directions),
    ("a member's own addresses have the tree of all", own_is_all),
    ("an exemption is dropped", drop_exemption),
    ("the bound of an exemption is off by one", shift_exemption),
    ("an `on` is answered otherwise", answer_otherwise),
    ("an accelerated port is dropped", drop_acceleration),
    ("a pair is accelerated on one side alone", drop_peer),
    ("a workload falls under another profile", change_profile),
    ("a workload selects nobody", drop_selector),
    ("a combination of identities is of another class", change_class),
    ("the bound of users or groups of a class is off by one", shift_class),
    ("users, groups or a cgroup of a class are in another part", change_part),
    ("a cgroup of a class is another one", move_cgroup),
    ("two classes are the wrong way round", swap_classes),
    ("what comes from the node is decided as what comes from elsewhere", swap_ends),
];

/// What came of one mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// There was no place for it, or the same image came out.
    Nothing,
    /// It changes no decision that anybody can ask for, or no table can hold it.
    Harmless,
    /// The proof refused it.
    Refused,
}

/// Makes one mistake and holds the proof to it.
///
/// # Errors
/// A decision is another, and the proof accepted it.
pub fn damaged(
    program: &Program,
    compiled: &Compiled,
    mistake: (&str, Mistake),
    random: &mut Random,
) -> Result<Came, Broken> {
    let mut image = compiled.image.clone();
    if mistake.1(&mut image, random).is_none() {
        return Ok(Came::Nothing);
    }
    let image = image.canonical();
    if image == compiled.image {
        return Ok(Came::Nothing);
    }
    let Ok(tables) = pack(&image) else { return Ok(Came::Harmless) };
    if prove(program, &tables).is_err() {
        return Ok(Came::Refused);
    }
    if says_the_same((&compiled.image, &compiled.tables), (&image, &tables)) == Some(true) {
        return Ok(Came::Harmless);
    }
    Err(Broken::new("the proof refuses what decides otherwise", mistake.0))
}

/// Every mistake, this many times each.
///
/// # Errors
/// The mistake that the proof accepted.
pub fn all_mistakes(program: &Program, compiled: &Compiled, times: usize, random: &mut Random) -> Held {
    for mistake in MISTAKES {
        for _ in 0..times {
            damaged(program, compiled, mistake, random)?;
        }
    }
    Ok(())
}

/// A stretch of ports with its verdict, and the item that is credited.
type Step = (PortRange, Verdict, String);

/// A stretch of addresses in one of a workload's trees (the direction, and whether it is that of own addresses), its
/// first and last address, and what is decided by port for TCP and UDP.
type Stretch = (Direction, bool, IpAddr, IpAddr, [Vec<Step>; 2]);

/// What a workload's flows become.
struct Said<'i> {
    /// Those that it opens, and those that it receives, by class.
    flows: [Vec<Vec<Stretch>>; 2],
    /// Which flow is of which class.
    profile: ProfileId,
    classes: &'i Classes,
    /// Who is exempt, what `on` answers and what is accelerated, with the workloads of the other end.
    rest: String,
}

/// Whether every flow of every process becomes the same. `None` where tables cannot be walked.
fn says_the_same(one: (&MapImage, &Tables), other: (&MapImage, &Tables)) -> Option<bool> {
    let sims = (Sim::new(one.1).ok()?, Sim::new(other.1).ok()?);
    let (before, after) = (said(one.0, &sims.0)?, said(other.0, &sims.1)?);
    if !before.keys().eq(after.keys()) {
        return Some(false);
    }
    for (before, after) in before.values().zip(after.values()) {
        let mut pairs = BTreeSet::new();
        for identity in identities([before.classes, after.classes]) {
            for (at, direction) in Direction::ALL.into_iter().enumerate() {
                let class = |sim: &Sim<'_>, said: &Said<'_>| sim.class_of(said.profile, direction, &identity);
                pairs.insert((at, class(&sims.0, before)?, class(&sims.1, after)?));
            }
        }
        let of = |said: &Said<'_>, at: usize, class: u32| said.flows.get(at)?.get(class as usize).cloned();
        let alike = pairs.into_iter().all(|(at, one, other)| of(before, at, one) == of(after, at, other));
        if before.rest != after.rest || !alike {
            return Some(false);
        }
    }
    Some(true)
}

/// A process of each kind that classes may tell apart.
fn identities(classes: [&Classes; 2]) -> impl Iterator<Item = Identity> {
    let ids = |of: fn(&Classes) -> &[(IdRange, u32)]| {
        let ranges = classes.into_iter().flat_map(of);
        let cuts = ranges.flat_map(|(range, _)| [Some(range.first), range.last.checked_add(1)]);
        cuts.flatten().map(Some).chain([None, Some(0)]).collect::<BTreeSet<_>>()
    };
    let (users, groups) = (ids(|classes| &classes.uids), ids(|classes| &classes.gids));
    let paths = classes.into_iter().flat_map(|classes| &classes.cgroups).map(|(path, _)| Some(path.clone()));
    let paths: BTreeSet<Option<String>> = paths.chain([None]).collect();
    users.into_iter().flat_map(move |uid| {
        let paths = paths.clone();
        groups
            .clone()
            .into_iter()
            .flat_map(move |gid| paths.clone().into_iter().map(move |cgroup| (gid, cgroup)))
            .flat_map(move |(gid, cgroup)| {
                [false, true].map(|node| Identity { uid, gid, cgroup: cgroup.clone(), interface: None, node })
            })
    })
}

/// By workload, with its selectors. `None` where the tables cannot be walked.
fn said<'i>(image: &'i MapImage, sim: &Sim<'_>) -> Option<BTreeMap<String, Said<'i>>> {
    let one = |workload: &mesh_bpf::image::Workload| {
        let profile = image.profile(workload.profile)?;
        let stretches = |class, direction| {
            let mut stretches = Vec::new();
            for own in [false, true] {
                let tree = TreeOf { profile: workload.profile, class, direction, own };
                for span in sim.address_spans(tree)? {
                    let [tcp, udp] = Protocol::ALL.map(|protocol| steps(image, sim, span.node, protocol));
                    stretches.push((direction, own, span.first, span.last, [tcp?, udp?]));
                }
            }
            Some(stretches)
        };
        let by_class = |direction| {
            let classes = 0..=u32::try_from(profile.classes.of(direction).len()).ok()?;
            classes.map(|class| stretches(class, direction)).collect::<Option<_>>()
        };
        let [outbound, inbound] = Direction::ALL.map(by_class);
        let said = Said {
            flows: [outbound?, inbound?],
            profile: workload.profile,
            classes: &profile.classes,
            rest: rest(image, profile),
        };
        Some((format!("{} {:?}", workload.name, workload.selector), said))
    };
    image.workloads.iter().map(one).collect()
}

fn steps(image: &MapImage, sim: &Sim<'_>, node: u32, protocol: Protocol) -> Option<Vec<Step>> {
    let ranges = sim.port_ranges(sim.ports(node, protocol)?)?;
    let step = |(range, decision): (PortRange, mesh_bpf::image::Decision)| {
        let mut at = node;
        for _ in 0..decision.up {
            at = sim.node(at)?.1?;
        }
        Some((range, decision.verdict, image.source(decision.source).credit(sim.node(at)?.0)))
    };
    ranges.into_iter().map(step).collect()
}

fn rest(image: &MapImage, profile: &Profile) -> String {
    let heads = |id: SourceId| &image.source(id).head;
    let exempt = &profile.exempt;
    let ids = |of: &[(mesh_bpf::image::IdRange, SourceId)]| {
        of.iter().map(|&(range, source)| format!("{range} by {}", heads(source))).collect::<Vec<_>>()
    };
    let members = |id: ProfileId| {
        image.workloads.iter().filter(move |one| one.profile == id).map(|one| one.name.as_str())
    };
    let local: Vec<PortRange> = profile.acceleration.local.iter().map(|(range, _)| *range).collect();
    let peers: Vec<(Vec<&str>, Vec<PortRange>)> = (profile.acceleration.peers.iter())
        .map(|(peer, ranges)| (members(*peer).collect(), ranges.iter().map(|(range, _)| *range).collect()))
        .collect();
    format!(
        "{:?} {:?} {:?} {:?} {} {} {local:?} {peers:?}",
        ids(&exempt.uids),
        ids(&exempt.gids),
        exempt.cgroups,
        exempt.interfaces,
        profile.missing_sidecar_refuse,
        profile.failed_attach_refuse
    )
}

fn any<'t, T>(things: &'t mut [T], random: &mut Random) -> Option<&'t mut T> {
    let index = random.below(things.len());
    things.get_mut(index)
}

/// One of the stretches of one port table.
fn stretch<'i>(
    image: &'i mut MapImage,
    random: &mut Random,
) -> Option<&'i mut (u16, mesh_bpf::image::Decision)> {
    any(&mut any(&mut image.port_tables, random)?.stretches, random)
}

/// One of the trees.
fn tree<'i>(image: &'i mut MapImage, random: &mut Random) -> Option<&'i mut Vec<Node>> {
    let profile = any(&mut image.profiles, random)?;
    let of_node = profile.classes.from_node.is_some() && random.once_in(3);
    let of_class = !profile.classes.sides.is_empty() && random.once_in(2);
    let side = match (of_node, of_class) {
        (true, _) => profile.classes.from_node.as_mut()?,
        (false, true) => any(&mut profile.classes.sides, random)?,
        (false, false) => any(&mut profile.sides, random)?,
    };
    Some(if random.once_in(4) { &mut side.own } else { &mut side.tree })
}

fn drop_stretch(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let table = any(&mut image.port_tables, random)?;
    let index = random.below(table.stretches.len());
    if table.stretches.len() < 2 {
        return None;
    }
    table.stretches.remove(index);
    // Ports are decided from 0 on.
    table.stretches.first_mut()?.0 = 0;
    Some(())
}

fn shift_bound(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let table = any(&mut image.port_tables, random)?;
    let index = 1 + random.below(table.stretches.len().saturating_sub(1));
    let bound = table.stretches.get(index)?.0;
    let bound = if random.once_in(2) { bound.checked_add(1)? } else { bound.checked_sub(1)? };
    let before = table.stretches.get(index - 1)?.0;
    let after = table.stretches.get(index + 1).map_or(u16::MAX, |next| next.0);
    // No rule can name port 0.
    if bound <= before.max(1) || bound >= after {
        return None;
    }
    table.stretches.get_mut(index)?.0 = bound;
    Some(())
}

fn change_verdict(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let (_, decision) = stretch(image, random)?;
    decision.verdict = match decision.verdict {
        Verdict::Denied | Verdict::Redirected { .. } => Verdict::Excluded,
        Verdict::Excluded => Verdict::Denied,
    };
    Some(())
}

fn change_sidecar(image: &mut MapImage, random: &mut Random) -> Option<()> {
    match &mut stretch(image, random)?.1.verdict {
        Verdict::Redirected { port, .. } => *port ^= 1,
        _ => return None,
    }
    Some(())
}

fn change_transparency(image: &mut MapImage, random: &mut Random) -> Option<()> {
    match &mut stretch(image, random)?.1.verdict {
        Verdict::Redirected { transparent, .. } => *transparent = !*transparent,
        _ => return None,
    }
    Some(())
}

fn climb_elsewhere(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let (_, decision) = stretch(image, random)?;
    decision.up = if random.once_in(2) { decision.up + 1 } else { decision.up.checked_sub(1)? };
    Some(())
}

fn credit_another(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let another = SourceId(u32::try_from(random.below(image.sources.len())).ok()?);
    stretch(image, random)?.1.source = another;
    Some(())
}

fn swap_table(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let another = PortTableId(u32::try_from(random.below(image.port_tables.len())).ok()?);
    let node = any(tree(image, random)?, random)?;
    *any(&mut node.ports, random)? = another;
    Some(())
}

fn swap_protocols(image: &mut MapImage, random: &mut Random) -> Option<()> {
    any(tree(image, random)?, random)?.ports.reverse();
    Some(())
}

fn drop_node(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let tree = tree(image, random)?;
    // The first is the root.
    let index = 1 + random.below(tree.len().saturating_sub(1));
    if index >= tree.len() {
        return None;
    }
    tree.remove(index);
    Some(())
}

fn move_node(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let tree = tree(image, random)?;
    let index = 1 + random.below(tree.len().saturating_sub(1));
    let moved = match tree.get(index)?.prefix {
        Prefix::Any | Prefix::V4 { len: 0, .. } | Prefix::V6 { len: 0, .. } => return None,
        Prefix::V4 { bits, len } => Prefix::V4 { bits: bits ^ (1 << (32 - len)), len },
        Prefix::V6 { bits, len } => Prefix::V6 { bits: bits ^ (1 << (128 - len)), len },
    };
    if tree.iter().any(|node| node.prefix == moved) {
        return None;
    }
    tree.get_mut(index)?.prefix = moved;
    Some(())
}

fn swap_directions(image: &mut MapImage, random: &mut Random) -> Option<()> {
    any(&mut image.profiles, random)?.sides.reverse();
    Some(())
}

fn own_is_all(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let profile = any(&mut image.profiles, random)?;
    let side = any(&mut profile.sides, random)?;
    let is_host = |node: &&Node| node.prefix == Prefix::Any || node.prefix.is_host();
    side.own = side.tree.iter().filter(is_host).copied().collect();
    Some(())
}

fn drop_exemption(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let exempt = &mut any(&mut image.profiles, random)?.exempt;
    match random.below(4) {
        0 => drop(exempt.uids.pop()?),
        1 => drop(exempt.gids.pop()?),
        2 => drop(exempt.interfaces.pop()?),
        _ => drop(exempt.cgroups.pop()?),
    }
    Some(())
}

fn shift_exemption(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let exempt = &mut any(&mut image.profiles, random)?.exempt;
    let of = if random.once_in(2) { &mut exempt.uids } else { &mut exempt.gids };
    // The last has nothing behind it that it could run into.
    let range = &mut of.last_mut()?.0;
    range.last = range.last.checked_add(1)?;
    Some(())
}

fn answer_otherwise(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let profile = any(&mut image.profiles, random)?;
    let answer = if random.once_in(2) {
        &mut profile.missing_sidecar_refuse
    } else {
        &mut profile.failed_attach_refuse
    };
    *answer = !*answer;
    Some(())
}

fn drop_acceleration(image: &mut MapImage, random: &mut Random) -> Option<()> {
    any(&mut image.profiles, random)?.acceleration.local.pop()?;
    Some(())
}

fn drop_peer(image: &mut MapImage, random: &mut Random) -> Option<()> {
    any(&mut image.profiles, random)?.acceleration.peers.pop_last()?;
    Some(())
}

fn change_profile(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let another = ProfileId(u32::try_from(random.below(image.profiles.len())).ok()?);
    any(&mut image.workloads, random)?.profile = another;
    Some(())
}

fn drop_selector(image: &mut MapImage, random: &mut Random) -> Option<()> {
    any(&mut image.workloads, random)?.selector = mesh_bpf::selector::Selector::default();
    Some(())
}

/// Those of one of the profiles that have any such.
fn classes<'i>(
    image: &'i mut MapImage,
    random: &mut Random,
    has: fn(&Classes) -> bool,
) -> Option<&'i mut Classes> {
    let index = random.below(image.profiles.iter().filter(|profile| has(&profile.classes)).count());
    image.profiles.iter_mut().map(|profile| &mut profile.classes).filter(|classes| has(classes)).nth(index)
}

/// Whether they are told apart at all; by the node alone too.
fn has_sides(classes: &Classes) -> bool {
    !classes.sides.is_empty()
}

fn has_ids(classes: &Classes) -> bool {
    !classes.uids.is_empty() || !classes.gids.is_empty()
}

fn has_cgroups(classes: &Classes) -> bool {
    !classes.cgroups.is_empty()
}

fn change_class(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let classes = classes(image, random, has_sides)?;
    let another = u32::try_from(random.below(1 + classes.sides.len())).ok()?;
    *any(&mut classes.cells, random)? = another;
    Some(())
}

fn shift_class(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let classes = classes(image, random, has_ids)?;
    let of = if random.once_in(2) { &mut classes.uids } else { &mut classes.gids };
    let range = &mut of.last_mut()?.0;
    range.last = range.last.checked_add(1)?;
    Some(())
}

fn change_part(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let classes = classes(image, random, |classes| has_ids(classes) || has_cgroups(classes))?;
    let before = classes.parts();
    let mut last = |part: u32| u32::try_from(random.below(part as usize)).ok().filter(|&part| part != 0);
    let [users, groups, cgroups, _] = before.map(&mut last);
    match random.below(3) {
        0 => any(&mut classes.uids, random)?.1 = users?,
        1 => any(&mut classes.gids, random)?.1 = groups?,
        _ => any(&mut classes.cgroups, random)?.1 = cgroups?,
    }
    // Else there were too many cells.
    (classes.parts() == before).then_some(())
}

fn move_cgroup(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let classes = classes(image, random, has_cgroups)?;
    any(&mut classes.cgroups, random)?.0.push('0');
    classes.cgroups.sort_unstable();
    Some(())
}

fn swap_ends(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let has = |profile: &Profile| profile.classes.from_node.is_some();
    let index = random.below(image.profiles.iter().filter(|profile| has(profile)).count());
    let profile = image.profiles.iter_mut().filter(|profile| has(profile)).nth(index)?;
    let [_, inbound] = &mut profile.sides;
    std::mem::swap(inbound, profile.classes.from_node.as_mut()?);
    Some(())
}

fn swap_classes(image: &mut MapImage, random: &mut Random) -> Option<()> {
    let classes = classes(image, random, |classes| classes.sides.len() > 1)?;
    let [one, other] = [(); 2].map(|()| random.below(classes.sides.len()));
    classes.sides.swap(one, other);
    Some(())
}
