//! The boxes of a node: what each is about, and which of two decides where both match.

use std::cmp::Reverse;

use mesh_bpf::flow::Verdict;
use mesh_bpf::ports::{PortRange, PortSet};

use super::items::{EVERYBODY, Extent, Items, WhoId};
use crate::hir::{Scope, ScopeId};
use crate::ir::ItemId;

/// A box on the way from the root to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) item: ItemId,
    /// How many nodes below the root it is written.
    pub(crate) depth: u8,
}

/// A range of ports where a box takes part. `rank` is its place among the ranked boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) ports: PortRange,
    pub(crate) rank: u32,
}

/// Every box of a program, by its item.
#[derive(Clone, Copy)]
pub(crate) struct Boxes<'a> {
    pub(crate) items: &'a Items,
    pub(crate) scopes: &'a [Scope],
}

impl<'a> Boxes<'a> {
    /// The ranges of ports of a box.
    pub(crate) fn pieces(self, rank: u32, one: Contender) -> impl Iterator<Item = Piece> + use<'a> {
        let extent = self.extent(one);
        let whole = extent.filter(|extent| extent.holed.is_none()).and_then(|extent| extent.hull);
        let parts = extent.and_then(|extent| extent.holed.as_ref()).map_or(&[][..], PortSet::ranges);
        parts.iter().copied().chain(whole).map(move |ports| Piece { ports, rank })
    }

    /// What comes first decides: the stronger verdict, then the least text, the nearer prefix, the scope.
    pub(crate) fn priority(self, one: Contender) -> (u8, u32, Reverse<u8>, u32) {
        let (weakness, text, scope) =
            self.extent(one).map_or((3, 0, 0), |extent| (extent.weakness, extent.text, extent.scope));
        (weakness, text, Reverse(one.depth), scope)
    }

    /// Whether `one` beats `other` wherever both match.
    pub(crate) fn is_narrower(self, one: Contender, other: Contender) -> bool {
        self.lies_within(one, other) && !self.lies_within(other, one)
    }

    fn lies_within(self, one: Contender, wider: Contender) -> bool {
        one.depth >= wider.depth
            && self.scope_within(one, wider)
            && self.who_within(one, wider)
            && self.ports_within(one, wider)
    }

    fn who_within(self, one: Contender, wider: Contender) -> bool {
        let (one, wider) = (self.items.who(one.item), self.items.who(wider.item));
        if one == wider || wider == EVERYBODY {
            return true;
        }
        let who = |id: WhoId| self.items.whos.get(id as usize);
        who(one).zip(who(wider)).is_some_and(|(one, wider)| wider.covers(one))
    }

    fn scope_within(self, one: Contender, wider: Contender) -> bool {
        let scope = |one: Contender| self.items.items.get(one.item.0 as usize).map(|item| item.scope);
        let (Some(one), Some(wider)) = (scope(one), scope(wider)) else { return false };
        if one == wider {
            return true;
        }
        let (Some(one), Some(wider)) = (self.scopes.get(one.index()), self.scopes.get(wider.index())) else {
            return false;
        };
        one.members.len() <= wider.members.len() && wider.covers(one)
    }

    fn ports_within(self, one: Contender, wider: Contender) -> bool {
        let (Some(one), Some(wider)) = (self.extent(one), self.extent(wider)) else { return false };
        let (Some(hull), Some(wider_hull)) = (one.hull, wider.hull) else { return one.hull.is_none() };
        wider_hull.covers(hull)
            && match (&one.holed, &wider.holed) {
                (_, None) => true,
                (None, Some(wider)) => wider.covers(&hull.into()),
                (Some(one), Some(wider)) => wider.covers(one),
            }
    }

    pub(crate) fn extent(self, one: Contender) -> Option<&'a Extent> {
        self.items.extents.get(one.item.0 as usize)
    }

    pub(crate) fn scope(self, one: Contender) -> Option<ScopeId> {
        self.items.items.get(one.item.0 as usize).map(|item| item.scope)
    }

    pub(crate) fn is_always(self, one: Contender) -> bool {
        self.items.items.get(one.item.0 as usize).is_some_and(|item| item.always)
    }

    pub(crate) fn redirects(self, one: Contender) -> bool {
        self.verdict(one).is_some_and(|verdict| verdict.port().is_some())
    }

    pub(crate) fn verdict(self, one: Contender) -> Option<Verdict> {
        self.items.items.get(one.item.0 as usize).map(|item| item.verdict)
    }
}
