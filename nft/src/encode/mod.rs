//! A ruleset as messages of netlink: what the kernel's `nf_tables` understands, in the form that `nft` prints well.

pub(crate) mod expression;
pub(crate) mod message;

use crate::held::TableName;
use crate::ruleset::{Action, ChainId, Counter, Element, Family, KeyType, Map, MapId, Rule};
pub(crate) use expression::OBJECT_COUNTER;
use message::Message;

/// The chains that the kernel walks from hooks.
pub(crate) const BASE: [(&str, u32); 2] = [("output", OUTPUT), ("prerouting", PREROUTING)];
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
/// Before those who translate addresses of services (-100), since the first translation of a flow stands.
pub const PRIORITY: i32 = -110;

/// `NFT_MSG_…`.
pub(crate) mod kind {
    pub(crate) const NEW_TABLE: u8 = 0;
    pub(crate) const DELETE_TABLE: u8 = 2;
    pub(crate) const NEW_CHAIN: u8 = 3;
    pub(crate) const GET_CHAIN: u8 = 4;
    pub(crate) const DELETE_CHAIN: u8 = 5;
    pub(crate) const NEW_RULE: u8 = 6;
    pub(crate) const DELETE_RULE: u8 = 8;
    pub(crate) const NEW_SET: u8 = 9;
    pub(crate) const GET_SET: u8 = 10;
    pub(crate) const DELETE_SET: u8 = 11;
    pub(crate) const NEW_ELEMENTS: u8 = 12;
    pub(crate) const DELETE_ELEMENTS: u8 = 14;
    pub(crate) const NEW_GENERATION: u8 = 15;
    pub(crate) const GET_GENERATION: u8 = 16;
    pub(crate) const NEW_OBJECT: u8 = 18;
    pub(crate) const GET_OBJECT: u8 = 19;
    pub(crate) const DELETE_OBJECT: u8 = 20;
}

/// Elements of one message: the length of an attribute has 16 bits.
const ELEMENTS: usize = 60_000;
/// Bytes of a comment that `nft` prints.
pub(crate) const COMMENT: usize = 120;

/// What chains and maps are called: all of one ruleset end alike.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) suffix: u32,
}

impl Names {
    pub(crate) fn chain(self, ChainId(id): ChainId) -> String {
        format!("c{id}_{}", self.suffix)
    }

    pub(crate) fn map(self, MapId(id): MapId) -> String {
        format!("m{id}_{}", self.suffix)
    }
}

pub(crate) fn new_table(message: &mut Message, table: &TableName) {
    message.begin(kind::NEW_TABLE, message::CREATE);
    message.text(1, table.as_str());
    message.number(2, 0);
}

pub(crate) fn new_base(message: &mut Message, table: &TableName, name: &str, hook: u32) {
    message.begin(kind::NEW_CHAIN, message::CREATE);
    message.text(1, table.as_str());
    message.text(3, name);
    message.nest(4, |message| {
        message.number(1, hook);
        message.bytes(2, &PRIORITY.to_be_bytes());
    });
    // NF_ACCEPT
    message.number(5, 1);
    message.text(7, "nat");
}

pub(crate) fn new_chain(message: &mut Message, table: &TableName, name: &str, said: &str) {
    message.begin(kind::NEW_CHAIN, message::CREATE);
    message.text(1, table.as_str());
    message.text(3, name);
    if !said.is_empty() {
        let said = comment(said);
        let len = u8::try_from(said.len() + 1).unwrap_or(u8::MAX);
        message.bytes(12, &[&[0, len], said.as_bytes(), &[0]].concat());
    }
}

/// What can stand between quotes, and is not too long.
pub(crate) fn comment(text: &str) -> String {
    let mut said = String::new();
    for c in text.chars().map(|c| if c == '"' || c.is_control() { '\'' } else { c }) {
        if said.len() + c.len_utf8() > COMMENT {
            break;
        }
        said.push(c);
    }
    said
}

pub(crate) fn new_counter(message: &mut Message, table: &TableName, counter: Counter) {
    message.begin(kind::NEW_OBJECT, message::CREATE);
    message.text(1, table.as_str());
    message.text(2, &counter.name());
    message.number(3, OBJECT_COUNTER);
    message.nest(4, |message| {
        message.bytes(1, &[0; 8]);
        message.bytes(2, &[0; 8]);
    });
}

pub(crate) fn new_map(message: &mut Message, table: &TableName, name: &str, id: u32, map: &Map) {
    const INTERVAL: u32 = 4;
    const MAP: u32 = 8;
    message.begin(kind::NEW_SET, message::CREATE);
    message.text(1, table.as_str());
    message.text(2, name);
    message.number(3, if map.interval { INTERVAL | MAP } else { MAP });
    message.number(4, type_number(map.key));
    message.number(5, u32::try_from(map.key.len()).unwrap_or(0));
    // NFT_DATA_VERDICT
    message.number(6, 0xffff_ff00);
    message.number(7, 0);
    message.number(10, id);
    // What `nft` prints keys by: their byte order, where 1 is the host's and 2 the network's.
    let order = if is_network_order(map.key) { 2 } else { 1 };
    message.bytes(13, &[&[0, 4][..], &u32::to_ne_bytes(order), &[1, 4, 0, 0, 0, 0]].concat());
}

/// The number by which `nft` knows a type.
const fn type_number(key: KeyType) -> u32 {
    match key {
        KeyType::Address(Family::V4) => 7,
        KeyType::Address(Family::V6) => 8,
        KeyType::Port => 13,
        KeyType::User => 24,
        KeyType::Group => 25,
        KeyType::Cgroup => 46,
    }
}

const fn is_network_order(key: KeyType) -> bool {
    matches!(key, KeyType::Address(_) | KeyType::Port)
}

/// Messages that add elements to a map, or take them away, each handed over when it is full.
pub(crate) fn put_elements(
    message: &mut Message,
    (table, name, is): (&TableName, &str, bool),
    (names, map): (Names, &Map),
    elements: impl Iterator<Item = Element<u128>>,
    mut done: impl FnMut(&mut Message),
) {
    let len = map.key.len();
    let mut elements = elements.peekable();
    while elements.peek().is_some() {
        match is {
            true => message.begin(kind::NEW_ELEMENTS, message::CREATE),
            false => message.begin(kind::DELETE_ELEMENTS, 0),
        }
        message.text(1, table.as_str());
        message.text(2, name);
        let start = message.open(3);
        while message.since(start) < ELEMENTS
            && let Some(element) = elements.next()
        {
            put(message, (names, map), len, element);
        }
        message.close(start);
        done(message);
    }
}

/// One element: two where it is an interval, of which the second is the first key behind it.
fn put(message: &mut Message, (names, map): (Names, &Map), len: usize, element: Element<u128>) {
    // What is looked up by interval is compared byte by byte, and the cgroup's id as it is in memory.
    let put_key = |message: &mut Message, key: u128| {
        let bytes = key.to_be_bytes();
        let bytes = bytes.get(16 - len..).unwrap_or_default();
        if map.key == KeyType::Cgroup {
            let id = u64::try_from(key).unwrap_or(u64::MAX);
            message.nest(1, |message| message.bytes(1, &id.to_ne_bytes()));
        } else {
            message.nest(1, |message| message.bytes(1, bytes));
        }
    };
    message.nest(1, |message| {
        put_key(message, element.first);
        message.nest(2, |message| expression::goto(message, &names.chain(element.chain)));
    });
    if map.interval && element.last < map.key.max() {
        message.nest(1, |message| {
            // NFT_SET_ELEM_INTERVAL_END
            message.number(3, 1);
            put_key(message, element.last.saturating_add(1));
        });
    }
}

pub(crate) fn new_rule(
    message: &mut Message,
    (table, chain): (&TableName, &str),
    names: Names,
    counters: &[Counter],
    rule: &Rule,
) {
    message.begin(kind::NEW_RULE, message::CREATE | message::APPEND);
    message.text(1, table.as_str());
    message.text(2, chain);
    message.nest(4, |message| {
        for matched in &rule.matches {
            expression::matched(message, matched);
        }
        match rule.action {
            Action::Accept => expression::verdict(message, 1),
            Action::Drop => expression::verdict(message, 0),
            Action::Reset => expression::reject(message, rule, 1, 0),
            Action::Unreachable => expression::reject(message, rule, 2, 1),
            Action::Redirect(port) => expression::redirect(message, port),
            Action::Goto(chain) => expression::go_on(message, &names.chain(chain)),
            Action::Look(key, map) => expression::look(message, key, &names.map(map)),
            Action::Count(at) => {
                let counter = counters.get(at.0 as usize).map(|counter| counter.name());
                expression::count(message, &counter.unwrap_or_default());
            }
        }
    });
}

/// Empties a chain.
pub(crate) fn flush(message: &mut Message, table: &TableName, chain: &str) {
    message.begin(kind::DELETE_RULE, 0);
    message.text(1, table.as_str());
    message.text(2, chain);
}

pub(crate) fn delete_chain(message: &mut Message, table: &TableName, name: &str) {
    message.begin(kind::DELETE_CHAIN, 0);
    message.text(1, table.as_str());
    message.text(3, name);
}

pub(crate) fn delete_set(message: &mut Message, table: &TableName, name: &str) {
    message.begin(kind::DELETE_SET, 0);
    message.text(1, table.as_str());
    message.text(2, name);
}

pub(crate) fn delete_table(message: &mut Message, table: &TableName) {
    message.begin(kind::DELETE_TABLE, 0);
    message.text(1, table.as_str());
}

pub(crate) fn delete_counter(message: &mut Message, table: &TableName, counter: Counter) {
    message.begin(kind::DELETE_OBJECT, 0);
    message.text(1, table.as_str());
    message.text(2, &counter.name());
    message.number(3, OBJECT_COUNTER);
}
