//! Inbound traffic to workloads of the host: a program in its network namespace, where the policy asks for it, since
//! everybody who is dialled there passes it. Whose a port is there, the programs note as sockets begin to listen.

use std::path::Path;

use mesh_bpf::abi;
use mesh_bpf::image::Workload;
use mesh_bpf::membership::Membership;
use mesh_bpf::tables::TableData;

use super::dispatch;
use super::link::unpin;
use super::listening;
use super::netns_links::{HOST, HOST_MODE, is_attached};
use crate::drift::Drift;
use crate::error::{Error, Result};
use crate::maps::pinned::ControlMap;
use crate::member::{Member, Origin};
use crate::node::Node;
use crate::system::{HOST_NETNS, System, Word};
use crate::warning::Warning;

/// What the host's namespace lacks.
pub(crate) fn drift_of<S: System>(node: Node<'_, S>, control: &ControlMap<S>) -> Result<Option<Drift>> {
    if is_missing(node, control)? {
        return Ok(Some(Drift::HostProgramMissing));
    }
    let host = control.load(node.system).host;
    let missed = host != 0 && listening::has_missed(node, host)?;
    Ok(missed.then_some(Drift::HostSocketsUnknown))
}

/// Whether a policy, by its table of profiles, decides inbound traffic to processes that are members by their cgroup:
/// services that it names, and commands that run as one of its workloads.
pub(crate) fn is_wanted(profiles: &TableData, policy: &Membership, members: &[Member]) -> bool {
    has_flag(abi::PROFILE_INBOUND, profiles, policy, members)
}

/// Whether rules of its do, and not only what is built in.
pub(crate) fn rules_want_it(profiles: &TableData, policy: &Membership, members: &[Member]) -> bool {
    is_wanted(profiles, policy, members) && has_flag(abi::PROFILE_INBOUND_RULES, profiles, policy, members)
}

/// Whether a profile of such members has a flag.
fn has_flag(flag: u32, profiles: &TableData, policy: &Membership, members: &[Member]) -> bool {
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

/// Sees to it that there is a program that decides inbound traffic on the host, where the policy asks for it.
///
/// # Errors
/// Where this kernel cannot, and a rule asks for it.
pub(crate) fn ensure_dispatch<S: System>(
    node: Node<'_, S>,
    profiles: &TableData,
    policy: &Membership,
    members: &[Member],
) -> Result<()> {
    if node.instance.inbound == HOST_MODE || !is_wanted(profiles, policy, members) {
        return Ok(());
    }
    match dispatch::ensure_target(node, HOST_MODE, false, None) {
        Err(Error::CannotDecideInbound { .. }) if !rules_want_it(profiles, policy, members) => Ok(()),
        ensured => ensured.map(drop),
    }
}

/// As [`attach`], where the policy asks for it. Where the kernel refuses and no rule asks, its services go without;
/// then a warning.
///
/// # Errors
/// Where this kernel cannot, and a rule asks for it.
pub(crate) fn attach_if_wanted<S: System>(
    node: Node<'_, S>,
    control: &ControlMap<S>,
    profiles: &TableData,
    policy: &Membership,
    members: &[Member],
) -> Result<Option<Warning>> {
    if !is_wanted(profiles, policy, members) {
        return Ok(None);
    }
    let attached = attach(node, control);
    without_rules(attached, || rules_want_it(profiles, policy, members))
}

/// A refusal of the kernel is a warning where no rule asks for what it refuses.
fn without_rules(attached: Result<()>, has_rules: impl Fn() -> bool) -> Result<Option<Warning>> {
    match attached {
        Err(Error::System(cause) | Error::CannotDecideInbound { cause, .. })
            if cause.is_refusal() && !has_rules() =>
        {
            Ok(Some(Warning::HostUndecided { why: cause.to_string() }))
        }
        other => other.map(|()| None),
    }
}

/// Makes inbound traffic on the host be decided. The word comes first: sockets that begin to listen are noted
/// from then on, and those that did before are found.
pub(crate) fn attach<S: System>(node: Node<'_, S>, control: &ControlMap<S>) -> Result<()> {
    let netns = Path::new(HOST_NETNS);
    let cookie = node.system.netns_cookie(netns)?;
    let pin = node.instance.pod_links().join(HOST);
    if control.load(node.system).host == cookie && is_attached(node.system, &pin, HOST_MODE)? {
        return listening::look_again(node, cookie, || Ok(Some(netns.to_owned())));
    }
    unpin(node.system, &pin)?;
    control.set(node.system, Word::Host, cookie)?;
    let linked = listening::link(node, HOST_MODE, netns, cookie);
    if linked.is_err() {
        control.set(node.system, Word::Host, 0)?;
    }
    for link in linked? {
        node.system.pin_link(&link, &pin)?;
    }
    Ok(())
}

/// The same for a command: inbound traffic where it runs, unless another namespace is the host's.
pub(crate) fn attach_for_command<S: System>(
    node: Node<'_, S>,
    control: &ControlMap<S>,
    has_rules: impl Fn() -> bool,
) -> Result<()> {
    let host = control.load(node.system).host;
    if host == 0 || host == node.system.netns_cookie(Path::new(HOST_NETNS))? {
        // What is missing without rules was said when the policy was applied.
        without_rules(attach(node, control), has_rules)?;
    }
    Ok(())
}

/// The cookie of the host's namespace, and whether inbound traffic there is decided.
pub(crate) fn netns<S: System>(system: &S, control: &ControlMap<S>) -> Result<(u64, bool)> {
    Ok(match control.load(system).host {
        0 => (system.netns_cookie(Path::new(HOST_NETNS))?, false),
        cookie => (cookie, true),
    })
}

/// Lets all inbound traffic on the host reach whom it is for.
pub(crate) fn detach<S: System>(node: Node<'_, S>, control: &ControlMap<S>) -> Result<()> {
    if control.load(node.system).host != 0 {
        unpin(node.system, &node.instance.pod_links().join(HOST))?;
        control.set(node.system, Word::Host, 0)?;
    }
    Ok(())
}

/// Whether the host has no program and should have one.
fn is_missing<S: System>(node: Node<'_, S>, control: &ControlMap<S>) -> Result<bool> {
    Ok(control.load(node.system).host != 0
        && !is_attached(node.system, &node.instance.pod_links().join(HOST), HOST_MODE)?)
}
