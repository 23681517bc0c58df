//! The map image.

use mesh_bpf::flow::Direction;
use mesh_bpf::image::{MapImage, PortTableId, Profile, Side};

use super::Page;
use crate::emit::selector_lines;

/// An image as it is packed into tables. The compiled output says the same for review, without numbers.
#[must_use]
pub fn image(image: &MapImage) -> String {
    let mut page = Page::default();
    for mesh in &image.meshes {
        page.line(0, format_args!("mesh {mesh}"));
    }
    page.sources(&image.sources);
    for (number, table) in image.port_tables.iter().enumerate() {
        page.table(number, &table.stretches, |decision| {
            format!("{} by source {}, {} up", decision.verdict, decision.source.0, decision.up)
        });
    }
    for (number, profile) in image.profiles.iter().enumerate() {
        write_profile(&mut page, number, profile);
    }
    for workload in &image.workloads {
        page.line(0, format_args!("workload {}: profile {}", workload.name, workload.profile.0));
        selector_lines(&workload.selector).into_iter().for_each(|line| page.line(1, line));
    }
    page.text
}

fn write_side(page: &mut Page, direction: Direction, side: &Side) {
    for (own, tree) in [(false, &side.tree), (true, &side.own)] {
        let nodes = tree.iter().map(|node| {
            let tables = node.ports.map(|PortTableId(table)| table);
            (node.prefix, tables, format!("source {}", node.source.0))
        });
        page.tree(direction, own, nodes);
    }
}

fn write_profile(page: &mut Page, number: usize, profile: &Profile) {
    page.line(0, format_args!("profile {number}: {}", profile.name));
    for direction in Direction::ALL {
        write_side(page, direction, profile.side(direction));
    }
    page.classes(&profile.classes, write_side);
    let Profile { exempt, acceleration, missing_sidecar_refuse, failed_attach_refuse, .. } = profile;
    page.rest(exempt, acceleration, *missing_sidecar_refuse, *failed_attach_refuse);
}
