//! Sets: what kind each is, and what it stands for.

use super::cycle::{Edge, components, cycles};
use super::names::{Names, Reach, Target};
use crate::ast::{Name, ProtocolPorts, Set, SetItem, Spanned};
use crate::diag::{Code, Diagnostic, quote};
use crate::source::Span;

use mesh_bpf::prefix::Prefix;

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ports,
    Addresses,
    /// It is part of a mistake that was reported: whatever is asked of it is granted.
    Unknown,
}

impl Kind {
    pub(super) const fn in_words(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Addresses | Self::Unknown => "addresses",
        }
    }
}

/// One item of a set, with its name resolved.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry<'a> {
    Ports(&'a ProtocolPorts),
    Address(Spanned<Prefix>),
    /// A Kubernetes service.
    Service(&'a Name),
    Set(usize, Span),
    /// A workload or a group, for its addresses.
    Members(Target, Span),
}

impl Entry<'_> {
    const fn span(&self) -> Span {
        match self {
            Self::Ports(ports) => ports.span,
            Self::Address(address) => address.span,
            Self::Service(name) => name.span,
            Self::Set(_, span) | Self::Members(_, span) => *span,
        }
    }
}

/// All sets of a program.
#[derive(Debug, Default)]
pub(super) struct Sets<'a> {
    entries: Vec<Vec<Entry<'a>>>,
    kinds: Vec<Kind>,
}

impl<'a> Sets<'a> {
    /// Resolves the names in all sets; `sets` holds each with its mesh.
    pub(super) fn new(
        sets: &[(&'a Set, Option<usize>)],
        names: &mut Names<'a>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let entries: Vec<Vec<Entry<'a>>> =
            sets.iter().map(|&(set, mesh)| entries(set, mesh, names)).collect();
        let edges: Vec<Edge> = (entries.iter().enumerate())
            .flat_map(|(from, entries)| entries.iter().filter_map(move |entry| edge(from, entry)))
            .collect();
        let found = cycles(sets.len(), &edges);
        diagnostics.extend(found.iter().map(|cycle| cycle_error(cycle, sets)));
        let mut this = Self { kinds: vec![Kind::Unknown; entries.len()], entries };
        for component in components(sets.len(), &edges) {
            if let [only] = component.as_slice() {
                let kind = this.kind_from_entries(*only, sets, diagnostics);
                if let Some(slot) = this.kinds.get_mut(*only) {
                    *slot = kind;
                }
            }
        }
        this
    }

    pub(super) fn kind(&self, set: usize) -> Kind {
        self.kinds.get(set).copied().unwrap_or(Kind::Unknown)
    }

    /// All that is in a set, through other sets. Each of those counts once however often it is named.
    pub(super) fn flatten(&self, set: usize) -> Vec<Entry<'a>> {
        let mut seen = std::collections::BTreeSet::from([set]);
        let mut left = vec![set];
        let mut flat = Vec::new();
        while let Some(set) = left.pop() {
            for entry in self.entries.get(set).into_iter().flatten() {
                match *entry {
                    Entry::Set(inner, _) => {
                        if seen.insert(inner) {
                            left.push(inner);
                        }
                    }
                    other => flat.push(other),
                }
            }
        }
        flat
    }

    /// The kind of a set whose inner sets have theirs; two kinds in one set are a mistake.
    fn kind_from_entries(
        &self,
        set: usize,
        sets: &[(&'a Set, Option<usize>)],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Kind {
        let mut first: Option<(Kind, Span)> = None;
        for entry in self.entries.get(set).into_iter().flatten() {
            let kind = self.kind_of_entry(entry);
            match first {
                _ if kind == Kind::Unknown => {}
                None => first = Some((kind, entry.span())),
                Some((known, _)) if known == kind => {}
                Some((known, span)) => {
                    diagnostics.extend(
                        sets.get(set).map(|(set, _)| mixed(set, (known, span), (kind, entry.span()))),
                    );
                    return Kind::Unknown;
                }
            }
        }
        first.map_or(Kind::Unknown, |(kind, _)| kind)
    }

    fn kind_of_entry(&self, entry: &Entry<'_>) -> Kind {
        match entry {
            Entry::Ports(_) => Kind::Ports,
            Entry::Address(_) | Entry::Service(_) | Entry::Members(..) => Kind::Addresses,
            Entry::Set(inner, _) => self.kind(*inner),
        }
    }
}

fn entries<'a>(set: &'a Set, mesh: Option<usize>, names: &mut Names<'a>) -> Vec<Entry<'a>> {
    let mut entries = Vec::with_capacity(set.items.len());
    for item in &set.items {
        match item {
            SetItem::Ports(ports) => entries.push(Entry::Ports(ports)),
            SetItem::Address(address) => entries.push(Entry::Address(*address)),
            SetItem::Service(name) => entries.push(Entry::Service(name)),
            SetItem::Name(name) => {
                entries.extend(names.find(mesh, name, Reach::Everywhere).map(|(target, _)| match target {
                    Target::Set(set) => Entry::Set(set, name.span),
                    members => Entry::Members(members, name.span),
                }))
            }
        }
    }
    entries
}

const fn edge(from: usize, entry: &Entry<'_>) -> Option<Edge> {
    match *entry {
        Entry::Set(to, span) => Some(Edge { from, to, span }),
        _ => None,
    }
}

fn cycle_error(cycle: &[Edge], sets: &[(&Set, Option<usize>)]) -> Diagnostic {
    let names = cycle.iter().filter_map(|edge| sets.get(edge.from)).map(|(set, _)| set.name.value.as_str());
    cycle_diagnostic(Code::SetCycle, "set", cycle, names.collect())
}

/// The diagnostic for a cycle of sets or groups.
pub(super) fn cycle_diagnostic(code: Code, what: &str, cycle: &[Edge], names: Vec<&str>) -> Diagnostic {
    let mut path: Vec<String> = names.into_iter().map(quote).collect();
    path.extend(path.first().cloned());
    let message = match cycle {
        [_] => format!("a {what} contains itself: {}", path.join(" -> ")),
        _ => format!("{what}s contain each other: {}", path.join(" -> ")),
    };
    let diagnostic =
        (cycle.iter().enumerate()).fold(Diagnostic::new(code, message), |diagnostic, (i, edge)| {
            if i == 0 {
                diagnostic.label(edge.span, "contains the next")
            } else {
                diagnostic.also(edge.span, "and this one the next")
            }
        });
    diagnostic.help("remove one of these")
}

fn mixed(set: &Set, (known, first): (Kind, Span), (kind, second): (Kind, Span)) -> Diagnostic {
    let message = format!("the set {} holds both ports and addresses", quote(&set.name.value));
    Diagnostic::new(Code::WrongKind, message)
        .label(second, kind.in_words())
        .also(first, format!("{} so far", known.in_words()))
        .help("make two sets: one for the ports of a rule, one for its `to` or `from`")
}
