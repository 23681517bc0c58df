//! All network namespaces of an instance: the host's, and those of pods.

use super::live::Live;
use super::load::{self, Version};
use super::registry;
use super::scene::Stage;
use super::target::Target;
use crate::error::{Error, Result};
use crate::member::Key;
use crate::members::files;
use crate::node::Node;
use crate::system::System;

/// What bringing namespaces in line changed.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    /// Namespaces whose rulesets were loaded or taken away.
    pub(crate) changed: usize,
    /// Pods whose namespace cannot be found.
    pub(crate) lost: Vec<String>,
}

/// Loads a policy into every pod that it selects, and takes the table of the others away.
pub(crate) fn each_pod<S: System>(
    node: Node<'_, S>,
    stage: &Stage<'_>,
    version: Version,
    again: bool,
) -> Result<Aligned> {
    let mut aligned = Aligned::default();
    for member in files::members(node)? {
        let Some(target) = Target::of(node, &member)? else {
            if matches!(member.key, Key::Netns(_)) {
                aligned.lost.push(member.name);
            }
            continue;
        };
        let loaded = match stage.pod(&member)? {
            Some(scene) => load::load(node, &target, &scene, (stage, version), again),
            None => load::unload(node, &target).map(|()| false),
        };
        match loaded {
            Ok(changed) => aligned.changed += usize::from(changed),
            // It ended just now.
            Err(Error::System(cause)) if cause.has_ended() => {
                aligned.lost.push(member.name);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(aligned)
}

/// Brings every namespace in line with what is live.
pub(crate) fn align<S: System>(node: Node<'_, S>, live: &Live) -> Result<Aligned> {
    let changed = registry::bring_host(node, live)?;
    let stage = Stage::new(node, &live.tables, &live.membership)?;
    let mut aligned = each_pod(node, &stage, Version::of_live(live), false)?;
    aligned.changed += usize::from(changed);
    Ok(aligned)
}

/// Stops every namespace, the host first.
pub(crate) fn pause_all<S: System>(node: Node<'_, S>) -> Result<()> {
    for target in Target::all(node)? {
        match load::pause(node, &target) {
            Err(Error::System(cause)) if cause.has_ended() => {}
            paused => paused?,
        }
    }
    Ok(())
}

/// Takes the tables of all pods away.
pub(crate) fn unload_pods<S: System>(node: Node<'_, S>) -> Result<()> {
    for target in Target::all(node)?.into_iter().filter(|target| target.pod.is_some()) {
        match load::unload(node, &target) {
            Err(Error::System(cause)) if cause.has_ended() => {}
            unloaded => unloaded?,
        }
    }
    Ok(())
}
