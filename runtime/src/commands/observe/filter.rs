//! Which decisions an observer wants.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_bpf::abi::{self, Watch};
use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::SourceKind;
use mesh_bpf::item;
use mesh_bpf::pack::words;
use mesh_bpf::prefix::Prefix;

use super::event::{Decided, Reason};

/// An outcome that an observer may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictFilter {
    /// It went to a sidecar.
    Redirected,
    /// It went straight, exempt or not.
    Excluded,
    /// It was refused.
    Denied,
    /// It went straight since its process is exempt.
    Exempt,
}

impl VerdictFilter {
    const fn bits(self) -> u8 {
        match self {
            Self::Redirected => 1 << abi::VERDICT_REDIRECTED,
            Self::Excluded => 1 << abi::VERDICT_EXCLUDED | abi::WATCH_EXEMPT,
            Self::Denied => 1 << abi::VERDICT_DENIED,
            Self::Exempt => abi::WATCH_EXEMPT,
        }
    }
}

/// Which decisions an observer wants: all that satisfy every part that is given. The programs leave out what
/// they can tell; the rest is left out when it is read, and takes room in the buffer until then: texts of rules, names of workloads that
/// several meshes have, and whatever was decided by a generation that the observer does not follow yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The workload, with its mesh or without.
    pub workload: Option<String>,
    /// The member's name.
    pub member: Option<String>,
    /// Which end the member is.
    pub direction: Option<Direction>,
    /// TCP or UDP.
    pub protocol: Option<Protocol>,
    /// Any of these; empty: any at all.
    pub verdicts: Vec<VerdictFilter>,
    /// The lowest and the highest destination port.
    pub ports: Option<(u16, u16)>,
    /// The other end: outbound the destination, inbound the source.
    pub peer: Option<Prefix>,
    /// The other end is one of these addresses: those of the node.
    pub nodes: Option<BTreeSet<IpAddr>>,
    /// The process's effective user id.
    pub uid: Option<u32>,
    /// A part of the deciding rule's scope and text, as `status` shows them.
    pub rule: Option<String>,
}

/// Whether a workload `mesh/workload` is the one that is asked for.
pub(super) fn is_called(name: &str, wanted: &str) -> bool {
    name == wanted || name.rsplit_once('/').is_some_and(|(_, own)| own == wanted)
}

impl Filter {
    /// The part that programs apply, but for the workload.
    pub(super) fn watch(&self) -> Watch {
        let (low, high) = self.ports.unwrap_or((0, u16::MAX));
        let (address, mask) = self.peer.map_or(([0; 4], [0; 4]), network);
        let all = 1 << abi::VERDICT_REDIRECTED
            | 1 << abi::VERDICT_EXCLUDED
            | 1 << abi::VERDICT_DENIED
            | abi::WATCH_EXEMPT;
        Watch {
            address,
            mask,
            uid: self.uid.unwrap_or_default(),
            name: self.member.as_deref().map_or(0, abi::name_hash),
            low,
            high,
            protocols: self.protocol.map_or(0b11, |protocol| 1 << protocol as u8),
            directions: self.direction.map_or(0b11, |direction| 1 << direction as u8),
            verdicts: self.verdicts.iter().map(|wanted| wanted.bits()).reduce(|a, b| a | b).unwrap_or(all),
            flags: flag(self.uid.is_some(), abi::WATCH_UID) | flag(self.member.is_some(), abi::WATCH_NAME),
            ..Watch::default()
        }
    }

    /// The workload, as a generation counts them; 0 where the programs cannot tell.
    pub(super) fn subject(&self, generation: u64, workloads: &[String]) -> u64 {
        let Some(wanted) = self.workload.as_deref() else { return 0 };
        let mut places =
            (0u32..).zip(workloads).filter(|(_, name)| is_called(name, wanted)).map(|(place, _)| place);
        // No workload has the last number, so it stands for one that the generation does not have.
        let place = places.next().unwrap_or(u32::MAX);
        if places.next().is_some() { 0 } else { generation << 32 | u64::from(place) }
    }

    /// Whether a decision is wanted: everything is looked at once more, since two names may have one hash, and
    /// a generation may have gone live meanwhile.
    pub(super) fn wants(&self, decided: &Decided) -> bool {
        let peer = match decided.direction {
            Direction::Outbound => decided.destination.0,
            Direction::Inbound => decided.source.0,
        };
        fits(self.workload.as_ref(), |wanted| {
            decided.workload.as_deref().is_some_and(|name| is_called(name, wanted))
        }) && fits(self.member.as_ref(), |wanted| decided.member.as_ref().is_none_or(|name| name == wanted))
            && fits(self.direction, |wanted| decided.direction == wanted)
            && fits(self.protocol, |wanted| decided.protocol == wanted)
            && fits(self.ports, |(low, high)| (low..=high).contains(&decided.destination.1))
            && fits(self.peer, |wanted| peer.is_some_and(|peer| wanted.contains(peer)))
            && fits(self.nodes.as_ref(), |wanted| peer.is_some_and(|peer| wanted.contains(&peer)))
            && fits(self.uid, |wanted| decided.process.as_ref().is_some_and(|by| by.uid == wanted))
            && fits(self.rule.as_ref(), |wanted| decided.reason.line().contains(wanted.as_str()))
            && (self.verdicts.is_empty() || self.verdicts.iter().any(|&wanted| became(decided, wanted)))
    }
}

impl Reason {
    /// The scope and the text, as `status` shows them.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Item { scope, text, .. } if scope.is_empty() => text.clone(),
            Self::Item { scope, text, .. } => format!("{scope}: {text}"),
            Self::Unknown => String::new(),
        }
    }

    /// Whether an exemption decided.
    #[must_use]
    pub const fn is_exemption(&self) -> bool {
        matches!(self, Self::Item { kind: SourceKind::Exempt, .. })
    }
}

const fn flag(on: bool, flag: u8) -> u8 {
    if on { flag } else { 0 }
}

fn fits<T>(wanted: Option<T>, is: impl FnOnce(T) -> bool) -> bool {
    wanted.is_none_or(is)
}

fn became(decided: &Decided, wanted: VerdictFilter) -> bool {
    match (wanted, decided.verdict) {
        (VerdictFilter::Redirected, Verdict::Redirected { .. })
        | (VerdictFilter::Denied, Verdict::Denied)
        | (VerdictFilter::Excluded, Verdict::Excluded) => true,
        (VerdictFilter::Exempt, _) => decided.reason.is_exemption(),
        _ => false,
    }
}

/// Address and mask, network order.
fn network(prefix: Prefix) -> ([u32; 4], [u32; 4]) {
    let (address, len, _) = item::wire(prefix);
    (words(address), words(mesh_bpf::prefix::mask128(len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_told_to_the_programs_where_only_one_has_its_name() {
        let names = ["a/cart".to_owned(), "b/cart".to_owned(), "b/web".to_owned()];
        let subject =
            |name: &str| Filter { workload: Some(name.into()), ..Filter::default() }.subject(7, &names);
        assert_eq!(subject("web"), 7 << 32 | 2);
        assert_eq!(subject("b/cart"), 7 << 32 | 1);
        assert_eq!(subject("cart"), 0, "two have it");
        assert_eq!(subject("none"), 7 << 32 | u64::from(u32::MAX));
        assert_eq!(Filter::default().subject(7, &names), 0);
    }

    #[test]
    fn a_v4_prefix_is_compared_as_v4_mapped() {
        let peer = Prefix::V4 { bits: 0x0a00_0000, len: 8 };
        let watch = Filter { peer: Some(peer), ..Filter::default() }.watch();
        assert_eq!(watch.address, [0, 0, 0xffff_u32.to_be(), 0x0a00_0000_u32.to_be()]);
        assert_eq!(watch.mask, [u32::MAX, u32::MAX, u32::MAX, 0xff00_0000_u32.to_be()]);
    }
}
