//! Lists as they stand in annotations: ports, prefixes, ids. Each item is read or told with a reason.

use std::net::IpAddr;

use ipnet::IpNet;

/// From and to, both included.
pub type Range<T> = (T, T);

/// What of a list could be read, and what not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T> {
    /// Its items, sorted and distinct.
    pub items: Vec<T>,
    /// Words that are none, and why.
    pub bad: Vec<(String, String)>,
}

/// Items of one setting: nobody writes more, and each may meet each of another.
const MOST: usize = 4096;

fn list<T: Ord>(text: &str, mut item: impl FnMut(&str) -> Result<T, String>) -> List<T> {
    let mut found = List { items: Vec::new(), bad: Vec::new() };
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at == MOST {
            found.bad.push((word.to_owned(), format!("a list of more than {MOST} items")));
            break;
        }
        match item(word) {
            Ok(item) => found.items.push(item),
            Err(why) => found.bad.push((word.to_owned(), why)),
        }
    }
    found.items.sort();
    found.items.dedup();
    found
}

/// A port from 1 to 65535.
///
/// # Errors
/// Why the word is none.
pub fn port(word: &str) -> Result<u16, String> {
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let port = word.parse().ok().filter(|&port| port > 0);
    port.filter(|_| is_number).ok_or_else(|| "no port from 1 to 65535".to_owned())
}

/// Ports. With `between`, ranges too, such as `8000-8999`.
#[must_use]
pub fn ports(text: &str, between: Option<char>) -> List<Range<u16>> {
    let mut found = list(text, |word| match between.and_then(|between| word.split_once(between)) {
        Some((first, last)) => {
            let (first, last) = (port(first.trim())?, port(last.trim())?);
            if first <= last {
                Ok((first, last))
            } else {
                Err("a range that ends before it begins".to_owned())
            }
        }
        None => port(word).map(|port| (port, port)).map_err(|why| {
            let is_range = word.contains('-') && between.is_none();
            if is_range { "a range, which this setting does not take".to_owned() } else { why }
        }),
    });
    found.items = joined(&found.items);
    found
}

/// Sorted ranges, without those that lie in others.
fn joined<T: Ord + Copy>(sorted: &[Range<T>]) -> Vec<Range<T>> {
    let mut joined: Vec<Range<T>> = Vec::new();
    for &(first, last) in sorted {
        match joined.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// Prefixes of both families, in which bits behind the prefix count for nothing. With `bare`, addresses too.
#[must_use]
pub fn prefixes(text: &str, bare: bool) -> List<IpNet> {
    let mut found = list(text, |word| {
        let net = match word.parse::<IpNet>() {
            Ok(net) => net,
            Err(_) => match word.parse::<IpAddr>() {
                Ok(address) if bare => IpNet::from(address),
                Ok(_) => return Err("an address without `/` and a length".to_owned()),
                Err(_) => return Err("no prefix such as `10.0.0.0/8`".to_owned()),
            },
        };
        match net.addr() {
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
                Err("an IPv4 address in IPv6, which no connection has".to_owned())
            }
            _ => Ok(net.trunc()),
        }
    });
    found.items = outermost(found.items);
    found
}

/// Without those that lie in others. Neighbours stay as they are written.
fn outermost(mut nets: Vec<IpNet>) -> Vec<IpNet> {
    nets.sort_by_key(|net| (net.network(), net.prefix_len()));
    let mut kept: Vec<IpNet> = Vec::new();
    for net in nets {
        if !kept.last().is_some_and(|last| last.contains(&net)) {
            kept.push(net);
        }
    }
    kept
}

/// Ids of users or groups, and ranges of them.
#[must_use]
pub fn ids(text: &str) -> List<Range<u32>> {
    let mut found = list(text, |word| {
        let id = |word: &str| word.trim().parse::<u32>().map_err(|_| "no id of 32 bits".to_owned());
        match word.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (id(first)?, id(last)?);
                if first <= last {
                    Ok((first, last))
                } else {
                    Err("a range that ends before it begins".to_owned())
                }
            }
            None => id(word).map(|id| (id, id)),
        }
    });
    found.items = joined(&found.items);
    found
}

/// Bytes of a name of an interface at the most, as the kernel has them.
const LONGEST: usize = 15;

/// Names of interfaces. A last `+` stands for any rest, as for iptables; a policy has `*` for that.
#[must_use]
pub fn interfaces(text: &str) -> List<String> {
    list(text, |word| {
        let (name, rest) = word.strip_suffix('+').map_or((word, ""), |name| (name, "*"));
        let is_part = |byte: u8| byte.is_ascii_graphic() && !b"/\"*@:".contains(&byte);
        let is_name =
            name.len() + rest.len() <= LONGEST && name.bytes().all(is_part) && !matches!(name, "." | "..");
        if is_name { Ok(format!("{name}{rest}")) } else { Err("no name of an interface".to_owned()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_read_or_told() {
        let found = ports(" 80, 443,,8000-8999,x,0,99999,80 ", None);
        assert_eq!(found.items, [(80, 80), (443, 443)]);
        let words: Vec<&str> = found.bad.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words, ["8000-8999", "x", "0", "99999"]);
        assert_eq!(ports("8000-8999,8500,9000-8000", Some('-')).items, [(8000, 8999)]);
    }

    #[test]
    fn a_plus_at_the_end_of_an_interface_is_any_rest() {
        let found = interfaces("net1, data+,a/b,an-interface-with-a-long-name,*");
        assert_eq!(found.items, ["data*", "net1"]);
        assert_eq!(found.bad.len(), 3);
    }

    #[test]
    fn prefixes_lose_their_host_bits_and_those_that_lie_in_others() {
        let found = prefixes("10.96.0.2/24,10.96.0.0/25,fd10::/16,10.1.2.3,::ffff:10.0.0.0/104,ten", false);
        let items: Vec<String> = found.items.iter().map(ToString::to_string).collect();
        assert_eq!(items, ["10.96.0.0/24", "fd10::/16"]);
        assert_eq!(found.bad.len(), 3);
        assert_eq!(prefixes("10.1.2.3", true).items, ["10.1.2.3/32".parse().unwrap()]);
    }
}
