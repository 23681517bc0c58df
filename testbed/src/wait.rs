//! Waiting for something that another process does.

use std::fs;
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
    ["tcp", "tcp6"].iter().any(|table| {
        let list = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        list.lines().any(|line| is_listener(line, port))
    })
}

/// A line is `N: ADDRESS:PORT REMOTE:PORT STATE …`, all in hexadecimal; state 0A listens.
fn is_listener(line: &str, port: u16) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next().and_then(|local| local.rsplit_once(':'));
    local.is_some_and(|(_, text)| u16::from_str_radix(text, 16) == Ok(port)) && fields.nth(1) == Some("0A")
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
}
