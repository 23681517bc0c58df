//! What `nft -j list ruleset` prints.

use std::collections::BTreeMap;

use ipnet::IpNet;
use mesh_bpf::flow::Protocol;
use mesh_compiler::diag::Diagnostic;
use mesh_compiler::source::FileId;

use super::ruleset::{Chain, Family, Hook, Is, Match, Rule, Ruleset, Target, refused};
use super::save::{ELSEWHERE, KEPT_PORT, is_sidecar, number, to_port};
use crate::settings::{Setting, words};
use crate::value::Range;
use crate::yaml::{Value, Yaml};

/// Where something is: a family, a table, and in it what the rest names.
type Place = (Family, String, String);

const NO_WORDS: &str = "it asks for something that a policy has no words for";

/// Reads a listing into a ruleset.
///
/// # Errors
/// Where it is none.
pub fn read(file: FileId, name: &str, text: &str, ruleset: &mut Ruleset) -> Result<(), Diagnostic> {
    let yaml = Yaml::read(file, text)?;
    let Some(root) = yaml.documents().next() else { return Ok(()) };
    let Some(list) = root.get("nftables").filter(|list| list.is_list()) else {
        return Err(refused(root.span(), "it has no list `nftables`"));
    };
    let objects: Vec<(&str, Value<'_>)> = list
        .items()
        .filter_map(|object| object.entries().next())
        .filter_map(|(kind, object)| Some((kind.text()?, object)))
        .collect();
    let mut sets: BTreeMap<Place, Vec<Value<'_>>> = BTreeMap::new();
    for (kind, object) in &objects {
        let Some(place) = place(*object, "name") else { continue };
        match *kind {
            "chain" => drop(chain_of(ruleset, &place, Some(*object))),
            "set" => {
                drop(sets.insert(place, object.get("elem").into_iter().flat_map(Value::items).collect()))
            }
            _ => {}
        }
    }
    for (_, object) in objects.iter().filter(|(kind, _)| *kind == "rule") {
        let Some(place) = place(*object, "chain") else { continue };
        let reader = Reader { sets: &sets, place: &place };
        let (matches, target) = reader.rule(*object);
        let into = chain_of(ruleset, &place, None);
        let number = into.rules.len() + 1;
        let (_, table, chain) = &place;
        let expressions = object.get("expr").into_iter().flat_map(Value::items);
        let value = expressions.map(shown).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ");
        let setting = Setting {
            name: format!("{table} {chain} {number}"),
            value: words(&value),
            span: Some(object.span()),
            of: format!("{name}, {table}"),
            is_own: true,
        };
        into.rules.push(Rule { setting, matches, target });
    }
    Ok(())
}

/// Where an object is. Of other families than those of IP nothing is decided here.
fn place(object: Value<'_>, name: &str) -> Option<Place> {
    let (family, elsewhere) = match object.text_at("family")? {
        "ip" => (Family::V4, ""),
        "ip6" => (Family::V6, ""),
        "inet" => (Family::Both, ""),
        other => (Family::Both, other),
    };
    let table = object.text_at("table").unwrap_or_default();
    let table = if elsewhere.is_empty() { table.to_owned() } else { format!("{elsewhere} {table}") };
    Some((family, table, object.text_at(name)?.to_owned()))
}

fn chain_of<'r>(ruleset: &'r mut Ruleset, place: &Place, said: Option<Value<'_>>) -> &'r mut Chain {
    let (family, table, _) = place;
    let is_ip = !table.contains(' ');
    let hook = said.and_then(|said| said.text_at("hook")).map(|hook| match hook {
        "prerouting" if is_ip => Hook::Prerouting,
        "input" if is_ip => Hook::Input,
        "output" if is_ip => Hook::Output,
        _ => Hook::Elsewhere,
    });
    let order = said.and_then(|said| said.text_at("prio")?.parse().ok()).unwrap_or(0);
    ruleset.chains.entry(place.clone()).or_insert_with(|| Chain {
        family: *family,
        table: table.clone(),
        hook: hook.map(|hook| (hook, order)),
        drops: said.and_then(|said| said.text_at("policy")) == Some("drop"),
        rules: Vec::new(),
    })
}

/// An expression in few words, for comments.
fn shown(expression: Value<'_>) -> String {
    let Some((word, inside)) = expression.entries().next() else { return one(expression) };
    let word = word.text().unwrap_or_default();
    match word {
        "counter" => String::new(),
        "match" => {
            let op = inside.text_at("op").filter(|op| !matches!(*op, "==" | "in")).unwrap_or_default();
            let parts = [inside.get("left").map(one), Some(op.to_owned()), inside.get("right").map(one)];
            parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        }
        "jump" | "goto" => format!("{word} {}", inside.text_at("target").unwrap_or_default()),
        "redirect" | "tproxy" | "dnat" => {
            let parts = ["addr", "port"].into_iter().filter_map(|part| inside.text_at(part));
            format!("{word} to {}", parts.collect::<Vec<_>>().join(":"))
        }
        _ => word.to_owned(),
    }
}

fn one(value: Value<'_>) -> String {
    if let Some(text) = value.text() {
        return text.to_owned();
    }
    if value.is_list() {
        return value.items().map(one).collect::<Vec<_>>().join(", ");
    }
    let Some((word, inside)) = value.entries().next() else { return String::new() };
    match word.text().unwrap_or_default() {
        "payload" => {
            let parts = ["protocol", "field"].into_iter().filter_map(|part| inside.text_at(part));
            parts.collect::<Vec<_>>().join(" ")
        }
        "meta" => inside.text_at("key").unwrap_or_default().to_owned(),
        "prefix" => {
            let parts = ["addr", "len"].into_iter().filter_map(|part| inside.text_at(part));
            parts.collect::<Vec<_>>().join("/")
        }
        "range" => inside.items().map(one).collect::<Vec<_>>().join("-"),
        "set" => format!("{{{}}}", one(inside)),
        "ct" | "fib" | "socket" => {
            let key = inside.text_at("key").or_else(|| inside.text_at("result")).unwrap_or_default();
            format!("{} {key}", word.text().unwrap_or_default())
        }
        other => other.to_owned(),
    }
}

/// Reads rules of one chain.
struct Reader<'s, 'y> {
    sets: &'s BTreeMap<Place, Vec<Value<'y>>>,
    place: &'s Place,
}

impl<'y> Reader<'_, 'y> {
    fn rule(&self, object: Value<'y>) -> (Vec<Match>, Target) {
        let mut matches = Vec::new();
        let mut target = Target::Nothing(None);
        for expression in object.get("expr").into_iter().flat_map(Value::items) {
            let Some((word, inside)) = expression.entries().next() else { continue };
            match word.text().unwrap_or_default() {
                "match" => self.asked(inside, &mut matches),
                // A limit, a quota or a look-up decides by what was before, or by several verdicts at once.
                "limit" | "quota" | "ct count" | "meter" | "vmap" | "xt" => {
                    matches.push(Match::Unknown(NO_WORDS))
                }
                word => match decision(word, inside) {
                    Some(found) => {
                        target = found;
                        break;
                    }
                    None if target == Target::Nothing(None) => target = Target::Nothing(aside(word)),
                    None => {}
                },
            }
        }
        (matches, target)
    }

    /// What a match asks: several things, where it is of a protocol.
    fn asked(&self, asked: Value<'y>, matches: &mut Vec<Match>) {
        let is = Is::not(asked.text_at("op") == Some("!="));
        let op = asked.text_at("op").unwrap_or("==");
        let (Some(left), Some(right)) = (asked.get("left"), asked.get("right")) else {
            matches.push(Match::Unknown(NO_WORDS));
            return;
        };
        let Some(items) = self.items(right) else {
            matches.push(Match::Unknown(NO_WORDS));
            return;
        };
        let plain = matches!(op, "==" | "!=" | "in");
        let found = match left.entries().next().and_then(|(word, inside)| Some((word.text()?, inside))) {
            Some(("payload", payload)) => self.payload(payload, op, &items, is, matches),
            Some(("meta", meta)) if plain => meta_asked(meta.text_at("key").unwrap_or_default(), &items, is),
            Some(("ct", ct)) if plain && ct.text_at("key") == Some("state") => Some(state(&items, is)),
            Some(("fib", fib)) if plain && is_local(fib, &items) => Some(Match::LocalDestination(is)),
            Some(("socket", socket)) if plain && socket.text_at("key") == Some("cgroupv2") => {
                let paths = items.iter().map(|item| Some(format!("/{}", item.text()?.trim_matches('/'))));
                paths.collect::<Option<_>>().map(|paths| Match::Cgroup(paths, is))
            }
            // `meta mark & 0xfff == 0x539`
            Some(("&", masked)) if plain => {
                let of_mark =
                    masked.items().next().and_then(|of| of.get("meta")?.text_at("key")) == Some("mark");
                of_mark.then(|| marked(&items, is))
            }
            _ => None,
        };
        matches.push(found.unwrap_or(Match::Unknown(NO_WORDS)));
    }

    /// The values of the right side: one, those of a set, or of a set with a name.
    fn items(&self, right: Value<'y>) -> Option<Vec<Value<'y>>> {
        let bare = |item: Value<'y>| item.at("elem.val").unwrap_or(item);
        if let Some(name) = right.text().and_then(|text| text.strip_prefix('@')) {
            let (family, table, _) = self.place;
            let set = self.sets.get(&(*family, table.clone(), name.to_owned()))?;
            return Some(set.iter().copied().map(bare).collect()).filter(|items: &Vec<_>| !items.is_empty());
        }
        match right.get("set") {
            Some(set) => Some(set.items().map(bare).collect()),
            None if right.is_list() => Some(right.items().collect()),
            None => Some(vec![right]),
        }
    }

    fn payload(
        &self,
        payload: Value<'y>,
        op: &str,
        items: &[Value<'y>],
        is: Is,
        matches: &mut Vec<Match>,
    ) -> Option<Match> {
        let (protocol, field) = (payload.text_at("protocol")?, payload.text_at("field")?);
        let of = match protocol {
            "tcp" => vec![Protocol::Tcp],
            "udp" => vec![Protocol::Udp],
            "th" => vec![Protocol::Tcp, Protocol::Udp],
            "ip" | "ip6" => {
                let nets = || items.iter().map(|item| net(*item)).collect::<Option<Vec<_>>>();
                let (plain, v6) = (matches!(op, "==" | "!="), protocol == "ip6");
                matches.push(of_family(v6));
                return match field {
                    "saddr" if plain => Some(Match::Source(nets()?, is)),
                    "daddr" if plain => Some(Match::Destination(nets()?, is)),
                    "protocol" | "nexthdr" if plain => Some(protocols(items, is)),
                    _ => None,
                };
            }
            _ => return None,
        };
        matches.push(Match::Protocol(of));
        if field != "dport" {
            return None;
        }
        let ports: Option<Vec<Range<u16>>> = items.iter().map(|item| port(*item, op)).collect();
        ports.map(|ports| Match::Port(ports, is))
    }
}

/// That a packet is of a family: its source lies somewhere in it.
fn of_family(v6: bool) -> Match {
    let all = if v6 { "::/0" } else { "0.0.0.0/0" };
    Match::Destination(all.parse::<IpNet>().into_iter().collect(), Is::So)
}

fn net(item: Value<'_>) -> Option<IpNet> {
    if let Some(prefix) = item.get("prefix") {
        return format!("{}/{}", prefix.text_at("addr")?, prefix.text_at("len")?).parse().ok();
    }
    item.text()?.parse::<std::net::IpAddr>().ok().map(IpNet::from)
}

fn port(item: Value<'_>, op: &str) -> Option<Range<u16>> {
    if let Some(range) = item.get("range") {
        let mut ends = range.items().map(|end| end.text()?.parse().ok());
        return Some((ends.next()??, ends.next()??)).filter(|(first, last)| first <= last);
    }
    let port: u16 = item.text()?.parse().ok()?;
    match op {
        "<" => Some((0, port.checked_sub(1)?)),
        "<=" => Some((0, port)),
        ">" => Some((port.checked_add(1)?, u16::MAX)),
        ">=" => Some((port, u16::MAX)),
        _ => Some((port, port)),
    }
}

fn id(item: Value<'_>) -> Option<Range<u32>> {
    if let Some(range) = item.get("range") {
        let mut ends = range.items().map(|end| end.text()?.parse().ok());
        return Some((ends.next()??, ends.next()??)).filter(|(first, last)| first <= last);
    }
    let id = item.text()?.parse().ok()?;
    Some((id, id))
}

fn protocols(items: &[Value<'_>], is: Is) -> Match {
    let named = |own: &str, number: &str| {
        items.iter().filter_map(|item| item.text()).any(|text| text == own || text == number)
    };
    let all = [(Protocol::Tcp, named("tcp", "6")), (Protocol::Udp, named("udp", "17"))];
    let asked = all.into_iter().filter(|(_, named)| *named == (is == Is::So));
    Match::Protocol(asked.map(|(protocol, _)| protocol).collect())
}

fn meta_asked(key: &str, items: &[Value<'_>], is: Is) -> Option<Match> {
    let ids = || items.iter().map(|item| id(*item)).collect::<Option<Vec<_>>>();
    let name = || match items {
        [one] => one.text().map(str::to_owned),
        _ => None,
    };
    match key {
        "l4proto" => Some(protocols(items, is)),
        "nfproto" => {
            let v6 = name()? == "ipv6";
            Some(of_family(v6 == (is == Is::So)))
        }
        "skuid" => Some(Match::User(ids()?, is)),
        "skgid" => Some(Match::Group(ids()?, is)),
        "oifname" | "oif" => Some(Match::Leaves(name()?, is)),
        "iifname" | "iif" => Some(Match::Arrives(name()?, is)),
        "mark" => Some(marked(items, is)),
        _ => None,
    }
}

/// What nobody marked has the mark 0.
fn marked(items: &[Value<'_>], is: Is) -> Match {
    let marks: Option<Vec<u32>> = items.iter().map(|item| number(item.text()?)).collect();
    match marks {
        Some(marks) if marks.contains(&0) => Match::Marked(if is == Is::So { Is::Not } else { Is::So }),
        Some(_) => Match::Marked(is),
        None => Match::Unknown(NO_WORDS),
    }
}

/// A decision is about a connection that is new.
fn state(items: &[Value<'_>], is: Is) -> Match {
    let has_new = items.iter().any(|item| item.text() == Some("new"));
    Match::Known(Is::not(has_new == (is == Is::So)))
}

fn is_local(fib: Value<'_>, items: &[Value<'_>]) -> bool {
    let flags = fib
        .get("flags")
        .into_iter()
        .flat_map(|flags| flags.text().into_iter().chain(flags.items().filter_map(Value::text)));
    fib.text_at("result") == Some("type")
        && flags.eq(["daddr"])
        && items.iter().map(|item| item.text()).eq([Some("local")])
}

/// What a statement decides; `None` for one that decides nothing.
fn decision(word: &str, inside: Value<'_>) -> Option<Target> {
    Some(match word {
        "accept" => Target::Accept,
        "drop" | "reject" => Target::Drop,
        "return" => Target::Return,
        "jump" => Target::Jump(inside.text_at("target")?.to_owned()),
        "goto" => Target::Goto(inside.text_at("target")?.to_owned()),
        "redirect" | "tproxy" => inside.text_at("port").map_or(Target::Unknown(KEPT_PORT), to_port),
        "dnat" => {
            let address = inside.text_at("addr").and_then(|address| address.parse::<std::net::IpAddr>().ok());
            match (address.filter(|address| is_sidecar(*address)), inside.text_at("port")) {
                (Some(_), Some(port)) => to_port(port),
                _ => Target::Unknown(ELSEWHERE),
            }
        }
        "queue" => Target::Unknown("it hands packets to a process"),
        _ => return None,
    })
}

/// Why a statement decides nothing, where that is to be said.
fn aside(word: &str) -> Option<&'static str> {
    match word {
        "counter" | "comment" => None,
        "log" => Some("it only writes a log"),
        "mangle" | "secmark" => Some("it marks or changes packets, and decides nothing"),
        "notrack" | "ct helper" | "ct timeout" | "ct expectation" => Some("there is no connection tracking"),
        "masquerade" | "snat" => Some("it changes where packets seem to come from"),
        _ => Some("it decides nothing that a policy has words for"),
    }
}
