//! A ruleset while it grows: equal chains, maps and counters are made once.

use std::collections::BTreeMap;

use crate::ruleset::{
    Action, Base, Chain, ChainId, Counter, CounterId, Element, Key, Map, MapId, Rule, Ruleset,
};

#[derive(Default)]
pub(super) struct Builder {
    ruleset: Ruleset,
    chains: BTreeMap<Vec<Rule>, ChainId>,
    /// Those of few elements: what is large is rarely made twice, and would be kept twice.
    maps: BTreeMap<Map, MapId>,
    counters: BTreeMap<Counter, CounterId>,
}

/// Maps with more elements are not compared with others.
const SMALL: usize = 64;

impl Builder {
    /// The chain of some rules. The comment is that of the first who asks for it.
    pub(super) fn chain(&mut self, comment: &str, rules: Vec<Rule>) -> ChainId {
        if let [Rule { matches, action: Action::Goto(chain) }] = rules.as_slice()
            && matches.is_empty()
        {
            return *chain;
        }
        if let Some(&known) = self.chains.get(&rules) {
            return known;
        }
        let id = ChainId(number(self.ruleset.chains.len()));
        self.chains.insert(rules.clone(), id);
        self.ruleset.chains.push(Chain { comment: comment.to_owned(), rules });
        id
    }

    /// The rule that looks something up. None where there is nothing to be found.
    pub(super) fn look(
        &mut self,
        key: Key,
        interval: bool,
        elements: impl Iterator<Item = Element<u128>>,
    ) -> Option<Rule> {
        let map = map(key, interval, elements)?;
        let id = match self.maps.get(&map) {
            Some(&known) => known,
            None => {
                let id = MapId(number(self.ruleset.maps.len()));
                if map.len() <= SMALL {
                    self.maps.insert(map.clone(), id);
                }
                self.ruleset.maps.push(map);
                id
            }
        };
        Some(Rule { matches: Vec::new(), action: Action::Look(key, id) })
    }

    pub(super) fn counter(&mut self, counter: Counter) -> CounterId {
        let next = CounterId(number(self.ruleset.counters.len()));
        let id = *self.counters.entry(counter).or_insert(next);
        if id == next {
            self.ruleset.counters.push(counter);
        }
        id
    }

    pub(super) fn finish(self, base: Base) -> Ruleset {
        Ruleset { base: Some(base), ..self.ruleset }
    }
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

pub(super) fn goto(chain: ChainId) -> Rule {
    Rule { matches: Vec::new(), action: Action::Goto(chain) }
}

/// A map, if there is anything in it.
fn map(key: Key, interval: bool, elements: impl Iterator<Item = Element<u128>>) -> Option<Map> {
    Some(Map::new(key.key_type(), interval, elements)).filter(|map| map.len() > 0)
}
