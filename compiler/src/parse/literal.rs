//! Numbers, ranges, addresses and paths: text to value, or what is wrong with it and the right form.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use mesh_bpf::image::IdRange;
use mesh_bpf::ports::PortRange;
use mesh_bpf::prefix::Prefix;

use crate::diag::{Code, quote};

/// How many prefixes a help line writes out for an address range.
const SHOWN_PREFIXES: usize = 8;

/// What is wrong with a literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) label: &'static str,
    pub(super) help: String,
}

impl Bad {
    fn new(code: Code, message: String, label: &'static str, help: impl Into<String>) -> Self {
        Self { code, message, label, help: help.into() }
    }
}

/// A port or a range of ports.
pub(super) fn ports(text: &str) -> Result<PortRange, Bad> {
    let Some((first, last)) = range(text) else {
        let port = port(text)?;
        return Ok(PortRange::single(port));
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Err(reversed(text, "port", first, last)),
        (Some(0), Some(last)) => {
            let help = format!("ports begin at 1: write `1-{}`", last.clamp(1, u64::from(u16::MAX)));
            Err(Bad::new(
                Code::BadPort,
                format!("{} begins with port 0", quote(text)),
                "there is no port 0",
                help,
            ))
        }
        _ => Ok(PortRange { first: port(first)?, last: port(last)? }),
    }
}

/// One port.
pub(super) fn port(text: &str) -> Result<u16, Bad> {
    let bad = |message: String, label, help: String| Err(Bad::new(Code::BadPort, message, label, help));
    let quoted = quote(text);
    if text.contains([':', '.', '/']) {
        if let Some((first, last)) = foreign_range(text) {
            let help = format!("a range is written with `-`: `{first}-{last}`");
            return bad(format!("{quoted} is not a port"), "not a range", help);
        }
        if let Some(number) = text.strip_prefix(':').filter(|rest| number(rest).is_some()) {
            return bad(format!("{quoted} is not a port"), "a colon before it", format!("write `{number}`"));
        }
        let help = match target_port(text) {
            Some(port) => format!("the address is always loopback: write `{port}`"),
            None => "an address follows `to` or `from`: `tcp 80 to 10.0.0.0/8`".to_owned(),
        };
        return bad(format!("{quoted} is an address, not a port"), "a port belongs here", help);
    }
    if range(text).is_some() {
        return bad(
            format!("{quoted} is a range, and one port belongs here"),
            "a single port",
            "write one port".into(),
        );
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let help = "a port is a number from 1 to 65535, such as `443`; a range is `8000-8999`";
        return bad(format!("{quoted} is not a port"), "not a number", help.to_owned());
    }
    match number(text) {
        Some(0) => bad(
            "there is no port 0".into(),
            "port 0",
            "ports are 1 to 65535; without ports a rule is about all".into(),
        ),
        Some(n) if text.starts_with('0') => {
            bad(format!("{quoted} has leading zeros"), "leading zeros", format!("write `{n}`"))
        }
        number => match number.and_then(|n| u16::try_from(n).ok()) {
            Some(port) => Ok(port),
            None => bad(format!("{quoted} is over 65535"), "not a port", "ports are 1 to 65535".into()),
        },
    }
}

/// An id or a range of ids.
pub(super) fn ids(text: &str) -> Result<IdRange, Bad> {
    let Some((first, last)) = range(text) else {
        let id = id(text)?;
        return Ok(IdRange { first: id, last: id });
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Err(reversed(text, "id", first, last)),
        _ => Ok(IdRange { first: id(first)?, last: id(last)? }),
    }
}

/// One id.
pub(super) fn id(text: &str) -> Result<u32, Bad> {
    let quoted = quote(text);
    let bad = |message: String, label, help: String| Err(Bad::new(Code::BadId, message, label, help));
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let help = "ids are numbers, such as `1500`, or ranges, such as `1500-1510`".to_owned();
        return bad(format!("{quoted} is not an id"), "not a number", help);
    }
    match number(text) {
        Some(n) if text.len() > 1 && text.starts_with('0') => {
            bad(format!("{quoted} has leading zeros"), "leading zeros", format!("write `{n}`"))
        }
        number => match number.and_then(|n| u32::try_from(n).ok()) {
            Some(id) => Ok(id),
            None => {
                bad(format!("{quoted} is over 32 bits"), "not an id", format!("ids are 0 to {}", u32::MAX))
            }
        },
    }
}

/// One address, as in a flow.
pub(super) fn address(text: &str) -> Result<IpAddr, Bad> {
    let prefix = prefix(text)?;
    match prefix.first() {
        Some(address) if prefix.is_host() => Ok(address),
        first => {
            let help =
                first.map_or_else(String::new, |first| format!("write one address of it, such as `{first}`"));
            let message = format!("{} is many addresses, and a flow has one", quote(text));
            Err(Bad::new(Code::BadAddress, message, "one address belongs here", help))
        }
    }
}

/// An address or a prefix.
pub(super) fn prefix(text: &str) -> Result<Prefix, Bad> {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let Ok(parsed) = address.parse::<IpAddr>() else { return Err(not_an_address(text, address, length)) };
    let width = if parsed.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Ok(width), |length| prefix_length(text, parsed, length))?;
    if let Some(plain) = v4_mapped(parsed, length) {
        let message = format!("{} is an IPv4 address in IPv6 form", quote(text));
        return Err(Bad::new(
            Code::BadAddress,
            message,
            "v4-mapped",
            format!("write `{plain}`: it covers both forms"),
        ));
    }
    let net = IpNet::new(parsed, length).map_err(|_| too_long(text, parsed))?;
    if net.trunc() != net {
        let message = format!("{} has bits set beyond its prefix", quote(text));
        let help = format!("write `{}` for the network, or `{parsed}` for the one address", net.trunc());
        return Err(Bad::new(Code::BadAddress, message, "host bits are set", help));
    }
    Ok(net.into())
}

/// A cgroup path: absolute, and in the one form in which the kernel shows it.
pub(super) fn path(text: &str) -> Result<String, Bad> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let plain = format!("/{}", parts.join("/"));
    let bad = |what: &str, label, help: String| Err(Bad::new(Code::BadPath, what.to_owned(), label, help));
    let quoted = quote(text);
    if parts.contains(&"..") {
        let help = "write the path from the root of the cgroup hierarchy, as in `/proc/PID/cgroup`";
        return bad(&format!("{quoted} has a `..`"), "not a plain path", help.to_owned());
    }
    if parts.is_empty() {
        let help = "name a cgroup, such as `\"/system.slice/batch.service\"`; `any` selects every endpoint";
        return bad(&format!("{quoted} names no cgroup"), "no cgroup of its own", help.to_owned());
    }
    if plain == text {
        return Ok(plain);
    }
    let help = format!("write `\"{plain}\"`");
    if !text.starts_with('/') {
        return bad(&format!("the cgroup path {quoted} does not begin with `/`"), "not absolute", help);
    }
    if text.ends_with('/') {
        return bad(&format!("the cgroup path {quoted} ends with `/`"), "a slash at the end", help);
    }
    bad(&format!("{quoted} is not a plain path"), "not a plain path", help)
}

/// Bytes in the name of an interface: `IFNAMSIZ`, without the zero at its end.
const LONGEST_INTERFACE: usize = 15;

/// The name of an interface, or with `*` at its end the beginning of several: only what the kernel lets one be called.
pub(super) fn interfaces(text: &str) -> Result<String, Bad> {
    match text.strip_suffix('*') {
        Some("") => Ok(text.to_owned()),
        Some(beginning) => plain_interface(text, beginning),
        None => plain_interface(text, text),
    }
}

/// The name of one interface.
pub(super) fn interface(text: &str) -> Result<String, Bad> {
    plain_interface(text, text)
}

fn plain_interface(text: &str, name: &str) -> Result<String, Bad> {
    let quoted = quote(text);
    let bad = |message: String, label, help: String| Err(Bad::new(Code::BadInterface, message, label, help));
    let listed = "write a name that `ip link` lists, such as `\"net1\"`";
    if name.is_empty() {
        return bad("an interface has no name".to_owned(), "nothing", listed.to_owned());
    }
    if let Some(before) = name.split_once('*').map(|(before, _)| before) {
        let help = match before {
            "" => "write the beginning of the names, such as `\"eth*\"`".to_owned(),
            _ => format!("a `*` stands for any rest of a name, at its end: write `\"{before}*\"`"),
        };
        return bad(
            format!("{quoted} has a `*` that is not at its end"),
            "only a last `*` stands for others",
            help,
        );
    }
    // A VLAN is named so where it is made: `ip link add link eth0 name eth0.5`. `eth0@if7` is how it is printed.
    if let Some((own, _)) = name.split_once('@') {
        let help = format!("`ip link` shows the other end behind `@`: write `\"{own}\"`");
        return bad(format!("{quoted} is not the name of an interface alone"), "with its other end", help);
    }
    if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) || matches!(name, "." | "..") {
        return bad(format!("no interface can be called {quoted}"), "no such name", listed.to_owned());
    }
    if name.len() > LONGEST_INTERFACE {
        let help = format!("names of interfaces have {LONGEST_INTERFACE} bytes at the most: {listed}");
        return bad(
            format!("no interface can be called {quoted}: it has {} bytes", name.len()),
            "too long",
            help,
        );
    }
    Ok(text.to_owned())
}

/// A Kubernetes service by its whole name: `cart` is `default/cart`.
pub(super) fn service(text: &str) -> Result<String, Bad> {
    let quoted = quote(text);
    let bad = |message: String, label, help: String| Err(Bad::new(Code::BadService, message, label, help));
    let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
    if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        let help = format!("a port stands before the address: `tcp {port} to service {host}`");
        return bad(format!("{quoted} has a port in it"), "name and port", help);
    }
    // `cart.shop.svc.cluster.local`, as resolvers know it.
    if let Some((name, rest)) = text.split_once('.')
        && let Some(namespace) = rest.split('.').next()
        && is_label(name)
        && is_label(namespace)
    {
        let help = format!("the namespace stands before the name: write `service {namespace}/{name}`");
        return bad(format!("{quoted} is a name for resolvers"), "not a service's name", help);
    }
    for part in [namespace, name] {
        if !is_label(part) {
            let small = text.to_ascii_lowercase();
            let parts = small.split_once('/').unwrap_or((DEFAULT_NAMESPACE, &small));
            let help = if small != text && is_label(parts.0) && is_label(parts.1) {
                format!("names in Kubernetes are written small: `service {small}`")
            } else {
                "a service is such as `service shop/cart`, or `service cart` in the namespace `default`: small letters, \
                 digits and `-`, at most 63 of them"
                    .to_owned()
            };
            return bad(format!("no service can have the name {quoted}"), "not a service's name", help);
        }
    }
    Ok(format!("{namespace}/{name}"))
}

/// The namespace of a service that is named without one.
const DEFAULT_NAMESPACE: &str = "default";

/// A label of the domain name system, as Kubernetes has them for services and namespaces.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The two sides of a range. An address with a dash is no range of numbers.
fn range(text: &str) -> Option<(&str, &str)> {
    let (first, last) = text.split_once('-')?;
    let plain = |side: &str| !side.is_empty() && side.bytes().all(|byte| byte.is_ascii_digit());
    (plain(first) && plain(last)).then_some((first, last))
}

/// The two sides of `80:90` or `80..90`.
fn foreign_range(text: &str) -> Option<(&str, &str)> {
    let (first, last) = text.split_once("..").or_else(|| text.split_once(':'))?;
    (number(first).is_some() && number(last).is_some()).then_some((first, last))
}

/// A number, however many digits it has.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

fn reversed(text: &str, what: &str, first: u64, last: u64) -> Bad {
    let message = format!("the {what} range {} ends before it begins", quote(text));
    Bad::new(Code::BadRange, message, "reversed", format!("write `{last}-{first}`"))
}

/// The port of `10.0.0.1:15001`, where someone named a sidecar by address and port.
fn target_port(text: &str) -> Option<&str> {
    let (address, port) = text.rsplit_once(':')?;
    let host = address.parse::<Ipv4Addr>().is_ok() || address == "localhost";
    (host && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(port)
}

fn prefix_length(text: &str, address: IpAddr, length: &str) -> Result<u8, Bad> {
    if let (IpAddr::V4(_), Ok(mask)) = (address, length.parse::<Ipv4Addr>()) {
        let ones = mask.to_bits().leading_ones();
        let message = format!("{} has a mask where a prefix length belongs", quote(text));
        return Err(Bad::new(Code::BadAddress, message, "a mask", format!("write `{address}/{ones}`")));
    }
    let Some(number) = number(length) else {
        let message = format!("{} has no number after the `/`", quote(text));
        return Err(Bad::new(
            Code::BadAddress,
            message,
            "not a prefix",
            format!("write `{address}/24`, for example"),
        ));
    };
    if length.len() > 1 && length.starts_with('0') {
        let message = format!("the prefix length of {} has leading zeros", quote(text));
        return Err(Bad::new(
            Code::BadAddress,
            message,
            "leading zeros",
            format!("write `{address}/{number}`"),
        ));
    }
    u8::try_from(number).map_err(|_| too_long(text, address))
}

fn too_long(text: &str, address: IpAddr) -> Bad {
    let (family, width) = if address.is_ipv4() { ("IPv4", 32) } else { ("IPv6", 128) };
    let message = format!("the prefix of {} is longer than an address", quote(text));
    Bad::new(
        Code::BadAddress,
        message,
        "too long",
        format!("a prefix of {family} has at most {width} bits: `{address}/{width}`"),
    )
}

/// What a v4-mapped address or prefix is in plain form.
fn v4_mapped(address: IpAddr, length: u8) -> Option<Prefix> {
    let IpAddr::V6(v6) = address else { return None };
    let v4 = v6.to_ipv4_mapped()?;
    let net = IpNet::new(IpAddr::V4(v4), length.checked_sub(96)?).ok()?;
    Some(net.into())
}

fn not_an_address(text: &str, address: &str, length: Option<&str>) -> Bad {
    let bad = |message: String, label, help: String| Bad::new(Code::BadAddress, message, label, help);
    let quoted = quote(text);
    let rest = length.map_or_else(String::new, |length| format!("/{length}"));
    if let Some((plain, _)) = address.split_once('%') {
        return bad(
            format!("{quoted} has a zone id"),
            "a zone id",
            format!("addresses hold on every link: write `{plain}{rest}`"),
        );
    }
    if let Some(plain) = without_leading_zeros(address) {
        let help = format!("write `{plain}{rest}`, if you mean decimal numbers");
        return bad(format!("{quoted} has leading zeros"), "leading zeros", help);
    }
    if let Some((host, port)) = address.rsplit_once(':')
        && (host.parse::<Ipv4Addr>().is_ok()
            || host.bytes().any(|byte| byte.is_ascii_alphabetic()) && !host.contains(':'))
    {
        let help = format!("a port stands before the address: `tcp {port} to {host}`");
        return bad(format!("{quoted} has a port in it"), "address and port", help);
    }
    if let Some(help) = range_help(text) {
        return bad(format!("{quoted} is a range of addresses"), "not a prefix", help);
    }
    if number(address).is_some() || range(address).is_some() {
        let help = format!("a port has its protocol before it: `tcp {text}`");
        return bad(format!("{quoted} is not an address"), "a number", help);
    }
    let help = "an address is such as `10.0.0.1` or `fd00::1`, a prefix such as `10.0.0.0/8` or `fd00::/8`";
    bad(format!("{quoted} is not an address"), "not an address", help.to_owned())
}

/// An IPv4 address that would be one without the zeros before its numbers.
fn without_leading_zeros(address: &str) -> Option<Ipv4Addr> {
    let trim = |part: &str| part.trim_start_matches('0').parse().or_else(|_| part.parse::<u8>());
    let parts: Result<Vec<u8>, _> = address.split('.').map(trim).collect();
    let octets: [u8; 4] = parts.ok()?.try_into().ok()?;
    Some(octets.into())
}

/// The prefixes that make up `10.0.0.1-10.0.0.9`.
fn range_help(text: &str) -> Option<String> {
    let (first, last) = text.split_once('-')?;
    let prefixes: Vec<String> = match (first.parse().ok()?, last.parse().ok()?) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => shown(Ipv4Subnets::new(first, last, 0)),
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => v6_shown(first, last),
        _ => return Some("write the first address before the last, as prefixes".to_owned()),
    };
    let more = if prefixes.len() > SHOWN_PREFIXES { ", …" } else { "" };
    let listed: Vec<&str> = prefixes.iter().take(SHOWN_PREFIXES).map(String::as_str).collect();
    Some(format!("write prefixes: `{}{more}`", listed.join(", ")))
}

fn v6_shown(first: Ipv6Addr, last: Ipv6Addr) -> Vec<String> {
    shown(Ipv6Subnets::new(first, last, 0))
}

fn shown(prefixes: impl Iterator<Item: Into<IpNet> + Display>) -> Vec<String> {
    prefixes.take(SHOWN_PREFIXES + 1).map(|net| Prefix::from(net.into()).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn bad<T: std::fmt::Debug>(result: Result<T, Bad>, code: Code, message: &str, help: &str) {
        let bad = result.expect_err("must be refused");
        assert_eq!((bad.code, bad.message.as_str(), bad.help.as_str()), (code, message, help));
    }

    #[test]
    fn ports_are_1_to_65535() {
        assert_eq!(ports("65535"), Ok(PortRange::single(65535)));
        assert_eq!(ports("80-81"), Ok(PortRange { first: 80, last: 81 }));
        bad(ports("65536"), Code::BadPort, "`65536` is over 65535", "ports are 1 to 65535");
        bad(
            ports("0"),
            Code::BadPort,
            "there is no port 0",
            "ports are 1 to 65535; without ports a rule is about all",
        );
        bad(ports("0-80"), Code::BadPort, "`0-80` begins with port 0", "ports begin at 1: write `1-80`");
        bad(ports("080"), Code::BadPort, "`080` has leading zeros", "write `80`");
        bad(
            ports(&"9".repeat(500)),
            Code::BadPort,
            &format!("`{}…` is over 65535", "9".repeat(60)),
            "ports are 1 to 65535",
        );
    }

    #[test]
    fn reversed_ranges_are_turned_around() {
        bad(ports("90-80"), Code::BadRange, "the port range `90-80` ends before it begins", "write `80-90`");
        bad(ids("9-8"), Code::BadRange, "the id range `9-8` ends before it begins", "write `8-9`");
    }

    #[test]
    fn an_address_where_a_port_belongs() {
        bad(
            port("127.0.0.1:15001"),
            Code::BadPort,
            "`127.0.0.1:15001` is an address, not a port",
            "the address is always loopback: write `15001`",
        );
    }

    #[test]
    fn ids_have_32_bits() {
        assert_eq!(ids("4294967295"), Ok(IdRange { first: u32::MAX, last: u32::MAX }));
        assert_eq!(ids("0"), Ok(IdRange { first: 0, last: 0 }));
        bad(ids("4294967296"), Code::BadId, "`4294967296` is over 32 bits", "ids are 0 to 4294967295");
    }

    #[test]
    fn addresses_of_both_families() {
        assert_eq!(prefix("10.0.0.0/8").map(|p| p.to_string()), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(prefix("cafe::1").map(|p| p.to_string()), Ok("cafe::1".to_owned()));
        assert_eq!(prefix("2001:0DB8::/32").map(|p| p.to_string()), Ok("2001:db8::/32".to_owned()));
        assert_eq!(prefix("::/0").map(|p| p.to_string()), Ok("::/0".to_owned()));
    }

    #[test]
    fn bad_addresses_come_with_the_right_form() {
        for (text, message, help) in [
            (
                "10.0.0.1/8",
                "`10.0.0.1/8` has bits set beyond its prefix",
                "write `10.0.0.0/8` for the network, or `10.0.0.1` for the one address",
            ),
            (
                "::ffff:10.0.0.1",
                "`::ffff:10.0.0.1` is an IPv4 address in IPv6 form",
                "write `10.0.0.1`: it covers both forms",
            ),
            (
                "::ffff:10.0.0.0/104",
                "`::ffff:10.0.0.0/104` is an IPv4 address in IPv6 form",
                "write `10.0.0.0/8`: it covers both forms",
            ),
            ("fe80::1%eth0", "`fe80::1%eth0` has a zone id", "addresses hold on every link: write `fe80::1`"),
            ("010.0.0.1", "`010.0.0.1` has leading zeros", "write `10.0.0.1`, if you mean decimal numbers"),
            ("10.0.0.0/08", "the prefix length of `10.0.0.0/08` has leading zeros", "write `10.0.0.0/8`"),
            (
                "10.0.0.1:80",
                "`10.0.0.1:80` has a port in it",
                "a port stands before the address: `tcp 80 to 10.0.0.1`",
            ),
            (
                "10.0.0.0/33",
                "the prefix of `10.0.0.0/33` is longer than an address",
                "a prefix of IPv4 has at most 32 bits: `10.0.0.0/32`",
            ),
            (
                "10.0.0.0/255.0.0.0",
                "`10.0.0.0/255.0.0.0` has a mask where a prefix length belongs",
                "write `10.0.0.0/8`",
            ),
            (
                "10.0.0.1-10.0.0.3",
                "`10.0.0.1-10.0.0.3` is a range of addresses",
                "write prefixes: `10.0.0.1, 10.0.0.2/31`",
            ),
            ("80", "`80` is not an address", "a port has its protocol before it: `tcp 80`"),
            (
                "10.0.0",
                "`10.0.0` is not an address",
                "an address is such as `10.0.0.1` or `fd00::1`, a prefix such as `10.0.0.0/8` or `fd00::/8`",
            ),
        ] {
            bad(prefix(text), Code::BadAddress, message, help);
        }
    }

    #[test]
    fn services_have_names_as_kubernetes_has_them() {
        assert_eq!(service("kubernetes"), Ok("default/kubernetes".to_owned()));
        assert_eq!(service("osm-system/osm-controller"), Ok("osm-system/osm-controller".to_owned()));
        assert_eq!(service("7up/0"), Ok("7up/0".to_owned()));
        assert_eq!(service(&"a".repeat(63)), Ok(format!("default/{}", "a".repeat(63))));
        let usual = "a service is such as `service shop/cart`, or `service cart` in the namespace `default`: small \
                     letters, digits and `-`, at most 63 of them";
        for (text, message, help) in [
            ("shop/a/b", "no service can have the name `shop/a/b`", usual),
            ("shop/", "no service can have the name `shop/`", usual),
            ("shop/ca_rt", "no service can have the name `shop/ca_rt`", usual),
            (
                "Shop/Cart",
                "no service can have the name `Shop/Cart`",
                "names in Kubernetes are written small: `service shop/cart`",
            ),
            (
                "shop/cart:80",
                "`shop/cart:80` has a port in it",
                "a port stands before the address: `tcp 80 to service shop/cart`",
            ),
            (
                "cart.shop.svc.cluster.local",
                "`cart.shop.svc.cluster.local` is a name for resolvers",
                "the namespace stands before the name: write `service shop/cart`",
            ),
        ] {
            bad(service(text), Code::BadService, message, help);
        }
        assert_eq!(service(&"a".repeat(64)).unwrap_err().code, Code::BadService);
    }

    #[test]
    fn cgroup_paths_are_plain() {
        assert_eq!(path("/a/b.service"), Ok("/a/b.service".to_owned()));
        assert_eq!(path("/a..b"), Ok("/a..b".to_owned()));
        bad(path("a"), Code::BadPath, "the cgroup path `a` does not begin with `/`", "write `\"/a\"`");
        bad(path("/a/"), Code::BadPath, "the cgroup path `/a/` ends with `/`", "write `\"/a\"`");
        bad(path("/a//b"), Code::BadPath, "`/a//b` is not a plain path", "write `\"/a/b\"`");
        assert_eq!(path("/a/../b").unwrap_err().code, Code::BadPath);
        assert_eq!(path("/").unwrap_err().code, Code::BadPath);
    }

    #[test]
    fn interfaces_have_names_that_the_kernel_takes() {
        for name in ["net1", "eth*", "*", "br-lan.5", "a23456789012345", "a23456789012345*", "ü", "..."] {
            assert_eq!(interfaces(name).as_deref(), Ok(name));
        }
        assert_eq!(interface("net1").as_deref(), Ok("net1"));
        let only_last = "has a `*` that is not at its end";
        for (name, message, help) in [
            ("", "an interface has no name", "write a name that `ip link` lists, such as `\"net1\"`"),
            ("et*0", &format!("`et*0` {only_last}"), "at its end: write `\"et*\"`"),
            ("**", &format!("`**` {only_last}"), "write the beginning of the names"),
            ("eth0@if7", "`eth0@if7` is not the name of an interface alone", "write `\"eth0\"`"),
            ("a b", "no interface can be called `a b`", "write a name that `ip link` lists"),
            ("net/1*", "no interface can be called `net/1*`", "write a name that `ip link` lists"),
            ("eth0:1", "no interface can be called `eth0:1`", "write a name that `ip link` lists"),
            (".", "no interface can be called `.`", "write a name that `ip link` lists"),
            ("..", "no interface can be called `..`", "write a name that `ip link` lists"),
            (
                "a234567890123456",
                "no interface can be called `a234567890123456`: it has 16 bytes",
                "15 bytes",
            ),
            ("üüüüüüüü*", "no interface can be called `üüüüüüüü*`: it has 16 bytes", "15 bytes"),
        ] {
            let found = interfaces(name).unwrap_err();
            assert_eq!((found.code, found.message.as_str()), (Code::BadInterface, message));
            assert!(found.help.contains(help), "{}", found.help);
        }
        assert_eq!(interface("net*").unwrap_err().message, "`net*` has a `*` that is not at its end");
    }
}
