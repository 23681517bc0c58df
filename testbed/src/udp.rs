//! A UDP server that tells its clients who answered, and a client for it.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, InterfaceIndexOrAddress, MsgHdr, SockAddr, SockRef, Socket, Type};

use crate::{Errno, Line, Netns, Place, Task, raw};

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

/// The same server as a process of its own, for what depends on its cgroup or user; killed on drop.
///
/// Each of its sockets keeps `patience` datagrams before it answers them, the last first: 1 answers at once.
#[derive(Debug)]
pub struct UdpServerTask(Task<Result<(), String>>);

impl UdpServerTask {
    /// Answers on all `addresses` at a place; `who` is what its answers say.
    ///
    /// # Errors
    /// If an address is taken or is not there.
    pub fn start(place: &Place, who: &str, addresses: &[SocketAddr], patience: usize) -> io::Result<Self> {
        let sockets = || addresses.iter().map(|address| bind(*address)).collect::<io::Result<Vec<_>>>();
        Ok(Self(place.serve(|line| serve(line, who, sockets()?, patience))?))
    }

    /// The same, on sockets that have joined these groups by an interface.
    ///
    /// # Errors
    /// If an address is taken or is not there, or a group cannot be joined.
    pub fn of_groups(
        place: &Place,
        who: &str,
        addresses: &[SocketAddr],
        (groups, interface): (&[IpAddr], u32),
    ) -> io::Result<Self> {
        let sockets = || {
            let joined = |address: &SocketAddr| -> io::Result<UdpSocket> {
                let socket = bind(*address)?;
                for group in groups.iter().filter(|group| group.is_ipv4() == address.is_ipv4()) {
                    match group {
                        IpAddr::V4(group) => SockRef::from(&socket)
                            .join_multicast_v4_n(group, &InterfaceIndexOrAddress::Index(interface)),
                        IpAddr::V6(group) => socket.join_multicast_v6(group, interface),
                    }?;
                }
                Ok(socket)
            };
            addresses.iter().map(joined).collect::<io::Result<Vec<_>>>()
        };
        Ok(Self(place.serve(|line| serve(line, who, sockets()?, 1))?))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

/// Serves until the process is killed.
fn serve(line: &mut Line, who: &str, sockets: Vec<UdpSocket>, patience: usize) -> io::Result<()> {
    for socket in sockets {
        let who = who.to_owned();
        thread::spawn(move || while answer_backwards(&socket, &who, patience).is_ok() {});
    }
    line.say("ready")?;
    loop {
        thread::park();
    }
}

fn answer_backwards(socket: &UdpSocket, who: &str, patience: usize) -> io::Result<()> {
    let mut buffer = [0; 2048];
    let mut answers = Vec::new();
    for _ in 0..patience {
        let (length, client) = socket.recv_from(&mut buffer)?;
        answers.push((answer(who, client, buffer.get(..length).unwrap_or_default())?, client));
    }
    for (text, client) in answers.iter().rev() {
        socket.send_to(text, client)?;
    }
    Ok(())
}

fn answer(who: &str, client: SocketAddr, payload: &[u8]) -> io::Result<Vec<u8>> {
    let payload = String::from_utf8_lossy(payload).into_owned();
    Ok(serde_json::to_vec(&UdpAnswer { who: who.to_owned(), client, from: None, peer: None, payload })?)
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
        let Ok(text) = answer(who, client, buffer.get(..length).unwrap_or_default()) else { return };
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
    UdpClient::new(manner).ask(target, payload)
}

/// Asks one after the other by the same socket.
///
/// # Errors
/// As [`ask`]; the first error ends it.
pub fn ask_all(targets: &[SocketAddr], payload: &str, manner: Manner) -> Result<Vec<UdpAnswer>, Errno> {
    let Some(first) = targets.first() else { return Ok(Vec::new()) };
    let asker = UdpClient::new(manner).open(*first)?;
    targets.iter().map(|target| asker.ask(*target, payload)).collect()
}

/// A client that asks by datagrams.
#[derive(Clone, Debug)]
pub struct UdpClient {
    manner: Manner,
    source: Option<SocketAddr>,
    device: Option<String>,
    options: Vec<(i32, i32, Vec<u8>)>,
}

impl UdpClient {
    /// A client whose socket is bound to nothing.
    pub fn new(manner: Manner) -> Self {
        Self { manner, source: None, device: None, options: Vec::new() }
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

    /// Sets an option of the socket first.
    #[must_use]
    pub fn option(mut self, level: i32, option: i32, value: &[u8]) -> Self {
        self.options.push((level, option, value.to_vec()));
        self
    }

    /// Opens a socket that can reach `target`, and others of its family.
    ///
    /// # Errors
    /// What one of the calls answered.
    pub fn open(&self, target: SocketAddr) -> Result<UdpAsker, Errno> {
        let socket = Socket::new(Domain::for_address(self.manner.address(target)), Type::DGRAM, None)?;
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        if let Some(source) = self.source {
            socket.bind(&SockAddr::from(source))?;
        }
        for (level, option, value) in &self.options {
            raw::set_socket_option(socket.as_fd(), *level, *option, value)?;
        }
        let asker = UdpAsker { socket: UdpSocket::from(socket), manner: self.manner };
        asker.wait_for(PATIENCE)?;
        Ok(asker)
    }

    /// Asks by a socket of its own.
    ///
    /// # Errors
    /// As [`UdpClient::open`] and [`UdpAsker::ask`].
    pub fn ask(&self, target: SocketAddr, payload: &str) -> Result<UdpAnswer, Errno> {
        self.open(target)?.ask(target, payload)
    }
}

/// One piece of control data, as `sendmsg` takes it.
pub fn control(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    const HEADER: usize = 16;
    let mut piece = (HEADER + data.len()).to_ne_bytes().to_vec();
    piece.extend([level, kind].iter().flat_map(|number| number.to_ne_bytes()));
    piece.extend(data);
    piece.resize(piece.len().next_multiple_of(8), 0);
    piece
}

/// A socket that asks.
#[derive(Debug)]
pub struct UdpAsker {
    socket: UdpSocket,
    manner: Manner,
}

impl UdpAsker {
    /// Waits no longer than this for each answer.
    ///
    /// # Errors
    /// If it is no time at all.
    pub fn wait_for(&self, patience: Duration) -> Result<(), Errno> {
        Ok(self.socket.set_read_timeout(Some(patience))?)
    }

    /// Sends one datagram and waits for the answer.
    ///
    /// # Errors
    /// What the kernel answered; `ETIMEDOUT` where nobody did.
    pub fn ask(&self, target: SocketAddr, payload: &str) -> Result<UdpAnswer, Errno> {
        self.send(target, payload)?;
        self.hear()
    }

    /// Connects where the manner says so.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn connect(&self, target: SocketAddr) -> Result<(), Errno> {
        Ok(self.socket.connect(self.manner.address(target))?)
    }

    /// Dissolves what [`UdpAsker::connect`] made.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn dissolve(&self) -> Result<(), Errno> {
        Ok(rustix::net::connect_unspec(&self.socket).map_err(io::Error::from)?)
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn send(&self, target: SocketAddr, payload: &str) -> Result<(), Errno> {
        if self.manner.connects() {
            self.connect(target)?;
            self.socket.send(payload.as_bytes())?;
        } else {
            self.socket.send_to(payload.as_bytes(), self.manner.address(target))?;
        }
        Ok(())
    }

    /// Sends one datagram with control data ([`control`]); where no target is named, to where the socket is connected.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn send_with(&self, target: Option<SocketAddr>, payload: &str, control: &[u8]) -> Result<(), Errno> {
        let target = target.map(|target| SockAddr::from(self.manner.address(target)));
        let payload = [IoSlice::new(payload.as_bytes())];
        let mut message = MsgHdr::new().with_buffers(&payload).with_control(control);
        if let Some(target) = &target {
            message = message.with_addr(target);
        }
        SockRef::from(&self.socket).sendmsg(&message, 0)?;
        Ok(())
    }

    /// Waits for a datagram of whatever kind.
    ///
    /// # Errors
    /// `ETIMEDOUT` where none comes.
    pub fn hear_raw(&self) -> Result<String, Errno> {
        let mut buffer = [0; 2048];
        let (length, _) = self.socket.recv_from(&mut buffer)?;
        Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
    }

    /// The port that the socket has.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn port(&self) -> Result<u16, Errno> {
        Ok(self.socket.local_addr()?.port())
    }

    /// The device that the socket is bound to.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn device(&self) -> Result<Option<String>, Errno> {
        let device = SockRef::from(&self.socket).device()?;
        Ok(device.map(|name| String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()))
    }

    /// Waits for one answer.
    ///
    /// # Errors
    /// `ETIMEDOUT` where none comes, `EPROTO` where it is not that of a server of the testbed.
    pub fn hear(&self) -> Result<UdpAnswer, Errno> {
        let mut buffer = [0; 4096];
        let (length, from) = self.socket.recv_from(&mut buffer)?;
        let answer: UdpAnswer = serde_json::from_slice(buffer.get(..length).unwrap_or_default())
            .map_err(|_| Errno(libc::EPROTO))?;
        Ok(UdpAnswer { from: Some(from), peer: self.socket.peer_addr().ok(), ..answer })
    }
}
