//! A policy as a page: one HTML file that shows what a policy decides, and decides flows that somebody asks for.
//!
//! The page carries the compiled image as JSON and decides from it by a walk of its own (`page/walk.js`), as the
//! programs do from their tables. Where the source is at hand it carries the rules too, and says what a rule beat
//! (`page/reasons.js`). Both are held against the compiler by `tests/run`.
//!
//! Scripts and style are embedded as they are written: nothing builds them, and the page loads nothing.

mod columns;
mod model;
mod numbers;
mod page;
mod rules;

use mesh_bpf::image::MapImage;
use mesh_bpf::prefix::Prefix;
use mesh_hir::Program;
use mesh_hir::span::Span;
use serde::Serialize;

pub use page::{Page, data};

/// What a page shows.
pub struct Picture<'a> {
    /// What it is called.
    pub title: &'a str,
    /// One policy, or an old and a new one.
    pub policies: Vec<Policy<'a>>,
    /// The flows that are decided otherwise by the second policy.
    pub changes: Vec<Change>,
    /// What else changes: members, exemptions, services; a line each.
    pub notes: Vec<String>,
    /// Whether whoever serves it also answers `/live`.
    pub live: bool,
}

/// One policy.
pub struct Policy<'a> {
    /// What it is called: its path, or `generation 7`.
    pub name: &'a str,
    /// What it was compiled to.
    pub image: &'a MapImage,
    /// Its sets, and the services that it names, with their addresses.
    pub sets: Vec<(String, Vec<Prefix>)>,
    /// Its source, where that is at hand.
    pub source: Option<Written<'a>>,
    /// The line that an item is written in, by the key of its counter and its text, where no source is at hand.
    pub place: &'a dyn Fn(u64, &str) -> Place,
}

/// File and line, if they are known.
pub type Place = Option<(String, u32)>;

/// The source of a policy.
pub struct Written<'a> {
    /// The program.
    pub program: &'a Program,
    /// File and line of a place in it.
    pub place: &'a dyn Fn(Span) -> Place,
}

/// Flows that are decided otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// `mesh/workload`
    pub workload: String,
    /// `outbound` or `inbound`.
    pub direction: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The other end's addresses.
    pub addresses: String,
    /// The ports; empty for all.
    pub ports: String,
    /// Whether the addresses are the member's own.
    pub own: bool,
    /// Which processes open them, and to or from the node, where not all do: `as uid 7 to node`.
    pub who: String,
    /// What was decided.
    pub before: String,
    /// What is decided now.
    pub after: String,
    /// The rules that make the change, with their lines.
    pub causes: Vec<String>,
    /// One of the flows, as it is asked for.
    pub example: String,
}
