//! The prefixes of one direction, nested, with the rules that name each.

use mesh_bpf::prefix::Prefix;

use super::units::Written;
use crate::hir::region::cells;

/// All prefixes that are named, in pre-order.
pub(super) struct Sites<'w> {
    sites: Vec<Site<'w>>,
    /// Sites that decide at least one address: others are covered by narrower ones.
    pub(super) live: Vec<usize>,
}

/// A prefix.
pub(super) struct Site<'w> {
    pub(super) prefix: Prefix,
    /// The rules that name it.
    pub(super) written: &'w [Written],
    /// The next wider site whose rules reach in here.
    pub(super) parent: Option<usize>,
}

impl<'w> Sites<'w> {
    /// From what is written, sorted. `own` looks at own addresses alone.
    pub(super) fn of(written: &'w [Written], own: bool) -> Self {
        let mut sites: Vec<Site<'w>> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for run in written.chunk_by(|a, b| a.prefix == b.prefix) {
            let Some(prefix) =
                run.first().map(|written| written.prefix).filter(|prefix| !own || prefix.is_host())
            else {
                continue;
            };
            let prefix_of = |site: &usize| sites.get(*site).map(|site| site.prefix);
            while open.last().and_then(prefix_of).is_some_and(|outer| !outer.covers(prefix)) {
                open.pop();
            }
            let reaches = |outer: Prefix| !own && outer.apart() == prefix.apart();
            let parent = open.last().copied().filter(|outer| prefix_of(outer).is_some_and(reaches));
            open.push(sites.len());
            sites.push(Site { prefix, written: run, parent });
        }
        let live = live(&sites);
        Self { sites, live }
    }

    pub(super) fn get(&self, site: usize) -> Option<&Site<'w>> {
        self.sites.get(site)
    }

    /// A site and all that reach into it, inside out.
    pub(super) fn way_out(&self, site: usize) -> impl Iterator<Item = &Site<'w>> {
        std::iter::successors(self.sites.get(site), |site| {
            site.parent.and_then(|outer| self.sites.get(outer))
        })
    }
}

/// The sites that some address has as its innermost, what is apart for itself.
fn live(sites: &[Site<'_>]) -> Vec<usize> {
    let mut prefixes: Vec<(Prefix, Option<usize>)> =
        sites.iter().enumerate().map(|(index, site)| (site.prefix, Some(index))).collect();
    prefixes.extend(Prefix::all_apart().map(|prefix| (prefix, None)));
    prefixes.sort_by_key(|&(prefix, site)| (prefix, site.is_none()));
    prefixes.dedup_by_key(|&mut (prefix, _)| prefix);
    let bare: Vec<Prefix> = prefixes.iter().map(|&(prefix, _)| prefix).collect();
    let cells = cells(&bare).into_iter().filter_map(|cell| prefixes.get(cell.deepest?)?.1);
    let mut live: Vec<usize> = cells.collect();
    live.sort_unstable();
    live.dedup();
    live
}
