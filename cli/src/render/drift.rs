//! What differs from what was applied, in words.

#[cfg(feature = "node")]
use mesh_runtime::PodFault;
use mesh_runtime::{Drift, Full};
use serde_json::{Value, json};

/// For programs: the code, which stays, and the words, which may change.
pub fn answer(drift: &[Drift]) -> Value {
    drift.iter().map(|drift| json!({ "code": drift.code(), "text": text(drift) })).collect()
}

/// For people.
pub fn text(drift: &Drift) -> String {
    match drift {
        Drift::Unreadable { said, .. } => said.clone(),
        Drift::RulesetMissing(namespace) => {
            format!("the network namespace of `{namespace}` has no ruleset: nothing is decided there")
        }
        Drift::RulesetBehind { namespace, generation } => {
            format!("the network namespace of `{namespace}` has the ruleset of generation {generation}")
        }
        Drift::RulesetStale(namespace) => format!(
            "the ruleset for `{namespace}` was made for other addresses or cgroups than there are now"
        ),
        Drift::RulesetChanged(namespace) => {
            format!("the ruleset for `{namespace}` was changed by somebody else since it was loaded")
        }
        Drift::TableChanged(table) => format!("the table `{}` was modified since the apply", table.word()),
        Drift::AttachedCgroupGone(path) => format!(
            "the cgroup `{}`, which the programs are attached to, was removed, and nothing is decided any more: make it \
             again and `meshc apply --repair`, or `meshc detach --all`",
            path.display()
        ),
        Drift::ProgramMissing(name) => format!("the program `{name}` is not attached"),
        Drift::DatagramProgramMissing(name) => format!(
            "the program `{name}` is not attached: broadcasts, multicasts and datagrams that claim a pod's own address \
             get past inbound rules"
        ),
        Drift::AcceleratorMissing(name) => {
            format!("the program `{name}` is not attached: nothing is accelerated")
        }
        Drift::HostProgramMissing => "the network namespace of the host has no program".into(),
        Drift::HostSocketsUnknown => format!("the network namespace of the host {SOCKETS_UNKNOWN}"),
        Drift::CgroupMissing(path) => format!("the cgroup `{path}` does not exist"),
        Drift::MemberMissing(name) => format!("the member `{name}` has no entry in the kernel"),
        Drift::MemberProfile(name) => {
            format!("the member `{name}` does not have the profile of its workload")
        }
        Drift::MemberChanged(name) => {
            format!("the kernel's entry of the member `{name}` is not what is registered")
        }
        Drift::MemberAddressesMissing(name) => {
            format!("the kernel does not know all addresses of the member `{name}`")
        }
        Drift::MemberUnregistered(key) => format!("the kernel has a member `{key}` that is not registered"),
        Drift::AddressesUnregistered(count) => {
            format!("the kernel knows {count} addresses that no member has")
        }
        Drift::CommandUnfinished(key) => format!(
            "a command that ended was attaching, changing or detaching `{key}`; the next one finishes it"
        ),
        Drift::RedirectedFull(full) => {
            full_quota(full, "", "to a sidecar", "of more it is not told where they are going")
        }
        Drift::ExemptFull(full) => {
            full_quota(full, " of exempt identities", "within it", "more are redirected to the sidecar")
        }
        Drift::PodProgramMissing(name) => format!("the pod `{name}` has no program in its network namespace"),
        Drift::PodTranslates(name) => format!(
            "the pod `{name}` translates addresses (NAT), and the kernel takes away there what tc gives to a sidecar"
        ),
        Drift::PodInterfaceMissed(name) => {
            format!(
                "the pod `{name}` has an interface without a program: it was added after the pod was attached"
            )
        }
        Drift::MemberInterfaces(name) => {
            format!(
                "interfaces or routes of the member `{name}` are others than those that its exemptions are of"
            )
        }
        Drift::MemberRoutesMany(name) => format!(
            "the member `{name}` has more routes than are followed: the policy decides what leaves by exempt interfaces, \
             but for sockets that are bound to one"
        ),
        Drift::PodSocketsUnknown(name) => format!("the pod `{name}` {SOCKETS_UNKNOWN}"),
        Drift::PodAddressesMany { pod, own } => {
            format!("the pod `{pod}` has too many addresses: {own} of them count as its own")
        }
        Drift::PodSourceChanged(name) => {
            format!("connections of the pod `{name}` come from another of its addresses than is known")
        }
        Drift::PodAddressAdded(name, address) => {
            format!("the pod `{name}` got the address {address}, which is not known to be its own")
        }
        Drift::PodAddressLost(name, address) => {
            format!("the pod `{name}` has lost the address {address}, which counts as its own")
        }
        Drift::NodeAddressesMany(known) => {
            format!("the node has too many addresses: rules about `node` know {known} of them")
        }
        Drift::NodeAddressAdded(address) => {
            format!("the node got the address {address}, which rules about `node` do not know")
        }
        Drift::NodeAddressLost(address) => {
            format!("the node has lost the address {address}, which rules about `node` still are about")
        }
        Drift::PodPortsNotReserved { pod, ports } => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            format!(
                "connections of the pod `{pod}` may take ports that its sidecars need: {}",
                ports.join(", ")
            )
        }
    }
}

const SOCKETS_UNKNOWN: &str = "has sockets that listen and are not known, since there were too many";

fn full_quota(full: &Full, of: &str, way: &str, then: &str) -> String {
    let Full { member, user, connections } = full;
    let by = user.map(|user| format!(" by user {user}")).unwrap_or_default();
    format!("the member `{member}` has {connections} connections{of}{by} on their way {way}: {then}")
}

/// In what a pod is not as it should be.
#[cfg(feature = "node")]
pub fn pod_fault(fault: &PodFault) -> String {
    match fault {
        PodFault::NotRegistered => "it is not registered".into(),
        PodFault::InterfaceNotRegistered(interface) => {
            format!("its interface `{interface}` is not registered")
        }
        PodFault::Drift(drift) => text(drift),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{IpAddr, Ipv4Addr};

    use mesh_bpf::map::Table;
    use mesh_runtime::Key;

    use super::*;

    /// One of each kind, as it is shown.
    fn shown() -> Vec<(Drift, &'static str)> {
        let name = || "cart".to_owned();
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
        let full = |user| Full { member: name(), user, connections: 9 };
        vec![
            (
                Drift::Unreadable { error: "incompatible", said: "another build applied it".into() },
                "another build applied it",
            ),
            (
                Drift::RulesetMissing(name()),
                "the network namespace of `cart` has no ruleset: nothing is decided there",
            ),
            (
                Drift::RulesetBehind { namespace: name(), generation: 6 },
                "the network namespace of `cart` has the ruleset of generation 6",
            ),
            (
                Drift::RulesetStale(name()),
                "the ruleset for `cart` was made for other addresses or cgroups than there are now",
            ),
            (
                Drift::RulesetChanged(name()),
                "the ruleset for `cart` was changed by somebody else since it was loaded",
            ),
            (Drift::TableChanged(Table::Decisions), "the table `decisions` was modified since the apply"),
            (
                Drift::AttachedCgroupGone("/sys/fs/cgroup/a".into()),
                "the cgroup `/sys/fs/cgroup/a`, which the programs are attached to, was removed, and nothing is decided any more: make it again and `meshc apply --repair`, or `meshc detach --all`",
            ),
            (Drift::ProgramMissing("mesh_connect4"), "the program `mesh_connect4` is not attached"),
            (
                Drift::DatagramProgramMissing("mesh_ingress"),
                "the program `mesh_ingress` is not attached: broadcasts, multicasts and datagrams that claim a pod's own address get past inbound rules",
            ),
            (
                Drift::AcceleratorMissing("mesh_message"),
                "the program `mesh_message` is not attached: nothing is accelerated",
            ),
            (Drift::HostProgramMissing, "the network namespace of the host has no program"),
            (
                Drift::HostSocketsUnknown,
                "the network namespace of the host has sockets that listen and are not known, since there were too many",
            ),
            (Drift::CgroupMissing("/a.slice".into()), "the cgroup `/a.slice` does not exist"),
            (Drift::MemberMissing(name()), "the member `cart` has no entry in the kernel"),
            (Drift::MemberProfile(name()), "the member `cart` does not have the profile of its workload"),
            (
                Drift::MemberChanged(name()),
                "the kernel's entry of the member `cart` is not what is registered",
            ),
            (
                Drift::MemberAddressesMissing(name()),
                "the kernel does not know all addresses of the member `cart`",
            ),
            (
                Drift::MemberUnregistered(Key::Cgroup(7)),
                "the kernel has a member `cgroup-7` that is not registered",
            ),
            (Drift::AddressesUnregistered(2), "the kernel knows 2 addresses that no member has"),
            (
                Drift::CommandUnfinished(Key::Netns(4)),
                "a command that ended was attaching, changing or detaching `netns-4`; the next one finishes it",
            ),
            (
                Drift::RedirectedFull(full(None)),
                "the member `cart` has 9 connections on their way to a sidecar: of more it is not told where they are going",
            ),
            (
                Drift::RedirectedFull(full(Some(5))),
                "the member `cart` has 9 connections by user 5 on their way to a sidecar: of more it is not told where they are going",
            ),
            (
                Drift::ExemptFull(full(Some(5))),
                "the member `cart` has 9 connections of exempt identities by user 5 on their way within it: more are redirected to the sidecar",
            ),
            (Drift::PodProgramMissing(name()), "the pod `cart` has no program in its network namespace"),
            (
                Drift::PodTranslates(name()),
                "the pod `cart` translates addresses (NAT), and the kernel takes away there what tc gives to a sidecar",
            ),
            (
                Drift::PodInterfaceMissed(name()),
                "the pod `cart` has an interface without a program: it was added after the pod was attached",
            ),
            (
                Drift::MemberInterfaces(name()),
                "interfaces or routes of the member `cart` are others than those that its exemptions are of",
            ),
            (
                Drift::MemberRoutesMany(name()),
                "the member `cart` has more routes than are followed: the policy decides what leaves by exempt interfaces, but for sockets that are bound to one",
            ),
            (
                Drift::PodSocketsUnknown(name()),
                "the pod `cart` has sockets that listen and are not known, since there were too many",
            ),
            (
                Drift::PodAddressesMany { pod: name(), own: 1024 },
                "the pod `cart` has too many addresses: 1024 of them count as its own",
            ),
            (
                Drift::PodSourceChanged(name()),
                "connections of the pod `cart` come from another of its addresses than is known",
            ),
            (
                Drift::PodAddressAdded(name(), address),
                "the pod `cart` got the address 10.0.0.7, which is not known to be its own",
            ),
            (
                Drift::PodAddressLost(name(), address),
                "the pod `cart` has lost the address 10.0.0.7, which counts as its own",
            ),
            (
                Drift::NodeAddressesMany(4096),
                "the node has too many addresses: rules about `node` know 4096 of them",
            ),
            (
                Drift::NodeAddressAdded(address),
                "the node got the address 10.0.0.7, which rules about `node` do not know",
            ),
            (
                Drift::NodeAddressLost(address),
                "the node has lost the address 10.0.0.7, which rules about `node` still are about",
            ),
            (
                Drift::PodPortsNotReserved { pod: name(), ports: vec![4140, 15001] },
                "connections of the pod `cart` may take ports that its sidecars need: 4140, 15001",
            ),
        ]
    }

    #[test]
    fn every_kind_has_words() {
        let shown = shown();
        for (drift, words) in &shown {
            assert_eq!(text(drift), *words);
        }
        let kinds: BTreeSet<&str> = shown.iter().map(|(drift, _)| drift.code()).collect();
        assert_eq!(kinds, Drift::CODES.iter().copied().collect());
    }

    #[test]
    fn programs_get_a_code_with_the_words() {
        let found = answer(&[Drift::TableChanged(Table::Decisions)]);
        let text = "the table `decisions` was modified since the apply";
        assert_eq!(found, json!([{ "code": "table-changed", "text": text }]));
    }

    #[test]
    fn every_code_is_in_the_manual() {
        let manual = include_str!("../../../docs/commands.md");
        let rows: BTreeSet<&str> = (manual.lines())
            .skip_while(|line| !line.starts_with("| code of drift |"))
            .skip(2)
            .map_while(|line| line.strip_prefix("| `")?.split_once("` |"))
            .map(|(code, _)| code)
            .collect();
        assert_eq!(rows, Drift::CODES.iter().copied().collect());
    }

    #[cfg(feature = "node")]
    #[test]
    fn a_pods_fault_is_its_own_or_a_drift() {
        let faults = [
            PodFault::NotRegistered,
            PodFault::InterfaceNotRegistered("eth0".into()),
            Drift::MemberMissing("cart".into()).into(),
        ];
        let said = [
            "it is not registered",
            "its interface `eth0` is not registered",
            "the member `cart` has no entry in the kernel",
        ];
        assert_eq!(faults.each_ref().map(pod_fault), said);
    }
}
