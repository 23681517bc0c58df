//! Whose rules take part for which processes, and which of a profile's trees serve those.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::flow::{Direction, Identity};
use mesh_bpf::image::{Classes, MapImage, ProfileId};
use mesh_hir::region::{ids, sides};
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
    if direction == Direction::Inbound {
        // Nobody of the member opens what it receives.
        return Ok(Pairs::from([((BTreeSet::new(), 0), Identity::default())]));
    }
    let rules =
        program.rules.iter().filter(|rule| rule.direction == direction && scopes.contains(&rule.scope));
    let named: BTreeSet<&Who> = rules.flat_map(|rule| &rule.who).map(|item| &item.who).collect();
    let users = named.iter().filter_map(|who| who.uid).chain(classes.uids.iter().map(|&(range, _)| range));
    let groups = named.iter().filter_map(|who| who.gid).chain(classes.gids.iter().map(|&(range, _)| range));
    let written = named.iter().filter_map(|who| who.cgroup.as_ref());
    // What covers a cgroup is what covers the deepest of these paths that does.
    let paths: BTreeSet<&String> = written.chain(classes.cgroups.iter().map(|(path, _)| path)).collect();
    let paths = paths.into_iter().map(|path| Some(path.clone())).chain([None]);
    let alike = |identities: Vec<Identity>| alike(&named, classes, identities);
    let users = alike(ids(users).into_iter().map(|uid| Identity { uid, ..Identity::default() }).collect());
    let groups = alike(ids(groups).into_iter().map(|gid| Identity { gid, ..Identity::default() }).collect());
    let paths = alike(paths.map(|cgroup| Identity { cgroup, ..Identity::default() }).collect());
    let mut pairs = Pairs::new();
    for user in &users {
        for group in &groups {
            for path in &paths {
                let identity = Identity { uid: user.uid, gid: group.gid, cgroup: path.cgroup.clone() };
                let holding = named.iter().copied().filter(|who| who.holds(&identity)).collect();
                pairs.entry((holding, classes.class_of(&identity))).or_insert(identity);
            }
        }
    }
    Ok(pairs)
}

/// Those of identities, each known on one side alone, that rules or tables tell apart.
fn alike(named: &BTreeSet<&Who>, classes: &Classes, identities: Vec<Identity>) -> Vec<Identity> {
    let mut known = BTreeMap::new();
    for identity in identities {
        let key: Vec<[bool; 3]> = named.iter().map(|who| sides(who, &identity)).collect();
        known.entry((key, classes.parts_of(&identity))).or_insert(identity);
    }
    known.into_values().collect()
}
