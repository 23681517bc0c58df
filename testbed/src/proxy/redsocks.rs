//! redsocks as a sidecar, with microsocks behind it.

use std::fs;
use std::io;
use std::net::SocketAddr;

use crate::ground::Directory;
use crate::{Place, Process};

/// Where microsocks listens; the two talk on loopback.
const SOCKS: u16 = 15080;

/// A running redsocks that sends every connection on to its original destination through microsocks, a SOCKS5
/// proxy at the same place.
///
/// It asks for `SO_ORIGINAL_DST` only, so it serves IPv4 only.
#[derive(Debug)]
pub struct RedSocks {
    // The processes before the directory: they write there.
    process: Process,
    _socks: Process,
    _dir: Directory,
}

impl RedSocks {
    /// Starts both at a place; redsocks listens on `listen`.
    ///
    /// # Errors
    /// If one is not installed, or does not listen within ten seconds; its own words are in the error.
    pub fn start(place: &Place, listen: SocketAddr) -> io::Result<Self> {
        let dir = Directory::new()?;
        let configuration = dir.path().join("redsocks.conf");
        fs::write(&configuration, configured(listen))?;
        let mut socks = place.command("microsocks");
        socks.args(["-i", "127.0.0.1", "-p", &SOCKS.to_string()]);
        let mut socks = Process::start(&mut socks, &dir.path().join("microsocks.log"))?;
        socks.wait_until_it_listens(SOCKS)?;
        let mut command = place.command("redsocks");
        command.arg("-c").arg(&configuration);
        let mut process = Process::start(&mut command, &dir.path().join("log"))?;
        process.wait_until_it_listens_at(&[listen])?;
        Ok(Self { process, _socks: socks, _dir: dir })
    }

    /// redsocks, for its log and to stop it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn configured(listen: SocketAddr) -> String {
    format!(
        "base {{
    log_debug = off;
    log_info = on;
    log = \"stderr\";
    daemon = off;
    redirector = iptables;
}}
redsocks {{
    local_ip = {};
    local_port = {};
    listenq = 1024;
    ip = 127.0.0.1;
    port = {SOCKS};
    type = socks5;
}}
",
        listen.ip(),
        listen.port()
    )
}
