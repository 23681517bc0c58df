//! Expressions: what a rule is in the kernel.

use mesh_bpf::flow::Protocol;

use super::message::Message;
use crate::ruleset::{End, Family, Key, Kind, Match, Rule, Way};

/// The one register that is used: 16 bytes.
const REGISTER: u32 = 1;
/// `NFT_OBJECT_COUNTER`.
pub(crate) const OBJECT_COUNTER: u32 = 1;
/// `NFT_REG_VERDICT`.
const VERDICT: u32 = 0;
/// `NFT_GOTO`.
const GOTO: i32 = -4;
/// `IFNAMSIZ`.
const NAME: usize = 16;

/// `NFT_META_…`.
mod meta {
    pub(super) const IN_NAME: u32 = 6;
    pub(super) const OUT_NAME: u32 = 7;
    pub(super) const USER: u32 = 10;
    pub(super) const GROUP: u32 = 11;
    pub(super) const FAMILY: u32 = 15;
    pub(super) const PROTOCOL: u32 = 16;
}

fn expression(message: &mut Message, name: &str, data: impl FnOnce(&mut Message)) {
    message.nest(1, |message| {
        message.text(1, name);
        message.nest(2, data);
    });
}

fn load(message: &mut Message, key: u32) {
    expression(message, "meta", |message| {
        message.number(2, key);
        message.number(1, REGISTER);
    });
}

fn compare(message: &mut Message, is: bool, value: &[u8]) {
    expression(message, "cmp", |message| {
        message.number(1, REGISTER);
        message.number(2, u32::from(!is));
        message.nest(3, |message| message.bytes(1, value));
    });
}

fn payload(message: &mut Message, base: u32, offset: u32, len: u32) {
    expression(message, "payload", |message| {
        message.number(1, REGISTER);
        message.number(2, base);
        message.number(3, offset);
        message.number(4, len);
    });
}

fn protocol(message: &mut Message, is: Protocol) {
    load(message, meta::PROTOCOL);
    let number = match is {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    compare(message, true, &[number]);
}

fn destination_port(message: &mut Message) {
    const TRANSPORT: u32 = 2;
    payload(message, TRANSPORT, 2, 2);
}

pub(crate) fn matched(message: &mut Message, matched: &Match) {
    match matched {
        Match::New(is) => {
            expression(message, "ct", |message| {
                message.number(2, 0);
                message.number(1, REGISTER);
            });
            const NEW: u32 = 8;
            compare(message, *is, &NEW.to_ne_bytes());
        }
        Match::MidStream => {
            protocol(message, Protocol::Tcp);
            payload(message, 2, 13, 1);
            expression(message, "bitwise", |message| {
                message.number(1, REGISTER);
                message.number(2, REGISTER);
                message.number(3, 1);
                // FIN, SYN, RST, ACK
                message.nest(4, |message| message.bytes(1, &[0x17]));
                message.nest(5, |message| message.bytes(1, &[0]));
            });
            compare(message, false, &[0x02]);
        }
        Match::Protocol(is) => protocol(message, *is),
        Match::Led(is, port) => {
            protocol(message, *is);
            destination_port(message);
            compare(message, true, &port.to_be_bytes());
        }
        Match::Interface { way, pattern, is } => {
            load(message, if *way == Way::In { meta::IN_NAME } else { meta::OUT_NAME });
            // The beginning of a name is compared alone; a whole name with the zeros behind it.
            let mut name = pattern.strip_suffix('*').unwrap_or(pattern).as_bytes().to_vec();
            if !pattern.ends_with('*') {
                name.resize(NAME, 0);
            }
            name.truncate(NAME);
            compare(message, *is, &name);
        }
        Match::Destined(kind) => {
            expression(message, "fib", |message| {
                message.number(1, REGISTER);
                // NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR
                message.number(2, 3);
                message.number(3, 2);
            });
            compare(message, true, &route_type(*kind).to_ne_bytes());
        }
    }
}

/// `RTN_…`.
const fn route_type(kind: Kind) -> u32 {
    match kind {
        Kind::Local => 2,
        Kind::Broadcast => 3,
        Kind::Multicast => 5,
    }
}

/// A verdict as data: `goto` a chain.
pub(crate) fn goto(message: &mut Message, chain: &str) {
    message.nest(2, |message| {
        message.bytes(1, &GOTO.to_be_bytes());
        message.text(2, chain);
    });
}

pub(crate) fn go_on(message: &mut Message, chain: &str) {
    expression(message, "immediate", |message| {
        message.number(1, VERDICT);
        message.nest(2, |message| goto(message, chain));
    });
}

/// `NF_ACCEPT` or `NF_DROP`.
pub(crate) fn verdict(message: &mut Message, code: u32) {
    expression(message, "immediate", |message| {
        message.number(1, VERDICT);
        message.nest(2, |message| message.nest(2, |message| message.number(1, code)));
    });
}

/// `NFT_REJECT_…`: a reset is an answer to TCP alone, which the rule asks for.
pub(crate) fn reject(message: &mut Message, rule: &Rule, kind: u32, code: u8) {
    debug_assert!(kind != 1 || rule.matches.contains(&Match::Protocol(Protocol::Tcp)));
    expression(message, "reject", |message| {
        message.number(1, kind);
        message.bytes(2, &[code]);
    });
}

pub(crate) fn redirect(message: &mut Message, port: u16) {
    expression(message, "immediate", |message| {
        message.number(1, REGISTER);
        message.nest(2, |message| message.bytes(1, &port.to_be_bytes()));
    });
    expression(message, "redir", |message| {
        message.number(1, REGISTER);
        // NF_NAT_RANGE_PROTO_SPECIFIED
        message.number(3, 2);
    });
}

pub(crate) fn count(message: &mut Message, counter: &str) {
    expression(message, "objref", |message| {
        message.number(1, OBJECT_COUNTER);
        message.text(2, counter);
    });
}

pub(crate) fn look(message: &mut Message, key: Key, map: &str) {
    const NETWORK: u32 = 1;
    match key {
        Key::Address(end, family) => {
            load(message, meta::FAMILY);
            // NFPROTO_IPV4, NFPROTO_IPV6
            compare(message, true, &[if family == Family::V4 { 2 } else { 10 }]);
            match (family, end) {
                (Family::V4, End::Source) => payload(message, NETWORK, 12, 4),
                (Family::V4, End::Destination) => payload(message, NETWORK, 16, 4),
                (Family::V6, End::Source) => payload(message, NETWORK, 8, 16),
                (Family::V6, End::Destination) => payload(message, NETWORK, 24, 16),
            }
        }
        Key::Port(is) => {
            protocol(message, is);
            destination_port(message);
        }
        Key::User | Key::Group => {
            load(message, if key == Key::User { meta::USER } else { meta::GROUP });
            // Intervals are compared byte by byte.
            expression(message, "byteorder", |message| {
                message.number(1, REGISTER);
                message.number(2, REGISTER);
                message.number(3, 1);
                message.number(4, 4);
                message.number(5, 4);
            });
        }
        Key::Cgroup(level) => expression(message, "socket", |message| {
            // NFT_SOCKET_CGROUPV2
            message.number(1, 3);
            message.number(2, REGISTER);
            message.number(3, level);
        }),
    }
    expression(message, "lookup", |message| {
        message.text(1, map);
        message.number(2, REGISTER);
        message.number(3, VERDICT);
    });
}
