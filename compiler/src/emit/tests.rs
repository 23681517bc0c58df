use mesh_bpf::image::MapImage;

use super::{Map, NamedSet, Sets, entries};
use crate::analysis::fixture::image;
use crate::fixture::{Fixture, prefix};
use crate::hir::{Event, Ports};

fn example() -> MapImage {
    let mut fixture = Fixture::new(&["cart", "catalog"]);
    fixture
        .rule("", "redirect outbound -> 15001")
        .rule("", "redirect inbound -> 15003")
        .rule("", "always deny outbound to 169.254.169.254")
        .rule("m", "exclude outbound tcp 3306 to 10.0.0.0/8,fd00::/8")
        .rule("m/cart", "redirect outbound tcp 443 -> 15443 transparent")
        .exempt("", "uid 1500-1510")
        .exempt("m", "cgroup /a\\x2d\"b\"")
        .on("m", Event::MissingSidecar, false)
        .accelerate("cart <-> catalog", Ports::All);
    image(&fixture.program)
}

/// As where no set is known.
fn emit(image: &MapImage) -> String {
    super::emit(image, &Sets::default())
}

/// One section of the output.
fn section(image: &MapImage, heading: &str) -> String {
    let text = emit(image);
    let section = text.split("\n\n").find(|section| section.starts_with(heading));
    section.unwrap().to_owned()
}

#[test]
fn it_is_toml_and_holds_every_entry_once() {
    let image = example();
    let parsed: toml::Table = toml::from_str(&emit(&image)).unwrap();
    let found = parsed["entries"].as_table().unwrap();
    let mut count = 0;
    for entry in entries(&image, &Sets::default()).iter().filter(|entry| entry.map != Map::Exempt) {
        let section =
            entry.direction.map_or_else(|| "accelerate".to_owned(), |direction| direction.to_string());
        assert_eq!(found[&entry.profile][&section][&entry.key].as_str(), Some(entry.value.as_str()));
        count += 1;
    }
    let sections = found.values().flat_map(|profile| profile.as_table().unwrap().values());
    assert_eq!(count, sections.map(|section| section.as_table().unwrap().len()).sum::<usize>());
}

#[test]
fn exempt_identities_are_called_alike_everywhere() {
    let image = example();
    let text = emit(&image);
    let all = entries(&image, &Sets::default());
    let exempt: Vec<_> = all.iter().filter(|entry| entry.map == Map::Exempt).collect();
    assert!(exempt.iter().any(|entry| entry.key.starts_with("cgroup ")));
    for entry in exempt {
        let quoted = super::toml::Quoted(&entry.key).to_string();
        assert!(text.contains(&quoted), "{quoted}: {text}");
    }
}

#[test]
fn every_entry_names_the_item_that_made_it() {
    let outbound = section(&example(), "[entries.\"m/cart\".outbound]");
    for line in [
        "\"any tcp 443\" = \"redirected 15443 transparent\" # m/cart: redirect outbound tcp 443 -> 15443 transparent",
        "\"any tcp not 443\" = \"redirected 15001\" # top level: redirect outbound tcp -> 15001",
        "\"any udp\" = \"excluded\" # no rule",
        "\"built-in loopback any\" = \"excluded\" # built-in: loopback",
        "\"169.254.169.254 any\" = \"denied\" # top level: always deny outbound any (to these)",
        "\"10.0.0.0/8, fd00::/8 tcp 3306\" = \"excluded\" # m: exclude outbound tcp 3306 (to these)",
    ] {
        assert!(outbound.lines().any(|found| found == line), "{line}\n{outbound}");
    }
}

/// What a prefix inherits is written where it is from, so that a port more there is no change here.
#[test]
fn an_entry_says_only_what_is_otherwise_than_around_it() {
    let of = |ports: &str| {
        let mut fixture = Fixture::new(&["cart"]);
        fixture
            .rule("m", &format!("deny outbound tcp {ports}"))
            .rule("m", "exclude outbound tcp 80 to 10.0.0.0/8");
        let section = section(&image(&fixture.program), "[entries.\"m\".outbound]");
        section.lines().filter(|line| line.starts_with("\"10.")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of("25"), ["\"10.0.0.0/8 tcp 80\" = \"excluded\" # m: exclude outbound tcp 80 (to these)"]);
    assert_eq!(of("25,26,79-100"), of("25"));
}

#[test]
fn lists_have_the_names_of_the_sets_that_they_are_made_of() {
    let mut fixture = Fixture::new(&["cart"]);
    fixture.rule("", "exclude outbound tcp 3306,5432 to 10.0.0.0/8,10.9.0.1,10.9.0.2,10.9.0.3,172.16.0.0/12");
    let image = image(&fixture.program);
    let prefixes = |texts: &[&str]| texts.iter().map(|text| prefix(text)).collect();
    let set = |name: &str, addresses, ports: &[&str]| NamedSet {
        name: name.to_owned(),
        addresses,
        services: Vec::new(),
        ports: ports.iter().map(|&port| port.to_owned()).collect(),
    };
    let rule = |sets: Vec<NamedSet>| {
        let text = super::emit(&image, &Sets::new(sets));
        text.lines()
            .find(|line| line.contains("exclude tcp") || line.contains("exclude db"))
            .unwrap()
            .to_owned()
    };
    let bare = rule(Vec::new());
    assert!(
        bare.starts_with("    \"exclude tcp 3306, 5432 to list ") && bare.ends_with("\", # top level"),
        "{bare}"
    );
    let private = || set("private", prefixes(&["10.0.0.0/8", "172.16.0.0/12"]), &[]);
    let hosts = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4"];
    assert_eq!(
        rule(vec![private(), set("db", Vec::new(), &["tcp 3306", "tcp 5432"])]),
        "    \"exclude db to 10.9.0.1, 10.9.0.2, 10.9.0.3, private\", # top level"
    );
    // One that is missing is told; of another mesh there are no sets here.
    assert_eq!(
        rule(vec![private(), set("m/nodes", prefixes(&hosts), &[]), set("n/db", Vec::new(), &["tcp 3306"])]),
        "    \"exclude tcp 3306, 5432 to m/nodes but 10.9.0.4, private\", # top level"
    );
}

#[test]
fn the_summary_says_what_becomes_of_a_workload() {
    assert_eq!(
        section(&example(), "[workload.\"m/cart\".outbound]"),
        "[workload.\"m/cart\".outbound]
rules = [
    \"always deny to 169.254.169.254\", # top level
    \"exclude tcp 3306 to 10.0.0.0/8, fd00::/8\", # m
    \"redirect tcp 443 -> 15443 transparent\", # m/cart
    \"redirect tcp -> 15001\", # top level
]
built-in = [
    \"exclude what no rule names: own addresses, multicast and broadcast, loopback, link-local, whatever is left\",
]"
    );
}

#[test]
fn the_summary_says_which_ports_are_closed() {
    let mut fixture = Fixture::new(&["cart"]);
    fixture
        .rule("", "redirect outbound -> 15001")
        .rule("", "redirect outbound udp 53 -> 15053")
        .rule("", "redirect outbound tcp 53 -> 15053")
        .rule("m", "redirect inbound -> 15003")
        .rule("m/cart", "exclude inbound tcp 15001 from 10.0.0.0/8");
    assert_eq!(
        section(&image(&fixture.program), "[workload.\"m/cart\".inbound]"),
        "[workload.\"m/cart\".inbound]
rules = [
    \"exclude tcp 15001 from 10.0.0.0/8\", # m/cart
    \"redirect tcp -> 15003\", # m
]
built-in = [
    \"deny tcp 15001, 15053 from elsewhere, to which only outbound redirects lead\",
    \"deny udp 15053 from elsewhere, to which only outbound redirects lead\",
    \"exclude tcp 15003, sidecars' own\",
    \"exclude what no rule names: own addresses, multicast and broadcast, loopback, link-local, whatever is left\",
]"
    );
}

#[test]
fn what_workloads_share_is_written_once() {
    let mut fixture = Fixture::new(&["cart", "catalog", "till"]);
    fixture.rule("m", "deny outbound tcp 25").rule("m/till", "exclude outbound tcp 2");
    let text = emit(&image(&fixture.program));
    let found: Vec<&str> = text.lines().filter(|line| line.ends_with(".outbound]")).collect();
    let [shared, own] = ["m", "m/till"].map(|profile| format!("[entries.\"{profile}\".outbound]"));
    assert_eq!(found, ["[profile.\"m\".outbound]", "[workload.\"m/till\".outbound]", &shared, &own]);
    assert_eq!(text.matches("profile = \"m\"\n").count(), 2);
}
