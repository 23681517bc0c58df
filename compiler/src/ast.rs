//! The syntax tree: what a file says, with a span on every node.
//!
//! Literals are values here; names are still text. Statements are kept by kind and not by position,
//! because their order never means anything. A literal that was wrong is left out, and its diagnostic
//! says so; the statement around it stays, so that the names in it are still checked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::image::IdRange;
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;

use crate::diag::Code;
use crate::source::{FileId, Span};

/// A value and the words that say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// The words.
    pub span: Span,
}

/// A name as text.
pub type Name = Spanned<String>;

/// One file.
#[derive(Clone, Debug)]
pub struct File {
    /// Which.
    pub id: FileId,
    /// `import` statements.
    pub imports: Vec<Import>,
    /// Sets for all meshes.
    pub sets: Vec<Set>,
    /// Rules and the like that hold for all meshes.
    pub body: Body,
    /// Blocks of meshes.
    pub meshes: Vec<Mesh>,
    /// `# meshc: allow(…)` comments.
    pub allows: Vec<Allow>,
    /// `# meshc: library`: it is there for others to import.
    pub library: bool,
    /// Names whose declaration could not be read. They exist, so a use of one is no second mistake.
    pub broken: Vec<Name>,
    /// Words in statements that could not be read: a name among them is not unused.
    pub mentioned: BTreeSet<String>,
    /// What else could not be read.
    pub lost: Lost,
}

/// What could not be read, so that its absence is no further mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// An `exempt`, or one of its items.
    pub exempt: bool,
    /// A statement of any kind, or a part of one.
    pub statement: bool,
}

impl File {
    /// A file without statements.
    #[must_use]
    pub const fn empty(id: FileId) -> Self {
        Self {
            id,
            imports: Vec::new(),
            sets: Vec::new(),
            body: Body { rules: Vec::new(), exempts: Vec::new(), ons: Vec::new() },
            meshes: Vec::new(),
            allows: Vec::new(),
            library: false,
            broken: Vec::new(),
            mentioned: BTreeSet::new(),
            lost: Lost { exempt: false, statement: false },
        }
    }

    /// Every use of a Kubernetes service for its addresses.
    pub fn services(&self) -> impl Iterator<Item = &Name> {
        let bodies = self.meshes.iter().flat_map(|mesh| {
            let inner = mesh.workloads.iter().map(|workload| &workload.body);
            inner.chain(mesh.fors.iter().map(|block| &block.body)).chain([&mesh.body])
        });
        let rules = bodies.chain([&self.body]).flat_map(|body| &body.rules);
        let sets = self.meshes.iter().flat_map(|mesh| &mesh.sets).chain(&self.sets);
        let lines = self.meshes.iter().flat_map(|mesh| &mesh.tests).flat_map(|test| &test.lines);
        let of_rules = rules.flat_map(|rule| rule.addresses.iter().flatten()).filter_map(|item| match item {
            AddressItem::Service(name) => Some(name),
            AddressItem::Prefix(_) | AddressItem::Name(_) | AddressItem::Node(_) => None,
        });
        let of_sets = sets.flat_map(|set| &set.items).filter_map(|item| match item {
            SetItem::Service(name) => Some(name),
            SetItem::Ports(_) | SetItem::Address(_) | SetItem::Name(_) => None,
        });
        let of_lines = lines.flat_map(|line| [&line.flow.from, &line.flow.to]).filter_map(|end| match end {
            Endpoint::Service(name) => Some(name),
            Endpoint::Address(_) | Endpoint::Name(_) | Endpoint::Node(_) => None,
        });
        of_rules.chain(of_sets).chain(of_lines)
    }
}

/// The statements that may stand in every scope.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// `redirect`, `exclude` and `deny`.
    pub rules: Vec<Rule>,
    /// `exempt`.
    pub exempts: Vec<Exempt>,
    /// `on`.
    pub ons: Vec<On>,
}

impl Body {
    /// Whether nothing is written in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.exempts.is_empty() && self.ons.is_empty()
    }
}

/// `import "…"`
#[derive(Clone, Debug)]
pub struct Import {
    /// As written, relative to the file that says it.
    pub path: Spanned<String>,
    /// The whole statement.
    pub span: Span,
}

/// `set NAME = …`
#[derive(Clone, Debug)]
pub struct Set {
    /// Its name.
    pub name: Name,
    /// What it stands for. Whether that is ports or addresses is not known before names are.
    pub items: Vec<SetItem>,
    /// The whole statement.
    pub span: Span,
}

/// An item of a set.
#[derive(Clone, Debug)]
pub enum SetItem {
    /// `tcp 53, 54`
    Ports(ProtocolPorts),
    /// An address or a prefix.
    Address(Spanned<Prefix>),
    /// A Kubernetes service, for its addresses: `shop/cart`. Its words are `service` and the name.
    Service(Name),
    /// Another set, or a workload or group for its addresses.
    Name(Name),
}

/// Ports of one protocol.
#[derive(Clone, Debug)]
pub struct ProtocolPorts {
    /// Which protocol.
    pub protocol: Spanned<ProtocolWord>,
    /// Which of its ports.
    pub ports: PortChoice,
    /// From the protocol to the last port.
    pub span: Span,
}

/// The word before ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolWord {
    /// `tcp` or `udp`
    One(Protocol),
    /// `any`: both.
    Any,
}

/// Which ports.
#[derive(Clone, Debug)]
pub enum PortChoice {
    /// All of them: none are written.
    All,
    /// These; each is a box of its own.
    Only(Vec<Spanned<PortRange>>),
    /// All but these, which is one box. The span begins at `not`.
    Not(Vec<Spanned<PortRange>>, Span),
}

/// The ports of a rule.
#[derive(Clone, Debug)]
pub enum RulePorts {
    /// Of one protocol.
    Protocol(ProtocolPorts),
    /// Sets.
    Sets(Vec<Name>),
}

/// An item of `to`, `from` or `address`.
#[derive(Clone, Debug)]
pub enum AddressItem {
    /// An address or a prefix.
    Prefix(Spanned<Prefix>),
    /// A Kubernetes service, with its namespace: `shop/cart`. Its words are `service` and the name.
    Service(Name),
    /// A set, a workload or a group.
    Name(Name),
    /// `node`: whatever addresses the node has.
    Node(Span),
}

/// `redirect`, `exclude` or `deny`
#[derive(Clone, Debug)]
pub struct Rule {
    /// `always`
    pub always: Option<Span>,
    /// What shall happen.
    pub verb: Spanned<Verb>,
    /// Which connections.
    pub direction: Spanned<Direction>,
    /// Which ports; none means all.
    pub ports: Option<RulePorts>,
    /// Which addresses; none means all. Some but empty: all that were written were wrong.
    pub addresses: Option<Vec<AddressItem>>,
    /// Whose connections; none means everybody's. Some but empty: all of a kind that were written were wrong.
    pub who: Option<Vec<Spanned<Identity>>>,
    /// The whole statement.
    pub span: Span,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `redirect … -> PORT [transparent]`
    Redirect {
        /// The sidecar's port; none where what was written was no port.
        port: Option<u16>,
        /// `transparent`
        transparent: bool,
    },
    /// `exclude`
    Exclude,
    /// `deny`
    Deny,
}

/// `exempt …`
#[derive(Clone, Debug)]
pub struct Exempt {
    /// Its items.
    pub items: Vec<Spanned<Identity>>,
    /// The whole statement.
    pub span: Span,
}

/// Who a process is, or what a flow goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Real user ids.
    Uid(IdRange),
    /// Real group ids.
    Gid(IdRange),
    /// An absolute cgroup path.
    Cgroup(String),
    /// An interface, or with `*` at the end all whose names begin so.
    Interface(String),
}

/// `on …`
#[derive(Clone, Debug)]
pub struct On {
    /// What it answers to.
    pub event: Spanned<Event>,
    /// `refuse` rather than `pass` or `start`.
    pub refuse: bool,
    /// The whole statement.
    pub span: Span,
}

/// What `on` can answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `missing-sidecar`
    MissingSidecar,
    /// `failed-attach`
    FailedAttach,
}

/// `mesh NAME { … }`
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Its name; none where the head could not be read.
    pub name: Option<Name>,
    /// Rules and the like that hold for all its workloads.
    pub body: Body,
    /// Sets for this mesh.
    pub sets: Vec<Set>,
    /// Workloads.
    pub workloads: Vec<Workload>,
    /// Groups.
    pub groups: Vec<Group>,
    /// `for` blocks.
    pub fors: Vec<For>,
    /// `accelerate` statements.
    pub accelerations: Vec<Accelerate>,
    /// `test` blocks.
    pub tests: Vec<Test>,
    /// Whether something in the block could not be read, so that what is absent may have been meant.
    pub damaged: bool,
    /// From `mesh` to the `{`.
    pub span: Span,
}

/// `workload NAME { … }`
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name; none where the head could not be read.
    pub name: Option<Name>,
    /// Selectors.
    pub selectors: Vec<Selector>,
    /// Rules and the like for this workload.
    pub body: Body,
    /// Whether something in the block could not be read.
    pub damaged: bool,
    /// From `workload` to the `{`.
    pub span: Span,
}

/// One selector line.
#[derive(Clone, Debug)]
pub struct Selector {
    /// `not`
    pub not: Option<Span>,
    /// What it looks at.
    pub subject: Subject,
    /// The whole line.
    pub span: Span,
}

/// What a selector looks at.
#[derive(Clone, Debug)]
pub enum Subject {
    /// `namespace`
    Namespace(Vec<Name>),
    /// `label KEY [= …]`
    Label(Name, Option<Vec<Name>>),
    /// `namespace-label KEY [= …]`
    NamespaceLabel(Name, Option<Vec<Name>>),
    /// `service-account`
    ServiceAccount(Vec<Name>),
    /// `pod`
    Pod(Vec<Name>),
    /// `address`
    Address(Vec<AddressItem>),
    /// `cgroup`
    Cgroup(Vec<Spanned<String>>),
    /// `any`
    Any,
}

/// `group NAME = …`
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: Name,
    /// Workloads and groups.
    pub members: Vec<Name>,
    /// The whole statement.
    pub span: Span,
}

/// `for NAMES { … }`
#[derive(Clone, Debug)]
pub struct For {
    /// Workloads and groups.
    pub members: Vec<Name>,
    /// Rules and the like for them.
    pub body: Body,
    /// From `for` to the `{`.
    pub span: Span,
}

/// `accelerate …`
#[derive(Clone, Debug)]
pub struct Accelerate {
    /// Between whom.
    pub form: AccelerateForm,
    /// Which ports; none means all.
    pub ports: Option<RulePorts>,
    /// The whole statement.
    pub span: Span,
}

/// Between whom.
#[derive(Clone, Debug)]
pub enum AccelerateForm {
    /// `local [for NAMES]`
    Local(Option<Vec<Name>>),
    /// `NAME <-> NAME`
    Pair(Name, Name),
    /// `within NAME`
    Within(Name),
    /// `all`
    All,
}

/// `test "…" { … }`
#[derive(Clone, Debug)]
pub struct Test {
    /// Its name; none where the head could not be read.
    pub name: Option<Spanned<String>>,
    /// Its lines.
    pub lines: Vec<Expect>,
    /// From `test` to the `{`.
    pub span: Span,
}

/// One line of a test.
#[derive(Clone, Debug)]
pub struct Expect {
    /// The flow.
    pub flow: Flow,
    /// What must come out.
    pub expected: Spanned<Expected>,
    /// The whole line.
    pub span: Span,
}

/// What a test line expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `redirected [PORT]`
    Redirected(Option<u16>),
    /// `excluded`
    Excluded,
    /// `denied`
    Denied,
    /// `accelerated` (true) or `not accelerated`
    Accelerated(bool),
}

/// A flow, as tests and `explain` name it.
#[derive(Clone, Debug)]
pub struct Flow {
    /// `inbound`: with workloads at both ends, the right one's decision is asked for.
    pub inbound: Option<Span>,
    /// Who opens it.
    pub from: Endpoint,
    /// Who is reached.
    pub to: Endpoint,
    /// The protocol.
    pub protocol: Protocol,
    /// The port that is dialled.
    pub port: u16,
    /// `as …` and `by …`; each kind at most once. Ranges are single ids.
    pub identity: Vec<Spanned<Identity>>,
    /// The whole flow.
    pub span: Span,
}

/// A flow as `explain` is asked about it: its ends are whoever other commands name.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `inbound`: with members at both ends, the right one's decision is asked for.
    pub inbound: Option<Span>,
    /// Who opens it.
    pub from: AskedEnd,
    /// Who is reached.
    pub to: AskedEnd,
    /// The protocol; TCP where it is not said.
    pub protocol: Protocol,
    /// The port that is dialled.
    pub port: u16,
    /// `as …` and `by …`; each kind at most once. Ranges are single ids.
    pub identity: Vec<Spanned<Identity>>,
    /// The whole flow.
    pub span: Span,
}

/// One end of a flow that is asked about.
#[derive(Clone, Debug)]
pub enum AskedEnd {
    /// An address.
    Address(Spanned<IpAddr>),
    /// A Kubernetes service, with its namespace: `shop/cart`.
    Service(Name),
    /// `catalog`, `shop/catalog`, `catalog-7d9f`, `pod catalog`: what it is, where that is said.
    Name(Option<AskedKind>, Name),
    /// `node`: whatever addresses the node has.
    Node(Span),
}

impl AskedEnd {
    /// Its words.
    #[must_use]
    pub const fn span(&self) -> Span {
        match self {
            Self::Address(address) => address.span,
            Self::Service(name) | Self::Name(_, name) => name.span,
            Self::Node(span) => *span,
        }
    }
}

/// What a name at the end of a flow is said to be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedKind {
    /// `workload`
    Workload,
    /// `pod`
    Pod,
}

/// One end of a flow.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// An address.
    Address(Spanned<IpAddr>),
    /// A Kubernetes service, with its namespace: `shop/cart`.
    Service(Name),
    /// A workload.
    Name(Name),
    /// `node`: whatever addresses the node has.
    Node(Span),
}

impl Endpoint {
    /// Its words.
    #[must_use]
    pub const fn span(&self) -> Span {
        match self {
            Self::Address(address) => address.span,
            Self::Service(name) | Self::Name(name) => name.span,
            Self::Node(span) => *span,
        }
    }
}

/// `# meshc: allow(code, code)`
#[derive(Clone, Debug)]
pub struct Allow {
    /// The codes, with their words.
    pub codes: Vec<Spanned<Code>>,
    /// The statement below, with its block; none where no statement follows.
    pub scope: Option<Span>,
    /// The comment.
    pub span: Span,
}
