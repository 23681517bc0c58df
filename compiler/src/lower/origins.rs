//! Which words of the source each item comes from.
//!
//! File and line live beside the map image, never in it: they may change while the image does not.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mesh_bpf::image::Source;
use mesh_bpf::intern::Interner;
use mesh_bpf::item::counter_key;
use mesh_bpf::prefix::Prefix;

use crate::decide::written_accelerations;
use crate::hir::item;
use crate::hir::{AddressItem, NameId, Program, RuleId};
use crate::source::Span;

/// The words of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemOrigin {
    /// The whole rule.
    pub rule: Span,
    /// Its ports, or its verb where none are written.
    pub ports: Span,
    /// The address, where it has one; of a service the whole rule.
    pub address: Option<Span>,
    /// The rule; none for `exempt` and `accelerate`.
    pub id: Option<RuleId>,
    /// The names in the rule that stand for the ports and for the address.
    pub by: [NameId; 2],
}

/// Where an item is written, by the key of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CountedOrigin {
    /// The key of its counter.
    pub counter: u64,
    /// The whole rule: the first one that has the item.
    pub rule: Span,
    /// Ports and address, where a name in the rule stands for them: the name, and the words that it stands for.
    pub elsewhere: [Option<(NameId, Span)>; 2],
}

/// Ports of a rule.
#[derive(Clone, Copy, Debug)]
struct Written {
    id: Option<RuleId>,
    rule: Span,
    ports: Span,
    by: NameId,
}

impl Written {
    /// A statement that has no ports.
    const fn whole(statement: Span) -> Self {
        Self { id: None, rule: statement, ports: statement, by: NameId::WRITTEN_OUT }
    }
}

/// From items to the words that they come from.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// For each source the rules that have it, with the words of the ports.
    sources: Interner<Source>,
    /// By the numbers of those.
    written: Vec<Vec<Written>>,
    /// For each rule its addresses, sorted; one list for rules that share theirs.
    addresses: Vec<Arc<[AddressItem]>>,
    /// Names that stand for services.
    services: BTreeSet<NameId>,
}

impl Origins {
    /// Collects the words of every item of a program.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        let is_service = |name: &NameId| program.service_named(*name).is_some();
        let names = (0u32..).map(NameId).take(program.names.len());
        let mut origins = Self { services: names.filter(is_service).collect(), ..Self::default() };
        let mut known: HashMap<usize, Arc<[AddressItem]>> = HashMap::new();
        for (id, rule) in (0u32..).map(RuleId).zip(&program.rules) {
            for (ports, who) in rule.boxes() {
                let source = item::rule_source(program, rule, ports, who);
                let written = Written { id: Some(id), rule: rule.span, ports: ports.span, by: ports.by };
                origins.note(source, written);
            }
            let sorted = || {
                let mut addresses = rule.addresses.to_vec();
                addresses.sort_unstable();
                addresses.into()
            };
            origins.addresses.push(Arc::clone(known.entry(rule.addresses.key()).or_insert_with(sorted)));
        }
        for exempt in &program.exempts {
            let scope = program.scopes.get(exempt.scope.index()).map_or("", |scope| scope.name.as_str());
            let source = item::exempt_source(scope, &exempt.who);
            origins.note(source, Written::whole(exempt.span));
        }
        for (source, span) in written_accelerations(program) {
            origins.note(source, Written::whole(span));
        }
        origins
    }

    fn note(&mut self, source: Source, written: Written) {
        let number = self.sources.intern(source) as usize;
        if number == self.written.len() {
            self.written.push(Vec::new());
        }
        if let Some(places) = self.written.get_mut(number) {
            places.push(written);
        }
    }

    /// Where the item of `source` whose address is `prefix` is written: every place, in source order.
    #[must_use]
    pub fn of_item(&self, source: &Source, prefix: Prefix) -> Vec<ItemOrigin> {
        let mut places = Vec::new();
        let number = self.sources.get(source);
        let written = number.and_then(|number| self.written.get(number as usize));
        for &written in written.into_iter().flatten() {
            let Written { id, rule, ports, by } = written;
            let addresses = self.addresses(written);
            if addresses.is_empty() {
                if prefix == Prefix::Any {
                    let by = [by, NameId::WRITTEN_OUT];
                    places.push(ItemOrigin { rule, ports, address: None, id, by });
                }
                continue;
            }
            let from = addresses.partition_point(|other| other.prefix < prefix);
            let named = addresses.get(from..).unwrap_or_default();
            for address in named.iter().take_while(|other| other.prefix == prefix) {
                let by = [by, address.by];
                let span = self.place(address, rule);
                places.push(ItemOrigin { rule, ports, address: Some(span), id, by });
            }
        }
        places.sort_unstable();
        places
    }

    /// Where an address is written that stands in `rule`, or is of what that names. Those of a service are written nowhere.
    fn place(&self, address: &AddressItem, rule: Span) -> Span {
        if self.services.contains(&address.by) { rule } else { address.span }
    }

    fn addresses(&self, written: Written) -> &[AddressItem] {
        written.id.and_then(|id| self.addresses.get(id.index())).map_or(&[], |list| list)
    }

    /// Every item by the key of its counter, with the first rule that it is of; sorted by key.
    #[must_use]
    pub fn by_counter(&self) -> Vec<CountedOrigin> {
        let mut found = Vec::new();
        for (source, places) in self.sources.values().iter().zip(&self.written) {
            let hash = source.stable_hash();
            for &written in places {
                let named = |by: NameId, span| (by != NameId::WRITTEN_OUT).then_some((by, span));
                let ports = named(written.by, written.ports);
                let addresses = self.addresses(written);
                found.extend(addresses.iter().map(|address| CountedOrigin {
                    counter: counter_key(hash, address.prefix),
                    rule: written.rule,
                    elsewhere: [ports, named(address.by, self.place(address, written.rule))],
                }));
                if addresses.is_empty() {
                    let counter = counter_key(hash, Prefix::Any);
                    found.push(CountedOrigin { counter, rule: written.rule, elsewhere: [ports, None] });
                }
            }
        }
        found.sort_unstable();
        found.dedup_by_key(|origin| origin.counter);
        found
    }
}
