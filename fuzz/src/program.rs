//! Whole random programs that are right more often than not.
//!
//! Names are declared before they are used, values come from few that lie in, beside and across each
//! other, and a mistake is made now and then. So most programs compile, and their rules meet.

use mesh_compiler::resolve::Services;

use crate::choice::Choices;

const PORTS: [&str; 20] = [
    "1",
    "2",
    "3",
    "53",
    "80",
    "443",
    "15001",
    "65535",
    "1-65535",
    "2-3",
    "3-7",
    "5-9",
    "80-443",
    "1-80",
    "443-65535",
    "3306",
    "6379-6380",
    "15000-15010",
    "65534-65535",
    "8",
];
const ADDRESSES: [&str; 40] = [
    "10.0.0.0/8",
    "10.0.0.0/31",
    "10.0.0.0",
    "10.0.0.1",
    "10.42.0.0/16",
    "10.42.1.0/24",
    "10.42.1.7",
    "0.0.0.0/0",
    "::/0",
    "127.0.0.0/8",
    "127.0.0.1",
    "::1",
    "0.0.0.0",
    "::",
    "126.0.0.0/7",
    "0.0.0.0/1",
    "fd00::/8",
    "fd00:42:1::/64",
    "fd00:42:1::7",
    "fd00:42:1::/65",
    "fd00:42:1:0:8000::/65",
    "255.255.255.255",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "::/1",
    "8000::/1",
    "192.168.0.0/16",
    "169.254.169.254",
    "2001:db8::/32",
    "172.16.0.0/12",
    "10.42.1.0/25",
    "10.42.1.128/25",
    "93.184.216.34",
    "224.0.0.0/4",
    "224.0.0.0/3",
    "224.0.0.251",
    "240.0.0.0/4",
    "fe80::/10",
    "fe80::1",
    "ff02::/16",
    "ff05::/16",
];
const SIDECARS: [&str; 8] = ["15001", "15001", "15001", "15001", "15001", "15003", "443", "80"];
const FLOW_PORTS: [&str; 8] = ["1", "53", "80", "443", "3306", "15001", "65535", "8"];

/// Services that programs name, with their addresses: some have one in common, and one has none that rules reach.
const SERVICES: [(&str, &[&str]); 5] = [
    ("default/kubernetes", &["10.0.0.1"]),
    ("shop/cart", &["10.43.0.7", "10.42.1.7", "10.42.1.200", "fd00:42:1::7"]),
    ("shop/cart-headless", &["10.42.1.7", "10.42.1.200", "fd00:42:1::7"]),
    ("mesh/7up", &["10.42.1.7", "93.184.216.34", "224.0.0.251"]),
    ("mesh/local", &["127.0.0.1", "::1"]),
];

/// What is known of the services that programs name.
#[must_use]
pub fn services() -> Services {
    let parsed = |all: &[&str]| all.iter().filter_map(|one| one.parse().ok()).collect();
    SERVICES.iter().map(|&(name, addresses)| (name.to_owned(), parsed(addresses))).collect()
}

/// The program that these choices make.
#[must_use]
pub fn program(choices: &mut Choices<'_>) -> String {
    let mut writer =
        Writer { choices, text: String::new(), sets: Vec::new(), names: 0, workloads: Vec::new() };
    writer.top();
    writer.text
}

/// How many of something: few mostly.
const FEW: [usize; 8] = [1, 2, 0, 1, 3, 2, 5, 9];

struct Writer<'c, 'b> {
    choices: &'c mut Choices<'b>,
    text: String,
    /// Names of sets, each with whether it holds ports.
    sets: Vec<(String, bool)>,
    /// How many names were given so far.
    names: usize,
    /// Workloads and groups of the mesh that is written.
    workloads: Vec<String>,
}

impl Writer<'_, '_> {
    fn few(&mut self) -> usize {
        self.choices.of(&FEW).unwrap_or(1)
    }

    fn name(&mut self, kind: char) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        let end = self.choices.word_of(&["\n", "\n", "\n", "; ", " # c\n", "\n\n", "\r\n"]);
        self.text.push_str(end);
    }

    fn top(&mut self) {
        if !self.choices.once_in(16) {
            self.line("exempt uid 1500");
        }
        for _ in 0..self.few() {
            self.set();
        }
        for _ in 0..self.few() {
            self.common();
        }
        for _ in 0..self.few().clamp(1, 3) {
            self.mesh();
        }
    }

    fn set(&mut self) {
        let ports = self.choices.once_in(2);
        let items = if ports {
            let (first, second) = (self.protocol_ports(), self.protocol_ports());
            if self.choices.once_in(3) { format!("{first}, {second}") } else { first }
        } else {
            self.addresses()
        };
        let name = self.name('s');
        self.line(&format!("set {name} = {items}"));
        self.sets.push((name, ports));
    }

    /// What may stand in every scope.
    fn common(&mut self) {
        match self.choices.below(8) {
            0 => {
                let kind = self.choices.word_of(&["uid", "gid", "interface"]);
                let items =
                    if kind == "interface" { self.list(Self::interface) } else { self.list(Self::id) };
                self.line(&format!("exempt {kind} {items}"));
            }
            1 => {
                let event = self.choices.word_of(&[
                    "missing-sidecar refuse",
                    "missing-sidecar pass",
                    "failed-attach refuse",
                    "failed-attach start",
                ]);
                self.line(&format!("on {event}"));
            }
            _ => self.rule(),
        }
    }

    fn id(&mut self) -> String {
        let first = u32::from(self.choices.byte());
        match self.choices.below(4) {
            0 => format!("{first}-{}", first + 9),
            1 => format!("{}", u32::MAX - first),
            _ => first.to_string(),
        }
    }

    fn interface(&mut self) -> String {
        let name = self.choices.word_of(&["net1", "net*", "eth0", "eth0*", "*"]);
        format!("\"{name}\"")
    }

    fn rule(&mut self) {
        let always = if self.choices.once_in(8) { "always " } else { "" };
        let verb = self.choices.word_of(&["exclude", "redirect", "deny"]);
        let outbound = !self.choices.once_in(3);
        let (direction, preposition) = if outbound { ("outbound", "to") } else { ("inbound", "from") };
        let ports = match self.choices.below(4) {
            0 => String::new(),
            // A redirect of `any`, or of UDP inbound, is rarely what a policy may ask for.
            _ if verb == "redirect" => format!(" tcp{}", self.port_list()),
            1 => self.named(true).map_or_else(String::new, |set| format!(" {set}")),
            _ => format!(" {}", self.protocol_ports()),
        };
        let addresses = match self.choices.below(3) {
            0 => String::new(),
            _ if self.choices.once_in(6) => match self.choices.below(3) {
                0 => format!(" {preposition} node, {}", self.address()),
                _ => format!(" {preposition} node"),
            },
            _ => format!(" {preposition} {}", self.addresses()),
        };
        let who = if outbound && self.choices.once_in(4) { self.who() } else { String::new() };
        let tail = if verb == "redirect" {
            let port = self.choices.word_of(&SIDECARS);
            let transparent = if self.choices.once_in(8) { " transparent" } else { "" };
            format!(" -> {port}{transparent}")
        } else {
            String::new()
        };
        self.line(&format!("{always}{verb} {direction}{ports}{addresses}{who}{tail}"));
    }

    /// Whose sockets a rule is about.
    fn who(&mut self) -> String {
        let kind = self.choices.word_of(&["uid", "gid"]);
        let ids = self.list(Self::id);
        match self.choices.below(4) {
            0 => format!(" as {kind} {ids} and cgroup \"/jobs\""),
            1 => format!(" as cgroup \"/jobs\", \"/jobs/{}\"", self.choices.byte()),
            _ => format!(" as {kind} {ids}"),
        }
    }

    fn protocol_ports(&mut self) -> String {
        let protocol = self.choices.word_of(&["tcp", "tcp", "udp", "any"]);
        format!("{protocol}{}", self.port_list())
    }

    fn port_list(&mut self) -> String {
        let not = if self.choices.once_in(6) { "not " } else { "" };
        if self.choices.once_in(4) {
            return String::new();
        }
        format!(" {not}{}", self.list(|writer| writer.port()))
    }

    fn port(&mut self) -> String {
        if self.choices.once_in(8) {
            let (one, other) = (self.choices.word().max(1), self.choices.word().max(1));
            return format!("{}-{}", one.min(other), one.max(other));
        }
        self.choices.word_of(&PORTS).to_owned()
    }

    fn addresses(&mut self) -> String {
        self.list(|writer| writer.address())
    }

    fn address(&mut self) -> String {
        match self.choices.below(9) {
            3 => self.service(),
            0 => self.named(false).unwrap_or_else(|| "10.0.0.9".to_owned()),
            1 => {
                let length = self.choices.byte() % 33;
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                format!("{}/{length}", std::net::Ipv4Addr::from_bits(self.choices.long() & mask))
            }
            2 => {
                let length = self.choices.byte() % 129;
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                let bits = u128::from(self.choices.long());
                format!("{}/{length}", std::net::Ipv6Addr::from_bits((bits << 96 | bits << 40 | bits) & mask))
            }
            _ => self.choices.word_of(&ADDRESSES).to_owned(),
        }
    }

    /// A Kubernetes service, or rarely one that nobody knows.
    fn service(&mut self) -> String {
        if self.choices.once_in(64) {
            return "service nobody".to_owned();
        }
        let (name, _) = SERVICES.get(self.choices.below(SERVICES.len())).copied().unwrap_or_default();
        format!("service {}", name.strip_prefix("default/").unwrap_or(name))
    }

    /// A list in one of the ways in which lists are written.
    fn list(&mut self, item: impl Fn(&mut Self) -> String) -> String {
        let count = self.few().max(1);
        let items: Vec<String> = (0..count).map(|_| item(self)).collect();
        match self.choices.below(4) {
            3 => format!("[\n{},\n]", items.join(",\n")),
            _ => items.join(", "),
        }
    }

    /// A set that was declared, or rarely one that was not.
    fn named(&mut self, ports: bool) -> Option<String> {
        if self.choices.once_in(64) {
            return Some("nowhere".to_owned());
        }
        let fitting: Vec<&String> =
            self.sets.iter().filter(|(_, holds)| *holds == ports).map(|(name, _)| name).collect();
        let index = self.choices.below(fitting.len());
        fitting.get(index).map(|name| (*name).clone())
    }

    fn mesh(&mut self) {
        let name = self.name('m');
        self.workloads.clear();
        self.line(&format!("mesh {name} {{"));
        for _ in 0..self.few().max(1) {
            self.workload();
        }
        for _ in 0..self.few() {
            self.in_mesh();
        }
        self.line("}");
    }

    fn in_mesh(&mut self) {
        match self.choices.below(10) {
            0 => self.group(),
            1 | 2 => {
                let members = self.list(|writer| writer.workload_name());
                self.line(&format!("for {members} {{"));
                for _ in 0..self.few() {
                    self.common();
                }
                self.line("}");
            }
            3 => self.accelerate(),
            4 if self.choices.once_in(4) => self.test(),
            5 => self.set(),
            _ => self.common(),
        }
    }

    fn workload(&mut self) {
        let name = self.name('w');
        self.line(&format!("workload {name} {{"));
        self.selector();
        for _ in 0..self.few().saturating_sub(1) {
            self.common();
        }
        self.line("}");
        self.workloads.push(name);
    }

    /// A selector that no other workload has, or rarely one that overlaps.
    fn selector(&mut self) {
        let n = if self.choices.once_in(16) { 1 } else { self.names };
        let text = match self.choices.below(10) {
            0 => format!("address 10.42.{}.0/24, fd00:42:{n:x}::/64", n % 256),
            1 => format!("address 10.42.1.{}", n % 256),
            2 => format!("address 10.43.{}.0/24\naddress 10.44.{}.0/24", n % 256, n % 256),
            3 => format!("cgroup \"/system.slice/{n}.service\""),
            4 => format!("cgroup \"/system.slice/{n}.service/inner\""),
            5 => format!("label app = v{n}, u{n}\nnamespace shop\nnot label tier = debug"),
            6 => format!("label app = v{n}"),
            7 => format!("namespace-label mesh/in = v{n}\nnot namespace-label mesh/out"),
            8 => format!("label app = v{n}\nnamespace-label team = a, b"),
            _ => format!("namespace n{n}\nservice-account x{n}"),
        };
        self.line(&text);
    }

    fn workload_name(&mut self) -> String {
        let index = self.choices.below(self.workloads.len());
        self.workloads.get(index).cloned().unwrap_or_else(|| "nobody".to_owned())
    }

    fn group(&mut self) {
        let members = self.list(|writer| writer.workload_name());
        let name = self.name('g');
        self.line(&format!("group {name} = {members}"));
        self.workloads.push(name);
    }

    fn accelerate(&mut self) {
        let who = match self.choices.below(4) {
            0 => "local".to_owned(),
            1 => format!("{} <-> {}", self.workload_name(), self.workload_name()),
            2 => format!("local for {}", self.workload_name()),
            _ => "all".to_owned(),
        };
        let ports = if self.choices.once_in(2) { format!(" tcp{}", self.port_list()) } else { String::new() };
        self.line(&format!("accelerate {who}{ports}"));
    }

    fn test(&mut self) {
        self.line("test \"t\" {");
        let (name, port) = (self.workload_name(), self.choices.word_of(&FLOW_PORTS));
        let ends = ["10.0.0.1", "fd00:42:1::7", "127.0.0.1", "8.8.8.8", "service shop/cart", "node"];
        let address = self.choices.word_of(&ends);
        let verdict = self.choices.word_of(&["excluded", "redirected", "denied", "accelerated"]);
        self.line(&format!("{name} -> {address} tcp {port} is {verdict}"));
        self.line("}");
    }
}
