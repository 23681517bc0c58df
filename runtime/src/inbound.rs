//! What is offered to pods: a program in each pod's network namespace.
//!
//! The hook there knows neither namespace nor process, so every pod has a program of its own that holds the
//! pod's cookie and is pinned by the pod's key. It looks up what the registry says of the pod, so a pod that is
//! not registered any more is decided by nobody, whether or not its program is still there.

use std::path::{Path, PathBuf};

use mesh_bpf::program::{Hook, INBOUND, PROGRAMS};

use crate::error::Result;
use crate::hooks::Pinned;
use crate::instance::Instance;
use crate::registry::{Key, Member, Registry};
use crate::store::{Store, Target};

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
    for def in PROGRAMS.iter().filter(|def| def.hook == Hook::Iterator) {
        if let Some(iterator) = store.open_link(&instance.links().join(def.name))? {
            store.iterate(&iterator, &netns, cookie)?;
        }
    }
    store.make_folder(&instance.pod_links())?;
    let program = store.load_inbound(&instance.maps(), cookie)?;
    let link = store.attach_netns(&program, &netns, cookie)?;
    store.pin_link(&link, &pin)?;
    Ok(true)
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

/// Every pod's link.
pub(crate) fn pinned(store: &impl Store, instance: &Instance) -> Result<Vec<(Key, Pinned)>> {
    let mut links = Vec::new();
    for name in store.list(&instance.pod_links())?.unwrap_or_default() {
        let Ok(key) = name.parse() else { continue };
        if let Some(link) = store.open_link(&instance.pod_links().join(name))? {
            links.push((key, Pinned { name: INBOUND.name.into(), info: store.link_info(&link)? }));
        }
    }
    Ok(links)
}

/// Removes pods whose namespace is gone. The registry's lock is held.
pub(crate) fn sweep<S: Store>(registry: &Registry<'_, S>) -> Result<()> {
    for (key, link) in pinned(registry.store, registry.instance)? {
        if link.info.target == Target::Gone {
            registry.leave(key)?;
        }
    }
    Ok(())
}

/// Puts the program of this build into links that hold another, without a gap. Returns how many were replaced.
pub(crate) fn upgrade(store: &impl Store, instance: &Instance) -> Result<usize> {
    let links = pinned(store, instance)?;
    if links.is_empty() {
        return Ok(0);
    }
    // Two pods' programs differ in data only, which is no part of the tag.
    let new = store.program_info(&store.load_inbound(&instance.maps(), 0)?)?.tag;
    let mut replaced = 0;
    for (key, pinned) in links {
        let Key::Netns(cookie) = key else { continue };
        let old = store.program_by_id(pinned.info.program)?.map(|program| program.tag);
        if pinned.info.target == Target::Gone || old == Some(new) {
            continue;
        }
        if let Some(link) = store.open_link(&instance.pod_links().join(key.to_string()))? {
            store.replace(&link, &store.load_inbound(&instance.maps(), cookie)?)?;
            replaced += 1;
        }
    }
    Ok(replaced)
}

/// Whether a pod has its program.
pub(crate) fn is_attached(store: &impl Store, instance: &Instance, key: Key) -> Result<bool> {
    let link = store.open_link(&instance.pod_links().join(key.to_string()))?;
    Ok(match link {
        Some(link) => store.link_info(&link)?.target != Target::Gone,
        None => false,
    })
}
