//! Whose rules take part for which processes and other ends, and which of a profile's trees serve those.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::{Direction, Identity};
use mesh_bpf::image::{MapImage, ProfileId};
use mesh_hir::region::{Cuts, holding, sides};
use mesh_hir::{Program, ScopeId, Who};

use super::disproof::{Disproof, plain};

/// Processes that rules name and that hold a process, and the class that the tables have for it: each pair once, with
/// such a process.
pub(super) type Pairs<'p> = BTreeMap<(BTreeSet<&'p Who>, u32), Identity>;

/// Every pair that some process has. Users, groups and cgroups are cut wherever a rule or the tables cut them.
pub(super) fn classes<'p>(
    program: &'p Program,
    image: &MapImage,
    scopes: &[ScopeId],
    (profile, direction): (ProfileId, Direction),
) -> Result<Pairs<'p>, Box<Disproof>> {
    let classes = &image.profile(profile).ok_or_else(|| plain("a profile", "none"))?.classes;
    let rules =
        program.rules.iter().filter(|rule| rule.direction == direction && scopes.contains(&rule.scope));
    let named: BTreeSet<&Who> = rules.flat_map(|rule| &rule.who).map(|item| &item.who).collect();
    // Nobody of the member opens what it receives.
    let opens = direction == Direction::Outbound;
    let [uids, gids] =
        [&classes.uids, &classes.gids].map(|ids| ids.iter().filter(move |_| opens).map(|&(range, _)| range));
    let paths = classes.cgroups.iter().filter(|_| opens).map(|(path, _)| path);
    let cuts = Cuts::at(&named, uids, gids, paths, classes.node || classes.from_node.is_some());
    let alike = |identity: &Identity| (sides(&named, identity), classes.parts_of(identity));
    let kind = |identity: &Identity| (holding(&named, identity), classes.class_of(direction, identity));
    Ok(cuts.kinds(alike, kind))
}
