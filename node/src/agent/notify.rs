//! Tells systemd how the agent does (`sd_notify(3)`): ready, alive, stopping.

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager, if one asked to be told.
#[derive(Debug, Default)]
pub(super) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// The one that started this process.
    pub(super) fn from_environment() -> Self {
        let ours = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let within = env::var("WATCHDOG_USEC").ok().filter(|_| ours).and_then(|time| time.parse().ok());
        Self {
            watchdog: within.map(Duration::from_micros),
            ..Self::at(&env::var("NOTIFY_SOCKET").unwrap_or_default())
        }
    }

    /// One that listens here: a path, or `@` and a name without a file.
    fn at(named: &str) -> Self {
        let address = match named.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None if named.is_empty() => None,
            None => SocketAddr::from_pathname(named).ok(),
        };
        Self {
            socket: address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address))),
            watchdog: None,
        }
    }

    /// How often to say that we live: twice as often as is asked.
    pub(super) fn pulse(&self) -> Option<Duration> {
        self.watchdog.map(|within| within / 2)
    }

    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// In words, for `systemctl status`.
    pub(super) fn doing(&self, what: &str) {
        self.send(&format!("STATUS={}", what.lines().next().unwrap_or_default()));
    }

    fn send(&self, what: &str) {
        if let Some((socket, address)) = &self.socket {
            // Nobody there to hear it is the service manager's affair.
            let _ = socket.send_to_addr(what.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_without_a_file_is_told_too() {
        let name = format!("meshc-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Notify::at(&format!("@{name}")).doing("in step\nand more");
        let mut told = [0; 64];
        let length = manager.recv(&mut told).unwrap();
        assert_eq!(told.get(..length), Some(&b"STATUS=in step"[..]));
    }
}
