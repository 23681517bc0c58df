//! What a kernel answers. The input is the datagrams of one answer, one behind the other; whatever it is, nothing here
//! panics.

use crate::encode::kind;
use crate::encode::message::SUBSYSTEM;
use crate::held::TableName;
use crate::ruleset::Counter;

/// An answer that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends within a message.
    #[error("the kernel's answer is cut off")]
    CutOff,
    /// The request was refused, with this number (`ENOENT`: there is no such table).
    #[error("the kernel refuses, error {0}")]
    Refused(i32),
    /// What is listed changed meanwhile: ask again.
    #[error("what the kernel lists changed meanwhile")]
    Changed,
}

/// How often a decision was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Of what.
    pub counter: Counter,
    /// First packets: flows.
    pub packets: u64,
    /// The bytes of these.
    pub bytes: u64,
}

/// `struct nlmsghdr`, and `struct nfgenmsg` behind it.
const HEAD: usize = 16;
const FAMILY: usize = 4;
const ERROR: u16 = 2;
const CHANGED: u16 = 0x10;
/// The part of an attribute's type that is no flag.
const TYPE: u16 = 0x3fff;

/// The names of a table's chains.
///
/// # Errors
/// Where the answer is none.
pub fn chains(answer: &[u8], table: &TableName) -> Result<Vec<String>, Malformed> {
    names(answer, table, kind::NEW_CHAIN, 3)
}

/// The names of a table's maps.
///
/// # Errors
/// Where the answer is none.
pub fn sets(answer: &[u8], table: &TableName) -> Result<Vec<String>, Malformed> {
    names(answer, table, kind::NEW_SET, 2)
}

fn names(answer: &[u8], table: &TableName, kind: u8, name: u16) -> Result<Vec<String>, Malformed> {
    let mut names = Vec::new();
    messages(answer, kind, |attributes| {
        if text(attributes, 1) == Some(table.as_str()) {
            names.extend(text(attributes, name).map(str::to_owned));
        }
    })?;
    Ok(names)
}

/// The counters of a table that are ours.
///
/// # Errors
/// Where the answer is none.
pub fn counters(answer: &[u8], table: &TableName) -> Result<Vec<Count>, Malformed> {
    let mut counts = Vec::new();
    messages(answer, kind::NEW_OBJECT, |attributes| {
        let count = || {
            (text(attributes, 1)? == table.as_str()).then_some(())?;
            let counter = Counter::parse(text(attributes, 2)?)?;
            let data = find(attributes, 4)?;
            let number = |kind| Some(u64::from_be_bytes(find(data, kind)?.try_into().ok()?));
            Some(Count { counter, bytes: number(1)?, packets: number(2)? })
        };
        counts.extend(count());
    })?;
    Ok(counts)
}

/// The generation of the namespace's rules.
///
/// # Errors
/// Where the answer is none.
pub fn generation(answer: &[u8]) -> Result<u32, Malformed> {
    let mut generation = None;
    messages(answer, kind::NEW_GENERATION, |attributes| {
        let number = find(attributes, 1).and_then(|bytes| bytes.try_into().ok());
        generation = number.map(u32::from_be_bytes);
    })?;
    generation.ok_or(Malformed::CutOff)
}

/// Hands over the attributes of each message of a kind.
fn messages(answer: &[u8], wanted: u8, mut take: impl FnMut(&[u8])) -> Result<(), Malformed> {
    let wanted = u16::from(SUBSYSTEM) << 8 | u16::from(wanted);
    let mut rest = answer;
    let mut has_changed = false;
    while !rest.is_empty() {
        let len =
            rest.first_chunk().map(|&bytes| u32::from_ne_bytes(bytes)).ok_or(Malformed::CutOff)? as usize;
        let message = rest.get(..len).filter(|message| message.len() >= HEAD).ok_or(Malformed::CutOff)?;
        let half = |at: usize| {
            let bytes = message.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map(|&bytes| u16::from_ne_bytes(bytes)).ok_or(Malformed::CutOff)
        };
        let (kind, flags) = (half(4)?, half(6)?);
        has_changed |= flags & CHANGED != 0;
        let content = message.get(HEAD..).unwrap_or_default();
        if kind == ERROR {
            let number = content.first_chunk().map(|&bytes| i32::from_ne_bytes(bytes));
            let number = number.ok_or(Malformed::CutOff)?;
            if number != 0 {
                return Err(Malformed::Refused(number.saturating_neg()));
            }
        }
        if kind == wanted {
            take(content.get(FAMILY..).ok_or(Malformed::CutOff)?);
        }
        rest = len.checked_next_multiple_of(4).and_then(|next| rest.get(next..)).unwrap_or_default();
    }
    if has_changed { Err(Malformed::Changed) } else { Ok(()) }
}

/// The content of the first attribute of a type.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (head, _) = attributes.split_first_chunk::<4>()?;
        let [a, b, c, d] = *head;
        let (len, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        let content = attributes.get(4..len)?;
        if kind & TYPE == wanted {
            return Some(content);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

/// A text without the zero behind it.
fn text(attributes: &[u8], wanted: u16) -> Option<&str> {
    let bytes = find(attributes, wanted)?;
    std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
}
