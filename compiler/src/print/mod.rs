//! What the passes hand to each other, as text: for people who look into the compiler.
//!
//! Everything is there once and under a number where others refer to it, in the order in which the pass has it.
//! Text that was written in the policy stands as compiled output has it. Nothing reads this back, and no snapshot
//! is made of it: it changes where the types do.

mod hir;
mod image;
mod ir;
#[cfg(test)]
mod tests;

pub use hir::hir;
pub use image::image;
pub use ir::ir;

use std::fmt::{Display, Write as _};

use mesh_bpf::flow::Direction;
use mesh_bpf::image::{Acceleration, Classes, Exempt, ProfileId, Source, SourceId};
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;

use crate::emit::class_text;

/// Text that is written line by line.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// A line, this many steps in.
    fn line(&mut self, depth: usize, line: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{:width$}{line}", "", width = 2 * depth);
    }

    /// Numbered sources.
    fn sources(&mut self, sources: &[Source]) {
        for (number, source) in sources.iter().enumerate() {
            self.line(0, format_args!("source {number}: {}", source.credit(Prefix::Any)));
        }
    }

    /// A numbered port table: where each stretch begins.
    fn table<T>(&mut self, number: usize, stretches: &[(u16, T)], show: impl Fn(&T) -> String) {
        self.line(0, format_args!("ports {number}"));
        let lasts = stretches.iter().skip(1).map(|(next, _)| next.saturating_sub(1)).chain([u16::MAX]);
        for ((first, decision), last) in stretches.iter().zip(lasts) {
            self.line(1, format_args!("{}: {}", PortRange { first: *first, last }, show(decision)));
        }
    }

    /// The nodes of one tree, each indented below the one around it.
    fn tree(
        &mut self,
        direction: Direction,
        own: bool,
        nodes: impl Iterator<Item = (Prefix, [u32; 2], String)>,
    ) {
        let what = if own { ", own addresses" } else { "" };
        self.line(1, format_args!("{direction}{what}"));
        let mut open: Vec<Prefix> = Vec::new();
        for (prefix, [tcp, udp], made) in nodes {
            while open.last().is_some_and(|outer| !outer.covers(prefix)) {
                open.pop();
            }
            self.line(2 + open.len(), format_args!("{prefix}: tcp ports {tcp}, udp ports {udp}, by {made}"));
            open.push(prefix);
        }
    }

    /// The trees of each class.
    fn classes<S>(&mut self, classes: &Classes<S>, mut side: impl FnMut(&mut Self, Direction, &S)) {
        for direction in Direction::ALL {
            for (class, of_class) in (1u32..).zip(classes.of(direction)) {
                self.line(1, format_args!("class {class}: {}", class_text(classes, direction, class)));
                side(self, direction, of_class);
            }
        }
    }

    /// What a profile has beside its trees.
    fn rest(&mut self, exempt: &Exempt, acceleration: &Acceleration, missing: bool, failed: bool) {
        let by = |SourceId(source): SourceId| format!("by source {source}");
        for (range, source) in &exempt.uids {
            self.line(1, format_args!("exempt uid {range} {}", by(*source)));
        }
        for (range, source) in &exempt.gids {
            self.line(1, format_args!("exempt gid {range} {}", by(*source)));
        }
        for (path, source) in &exempt.cgroups {
            self.line(1, format_args!("exempt cgroup \"{path}\" {}", by(*source)));
        }
        for (name, source) in &exempt.interfaces {
            self.line(1, format_args!("exempt interface \"{name}\" {}", by(*source)));
        }
        for (ports, source) in &acceleration.local {
            self.line(1, format_args!("accelerate local tcp {ports} {}", by(*source)));
        }
        for (ProfileId(peer), ports) in &acceleration.peers {
            for (ports, source) in ports {
                self.line(1, format_args!("accelerate profile {peer} tcp {ports} {}", by(*source)));
            }
        }
        self.line(1, format_args!("on missing-sidecar {}", if missing { "refuse" } else { "pass" }));
        self.line(1, format_args!("on failed-attach {}", if failed { "refuse" } else { "start" }));
    }
}
