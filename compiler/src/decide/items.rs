//! The distinct boxes of a program, without their addresses.

use std::collections::HashMap;

use mesh_bpf::flow::{Direction, Verdict};
use mesh_bpf::image::Source;
use mesh_bpf::intern::Interner;
use mesh_bpf::ports::{PortRange, PortSet};

use crate::hir::item;
use crate::hir::region::real_ports;
use crate::hir::{PortItem, Program, Rule, ScopeId, Who};
use crate::ir::{Item, ItemId};

/// A set of items of [`Groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId(pub(crate) u32);

/// Who boxes name: index into [`Items::whos`].
pub(crate) type WhoId = u32;

/// The first of them.
pub(crate) const EVERYBODY: WhoId = 0;

/// Everything about items that deciding needs, in dense arrays.
pub(crate) struct Items {
    pub(crate) items: Vec<Item>,
    pub(crate) extents: Vec<Extent>,
    /// For each rule, the items of its ports.
    pub(crate) group_of_rule: Vec<GroupId>,
    /// Distinct ones that boxes name; [`EVERYBODY`] first.
    pub(crate) whos: Vec<Who>,
}

/// An item's ports and its rank.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    /// The lowest and the highest of its ports; none if it has no port.
    pub(crate) hull: Option<PortRange>,
    /// All its ports, where there are holes between those two.
    pub(crate) holed: Option<PortSet>,
    /// `deny` 0, `exclude` 1, `redirect` 2.
    pub(crate) weakness: u8,
    /// Place of its text without address among all texts.
    pub(crate) text: u32,
    /// Place of its scope's name among all scopes.
    pub(crate) scope: u32,
    /// Whose sockets, and whether the node is at the other end.
    pub(crate) who: WhoId,
}

/// Interned sets of items.
pub(crate) struct Groups {
    sets: Interner<Vec<ItemId>>,
}

impl Default for Groups {
    fn default() -> Self {
        let mut groups = Self { sets: Interner::default() };
        groups.intern(Vec::new());
        groups
    }
}

impl Groups {
    /// The group of no items: the first.
    #[expect(clippy::unused_self, reason = "a group is only of use with the sets that it is one of")]
    pub(crate) fn nothing(&self) -> GroupId {
        GroupId(0)
    }

    /// The id of a set, which is sorted and distinct.
    pub(crate) fn intern(&mut self, set: Vec<ItemId>) -> GroupId {
        GroupId(self.sets.intern(set))
    }

    /// The items of a group.
    pub(crate) fn get(&self, id: GroupId) -> &[ItemId] {
        self.sets.values().get(id.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The group of everything in `parts`.
    pub(crate) fn union(&mut self, parts: &[GroupId]) -> GroupId {
        if let [only] = parts {
            return *only;
        }
        let mut set: Vec<ItemId> = parts.iter().flat_map(|&part| self.get(part).iter().copied()).collect();
        set.sort_unstable();
        set.dedup();
        self.intern(set)
    }
}

impl Items {
    /// Collects the items of all rules, and the sets of them that rules have. Does not look at addresses.
    pub(crate) fn of(program: &Program) -> (Self, Groups) {
        let mut collector = Collector::default();
        let group_of_rule = program.rules.iter().map(|rule| collector.group(rule)).collect();
        let items = collector.items.into_values();
        let texts = text_ranks(&items);
        let scopes = ranks(&program.scopes, |scope| &scope.name);
        let mut whos = Interner::default();
        whos.intern(Who::EVERYBODY);
        let extents = (items.iter().zip(&texts))
            .map(|(item, &text)| {
                let scope = scopes.get(item.scope.index()).copied().unwrap_or(0);
                extent(item, text, scope, whos.intern(item.who.clone()))
            })
            .collect();
        (Self { items, extents, group_of_rule, whos: whos.into_values() }, collector.groups)
    }

    /// Whose sockets an item is about.
    pub(crate) fn who(&self, item: ItemId) -> WhoId {
        self.extents.get(item.0 as usize).map_or(EVERYBODY, |extent| extent.who)
    }
}

/// Scope, `always`, direction, verdict, and the lists of ports and of processes.
type Said = (ScopeId, bool, Direction, Verdict, [usize; 2]);

#[derive(Default)]
struct Collector {
    items: Interner<Item>,
    groups: Groups,
    /// What rules that share their ports came to.
    known: HashMap<Said, GroupId>,
}

impl Collector {
    fn group(&mut self, rule: &Rule) -> GroupId {
        let lists = [rule.ports.key(), rule.who.key()];
        let key = (rule.scope, rule.always, rule.direction, rule.verdict, lists);
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        let mut set: Vec<ItemId> = rule.boxes().map(|(ports, who)| self.item(rule, ports, who)).collect();
        set.sort_unstable();
        set.dedup();
        let group = self.groups.intern(set);
        self.known.insert(key, group);
        group
    }

    fn item(&mut self, rule: &Rule, ports: &PortItem, who: &Who) -> ItemId {
        let item = Item {
            scope: rule.scope,
            always: rule.always,
            direction: rule.direction,
            verdict: rule.verdict,
            protocol: ports.protocol,
            ports: ports.ports.clone(),
            who: who.clone(),
        };
        ItemId(self.items.intern(item))
    }
}

/// The place of each item's text without address among all texts. Many scopes write the same.
fn text_ranks(items: &[Item]) -> Vec<u32> {
    let mut distinct = Interner::default();
    let number = |item| {
        let &Item { scope: _, always, direction, verdict, protocol, ref ports, ref who } = item;
        distinct.intern((always, direction, verdict, protocol, ports, who))
    };
    let numbers: Vec<u32> = items.iter().map(number).collect();
    let source = |&(always, direction, verdict, protocol, ports, who): &_| {
        item::source("", always, direction, verdict, protocol, ports, who)
    };
    let sources: Vec<Source> = distinct.values().iter().map(source).collect();
    let ranks = ranks(&sources, |source| (&source.head, &source.tail));
    numbers.iter().map(|&number| ranks.get(number as usize).copied().unwrap_or(0)).collect()
}

fn extent(item: &Item, text: u32, scope: u32, who: WhoId) -> Extent {
    let set = real_ports(&item.ports);
    let (first, last) = (set.ranges().first(), set.ranges().last());
    let hull = first.zip(last).map(|(first, last)| PortRange { first: first.first, last: last.last });
    let weakness = match item.verdict {
        Verdict::Denied => 0,
        Verdict::Excluded => 1,
        Verdict::Redirected { .. } => 2,
    };
    Extent { hull, holed: (set.ranges().len() > 1).then_some(set), weakness, text, scope, who }
}

/// The place of each thing's key among all distinct keys.
fn ranks<'a, T, K: Ord>(things: &'a [T], key: impl Fn(&'a T) -> K) -> Vec<u32> {
    let mut order: Vec<(K, usize)> =
        things.iter().enumerate().map(|(index, thing)| (key(thing), index)).collect();
    order.sort_unstable();
    let mut ranks = vec![0; things.len()];
    let mut rank = 0u32;
    let mut previous: Option<&K> = None;
    for (key, index) in &order {
        if previous.is_some_and(|previous| previous != key) {
            rank += 1;
        }
        previous = Some(key);
        if let Some(slot) = ranks.get_mut(*index) {
            *slot = rank;
        }
    }
    ranks
}
