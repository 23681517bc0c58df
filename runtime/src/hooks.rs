//! Programs and their links to the instance's cgroup.

use mesh_bpf::program::{PROGRAMS, ProgramDef, Role};

use crate::error::Result;
use crate::instance::Instance;
use crate::store::{LinkInfo, Store};

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// Its name: that of the program.
    pub(crate) name: String,
    /// What the kernel says.
    pub(crate) info: LinkInfo,
}

/// Programs that are loaded and perhaps not attached yet.
pub(crate) type Programs<S> = Vec<(&'static ProgramDef, <S as Store>::Program)>;

/// Every pinned link, in the order in which programs are attached; those this version does not know come last.
pub(crate) fn pinned<S: Store>(store: &S, instance: &Instance) -> Result<Vec<Pinned>> {
    let mut links = Vec::new();
    for name in store.list(&instance.links())?.unwrap_or_default() {
        if let Some(link) = store.open_link(&instance.links().join(&name))? {
            links.push(Pinned { info: store.link_info(&link)?, name });
        }
    }
    links.sort_by_key(|link| place(&link.name));
    Ok(links)
}

fn place(name: &str) -> usize {
    PROGRAMS.iter().position(|def| def.name == name).unwrap_or(PROGRAMS.len())
}

/// Attaches every program that is not attached to the instance's cgroup: answering ones first, so that no
/// flow is redirected that cannot be told where it was going.
pub(crate) fn attach<S: Store>(store: &S, instance: &Instance, programs: &Programs<S>) -> Result<()> {
    let cgroup = store.inode(&instance.cgroup)?.unwrap_or_default();
    store.make_folder(&instance.links())?;
    for role in [Role::Answers, Role::Decides] {
        for (def, program) in programs.iter().filter(|(def, _)| def.role == role) {
            let pin = instance.links().join(def.name);
            if let Some(link) = store.open_link(&pin)? {
                if store.link_info(&link)?.cgroup == cgroup {
                    continue;
                }
                // Its cgroup is gone: a link without a target answers nobody.
                store.remove(&pin)?;
            }
            let link = store.attach(program, def.hook, &instance.cgroup)?;
            store.pin_link(&link, &pin)?;
        }
    }
    Ok(())
}

/// Detaches every program, deciding ones (and those of other versions) first.
pub(crate) fn detach<S: Store>(store: &S, instance: &Instance) -> Result<()> {
    let mut names = store.list(&instance.links())?.unwrap_or_default();
    names.sort_by_key(|name| std::cmp::Reverse(place(name)));
    for name in names {
        let pin = instance.links().join(name);
        if let Some(link) = store.open_link(&pin)? {
            store.detach(&link)?;
        }
        store.remove(&pin)?;
    }
    Ok(store.remove_folder(&instance.links())?)
}

/// Programs that should be attached to the instance's cgroup and are not.
pub(crate) fn missing<S: Store>(store: &S, instance: &Instance) -> Result<Vec<&'static str>> {
    let cgroup = store.inode(&instance.cgroup)?.unwrap_or_default();
    let links = pinned(store, instance)?;
    let is_attached =
        |def: &ProgramDef| links.iter().any(|link| link.name == def.name && link.info.cgroup == cgroup);
    Ok(PROGRAMS.iter().filter(|def| !is_attached(def)).map(|def| def.name).collect())
}
