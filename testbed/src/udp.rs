//! A UDP server that tells its clients who answered, and a client for it.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{Errno, Netns};

const PATIENCE: Duration = Duration::from_secs(5);

/// What a server answered to one datagram, and what the client saw of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpAnswer {
    /// The name that the server was given.
    pub who: String,
    /// The client's address, as the server saw it.
    pub client: SocketAddr,
    /// The address that the answer seemed to come from; none before the client has it.
    pub from: Option<SocketAddr>,
    /// `getpeername` of a connected client.
    pub peer: Option<SocketAddr>,
    /// What the client had sent.
    pub payload: String,
}

/// A server on a thread of the test's own process; it ends on drop.
#[derive(Debug)]
pub struct UdpServer {
    sockets: Vec<UdpSocket>,
}

impl UdpServer {
    /// Answers on all `addresses` inside `netns`; `who` is what its answers say.
    ///
    /// # Errors
    /// If an address is taken or is not there.
    pub fn start(netns: &Netns, who: &str, addresses: &[SocketAddr]) -> io::Result<Self> {
        netns.run(|| {
            let sockets = addresses.iter().map(|address| bind(*address)).collect::<io::Result<Vec<_>>>()?;
            for socket in &sockets {
                let (socket, who) = (socket.try_clone()?, who.to_owned());
                thread::spawn(move || answer_all(&socket, &who));
            }
            Ok(Self { sockets })
        })?
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // Wakes the thread that receives: zero bytes from nobody.
            let _ = rustix::net::shutdown(socket.as_fd(), rustix::net::Shutdown::Both);
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(UdpSocket::from(socket))
}

fn answer_all(socket: &UdpSocket, who: &str) {
    let mut buffer = [0; 2048];
    while let Ok((length, client)) = socket.recv_from(&mut buffer) {
        let payload = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        let answer = UdpAnswer { who: who.to_owned(), client, from: None, peer: None, payload };
        let Ok(text) = serde_json::to_vec(&answer) else { return };
        if socket.send_to(&text, client).is_err() {
            return;
        }
    }
}

/// How a client asks by datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// By a socket that is connected first, as glibc's resolver does.
    Connected,
    /// By a socket that names the destination with the datagram.
    Unconnected,
    /// The same by an `AF_INET6` socket that names a v4 address in its mapped form.
    Mapped,
    /// By a connected `AF_INET6` socket, to a v4 address in its mapped form.
    MappedConnected,
}

impl Manner {
    fn connects(self) -> bool {
        matches!(self, Self::Connected | Self::MappedConnected)
    }

    fn address(self, of: SocketAddr) -> SocketAddr {
        match (self, of.ip()) {
            (Self::Mapped | Self::MappedConnected, IpAddr::V4(ip)) => {
                SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), of.port())
            }
            _ => of,
        }
    }
}

/// Sends one datagram and waits for the answer.
///
/// # Errors
/// What the kernel answered; `ETIMEDOUT` where nobody did.
pub fn ask(target: SocketAddr, payload: &str, manner: Manner) -> Result<UdpAnswer, Errno> {
    ask_all(&[target], payload, manner)?.pop().ok_or(Errno::ETIMEDOUT)
}

/// Asks one after the other by the same socket.
///
/// # Errors
/// As [`ask`]; the first error ends it.
pub fn ask_all(targets: &[SocketAddr], payload: &str, manner: Manner) -> Result<Vec<UdpAnswer>, Errno> {
    let Some(first) = targets.first() else { return Ok(Vec::new()) };
    let socket = Socket::new(Domain::for_address(manner.address(*first)), Type::DGRAM, None)?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    let one = |target: &SocketAddr| one(&socket, manner.address(*target), payload, manner.connects());
    targets.iter().map(one).collect()
}

fn one(socket: &UdpSocket, target: SocketAddr, payload: &str, connected: bool) -> Result<UdpAnswer, Errno> {
    if connected {
        socket.connect(target)?;
        socket.send(payload.as_bytes())?;
    } else {
        socket.send_to(payload.as_bytes(), target)?;
    }
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let answer: UdpAnswer =
        serde_json::from_slice(buffer.get(..length).unwrap_or_default()).map_err(|_| Errno(libc::EPROTO))?;
    Ok(UdpAnswer { from: Some(from), peer: socket.peer_addr().ok(), ..answer })
}
