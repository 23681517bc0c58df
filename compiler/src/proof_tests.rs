//! The proof accepts what lowering makes, and says where something else differs. Images with mistakes of
//! every kind are in `fuzz/tests/damaged.rs`.

use mesh_bpf::flow::{Direction, Verdict};
use mesh_bpf::image::{Decision, Exempt, MapImage, Node, SourceId};
use mesh_bpf::pack::pack;
use mesh_bpf::ports::PortRange;

use crate::analysis::fixture::image;
use crate::fixture::{Fixture, prefix};
use crate::hir::{Event, Ports, Program};
use crate::prove::prove;

/// A program that uses all that lowering decides, so that every mistake shows.
fn everything() -> Program {
    let mut fixture = Fixture::new(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    fixture
        .rule("", "redirect outbound -> 15001")
        .rule("", "redirect inbound -> 15003")
        .rule("", "always deny outbound to 169.254.169.254")
        .rule("m", "exclude outbound to 169.254.0.0/16")
        .rule("m", "exclude outbound tcp 3306,5432 to 10.0.0.0/8")
        .rule("m", "deny outbound tcp 5000-6000")
        .rule("m", "exclude outbound tcp 5432")
        .rule("m", "deny outbound tcp to 10.1.0.0/16")
        .rule("m", "exclude outbound tcp 80 to 127.0.0.0/8")
        .rule("m", "exclude inbound from 10.9.0.1")
        .rule("m", "deny inbound udp not 53")
        .rule("m", "exclude outbound udp 53")
        .rule("m+a,b", "redirect outbound tcp 443 -> 15443 transparent")
        .rule("m/a", "redirect outbound tcp 3306 -> 15306")
        .rule("m/b", "exclude outbound tcp 443")
        .rule("", "redirect outbound tcp 7500 -> 15001")
        .rule("m", "exclude outbound tcp 12200-12400")
        .rule("m", "exclude outbound tcp 12100-12300")
        .rule("m/c", "exclude outbound tcp not 1-20000,21000-65000")
        .rule("m/b", "redirect outbound udp 53 -> 15053")
        .rule("m", "redirect inbound tcp 81 -> 15001")
        .rule("m/b", "exclude inbound udp 15053 from 10.9.0.0/16")
        .rule("m/d", "exclude inbound udp 53,15053")
        .rule("m/d", "redirect outbound udp 53 to 224.0.0.251,ff02::fb -> 15053")
        .rule("m/b", "redirect outbound tcp 80 to 169.254.169.254 -> 15080")
        .rule("m", "exclude outbound tcp 443 as uid 1000-1999")
        .rule("m/d", "deny outbound tcp 80 to 10.2.0.0/16 as gid 100")
        .rule("m/d", "redirect outbound tcp 81 as uid 1500 and gid 5-9 -> 15081")
        .rule("m/a", "exclude outbound udp as cgroup /jobs")
        .rule("m/a", "deny outbound udp 99 as cgroup /jobs/a");
    for i in 0..40 {
        let verb = if i % 2 == 0 { "deny" } else { "exclude" };
        fixture.rule("m/c", &format!("{verb} outbound tcp {}-{}", 7000 + 10 * i, 8000 - 10 * i));
    }
    fixture
        .exempt("", "uid 1500-1510")
        .exempt("m", "uid 1505")
        .exempt("m/a", "gid 7")
        .exempt("m/a", "cgroup /sidecars")
        .exempt("m/b", "interface net1")
        .on("m", Event::MissingSidecar, false)
        .on("m/b", Event::MissingSidecar, true)
        .group("front", "a,b")
        .accelerate("local a,b,c", Ports::All)
        .accelerate("local a", Ports::Range(PortRange::single(9)))
        .accelerate("a,b <-> c", Ports::Not(PortRange::single(80).into()))
        .accelerate("d <-> e", Ports::Range(PortRange::single(99)))
        .accelerate("f,g <-> d", Ports::Range(PortRange::single(98)));
    fixture.program
}

fn disproof(program: &Program) -> Option<String> {
    disproof_of(program, &image(program))
}

/// What the proof says of an image that is to be this program's.
fn disproof_of(program: &Program, image: &MapImage) -> Option<String> {
    match pack(image) {
        // What cannot be packed is not written either.
        Err(error) => Some(error.to_string()),
        Ok(tables) => prove(program, &tables).err().map(|disproof| disproof.to_string()),
    }
}

#[test]
fn what_lowering_makes_is_proved() {
    assert_eq!(disproof(&everything()), None);
}

/// Each rule of a policy that uses all of the language is missed by the proof, should lowering lose it.
#[test]
fn a_rule_that_is_lost_is_missed() {
    let whole = everything();
    for lost in 0..whole.rules.len() {
        let mut program = whole.clone();
        let rule = program.rules.remove(lost);
        let mistaken = image(&program);
        if mistaken != image(&whole) {
            assert!(disproof_of(&whole, &mistaken).is_some(), "{rule:?}");
        }
    }
}

#[test]
fn a_difference_comes_with_its_flow() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("", "redirect outbound -> 15001").rule("m", "always exclude outbound tcp 80");
    fixture.rule("m/a", "redirect outbound tcp 80 to 10.0.0.0/8 -> 15080");
    let mut image = image(&fixture.program);
    let source = |head| image.sources.iter().zip(0..).find(|(one, _)| one.head == head).unwrap().1;
    let [always, narrower] = ["always exclude outbound tcp 80", "redirect outbound tcp 80"].map(source);
    let forgotten = Decision {
        verdict: Verdict::Redirected { port: 15080, transparent: false },
        source: SourceId(narrower),
        up: 0,
    };
    for (_, decision) in image.port_tables.iter_mut().flat_map(|table| &mut table.stretches) {
        if *decision == (Decision { verdict: Verdict::Excluded, source: SourceId(always), up: 1 }) {
            *decision = forgotten;
        }
    }
    assert_eq!(
        disproof_of(&fixture.program, &image).unwrap(),
        "the tables differ from the policy for `m/a`, outbound tcp 80 to 10.0.0.0: expected excluded by \
         m: always exclude outbound tcp 80, found redirected 15080 by m/a: redirect outbound tcp 80 to \
         10.0.0.0/8 -> 15080"
    );
}

/// A process that the tables hold for another is missed, whichever side tells it apart.
#[test]
fn a_process_in_the_wrong_class_is_missed() {
    let whole = everything();
    let right = image(&whole);
    let mut tried = 0;
    for (at, profile) in right.profiles.iter().enumerate() {
        for cell in 0..profile.classes.cells.len() {
            let mut wrong = right.clone();
            let of = wrong.profiles[at].classes.cells[cell];
            let others = u32::try_from(profile.classes.sides.len()).unwrap() + 1;
            let mistaken = (of + 1) % others;
            let side = |class: u32| profile.trees(Direction::Outbound).nth(class as usize);
            if side(of) == side(mistaken) {
                continue;
            }
            wrong.profiles[at].classes.cells[cell] = mistaken;
            assert!(disproof_of(&whole, &wrong).is_some(), "{} cell {cell}", profile.name);
            tried += 1;
        }
        // Here each rule that names processes decides something.
        if !["/a", "/d"].iter().any(|workload| profile.name.ends_with(workload)) {
            continue;
        }
        for uid in 0..profile.classes.uids.len() {
            let mut wrong = right.clone();
            wrong.profiles[at].classes.uids[uid].0.last -= 1;
            assert!(disproof_of(&whole, &wrong).is_some(), "{} uid {uid}", profile.name);
            tried += 1;
        }
        for path in 0..profile.classes.cgroups.len() {
            let mut wrong = right.clone();
            wrong.profiles[at].classes.cgroups[path].0.push_str("/x");
            assert!(disproof_of(&whole, &wrong).is_some(), "{} path {path}", profile.name);
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

/// What must not compile is not proved either, should a tie be missed before.
#[test]
fn a_tie_is_no_meaning() {
    let tied = |rules: &[&str]| {
        let mut fixture = Fixture::new(&["a"]);
        for rule in rules {
            fixture.rule("m", rule);
        }
        disproof(&fixture.program)
    };
    let [all, some] = ["redirect inbound -> 15003", "redirect inbound from 10.0.0.0/8 -> 15004"];
    assert_eq!(tied(&[all, some]), None);
    assert_eq!(
        tied(&[all, some, "redirect inbound tcp 1-5 -> 1"]).unwrap(),
        "the tables differ from the policy for `m/a`, inbound tcp 2 from 10.0.0.0: expected redirected 15004 \
         by m: redirect inbound tcp from 10.0.0.0/8 -> 15004 or, with the same right, redirected 1 by m: \
         redirect inbound tcp 1-5 -> 1, found redirected 15004 by m: redirect inbound tcp from 10.0.0.0/8 -> \
         15004"
    );
    // Where nothing ties any more, there is nothing to disprove.
    let hidden = "always exclude inbound tcp 2-5";
    assert_eq!(tied(&[all, some, "redirect inbound tcp 1-5 -> 1", hidden]), None);
    let elsewhere = "redirect inbound tcp 80 from 10.0.0.0/8 -> 15003";
    assert_eq!(tied(&[all, some, elsewhere, "redirect inbound tcp 80 -> 15080"]), None);
}

/// What was compared for one workload is not compared for the next, but the prefixes that its items are found at are.
#[test]
fn a_prefix_that_the_next_workload_lacks_is_missed() {
    let mut fixture = Fixture::new(&["a", "b"]);
    fixture
        .rule("m", "deny outbound tcp 25 to 10.0.0.0/8")
        .rule("m", "deny outbound tcp 26 to 10.0.0.0/9,10.128.0.0/9")
        .rule("m/b", "deny inbound tcp 1");
    let whole = image(&fixture.program);
    assert_eq!(disproof_of(&fixture.program, &whole), None);
    for workload in 0..2 {
        let mut lacking = whole.clone();
        let [outbound, _] = &mut lacking.profiles[workload].sides;
        outbound.tree.retain(|node| node.prefix != prefix("10.0.0.0/8"));
        assert!(disproof_of(&fixture.program, &lacking).is_some(), "{workload}");
    }
}

/// Hits are counted by the rule and its prefix, so a node of another prefix is missed even where it decides alike.
#[test]
fn a_prefix_that_is_cut_in_two_is_missed() {
    let mut fixture = Fixture::new(&["a"]);
    fixture.rule("m", "deny outbound tcp 25 to 10.0.0.0/8").rule("m", "exclude outbound tcp to 10.1.0.0/16");
    let whole = image(&fixture.program);
    assert_eq!(disproof_of(&fixture.program, &whole), None);
    let mut cut = whole.clone();
    let [outbound, _] = &mut cut.profiles[0].sides;
    let at = outbound.tree.iter().position(|node| node.prefix == prefix("10.0.0.0/8")).unwrap();
    let halves =
        ["10.0.0.0/9", "10.128.0.0/9"].map(|half| Node { prefix: prefix(half), ..outbound.tree[at] });
    outbound.tree.splice(at..=at, halves);
    let cut = cut.canonical();
    assert_ne!(cut, whole);
    assert_eq!(
        disproof_of(&fixture.program, &cut).unwrap(),
        "the tables differ from the policy for `m/a`: expected 10.0.0.0/8, found 10.0.0.0/9"
    );
}

/// What is changed, and how.
type Change = (&'static str, fn(&mut Exempt));

/// Each identity is exempt where the policy says so, by the item that says so, and nowhere else.
#[test]
fn identities_that_are_exempt_otherwise_are_missed() {
    let mut fixture = Fixture::new(&["a"]);
    fixture
        .exempt("", "uid 1500-1509")
        .exempt("m", "uid 1520")
        .exempt("m", "gid 7-9")
        .exempt("m/a", "cgroup /a")
        .exempt("m", "interface net*");
    let whole = image(&fixture.program);
    assert_eq!(disproof_of(&fixture.program, &whole), None);
    let changes: [Change; 15] = [
        ("a user more", |exempt| exempt.uids[0].0.last += 1),
        ("a user more in front", |exempt| exempt.uids[0].0.first -= 1),
        ("a user fewer", |exempt| exempt.uids[0].0.last -= 1),
        ("a user fewer in front", |exempt| exempt.uids[0].0.first += 1),
        ("no such users", |exempt| exempt.uids = exempt.uids.split_off(1)),
        ("by another item", |exempt| exempt.uids[1].1 = exempt.uids[0].1),
        ("a group fewer", |exempt| exempt.gids[0].0.last -= 1),
        ("no groups", |exempt| exempt.gids.clear()),
        ("users for groups", |exempt| exempt.gids[0] = exempt.uids[1]),
        ("no cgroup", |exempt| exempt.cgroups.clear()),
        ("another cgroup", |exempt| exempt.cgroups[0].0 = "/b".into()),
        ("a cgroup by another item", |exempt| exempt.cgroups[0].1 = exempt.uids[0].1),
        ("no interface", |exempt| exempt.interfaces.clear()),
        ("other interfaces", |exempt| exempt.interfaces[0].0 = "net".into()),
        ("interfaces by another item", |exempt| exempt.interfaces[0].1 = exempt.uids[0].1),
    ];
    for (what, change) in changes {
        let mut image = whole.clone();
        change(&mut image.profiles[0].exempt);
        assert!(disproof_of(&fixture.program, &image).is_some(), "{what}");
    }
}

/// The innermost `on` answers, wherever in the text it stands; of equally inner ones `refuse` does.
#[test]
fn another_answer_of_on_is_missed() {
    // What is written for `b`, and whether it refuses.
    let policies: [(&[(&str, bool)], bool); 13] = [
        (&[], true),
        (&[("", false)], false),
        (&[("", true), ("m", false)], false),
        (&[("", false), ("m", true)], true),
        (&[("", false), ("m", true), ("m/b", false)], false),
        (&[("m", true), ("m/b", false), ("m+a,b", true)], false),
        (&[("m+a,b,c", true), ("m+a,b", false)], false),
        (&[("m+a,b,c", false), ("m+a,b", true)], true),
        (&[("m+a,b", false), ("m+b,c", true)], true),
        (&[("m+a,b", false), ("m+b,c", false), ("m", true)], false),
        // The same workloads, by two lists.
        (&[("m+a,b", false), ("m+b,a", true)], true),
        // What is written for others says nothing about `b`.
        (&[("m", false), ("m/a", true)], false),
        (&[("m/a", false), ("m+a,c", false)], true),
    ];
    for (answers, refuses) in policies {
        let reversed: Vec<(&str, bool)> = answers.iter().rev().copied().collect();
        for answers in [answers, &reversed] {
            for event in [Event::MissingSidecar, Event::FailedAttach] {
                let mut fixture = Fixture::new(&["a", "b", "c"]);
                for (scope, refuse) in answers {
                    fixture.on(scope, event, *refuse);
                }
                let mut image = image(&fixture.program);
                assert_eq!(disproof_of(&fixture.program, &image), None, "{answers:?}");
                let profile = image.workload("m/b").unwrap().profile;
                let profile = image.profiles.get_mut(profile.0 as usize).unwrap();
                let [answered, other] = match event {
                    Event::MissingSidecar => {
                        [&mut profile.missing_sidecar_refuse, &mut profile.failed_attach_refuse]
                    }
                    Event::FailedAttach => {
                        [&mut profile.failed_attach_refuse, &mut profile.missing_sidecar_refuse]
                    }
                };
                // Nothing is said of the other event.
                assert_eq!([*answered, *other], [refuses, true], "{answers:?}");
                *answered = !refuses;
                assert!(disproof_of(&fixture.program, &image).is_some(), "{answers:?}");
            }
        }
    }
}

/// The build keeps the proof from importing lowering; this keeps what is proved from being made of the proof.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test reads files")]
fn what_is_proved_is_not_made_of_the_proof() {
    for dir in ["decide", "lower"] {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(dir);
        let files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let found =
                ["mesh_proof", "crate::eval", "crate::prove"].iter().find(|name| text.contains(**name));
            assert_eq!(found, None, "{}", file.display());
        }
    }
}
