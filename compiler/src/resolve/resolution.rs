//! What resolving gives back.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::selector::Condition;

use crate::ast;
use crate::hir::{self, MeshId, Program, WorkloadId};
use crate::source::{FileId, Span};

/// A program with all names resolved, and what later passes need beside it.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// The program. Where there were errors, without what they are about.
    pub program: Program,
    /// `# meshc: allow(…)` comments of all files.
    pub allows: Vec<ast::Allow>,
    /// Files that are there for others to import: what is unused there may be used elsewhere.
    pub for_others: BTreeSet<FileId>,
    /// Those of them that say so.
    pub libraries: BTreeSet<FileId>,
    /// The whole program is there for others to import.
    pub is_library: bool,
    /// Every use of a set, a group or a workload, in the order of the text.
    pub uses: Vec<Use>,
    /// Sets and groups that nothing names.
    pub unused: Vec<Unused>,
    /// The words of each workload's selectors.
    pub places: BTreeMap<WorkloadId, Places>,
    /// What could not be read, so that its absence is no further mistake.
    pub lost: Lost,
    /// The first statement, if there is any.
    pub first_statement: Option<Span>,
    /// The first file, if there is any.
    pub first_file: Option<FileId>,
    /// Whether parsing and resolving found no error.
    pub sound: bool,
}

/// By what a workload chooses its members, each with its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Items of its `address` lines.
    pub addresses: Vec<hir::AddressItem>,
    /// Items of its `cgroup` lines.
    pub cgroups: Vec<(String, Span)>,
    /// Its other lines.
    pub conditions: Vec<(Condition, Span)>,
}

/// A name where it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The name.
    pub span: Span,
    /// The name where it is declared.
    pub declared: Span,
}

/// A declaration that nothing names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// `set` or `group`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// The name where it is declared.
    pub span: Span,
}

/// What could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// A whole file, or an import.
    pub file: bool,
    /// An `exempt`, or one of its items.
    pub exempt: bool,
    /// Something in a mesh that may have been a workload.
    pub meshes: BTreeSet<MeshId>,
    /// Something in a workload that may have been a selector.
    pub workloads: BTreeSet<WorkloadId>,
    /// Any statement at all.
    pub statement: bool,
}
