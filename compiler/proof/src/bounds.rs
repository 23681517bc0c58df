//! The box that one item of a rule stands for, and when one is narrower than another.

use std::cmp::Reverse;
use std::net::IpAddr;

use mesh_bpf::image::IdRange;
use mesh_bpf::ports::PortSet;
use mesh_bpf::prefix::Prefix;
use mesh_hir::{Scope, Who};

/// One box: workloads × ports × addresses × processes, within one direction and one protocol.
#[derive(Clone, Copy, Debug)]
pub struct FlowBox<'p> {
    /// Whose flows.
    pub scope: &'p Scope,
    /// Which ports; see [`real_ports`](mesh_hir::region::real_ports).
    pub ports: &'p PortSet,
    /// Which addresses.
    pub prefix: Prefix,
    /// Whose sockets, and whether the node is at the other end.
    pub who: &'p Who,
}

/// What boxes are compared in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Respects {
    /// Their ports.
    pub ports: bool,
    /// Their addresses.
    pub addresses: bool,
    /// Their scopes.
    pub scope: bool,
    /// Their processes.
    pub who: bool,
}

impl FlowBox<'_> {
    /// Whether its ports, addresses, scope and processes each lie within those of `wider`.
    #[must_use]
    pub fn lies_within(&self, wider: &Self) -> bool {
        wider.prefix.covers(self.prefix)
            && wider.scope.covers(self.scope)
            && wider.who.covers(self.who)
            && wider.ports.covers(self.ports)
    }

    /// In what it is narrower than one that it lies within.
    #[must_use]
    pub fn narrower_in(&self, wider: &Self) -> Respects {
        Respects {
            ports: !self.ports.covers(wider.ports),
            addresses: !self.prefix.covers(wider.prefix) || (self.who.node && !wider.who.node),
            scope: !self.scope.covers(wider.scope),
            who: !Who { node: false, ..self.who.clone() }.covers(&Who { node: false, ..wider.who.clone() }),
        }
    }

    /// Never greater for a box that lies within another; equal only for boxes of which neither is narrower.
    #[must_use]
    pub fn width(&self) -> impl Ord + use<> {
        let ports: u32 =
            self.ports.ranges().iter().map(|range| u32::from(range.last - range.first) + 1).sum();
        let length = match self.prefix {
            Prefix::Any => (false, 0),
            Prefix::V4 { len, .. } | Prefix::V6 { len, .. } => (true, len),
        };
        let scope = (Reverse(self.scope.level as u8), self.scope.members.len());
        let ids =
            |range: Option<IdRange>| range.map_or(u64::MAX, |range| u64::from(range.last - range.first));
        // A path is never empty.
        let depth = self.who.cgroup.as_ref().map_or(0, String::len);
        let who = (ids(self.who.uid), ids(self.who.gid), Reverse(depth), !self.who.node);
        (ports, Reverse(length), scope, who)
    }

    /// Whether it lies within `other` and `other` does not lie within it.
    #[must_use]
    pub fn is_narrower(&self, other: &Self) -> bool {
        self.lies_within(other) && !other.lies_within(self)
    }
}

/// Whether a rule whose addresses are `prefix` reaches `address`; `own` says that it is one of the
/// member's own. Those, and what is apart, are reached only by rules whose own addresses lie inside
/// them.
#[must_use]
pub fn reaches(prefix: Prefix, address: IpAddr, own: bool) -> bool {
    let inside = if own { prefix.is_host() } else { prefix.apart() == Prefix::host(address).apart() };
    prefix.contains(address) && inside
}

#[cfg(test)]
mod tests {
    use mesh_bpf::ports::PortRange;
    use mesh_hir::region::real_ports;
    use mesh_hir::{Level, Ports, WorkloadId};

    use super::*;

    fn scope(level: Level, members: &[u32]) -> Scope {
        Scope { level, name: String::new(), members: members.iter().map(|&m| WorkloadId(m)).collect() }
    }

    fn prefix(text: &str) -> Prefix {
        text.parse::<ipnet::IpNet>().unwrap().into()
    }

    #[test]
    fn a_box_is_not_narrower_than_its_equal() {
        let (scope, ports) = (scope(Level::Mesh, &[0]), real_ports(&Ports::All));
        let one = FlowBox { scope: &scope, ports: &ports, prefix: Prefix::Any, who: &Who::EVERYBODY };
        assert!(one.lies_within(&one) && !one.is_narrower(&one));
    }

    #[test]
    fn wider_in_one_respect_is_not_narrower() {
        let scope = scope(Level::Mesh, &[0]);
        let (all, http) = (real_ports(&Ports::All), real_ports(&Ports::Range(PortRange::single(80))));
        let by_port = FlowBox { scope: &scope, ports: &http, prefix: Prefix::Any, who: &Who::EVERYBODY };
        let by_address =
            FlowBox { scope: &scope, ports: &all, prefix: prefix("10.0.0.0/8"), who: &Who::EVERYBODY };
        assert!(!by_port.is_narrower(&by_address) && !by_address.is_narrower(&by_port));
        let both = FlowBox { prefix: prefix("10.0.0.0/8"), ..by_port };
        assert!(both.is_narrower(&by_port) && both.is_narrower(&by_address));
    }

    #[test]
    fn a_box_of_some_processes_is_narrower_than_that_of_all_and_not_comparable_with_others() {
        let (scope, ports) = (scope(Level::Mesh, &[0]), real_ports(&Ports::All));
        let all = FlowBox { scope: &scope, ports: &ports, prefix: Prefix::Any, who: &Who::EVERYBODY };
        let user = Who { uid: Some(IdRange { first: 1000, last: 1000 }), ..Who::EVERYBODY };
        let cgroup = Who { cgroup: Some("/a".into()), ..Who::EVERYBODY };
        let (by_user, by_cgroup) = (FlowBox { who: &user, ..all }, FlowBox { who: &cgroup, ..all });
        assert!(by_user.is_narrower(&all) && by_cgroup.is_narrower(&all) && !all.is_narrower(&by_user));
        assert!(!by_user.is_narrower(&by_cgroup) && !by_cgroup.is_narrower(&by_user));
        assert_eq!(by_user.narrower_in(&all), Respects { who: true, ..Respects::default() });
    }

    #[test]
    fn what_is_narrower_in_one_respect_is_less_wide() {
        let (one, both) = (scope(Level::Mesh, &[0]), scope(Level::Mesh, &[0, 1]));
        let others = |ports: &[u16]| ports.iter().copied().map(PortRange::single).collect();
        let [few, more] = [&[80, 443][..], &[80]].map(|ports| real_ports(&Ports::Not(others(ports))));
        let [http, both_http] = [&[81][..], &[81, 443]].map(others);
        let user = Who { uid: Some(IdRange { first: 5, last: 5 }), ..Who::EVERYBODY };
        let [root, below] = ["/", "/a"].map(|path| Who { cgroup: Some(path.into()), ..Who::EVERYBODY });
        let wide = FlowBox { scope: &both, ports: &more, prefix: Prefix::Any, who: &Who::EVERYBODY };
        for narrower in [
            FlowBox { scope: &one, ..wide },
            FlowBox { ports: &few, ..wide },
            FlowBox { ports: &both_http, ..wide },
            FlowBox { prefix: prefix("0.0.0.0/0"), ..wide },
            FlowBox { who: &user, ..wide },
            FlowBox { who: &root, ..wide },
        ] {
            assert!(narrower.is_narrower(&wide) && narrower.width() < wide.width());
        }
        let (one, two) = (FlowBox { ports: &http, ..wide }, FlowBox { ports: &both_http, ..wide });
        assert!(one.is_narrower(&two) && one.width() < two.width());
        let (outer, inner) = (FlowBox { who: &root, ..wide }, FlowBox { who: &below, ..wide });
        assert!(inner.is_narrower(&outer) && inner.width() < outer.width());
    }

    #[test]
    fn the_node_is_narrower_than_no_address_and_not_comparable_with_a_prefix() {
        let (scope, ports) = (scope(Level::Mesh, &[0]), real_ports(&Ports::All));
        let all = FlowBox { scope: &scope, ports: &ports, prefix: Prefix::Any, who: &Who::EVERYBODY };
        let who = Who { node: true, ..Who::EVERYBODY };
        let node = FlowBox { who: &who, ..all };
        assert!(node.is_narrower(&all) && !all.is_narrower(&node));
        assert!(node.width() < all.width());
        assert_eq!(node.narrower_in(&all), Respects { addresses: true, ..Respects::default() });
        for text in ["0.0.0.0/0", "10.0.0.7/32"] {
            let by_prefix = FlowBox { prefix: prefix(text), ..all };
            assert!(!node.is_narrower(&by_prefix) && !by_prefix.is_narrower(&node), "{text}");
        }
    }

    #[test]
    fn two_fors_with_the_same_members_are_equally_wide() {
        let (one, two) = (scope(Level::For, &[0, 1]), scope(Level::For, &[0, 1]));
        let ports = real_ports(&Ports::All);
        let one = FlowBox { scope: &one, ports: &ports, prefix: Prefix::Any, who: &Who::EVERYBODY };
        let two = FlowBox { scope: &two, ..one };
        assert!(!one.is_narrower(&two) && !two.is_narrower(&one));
    }

    #[test]
    fn loopback_is_reached_only_from_inside() {
        let local = "127.0.0.1".parse().unwrap();
        assert!(!reaches(Prefix::Any, local, false));
        assert!(!reaches(prefix("0.0.0.0/0"), local, false));
        assert!(reaches(prefix("127.0.0.0/8"), local, false));
        assert!(reaches(prefix("127.0.0.1/32"), local, false));
    }

    #[test]
    fn what_is_apart_is_reached_only_from_inside() {
        for (address, inside, around) in [
            ("224.0.0.251", "224.0.0.0/4", "224.0.0.0/3"),
            ("255.255.255.255", "255.255.255.255/32", "240.0.0.0/4"),
            ("ff02::fb", "ff02::/16", "::/0"),
            ("fe80::1", "fe80::/10", "fe00::/7"),
        ] {
            let address = address.parse().unwrap();
            assert!(reaches(prefix(inside), address, false), "{inside}");
            assert!(!reaches(prefix(around), address, false) && !reaches(Prefix::Any, address, false));
        }
        assert!(reaches(prefix("240.0.0.0/4"), "240.0.0.1".parse().unwrap(), false));
    }

    #[test]
    fn own_addresses_are_reached_only_by_addresses() {
        let own = "10.0.0.7".parse().unwrap();
        assert!(reaches(prefix("10.0.0.0/8"), own, false));
        assert!(!reaches(prefix("10.0.0.0/8"), own, true));
        assert!(reaches(prefix("10.0.0.7/32"), own, true));
        assert!(!reaches(prefix("10.0.0.8/32"), own, true));
    }
}
