//! Batches of nf_tables, message by message.

use crate::system::nftables::{Kind, word};

/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;
const GENERAL: usize = 4;

/// The bits of a message's type that say what it does; those above name the subsystem.
const OPERATION: u16 = 0xff;

/// What a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Add,
    Delete,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Table,
    Elements,
    One(Kind),
}

/// A message of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) flags: u16,
    pub(super) act: Act,
    pub(super) about: About,
    attributes: &'a [u8],
}

impl Message<'_> {
    /// The table that it is about.
    pub(super) fn table(&self) -> Option<&str> {
        word(self.attributes, 1)
    }

    /// The thing in it: a rule's chain, and the map of elements.
    pub(super) fn name(&self) -> Option<&str> {
        match self.about {
            About::Table => self.table(),
            About::Elements => word(self.attributes, 2),
            About::One(kind) => kind.name(self.attributes),
        }
    }
}

/// The messages that are about something, in order.
pub(super) fn messages(batch: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = batch;
    std::iter::from_fn(move || {
        loop {
            let (length, operation, flags) = header(rest)?;
            let message = rest.get(..length)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            let Some((act, about)) = meaning(operation) else { continue };
            let attributes = message.get(HEADER + GENERAL..).unwrap_or_default();
            return Some(Message { flags, act, about, attributes });
        }
    })
}

fn header(bytes: &[u8]) -> Option<(usize, u16, u16)> {
    let [l0, l1, l2, l3, k0, k1, f0, f1, ..] = *bytes.get(..HEADER)? else { return None };
    let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
    (length >= HEADER).then_some((length, u16::from_ne_bytes([k0, k1]), u16::from_ne_bytes([f0, f1])))
}

/// What the type of a message says; none where it begins or ends a batch.
const fn meaning(operation: u16) -> Option<(Act, About)> {
    if operation >> 8 != libc::NFNL_SUBSYS_NFTABLES as u16 {
        return None;
    }
    Some(match operation & OPERATION {
        0 => (Act::Add, About::Table),
        2 | 26 => (Act::Delete, About::Table),
        3 => (Act::Add, About::One(Kind::Chain)),
        5 | 27 => (Act::Delete, About::One(Kind::Chain)),
        6 => (Act::Add, About::One(Kind::Rule)),
        8 | 28 => (Act::Delete, About::One(Kind::Rule)),
        9 => (Act::Add, About::One(Kind::Set)),
        11 | 29 => (Act::Delete, About::One(Kind::Set)),
        12 => (Act::Add, About::Elements),
        14 | 30 => (Act::Delete, About::Elements),
        18 => (Act::Add, About::One(Kind::Object)),
        20 | 31 => (Act::Delete, About::One(Kind::Object)),
        _ => return None,
    })
}
