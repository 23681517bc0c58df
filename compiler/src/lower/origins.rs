//! Which words of the source each item comes from.
//!
//! File and line live beside the map image, never in it: they may change while the image does not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mesh_bpf::image::Source;
use mesh_bpf::item::counter_key;
use mesh_bpf::prefix::Prefix;

use crate::decide::written_accelerations;
use crate::hir::item;
use crate::hir::{Program, RuleId};
use crate::source::Span;

/// The words of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemOrigin {
    /// The whole rule.
    pub rule: Span,
    /// Its ports, or its verb where none are written.
    pub ports: Span,
    /// The address, where it has one.
    pub address: Option<Span>,
    /// The rule; none for `exempt` and `accelerate`.
    pub id: Option<RuleId>,
}

/// From items to the words that they come from.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// For each source the rules that have it, with the words of the ports.
    sources: BTreeMap<Source, Vec<(Option<RuleId>, Span, Span)>>,
    /// For each rule its addresses, sorted; one list for rules that share theirs.
    addresses: Vec<Arc<[(Prefix, Span)]>>,
}

impl Origins {
    /// Collects the words of every item of a program.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        let mut origins = Self::default();
        let mut known: HashMap<usize, Arc<[(Prefix, Span)]>> = HashMap::new();
        for (id, rule) in (0u32..).map(RuleId).zip(&program.rules) {
            for ports in &rule.ports {
                let source = item::rule_source(program, rule, ports);
                origins.sources.entry(source).or_default().push((Some(id), rule.span, ports.span));
            }
            let sorted = || {
                let mut addresses: Vec<(Prefix, Span)> =
                    rule.addresses.iter().map(|item| (item.prefix, item.span)).collect();
                addresses.sort_unstable();
                addresses.into()
            };
            origins.addresses.push(Arc::clone(known.entry(rule.addresses.key()).or_insert_with(sorted)));
        }
        for exempt in &program.exempts {
            let scope = program.scopes.get(exempt.scope.index()).map_or("", |scope| scope.name.as_str());
            let source = item::exempt_source(scope, &exempt.who);
            origins.sources.entry(source).or_default().push((None, exempt.span, exempt.span));
        }
        for (source, span) in written_accelerations(program) {
            origins.sources.entry(source).or_default().push((None, span, span));
        }
        origins
    }

    /// Where the item of `source` whose address is `prefix` is written: every place, in source order.
    #[must_use]
    pub fn of_item(&self, source: &Source, prefix: Prefix) -> Vec<ItemOrigin> {
        let mut places = Vec::new();
        for &(id, rule, ports) in self.sources.get(source).into_iter().flatten() {
            let addresses = id.and_then(|id| self.addresses.get(id.index())).map_or(&[][..], |list| list);
            if addresses.is_empty() {
                if prefix == Prefix::Any {
                    places.push(ItemOrigin { rule, ports, address: None, id });
                }
                continue;
            }
            let from = addresses.partition_point(|&(other, _)| other < prefix);
            let named = addresses.get(from..).unwrap_or_default();
            for &(_, span) in named.iter().take_while(|&&(other, _)| other == prefix) {
                places.push(ItemOrigin { rule, ports, address: Some(span), id });
            }
        }
        places.sort_unstable();
        places
    }

    /// Where any item of `source` is written, the first in source order.
    #[must_use]
    pub fn of_source(&self, source: &Source) -> Option<Span> {
        self.sources.get(source)?.iter().map(|&(_, rule, _)| rule).min()
    }

    /// Every item by the key of its counter, with the first rule that it is of; sorted by key.
    #[must_use]
    pub fn by_counter(&self) -> Vec<(u64, Span)> {
        let mut found = Vec::new();
        for (source, places) in &self.sources {
            let hash = source.stable_hash();
            for &(id, rule, _) in places {
                let addresses = id.and_then(|id| self.addresses.get(id.index())).map_or(&[][..], |list| list);
                found.extend(addresses.iter().map(|&(prefix, _)| (counter_key(hash, prefix), rule)));
                if addresses.is_empty() {
                    // What has no address at all is counted without one.
                    let key = if id.is_some() { counter_key(hash, Prefix::Any) } else { hash };
                    found.push((key, rule));
                }
            }
        }
        found.sort_unstable();
        found.dedup_by_key(|&mut (key, _)| key);
        found
    }

    /// Every source with the first place where it is written.
    pub fn sources(&self) -> impl Iterator<Item = (&Source, Span)> {
        self.sources
            .iter()
            .filter_map(|(source, places)| Some((source, places.iter().map(|&(_, rule, _)| rule).min()?)))
    }
}
