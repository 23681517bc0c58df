//! A ruleset as the language of `nft`, for those who read it.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use mesh_bpf::flow::Protocol;

use crate::encode::{BASE, Names, PRIORITY, comment};
use crate::held::TableName;
use crate::marker::Marker;
use crate::ruleset::{
    Action, Chain, ChainId, End, Family, Key, KeyType, Kind, Map, MapId, Match, Rule, Ruleset, Way,
};

impl Ruleset {
    /// The table as `nft list table` prints it where nothing was loaded before, but for the order of what is in it. `nft -f`
    /// loads the same.
    #[must_use]
    pub fn text(&self, table: &TableName, marker: &Marker) -> String {
        let names = Names { suffix: 0 };
        let mut text = format!("table inet {} {{\n", table.as_str());
        for counter in &self.counters {
            let _ = writeln!(text, "\tcounter {} {{\n\t}}\n", counter.name());
        }
        for (id, map) in (0..).map(MapId).zip(&self.maps) {
            map_text(&mut text, names, id, map);
        }
        let _ = writeln!(text, "\tchain {} {{\n\t}}\n", marker.name());
        for (id, chain) in (0..).map(ChainId).zip(&self.chains) {
            self.chain_text(&mut text, names, id, chain);
        }
        if let Some(base) = &self.base {
            for ((name, _), rules) in BASE.into_iter().zip([&base.output, &base.prerouting]) {
                let _ = writeln!(text, "\tchain {name} {{");
                let _ = writeln!(text, "\t\ttype nat hook {name} priority {PRIORITY}; policy accept;");
                self.rules_text(&mut text, names, rules);
                text.push_str("\t}\n\n");
            }
        }
        text.truncate(text.trim_end().len());
        text.push_str("\n}\n");
        text
    }

    fn chain_text(&self, text: &mut String, names: Names, id: ChainId, chain: &Chain) {
        let _ = writeln!(text, "\tchain {} {{", names.chain(id));
        if !chain.comment.is_empty() {
            let _ = writeln!(text, "\t\tcomment \"{}\"", comment(&chain.comment));
        }
        self.rules_text(text, names, &chain.rules);
        text.push_str("\t}\n\n");
    }

    fn rules_text(&self, text: &mut String, names: Names, rules: &[Rule]) {
        for rule in rules {
            let mut words: Vec<String> = rule.matches.iter().map(match_text).collect();
            words.push(self.action_text(names, rule.action));
            let _ = writeln!(text, "\t\t{}", words.join(" "));
        }
    }

    fn action_text(&self, names: Names, action: Action) -> String {
        match action {
            Action::Accept => "accept".to_owned(),
            Action::Drop => "drop".to_owned(),
            Action::Reset => "reject with tcp reset".to_owned(),
            Action::Unreachable => "reject".to_owned(),
            Action::Redirect(port) => format!("redirect to :{port}"),
            Action::Goto(chain) => format!("goto {}", names.chain(chain)),
            Action::Look(key, map) => format!("{} vmap @{}", key_text(key), names.map(map)),
            Action::Count(counter) => {
                let name = self.counter(counter).map(|counter| counter.name()).unwrap_or_default();
                format!("counter name \"{name}\"")
            }
        }
    }
}

fn match_text(matched: &Match) -> String {
    match matched {
        Match::New(true) => "ct state new".to_owned(),
        Match::New(false) => "ct state != new".to_owned(),
        Match::MidStream => "tcp flags != syn / fin,syn,rst,ack".to_owned(),
        Match::Protocol(protocol) => format!("meta l4proto {}", protocol_text(*protocol)),
        Match::Led(protocol, port) => format!("{} dport {port}", protocol_text(*protocol)),
        Match::Interface { way, pattern, is } => {
            let way = if *way == Way::In { "iifname" } else { "oifname" };
            format!("{way} {}\"{pattern}\"", if *is { "" } else { "!= " })
        }
        Match::Destined(kind) => {
            let kind = match kind {
                Kind::Local => "local",
                Kind::Broadcast => "broadcast",
                Kind::Multicast => "multicast",
            };
            format!("fib daddr type {kind}")
        }
    }
}

const fn protocol_text(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn key_text(key: Key) -> String {
    match key {
        Key::Address(end, family) => {
            let family = if family == Family::V4 { "ip" } else { "ip6" };
            format!("{family} {}", if end == End::Source { "saddr" } else { "daddr" })
        }
        Key::Port(protocol) => format!("{} dport", protocol_text(protocol)),
        Key::User => "meta skuid".to_owned(),
        Key::Group => "meta skgid".to_owned(),
        Key::Cgroup(level) => format!("socket cgroupv2 level {level}"),
    }
}

fn map_text(text: &mut String, names: Names, id: MapId, map: &Map) {
    let of = match map.key {
        KeyType::Address(Family::V4) => "ipv4_addr",
        KeyType::Address(Family::V6) => "ipv6_addr",
        KeyType::Port => "inet_service",
        KeyType::User => "uid",
        KeyType::Group => "gid",
        KeyType::Cgroup => "cgroupsv2",
    };
    let _ = writeln!(text, "\tmap {} {{\n\t\ttype {of} : verdict", names.map(id));
    if map.interval {
        text.push_str("\t\tflags interval\n");
    }
    text.push_str("\t\telements = {");
    for (at, element) in map.elements().enumerate() {
        let separator = if at == 0 { " " } else { ",\n\t\t\t     " };
        let keys = keys_text(map.key, element.first, element.last);
        let _ = write!(text, "{separator}{keys} : goto {}", names.chain(element.chain));
    }
    text.push_str(" }\n\t}\n\n");
}

/// One key, a prefix, or the ends of a stretch.
fn keys_text(key: KeyType, first: u128, last: u128) -> String {
    let one = |value: u128| match key {
        KeyType::Address(Family::V4) => Ipv4Addr::from(u32::try_from(value).unwrap_or(u32::MAX)).to_string(),
        KeyType::Address(Family::V6) => Ipv6Addr::from(value).to_string(),
        _ => value.to_string(),
    };
    if first == last {
        return one(first);
    }
    let bits = u32::try_from(key.len() * 8).unwrap_or(128);
    let width = last - first;
    let is_prefix = width & width.wrapping_add(1) == 0 && first & width == 0;
    match key {
        KeyType::Address(_) if is_prefix => format!("{}/{}", one(first), bits - width.count_ones()),
        _ => format!("{}-{}", one(first), one(last)),
    }
}
