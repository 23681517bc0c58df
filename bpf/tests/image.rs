//! An image survives its tables and its artifact, and the walk through the tables agrees with a reading
//! of the image that knows nothing of trees.

use std::net::IpAddr;

use mesh_bpf::artifact;
use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::image::{
    Acceleration, Decision, Exempt, IdRange, MapImage, Node, PortTable, PortTableId, Profile, ProfileId,
    Side, Source, SourceId, SourceKind, Workload,
};
use mesh_bpf::item::counter_key;
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::pack::{Unpackable, pack, pack_within};
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::{Prefix, mask32, mask128};
use mesh_bpf::selector::Selector;
use mesh_bpf::sim::{Decided, Sim};
use mesh_bpf::tables::{Manifest, TableData};
use mesh_bpf::unpack::unpack;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Excluded),
        Just(Verdict::Denied),
        (1..u16::MAX, any::<bool>())
            .prop_map(|(port, transparent)| Verdict::Redirected { port, transparent }),
    ]
}

fn port_table() -> impl Strategy<Value = PortTable> {
    (btree_map(1..200u16, (verdict(), 0..4u32), 0..60), verdict()).prop_map(|(rest, first)| {
        let decision = |(verdict, source)| Decision { verdict, source: SourceId(source), up: 0 };
        let mut stretches = vec![(0, decision((first, 1)))];
        stretches.extend(rest.into_iter().map(|(port, rest)| (port, decision(rest))));
        PortTable { stretches }
    })
}

/// Prefixes that nest and sit side by side, at the ends of both families too.
fn prefix() -> impl Strategy<Value = Prefix> {
    let bits = prop_oneof![Just(0u128), Just(u128::MAX), Just(0x2001_0db8u128 << 96), any::<u128>()];
    (any::<bool>(), bits, 0..=128u8).prop_map(|(v4, bits, len)| {
        if v4 {
            let len = len % 33;
            Prefix::V4 { bits: (bits >> 64) as u32 & mask32(len), len }
        } else {
            Prefix::V6 { bits: bits & mask128(len), len }
        }
    })
}

fn nodes(tables: u32) -> impl Strategy<Value = Vec<Node>> {
    (btree_set(prefix(), 0..40), vec((0..tables, 0..tables), 41)).prop_map(|(prefixes, ports)| {
        (std::iter::once(Prefix::Any).chain(prefixes).zip(ports))
            .map(|(prefix, (tcp, udp))| Node {
                prefix,
                source: SourceId(1),
                ports: [PortTableId(tcp), PortTableId(udp)],
            })
            .collect()
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    let ids = btree_set(0..1000u32, 0..20).prop_map(|ids| {
        let ids = ids.into_iter().map(|id| (IdRange { first: id * 2, last: id * 2 }, SourceId(2)));
        ids.collect::<Vec<_>>()
    });
    let side = || (nodes(3), nodes(3)).prop_map(|(tree, own)| Side { tree, own });
    let range = PortRange { first: 5, last: u16::MAX };
    (side(), side(), ids, any::<[bool; 3]>()).prop_map(move |(outbound, inbound, uids, flags)| Profile {
        name: "mesh".into(),
        sides: [outbound, inbound],
        exempt: Exempt { gids: uids.clone(), uids, cgroups: vec![("/a/b".into(), SourceId(2))] },
        missing_sidecar_refuse: flags[0],
        failed_attach_refuse: flags[1],
        acceleration: Acceleration {
            local: if flags[2] { vec![(range, SourceId(3))] } else { vec![] },
            peers: if flags[2] { [(ProfileId(0), vec![(range, SourceId(3))])].into() } else { [].into() },
        },
    })
}

fn image() -> impl Strategy<Value = MapImage> {
    (vec(port_table(), 3), profile()).prop_map(|(port_tables, profile)| {
        let source = |kind, head: &str| Source { kind, head: head.into(), ..Source::default() };
        MapImage {
            meshes: vec!["mesh".into()],
            sources: vec![
                Source::default(),
                source(SourceKind::BuiltIn, "loopback"),
                source(SourceKind::Exempt, "exempt uid 1"),
                source(SourceKind::Rule, "exclude outbound tcp"),
            ],
            port_tables,
            profiles: vec![profile],
            workloads: vec![Workload {
                name: "mesh/app".into(),
                selector: Selector { cgroups: vec!["/app".into()], ..Selector::default() },
                profile: ProfileId(0),
            }],
        }
        .canonical()
    })
}

fn flow() -> impl Strategy<Value = Flow> {
    (any::<[bool; 3]>(), prefix(), 0..210u16).prop_map(|([udp, inbound, own], prefix, port)| Flow {
        direction: if inbound { Direction::Inbound } else { Direction::Outbound },
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        address: prefix.first().unwrap_or(IpAddr::V4(1.into())),
        port,
        own,
    })
}

proptest! {
    #[test]
    fn tables_give_the_image_back(image in image()) {
        let tables = pack(&image).unwrap();
        prop_assert_eq!(unpack(&tables).unwrap(), image.clone());
        let (again, decoded) = artifact::decode(&artifact::encode(&tables)).unwrap();
        prop_assert_eq!(again, tables);
        prop_assert_eq!(decoded, image);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_table_and_what_it_needs(image in image()) {
        let tables = pack(&image).unwrap();
        let lines = |table: Table| tables.get(table).line_count();
        let needed = Table::ALL.into_iter().map(lines).max().unwrap();
        prop_assert_eq!(pack_within(&image, needed), Ok(tables.clone()));
        for table in Table::ALL {
            // A line is 64 bytes, and no map is empty.
            prop_assert_eq!(lines(table), tables.get(table).bytes().len().div_ceil(64).max(1));
        }
        let table = Table::ALL.into_iter().find(|&table| lines(table) == needed).unwrap();
        let refusal = Unpackable::OverCapacity { table, needed, limit: needed - 1 };
        prop_assert_eq!(pack_within(&image, needed - 1), Err(refusal));
    }

    #[test]
    fn the_walk_finds_the_longest_prefix_and_its_port(image in image(), flows in vec(flow(), 50)) {
        let tables = pack(&image).unwrap();
        let sim = Sim::new(&tables).unwrap();
        for flow in flows {
            let side = image.profiles[0].side(flow.direction);
            let list = if flow.own { &side.own } else { &side.tree };
            let node = list.iter().rfind(|node| node.prefix.contains(flow.address)).unwrap();
            let (_, decision) =
                image.port_table(node.table(flow.protocol)).unwrap().lookup(flow.port).unwrap();
            let Some(Decided::Policy(hit)) = sim.decide(ProfileId(0), &flow, &Identity::default()) else {
                panic!("no decision for {flow:?}");
            };
            prop_assert_eq!((hit.prefix, hit.verdict, hit.source), (node.prefix, decision.verdict, decision.source));
            let source = &image.sources[decision.source.0 as usize];
            prop_assert_eq!(hit.counter, counter_key(source.stable_hash(), hit.item));
        }
    }

    #[test]
    fn exempt_identities_pass_outbound_and_nobody_does_inbound(image in image(), flow in flow(), id in 0..2000u32) {
        let tables = pack(&image).unwrap();
        let sim = Sim::new(&tables).unwrap();
        let exempt = &image.profiles[0].exempt;
        let of = |ids: &[(IdRange, SourceId)]| {
            ids.iter().find(|(range, _)| (range.first..=range.last).contains(&id)).map(|&(_, source)| source)
        };
        let cgroup = |path: &str| Identity { cgroup: Some(path.into()), ..Identity::default() };
        for (identity, source) in [
            (Identity { uid: Some(id), ..Identity::default() }, of(&exempt.uids)),
            (Identity { gid: Some(id), ..Identity::default() }, of(&exempt.gids)),
            (cgroup("/a/b/c"), Some(exempt.cgroups[0].1)),
            (cgroup("/a/bc"), None),
        ] {
            let decided = sim.decide(ProfileId(0), &flow, &identity).unwrap();
            match source.filter(|_| flow.direction == Direction::Outbound) {
                Some(source) => prop_assert_eq!(decided, Decided::Exempt(source)),
                None => prop_assert!(matches!(decided, Decided::Policy(_)), "{decided:?}"),
            }
        }
    }

    #[test]
    fn names_say_who_is_a_member(image in image()) {
        let tables = pack(&image).unwrap();
        prop_assert_eq!(Membership::read(tables.get(Table::Names)).unwrap(), Membership::of(&image));
    }

    #[test]
    fn nodes_are_in_order_however_they_come(image in image()) {
        let mut turned = image.clone();
        for side in &mut turned.profiles[0].sides {
            side.tree.reverse();
            side.own.reverse();
        }
        prop_assert_eq!(turned.canonical(), image);
    }

    #[test]
    fn no_byte_of_an_artifact_may_differ(image in image(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let mut bytes = artifact::encode(&pack(&image).unwrap());
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(artifact::decode(&bytes).is_err());
    }

    #[test]
    fn an_artifact_that_is_cut_off_is_refused(image in image(), at in any::<prop::sample::Index>()) {
        let bytes = artifact::encode(&pack(&image).unwrap());
        prop_assert!(artifact::decode(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn damaged_tables_are_refused_and_never_panic(
        image in image(), table in 1..9usize, at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut tables = pack(&image).unwrap();
        let table = Table::ALL[table];
        let mut bytes = tables.get(table).bytes().to_vec();
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        tables.set(table, TableData::from_bytes(&bytes));
        if let Ok(read) = unpack(&tables) {
            prop_assert!(read != image, "a change that nothing notices");
        }
        if let Ok(sim) = Sim::new(&tables) {
            let flow = Flow {
                direction: Direction::Outbound,
                protocol: Protocol::Tcp,
                address: IpAddr::V4(0x0a00_0001.into()),
                port: 80,
                own: false,
            };
            let _ = sim.decide(ProfileId(0), &flow, &Identity::default());
        }
    }

    #[test]
    fn the_manifest_names_every_table(image in image(), generation in 1..u64::MAX) {
        let tables = pack(&image).unwrap();
        let manifest = Manifest::read(&tables.manifest(generation, 0)).unwrap();
        prop_assert_eq!(manifest.header.generation, generation);
        prop_assert_eq!(manifest.header.digest, tables.digest());
        for table in Table::ALL.into_iter().skip(1) {
            prop_assert_eq!(manifest.table(table).digest, tables.get(table).digest());
        }
    }
}
