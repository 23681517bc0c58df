//! Small programs for tests of everything behind the parser, built without it.

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_bpf::image::IdRange;
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::Selector;

use crate::hir::{
    Acceleration, AccelerationForm, AddressItem, Event, Exempt, Exempted, Group, Level, List, Mesh, MeshId,
    NameId, On, PortItem, Ports, Program, Rule, Scope, ScopeId, WhoItem, Workload, WorkloadId,
};
use crate::source::{Sources, Span};

/// Builds a program statement by statement. Every statement has a span of its own.
pub(crate) struct Fixture {
    pub(crate) program: Program,
    /// Whether rules with the same ports or addresses name them by one set.
    pub(crate) sets: bool,
    next: u32,
}

pub(crate) fn prefix(text: &str) -> Prefix {
    match text.parse::<ipnet::IpNet>() {
        Ok(net) => net.into(),
        Err(_) => Prefix::host(text.parse().unwrap()),
    }
}

impl Fixture {
    /// One mesh `m` with these workloads.
    pub(crate) fn new(workloads: &[&str]) -> Self {
        let mut fixture = Self { program: Program::default(), sets: false, next: 0 };
        let span = fixture.span();
        let all: Vec<WorkloadId> = (0..u32::try_from(workloads.len()).unwrap()).map(WorkloadId).collect();
        fixture.program.meshes.push(Mesh { name: "m".into(), span });
        fixture.scope(Level::Top, String::new(), all.clone());
        fixture.scope(Level::Mesh, "m".into(), all);
        for (index, name) in (0u32..).zip(workloads) {
            fixture.program.workloads.push(Workload {
                mesh: MeshId(0),
                name: (*name).into(),
                selector: Selector {
                    addresses: vec![Prefix::V4 { bits: 0x0b00_0000 + (index << 8), len: 24 }],
                    ..Selector::default()
                },
                span,
                selector_spans: vec![span],
            });
        }
        fixture
    }

    fn span(&mut self) -> Span {
        let (file, _) = Sources::default().add("test.mesh", Vec::new());
        self.next += 10;
        Span { file, start: self.next, end: self.next + 9 }
    }

    fn scope(&mut self, level: Level, name: String, members: Vec<WorkloadId>) -> ScopeId {
        let scope = Scope { level, name, members };
        let index = self.program.scopes.iter().position(|other| *other == scope).unwrap_or_else(|| {
            self.program.scopes.push(scope);
            self.program.scopes.len() - 1
        });
        ScopeId(u32::try_from(index).unwrap())
    }

    pub(crate) fn workload(&self, name: &str) -> WorkloadId {
        let index = self.program.workloads.iter().position(|workload| workload.name == name).unwrap();
        WorkloadId(u32::try_from(index).unwrap())
    }

    fn members(&self, names: &str) -> Vec<WorkloadId> {
        let mut members: Vec<WorkloadId> = names.split(',').map(|name| self.workload(name)).collect();
        members.sort();
        members
    }

    /// A scope by its name: nothing, `m`, `m/cart`, or `m+cart,batch` for a `for`.
    pub(crate) fn scope_id(&mut self, name: &str) -> ScopeId {
        match name.split_once(['+', '/']) {
            None if name.is_empty() => ScopeId(0),
            None => ScopeId(1),
            Some((_, names)) => {
                let level = if name.contains('+') { Level::For } else { Level::Workload };
                let members = self.members(names);
                self.scope(level, name.into(), members)
            }
        }
    }

    /// `[always ]VERB DIRECTION [PROTOCOL [not] PORTS] [to|from ADDRESSES] [as uid|gid|cgroup ITEMS [and …]]
    /// [-> PORT [transparent]]`, lists with commas and without blanks.
    pub(crate) fn rule(&mut self, scope: &str, text: &str) -> &mut Self {
        let scope = self.scope_id(scope);
        let mut words = text.split_whitespace().peekable();
        let always = words.next_if_eq(&"always").is_some();
        let verb = words.next().unwrap();
        let direction = match words.next().unwrap() {
            "outbound" => Direction::Outbound,
            _ => Direction::Inbound,
        };
        let span = self.span();
        let ports = port_items(&mut words, verb == "redirect", || self.span());
        let (mut addresses, mut node) = (Vec::new(), None);
        if words.next_if(|word| matches!(*word, "to" | "from")).is_some() {
            for text in words.next().unwrap().split(',') {
                let at = self.span();
                if text == "node" {
                    node = Some(at);
                } else {
                    addresses.push(AddressItem { prefix: prefix(text), span: at, by: NameId::WRITTEN_OUT });
                }
            }
        }
        let mut who = vec![WhoItem::EVERYBODY];
        while words.next_if(|word| matches!(*word, "as" | "and")).is_some() {
            let (kind, items) = (words.next().unwrap(), words.next().unwrap());
            let items: Vec<(&str, Span)> = items.split(',').map(|item| (item, self.span())).collect();
            let each = |one: WhoItem| {
                items.iter().map(move |&(item, span)| {
                    let mut one = one.clone();
                    let side = match kind {
                        "uid" => (one.who.uid = Some(ids(item)), 0).1,
                        "gid" => (one.who.gid = Some(ids(item)), 1).1,
                        _ => (one.who.cgroup = Some(item.into()), 2).1,
                    };
                    one.spans[side] = Some(span);
                    one
                })
            };
            who = who.into_iter().flat_map(each).collect();
        }
        who.retain(|one| !one.who.is_everybody());
        let verdict = match (verb, words.next()) {
            ("redirect", Some("->")) => Verdict::Redirected {
                port: words.next().unwrap().parse().unwrap(),
                transparent: words.next() == Some("transparent"),
            },
            ("exclude", None) => Verdict::Excluded,
            ("deny", None) => Verdict::Denied,
            other => panic!("{other:?} in {text}"),
        };
        let addresses_are_none = addresses.is_empty();
        let (mut ports, mut addresses): (List<PortItem>, List<AddressItem>) =
            (ports.into(), addresses.into());
        for known in self.program.rules.iter().filter(|_| self.sets) {
            let says = |item: &PortItem| (item.protocol, item.ports.clone());
            if known.ports.iter().map(says).eq(ports.iter().map(says)) {
                ports = known.ports.clone();
            }
            let prefix = |item: &AddressItem| item.prefix;
            if known.addresses.iter().map(prefix).eq(addresses.iter().map(prefix)) {
                addresses = known.addresses.clone();
            }
        }
        if let Some(at) = node {
            let mut there = if who.is_empty() { vec![WhoItem::EVERYBODY] } else { who.clone() };
            for one in &mut there {
                (one.who.node, one.spans[3]) = (true, Some(at));
            }
            let (ports, addresses, who) = (ports.clone(), List::default(), there.into());
            let rule = Rule { scope, always, direction, verdict, ports, addresses, who, span };
            self.program.rules.push(rule);
            if addresses_are_none {
                return self;
            }
        }
        let who = who.into();
        self.program.rules.push(Rule { scope, always, direction, verdict, ports, addresses, who, span });
        self
    }

    /// `uid 1-9`, `gid 7` or `cgroup /x`.
    pub(crate) fn exempt(&mut self, scope: &str, text: &str) -> &mut Self {
        let scope = self.scope_id(scope);
        let (kind, value) = text.split_once(' ').unwrap();
        let who = match kind {
            "uid" => Exempted::Uid(ids(value)),
            "gid" => Exempted::Gid(ids(value)),
            "interface" => Exempted::Interface(value.into()),
            _ => Exempted::Cgroup(value.into()),
        };
        let span = self.span();
        self.program.exempts.push(Exempt { scope, who, span });
        self
    }

    pub(crate) fn on(&mut self, scope: &str, event: Event, refuse: bool) -> &mut Self {
        let scope = self.scope_id(scope);
        let span = self.span();
        self.program.ons.push(On { scope, event, refuse, span });
        self
    }

    pub(crate) fn group(&mut self, name: &str, members: &str) -> &mut Self {
        let (members, span) = (self.members(members), self.span());
        self.program.groups.push(Group { mesh: MeshId(0), name: name.into(), members, span });
        self
    }

    /// `local A,B` or `A,B <-> C`, for these TCP ports.
    pub(crate) fn accelerate(&mut self, form: &str, ports: Ports) -> &mut Self {
        let form = match form.split_once(" <-> ") {
            Some((one, other)) => AccelerationForm::Between(self.members(one), self.members(other)),
            None => AccelerationForm::Local(self.members(form.strip_prefix("local ").unwrap())),
        };
        let span = self.span();
        let ports = vec![PortItem { protocol: Protocol::Tcp, ports, span, by: NameId::WRITTEN_OUT }];
        self.program.accelerations.push(Acceleration { mesh: MeshId(0), form, ports, span });
        self
    }
}

fn ids(text: &str) -> IdRange {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    IdRange { first: first.parse().unwrap(), last: last.parse().unwrap() }
}

fn port_items<'t>(
    words: &mut std::iter::Peekable<impl Iterator<Item = &'t str>>,
    redirect: bool,
    mut span: impl FnMut() -> Span,
) -> Vec<PortItem> {
    let protocols = match words.next_if(|word| matches!(*word, "tcp" | "udp" | "any")) {
        Some("tcp") => vec![Protocol::Tcp],
        Some("udp") => vec![Protocol::Udp],
        None if redirect => vec![Protocol::Tcp],
        _ => Protocol::ALL.to_vec(),
    };
    let not = words.next_if_eq(&"not").is_some();
    let list = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let ranges: Vec<PortRange> = list.into_iter().flat_map(|list| list.split(',')).map(range).collect();
    let ports: Vec<Ports> = if not {
        vec![Ports::Not(ranges.into_iter().collect::<PortSet>())]
    } else if ranges.is_empty() {
        vec![Ports::All]
    } else {
        ranges.into_iter().map(Ports::Range).collect()
    };
    // An item of both protocols has its words once.
    let ports: Vec<(Ports, Span)> = ports.into_iter().map(|ports| (ports, span())).collect();
    let item = |protocol| {
        ports.iter().map(move |(ports, span)| PortItem {
            protocol,
            ports: ports.clone(),
            span: *span,
            by: NameId::WRITTEN_OUT,
        })
    };
    protocols.into_iter().flat_map(item).collect()
}

fn range(text: &str) -> PortRange {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    PortRange { first: first.parse().unwrap(), last: last.parse().unwrap() }
}
