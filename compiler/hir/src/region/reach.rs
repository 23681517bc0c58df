//! Which ports and which workloads a rule is about.

use mesh_bpf::ports::{PortRange, PortSet};

use crate::{Level, Ports, Scope, WorkloadId};

/// The ports of an item. No rule can name port 0, so it is in no box: `tcp` and `tcp 1-65535` are equally
/// wide.
#[must_use]
pub fn real_ports(ports: &Ports) -> PortSet {
    let all = PortSet::from(PortRange { first: 1, last: u16::MAX });
    match ports {
        Ports::All => all,
        Ports::Range(range) => PortSet::from(*range).intersection(&all),
        Ports::Not(others) => others.complement().intersection(&all),
    }
}

/// Whether a rule of this scope is about the flows of `workload`.
#[must_use]
pub fn applies(scope: &Scope, workload: WorkloadId) -> bool {
    scope.level == Level::Top || scope.members.binary_search(&workload).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_as_wide_as_no_ports_written() {
        let written = Ports::Range(PortRange { first: 1, last: u16::MAX });
        assert_eq!(real_ports(&written), real_ports(&Ports::All));
        assert!(!real_ports(&Ports::Not(PortRange::single(1).into())).contains(0));
    }
}
