//! Waiting for something that another process does.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

/// Asks again and again until `done` says yes, or the time is over; returns the last answer.
pub fn until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Whether somebody in the network namespace of the process `pid` listens on TCP `port`.
///
/// It reads the kernel's list rather than connecting, which a proxy would log and a policy might redirect.
pub fn listens(pid: u32, port: u16) -> bool {
    listeners(pid).iter().any(|listener| listener.port() == port)
}

/// The same of an address: another one that has the port is not meant.
pub fn listens_at(pid: u32, address: SocketAddr) -> bool {
    listeners(pid).contains(&address)
}

fn listeners(pid: u32) -> Vec<SocketAddr> {
    let list = |table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
    ["tcp", "tcp6"]
        .iter()
        .flat_map(|table| list(table).lines().filter_map(listener).collect::<Vec<_>>())
        .collect()
}

/// A line is `N: ADDRESS:PORT REMOTE:PORT STATE …`, all in hexadecimal; state 0A listens. An address is words of four
/// bytes, each written as a number of this machine.
fn listener(line: &str) -> Option<SocketAddr> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    if fields.nth(1)? != "0A" {
        return None;
    }
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let words = (0..address.len()).step_by(8).map(word).collect::<Option<Vec<_>>>()?;
    let ip = match words.as_slice() {
        [v4] => IpAddr::from(*v4),
        v6 => IpAddr::from(<[u8; 16]>::try_from(v6.concat()).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_seen_and_its_end_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(std::process::id(), port));
        drop(listener);
        assert!(!listens(std::process::id(), port));
    }

    #[test]
    fn who_listens_on_another_address_is_not_meant() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let (address, id) = (listener.local_addr().unwrap(), std::process::id());
        assert!(listens_at(id, address));
        assert!(!listens_at(id, SocketAddr::from(([127, 0, 0, 1], address.port()))));
    }
}
