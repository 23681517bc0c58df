//! Which process asks decides, where rules name identities: on the real kernel, with tables made by hand.

use std::net::{SocketAddr, TcpListener};

use mesh_bpf::flow::Verdict;
use mesh_bpf::image::{Classes, IdRange};
use mesh_bpf::map::{EXEMPT_CGROUPS, EXEMPT_IDS};
use mesh_runtime::{Drift, Owner, items};
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Cgroup, Errno, Ground, Place, Server, ServerTask};

use crate::common::{Policy, dial, on_ground, request};

/// The last id that a process may have.
const LAST: u32 = u32::MAX - 1;

const fn to(port: u16) -> Verdict {
    Verdict::Redirected { port, transparent: false }
}

fn ids<const N: usize>(parts: [(u32, u32, u32); N]) -> Vec<(IdRange, u32)> {
    parts.map(|(first, last, part)| (IdRange { first, last }, part)).into()
}

/// Two sidecars, of which all processes but those of a class are sent to the first, and a server beside the mesh.
struct Stage {
    ports: [u16; 2],
    there: [SocketAddr; 2],
    _servers: (Vec<ServerTask>, Server),
}

impl Stage {
    fn new(ground: &Ground) -> Self {
        let far = ["127.0.0.2:0", "[::1]:0"].map(|address| address.parse().unwrap());
        let far = Server::start_here("far", &far).unwrap();
        let there = far.addresses().unwrap();
        let held = ["first", "second"].map(|who| (who, TcpListener::bind("127.0.0.1:0").unwrap()));
        let free = held.map(|(who, held)| (who, held.local_addr().unwrap().port()));
        let start = |(who, port): (&str, u16)| {
            let addresses = ["127.0.0.1", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
            ServerTask::start(&Place::here().cgroup(ground.cgroup()), who, &addresses).unwrap()
        };
        let sidecars = free.map(start).into();
        Self { ports: free.map(|(_, port)| port), there: [there[0], there[1]], _servers: (sidecars, far) }
    }

    fn policy(&self) -> Policy {
        let [first, _] = self.ports;
        self.there.iter().fold(Policy::new(), |policy, there| policy.redirect(there.port(), first))
    }

    /// Who answers a process, at an address of either family.
    fn who(&self, place: &Place) -> String {
        let [v4, v6] = self.there.map(|there| match dial(place, there) {
            Ok(dialled) => dialled.arrival.who,
            Err(Errno::EPERM) => "nobody".to_owned(),
            Err(error) => format!("{error:?}"),
        });
        assert_eq!(v4, v6, "{place:?}");
        v4
    }
}

#[test]
fn users_groups_and_cgroups_each_decide_and_together() {
    let (ground, runtime) = on_ground();
    let stage = Stage::new(&ground);
    let app = ground.cgroup().child("app").unwrap();
    let job = app.child("job").unwrap();
    let inner = job.child("inner").unwrap();
    let deep = inner.child("deep").unwrap();
    // Users: 0 and the last one, a range. Groups: all of them, cut in two. Cgroups: one in another.
    let classes = Classes {
        uids: ids([(0, 0, 1), (1000, 1999, 2), (LAST, u32::MAX, 1)]),
        gids: ids([(0, 99, 1), (100, u32::MAX, 2)]),
        cgroups: vec![(job.within().unwrap(), 1), (inner.within().unwrap(), 2)],
        // 3 × 3 × 3, ordered by user, group, cgroup: another verdict for each user, but where its group is below 100
        // and it is within the cgroups.
        cells: vec![
            0, 0, 0, 0, 4, 4, 0, 0, 3, // other users
            1, 1, 1, 1, 4, 4, 1, 1, 3, // user 0 and the last
            2, 2, 2, 2, 4, 4, 2, 2, 3, // 1000 to 1999
        ],
        sides: vec![to(stage.ports[1]), Verdict::Excluded, Verdict::Denied, Verdict::Excluded],
        ..Classes::default()
    };
    let policy = stage.policy().cgroup(app.within().unwrap()).classes(classes);
    let applied = runtime.apply(request(&policy.tables())).unwrap();
    assert!(applied.warnings.is_empty() && applied.missing_cgroups.is_empty(), "{applied:?}");
    let who = |cgroup: &Cgroup, uid, gid| stage.who(&Place::here().cgroup(cgroup).gid(gid).uid(uid));
    for (uid, expected) in [
        (0, "second"),
        (1, "first"),
        (999, "first"),
        (1000, "far"),
        (1999, "far"),
        (2000, "first"),
        // The lower half of an id is another user.
        (0x0001_0000, "first"),
        (LAST - 1, "first"),
        (LAST, "second"),
    ] {
        assert_eq!(who(&app, uid, 7), expected, "{uid}");
        assert_eq!(who(&app, uid, 100), expected, "{uid}");
        assert_eq!(who(&job, uid, 99), "far", "{uid}");
        assert_eq!(who(&deep, uid, 0), "far", "{uid}");
        assert_eq!(who(&job, uid, LAST), expected, "{uid}");
        // The deeper one counts.
        assert_eq!(who(&inner, uid, 100), "nobody", "{uid}");
        assert_eq!(who(&deep, uid, LAST), "nobody", "{uid}");
    }
    // Who is no member is not asked.
    assert_eq!(stage.who(&Place::here().cgroup(ground.cgroup()).uid(1000)), "far");
    let status = runtime.status().unwrap();
    assert_eq!(status.drift, Vec::<Drift>::new());
    let image = policy.image();
    let counted = items(&image, &status.hits);
    let hits = |text: &str| {
        let of = |hit: &&mesh_runtime::ItemHits| image.sources[hit.source].head == text;
        counted.iter().filter(of).map(|hit| hit.hits).sum::<u64>()
    };
    assert_eq!(hits(&format!("decide {}", to(stage.ports[1]))), 2 * 2 * 3);
    assert_eq!(hits("decide denied"), 2 * 2 * 9);
    runtime.detach_all(true).unwrap();
}

#[test]
fn one_class_may_be_that_of_all_and_go_with_its_generation() {
    let (ground, runtime) = on_ground();
    let stage = Stage::new(&ground);
    let app = ground.cgroup().child("app").unwrap();
    let policy = || stage.policy().cgroup(app.within().unwrap());
    let who = |uid| stage.who(&Place::here().cgroup(&app).uid(uid));
    runtime.apply(request(&policy().tables())).unwrap();
    let abi = || runtime.status().unwrap().head.policy_abi;
    assert_eq!((who(0), who(LAST), abi()), ("first".into(), "first".into(), 3));
    let all = |verdict| Classes {
        uids: ids([(0, u32::MAX, 1)]),
        cells: vec![0, 1],
        sides: vec![verdict],
        ..Classes::default()
    };
    runtime.apply(request(&policy().classes(all(to(stage.ports[1]))).tables())).unwrap();
    assert_eq!((who(0), who(LAST), abi()), ("second".into(), "second".into(), 4));
    runtime.apply(request(&policy().classes(all(Verdict::Denied)).tables())).unwrap();
    assert_eq!((who(0), who(LAST), abi()), ("nobody".into(), "nobody".into(), 4));
    runtime.rollback(None, Owner::Cli, false).unwrap();
    assert_eq!((who(0), who(LAST), abi()), ("second".into(), "second".into(), 4));
    runtime.apply(request(&policy().tables())).unwrap();
    assert_eq!((who(0), who(LAST), abi()), ("first".into(), "first".into(), 3));
    runtime.detach_all(true).unwrap();
}

#[test]
fn a_cgroup_of_a_class_is_known_when_it_is_made_and_beside_one_that_is_exempt() {
    let (ground, runtime) = on_ground();
    let stage = Stage::new(&ground);
    let app = ground.cgroup().child("app").unwrap();
    let path = |name: &str| format!("{}/{name}", app.within().unwrap());
    let classes = Classes {
        cgroups: vec![(path("job"), 1), (path("job/proxy"), 2)],
        cells: vec![0, 1, 2],
        sides: vec![to(stage.ports[1]), Verdict::Denied],
        ..Classes::default()
    };
    let plain = stage.policy().cgroup(app.within().unwrap());
    let policy = plain.clone().exempt(path("job/proxy")).classes(classes);
    let applied = runtime.apply(request(&policy.tables())).unwrap();
    assert_eq!(applied.missing_cgroups.len(), 2, "{applied:?}");
    let who = |cgroup: &Cgroup| stage.who(&Place::here().cgroup(cgroup));
    assert_eq!(who(&app), "first");
    for _ in 0..2 {
        let job = app.child("job").unwrap();
        let proxy = job.child("proxy").unwrap();
        assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new());
        assert_eq!((who(&app), who(&job)), ("first".into(), "second".into()));
        // An exemption passes whatever rules say.
        assert_eq!(who(&proxy), "far");
    }
    let entries = || {
        let maps = runtime.instance().maps();
        [EXEMPT_IDS, EXEMPT_CGROUPS].map(|map| mesh_testbed::storage::entries(&maps.join(map.name)).unwrap())
    };
    // The cgroups are gone with what they were.
    assert_eq!(entries(), [0, 3]);
    let (job, later) = (app.child("job").unwrap(), app.child("later").unwrap());
    runtime.apply(request(&plain.tables())).unwrap();
    assert_eq!((who(&job), who(&later)), ("first".into(), "first".into()));
    runtime.apply(request(&plain.deny(1).tables())).unwrap();
    assert_eq!(entries(), [0, 0]);
    runtime.detach_all(true).unwrap();
}
