//! HAProxy as a sidecar.

use std::fs;
use std::io;
use std::net::SocketAddr;

use crate::ground::Directory;
use crate::{Place, Process};

/// A running HAProxy in TCP mode that sends every connection on to its original destination.
///
/// It asks for `SO_ORIGINAL_DST` and never for `IP6T_SO_ORIGINAL_DST` (2.6): a v6 connection that was
/// redirected to it goes round in circles unless its local address is the original one.
#[derive(Debug)]
pub struct HaProxy {
    // The process before the directory: it writes there.
    process: Process,
    _dir: Directory,
}

impl HaProxy {
    /// Starts it at a place, listening on all of `listen`.
    ///
    /// # Errors
    /// If it is not installed, or does not listen within ten seconds; its own words are in the error.
    pub fn start(place: &Place, listen: &[SocketAddr]) -> io::Result<Self> {
        Self::with_threads(place, listen, 1)
    }

    /// The same with this many threads, each with listeners of its own that share the ports.
    ///
    /// # Errors
    /// As [`HaProxy::start`].
    pub fn with_threads(place: &Place, listen: &[SocketAddr], threads: usize) -> io::Result<Self> {
        Self::configured(place, listen, &configured(listen, threads, 9500, ""))
    }

    /// The same, which opens connections from its client's address (`usesrc clientip`): it must be root's.
    ///
    /// # Errors
    /// As [`HaProxy::start`].
    pub fn keeping_the_source(place: &Place, listen: &[SocketAddr]) -> io::Result<Self> {
        let content = configured(listen, 1, 1000, "    source 0.0.0.0 usesrc clientip\n");
        Self::configured(place, listen, &content)
    }

    /// The same, which carries bytes by `splice` wherever it may.
    ///
    /// # Errors
    /// As [`HaProxy::start`].
    pub fn splicing(place: &Place, listen: &[SocketAddr]) -> io::Result<Self> {
        let options = "    option splice-request\n    option splice-response\n";
        Self::configured(place, listen, &configured(listen, 1, 1000, options))
    }

    fn configured(place: &Place, listen: &[SocketAddr], content: &str) -> io::Result<Self> {
        let dir = Directory::new()?;
        let configuration = dir.path().join("haproxy.cfg");
        fs::write(&configuration, content)?;
        let mut command = place.command("haproxy");
        command.arg("-db").arg("-f").arg(&configuration);
        let mut process = Process::start(&mut command, &dir.path().join("log"))?;
        process.wait_until_it_listens_at(listen)?;
        Ok(Self { process, _dir: dir })
    }

    /// The original destinations of the connections that have ended so far, in the order of their ends.
    ///
    /// # Errors
    /// If its log is gone.
    pub fn destinations(&self) -> io::Result<Vec<SocketAddr>> {
        let log = self.process.output()?;
        let words = log.lines().filter_map(|line| line.split("destination=").nth(1));
        Ok(words.filter_map(|rest| destination(rest.split_whitespace().next()?)).collect())
    }

    /// The process, for its log and to stop it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Reads an address and a port, where an IPv6 address has no brackets.
fn destination(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

fn configured(listen: &[SocketAddr], threads: usize, connections: usize, options: &str) -> String {
    let binds: String =
        listen.iter().map(|address| format!("    bind {address} shards by-thread\n")).collect();
    format!(
        "global
    log stdout format raw local0
    nbthread {threads}
    maxconn {connections}
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
{options}frontend sidecar
{binds}    log global
    log-format \"client=%ci:%cp destination=%[dst]:%[dst_port] bytes=%B state=%ts\"
    default_backend original
backend original
    server any 0.0.0.0:0
"
    )
}
