//! What is offered to pods and to host workloads: a program in each pod's network namespace, and one in the host's.
//!
//! The hook there knows neither namespace nor process, so every pod has a program of its own that holds the
//! pod's cookie and is pinned by the pod's key. It looks up what the registry says of the pod, so a pod that is
//! not registered any more is decided by nobody, whether or not its program is still there.
//!
//! The host's namespace has a program only where the policy asks for it, since everybody who is dialled there
//! passes it. Whose a port is there, the programs note as sockets begin to listen.

use std::path::{Path, PathBuf};

use mesh_bpf::abi;
use mesh_bpf::image::Workload;
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::program::{Hook, INBOUND, PROGRAMS};
use mesh_bpf::tables::Tables;

use crate::error::Result;
use crate::hooks::Pinned;
use crate::instance::Instance;
use crate::registry::{Key, Member, Registry};
use crate::set::ControlMap;
use crate::store::{Store, Target, Word};

/// The pin of the host's link, beside those of pods.
const HOST: &str = "host";
/// What the host's namespace is: that in which policies are applied.
const HOST_NETNS: &str = "/proc/thread-self/ns/net";

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
    let pin = instance.pod_links().join(member.key.to_string());
    if let Some(link) = store.open_link(&pin)? {
        if store.link_info(&link)?.target != Target::Gone {
            return Ok(true);
        }
        store.remove(&pin)?;
    }
    let Some(netns) = find(store, member, cookie)? else { return Ok(false) };
    link(store, instance, &netns, cookie, &pin)?;
    Ok(true)
}

fn link<S: Store>(store: &S, instance: &Instance, netns: &Path, cookie: u64, pin: &Path) -> Result<()> {
    for def in PROGRAMS.iter().filter(|def| def.hook == Hook::Iterator) {
        if let Some(iterator) = store.open_link(&instance.links().join(def.name))? {
            store.iterate(&iterator, netns, cookie)?;
        }
    }
    store.make_folder(&instance.pod_links())?;
    let program = store.load_inbound(&instance.maps(), cookie)?;
    let link = store.attach_netns(&program, netns, cookie)?;
    Ok(store.pin_link(&link, pin)?)
}

/// Whether a policy decides what is offered to processes that are members by their cgroup.
pub(crate) fn is_for_host(tables: &Tables, policy: &Membership) -> bool {
    let profiles: &[abi::Profile] = tables.get(Table::Profiles).records();
    let decides = |workload: &Workload| {
        let profile = profiles.get(workload.profile.0 as usize);
        profile.is_some_and(|profile| profile.flags & abi::PROFILE_INBOUND != 0)
    };
    policy.workloads.iter().any(|workload| !workload.selector.cgroups.is_empty() && decides(workload))
}

/// Makes what is offered on the host be decided. The word comes first: sockets that begin to listen are noted
/// from then on, and those that did before are found.
pub(crate) fn attach_host<S: Store>(store: &S, instance: &Instance, control: &ControlMap<S>) -> Result<()> {
    let netns = Path::new(HOST_NETNS);
    let cookie = store.netns_cookie(netns)?;
    let pin = instance.pod_links().join(HOST);
    if control.load(store).host == cookie && is_attached(store, &pin)? {
        return Ok(());
    }
    unpin(store, &pin)?;
    control.set(store, Word::Host, cookie)?;
    link(store, instance, netns, cookie, &pin)
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
pub(crate) fn host_is_missing<S: Store>(
    store: &S,
    instance: &Instance,
    control: &ControlMap<S>,
) -> Result<bool> {
    Ok(control.load(store).host != 0 && !is_attached(store, &instance.pod_links().join(HOST))?)
}

/// The file that the pod was attached by, or another one for its namespace, where that file has gone or stands
/// for another by now.
fn find(store: &impl Store, member: &Member, cookie: u64) -> Result<Option<PathBuf>> {
    if let Some(netns) = &member.netns
        && store.netns_cookie(netns).is_ok_and(|found| found == cookie)
    {
        return Ok(Some(netns.clone()));
    }
    Ok(store.find_netns(cookie)?)
}

/// Lets everything that is offered to a pod reach it.
pub(crate) fn detach(store: &impl Store, instance: &Instance, key: Key) -> Result<()> {
    unpin(store, &instance.pod_links().join(key.to_string()))
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
    let mut links = Vec::new();
    for name in store.list(&instance.pod_links())?.unwrap_or_default() {
        let place = match name.parse() {
            Ok(key) => Place::Pod(key),
            Err(()) if name == HOST => Place::Host,
            Err(()) => continue,
        };
        if let Some(link) = store.open_link(&instance.pod_links().join(name))? {
            links.push((place, Pinned { name: INBOUND.name.into(), info: store.link_info(&link)? }));
        }
    }
    Ok(links)
}

/// Removes pods whose namespace is gone. The registry's lock is held.
pub(crate) fn sweep<S: Store>(registry: &Registry<'_, S>) -> Result<()> {
    for (place, link) in pinned(registry.store, registry.instance)? {
        if let Place::Pod(key) = place
            && link.info.target == Target::Gone
        {
            registry.leave(key)?;
        }
    }
    Ok(())
}

/// Puts the program of this build into links that hold another, without a gap. Returns how many were replaced.
pub(crate) fn upgrade<S: Store>(store: &S, instance: &Instance) -> Result<usize> {
    let links = pinned(store, instance)?;
    if links.is_empty() {
        return Ok(0);
    }
    // Two programs of one build differ in data only, which is no part of the tag.
    let new = store.program_info(&store.load_inbound(&instance.maps(), 0)?)?.tag;
    let host = ControlMap::open(store, instance)?.map_or(0, |control| control.load(store).host);
    let mut replaced = 0;
    for (place, pinned) in links {
        let (name, cookie) = match place {
            Place::Pod(Key::Netns(cookie)) => (Key::Netns(cookie).to_string(), cookie),
            Place::Pod(Key::Cgroup(_)) => continue,
            Place::Host => (HOST.into(), host),
        };
        let old = store.program_by_id(pinned.info.program)?.map(|program| program.tag);
        if pinned.info.target == Target::Gone || old == Some(new) {
            continue;
        }
        if let Some(link) = store.open_link(&instance.pod_links().join(name))? {
            store.replace(&link, &store.load_inbound(&instance.maps(), cookie)?)?;
            replaced += 1;
        }
    }
    Ok(replaced)
}

/// Whether a pod has its program.
pub(crate) fn has_program(store: &impl Store, instance: &Instance, key: Key) -> Result<bool> {
    is_attached(store, &instance.pod_links().join(key.to_string()))
}

fn is_attached(store: &impl Store, pin: &Path) -> Result<bool> {
    Ok(match store.open_link(pin)? {
        Some(link) => store.link_info(&link)?.target != Target::Gone,
        None => false,
    })
}
