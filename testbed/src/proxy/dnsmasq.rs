//! dnsmasq as a resolver beside an application.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::ground::Directory;
use crate::{Place, Process};

/// A running dnsmasq that answers for the names it was given, and for no other.
#[derive(Debug)]
pub struct Dnsmasq {
    process: Process,
    _dir: Directory,
}

impl Dnsmasq {
    /// Starts it at a place, by UDP and TCP on all of `listen`, which have one port.
    ///
    /// # Errors
    /// If it is not installed, or does not listen within ten seconds; its own words are in the error.
    pub fn start(place: &Place, listen: &[SocketAddr], names: &[(&str, IpAddr)]) -> io::Result<Self> {
        let dir = Directory::new()?;
        let port = listen.first().map_or(0, SocketAddr::port);
        let mut command = place.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
        command.args([
            "--bind-interfaces",
            "--user=root",
            "--group=root",
            "--log-queries",
            "--log-facility=-",
        ]);
        command.arg(format!("--pid-file={}", dir.path().join("pid").display()));
        command.arg(format!("--port={port}"));
        command.args(listen.iter().map(|address| format!("--listen-address={}", address.ip())));
        command.args(names.iter().map(|(name, ip)| format!("--host-record={name},{ip}")));
        let mut process = Process::start(&mut command, &dir.path().join("log"))?;
        process.wait_until_it_listens(port)?;
        Ok(Self { process, _dir: dir })
    }

    /// How many questions it has heard so far.
    ///
    /// # Errors
    /// If its log is gone.
    pub fn questions(&self) -> io::Result<usize> {
        Ok(self.process.output()?.lines().filter(|line| line.contains("query[")).count())
    }
}
