//! The boxes at a site, each with the units that support it.

use std::collections::{BTreeMap, HashMap};

use mesh_bpf::prefix::Prefix;

use super::sites::Sites;
use super::units::{NONE, PlainBox, Unit, Units};
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
    ports: Unit,
}

impl Support {
    /// All of them.
    pub(super) fn units(self) -> impl Iterator<Item = Unit> {
        [self.rule, self.address, self.ports].into_iter().filter(|&unit| unit != NONE)
    }
}

impl Present<'_, '_> {
    pub(super) fn bounds(&self) -> FlowBox<'_> {
        FlowBox { scope: self.plain.scope, ports: &self.plain.ports, prefix: self.prefix }
    }
}

/// The boxes at a site, narrower ones before those that they beat.
///
/// A box that is written here and further out again is beaten by the nearest. So one further out is left
/// out unless some unit takes all the nearer ones and leaves it.
pub(super) fn boxes_at<'u, 'p>(
    units: &'u Units<'p>,
    sites: &Sites<'_>,
    index: usize,
) -> Vec<Present<'u, 'p>> {
    let mut boxes: Vec<Present<'u, 'p>> = Vec::new();
    let mut nearer: HashMap<u32, Vec<Unit>> = HashMap::new();
    for (up, site) in sites.way_out(index).enumerate() {
        let mut level: BTreeMap<u32, Vec<Support>> = BTreeMap::new();
        for written in site.written {
            for &rule in units.rules_of(written) {
                for &(number, ports) in units.of_rule.get(rule as usize).into_iter().flatten() {
                    let support = Support { rule, address: written.address, ports };
                    level.entry(number).or_default().push(support);
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
    boxes.sort_by_key(|one| (width(one), one.order));
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

/// Never greater for a box that lies within another; equal only for boxes of which neither is narrower.
fn width(one: &Present<'_, '_>) -> (u32, usize, std::cmp::Reverse<u8>, usize) {
    let ports = one.plain.ports.ranges().iter().map(|range| u32::from(range.last - range.first) + 1).sum();
    (ports, one.order.0, std::cmp::Reverse(one.plain.scope.level as u8), one.plain.scope.members.len())
}
