//! What a kernel is asked.

use crate::encode::message::{DUMP, Message};
use crate::encode::{OBJECT_COUNTER, kind};
use crate::held::TableName;

/// Sequence number of every request.
const SEQUENCE: u32 = 1;

/// Asks for all chains: [`decode::chains`](crate::decode::chains) reads the answer.
#[must_use]
pub fn chains() -> Vec<u8> {
    ask(kind::GET_CHAIN, DUMP, |_| ())
}

/// Asks for the maps of a table: [`decode::sets`](crate::decode::sets) reads the answer.
#[must_use]
pub fn sets(table: &TableName) -> Vec<u8> {
    ask(kind::GET_SET, DUMP, |message| message.text(1, table.as_str()))
}

/// Asks for the counters of a table: [`decode::counters`](crate::decode::counters) reads the answer.
#[must_use]
pub fn counters(table: &TableName) -> Vec<u8> {
    ask(kind::GET_OBJECT, DUMP, |message| {
        message.text(1, table.as_str());
        message.number(3, OBJECT_COUNTER);
    })
}

/// Asks which generation all rules of the namespace have: [`decode::generation`](crate::decode::generation) reads the
/// answer. Every change of anybody makes it another.
#[must_use]
pub fn generation() -> Vec<u8> {
    ask(kind::GET_GENERATION, 0, |_| ())
}

fn ask(kind: u8, flags: u16, attributes: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::default();
    message.begin(kind, flags);
    attributes(&mut message);
    message.finish(SEQUENCE, 0).to_vec()
}
