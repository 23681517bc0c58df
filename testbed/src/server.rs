//! Servers that tell every client who it reached, and then echo.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{Arrival, Line, Netns, Place, Task};

/// Connections that may wait to be accepted; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;

/// Small, so that 9,000 connections are only as many threads.
const STACK: usize = 128 * 1024;

/// A server on threads of the test's own process; it stops listening on drop.
///
/// It speaks first: one line of JSON, an [`Arrival`]. Then it echoes until the client closes its half.
/// Where the server must live in a cgroup or belong to a user, it is a [`ServerTask`].
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
}

impl Server {
    /// Listens on all `addresses` inside `netns`; `who` is what its greeting says.
    ///
    /// # Errors
    /// If an address is taken or is not there.
    pub fn start(netns: &Netns, who: &str, addresses: &[SocketAddr]) -> io::Result<Self> {
        netns.run(|| Self::start_here(who, addresses))?
    }

    /// The same in the namespace of the calling thread.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_here(who: &str, addresses: &[SocketAddr]) -> io::Result<Self> {
        Self::listening(who, addresses, Kind::Usual)
    }

    fn listening(who: &str, addresses: &[SocketAddr], kind: Kind) -> io::Result<Self> {
        let listeners = addresses.iter().map(|address| listen(*address, kind));
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        for listener in &listeners {
            let (listener, who) = (listener.try_clone()?, who.to_owned());
            thread::spawn(move || accept_all(&listener, &who));
        }
        Ok(Self { listeners })
    }

    /// Where it listens, with the ports that port 0 became.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for listener in &self.listeners {
            // Wakes the thread that accepts, with an error that ends it.
            let _ = rustix::net::shutdown(listener.as_fd(), rustix::net::Shutdown::Both);
        }
    }
}

/// The same server as a process of its own, for what depends on its cgroup or user; killed on drop.
#[derive(Debug)]
pub struct ServerTask(Task<Result<(), String>>);

impl ServerTask {
    /// Listens on all `addresses` at a place; `who` is what its greeting says.
    ///
    /// # Errors
    /// If an address is taken or is not there.
    pub fn start(place: &Place, who: &str, addresses: &[SocketAddr]) -> io::Result<Self> {
        Self::listening(place, who, addresses, Kind::Usual)
    }

    /// The same, listening with MPTCP sockets, as programs in Go do.
    ///
    /// # Errors
    /// As [`ServerTask::start`], or if the kernel has no MPTCP.
    pub fn multipath(place: &Place, who: &str, addresses: &[SocketAddr]) -> io::Result<Self> {
        Self::listening(place, who, addresses, Kind::Multipath)
    }

    /// The same, sharing its ports with all others that are started so (`SO_REUSEPORT`).
    ///
    /// # Errors
    /// As [`ServerTask::start`].
    pub fn sharing(place: &Place, who: &str, addresses: &[SocketAddr]) -> io::Result<Self> {
        Self::listening(place, who, addresses, Kind::Sharing)
    }

    /// The same, without `SO_REUSEADDR`, which nearly all servers set.
    ///
    /// # Errors
    /// As [`ServerTask::start`].
    pub fn strict(place: &Place, who: &str, addresses: &[SocketAddr]) -> io::Result<Self> {
        Self::listening(place, who, addresses, Kind::Strict)
    }

    fn listening(place: &Place, who: &str, addresses: &[SocketAddr], kind: Kind) -> io::Result<Self> {
        Ok(Self(place.serve(|line| serve(line, who, addresses, kind))?))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

/// Serves until the process is killed.
fn serve(line: &mut Line, who: &str, addresses: &[SocketAddr], kind: Kind) -> io::Result<()> {
    let _server = Server::listening(who, addresses, kind)?;
    line.say("ready")?;
    loop {
        thread::park();
    }
}

/// How a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Usual,
    Multipath,
    Sharing,
    Strict,
}

/// IPv6 addresses take IPv6 only, so that `0.0.0.0` and `[::]` can share a port.
fn listen(address: SocketAddr, kind: Kind) -> io::Result<TcpListener> {
    let protocol = (kind == Kind::Multipath).then_some(Protocol::MPTCP);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, protocol)?;
    socket.set_reuse_address(kind != Kind::Strict)?;
    socket.set_reuse_port(kind == Kind::Sharing)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"));
    socket.bind(&SockAddr::from(address)).map_err(named)?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Until the listener is shut down. A connection that ended in the queue, or descriptors, threads or memory that cannot be
/// had for a moment, are no reason for a server to end.
fn accept_all(listener: &TcpListener, who: &str) {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(_) => {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
        };
        let who = who.to_owned();
        let attend = move || {
            // A client that goes away early is no failure of the server.
            let _ = attend(&stream, &who);
        };
        // Without a thread this client hears nothing, and the next may.
        let _ = thread::Builder::new().stack_size(STACK).spawn(attend);
    }
}

fn attend(mut stream: &TcpStream, who: &str) -> io::Result<()> {
    let arrival = Arrival::of(stream, who)?;
    stream.write_all(format!("{}\n", serde_json::to_string(&arrival)?).as_bytes())?;
    io::copy(&mut { stream }, &mut stream)?;
    stream.shutdown(Shutdown::Write)
}
