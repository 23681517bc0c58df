//! Statements that were read at another place of a file.

use super::build::Statement;
use crate::ast::{
    Accelerate, AccelerateForm, AddressItem, Asked, AskedEnd, Endpoint, Exempt, Expect, Flow, Group, Import,
    On, PortChoice, ProtocolPorts, Rule, RulePorts, Selector, Set, SetItem, Spanned, Subject,
};
use crate::source::{FileId, Span};

/// Where a statement has gone.
#[derive(Clone, Copy)]
pub(super) struct Shift {
    /// Its file now.
    pub(super) file: FileId,
    /// What is added to its offsets, modulo 2³².
    pub(super) by: u32,
}

/// What has spans.
pub(super) trait Shifted {
    /// Shifts all of them.
    fn shift(&mut self, shift: Shift);
}

impl Shifted for Span {
    fn shift(&mut self, shift: Shift) {
        *self = Self {
            file: shift.file,
            start: self.start.wrapping_add(shift.by),
            end: self.end.wrapping_add(shift.by),
        };
    }
}

impl<T> Shifted for Spanned<T> {
    fn shift(&mut self, shift: Shift) {
        self.span.shift(shift);
    }
}

impl<T: Shifted> Shifted for Vec<T> {
    fn shift(&mut self, shift: Shift) {
        self.iter_mut().for_each(|one| one.shift(shift));
    }
}

impl<T: Shifted> Shifted for Option<T> {
    fn shift(&mut self, shift: Shift) {
        self.iter_mut().for_each(|one| one.shift(shift));
    }
}

/// Names the fields of a structure that have spans, then those that have none: all of them, so that none is forgotten.
macro_rules! shifted {
    ($($type:ident { $($spans:ident),* ; $($plain:ident),* })*) => { $(
        impl Shifted for $type {
            fn shift(&mut self, shift: Shift) {
                let Self { $($spans,)* $($plain: _,)* } = self;
                $($spans.shift(shift);)*
            }
        }
    )* };
}

shifted! {
    Import { path, span; }
    Set { name, items, span; }
    ProtocolPorts { protocol, ports, span; }
    Rule { always, verb, direction, ports, addresses, who, span; }
    Exempt { items, span; }
    On { event, span; refuse }
    Selector { not, subject, span; }
    Group { name, members, span; }
    Accelerate { form, ports, span; }
    Expect { flow, expected, span; }
    Flow { inbound, from, to, identity, span; protocol, port }
    Asked { inbound, from, to, identity, span; protocol, port }
}

impl Shifted for SetItem {
    fn shift(&mut self, shift: Shift) {
        match self {
            Self::Ports(ports) => ports.shift(shift),
            Self::Address(prefix) => prefix.shift(shift),
            Self::Service(name) | Self::Name(name) => name.shift(shift),
        }
    }
}

impl Shifted for PortChoice {
    fn shift(&mut self, shift: Shift) {
        match self {
            Self::All => {}
            Self::Only(ranges) => ranges.shift(shift),
            Self::Not(ranges, word) => {
                ranges.shift(shift);
                word.shift(shift);
            }
        }
    }
}

impl Shifted for RulePorts {
    fn shift(&mut self, shift: Shift) {
        match self {
            Self::Protocol(ports) => ports.shift(shift),
            Self::Sets(names) => names.shift(shift),
        }
    }
}

impl Shifted for AddressItem {
    fn shift(&mut self, shift: Shift) {
        match self {
            Self::Prefix(prefix) => prefix.shift(shift),
            Self::Service(name) | Self::Name(name) => name.shift(shift),
            Self::Node(span) => span.shift(shift),
        }
    }
}

impl Shifted for Subject {
    fn shift(&mut self, shift: Shift) {
        match self {
            Self::Namespace(names) | Self::ServiceAccount(names) | Self::Pod(names) => names.shift(shift),
            Self::Label(key, values) | Self::NamespaceLabel(key, values) => {
                key.shift(shift);
                values.shift(shift);
            }
            Self::Address(items) => items.shift(shift),
            Self::Cgroup(paths) => paths.shift(shift),
            Self::Any => {}
        }
    }
}

impl Shifted for AccelerateForm {
    fn shift(&mut self, shift: Shift) {
        match self {
            Self::Local(names) => names.shift(shift),
            Self::Pair(one, other) => {
                one.shift(shift);
                other.shift(shift);
            }
            Self::Within(name) => name.shift(shift),
            Self::All => {}
        }
    }
}

impl Shifted for Endpoint {
    fn shift(&mut self, shift: Shift) {
        match self {
            Self::Address(address) => address.shift(shift),
            Self::Service(name) | Self::Name(name) => name.shift(shift),
            Self::Node(span) => span.shift(shift),
        }
    }
}

impl Shifted for AskedEnd {
    fn shift(&mut self, shift: Shift) {
        match self {
            Self::Address(address) => address.shift(shift),
            Self::Service(name) | Self::Name(_, name) => name.shift(shift),
            Self::Node(span) => span.shift(shift),
        }
    }
}

impl Shifted for Statement {
    fn shift(&mut self, shift: Shift) {
        match self {
            Self::Import(it) => it.shift(shift),
            Self::Set(it) => it.shift(shift),
            Self::Exempt(it) => it.shift(shift),
            Self::Rule(it) => it.shift(shift),
            Self::On(it) => it.shift(shift),
            Self::Mesh(name) | Self::Workload(name) => name.shift(shift),
            Self::For(names) => names.shift(shift),
            Self::Test(name) => name.shift(shift),
            Self::Selector(it) => it.shift(shift),
            Self::Group(it) => it.shift(shift),
            Self::Accelerate(it) => it.shift(shift),
            Self::Expect(it) => it.shift(shift),
            Self::Asked(it) => it.shift(shift),
        }
    }
}
