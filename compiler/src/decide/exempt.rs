//! Whose traffic is not touched, profile by profile.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::image::{Exempt, IdRange, Source, SourceId};

use crate::hir::item;
use crate::hir::{Exempted, Program, ScopeId};
use crate::ir::count;

/// A range of ids and the exemption that claims it.
type Claim = (IdRange, SourceId);

/// The exemptions that these scopes write. New sources go to the end of `sources`.
pub(crate) fn exemptions(program: &Program, scopes: &[ScopeId], sources: &mut Vec<Source>) -> Exempt {
    let mut written: Vec<(Source, &Exempted)> = (program.exempts.iter())
        .filter(|exempt| scopes.contains(&exempt.scope))
        .map(|exempt| {
            let scope = program.scopes.get(exempt.scope.index()).map_or("", |scope| scope.name.as_str());
            (item::exempt_source(scope, &exempt.who), &exempt.who)
        })
        .collect();
    // The least text comes first and is credited.
    written.sort_by(|(a, _), (b, _)| (&a.head, &a.scope).cmp(&(&b.head, &b.scope)));
    written.dedup_by(|(a, _), (b, _)| a == b);
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    let (mut cgroups, mut interfaces) = (BTreeMap::new(), BTreeMap::new());
    for (source, who) in written {
        let id = SourceId(count(sources.len()));
        sources.push(source);
        match who {
            Exempted::Uid(range) => uids.push((*range, id)),
            Exempted::Gid(range) => gids.push((*range, id)),
            Exempted::Cgroup(path) => {
                cgroups.entry(path.clone()).or_insert(id);
            }
            Exempted::Interface(name) => {
                interfaces.entry(name.clone()).or_insert(id);
            }
        }
    }
    Exempt {
        uids: disjoint(&uids),
        gids: disjoint(&gids),
        cgroups: cgroups.into_iter().collect(),
        interfaces: interfaces.into_iter().collect(),
    }
}

/// Cuts claims that overlap; each id goes to the earliest claim.
fn disjoint(claims: &[Claim]) -> Vec<Claim> {
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * claims.len());
    for (index, (range, _)) in claims.iter().enumerate() {
        events.push((range.first.into(), true, index));
        events.push((u64::from(range.last) + 1, false, index));
    }
    events.sort_unstable();
    let mut active: BTreeSet<usize> = BTreeSet::new();
    let mut cut: Vec<Claim> = Vec::new();
    let mut since = 0;
    for (at, begins, index) in events {
        if let Some(&(_, source)) = active.first().and_then(|&first| claims.get(first)) {
            push(&mut cut, since, at, source);
        }
        if begins {
            active.insert(index)
        } else {
            active.remove(&index)
        };
        since = at;
    }
    cut
}

/// Adds the ids from `first` to before `end`.
fn push(cut: &mut Vec<Claim>, first: u64, end: u64, source: SourceId) {
    // Two claims may begin at 0, with nothing in between.
    let Some(last) = end.checked_sub(1) else { return };
    let (Ok(first), Ok(last)) = (u32::try_from(first), u32::try_from(last)) else { return };
    if last < first {
        return;
    }
    match cut.last_mut() {
        // Another claim began or ended within this one, which goes on.
        Some((range, of)) if *of == source => range.last = last,
        _ => cut.push((IdRange { first, last }, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn an_exemption_goes_on_behind_one_within_it() {
        let mut fixture = Fixture::new(&["cart"]);
        fixture.exempt("m", "uid 10-19").exempt("m", "uid 15-16");
        let mut sources = Vec::new();
        let exempt = exemptions(&fixture.program, &[ScopeId(1)], &mut sources);
        let head = |source: SourceId| sources.get(source.0 as usize).map(|source| source.head.as_str());
        let found: Vec<_> = exempt.uids.iter().map(|&(range, source)| (range, head(source))).collect();
        // The least text is credited throughout.
        assert_eq!(found, [(IdRange { first: 10, last: 19 }, Some("exempt uid 10-19"))]);
    }
}
