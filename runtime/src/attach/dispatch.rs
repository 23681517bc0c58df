//! The program that decides for all pods: an instance has it once, in a map, and those of pods go on to it.

use mesh_bpf::abi;
use mesh_bpf::program::Inbound;
use mesh_bpf::tables::TableData;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::system::{ProgramInfo, SysError, System};
use crate::warning::Warning;

/// Sees to it that pods' programs have one that decides to go on to; with `again`, that of this build. `loaded` is it,
/// where it was loaded before. Whether it was put there: those of pods go on to one or the other, without a gap.
pub(crate) fn ensure_target<S: System>(
    node: Node<'_, S>,
    by: Inbound,
    again: bool,
    loaded: Option<S::Program>,
) -> Result<bool> {
    let map = map(node, by)?;
    let there = target(node.system, &map)?;
    if there.is_some() && !again {
        return Ok(false);
    }
    let refused = |cause: SysError| match cause.is_refusal() {
        true => Error::CannotDecideInbound { by, cause },
        false => cause.into(),
    };
    let program = match loaded {
        Some(program) => program,
        None => node.system.load_inbound(&node.instance.maps(), by).map_err(refused)?,
    };
    if there.map(|there| there.tag) == Some(node.system.program_info(&program)?.tag) {
        return Ok(false);
    }
    node.system.put_program(&map, 0, &program)?;
    Ok(true)
}

/// What becomes of inbound traffic to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DispatchState {
    /// It is decided, as before.
    Decided,
    /// It is decided from now on, and pods that are there have no program yet.
    Newly,
    /// It is not.
    Undecided(Warning),
}

/// As [`ensure_target`], for a policy with these profiles. Where the kernel refuses it and no rule of the policy decides inbound
/// traffic, pods go without: nothing else of a policy needs it but what keeps others from the ports that outbound
/// redirects lead to.
///
/// # Errors
/// Where the policy decides inbound traffic.
pub(crate) fn ensure_target_for_policy<S: System>(
    node: Node<'_, S>,
    profiles: &TableData,
    loaded: Option<S::Program>,
) -> Result<DispatchState> {
    let was_undecided = is_undecided(node)?;
    match ensure_target(node, node.instance.inbound, false, loaded) {
        Err(error @ Error::CannotDecideInbound { .. }) => {
            let mut all = profiles.records::<abi::Profile>().iter();
            let Error::CannotDecideInbound { by, cause } = &error else { return Err(error) };
            if all.any(|profile| profile.flags & abi::PROFILE_INBOUND_RULES != 0) {
                return Err(error);
            }
            if !was_undecided {
                node.system.write(&node.instance.undecided(*by), b"", false)?;
            }
            Ok(DispatchState::Undecided(Warning::InboundUndecided { by: *by, why: cause.to_string() }))
        }
        Err(error) => Err(error),
        Ok(_) => {
            if was_undecided {
                node.system.remove(&node.instance.undecided(node.instance.inbound))?;
            }
            Ok(if was_undecided { DispatchState::Newly } else { DispatchState::Decided })
        }
    }
}

/// Whether pods go without a program, since the kernel refuses the instance's way.
pub(crate) fn is_undecided(node: Node<'_, impl System>) -> Result<bool> {
    Ok(node.system.inode(&node.instance.undecided(node.instance.inbound))?.is_some())
}

/// The program that decides, by the map that it is kept in.
pub(crate) fn target<S: System>(system: &S, map: &S::Map) -> Result<Option<ProgramInfo>> {
    let id =
        system.lookup(map, &0u32.to_ne_bytes())?.and_then(|id| id.try_into().ok()).map(u32::from_ne_bytes);
    Ok(id.map_or(Ok(None), |id| system.program_by_id(id))?)
}

pub(crate) fn map<S: System>(node: Node<'_, S>, by: Inbound) -> Result<S::Map> {
    let name = by.map().name;
    let missing = || Error::Incompatible { map: name.into(), what: "it is missing".into() };
    node.system.open_map(&node.instance.maps().join(name))?.ok_or_else(missing)
}

/// The program that decides, where pods' programs have none to go on to.
pub(crate) fn missing<S: System>(node: Node<'_, S>) -> Result<Option<&'static str>> {
    let by = node.instance.inbound;
    let there = target(node.system, &map(node, by)?)?;
    let is_wanted = there.is_none() && !is_undecided(node)?;
    Ok(is_wanted.then(|| by.program().name))
}
