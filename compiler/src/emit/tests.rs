use mesh_bpf::image::MapImage;

use super::{emit, for_each_entry};
use crate::analysis::fixture::image;
use crate::fixture::Fixture;
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

/// One section of the output.
fn section(image: &MapImage, heading: &str) -> String {
    let text = emit(image);
    let section = text.split("\n\n").find(|section| section.starts_with(heading));
    section.unwrap().to_owned()
}

#[test]
fn it_is_toml_and_holds_every_entry_once() {
    let image = example();
    let text = emit(&image);
    let parsed: toml::Table = toml::from_str(&text).unwrap();
    let maps = parsed["map"].as_table().unwrap();
    let mut count = 0;
    for_each_entry(&image, |entry| {
        count += 1;
        let found = &maps[entry.map.name()][&entry.place()];
        let line = format!("x = {}", entry.value);
        let value: toml::Table = toml::from_str(&line).unwrap();
        assert_eq!(found, &value["x"], "{}", entry.place());
    });
    assert_eq!(count, maps.values().map(|map| map.as_table().unwrap().len()).sum::<usize>());
}

#[test]
fn every_entry_names_the_one_item_that_made_it() {
    let image = example();
    let text = emit(&image);
    for_each_entry(&image, |entry| {
        let Some((source, prefix)) = entry.item else { return };
        let place = entry.place().replace('\\', "\\\\").replace('"', "\\\"");
        let line = format!("\"{place}\" = {} # {}", entry.value, image.source(source).credit(prefix));
        assert!(text.lines().any(|found| found == line), "{line}");
    });
}

#[test]
fn the_summary_says_what_becomes_of_a_workload() {
    assert_eq!(
        section(&example(), "[workload.\"m/cart\".outbound]"),
        "[workload.\"m/cart\".outbound]
redirected = [
    \"tcp -> 15001\",
    \"tcp 443 -> 15443 transparent\",
]
straight = [
    \"tcp 3306 to 10.0.0.0/8\",
    \"tcp 3306 to fd00::/8\",
    \"own addresses that no rule names (built-in)\",
    \"multicast and broadcast that no rule names (built-in)\",
    \"loopback that no rule names (built-in)\",
    \"link-local that no rule names (built-in)\",
    \"whatever no rule names\",
]
denied = [
    \"to 169.254.169.254 (always)\",
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
redirected = [
    \"tcp -> 15003\",
]
straight = [
    \"tcp 15001 from 10.0.0.0/8\",
    \"tcp 15003, sidecars' own (built-in)\",
    \"own addresses that no rule names (built-in)\",
    \"multicast and broadcast that no rule names (built-in)\",
    \"loopback that no rule names (built-in)\",
    \"link-local that no rule names (built-in)\",
    \"whatever no rule names\",
]
denied = [
    \"tcp 15001, 15053 from elsewhere, to which only outbound redirects lead (built-in)\",
    \"udp 15053 from elsewhere, to which only outbound redirects lead (built-in)\",
]"
    );
}

#[test]
fn what_workloads_share_is_written_once_if_it_is_long() {
    for (ports, sections) in [
        (3, ["[workload.\"m/cart\".outbound]", "[workload.\"m/catalog\".outbound]"].as_slice()),
        (300, ["[profile.\"m\".outbound]"].as_slice()),
    ] {
        let mut fixture = Fixture::new(&["cart", "catalog", "till"]);
        let list: Vec<String> = (1..=ports).map(|port| (2 * port).to_string()).collect();
        fixture.rule("m", &format!("deny outbound tcp {}", list.join(",")));
        fixture.rule("m/till", "exclude outbound tcp 2");
        let text = emit(&image(&fixture.program));
        let found: Vec<&str> = text.lines().filter(|line| line.ends_with(".outbound]")).collect();
        assert_eq!(found, [sections, ["[workload.\"m/till\".outbound]"].as_slice()].concat());
        assert_eq!(text.matches("profile = \"m\"\n").count(), 2);
        toml::from_str::<toml::Table>(&text).unwrap();
    }
}

#[test]
fn nothing_is_numbered_and_no_line_is_there_twice() {
    let text = emit(&example());
    let entries: Vec<&str> = text.lines().filter(|line| line.contains("\" = ")).collect();
    let mut distinct = entries.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), entries.len());
    assert!(text.contains("profile = \"m/cart\""));
}
