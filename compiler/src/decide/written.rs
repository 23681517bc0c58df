//! What rules write, collected once for counting and for deciding.

use super::items::{Groups, Items};
use super::parties::Parties;
use super::placement::Placement;
use super::profiles::{self, Class};
use crate::hir::Program;

/// What rules write, and for whom.
pub(crate) struct Written {
    pub(crate) items: Items,
    pub(crate) groups: Groups,
    pub(crate) placement: Placement,
    pub(crate) parties: Parties,
    pub(crate) classes: Vec<Class>,
}

impl Written {
    pub(crate) fn of(program: &Program) -> Self {
        let (items, mut groups) = Items::of(program);
        let placement = Placement::of(program, &items, &mut groups);
        let parties = Parties::of(program);
        let classes = profiles::classes(program, &parties);
        Self { items, groups, placement, parties, classes }
    }
}
