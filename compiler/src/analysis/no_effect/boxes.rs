//! The boxes at a site, each with the units that support it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mesh_bpf::prefix::Prefix;

use super::sites::Sites;
use super::units::{NONE, PlainBox, RuleBox, Unit, Units};
use crate::hir::Who;
use mesh_proof::bounds::FlowBox;

/// A box at a site, and who supports it.
pub(super) struct Present<'u, 'p> {
    pub(super) plain: &'u PlainBox<'p>,
    prefix: Prefix,
    pub(super) supports: Vec<Support>,
    /// The units without any of which it is gone.
    pub(super) needs: Vec<Unit>,
    order: (usize, u32),
}

/// The units that write a box.
#[derive(Clone, Copy)]
pub(super) struct Support {
    pub(super) rule: u32,
    address: Unit,
    written: RuleBox,
}

impl Support {
    /// All of them.
    pub(super) fn units(self) -> impl Iterator<Item = Unit> {
        [self.rule, self.address].into_iter().filter(|&unit| unit != NONE).chain(self.written.units())
    }
}

impl Present<'_, '_> {
    pub(super) fn bounds(&self) -> FlowBox<'_> {
        let PlainBox { scope, ref ports, who, .. } = *self.plain;
        FlowBox { scope, ports, prefix: self.prefix, who }
    }
}

/// The boxes at a site that are about everybody or about these processes, narrower ones before those that they beat.
///
/// A box that is written here and further out again is beaten by the nearest. So one further out is left
/// out unless some unit takes all the nearer ones and leaves it.
pub(super) fn boxes_at<'u, 'p>(
    units: &'u Units<'p>,
    sites: &Sites<'_>,
    index: usize,
    whos: &BTreeSet<&Who>,
) -> Vec<Present<'u, 'p>> {
    let takes_part = |number: u32| {
        let who = units.boxes.get(number as usize).map(|plain| plain.who);
        who.is_some_and(|who| who.is_everybody() || whos.contains(who))
    };
    let mut boxes: Vec<Present<'u, 'p>> = Vec::new();
    let mut nearer: HashMap<u32, Vec<Unit>> = HashMap::new();
    for (up, site) in sites.way_out(index).enumerate() {
        let mut level: BTreeMap<u32, Vec<Support>> = BTreeMap::new();
        for written in site.written {
            for &rule in units.rules_of(written) {
                let boxes = units.of_rule.get(rule as usize).into_iter().flatten();
                for &one in boxes.filter(|one| takes_part(one.number)) {
                    let rule = units.statement(rule);
                    let support = Support { rule, address: written.address, written: one };
                    level.entry(one.number).or_default().push(support);
                }
            }
        }
        for (number, supports) in level {
            let Some(plain) = units.boxes.get(number as usize) else { continue };
            let needs = needs(&supports);
            let both =
                |nearer: &Vec<Unit>| nearer.iter().copied().filter(|unit| needs.contains(unit)).collect();
            let take_all = nearer.get(&number).map(both);
            match take_all {
                Some(take_all) if nearer.get(&number) == Some(&take_all) => continue,
                Some(take_all) => nearer.insert(number, take_all),
                None => nearer.insert(number, needs.clone()),
            };
            boxes.push(Present { plain, prefix: site.prefix, supports, needs, order: (up, number) });
        }
    }
    boxes.sort_by_key(|one| (one.bounds().width(), one.order));
    boxes
}

/// The units that are in every support.
fn needs(supports: &[Support]) -> Vec<Unit> {
    let Some((first, others)) = supports.split_first() else { return Vec::new() };
    let mut needs: Vec<Unit> = first.units().collect();
    for other in others {
        needs.retain(|&unit| other.units().any(|known| known == unit));
    }
    needs
}
