//! One direction of one profile: the prefix tree, each node with its ports decided.
//!
//! What a node's ports are depends only on the items written at it and above it. Nodes that agree in
//! that share a *context*, so 100,000 sibling prefixes of one rule are decided once.

use std::collections::HashMap;

use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::intern::Interner;
use mesh_bpf::prefix::Prefix;

use super::boxes::Contender;
use super::items::{GroupId, Groups};
use super::placement::Placed;
use super::ports::{PortDecider, TableContext, Tie};
use crate::hir::item::BuiltIn;
use crate::ir::{Decider, ItemId, Node, PortIntervals, Side, TableId};

/// Interned port tables of all profiles.
pub(crate) type TablePool = Interner<PortIntervals>;

/// Redirects that tie at a node.
pub(crate) struct TiedNode {
    /// Whether it is of the tree of own addresses.
    pub(crate) own: bool,
    /// Index in its tree.
    pub(crate) node: usize,
    pub(crate) ties: Vec<Tie>,
}

/// Index into [`Contexts`].
type ContextId = usize;

/// What is written on the way from a root to a node.
struct Context {
    parent: Option<ContextId>,
    group: GroupId,
    depth: u8,
    /// What decides where no item matches.
    default: Decider,
    tables: [TableId; 2],
    ties: Vec<Tie>,
}

/// Contexts of one direction of one profile: its classes of processes share those that are equal.
#[derive(Default)]
pub(crate) struct Contexts {
    all: Vec<Context>,
    ids: HashMap<(Option<ContextId>, GroupId, Decider), ContextId>,
}

/// Grows the trees of one direction of one class of a profile.
pub(crate) struct Grower<'a> {
    decider: PortDecider<'a>,
    direction: Direction,
    pool: &'a mut TablePool,
    groups: &'a Groups,
    contexts: &'a mut Contexts,
    tied: Vec<TiedNode>,
}

/// A prefix and all items that name it.
pub(crate) struct Site {
    prefix: Prefix,
    group: GroupId,
}

/// Grows both trees from the sites of a profile, sorted.
pub(crate) fn grow(
    decider: PortDecider<'_>,
    direction: Direction,
    (pool, contexts): (&mut TablePool, &mut Contexts),
    sites: &[Site],
    groups: &Groups,
) -> (Side, Vec<TiedNode>) {
    let mut grower = Grower { decider, direction, pool, groups, contexts, tied: Vec::new() };
    let tree = grower.tree(&with_built_in(sites, groups.nothing()));
    let own = grower.own(sites, groups.nothing());
    (Side { tree, own }, grower.tied)
}

/// Makes one site of what is placed at one prefix.
pub(crate) fn sites(placed: &[Placed], groups: &mut Groups) -> Vec<Site> {
    let mut sites = Vec::with_capacity(placed.len());
    let mut parts: Vec<GroupId> = Vec::new();
    for run in placed.chunk_by(|a, b| a.prefix == b.prefix) {
        let Some(first) = run.first() else { continue };
        parts.clear();
        parts.extend(run.iter().map(|placed| placed.group));
        parts.dedup();
        sites.push(Site { prefix: first.prefix, group: groups.union(&parts) });
    }
    sites
}

/// Adds the root and the prefixes apart where no rule names them.
fn with_built_in(sites: &[Site], nothing: GroupId) -> Vec<Site> {
    let mut built_in: Vec<Prefix> = std::iter::once(Prefix::Any).chain(Prefix::all_apart()).collect();
    built_in.sort_unstable();
    let mut built_in = built_in.into_iter().peekable();
    let mut all = Vec::with_capacity(sites.len() + built_in.len());
    for site in sites {
        while let Some(prefix) = built_in.next_if(|&prefix| prefix <= site.prefix) {
            if prefix < site.prefix {
                all.push(Site { prefix, group: nothing });
            }
        }
        all.push(Site { prefix: site.prefix, group: site.group });
    }
    all.extend(built_in.map(|prefix| Site { prefix, group: nothing }));
    all
}

impl Grower<'_> {
    fn tree(&mut self, sites: &[Site]) -> Vec<Node> {
        let mut open: Vec<(Prefix, ContextId)> = Vec::new();
        let mut nodes = Vec::with_capacity(sites.len());
        for site in sites {
            while open.last().is_some_and(|&(prefix, _)| !prefix.covers(site.prefix)) {
                open.pop();
            }
            let apart = site.prefix.apart();
            // What is apart has roots of its own: nothing wider reaches into it.
            let parent = open.last().filter(|&&(prefix, _)| apart.is_none() || prefix.apart() == apart);
            let default = apart.map_or(Decider::NoRule, |apart| Decider::BuiltIn(BuiltIn::of_apart(apart)));
            let context = self.context(parent.map(|&(_, context)| context), site.group, default);
            nodes.push(self.node(site, context, default));
            self.note_ties(false, nodes.len() - 1, context);
            open.push((site.prefix, context));
        }
        nodes
    }

    /// A member's own addresses are reached only by rules that name an address.
    fn own(&mut self, sites: &[Site], nothing: GroupId) -> Vec<Node> {
        let default = Decider::BuiltIn(BuiltIn::OwnAddress);
        let root = Site { prefix: Prefix::Any, group: nothing };
        let root_context = self.context(None, nothing, default);
        let mut nodes = vec![self.node(&root, root_context, default)];
        for site in sites.iter().filter(|site| site.prefix.is_host()) {
            let context = self.context(Some(root_context), site.group, default);
            nodes.push(self.node(site, context, default));
            self.note_ties(true, nodes.len() - 1, context);
        }
        nodes
    }

    fn node(&self, site: &Site, context: ContextId, default: Decider) -> Node {
        let tables = self.contexts.all.get(context).map_or([TableId(0); 2], |context| context.tables);
        let extents = &self.decider.boxes.items.extents;
        let least = self
            .groups
            .get(site.group)
            .iter()
            .min_by_key(|item| extents.get(item.0 as usize).map(|extent| (extent.text, extent.scope)));
        Node { prefix: site.prefix, least: least.map_or(default, |&item| Decider::Item(item)), tables }
    }

    fn note_ties(&mut self, own: bool, node: usize, context: ContextId) {
        if let Some(context) = self.contexts.all.get(context).filter(|context| !context.ties.is_empty()) {
            self.tied.push(TiedNode { own, node, ties: context.ties.clone() });
        }
    }

    fn context(&mut self, parent: Option<ContextId>, group: GroupId, default: Decider) -> ContextId {
        if let Some(&id) = self.contexts.ids.get(&(parent, group, default)) {
            return id;
        }
        let above = parent.and_then(|parent| self.contexts.all.get(parent));
        let depth = above.map_or(0, |above| above.depth.saturating_add(1));
        let mut context =
            Context { parent, group, depth, default, tables: [TableId(0); 2], ties: Vec::new() };
        for (slot, protocol) in [0, 1].into_iter().zip(Protocol::ALL) {
            let table = self.decide(&mut context, protocol);
            if let Some(slot) = context.tables.get_mut(slot) {
                *slot = table;
            }
        }
        let id = self.contexts.all.len();
        self.contexts.all.push(context);
        self.contexts.ids.insert((parent, group, default), id);
        id
    }

    fn decide(&mut self, context: &mut Context, protocol: Protocol) -> TableId {
        let contenders = self.contenders(context, protocol);
        let (direction, depth, default) = (self.direction, context.depth, context.default);
        let decided = self.decider.decide(&contenders, TableContext { direction, protocol, depth, default });
        context.ties.extend(decided.ties);
        TableId(self.pool.intern(decided.intervals))
    }

    /// The boxes of one protocol on the way to the root.
    fn contenders(&self, context: &Context, protocol: Protocol) -> Vec<Contender> {
        let mut contenders = Vec::new();
        let mut level = Some((context.group, context.depth, context.parent));
        while let Some((group, depth, parent)) = level {
            let of_protocol = |&&item: &&ItemId| {
                self.decider
                    .boxes
                    .items
                    .items
                    .get(item.0 as usize)
                    .is_some_and(|item| item.protocol == protocol)
            };
            let items = self.groups.get(group).iter().filter(of_protocol);
            contenders.extend(items.map(|&item| Contender { item, depth }));
            level = parent
                .and_then(|parent| self.contexts.all.get(parent))
                .map(|above| (above.group, above.depth, above.parent));
        }
        contenders
    }
}
