//! Classes of flows, as far as tables can hold them.

use crate::abi::CELL_FROM_NODE;
use crate::image::{Classes, IdRange};

/// What one part of users, and one of groups, adds to the number of a cell.
///
/// # Errors
/// Where the classes are not in their form.
pub(crate) fn units(classes: &Classes) -> Result<[u32; 2], &'static str> {
    let parts = classes.parts();
    let [_, gids, cgroups, nodes] = parts;
    let cells = parts.into_iter().try_fold(1u32, u32::checked_mul);
    if classes.sides.is_empty() && classes.cells.is_empty() && cells == Some(1) && classes.from_node.is_some()
    {
        return Ok([1, 1]);
    }
    // The last number is no cell's: what comes from the node is found there.
    let is_whole = cells.is_some_and(|cells| cells as usize == classes.cells.len() && cells < CELL_FROM_NODE);
    if !is_whole {
        return Err("there is not one class for each combination of parts");
    }
    if classes.sides.is_empty() || classes.cells.iter().any(|&class| class as usize > classes.sides.len()) {
        return Err("a class is not there");
    }
    if !(is_ordered(&classes.uids) && is_ordered(&classes.gids)) {
        return Err("ids of classes are not in order");
    }
    if !classes.cgroups.is_sorted_by(|(a, _), (b, _)| a < b)
        || classes.cgroups.iter().any(|&(_, part)| part == 0)
    {
        return Err("cgroups of classes are not in order");
    }
    // Both are factors of the number of cells.
    Ok([gids * cgroups * nodes, cgroups * nodes])
}

/// Sorted, disjoint, and neighbours of one part joined.
fn is_ordered(ranges: &[(IdRange, u32)]) -> bool {
    ranges.iter().all(|&(range, part)| range.first <= range.last && part != 0)
        && ranges
            .is_sorted_by(|&(a, part), &(b, next)| a.last < b.first && (part != next || b.first - a.last > 1))
}
