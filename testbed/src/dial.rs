//! Clients: one connection, opened in every way that applications do.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::arrival::Arrival;
use crate::errno::Errno;
use crate::raw;

/// How long a client waits for a connection and for an answer: longer than any process of a busy machine waits to run.
/// With five seconds, tests under traffic saw connections fail that nobody had refused, reset or led astray.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of one TCP connection.
#[derive(Clone, Debug)]
pub struct Client {
    target: SocketAddr,
    source: Option<SocketAddr>,
    device: Option<String>,
    mapped: bool,
    nonblocking: bool,
    fast_open: bool,
    multipath: bool,
    transparent: bool,
    options: Vec<(i32, i32, Vec<u8>)>,
    earlier: Vec<(SocketAddr, bool)>,
    patience: Duration,
}

/// What a client saw of a connection that it opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialled {
    /// `getsockname`.
    pub local: SocketAddr,
    /// `getpeername`: what the application believes it reached.
    pub peer: SocketAddr,
    /// Whom it really reached, and what that server saw.
    pub arrival: Arrival,
}

impl Client {
    /// A client that connects as most do: blocking, of the target's own family, from any source.
    pub fn to(target: SocketAddr) -> Self {
        Self {
            target,
            source: None,
            device: None,
            mapped: false,
            nonblocking: false,
            fast_open: false,
            multipath: false,
            transparent: false,
            options: Vec::new(),
            earlier: Vec::new(),
            patience: PATIENCE,
        }
    }

    /// Dials a v4 target by an `AF_INET6` socket, as every JVM does.
    #[must_use]
    pub fn mapped(mut self) -> Self {
        self.mapped = true;
        self
    }

    /// Connects without blocking and waits for the socket to become writable, as every event loop does.
    #[must_use]
    pub fn nonblocking(mut self) -> Self {
        self.nonblocking = true;
        self
    }

    /// Binds this source first; port 0 is any.
    #[must_use]
    pub fn from(mut self, source: SocketAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Binds to a device first.
    #[must_use]
    pub fn through(mut self, device: &str) -> Self {
        self.device = Some(device.to_owned());
        self
    }

    /// Sends a first line, `first`, together with the SYN, as TCP Fast Open allows.
    #[must_use]
    pub fn fast_open(mut self) -> Self {
        self.fast_open = true;
        self
    }

    /// Uses a socket that was connected to `earlier` before, or failed to be, and dissolved that connection
    /// by `connect(AF_UNSPEC)`.
    #[must_use]
    pub fn after(mut self, earlier: SocketAddr) -> Self {
        self.earlier.push((earlier, true));
        self
    }

    /// Uses a socket whose connection to `earlier` failed, as it is.
    #[must_use]
    pub fn failing_at(mut self, earlier: SocketAddr) -> Self {
        self.earlier.push((earlier, false));
        self
    }

    /// Uses an MPTCP socket.
    #[must_use]
    pub fn multipath(mut self) -> Self {
        self.multipath = true;
        self
    }

    /// Takes any source as its own (`IP_TRANSPARENT`), as a proxy does that keeps its client's address.
    #[must_use]
    pub fn transparent(mut self) -> Self {
        self.transparent = true;
        self
    }

    /// Sets an option of the socket before it connects.
    #[must_use]
    pub fn option(mut self, level: i32, option: i32, value: &[u8]) -> Self {
        self.options.push((level, option, value.to_vec()));
        self
    }

    /// Waits no longer than this for the connection and for each answer.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Opens the connection.
    ///
    /// # Errors
    /// What `connect` or one of the calls before it answered.
    pub fn open(&self) -> Result<Stream, Errno> {
        let target = self.address(self.target);
        let protocol = self.multipath.then_some(Protocol::MPTCP);
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, protocol)?;
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        if self.transparent {
            let (level, option) = match target {
                SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_TRANSPARENT),
                SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
            };
            raw::set_socket_option(socket.as_fd(), level, option, &1_i32.to_ne_bytes())?;
        }
        if let Some(source) = self.source {
            // A port that a connection to elsewhere has, or that waits to be forgotten, can be used again.
            socket.set_reuse_address(source.port() != 0)?;
            socket.bind(&SockAddr::from(source))?;
        }
        for (level, option, value) in &self.options {
            raw::set_socket_option(socket.as_fd(), *level, *option, value)?;
        }
        socket.set_write_timeout(Some(self.patience))?;
        socket.set_read_timeout(Some(self.patience))?;
        for (earlier, dissolves) in &self.earlier {
            let connected = socket.connect(&SockAddr::from(self.address(*earlier)));
            if *dissolves {
                // Whether there was a connection or not: the socket is to be used again.
                rustix::net::connect_unspec(&socket).map_err(io::Error::from)?;
            } else if connected.is_ok() {
                return Err(Errno(libc::EISCONN));
            }
        }
        if self.fast_open {
            setsockopt(&socket, sockopt::TcpFastOpenConnect, &true).map_err(io::Error::from)?;
        }
        if self.nonblocking {
            socket.connect_timeout(&SockAddr::from(target), self.patience)?;
        } else {
            socket.connect(&SockAddr::from(target))?;
        }
        if self.fast_open {
            (&socket).write_all(b"first\n")?;
        }
        Ok(Stream(BufReader::new(TcpStream::from(socket))))
    }

    /// Opens the connection, hears who greets, and closes it.
    ///
    /// # Errors
    /// What `connect` answered, or `ETIMEDOUT` where nobody greets.
    pub fn dial(&self) -> Result<Dialled, Errno> {
        self.open()?.greeting()
    }

    fn address(&self, of: SocketAddr) -> SocketAddr {
        match of.ip() {
            IpAddr::V4(ip) if self.mapped => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), of.port()),
            _ => of,
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Stream(BufReader<TcpStream>);

impl Stream {
    /// The socket itself.
    pub fn socket(&self) -> &TcpStream {
        self.0.get_ref()
    }

    /// Ends the connection by a reset.
    ///
    /// # Errors
    /// If the kernel refuses the option.
    pub fn reset(self) -> Result<(), Errno> {
        Ok(SockRef::from(self.socket()).set_linger(Some(Duration::ZERO))?)
    }

    /// Whether the first bytes travelled with the SYN and the other end took them there.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn was_fast(&self) -> Result<bool, Errno> {
        // `struct tcp_info` begins with seven bytes, of which the sixth is the options.
        const SYN_DATA: u8 = 32;
        let info = raw::socket_option(self.socket().as_fd(), libc::SOL_TCP, libc::TCP_INFO, 8)?;
        Ok(info.get(5).is_some_and(|options| options & SYN_DATA != 0))
    }

    /// Hears the greeting of a server of the testbed.
    ///
    /// # Errors
    /// If the connection ends or is silent; `EPROTO` if the other end is not a server of the testbed.
    pub fn greeting(&mut self) -> Result<Dialled, Errno> {
        let line = self.hear()?;
        let arrival = serde_json::from_str(&line).map_err(|_| Errno(libc::EPROTO))?;
        Ok(Dialled { local: self.socket().local_addr()?, peer: self.socket().peer_addr()?, arrival })
    }

    /// Ends the connection with a reset.
    ///
    /// # Errors
    /// If the socket does not take the option.
    pub fn abort(self) -> Result<(), Errno> {
        Ok(socket2::SockRef::from(self.socket()).set_linger(Some(Duration::ZERO))?)
    }

    /// Sends a line and hears the answer, which for a server of the testbed is the same line.
    ///
    /// # Errors
    /// If the connection ends or is silent.
    pub fn exchange(&mut self, line: &str) -> Result<String, Errno> {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes())?;
        self.hear()
    }

    /// Hears one line.
    ///
    /// # Errors
    /// If the connection ends or is silent.
    pub fn hear(&mut self) -> Result<String, Errno> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(Errno::ECONNRESET);
        }
        Ok(line.trim_end().to_owned())
    }

    /// Hears everything until the other end closes its half.
    ///
    /// # Errors
    /// If the connection is reset or silent.
    pub fn rest(&mut self) -> Result<Vec<u8>, Errno> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }
}
