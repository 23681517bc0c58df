//! Addresses, then ports, to what is decided.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_bpf::flow::Protocol;
use mesh_bpf::image::Decision;
use mesh_bpf::pack::Ports;
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;
use mesh_bpf::sim::{AddressSpan, TreeOf};
use mesh_bpf::tables::Damaged;

use super::builder::goto;
use super::exact::item;
use super::lowering::{Lowering, Outcome, Shared, Targets};
use crate::ruleset::{Action, ChainId, Element, Family, Key, Match, Rule};
use crate::scene::Resident;
use crate::unsupported::SILENT;

impl Lowering<'_> {
    /// Looks an address up: among a member's own, then, behind some rules, among all others.
    pub(super) fn trees(
        &mut self,
        resident: &Resident,
        class: u32,
        before_others: &[Rule],
        targets: &mut Targets,
    ) -> Result<Vec<Rule>, Damaged> {
        let tree = |own| TreeOf { profile: resident.profile, class, direction: targets.direction, own };
        let [all, own] = [tree(false), tree(true)];
        let mut rules = Vec::new();
        if !resident.own.is_empty() {
            let spans = self.sim.address_spans(own).ok_or(SILENT)?;
            let mut found = Vec::new();
            for &address in &resident.own {
                let span = at(&spans, address).ok_or(SILENT)?;
                found.push((address, self.target(span.node, targets)?));
            }
            rules.extend(self.exactly(targets.end(), found.iter().copied()));
        }
        rules.extend_from_slice(before_others);
        let spans = self.sim.address_spans(all).ok_or(SILENT)?;
        rules.extend(self.stretches(&spans, targets)?);
        Ok(rules)
    }

    /// Looks an address up in stretches that hold all there are.
    fn stretches(&mut self, spans: &[AddressSpan], targets: &mut Targets) -> Result<Vec<Rule>, Damaged> {
        let mut widths: BTreeMap<ChainId, usize> = BTreeMap::new();
        for span in spans {
            *widths.entry(self.target(span.node, targets)?).or_default() += 1;
        }
        // The first of those that most stretches lead to.
        let most = widths.iter().max_by_key(|&(&chain, &count)| (count, std::cmp::Reverse(chain)));
        let (&rest, _) = most.ok_or(SILENT)?;
        let mut rules = Vec::new();
        for family in [Family::V4, Family::V6] {
            let of = spans.iter().filter(|span| span.first.is_ipv4() == (family == Family::V4));
            let stretches = of.map(|span| {
                let chain = targets.by_node.get(span.node as usize).copied().flatten();
                Element { first: bits(span.first), last: bits(span.last), chain: chain.unwrap_or(rest) }
            });
            let elements = joined(stretches).filter(|element| element.chain != rest);
            rules.extend(self.builder.look(Key::Address(targets.end(), family), true, elements));
        }
        rules.push(goto(rest));
        Ok(rules)
    }

    /// The chain that a node leads to.
    fn target(&mut self, node: u32, targets: &mut Targets) -> Result<ChainId, Damaged> {
        if let Some(&Some(known)) = targets.by_node.get(node as usize) {
            return Ok(known);
        }
        let mut ports = [Ports::Tree(0); 2];
        for (protocol, ports) in Protocol::ALL.into_iter().zip(&mut ports) {
            *ports = self.sim.ports(node, protocol).ok_or(SILENT)?;
        }
        let is_so = |&(up, prefix): &(u8, Prefix)| item(self.sim, node, up) == Some(prefix);
        let known = targets.by_ports.get(&ports).filter(|shared| shared.items.iter().all(is_so));
        let chain = match known {
            Some(shared) => shared.chain,
            None => {
                let chain = self.by_protocol(node, ports, targets)?;
                let mut items = Vec::new();
                for &(source, up) in ports.iter().flat_map(|&ports| self.exact.decided(ports)) {
                    if self.exact.is_exact(source) {
                        items.push((up, item(self.sim, node, up).ok_or(SILENT)?));
                    }
                }
                targets.by_ports.insert(ports, Shared { items, chain });
                chain
            }
        };
        *targets.by_node.get_mut(node as usize).ok_or(SILENT)? = Some(chain);
        Ok(chain)
    }

    /// The chain of what is decided at a node for both protocols.
    fn by_protocol(&mut self, node: u32, ports: [Ports; 2], targets: &Targets) -> Result<ChainId, Damaged> {
        let mut sides = Vec::new();
        for (protocol, ports) in Protocol::ALL.into_iter().zip(ports) {
            sides.push((protocol, self.by_port(node, protocol, ports, targets)?));
        }
        if let [(_, tcp), (_, udp)] = sides.as_slice()
            && tcp == udp
        {
            return Ok(*tcp);
        }
        let rule = |(protocol, chain)| Rule {
            matches: vec![Match::Protocol(protocol)],
            action: Action::Goto(chain),
        };
        Ok(self.builder.chain("by protocol", sides.into_iter().map(rule).collect()))
    }

    /// The chain of what is decided at a node for one protocol.
    fn by_port(
        &mut self,
        node: u32,
        protocol: Protocol,
        ports: Ports,
        targets: &Targets,
    ) -> Result<ChainId, Damaged> {
        let mut stretches = Vec::new();
        for &(PortRange { first, last }, decision) in self.exact.ranges(ports) {
            let chain = self.decided(targets, self.outcome(node, decision)?)?;
            stretches.push(Element { first: first.into(), last: last.into(), chain });
        }
        let mut counts: BTreeMap<ChainId, usize> = BTreeMap::new();
        for element in joined(stretches.iter().copied()) {
            *counts.entry(element.chain).or_default() += 1;
        }
        let most = counts.iter().max_by_key(|&(&chain, &count)| (count, std::cmp::Reverse(chain)));
        let (&rest, _) = most.ok_or(SILENT)?;
        let elements = joined(stretches.into_iter()).filter(|element| element.chain != rest);
        let mut rules: Vec<Rule> =
            self.builder.look(Key::Port(protocol), true, elements).into_iter().collect();
        rules.push(goto(rest));
        Ok(self.builder.chain("by port", rules))
    }

    fn outcome(&self, node: u32, decision: Decision) -> Result<Outcome, Damaged> {
        if !self.exact.is_exact(decision.source) {
            return Ok((Decision { up: 0, ..decision }, None));
        }
        Ok((decision, Some(item(self.sim, node, decision.up).ok_or(SILENT)?)))
    }
}

/// Stretches in order, those joined that touch and lead to one chain.
fn joined(stretches: impl Iterator<Item = Element<u128>>) -> impl Iterator<Item = Element<u128>> {
    let mut stretches = stretches.peekable();
    std::iter::from_fn(move || {
        let mut element = stretches.next()?;
        let continues = |next: &Element<u128>, last: u128, chain| {
            next.chain == chain && last.checked_add(1) == Some(next.first)
        };
        while let Some(next) = stretches.next_if(|next| continues(next, element.last, element.chain)) {
            element.last = next.last;
        }
        Some(element)
    })
}

/// The stretch that an address lies in.
pub(crate) fn at(spans: &[AddressSpan], address: IpAddr) -> Option<AddressSpan> {
    // The order of addresses is IPv4, then IPv6, as that of the stretches.
    let after = spans.partition_point(|span| span.first <= address);
    spans.get(after.checked_sub(1)?).copied().filter(|span| address <= span.last)
}

/// An address as the key of its family.
pub(crate) const fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits() as u128,
        IpAddr::V6(address) => address.to_bits(),
    }
}
