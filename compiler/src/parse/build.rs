//! Concrete tree of one statement to syntax tree. It does not look at other statements.

use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::ports::PortRange;
use mesh_grammar::Rule;
use pest::iterators::{Pair, Pairs};

use super::errors::Errors;
use super::literal::{self, Bad};
use crate::ast::{
    Accelerate, AccelerateForm, AddressItem, Asked, AskedEnd, AskedKind, Endpoint, Event, Exempt, Expect,
    Expected, Flow, Group, Identity, Import, Name, On, PortChoice, ProtocolPorts, ProtocolWord, RulePorts,
    Selector, Set, SetItem, Spanned, Subject, Verb,
};
use crate::diag::{Code, Diagnostic};
use crate::source::{FileId, Span};

/// One statement, or the head of a block.
#[derive(Clone, Debug)]
pub(super) enum Statement {
    Import(Import),
    Set(Set),
    Exempt(Exempt),
    Rule(crate::ast::Rule),
    On(On),
    Mesh(Name),
    Workload(Name),
    For(Vec<Name>),
    Test(Spanned<String>),
    Selector(Selector),
    Group(Group),
    Accelerate(Accelerate),
    Expect(Expect),
    Asked(Asked),
}

/// Reads the concrete tree of one statement.
pub(super) struct Builder<'e> {
    pub(super) file: FileId,
    /// Where the statement begins in the file.
    pub(super) base: u32,
    pub(super) errors: &'e mut Errors,
}

impl Builder<'_> {
    /// The statement; `None` where a part without which it means nothing was wrong, which has then been
    /// said.
    pub(super) fn statement(&mut self, pair: Pair<'_, Rule>) -> Option<Statement> {
        let span = self.span_of(&pair);
        let rule = pair.as_rule();
        let mut parts = pair.into_inner();
        match rule {
            Rule::import_statement => self.import(parts, span),
            Rule::set_statement => self.set(parts, span),
            Rule::exempt_statement => Some(Statement::Exempt(self.exempt(parts, span))),
            Rule::rule_statement => self.rule(parts, span),
            Rule::on_statement => self.on(parts, span),
            Rule::mesh_head => self.names(parts).pop().map(Statement::Mesh),
            Rule::workload_head => self.names(parts).pop().map(Statement::Workload),
            Rule::for_head => Some(Statement::For(self.names(parts))),
            Rule::test_head => parts.find_map(|part| self.string(&part)).map(Statement::Test),
            Rule::selector_statement => self.selector(parts, span),
            Rule::group_statement => self.group(parts, span),
            Rule::accelerate_statement => self.accelerate(parts, span),
            Rule::expect_statement => self.expect(parts, span),
            Rule::flow_statement => self.asked(parts, span).map(Statement::Asked),
            _ => None,
        }
    }

    fn import(&self, mut parts: Pairs<'_, Rule>, span: Span) -> Option<Statement> {
        let path = parts.find_map(|part| self.string(&part))?;
        Some(Statement::Import(Import { path, span }))
    }

    fn set(&mut self, parts: Pairs<'_, Rule>, span: Span) -> Option<Statement> {
        let mut name = None;
        let mut items = Vec::new();
        let mut word = span;
        for part in parts {
            match part.as_rule() {
                Rule::kw_service => word = self.token(&part),
                Rule::service => items.extend(self.service(&part, word).map(SetItem::Service)),
                Rule::kw_node => {
                    let span = self.token(&part);
                    self.errors.push(|| node_in_set(span));
                }
                Rule::name if name.is_none() => name = Some(self.name(&part)),
                Rule::name => items.push(SetItem::Name(self.name(&part))),
                Rule::address => items.extend(self.literal(&part, literal::prefix).map(SetItem::Address)),
                Rule::protocol_ports => items.extend(self.protocol_ports(part).map(SetItem::Ports)),
                _ => {}
            }
        }
        Some(Statement::Set(Set { name: name?, items, span }))
    }

    fn exempt(&mut self, parts: Pairs<'_, Rule>, span: Span) -> Exempt {
        let mut kind = Rule::kw_uid;
        let mut items = Vec::new();
        for part in parts {
            match part.as_rule() {
                rule @ (Rule::kw_uid | Rule::kw_gid | Rule::kw_interface) => kind = rule,
                Rule::id | Rule::string => items.extend(self.identity_item(&part, kind)),
                _ => {}
            }
        }
        Exempt { items, span }
    }

    fn identity_item(&mut self, part: &Pair<'_, Rule>, kind: Rule) -> Option<Spanned<Identity>> {
        if kind == Rule::kw_interface {
            let Spanned { value, span } = self.value(part);
            let Spanned { value, span } = self.checked(literal::interfaces(&value), span)?;
            return Some(Spanned { value: Identity::Interface(value), span });
        }
        if part.as_rule() == Rule::string {
            let Spanned { value, span } = self.path(part)?;
            return Some(Spanned { value: Identity::Cgroup(value), span });
        }
        let Spanned { value: range, span } = self.literal(part, literal::ids)?;
        let value = if kind == Rule::kw_gid { Identity::Gid(range) } else { Identity::Uid(range) };
        Some(Spanned { value, span })
    }

    fn rule(&mut self, parts: Pairs<'_, Rule>, span: Span) -> Option<Statement> {
        let mut rule = RuleParts::default();
        let leads_nowhere = !parts.clone().any(|part| part.as_rule() == Rule::arrow);
        for part in parts {
            let at = self.span_of(&part);
            let is_redirect = rule.verb.is_some_and(|(verb, _)| verb == Rule::kw_redirect);
            match part.as_rule() {
                // `redirect outbound to 15001`: the sidecar's port, where an address would stand.
                Rule::addresses
                    if is_redirect && leads_nowhere && literal::port(part.as_str().trim()).is_ok() =>
                {
                    self.errors.push(|| target_as_address(at, part.as_str().trim()));
                    return None;
                }
                Rule::kw_always => rule.always = Some(at),
                word @ (Rule::kw_redirect | Rule::kw_exclude | Rule::kw_deny) => rule.verb = Some((word, at)),
                Rule::kw_outbound => rule.direction = Some(Spanned { value: Direction::Outbound, span: at }),
                Rule::kw_inbound => rule.direction = Some(Spanned { value: Direction::Inbound, span: at }),
                Rule::ports => rule.ports = self.rule_ports(part),
                word @ (Rule::kw_to | Rule::kw_from) => rule.preposition = Some((word, at)),
                Rule::addresses => rule.addresses = Some(self.addresses(part)),
                Rule::kw_as => rule.named = Some(at),
                Rule::who => {
                    rule.kinds.extend(kind_of(&part).map(|kind| Spanned { value: kind, span: at }));
                    let items = self.who(part);
                    rule.without |= items.is_empty();
                    rule.who.get_or_insert_default().extend(items);
                }
                Rule::arrow => rule.arrow = Some(at),
                Rule::port => rule.port = Some(self.literal(&part, literal::port).ok_or(at)),
                Rule::kw_transparent => rule.transparent = Some(at),
                _ => {}
            }
        }
        let direction = rule.direction?;
        self.check_preposition(&rule, direction);
        self.check_who(&rule, direction);
        let verb = self.verb(&rule)?;
        let RuleParts { always, ports, addresses, mut who, .. } = rule;
        if rule.without {
            who = Some(Vec::new());
        }
        Some(Statement::Rule(crate::ast::Rule { always, verb, direction, ports, addresses, who, span }))
    }

    /// `to` goes with `outbound`, `from` with `inbound`.
    fn check_preposition(&mut self, rule: &RuleParts, direction: Spanned<Direction>) {
        let Some((word, at)) = rule.preposition else { return };
        let fits = (word == Rule::kw_to) == (direction.value == Direction::Outbound);
        if !fits {
            let right = direction.value.preposition();
            let wrong = if right == "to" { "from" } else { "to" };
            self.errors.push(|| {
                Diagnostic::new(Code::Syntax, format!("`{wrong}` does not go with `{}`", direction.value))
                    .label(at, format!("`{right}` belongs here"))
                    .also(direction.span, format!("{} connections", direction.value))
                    .help(format!("write `{right}`"))
            });
        }
    }

    /// `as` goes with `outbound`, and names each kind once.
    fn check_who(&mut self, rule: &RuleParts, direction: Spanned<Direction>) {
        if let (Some(at), Direction::Inbound) = (rule.named, direction.value) {
            self.errors.push(|| {
                Diagnostic::new(Code::WrongKind, "`as` does not go with `inbound`")
                    .label(at, "nobody of this workload opens what it receives")
                    .also(direction.span, "connections that it receives")
                    .help("leave it out, or write `outbound`")
            });
        }
        for (i, kind) in rule.kinds.iter().enumerate() {
            let earlier = rule.kinds.iter().take(i).find(|other| other.value == kind.value);
            if let Some(earlier) = earlier {
                let word = mesh_grammar::symbol::symbol(kind.value);
                self.errors.push(|| {
                    Diagnostic::new(Code::Syntax, format!("{word} stands twice after `as`"))
                        .label(kind.span, "a process would have to be in both")
                        .also(earlier.span, "the first")
                        .help("write one list, with commas: `as uid 1000, 2000-2999`")
                });
            }
        }
    }

    /// The items of one kind.
    fn who(&mut self, pair: Pair<'_, Rule>) -> Vec<Spanned<Identity>> {
        let kind = kind_of(&pair).unwrap_or(Rule::kw_uid);
        let items = pair.into_inner().filter(|part| matches!(part.as_rule(), Rule::id | Rule::string));
        items.filter_map(|part| self.identity_item(&part, kind)).collect()
    }

    /// `->` goes with `redirect` and only with it.
    fn verb(&mut self, rule: &RuleParts) -> Option<Spanned<Verb>> {
        let (word, span) = rule.verb?;
        let value = match word {
            Rule::kw_redirect => {
                let transparent = rule.transparent.is_some();
                let port = rule.port.and_then(Result::ok).map(|port| port.value);
                if rule.arrow.is_none() {
                    self.errors.push(|| no_port(span));
                }
                Verb::Redirect { port, transparent }
            }
            Rule::kw_deny => Verb::Deny,
            _ => Verb::Exclude,
        };
        if let (Some(arrow), true) = (rule.arrow, word != Rule::kw_redirect) {
            let word = if word == Rule::kw_deny { "deny" } else { "exclude" };
            let port = rule.port.map_or(arrow, |port| port.map_or_else(|at| at, |port| port.span));
            let end = rule.transparent.unwrap_or(port);
            self.errors.push(|| {
                Diagnostic::new(Code::Syntax, format!("`{word}` leads to no port"))
                    .label(arrow.to(end), "only `redirect` has this")
                    .also(span, "this rule sends nothing to a sidecar")
                    .help(format!("leave it out, or write `redirect` instead of `{word}`"))
            });
        }
        Some(Spanned { value, span })
    }

    fn on(&self, parts: Pairs<'_, Rule>, span: Span) -> Option<Statement> {
        let mut event = None;
        let mut refuse = false;
        for part in parts {
            let at = self.span_of(&part);
            match part.as_rule() {
                Rule::kw_missing_sidecar => event = Some(Spanned { value: Event::MissingSidecar, span: at }),
                Rule::kw_failed_attach => event = Some(Spanned { value: Event::FailedAttach, span: at }),
                Rule::kw_refuse => refuse = true,
                _ => {}
            }
        }
        Some(Statement::On(On { event: event?, refuse, span }))
    }

    fn selector(&mut self, parts: Pairs<'_, Rule>, span: Span) -> Option<Statement> {
        let mut not = None;
        let mut kind = None;
        let mut key = None;
        let mut values = None;
        let mut addresses = Vec::new();
        let mut paths = Vec::new();
        for part in parts {
            match part.as_rule() {
                Rule::kw_not => not = Some(self.span_of(&part)),
                Rule::key => key = Some(self.value(&part)),
                Rule::value => values.get_or_insert_with(Vec::new).push(self.value(&part)),
                Rule::addresses => addresses = self.addresses(part),
                Rule::string => paths.extend(self.path(&part)),
                Rule::open | Rule::comma | Rule::close | Rule::equals | Rule::EOI => {}
                word => kind = Some(word),
            }
        }
        let subject = match kind? {
            Rule::kw_namespace => Subject::Namespace(values?),
            Rule::kw_label => Subject::Label(key?, values),
            Rule::kw_namespace_label => Subject::NamespaceLabel(key?, values),
            Rule::kw_service_account => Subject::ServiceAccount(values?),
            Rule::kw_pod => Subject::Pod(values?),
            Rule::kw_address => Subject::Address(addresses),
            Rule::kw_cgroup => Subject::Cgroup(paths),
            Rule::kw_any => Subject::Any,
            _ => return None,
        };
        Some(Statement::Selector(Selector { not, subject, span }))
    }

    fn group(&self, parts: Pairs<'_, Rule>, span: Span) -> Option<Statement> {
        let mut names = self.names(parts).into_iter();
        let name = names.next()?;
        Some(Statement::Group(Group { name, members: names.collect(), span }))
    }

    fn accelerate(&mut self, parts: Pairs<'_, Rule>, span: Span) -> Option<Statement> {
        let mut kind = Rule::both;
        let mut names = Vec::new();
        let mut for_some = false;
        let mut ports = None;
        for part in parts {
            match part.as_rule() {
                rule @ (Rule::kw_local | Rule::kw_within | Rule::kw_all) => kind = rule,
                Rule::kw_for => for_some = true,
                Rule::name => names.push(self.name(&part)),
                Rule::ports => ports = self.rule_ports(part),
                _ => {}
            }
        }
        let form = match kind {
            Rule::kw_local => AccelerateForm::Local(for_some.then_some(names)),
            Rule::kw_within => AccelerateForm::Within(names.pop()?),
            Rule::kw_all => AccelerateForm::All,
            _ => {
                let [left, right] = <[Name; 2]>::try_from(names).ok()?;
                AccelerateForm::Pair(left, right)
            }
        };
        Some(Statement::Accelerate(Accelerate { form, ports, span }))
    }

    fn expect(&mut self, parts: Pairs<'_, Rule>, span: Span) -> Option<Statement> {
        let mut flow = None;
        let mut expected = None;
        for part in parts {
            match part.as_rule() {
                Rule::flow => flow = self.flow(part),
                Rule::expectation => expected = self.expected(part),
                _ => {}
            }
        }
        Some(Statement::Expect(Expect { flow: flow?, expected: expected?, span }))
    }

    fn expected(&mut self, pair: Pair<'_, Rule>) -> Option<Spanned<Expected>> {
        let span = self.span_of(&pair);
        let mut not = false;
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::kw_redirected => value = Some(Expected::Redirected(None)),
                Rule::port => {
                    value = Some(Expected::Redirected(Some(self.literal(&part, literal::port)?.value)))
                }
                Rule::kw_excluded => value = Some(Expected::Excluded),
                Rule::kw_denied => value = Some(Expected::Denied),
                Rule::kw_not => not = true,
                Rule::kw_accelerated => value = Some(Expected::Accelerated(!not)),
                _ => {}
            }
        }
        Some(Spanned { value: value?, span })
    }

    fn flow(&mut self, pair: Pair<'_, Rule>) -> Option<Flow> {
        let span = self.span_of(&pair);
        let mut inbound = None;
        let mut ends = Vec::new();
        let mut protocol = Protocol::Tcp;
        let mut port = None;
        let mut identity: Vec<Spanned<Identity>> = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::kw_inbound => inbound = Some(self.span_of(&part)),
                Rule::endpoint => ends.push(self.endpoint(part)),
                Rule::kw_udp => protocol = Protocol::Udp,
                Rule::port => port = self.literal(&part, literal::port),
                Rule::identity => identity.extend(self.identity(part)),
                Rule::by_interface => identity.extend(self.interface(part)),
                _ => {}
            }
        }
        self.check_identity(&identity);
        let [from, to] = <[Option<Endpoint>; 2]>::try_from(ends).ok()?;
        Some(Flow { inbound, from: from?, to: to?, protocol, port: port?.value, identity, span })
    }

    fn asked(&mut self, parts: Pairs<'_, Rule>, span: Span) -> Option<Asked> {
        let (mut inbound, mut ends, mut protocol) = (None, Vec::new(), Protocol::Tcp);
        let mut port = None;
        let mut identity: Vec<Spanned<Identity>> = Vec::new();
        for part in parts {
            match part.as_rule() {
                Rule::kw_inbound => inbound = Some(self.span_of(&part)),
                Rule::asked_end => ends.push(self.asked_end(part)),
                Rule::kw_udp => protocol = Protocol::Udp,
                Rule::port => port = Some(self.literal(&part, literal::port)?),
                Rule::identity => identity.extend(self.identity(part)),
                Rule::by_interface => identity.extend(self.interface(part)),
                _ => {}
            }
        }
        self.check_identity(&identity);
        let [from, to] = <[Option<(AskedEnd, Option<Spanned<u16>>)>; 2]>::try_from(ends).ok()?;
        // The port of whoever opens it decides nothing.
        let ((from, _), (to, at_address)) = (from?, to?);
        let port = match (at_address, port) {
            (Some(one), Some(other)) if one.value != other.value => {
                self.errors.push(|| {
                    Diagnostic::new(Code::Syntax, "two ports for one flow")
                        .label(other.span, "the second")
                        .also(one.span, "the first")
                        .help("leave one of them out")
                });
                return None;
            }
            (Some(port), _) | (None, Some(port)) => port.value,
            (None, None) => {
                self.errors.push(|| {
                    Diagnostic::new(Code::Syntax, "the flow has no port")
                        .label(span, "to which port is not said")
                        .help("write it behind the protocol, or at the address: `cart -> 10.0.3.9:3306`")
                });
                return None;
            }
        };
        Some(Asked { inbound, from, to, protocol, port, identity, span })
    }

    /// An end, with the port that stands at its address.
    fn asked_end(&mut self, pair: Pair<'_, Rule>) -> Option<(AskedEnd, Option<Spanned<u16>>)> {
        let mut kind = None;
        let mut word = self.span_of(&pair);
        for part in pair.into_inner() {
            let (span, text) = (self.span_of(&part), part.as_str());
            match part.as_rule() {
                Rule::kw_service => word = span,
                Rule::service => {
                    let (name, port) = with_port(text);
                    let value = self.checked(literal::service(name), span)?.value;
                    let port = port.map(|value| Spanned { value, span });
                    let name = Name { value, span: Span { start: word.start, ..span } };
                    return Some((AskedEnd::Service(name), port));
                }
                Rule::kw_node => return Some((AskedEnd::Node(span), None)),
                Rule::kw_workload => kind = Some(AskedKind::Workload),
                Rule::kw_pod => kind = Some(AskedKind::Pod),
                Rule::asked_name => return Some(named(kind, text, span)),
                _ => {
                    if let Ok(socket) = text.parse::<std::net::SocketAddr>()
                        && socket.port() != 0
                    {
                        let address = Spanned { value: socket.ip(), span };
                        return Some((
                            AskedEnd::Address(address),
                            Some(Spanned { value: socket.port(), span }),
                        ));
                    }
                    // A pod may be called so.
                    let (name, _) = with_port(text);
                    if name.contains(|c: char| c.is_ascii_alphabetic()) && !name.contains([':', '%', '[']) {
                        return Some(named(kind, text, span));
                    }
                    let address = self.literal(&part, literal::address)?;
                    return Some((AskedEnd::Address(address), None));
                }
            }
        }
        None
    }

    /// Each kind of identity at most once.
    fn check_identity(&mut self, identity: &[Spanned<Identity>]) {
        for (i, item) in identity.iter().enumerate() {
            let kind = std::mem::discriminant(&item.value);
            let earlier = identity.iter().take(i).find(|other| std::mem::discriminant(&other.value) == kind);
            if let Some(earlier) = earlier {
                self.errors.push(|| {
                    Diagnostic::new(Code::Syntax, "two identities of one kind for one flow")
                        .label(item.span, "the second")
                        .also(earlier.span, "the first")
                        .help("write a line for each")
                });
            }
        }
    }

    fn identity(&mut self, pair: Pair<'_, Rule>) -> Option<Spanned<Identity>> {
        let mut kind = Rule::kw_uid;
        for part in pair.into_inner() {
            match part.as_rule() {
                rule @ (Rule::kw_uid | Rule::kw_gid) => kind = rule,
                Rule::string => return self.identity_item(&part, kind),
                Rule::id => {
                    let Spanned { value: id, span } = self.literal(&part, literal::id)?;
                    let range = mesh_bpf::image::IdRange { first: id, last: id };
                    let value =
                        if kind == Rule::kw_gid { Identity::Gid(range) } else { Identity::Uid(range) };
                    return Some(Spanned { value, span });
                }
                _ => {}
            }
        }
        None
    }

    /// The one interface that a flow goes by.
    fn interface(&mut self, pair: Pair<'_, Rule>) -> Option<Spanned<Identity>> {
        let part = pair.into_inner().find(|part| part.as_rule() == Rule::string)?;
        let Spanned { value, span } = self.value(&part);
        let Spanned { value, span } = self.checked(literal::interface(&value), span)?;
        Some(Spanned { value: Identity::Interface(value), span })
    }

    fn endpoint(&mut self, pair: Pair<'_, Rule>) -> Option<Endpoint> {
        let mut parts = pair.into_inner();
        let part = parts.next()?;
        match part.as_rule() {
            Rule::kw_service => {
                let name = parts.next()?;
                self.service(&name, self.token(&part)).map(Endpoint::Service)
            }
            Rule::name => Some(Endpoint::Name(self.name(&part))),
            Rule::kw_node => Some(Endpoint::Node(self.token(&part))),
            _ => self.literal(&part, literal::address).map(Endpoint::Address),
        }
    }

    fn rule_ports(&mut self, pair: Pair<'_, Rule>) -> Option<RulePorts> {
        let mut sets = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::protocol_ports => return self.protocol_ports(part).map(RulePorts::Protocol),
                Rule::name => sets.push(self.name(&part)),
                _ => {}
            }
        }
        Some(RulePorts::Sets(sets))
    }

    fn protocol_ports(&mut self, pair: Pair<'_, Rule>) -> Option<ProtocolPorts> {
        let span = self.span_of(&pair);
        let mut protocol = None;
        let mut not = None;
        let mut written = false;
        let mut list: Vec<Spanned<PortRange>> = Vec::new();
        for part in pair.into_inner() {
            let at = self.span_of(&part);
            match part.as_rule() {
                Rule::kw_tcp => {
                    protocol = Some(Spanned { value: ProtocolWord::One(Protocol::Tcp), span: at })
                }
                Rule::kw_udp => {
                    protocol = Some(Spanned { value: ProtocolWord::One(Protocol::Udp), span: at })
                }
                Rule::kw_any => protocol = Some(Spanned { value: ProtocolWord::Any, span: at }),
                Rule::kw_not => not = Some(at),
                Rule::port => {
                    written = true;
                    list.extend(self.literal(&part, literal::ports));
                }
                _ => {}
            }
        }
        let ports = match not {
            Some(not) => PortChoice::Not(list, Span { start: not.start, ..span }),
            None if written => PortChoice::Only(list),
            None => PortChoice::All,
        };
        Some(ProtocolPorts { protocol: protocol?, ports, span })
    }

    fn addresses(&mut self, pair: Pair<'_, Rule>) -> Vec<AddressItem> {
        let mut items = Vec::new();
        let mut word = self.span_of(&pair);
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::kw_service => word = self.token(&part),
                Rule::service => items.extend(self.service(&part, word).map(AddressItem::Service)),
                Rule::kw_node => items.push(AddressItem::Node(self.token(&part))),
                Rule::name => items.push(AddressItem::Name(self.name(&part))),
                Rule::address => items.extend(self.literal(&part, literal::prefix).map(AddressItem::Prefix)),
                _ => {}
            }
        }
        items
    }

    /// A service by its whole name; the span begins at the word `service`.
    fn service(&mut self, pair: &Pair<'_, Rule>, word: Span) -> Option<Name> {
        let Spanned { value, span } = self.literal(pair, literal::service)?;
        Some(Spanned { value, span: Span { start: word.start, ..span } })
    }

    fn names(&self, parts: Pairs<'_, Rule>) -> Vec<Name> {
        parts.filter(|part| part.as_rule() == Rule::name).map(|part| self.name(&part)).collect()
    }

    fn name(&self, pair: &Pair<'_, Rule>) -> Name {
        Spanned { value: pair.as_str().to_owned(), span: self.token(pair) }
    }

    fn string(&self, pair: &Pair<'_, Rule>) -> Option<Spanned<String>> {
        (pair.as_rule() == Rule::string).then(|| self.value(pair))
    }

    /// A word, or what is between quotes; the span is with them.
    fn value(&self, pair: &Pair<'_, Rule>) -> Name {
        let text = pair.as_str();
        let value = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        Spanned { value: value.to_owned(), span: self.token(pair) }
    }

    fn path(&mut self, pair: &Pair<'_, Rule>) -> Option<Spanned<String>> {
        let Spanned { value, span } = self.value(pair);
        self.checked(literal::path(&value), span)
    }

    fn literal<T>(
        &mut self,
        pair: &Pair<'_, Rule>,
        read: impl Fn(&str) -> Result<T, Bad>,
    ) -> Option<Spanned<T>> {
        self.checked(read(pair.as_str()), self.token(pair))
    }

    fn checked<T>(&mut self, read: Result<T, Bad>, span: Span) -> Option<Spanned<T>> {
        match read {
            Ok(value) => Some(Spanned { value, span }),
            Err(bad) => {
                self.errors
                    .push(|| Diagnostic::new(bad.code, bad.message).label(span, bad.label).help(bad.help));
                None
            }
        }
    }

    /// Where a pair is in the file, from its first token to its last: pest's own span may hold the white
    /// space and comments that it passed in search of more.
    fn span_of(&self, pair: &Pair<'_, Rule>) -> Span {
        let mut last = pair.clone();
        while let Some(inner) = last.clone().into_inner().next_back() {
            last = inner;
        }
        Span { end: self.token(&last).end, ..self.token(pair) }
    }

    /// Where a token is in the file.
    fn token(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        let at = |offset: usize| self.base.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
        Span { file: self.file, start: at(span.start()), end: at(span.end()) }
    }
}

/// What was found of a rule.
#[derive(Default)]
struct RuleParts {
    always: Option<Span>,
    verb: Option<(Rule, Span)>,
    direction: Option<Spanned<Direction>>,
    ports: Option<RulePorts>,
    preposition: Option<(Rule, Span)>,
    addresses: Option<Vec<AddressItem>>,
    /// `as`
    named: Option<Span>,
    /// The words `uid`, `gid` and `cgroup` behind it, each with its list.
    kinds: Vec<Spanned<Rule>>,
    who: Option<Vec<Spanned<Identity>>>,
    /// All items of one of the kinds were wrong.
    without: bool,
    arrow: Option<Span>,
    port: Option<Result<Spanned<u16>, Span>>,
    transparent: Option<Span>,
}

/// `uid`, `gid` or `cgroup`, whichever these processes are told apart by.
fn kind_of(pair: &Pair<'_, Rule>) -> Option<Rule> {
    let kinds = [Rule::kw_uid, Rule::kw_gid, Rule::kw_cgroup];
    pair.clone().into_inner().map(|part| part.as_rule()).find(|rule| kinds.contains(rule))
}

fn node_in_set(place: Span) -> Diagnostic {
    Diagnostic::new(Code::WrongKind, "`node` is not an item of a set")
        .label(place, "stands for whatever addresses the node has")
        .help("name it in the rule, beside the set or alone: `from node, private`")
}

fn target_as_address(place: Span, port: &str) -> Diagnostic {
    Diagnostic::new(Code::Syntax, "`redirect` does not say to which port")
        .label(place, "stands for an address here")
        .help(format!("the sidecar's port stands behind `->`: write `-> {port}`"))
}

fn no_port(verb: Span) -> Diagnostic {
    Diagnostic::new(Code::Syntax, "`redirect` does not say to which port")
        .label(verb, "needs `->` and the sidecar's port")
        .help("end the rule with the port that the sidecar listens on, such as `-> 15001`")
}

/// A name at the end of a flow, and the port behind it.
fn named(kind: Option<AskedKind>, text: &str, span: Span) -> (AskedEnd, Option<Spanned<u16>>) {
    let (name, port) = match text.strip_prefix('"') {
        Some(quoted) => (quoted.trim_end_matches('"'), None),
        None => with_port(text),
    };
    let port = port.map(|value| Spanned { value, span });
    (AskedEnd::Name(kind, Name { value: name.to_owned(), span }), port)
}

/// `web:80` in its parts.
fn with_port(text: &str) -> (&str, Option<u16>) {
    let parts = text
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, port.parse().ok().filter(|&port| port != 0)?)));
    parts.map_or((text, None), |(name, port)| (name, Some(port)))
}
