//! squid as a sidecar.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::ground::Directory;
use crate::{Place, Process};

/// A running squid that sends every HTTP request on to its connection's original destination.
///
/// It asks for `SO_ORIGINAL_DST` and for `IP6T_SO_ORIGINAL_DST`, by the family of its own end.
#[derive(Debug)]
pub struct Squid {
    // The process before the directory: it writes there.
    process: Process,
    dir: Directory,
}

impl Squid {
    /// Starts it at a place, intercepting on all of `listen`.
    ///
    /// # Errors
    /// If it is not installed, or does not listen within ten seconds; its own words are in the error.
    pub fn start(place: &Place, listen: &[SocketAddr]) -> io::Result<Self> {
        let dir = Directory::new()?;
        // It may run as another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
        let configuration = dir.path().join("squid.conf");
        fs::write(&configuration, configured(listen, dir.path()))?;
        let mut command = place.command("squid");
        command.args(["-N", "-f"]).arg(&configuration);
        let mut process = Process::start(&mut command, &dir.path().join("log"))?;
        process.wait_until_it_listens_at(listen)?;
        Ok(Self { process, dir })
    }

    /// The original destinations of the requests that it has answered so far.
    ///
    /// # Errors
    /// If its log is gone.
    pub fn destinations(&self) -> io::Result<Vec<SocketAddr>> {
        let log = fs::read_to_string(self.dir.path().join("access.log"))?;
        let destination = |line: &str| {
            let (ip, port) = line.split_once(' ')?;
            Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
        };
        Ok(log.lines().filter_map(destination).collect())
    }

    /// The process, for its log and to stop it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn configured(listen: &[SocketAddr], dir: &Path) -> String {
    let intercepts: String =
        listen.iter().map(|address| format!("http_port {address} intercept\n")).collect();
    let dir = dir.display();
    // It wants one port for those who know that they speak to a proxy.
    format!(
        "{intercepts}http_port 127.0.0.1:3128
http_access allow all
cache deny all
pid_filename none
netdb_filename none
pinger_enable off
shutdown_lifetime 0
visible_hostname sidecar
dns_nameservers 127.0.0.1
coredump_dir {dir}
cache_log {dir}/cache.log
logformat destination %>la %>lp
access_log stdio:{dir}/access.log destination
buffered_logs off
"
    )
}
