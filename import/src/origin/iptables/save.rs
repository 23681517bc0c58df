//! What `iptables-save` and `ip6tables-save` print.

use ipnet::IpNet;
use mesh_bpf::flow::Protocol;
use mesh_compiler::source::{FileId, Span};

use super::ruleset::{Chain, Family, Hook, Is, Match, Rule, Ruleset, Target};
use crate::settings::Setting;
use crate::value::Range;

/// Order of the tables at a hook: what the kernel has for them, raw first.
const PRIORITIES: [(&str, i64); 5] =
    [("raw", -300), ("mangle", -150), ("nat", -100), ("filter", 0), ("security", 50)];

/// Why a file cannot be read, and where.
#[derive(Debug)]
pub struct Bad {
    /// Where.
    pub span: Span,
    /// Why.
    pub why: String,
}

/// A line, and where it is.
struct Line<'t> {
    text: &'t str,
    span: Span,
}

fn lines(file: FileId, text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut at = 0_usize;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        let text = line.trim();
        let start = start + (line.len() - line.trim_start().len());
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Line { text, span: Span { file, start: small(start), end: small(start + text.len()) } }
    })
}

/// Reads a listing into a ruleset. Each rule is what it says there; what cannot be read of one is asked by none.
///
/// # Errors
/// Where a line is no part of such a listing.
pub fn read(file: FileId, name: &str, text: &str, ruleset: &mut Ruleset) -> Result<(), Bad> {
    let family = family(text);
    let mut table: Option<String> = None;
    for Line { text, span } in lines(file, text) {
        let bad = |why: &str| Bad { span, why: why.to_owned() };
        let inside = |table: &Option<String>| {
            table
                .clone()
                .ok_or_else(|| bad("it stands in no table: a line such as `*nat` is missing before it"))
        };
        // With `-c` and in listings of some versions, counters stand before a rule.
        let bare = text.strip_prefix('[').and_then(|rest| Some(rest.split_once("] ")?.1)).unwrap_or(text);
        match bare.as_bytes().first() {
            None | Some(b'#') => {}
            Some(b'*') => table = Some(bare.trim_start_matches('*').to_owned()),
            Some(b':') => {
                let table = inside(&table)?;
                let mut words = bare.trim_start_matches(':').split_whitespace();
                let chain = words.next().ok_or_else(|| bad("a chain without a name"))?;
                let drops = words.next() == Some("DROP");
                chain_of(ruleset, family, &table, chain).drops |= drops;
            }
            Some(b'-') => {
                let table = inside(&table)?;
                let words = words(bare);
                let [how, chain, rest @ ..] = words.as_slice() else {
                    return Err(bad("no rule: it has no chain"));
                };
                match how.as_str() {
                    "-A" | "--append" => {}
                    // As `iptables -S` prints them.
                    "-N" | "--new-chain" => {
                        chain_of(ruleset, family, &table, chain);
                        continue;
                    }
                    "-P" | "--policy" => {
                        let drops = rest.first().is_some_and(|policy| policy == "DROP");
                        chain_of(ruleset, family, &table, chain).drops |= drops;
                        continue;
                    }
                    _ => return Err(bad("no line of a listing: rules begin with `-A`")),
                }
                let spec = bare.split_once(chain.as_str()).map_or("", |(_, spec)| spec.trim());
                let into = chain_of(ruleset, family, &table, chain);
                let number = into.rules.len() + 1;
                let of = format!("{name}, {table}");
                // Where people look for redirects nobody says so.
                let place = if table == "nat" { String::new() } else { format!("{table} ") };
                let setting = Setting {
                    name: format!("{place}{chain} {number}"),
                    value: spec.to_owned(),
                    span: Some(span),
                    of,
                    is_own: true,
                };
                let (matches, target) = rule(rest, family);
                into.rules.push(Rule { setting, matches, target });
            }
            _ if bare == "COMMIT" => table = None,
            _ => return Err(bad("no line of what `iptables-save` prints")),
        }
    }
    Ok(())
}

/// The family of a listing: as its first line says, else by the addresses in it.
fn family(text: &str) -> Family {
    let header = text.lines().find(|line| line.contains("tables-save"));
    let is_v6 = match header {
        Some(header) => header.contains("ip6tables"),
        None => {
            let addresses = text.split_whitespace().filter(|word| word.contains('/'));
            let mut nets = addresses.filter_map(|word| word.parse::<IpNet>().ok());
            text.contains("icmp6") || nets.any(|net| matches!(net, IpNet::V6(_)))
        }
    };
    if is_v6 { Family::V6 } else { Family::V4 }
}

fn chain_of<'r>(ruleset: &'r mut Ruleset, family: Family, table: &str, name: &str) -> &'r mut Chain {
    let hook = match name {
        "PREROUTING" => Some(Hook::Prerouting),
        "INPUT" => Some(Hook::Input),
        "OUTPUT" => Some(Hook::Output),
        "FORWARD" | "POSTROUTING" => Some(Hook::Elsewhere),
        _ => None,
    };
    let order = PRIORITIES.iter().find(|(known, _)| *known == table).map_or(0, |(_, order)| *order);
    ruleset.chains.entry((family, table.to_owned(), name.to_owned())).or_insert_with(|| Chain {
        family,
        table: table.to_owned(),
        hook: hook.map(|hook| (hook, order)),
        drops: false,
        rules: Vec::new(),
    })
}

/// Words as a shell splits them: text in quotes is one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(characters.next()),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (_, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Options that a rule has beside those that ask and decide.
struct Words<'w> {
    words: std::slice::Iter<'w, String>,
}

impl Words<'_> {
    fn next(&mut self) -> Option<&str> {
        self.words.next().map(String::as_str)
    }
}

const UNREADABLE: &str = "it cannot be read";

/// What a rule asks and does.
fn rule(words: &[String], family: Family) -> (Vec<Match>, Target) {
    let mut words = Words { words: words.iter() };
    let mut matches = Vec::new();
    let mut target = Target::Nothing(None);
    let mut is_not = false;
    while let Some(word) = words.next() {
        let word = word.to_owned();
        if word == "!" {
            is_not = true;
            continue;
        }
        let is = Is::not(std::mem::take(&mut is_not));
        match word.as_str() {
            "-j" | "--jump" => target = jump(&mut words),
            "-g" | "--goto" => target = Target::Goto(words.next().unwrap_or_default().to_owned()),
            // What a rule asks of a match stands behind it; each is known by its own option.
            "-m" | "--match" => {
                let name = words.next().unwrap_or_default();
                match name {
                    "socket" => matches.push(Match::Unknown(SOCKET)),
                    known if KNOWN.contains(&known) => {}
                    _ => matches.push(Match::Unknown("it has a match that a policy has no words for")),
                }
            }
            "--comment" | "-c" | "--set-counters" => {
                words.next();
                if word != "--comment" {
                    words.next();
                }
            }
            _ => matches.push(asked(&word, is, &mut words, family)),
        }
    }
    (matches, target)
}

/// Matches whose options are known.
const KNOWN: [&str; 12] = [
    "tcp",
    "udp",
    "multiport",
    "owner",
    "addrtype",
    "comment",
    "mark",
    "conntrack",
    "state",
    "cgroup",
    "icmp",
    "icmp6",
];

const SOCKET: &str =
    "whether a socket is there, which every connection that a policy decides about comes before";

/// What an option asks.
fn asked(option: &str, is: Is, words: &mut Words<'_>, family: Family) -> Match {
    let mut value = || words.next().unwrap_or_default().to_owned();
    let unreadable = Match::Unknown(UNREADABLE);
    match option {
        "-p" | "--protocol" | "--proto" => Match::Protocol(protocols(&value(), is)),
        "-s" | "--source" | "--src" => {
            nets(&value(), family).map_or(unreadable, |nets| Match::Source(nets, is))
        }
        "-d" | "--destination" | "--dst" => {
            nets(&value(), family).map_or(unreadable, |nets| Match::Destination(nets, is))
        }
        "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
            ports(&value()).map_or(unreadable, |ports| Match::Port(ports, is))
        }
        "--sport" | "--source-port" | "--sports" | "--source-ports" | "--ports" | "--port" => {
            value();
            Match::Unknown("it asks for the source's port, which a policy does not")
        }
        "--uid-owner" => ids(&value()).map_or(unreadable, |ids| Match::User(ids, is)),
        "--gid-owner" => ids(&value()).map_or(unreadable, |ids| Match::Group(ids, is)),
        // Every packet of a connection that a process opens has one.
        "--socket-exists" if is == Is::So => Match::Always,
        "--path" => Match::Cgroup(vec![format!("/{}", value().trim_matches('/'))], is),
        "-i" | "--in-interface" => Match::Arrives(pattern(&value()), is),
        "-o" | "--out-interface" => Match::Leaves(pattern(&value()), is),
        "--dst-type" if value() == "LOCAL" => Match::LocalDestination(is),
        "--mark" => marked(&value(), is),
        "--ctstate" | "--state" => state(&value(), is),
        "--transparent" | "--nowildcard" | "--restore-skmark" => Match::Always,
        _ => {
            // An option that is not known may have a value, which does not begin with a dash.
            let mut rest = words.words.clone();
            while rest.next().is_some_and(|word| !word.starts_with('-') && word != "!") {
                words.next();
            }
            Match::Unknown("it asks for something that a policy has no words for")
        }
    }
}

fn protocols(word: &str, is: Is) -> Vec<Protocol> {
    let named = match word {
        "tcp" | "6" => vec![Protocol::Tcp],
        "udp" | "17" => vec![Protocol::Udp],
        "all" | "0" => vec![Protocol::Tcp, Protocol::Udp],
        _ => Vec::new(),
    };
    match is {
        Is::So => named,
        Is::Not => [Protocol::Tcp, Protocol::Udp].into_iter().filter(|it| !named.contains(it)).collect(),
    }
}

fn nets(words: &str, family: Family) -> Option<Vec<IpNet>> {
    let one = |word: &str| {
        let address = || word.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        let net = word.parse::<IpNet>().ok().or_else(address).or_else(|| masked(word))?;
        (matches!(net, IpNet::V6(_)) == (family == Family::V6)).then(|| net.trunc())
    };
    words.split(',').map(one).collect()
}

/// `10.0.0.0/255.0.0.0`, as old versions print.
fn masked(word: &str) -> Option<IpNet> {
    let (address, mask) = word.split_once('/')?;
    IpNet::with_netmask(address.parse().ok()?, mask.parse().ok()?).ok()
}

fn ports(words: &str) -> Option<Vec<Range<u16>>> {
    let port = |word: &str| word.parse::<u16>().ok();
    let one = |word: &str| {
        let range = match word.split_once([':', '-']) {
            Some((first, last)) => {
                let first = if first.is_empty() { Some(0) } else { port(first) };
                let last = if last.is_empty() { Some(u16::MAX) } else { port(last) };
                (first?, last?)
            }
            None => (port(word)?, port(word)?),
        };
        (range.0 <= range.1).then_some(range)
    };
    let mut ports: Vec<Range<u16>> = words.split(',').map(one).collect::<Option<_>>()?;
    ports.sort_unstable();
    Some(ports)
}

fn ids(words: &str) -> Option<Vec<Range<u32>>> {
    let id = |word: &str| word.parse::<u32>().ok();
    let range = match words.split_once('-') {
        Some((first, last)) => (id(first)?, id(last)?),
        None => (id(words)?, id(words)?),
    };
    (range.0 <= range.1).then(|| vec![range])
}

/// A last `+` stands for any rest.
fn pattern(name: &str) -> String {
    name.strip_suffix('+').map_or_else(|| name.to_owned(), |name| format!("{name}*"))
}

/// A number as C writes it.
pub fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// What nobody marked has the mark 0.
fn marked(words: &str, is: Is) -> Match {
    let (value, mask) = words.split_once('/').unwrap_or((words, "0xffffffff"));
    match (number(value), number(mask)) {
        (Some(0), Some(_)) => Match::Marked(if is == Is::So { Is::Not } else { Is::So }),
        (Some(_), Some(_)) => Match::Marked(is),
        _ => Match::Unknown(UNREADABLE),
    }
}

/// A decision is about a connection that is new.
fn state(words: &str, is: Is) -> Match {
    let has_new = words.split(',').any(|word| word.eq_ignore_ascii_case("new"));
    Match::Known(Is::not(has_new == (is == Is::So)))
}

/// What a rule does, with the options of its target.
fn jump(words: &mut Words<'_>) -> Target {
    let name = words.next().unwrap_or_default().to_owned();
    let mut options: Vec<(String, String)> = Vec::new();
    let mut rest = words.words.clone();
    // Options of a target stand to the end, but for a comment.
    while let Some(option) = rest.next().filter(|word| word.starts_with("--") && *word != "--comment") {
        words.next();
        let value = rest.clone().next().filter(|word| !word.starts_with('-') && *word != "!");
        if value.is_some() {
            rest.next();
            words.next();
        }
        options.push((option.clone(), value.cloned().unwrap_or_default()));
    }
    let option = |names: &[&str]| {
        let found = options.iter().find(|(option, _)| names.contains(&option.as_str()));
        found.map(|(_, value)| value.as_str())
    };
    match name.as_str() {
        "ACCEPT" => Target::Accept,
        "RETURN" => Target::Return,
        "DROP" | "REJECT" => Target::Drop,
        "REDIRECT" => match option(&["--to-ports", "--to-port", "--to"]) {
            Some(port) => to_port(port),
            None => Target::Unknown(KEPT_PORT),
        },
        "TPROXY" => option(&["--on-port"]).map_or(Target::Unknown(KEPT_PORT), to_port),
        "DNAT" => option(&["--to-destination"]).map_or(Target::Unknown(UNREADABLE), to_destination),
        "LOG" | "NFLOG" | "ULOG" | "TRACE" | "AUDIT" => Target::Nothing(Some("it only writes a log")),
        "MARK" | "CONNMARK" | "CONNSECMARK" | "SECMARK" => {
            Target::Nothing(Some("it marks packets, and a policy needs no marks"))
        }
        "CT" | "NOTRACK" => Target::Nothing(Some("there is no connection tracking")),
        "MASQUERADE" | "SNAT" | "NETMAP" => {
            Target::Nothing(Some("it changes where packets seem to come from"))
        }
        "TCPMSS" | "TOS" | "DSCP" | "TTL" | "HL" | "CHECKSUM" | "CLASSIFY" | "IDLETIMER" => {
            Target::Nothing(Some("it changes packets, and decides nothing"))
        }
        _ => Target::Jump(name),
    }
}

pub const KEPT_PORT: &str = "the port that a connection has already is no sidecar's port";

/// One port of this machine.
pub fn to_port(word: &str) -> Target {
    match word.parse::<u16>() {
        Ok(port) if port > 0 => Target::Redirect(port),
        _ => Target::Unknown("it leads to several ports, and a policy has one"),
    }
}

/// An address of this machine, and a port.
fn to_destination(word: &str) -> Target {
    match word.parse::<std::net::SocketAddr>() {
        Ok(to) if is_sidecar(to.ip()) => Target::Redirect(to.port()),
        _ => Target::Unknown(ELSEWHERE),
    }
}

/// Whether an address is where a policy's redirects lead.
pub fn is_sidecar(address: std::net::IpAddr) -> bool {
    address == std::net::Ipv4Addr::LOCALHOST || address == std::net::Ipv6Addr::LOCALHOST
}

pub const ELSEWHERE: &str = "it leads elsewhere, and a policy leads to a port of 127.0.0.1 or ::1";
