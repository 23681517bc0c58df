//! What is offered to pods and to host workloads: a program in each pod's network namespace, and one in the host's.
//!
//! The hook there knows neither namespace nor process, so every pod has a program of its own that holds the
//! pod's cookie and is pinned by the pod's key. It goes on to the program that decides for all pods, which an instance
//! has once and keeps in a map. That one looks up what the registry says of the pod, so a pod that is
//! not registered any more is decided by nobody, whether or not its program is still there.
//!
//! The host's namespace has a program only where the policy asks for it, since everybody who is dialled there
//! passes it. Whose a port is there, the programs note as sockets begin to listen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mesh_bpf::abi;
use mesh_bpf::image::Workload;
use mesh_bpf::map::{ROOMS, UNNOTED};
use mesh_bpf::membership::Membership;
use mesh_bpf::program::{Hook, Inbound, PROGRAMS};
use mesh_bpf::tables::TableData;

use crate::attach::hooks::Pinned;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::maps::set::ControlMap;
use crate::members::registry::{self, Key, Member, Origin, Registry};
use crate::system::{Fault, ProgramInfo, Store, Target, Word};

/// The pin of the host's link, beside those of pods.
const HOST: &str = "host";
/// What the host's namespace is: that in which policies are applied.
pub(crate) const HOST_NETNS: &str = "/proc/thread-self/ns/net";

/// How the host's is decided, whatever way pods are: its interfaces come and go with its pods.
const HOST_WAY: Inbound = Inbound::SkLookup;

/// Whose link it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A pod's.
    Pod(Key),
    /// The host's.
    Host,
}

/// Makes what is offered to a pod be decided. Sockets that listen there already come first: a connection must
/// not find a program and no sidecar. `false` where the pod's namespace cannot be found.
pub(crate) fn attach<S: Store>(store: &S, instance: &Instance, member: &Member) -> Result<bool> {
    let Key::Netns(cookie) = member.key else { return Ok(true) };
    if is_undecided(store, instance)? {
        return Ok(true);
    }
    let attached = attached_way(store, instance, member.key)?;
    // What does not depend on the namespace is known without looking for it.
    if attached == Some(instance.inbound) && instance.inbound == Inbound::SkLookup {
        look_again(store, instance, cookie, || find(store, member, cookie))?;
        return Ok(true);
    }
    let Some(netns) = find(store, member, cookie)? else {
        // Whoever is there decides as long as the namespace lives somewhere.
        if attached == Some(instance.inbound) {
            return Ok(true);
        }
        detach(store, instance, member.key)?;
        return Ok(false);
    };
    let way = way_for(store, instance, &netns, cookie)?;
    if attached == Some(way) {
        look_again(store, instance, cookie, || Ok(Some(netns)))?;
        return cover(store, instance, member, cookie).map(|()| true);
    }
    let links = link(store, instance, way, &netns, cookie)?;
    // Whatever is left of an attach that was killed, or of another way.
    detach(store, instance, member.key)?;
    // The first comes last: where it is there, all are.
    for (number, link) in links.iter().enumerate().rev() {
        let pin = pin(instance, member.key, number);
        store.remove(&pin)?;
        store.pin_link(link, &pin)?;
    }
    Ok(true)
}

/// The map of the network namespaces in which listening sockets were missed; none before there is one.
fn missed<S: Store>(store: &S, instance: &Instance) -> Result<Option<S::Map>> {
    Ok(store.open_map(&instance.maps().join(UNNOTED.name))?)
}

/// Whether some of the sockets that listen in a network namespace are not known: there were too many.
fn has_missed<S: Store>(store: &S, instance: &Instance, cookie: u64) -> Result<bool> {
    let Some(map) = missed(store, instance)? else { return Ok(false) };
    Ok(store.lookup(&map, &cookie.to_ne_bytes())?.is_some())
}

/// Looks for the sockets that were missed: others may have made room.
fn look_again<S: Store>(
    store: &S,
    instance: &Instance,
    cookie: u64,
    netns: impl FnOnce() -> Result<Option<PathBuf>>,
) -> Result<()> {
    if has_missed(store, instance, cookie)?
        && let Some(netns) = netns()?
    {
        look(store, instance, &netns, cookie)?;
    }
    Ok(())
}

/// Looks for all sockets that listen in a network namespace. What is missed now is noted anew.
fn look<S: Store>(store: &S, instance: &Instance, netns: &Path, cookie: u64) -> Result<()> {
    if let Some(map) = missed(store, instance)? {
        store.delete(&map, &cookie.to_ne_bytes())?;
    }
    for def in PROGRAMS.iter().filter(|def| def.hook == Hook::Iterator) {
        if let Some(iterator) = store.open_link(&instance.links().join(def.name))? {
            store.iterate(&iterator, netns, cookie)?;
        }
    }
    Ok(())
}

/// Forgets what the programs counted of a pod's listening sockets.
pub(crate) fn forget<S: Store>(store: &S, instance: &Instance, key: Key) -> Result<()> {
    let Key::Netns(cookie) = key else { return Ok(()) };
    if let Some(map) = missed(store, instance)? {
        store.delete(&map, &cookie.to_ne_bytes())?;
    }
    if let Some(map) = store.open_map(&instance.maps().join(ROOMS.name))? {
        for who in 0..2 {
            let room = abi::RoomKey { of: cookie, who, kind: abi::ROOM_OF_LISTENERS };
            store.delete(&map, bytemuck::bytes_of(&room))?;
        }
    }
    Ok(())
}

fn link<S: Store>(
    store: &S,
    instance: &Instance,
    by: Inbound,
    netns: &Path,
    cookie: u64,
) -> Result<Vec<S::Link>> {
    look(store, instance, netns, cookie)?;
    store.make_folder(&instance.pod_links())?;
    lead(store, instance, by, false)?;
    let program = store.load_entry(&instance.maps(), cookie, by)?;
    Ok(store.attach_netns(&program, by, netns, cookie, &BTreeSet::new())?)
}

/// Attaches a pod's program to the interfaces that the pod got since it was attached.
fn cover<S: Store>(store: &S, instance: &Instance, member: &Member, cookie: u64) -> Result<()> {
    let Some((netns, covered)) = uncovered(store, instance, member)? else { return Ok(()) };
    let program = store.load_entry(&instance.maps(), cookie, instance.inbound)?;
    let mut number = 1;
    for link in store.attach_netns(&program, instance.inbound, &netns, cookie, &covered)? {
        // The place of an interface that has gone is free.
        while interface(store, &pin(instance, member.key, number))?.is_some() {
            number += 1;
        }
        let pin = pin(instance, member.key, number);
        store.remove(&pin)?;
        store.pin_link(&link, &pin)?;
    }
    Ok(())
}

/// How a pod is to be decided: the instance's way, but not by tc where addresses are translated. There the kernel takes
/// away what tc gives to a listening socket.
fn way_for(store: &impl Store, instance: &Instance, netns: &Path, cookie: u64) -> Result<Inbound> {
    let by_tc = instance.inbound == Inbound::Tc && !store.translates(netns, cookie)?;
    Ok(if by_tc { Inbound::Tc } else { Inbound::SkLookup })
}

/// Where a pod has interfaces without its program: the file of its namespace, and the interfaces that have it.
fn uncovered<S: Store>(
    store: &S,
    instance: &Instance,
    member: &Member,
) -> Result<Option<(PathBuf, BTreeSet<u32>)>> {
    let Key::Netns(cookie) = member.key else { return Ok(None) };
    if attached_way(store, instance, member.key)? != Some(Inbound::Tc) {
        return Ok(None);
    }
    let Some(netns) = find(store, member, cookie)? else { return Ok(None) };
    let mut covered = BTreeSet::new();
    for number in 0.. {
        let pin = pin(instance, member.key, number);
        if store.inode(&pin)?.is_none() {
            break;
        }
        covered.extend(interface(store, &pin)?);
    }
    let has_all = store.interfaces(&netns, cookie)?.iter().all(|number| covered.contains(number));
    Ok((!has_all).then_some((netns, covered)))
}

/// The interface that a pinned link is attached to; none where it has gone.
fn interface(store: &impl Store, pin: &Path) -> Result<Option<u32>> {
    let Some(link) = store.open_link(pin)? else { return Ok(None) };
    Ok(match store.link_info(&link)?.target {
        Target::Interface(number) => Some(number),
        _ => None,
    })
}

/// What a pod lacks, in words.
pub(crate) fn fault(store: &impl Store, instance: &Instance, member: &Member) -> Result<Option<String>> {
    if !matches!(member.key, Key::Netns(_)) || is_undecided(store, instance)? {
        return Ok(None);
    }
    let name = &member.name;
    if !has_program(store, instance, member.key)? {
        return Ok(Some(format!("the pod `{name}` has no program in its network namespace")));
    }
    if translates_by_tc(store, instance, member)? {
        return Ok(Some(format!(
            "the pod `{name}` translates addresses (NAT), and the kernel takes away there what tc gives to a sidecar"
        )));
    }
    if uncovered(store, instance, member)?.is_some() {
        return Ok(Some(format!("the pod `{name}` got an interface that has no program")));
    }
    let Key::Netns(cookie) = member.key else { return Ok(None) };
    let missed = has_missed(store, instance, cookie)?;
    Ok(missed.then(|| format!("the pod `{name}` {MISSED_WORDS}")))
}

/// Whether a pod that is decided by tc has got rules since that make it decide in vain.
fn translates_by_tc<S: Store>(store: &S, instance: &Instance, member: &Member) -> Result<bool> {
    let Key::Netns(cookie) = member.key else { return Ok(false) };
    if attached_way(store, instance, member.key)? != Some(Inbound::Tc) {
        return Ok(false);
    }
    let netns = find(store, member, cookie)?;
    netns.map_or(Ok(false), |netns| Ok(store.translates(&netns, cookie)?))
}

/// What is said of a network namespace in which sockets were missed.
const MISSED_WORDS: &str = "has sockets that listen and are not known, since there were too many";

/// What the host's namespace lacks, in words.
pub(crate) fn host_fault<S: Store>(
    store: &S,
    instance: &Instance,
    control: &ControlMap<S>,
) -> Result<Option<String>> {
    if host_is_missing(store, instance, control)? {
        return Ok(Some("the network namespace of the host has no program".into()));
    }
    let host = control.load(store).host;
    let missed = host != 0 && has_missed(store, instance, host)?;
    Ok(missed.then(|| format!("the network namespace of the host {MISSED_WORDS}")))
}

/// Sees to it that pods' programs have one that decides to go on to; with `anew`, that of this build. Whether it was put
/// there: those of pods go on to one or the other, without a gap.
pub(crate) fn lead<S: Store>(store: &S, instance: &Instance, by: Inbound, anew: bool) -> Result<bool> {
    let map = map(store, instance, by)?;
    let there = decider(store, &map)?;
    if there.is_some() && !anew {
        return Ok(false);
    }
    let refused = |fault: Fault| match fault.is_refusal() {
        true => Error::CannotDecideOffers { by, fault },
        false => fault.into(),
    };
    let program = store.load_inbound(&instance.maps(), by).map_err(refused)?;
    if there.map(|there| there.tag) == Some(store.program_info(&program)?.tag) {
        return Ok(false);
    }
    store.put_program(&map, 0, &program)?;
    Ok(true)
}

/// What becomes of what is offered to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Led {
    /// It is decided, as before.
    Decided,
    /// It is decided from now on, and pods that are there have no program yet.
    Newly,
    /// It is not, in words.
    Undecided(String),
}

/// As [`lead`], for a policy with these profiles. Where the kernel refuses it and no rule of the policy decides what is
/// offered, pods go without: nothing else of a policy needs it but what keeps others from the ports that outbound
/// redirects lead to.
///
/// # Errors
/// Where the policy decides what is offered.
pub(crate) fn lead_for<S: Store>(store: &S, instance: &Instance, profiles: &TableData) -> Result<Led> {
    let was_undecided = is_undecided(store, instance)?;
    match lead(store, instance, instance.inbound, false) {
        Err(error @ Error::CannotDecideOffers { .. }) => {
            let mut all = profiles.records::<abi::Profile>().iter();
            let Error::CannotDecideOffers { by, fault } = &error else { return Err(error) };
            if all.any(|profile| profile.flags & abi::PROFILE_INBOUND_RULES != 0) {
                return Err(error);
            }
            if !was_undecided {
                store.write(&instance.undecided(*by), b"", false)?;
            }
            Ok(Led::Undecided(format!(
                "what is offered to pods cannot be decided by {} on this kernel (`meshc doctor`), and no rule of this \
                 policy asks for it: one with inbound rules is refused. Nothing keeps others from the ports of sidecars \
                 that outbound redirects lead to: let them listen on loopback only ({fault})",
                by.word()
            )))
        }
        Err(error) => Err(error),
        Ok(_) => {
            if was_undecided {
                store.remove(&instance.undecided(instance.inbound))?;
            }
            Ok(if was_undecided { Led::Newly } else { Led::Decided })
        }
    }
}

/// Whether pods go without a program, since the kernel refuses the instance's way.
fn is_undecided(store: &impl Store, instance: &Instance) -> Result<bool> {
    Ok(store.inode(&instance.undecided(instance.inbound))?.is_some())
}

/// The program that decides, by the map that it is kept in.
pub(crate) fn decider<S: Store>(store: &S, map: &S::Map) -> Result<Option<ProgramInfo>> {
    let id =
        store.lookup(map, &0u32.to_ne_bytes())?.and_then(|id| id.try_into().ok()).map(u32::from_ne_bytes);
    Ok(id.map_or(Ok(None), |id| store.program_by_id(id))?)
}

fn map<S: Store>(store: &S, instance: &Instance, by: Inbound) -> Result<S::Map> {
    let name = by.map().name;
    let missing = || Error::Incompatible { map: name.into(), what: "it is missing".into() };
    store.open_map(&instance.maps().join(name))?.ok_or_else(missing)
}

/// The program that decides, where pods' programs have none to go on to.
pub(crate) fn missing<S: Store>(store: &S, instance: &Instance) -> Result<Option<&'static str>> {
    let by = instance.inbound;
    let there = decider(store, &map(store, instance, by)?)?;
    let is_wanted = there.is_none() && !is_undecided(store, instance)?;
    Ok(is_wanted.then(|| by.program().name))
}

/// The pin of a pod's link: one has the pod's name, and where there are more, they are numbered.
fn pin(instance: &Instance, key: Key, number: usize) -> PathBuf {
    let name = if number == 0 { key.to_string() } else { format!("{key}-{number}") };
    instance.pod_links().join(name)
}

/// Whose pin it is, and whether it is the first of that place.
fn owner(name: &str) -> Option<(Place, bool)> {
    if name == HOST {
        return Some((Place::Host, true));
    }
    let numbered = || Some((Place::Pod(name.rsplit_once('-')?.0.parse().ok()?), false));
    name.parse().map_or_else(|()| numbered(), |key| Some((Place::Pod(key), true)))
}

/// Whether a policy, by its table of profiles, decides what is offered to processes that are members by their cgroup:
/// services that it names, and commands that run as one of its workloads.
pub(crate) fn is_for_host(profiles: &TableData, policy: &Membership, members: &[Member]) -> bool {
    is_of_host(abi::PROFILE_INBOUND, profiles, policy, members)
}

/// Whether rules of its do, and not only what is built in.
pub(crate) fn rules_are_for_host(profiles: &TableData, policy: &Membership, members: &[Member]) -> bool {
    is_for_host(profiles, policy, members)
        && is_of_host(abi::PROFILE_INBOUND_RULES, profiles, policy, members)
}

/// Whether a profile of such members has a flag.
fn is_of_host(flag: u32, profiles: &TableData, policy: &Membership, members: &[Member]) -> bool {
    let profiles: &[abi::Profile] = profiles.records();
    let decides = |workload: &Workload| {
        let profile = profiles.get(workload.profile.0 as usize);
        profile.is_some_and(|profile| profile.flags & flag != 0)
    };
    let named = policy.workloads.iter().filter(|workload| !workload.selector.cgroups.is_empty());
    let run = members.iter().filter_map(|member| match &member.origin {
        Origin::Run { workload, .. } => policy.workload(workload),
        _ => None,
    });
    named.chain(run).any(decides)
}

/// Sees to it that there is a program that decides what is offered on the host, where the policy asks for it.
///
/// # Errors
/// Where this kernel cannot, and a rule asks for it.
pub(crate) fn lead_host<S: Store>(
    store: &S,
    instance: &Instance,
    profiles: &TableData,
    policy: &Membership,
) -> Result<()> {
    let members = registry::members_by_cgroup(store, instance)?;
    if instance.inbound == HOST_WAY || !is_for_host(profiles, policy, &members) {
        return Ok(());
    }
    match lead(store, instance, HOST_WAY, false) {
        Err(Error::CannotDecideOffers { .. }) if !rules_are_for_host(profiles, policy, &members) => Ok(()),
        led => led.map(drop),
    }
}

/// As [`attach_host`], where the policy asks for it. Where the kernel refuses and no rule asks, its services go without;
/// then in words what that costs.
///
/// # Errors
/// Where this kernel cannot, and a rule asks for it.
pub(crate) fn attach_host_for<S: Store>(
    store: &S,
    instance: &Instance,
    control: &ControlMap<S>,
    profiles: &TableData,
    policy: &Membership,
) -> Result<Option<String>> {
    let members = registry::members_by_cgroup(store, instance)?;
    if !is_for_host(profiles, policy, &members) {
        return Ok(None);
    }
    let attached = attach_host(store, instance, control);
    without_rules(attached, || rules_are_for_host(profiles, policy, &members))
}

/// A refusal of the kernel is a warning where no rule asks for what it refuses.
fn without_rules(attached: Result<()>, has_rules: impl Fn() -> bool) -> Result<Option<String>> {
    match attached {
        Err(Error::Step(fault) | Error::CannotDecideOffers { fault, .. })
            if fault.is_refusal() && !has_rules() =>
        {
            Ok(Some(format!(
                "nothing keeps others from the ports of services of the host that outbound redirects lead to: let their \
                 sidecars listen on loopback only ({fault})"
            )))
        }
        other => other.map(|()| None),
    }
}

/// Makes what is offered on the host be decided. The word comes first: sockets that begin to listen are noted
/// from then on, and those that did before are found.
pub(crate) fn attach_host<S: Store>(store: &S, instance: &Instance, control: &ControlMap<S>) -> Result<()> {
    let netns = Path::new(HOST_NETNS);
    let cookie = store.netns_cookie(netns)?;
    let pin = instance.pod_links().join(HOST);
    if control.load(store).host == cookie && is_attached(store, &pin, HOST_WAY)? {
        return look_again(store, instance, cookie, || Ok(Some(netns.to_owned())));
    }
    unpin(store, &pin)?;
    control.set(store, Word::Host, cookie)?;
    let linked = link(store, instance, HOST_WAY, netns, cookie);
    if linked.is_err() {
        control.set(store, Word::Host, 0)?;
    }
    for link in linked? {
        store.pin_link(&link, &pin)?;
    }
    Ok(())
}

/// The same for a command: what is offered where it runs, unless another namespace is the host's.
pub(crate) fn attach_host_for_command<S: Store>(
    store: &S,
    instance: &Instance,
    control: &ControlMap<S>,
    has_rules: impl Fn() -> bool,
) -> Result<()> {
    let host = control.load(store).host;
    if host == 0 || host == store.netns_cookie(Path::new(HOST_NETNS))? {
        // What is missing without rules was said when the policy was applied.
        without_rules(attach_host(store, instance, control), has_rules)?;
    }
    Ok(())
}

/// The cookie of the host's namespace, and whether what is offered there is decided.
pub(crate) fn host<S: Store>(store: &S, control: &ControlMap<S>) -> Result<(u64, bool)> {
    Ok(match control.load(store).host {
        0 => (store.netns_cookie(Path::new(HOST_NETNS))?, false),
        cookie => (cookie, true),
    })
}

/// Lets everything that is offered on the host reach whom it is for.
pub(crate) fn detach_host<S: Store>(store: &S, instance: &Instance, control: &ControlMap<S>) -> Result<()> {
    if control.load(store).host != 0 {
        unpin(store, &instance.pod_links().join(HOST))?;
        control.set(store, Word::Host, 0)?;
    }
    Ok(())
}

/// Whether the host has no program and should have one.
fn host_is_missing<S: Store>(store: &S, instance: &Instance, control: &ControlMap<S>) -> Result<bool> {
    Ok(control.load(store).host != 0 && !is_attached(store, &instance.pod_links().join(HOST), HOST_WAY)?)
}

/// The file that the pod was attached by, or another one for its namespace, where that file has gone or stands
/// for another by now.
pub(crate) fn find(store: &impl Store, member: &Member, cookie: u64) -> Result<Option<PathBuf>> {
    if let Some(netns) = &member.netns
        && store.netns_cookie(netns).is_ok_and(|found| found == cookie)
    {
        return Ok(Some(netns.clone()));
    }
    Ok(store.find_netns(cookie)?)
}

/// Lets everything that is offered to a pod reach it.
pub(crate) fn detach(store: &impl Store, instance: &Instance, key: Key) -> Result<()> {
    unpin(store, &pin(instance, key, 0))?;
    for number in 1.. {
        let pin = pin(instance, key, number);
        if store.inode(&pin)?.is_none() {
            break;
        }
        unpin(store, &pin)?;
    }
    Ok(())
}

fn unpin(store: &impl Store, pin: &Path) -> Result<()> {
    if let Some(link) = store.open_link(pin)? {
        store.detach(&link)?;
    }
    Ok(store.remove(pin)?)
}

/// The same for all pods.
pub(crate) fn detach_all(store: &impl Store, instance: &Instance) -> Result<()> {
    let folder = instance.pod_links();
    for name in store.list(&folder)?.unwrap_or_default() {
        unpin(store, &folder.join(name))?;
    }
    Ok(store.remove_folder(&folder)?)
}

/// Every link.
pub(crate) fn pinned(store: &impl Store, instance: &Instance) -> Result<Vec<(Place, Pinned)>> {
    Ok(links(store, instance)?.into_iter().map(|(place, _, pinned)| (place, pinned)).collect())
}

/// Every link, with the name of its pin.
fn links(store: &impl Store, instance: &Instance) -> Result<Vec<(Place, String, Pinned)>> {
    let mut links = Vec::new();
    for pin in store.list(&instance.pod_links())?.unwrap_or_default() {
        let Some((place, _)) = owner(&pin) else { continue };
        if let Some(link) = store.open_link(&instance.pod_links().join(&pin))? {
            let info = store.link_info(&link)?;
            let by = way(info.target).unwrap_or(instance.inbound);
            links.push((place, pin, Pinned { name: by.program().name.into(), info }));
        }
    }
    Ok(links)
}

/// Which way a link takes; none where what it was attached to is gone.
const fn way(target: Target) -> Option<Inbound> {
    match target {
        Target::Netns(_) => Some(Inbound::SkLookup),
        Target::Interface(_) => Some(Inbound::Tc),
        _ => None,
    }
}

/// Removes pods whose namespace is gone, and the rest of those that were killed while they were removed. The
/// registry's lock is held. An interface alone may go: the first of a namespace, loopback, stays as long as that.
pub(crate) fn sweep<S: Store>(registry: &Registry<'_, S>) -> Result<()> {
    let all = links(registry.store, registry.instance)?;
    let is_whole = |place| all.iter().any(|(_, pin, _)| owner(pin) == Some((place, true)));
    for (place, pin, link) in &all {
        match (owner(pin), place) {
            (Some((_, true)), Place::Pod(key)) if link.info.target == Target::Gone => registry.leave(*key)?,
            (Some((_, false)), _) if !is_whole(*place) => {
                unpin(registry.store, &registry.instance.pod_links().join(pin))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Puts the programs of this build in the place of others, without a gap. Returns how many were replaced.
pub(crate) fn upgrade<S: Store>(store: &S, instance: &Instance) -> Result<usize> {
    let mut replaced = 0;
    for by in Inbound::ALL {
        if decider(store, &map(store, instance, by)?)?.is_some() && lead(store, instance, by, true)? {
            replaced += 1;
        }
        replaced += upgrade_way(store, instance, by)?;
    }
    Ok(replaced)
}

fn upgrade_way<S: Store>(store: &S, instance: &Instance, by: Inbound) -> Result<usize> {
    let mut links = links(store, instance)?;
    links.retain(|(_, _, link)| way(link.info.target) == Some(by));
    let host = ControlMap::open(store, instance)?.map_or(0, |control| control.load(store).host);
    let mut replaced = 0;
    for (place, pin, pinned) in links {
        let cookie = match place {
            Place::Pod(Key::Netns(cookie)) => cookie,
            Place::Pod(Key::Cgroup(_)) => continue,
            Place::Host => host,
        };
        let old = store.program_by_id(pinned.info.program)?.map(|program| program.tag);
        // The cookie is in its instructions, so each pod's is compared with its own.
        let new = store.load_entry(&instance.maps(), cookie, by)?;
        if old == Some(store.program_info(&new)?.tag) {
            continue;
        }
        if let Some(link) = store.open_link(&instance.pod_links().join(pin))? {
            store.replace(&link, &new)?;
            replaced += 1;
        }
    }
    Ok(replaced)
}

/// Whether a pod has its program, in the instance's way or in that which serves everywhere.
pub(crate) fn has_program(store: &impl Store, instance: &Instance, key: Key) -> Result<bool> {
    let attached = attached_way(store, instance, key)?;
    Ok(attached == Some(instance.inbound) || attached == Some(Inbound::SkLookup))
}

/// How a pod is decided; none where it is not.
fn attached_way(store: &impl Store, instance: &Instance, key: Key) -> Result<Option<Inbound>> {
    Ok(match store.open_link(&pin(instance, key, 0))? {
        Some(link) => way(store.link_info(&link)?.target),
        None => None,
    })
}

fn is_attached(store: &impl Store, pin: &Path, by: Inbound) -> Result<bool> {
    Ok(match store.open_link(pin)? {
        Some(link) => way(store.link_info(&link)?.target) == Some(by),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_tell_whose_they_are() {
        assert_eq!(owner("netns-12"), Some((Place::Pod(Key::Netns(12)), true)));
        assert_eq!(owner("netns-12-3"), Some((Place::Pod(Key::Netns(12)), false)));
        assert_eq!(owner("host"), Some((Place::Host, true)));
        assert_eq!(owner("other"), None);
    }
}
