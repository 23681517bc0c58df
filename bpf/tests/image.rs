//! An image survives its tables and its artifact, and the walk through the tables agrees with a reading
//! of the image that knows nothing of trees.

use std::net::IpAddr;

use mesh_bpf::abi;
use mesh_bpf::artifact;
use mesh_bpf::flow::{Direction, Flow, Identity, Protocol, Verdict};
use mesh_bpf::image::{
    Acceleration, Classes, Decision, Exempt, IdRange, MapImage, Node, PortTable, PortTableId, Profile,
    ProfileId, Side, Source, SourceId, SourceKind, Workload,
};
use mesh_bpf::item::counter_key;
use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_bpf::pack::{Unpackable, pack, pack_within};
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::{Prefix, mask32, mask128};
use mesh_bpf::selector::Selector;
use mesh_bpf::sim::{Decided, Sim, TreeOf};
use mesh_bpf::tables::{Manifest, TableData, Tables};
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

fn nodes(tables: u32, at_most: usize) -> impl Strategy<Value = Vec<Node>> {
    (btree_set(prefix(), 0..at_most), vec((0..tables, 0..tables), 41)).prop_map(|(prefixes, ports)| {
        (std::iter::once(Prefix::Any).chain(prefixes).zip(ports))
            .map(|(prefix, (tcp, udp))| Node {
                prefix,
                source: SourceId(1),
                ports: [PortTableId(tcp), PortTableId(udp)],
            })
            .collect()
    })
}

/// Ids where parts begin and end, of which the first and the last that there is are often one.
fn id() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), Just(u32::MAX - 1), 0..60u32, any::<u32>()]
}

/// Ranges with their parts, which often cover all ids there are.
fn parts() -> impl Strategy<Value = Vec<(IdRange, u32)>> {
    let ids = btree_map(id(), 0..4u32, 0..40);
    (ids, 0..4u32).prop_map(|(mut begins, first)| {
        begins.entry(0).or_insert(first);
        let mut ranges: Vec<(IdRange, u32)> = Vec::new();
        let ends = begins.keys().skip(1).map(|next| next - 1).chain([u32::MAX]);
        for ((&first, &part), last) in begins.iter().zip(ends).filter(|((_, part), _)| **part != 0) {
            match ranges.last_mut() {
                Some((range, of)) if *of == part && range.last + 1 == first => range.last = last,
                _ => ranges.push((IdRange { first, last }, part)),
            }
        }
        ranges
    })
}

const CGROUPS: [&str; 6] = ["/a", "/a/b", "/a/b/c", "/ab", "/b", "/c/d"];

fn classes() -> impl Strategy<Value = Classes> {
    let cgroups = btree_map(prop::sample::select(CGROUPS.to_vec()), 1..4u32, 0..6);
    let side = (nodes(3, 6), nodes(3, 3)).prop_map(|(tree, own)| Side { tree, own });
    let sides = vec(side, 1..4);
    let from_node = prop::option::of((nodes(3, 6), nodes(3, 3)));
    let from_node = from_node.prop_map(|side| side.map(|(tree, own)| Side { tree, own }));
    let node = (any::<bool>(), from_node);
    let named = (prop::option::of(parts()), prop::option::of(parts()), cgroups);
    (named, node, sides, any::<bool>(), vec(0..4u32, 128)).prop_map(
        |((uids, gids, cgroups), (node, from_node), sides, outbound, of)| {
            if !outbound && from_node.is_some() {
                return Classes { from_node, ..Classes::default() };
            }
            let cgroups = cgroups.into_iter().map(|(path, part)| (path.to_owned(), part)).collect();
            let (uids, gids) = (uids.unwrap_or_default(), gids.unwrap_or_default());
            let mut classes = Classes { uids, gids, cgroups, node, cells: Vec::new(), sides, from_node };
            let cells = classes.parts().into_iter().product::<u32>() as usize;
            let last = u32::try_from(classes.sides.len()).unwrap_or(u32::MAX);
            classes.cells = of.iter().take(cells).map(|&class| class.min(last)).collect();
            classes
        },
    )
}

fn identity() -> impl Strategy<Value = Identity> {
    let cgroup = prop::sample::select(vec!["/", "/a", "/a/b/c/d", "/a/bc", "/ab/a", "/c", "/c/d/e", "/x"]);
    (prop::option::of(id()), prop::option::of(id()), prop::option::of(cgroup), any::<bool>()).prop_map(
        |(uid, gid, cgroup, node)| Identity {
            uid,
            gid,
            cgroup: cgroup.map(str::to_owned),
            interface: None,
            node,
        },
    )
}

fn profile() -> impl Strategy<Value = Profile> {
    let ids = btree_set(0..1000u32, 0..20).prop_map(|ids| {
        let ids = ids.into_iter().map(|id| (IdRange { first: id * 2, last: id * 2 }, SourceId(2)));
        ids.collect::<Vec<_>>()
    });
    let side = || (nodes(3, 40), nodes(3, 40)).prop_map(|(tree, own)| Side { tree, own });
    let range = PortRange { first: 5, last: u16::MAX };
    let classes = prop_oneof![Just(Classes::default()), classes()];
    (side(), side(), ids, any::<[bool; 3]>(), classes).prop_map(
        move |(outbound, inbound, uids, flags, classes)| Profile {
            name: "mesh".into(),
            classes,
            sides: [outbound, inbound],
            exempt: Exempt {
                gids: uids.clone(),
                uids,
                cgroups: vec![("/a/b".into(), SourceId(2))],
                interfaces: Vec::new(),
            },
            missing_sidecar_refuse: flags[0],
            failed_attach_refuse: flags[1],
            acceleration: Acceleration {
                local: if flags[2] { vec![(range, SourceId(3))] } else { vec![] },
                peers: if flags[2] { [(ProfileId(0), vec![(range, SourceId(3))])].into() } else { [].into() },
            },
        },
    )
}

fn image() -> impl Strategy<Value = MapImage> {
    (vec(port_table(), 3), profile(), prop::option::of(profile())).prop_map(
        |(port_tables, profile, other)| {
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
                profiles: std::iter::once(profile)
                    .chain(other.map(|other| Profile { name: "other".into(), ..other }))
                    .collect(),
                workloads: vec![Workload {
                    name: "mesh/app".into(),
                    selector: Selector { cgroups: vec!["/app".into()], ..Selector::default() },
                    profile: ProfileId(0),
                }],
            }
            .canonical()
        },
    )
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
    fn the_walk_finds_the_longest_prefix_and_its_port(image in image(), flows in vec((flow(), identity()), 50)) {
        let tables = pack(&image).unwrap();
        let sim = Sim::new(&tables).unwrap();
        for (flow, identity) in flows {
            let profile = &image.profiles[0];
            let class = profile.classes.class_of(flow.direction, &identity);
            prop_assert_eq!(sim.class_of(ProfileId(0), flow.direction, &identity), Some(class));
            let side = profile.trees(flow.direction).nth(class as usize).unwrap();
            if flow.direction == Direction::Outbound
                && let Some(Decided::Exempt(_)) = sim.decide(ProfileId(0), &flow, &identity)
            {
                continue;
            }
            let list = if flow.own { &side.own } else { &side.tree };
            let node = list.iter().rfind(|node| node.prefix.contains(flow.address)).unwrap();
            let (_, decision) =
                image.port_table(node.table(flow.protocol)).unwrap().lookup(flow.port).unwrap();
            let Some(Decided::Policy(hit)) = sim.decide(ProfileId(0), &flow, &identity) else {
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
        identity in identity(),
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
            let _ = Direction::ALL.map(|direction| sim.class_of(ProfileId(0), direction, &identity));
            let flow = Flow {
                direction: Direction::Outbound,
                protocol: Protocol::Tcp,
                address: IpAddr::V4(0x0a00_0001.into()),
                port: 80,
                own: false,
            };
            let _ = sim.decide(ProfileId(0), &flow, &identity);
        }
    }

    #[test]
    fn each_class_is_read_back_from_its_trees(image in image()) {
        let tables = pack(&image).unwrap();
        let sim = Sim::new(&tables).unwrap();
        for (id, profile) in (0..).map(ProfileId).zip(&image.profiles) {
            for direction in Direction::ALL {
                for (class, side) in (0..).zip(profile.trees(direction)) {
                    for (own, list) in [(false, &side.tree), (true, &side.own)] {
                        let tree = TreeOf { profile: id, class, direction, own };
                        for span in sim.address_spans(tree).unwrap() {
                            let node = list.iter().rfind(|node| node.prefix.contains(span.first)).unwrap();
                            prop_assert_eq!(sim.node(span.node).map(|(prefix, _)| prefix), Some(node.prefix));
                        }
                    }
                }
                let class = u32::try_from(profile.trees(direction).count()).unwrap();
                let tree = TreeOf { profile: id, class, direction, own: false };
                prop_assert_eq!(sim.address_spans(tree), None);
            }
        }
    }

    #[test]
    fn only_classes_make_tables_of_a_new_version(image in image()) {
        let has = image.profiles.iter().any(|profile| profile.classes != Classes::default());
        let tables = pack(&image).unwrap();
        let asks =
            image.profiles.iter().any(|it| it.classes.node || it.classes.from_node.is_some());
        let abi = match (asks, has) {
            (true, _) => abi::POLICY_ABI,
            (false, true) => abi::POLICY_ABI_CLASSED,
            (false, false) => abi::POLICY_ABI_UNCLASSED,
        };
        prop_assert_eq!(Manifest::read(&tables.manifest(1, 0)).unwrap().header.policy_abi, abi);
        let bytes = artifact::encode(&tables);
        prop_assert_eq!(&bytes[8..12], &abi.to_le_bytes()[..]);
        let profiles: &[abi::Profile] = tables.get(Table::Profiles).records();
        let lines = |classes: &Classes| classes.sides.len() + usize::from(classes.from_node.is_some());
        let sides: usize = image.profiles.iter().map(|profile| lines(&profile.classes)).sum();
        prop_assert_eq!(profiles.len(), image.profiles.len() + sides);
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

/// An image with one profile of two classes: user 7, and all else of group 9 or below `/a`.
fn classed() -> MapImage {
    let node = |table| Node { prefix: Prefix::Any, source: SourceId(1), ports: [PortTableId(table); 2] };
    let side = |table| Side { tree: vec![node(table)], own: vec![node(table)] };
    let table = |port| {
        let verdict = Verdict::Redirected { port, transparent: false };
        PortTable { stretches: vec![(0, Decision { verdict, source: SourceId(1), up: 0 })] }
    };
    let range = |first, last| IdRange { first, last };
    let classes = Classes {
        uids: vec![(range(7, 7), 1)],
        gids: vec![(range(9, u32::MAX), 1)],
        cgroups: vec![("/a".into(), 1)],
        cells: vec![0, 2, 2, 2, 1, 1, 1, 1],
        sides: vec![side(2), side(3)],
        ..Classes::default()
    };
    MapImage {
        sources: vec![Source::default(), Source { kind: SourceKind::Rule, ..Source::default() }],
        port_tables: vec![table(1), table(10), table(11), table(12)],
        profiles: vec![Profile {
            name: "m".into(),
            sides: [side(0), side(1)],
            classes,
            ..Profile::default()
        }],
        ..MapImage::default()
    }
}

#[test]
fn a_process_is_of_the_class_that_its_three_parts_make() {
    let image = classed();
    let tables = pack(&image).unwrap();
    assert_eq!(unpack(&tables).unwrap(), image);
    let sim = Sim::new(&tables).unwrap();
    let port = |uid, gid, cgroup: Option<&str>| {
        let identity = Identity { uid, gid, cgroup: cgroup.map(str::to_owned), interface: None, node: false };
        let flow = |direction| Flow {
            direction,
            protocol: Protocol::Tcp,
            address: IpAddr::V4(0x0a00_0001.into()),
            port: 80,
            own: false,
        };
        // Nobody knows who sent what comes in.
        let inbound = sim.decide(ProfileId(0), &flow(Direction::Inbound), &identity).unwrap();
        assert_eq!(inbound.verdict().port(), Some(10));
        sim.decide(ProfileId(0), &flow(Direction::Outbound), &identity).unwrap().verdict().port().unwrap()
    };
    assert_eq!(port(None, None, None), 1);
    assert_eq!(port(Some(0), Some(0), Some("/")), 1);
    assert_eq!(port(Some(6), Some(8), Some("/ab")), 1);
    assert_eq!(port(Some(8), Some(9), None), 12);
    assert_eq!(port(None, Some(u32::MAX), None), 12);
    assert_eq!(port(Some(u32::MAX), None, Some("/a/b")), 12);
    assert_eq!(port(Some(7), None, None), 11);
    assert_eq!(port(Some(7), Some(9), Some("/a")), 11);
}

/// The same with the node: what user 7 opens to it is class 3, and what comes from it has a side of its own.
fn with_node() -> MapImage {
    let mut image = classed();
    let table = |port| {
        let verdict = Verdict::Redirected { port, transparent: false };
        PortTable { stretches: vec![(0, Decision { verdict, source: SourceId(1), up: 0 })] }
    };
    image.port_tables.extend([table(13), table(14)]);
    let node = |table| Node { prefix: Prefix::Any, source: SourceId(1), ports: [PortTableId(table); 2] };
    let side = |table| Side { tree: vec![node(table)], own: vec![node(table)] };
    for profile in image.profiles.iter_mut().take(1) {
        profile.classes.node = true;
        profile.classes.cells = vec![0, 0, 2, 2, 2, 2, 2, 2, 1, 3, 1, 3, 1, 3, 1, 3];
        profile.classes.sides.push(side(4));
        profile.classes.from_node = Some(side(5));
    }
    image
}

/// An exempt interface is looked at first, whoever is at the other end.
#[test]
fn a_profile_may_ask_for_the_node_and_exempt_interfaces() {
    for (mut image, abi) in [(with_node(), abi::POLICY_ABI), (classed(), abi::POLICY_ABI_CLASSED)] {
        image.profiles[0].exempt.interfaces = vec![("net*".into(), SourceId(1))];
        let tables = pack(&image).unwrap();
        assert_eq!((unpack(&tables).unwrap(), tables.policy_abi()), (image, abi));
        let sim = Sim::new(&tables).unwrap();
        for direction in Direction::ALL {
            let flow = Flow {
                direction,
                protocol: Protocol::Tcp,
                address: IpAddr::V4(0x0a00_0001.into()),
                port: 80,
                own: false,
            };
            for (interface, is_exempt) in [("net1", true), ("eth0", false)] {
                let identity =
                    Identity { node: true, interface: Some(interface.into()), ..Identity::default() };
                let decided = sim.decide(ProfileId(0), &flow, &identity).unwrap();
                assert_eq!(matches!(decided, Decided::Exempt(_)), is_exempt, "{interface}");
            }
        }
    }
}

#[test]
fn the_node_is_told_apart_in_both_directions() {
    let port = |image: &MapImage, direction, uid, node| {
        let tables = pack(image).unwrap();
        assert_eq!(unpack(&tables).unwrap(), *image);
        let sim = Sim::new(&tables).unwrap();
        let flow = Flow {
            direction,
            protocol: Protocol::Tcp,
            address: IpAddr::V4(0x0a00_0001.into()),
            port: 80,
            own: false,
        };
        let identity = Identity { uid, node, ..Identity::default() };
        sim.decide(ProfileId(0), &flow, &identity).unwrap().verdict().port().unwrap()
    };
    let image = with_node();
    for (uid, node, expected) in
        [(None, false, 1), (None, true, 1), (Some(7), false, 11), (Some(7), true, 13), (Some(8), true, 1)]
    {
        assert_eq!(port(&image, Direction::Outbound, uid, node), expected, "{uid:?} {node}");
    }
    assert_eq!(port(&image, Direction::Inbound, None, false), 10);
    assert_eq!(port(&image, Direction::Inbound, None, true), 14);
    // Where no rule says `from node`, it is one of many.
    assert_eq!(port(&classed(), Direction::Inbound, None, true), 10);
    // Where no rule is about what a member opens, it has one class.
    let mut received = image;
    let classes = &mut received.profiles[0].classes;
    *classes = Classes { from_node: classes.from_node.take(), ..Classes::default() };
    received.port_tables = vec![
        received.port_tables[0].clone(),
        received.port_tables[1].clone(),
        received.port_tables[5].clone(),
    ];
    for node in
        received.profiles[0].classes.from_node.iter_mut().flat_map(|side| [&mut side.tree, &mut side.own])
    {
        node[0].ports = [PortTableId(2); 2];
    }
    assert_eq!(port(&received, Direction::Outbound, Some(7), true), 1);
    assert_eq!(port(&received, Direction::Inbound, None, false), 10);
    assert_eq!(port(&received, Direction::Inbound, None, true), 14);
}

/// Whether tables with these lines of profiles are refused, by a walk over them that does not panic.
fn refuses_profiles(whole: &Tables, change: &dyn Fn(&mut [abi::Profile])) -> bool {
    let mut tables = whole.clone();
    let mut lines = tables.get(Table::Profiles).records::<abi::Profile>().to_vec();
    change(&mut lines);
    tables.set(Table::Profiles, TableData::from_records(&lines));
    let Ok(sim) = Sim::new(&tables) else { return false };
    for uid in [0, 7, u32::MAX] {
        let identity = Identity { uid: Some(uid), node: true, ..Identity::default() };
        let _ = Direction::ALL.map(|direction| sim.class_of(ProfileId(0), direction, &identity));
    }
    unpack(&tables).is_err()
}

/// Tables in which the class of a process is what comes from the node: there is a line of that number, and it is none of an
/// outbound class.
#[test]
fn a_class_of_processes_is_none_of_the_node() {
    let whole = pack(&with_node()).unwrap();
    let from_node = 4u32;
    let words: &[u32] = bytemuck::cast_slice(whole.get(Table::Trees).bytes());
    let mut told = 0;
    for at in 0..words.len() {
        let mut damaged = words.to_vec();
        damaged[at] = from_node;
        let mut tables = whole.clone();
        tables.set(Table::Trees, TableData::from_bytes(bytemuck::cast_slice(&damaged)));
        let found = unpack(&tables).map_err(|damaged| damaged.what);
        told += u32::from(found.is_err_and(|what| what == "it has no line for a class"));
        let Ok(sim) = Sim::new(&tables) else { continue };
        for (uid, gid, node) in [None, Some(7)]
            .iter()
            .flat_map(|uid| [None, Some(9)].map(|gid| (*uid, gid)))
            .flat_map(|(uid, gid)| [false, true].map(|node| (uid, gid, node)))
        {
            let identity = Identity { uid, gid, node, ..Identity::default() };
            let class = sim.class_of(ProfileId(0), Direction::Outbound, &identity);
            assert!(class.is_none_or(|class| class < from_node), "{at}: {class:?}");
        }
    }
    assert!(told > 0);
}

/// One profile exempts an interface, the other none.
#[test]
fn interfaces_are_listed_by_the_profiles_that_exempt_them() {
    let mut image = classed();
    image.profiles.push(Profile {
        name: "n".into(),
        sides: image.profiles[0].sides.clone(),
        ..Profile::default()
    });
    let patterns = vec![("net*".to_owned(), SourceId(1))];
    image.profiles[0].exempt.interfaces.clone_from(&patterns);
    let tables = pack(&image).unwrap();
    for membership in [Membership::of(&image), Membership::read(tables.get(Table::Names)).unwrap()] {
        assert_eq!(membership.exempt_interfaces, [(ProfileId(0), patterns.clone())].into());
    }
}

#[test]
fn a_manifest_tells_the_length_of_each_table() {
    let tables = pack(&with_node()).unwrap();
    let manifest = Manifest::read(&tables.manifest(1, 0)).unwrap();
    for table in [Table::Profiles, Table::Trees, Table::Ports, Table::Sources, Table::Names] {
        let bytes = tables.get(table).bytes();
        assert_eq!(manifest.tables[table as usize].bytes, bytes.len() as u64, "{table:?}");
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let malformed = |image: &MapImage| matches!(pack(image), Err(Unpackable::Malformed(_)));
    assert!(malformed(&MapImage::default()));
    let mut image = classed();
    image.sources[0] = image.sources[1].clone();
    assert!(malformed(&image));
}

/// Cells are numbered through all profiles together.
#[test]
fn as_many_cells_as_there_may_be_lines_fit_and_no_more() {
    let parts = |count| (1..count).map(|part| (range_of(part, part), part)).collect();
    let with = |profiles: u32| {
        let mut image = classed();
        let profile = |name: u32| {
            let mut profile = image.profiles[0].clone();
            profile.name = format!("m{name}");
            profile.classes.uids = parts(2048);
            profile.classes.gids = parts(4096);
            profile.classes.cgroups = Vec::new();
            profile.classes.cells = vec![0; 1 << 23];
            profile
        };
        image.profiles = (0..profiles).map(profile).collect();
        pack(&image)
    };
    with(2).unwrap();
    let Err(Unpackable::OverCapacity { table: Table::Trees, needed, .. }) = with(3) else {
        panic!("three profiles with half as many each fit")
    };
    assert_eq!(needed, 3 << 23);
}

#[test]
fn sides_of_the_node_that_the_tables_do_not_bear_out_are_damaged() {
    let image = with_node();
    let whole = pack(&image).unwrap();
    let with = |change: &dyn Fn(&mut [abi::Profile])| assert!(refuses_profiles(&whole, change));
    with(&|lines| lines[0].flags ^= abi::PROFILE_TO_NODE);
    with(&|lines| lines[0].flags ^= abi::PROFILE_FROM_NODE);
    with(&|lines| lines[4].tree = lines[0].tree);
    with(&|lines| lines[4].flags ^= abi::PROFILE_FROM_NODE);
    with(&|lines| lines.swap(3, 4));
}

#[test]
fn classes_that_no_tables_can_say_are_refused() {
    let range = |first, last| IdRange { first, last };
    type Change = (&'static str, fn(&mut Classes));
    let changes: [Change; 14] = [
        ("twice as few cells", |classes| classes.node = true),
        ("a cell is missing", |classes| classes.cells.truncate(7)),
        ("a cell too many", |classes| classes.cells.push(0)),
        ("a class that is not there", |classes| classes.cells[3] = 3),
        ("no class at all", |classes| classes.sides.clear()),
        ("no cells", |classes| classes.cells.clear()),
        ("a user in no part", |classes| classes.uids[0].1 = 0),
        ("more parts than cells", |classes| classes.uids[0].1 = u32::MAX),
        ("a range that ends before it begins", |classes| classes.uids[0].0 = range_of(8, 7)),
        ("ranges that overlap", |classes| classes.uids.push((range_of(7, 9), 1))),
        ("neighbours that are one", |classes| classes.gids.insert(0, (range_of(3, 8), 1))),
        ("a path twice", |classes| classes.cgroups.push(("/a".into(), 1))),
        ("paths out of order", |classes| classes.cgroups.push(("/".into(), 1))),
        ("a class without a tree", |classes| classes.sides[1].own.clear()),
    ];
    assert_eq!(range_of(1, 2), range(1, 2));
    for (what, change) in changes {
        let mut image = classed();
        change(&mut image.profiles[0].classes);
        assert!(matches!(pack(&image), Err(Unpackable::Malformed(_))), "{what}");
    }
    // Neighbours in different parts are two, and so are ranges with an id between them.
    let mut image = classed();
    let classes = &mut image.profiles[0].classes;
    classes.gids = vec![(range(0, 3), 1), (range(5, 8), 1), (range(9, u32::MAX), 2)];
    classes.cells = vec![0, 1, 2, 0, 2, 1, 1, 1, 2, 2, 0, 0];
    assert_eq!(unpack(&pack(&image).unwrap()).unwrap(), image);
}

const fn range_of(first: u32, last: u32) -> IdRange {
    IdRange { first, last }
}

#[test]
fn classes_that_the_tables_do_not_bear_out_are_damaged() {
    let image = classed();
    let whole = pack(&image).unwrap();
    let with = |change: &dyn Fn(&mut [abi::Profile])| assert!(refuses_profiles(&whole, change));
    with(&|lines| lines[0].class_cells = 0);
    with(&|lines| lines[0].class_cells = u32::MAX);
    with(&|lines| lines[0].class_cells = lines[0].class_uid);
    with(&|lines| lines[0].class_uid = lines[0].class_gid);
    with(&|lines| lines[0].class_gid = 0);
    with(&|lines| lines[0].class_uid = u32::MAX);
    with(&|lines| lines[0].flags ^= abi::PROFILE_CLASS_CGROUPS);
    with(&|lines| lines[1].class_cells = 0);
    with(&|lines| lines[2].tree = lines[0].tree);
    with(&|lines| lines.swap(1, 2));
    let lines: &[abi::Profile] = whole.get(Table::Profiles).records();
    let mut shorter = whole.clone();
    shorter.set(Table::Profiles, TableData::from_records(&lines[..2]));
    unpack(&shorter).unwrap_err();
    // Each word of each leaf: a part, a cell or a line of its own that is not there.
    let trees = whole.get(Table::Trees).bytes();
    for word in 0..trees.len() / 4 {
        for value in [0u32, 1, 2, 3, u32::MAX] {
            let mut bytes = trees.to_vec();
            bytes[word * 4..word * 4 + 4].copy_from_slice(&value.to_le_bytes());
            let mut tables = whole.clone();
            tables.set(Table::Trees, TableData::from_bytes(&bytes));
            // Some say another class that is there.
            let differs = unpack(&tables) != Ok(image.clone());
            assert!(differs || bytes == trees, "word {word} is {value}");
        }
    }
}
