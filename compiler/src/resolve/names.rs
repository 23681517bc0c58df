//! Who declares what, and what a name stands for where it is used.
//!
//! Sets, groups and workloads share one namespace without shadowing: a name of the top level is seen
//! everywhere and may not be declared again in a mesh. Two meshes may use one name for things of their own.

use std::collections::{BTreeMap, BTreeSet};

use super::resolution::Use;
use crate::ast::{File, Name};
use crate::diag::{Code, Diagnostic, did_you_mean, quote};
use crate::source::Span;

/// How many uses of an unknown name are underlined.
const SHOWN_USES: usize = 8;

/// How many pairs of names are compared to find what was meant. A program with more mistakes than that is
/// no program with a slip of the pen.
const COMPARED: usize = 2_000_000;

/// What a name stands for: an index into the resolver's list of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Set(usize),
    Group(usize),
    Workload(usize),
}

impl Target {
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Set(_) => "a set",
            Self::Group(_) => "a group",
            Self::Workload(_) => "a workload",
        }
    }
}

/// A declaration.
#[derive(Clone, Debug)]
pub(super) struct Declaration<'a> {
    pub(super) name: &'a Name,
    pub(super) target: Target,
    /// The mesh that it stands in, by its index; none at the top level.
    pub(super) mesh: Option<usize>,
}

/// Where a name is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// In the mesh where it is used and at the top level.
    Own,
    /// Also among the workloads and groups of other meshes: addresses may lie anywhere.
    Everywhere,
}

/// For unknown names, with the mesh where they are used, the name that was probably meant.
pub(super) type Meant<'a> = BTreeMap<(Option<usize>, &'a str), &'a str>;

/// All names of a program.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    top: BTreeMap<&'a str, (Target, Span)>,
    meshes: Vec<BTreeMap<&'a str, (Target, Span)>>,
    mesh_names: BTreeMap<&'a str, Span>,
    broken: BTreeSet<&'a str>,
    used: BTreeSet<Target>,
    uses: Vec<Use>,
    unknown: BTreeMap<(Option<usize>, &'a str), Vec<Span>>,
    unknown_uses: usize,
}

impl<'a> Names<'a> {
    /// Takes in all declarations; a second one of a name is reported and does not count.
    pub(super) fn new(
        files: &'a [File],
        mesh_names: BTreeMap<&'a str, Span>,
        meshes: usize,
        mut declarations: Vec<Declaration<'a>>,
    ) -> (Self, Vec<Diagnostic>) {
        let broken = files.iter().flat_map(|file| &file.broken).map(|name| name.value.as_str()).collect();
        let mut names = Self { meshes: vec![BTreeMap::new(); meshes], mesh_names, broken, ..Self::default() };
        // The top level first, so that a mesh is told when it shadows; then in the order of the text.
        declarations.sort_by_key(|declaration| (declaration.mesh.is_some(), declaration.name.span));
        let mut diagnostics = Vec::new();
        for declaration in declarations {
            diagnostics.extend(names.declare(&declaration));
        }
        (names, diagnostics)
    }

    fn declare(&mut self, declaration: &Declaration<'a>) -> Option<Diagnostic> {
        let name = declaration.name;
        let text = name.value.as_str();
        let known = self.top.get(text).copied();
        let table = match declaration.mesh {
            None => &mut self.top,
            Some(mesh) => self.meshes.get_mut(mesh)?,
        };
        match known.or_else(|| table.get(text).copied()) {
            None => {
                table.insert(text, (declaration.target, name.span));
                None
            }
            Some((first, span)) => Some(twice(declaration, first, span)),
        }
    }

    /// Whether this declaration is the one that counts for its name.
    pub(super) fn counts(&self, mesh: Option<usize>, name: &str, target: Target) -> bool {
        let table = mesh.map_or(Some(&self.top), |mesh| self.meshes.get(mesh));
        table.and_then(|table| table.get(name)).is_some_and(|&(found, _)| found == target)
    }

    /// What a name stands for, and where that is declared. `None` where nothing declares it, which is
    /// reported in the end, once for all uses.
    pub(super) fn find(
        &mut self,
        mesh: Option<usize>,
        name: &'a Name,
        reach: Reach,
    ) -> Option<(Target, Span)> {
        let text = name.value.as_str();
        let own = mesh.and_then(|mesh| self.meshes.get(mesh)).and_then(|table| table.get(text));
        let found = own.or_else(|| self.top.get(text)).copied().or_else(|| self.elsewhere(text, reach));
        self.unknown_uses += usize::from(found.is_none());
        match found {
            Some((target, declared)) => {
                self.used.insert(target);
                self.uses.push(Use { span: name.span, declared });
            }
            // A declaration that could not be read has been reported; its uses are no second mistake.
            None if self.broken.contains(text) => {}
            None => self.unknown.entry((mesh, text)).or_default().push(name.span),
        }
        found
    }

    /// The one mesh that has such a workload or group.
    fn elsewhere(&self, text: &str, reach: Reach) -> Option<(Target, Span)> {
        if reach == Reach::Own {
            return None;
        }
        let mut found = (self.meshes.iter())
            .filter_map(|table| table.get(text))
            .filter(|(target, _)| !matches!(target, Target::Set(_)));
        match (found.next(), found.next()) {
            (Some(&only), None) => Some(only),
            _ => None,
        }
    }

    /// How many uses there are of names that nothing declares, or that could not be read.
    pub(super) const fn unknown_uses(&self) -> usize {
        self.unknown_uses
    }

    /// Every use of a name that something declares, in the order of the text. They are handed out once.
    pub(super) fn take_uses(&mut self) -> Vec<Use> {
        let mut uses = std::mem::take(&mut self.uses);
        uses.sort_unstable();
        uses.dedup();
        uses
    }

    /// Whether anything names it.
    pub(super) fn is_used(&self, target: Target) -> bool {
        self.used.contains(&target)
    }

    /// For unknown names those that were probably meant: they are misspelled, not unused.
    pub(super) fn meant(&self) -> Meant<'a> {
        let mut left = COMPARED;
        let mut meant = BTreeMap::new();
        for &(mesh, name) in self.unknown.keys() {
            let own = mesh.and_then(|mesh| self.meshes.get(mesh)).map_or(0, BTreeMap::len);
            left = left.saturating_sub(own + self.top.len());
            if left == 0 {
                break;
            }
            meant.extend(did_you_mean(name, self.visible(mesh)).map(|found| ((mesh, name), found)));
        }
        meant
    }

    /// One diagnostic for each name that nothing declares. Where an import is missing, the name may be
    /// declared there: it is then shown with the missing import, which is the mistake to correct.
    pub(super) fn report_unknown(&self, meant: &Meant<'a>, diagnostics: &mut Vec<Diagnostic>) {
        for (&(mesh, name), uses) in &self.unknown {
            let meant = meant.get(&(mesh, name)).copied();
            let import = diagnostics.iter_mut().find(|diagnostic| diagnostic.code == Code::ImportMissing);
            match (import, meant) {
                (Some(import), None) if !self.is_known_elsewhere(name) => {
                    let also = uses.iter().take(SHOWN_USES).map(|&span| crate::diag::Label {
                        span,
                        text: format!("{} may be declared there", quote(name)),
                        primary: false,
                    });
                    import.labels.extend(also);
                }
                _ => diagnostics.push(self.unknown_name(name, uses, meant)),
            }
        }
    }

    fn unknown_name(&self, name: &str, uses: &[Span], meant: Option<&str>) -> Diagnostic {
        let quoted = quote(name);
        let (message, help) = if self.mesh_names.contains_key(name) {
            let help = format!("write `all` inside of mesh {quoted}, or a group of its workloads");
            return self.mesh_name(name, uses, help);
        } else if let Some(meant) = meant {
            (format!("nothing is named {quoted}"), format!("did you mean `{meant}`?"))
        } else if let Some(help) = crate::parse::habit::unknown_name(name) {
            (format!("nothing is named {quoted}"), help)
        } else {
            (format!("nothing is named {quoted}"), self.where_else(name))
        };
        underline(Diagnostic::new(Code::UnknownName, message).help(help), uses, "not declared")
    }

    fn mesh_name(&self, name: &str, uses: &[Span], help: String) -> Diagnostic {
        let message = format!("{} is a mesh, not a set, group or workload", quote(name));
        let diagnostic = underline(Diagnostic::new(Code::WrongKind, message).help(help), uses, "a mesh");
        match self.mesh_names.get(name) {
            Some(&span) => diagnostic.also(span, "declared here"),
            None => diagnostic,
        }
    }

    fn where_else(&self, name: &str) -> String {
        let elsewhere = self.meshes.iter().find_map(|table| table.get(name));
        match elsewhere {
            Some((Target::Set(_), _)) => {
                "a set inside of a mesh is for that mesh; one outside of all meshes is for all".to_owned()
            }
            Some(_) => "another mesh has that name, and it is seen from here only where one mesh alone has it, as an address".to_owned(),
            None => format!("declare it, or import the file that does: `set {name} = …`"),
        }
    }

    fn is_known_elsewhere(&self, name: &str) -> bool {
        self.mesh_names.contains_key(name) || self.meshes.iter().any(|table| table.contains_key(name))
    }

    fn visible(&self, mesh: Option<usize>) -> impl Iterator<Item = &'a str> {
        let own = mesh.and_then(|mesh| self.meshes.get(mesh));
        own.into_iter().flat_map(BTreeMap::keys).chain(self.top.keys()).copied()
    }
}

fn underline(diagnostic: Diagnostic, uses: &[Span], text: &str) -> Diagnostic {
    uses.iter().take(SHOWN_USES).fold(diagnostic, |diagnostic, &span| diagnostic.label(span, text))
}

fn twice(declaration: &Declaration<'_>, first: Target, span: Span) -> Diagnostic {
    let quoted = quote(&declaration.name.value);
    let kind = declaration.target.kind();
    Diagnostic::new(Code::DuplicateName, format!("{quoted} is declared twice"))
        .label(declaration.name.span, format!("{kind} of the same name"))
        .also(span, format!("first declared here, as {}", first.kind()))
        .help("rename one of them; sets, groups and workloads share one namespace")
}
