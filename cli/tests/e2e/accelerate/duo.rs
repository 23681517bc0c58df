//! Both ends of one connection between an application and its sidecar, each a process of its own that a test
//! writes: what happens between them is the same with and without acceleration, and the books tell which way it
//! went.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use mesh_testbed::{Client, Errno, Failure, Line, Place, Task, raw_option};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::stage::{Stage, address};

/// Where the sidecar of these tests listens.
pub(crate) const SIDECAR: &str = "127.0.0.1:15005";

/// What the application dials.
pub(crate) const TARGET: &str = "10.0.3.9:80";

/// What an end may come to: its process tells it to the test's.
pub(crate) trait Told: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Told for T {}

/// What came of the two ends.
pub(crate) type Ended<A, B> = (Result<A, Errno>, Result<B, Errno>);

const SOL_TCP: i32 = 6;
const TCP_INFO: i32 = 11;

/// How long either end waits for the other.
const PATIENCE: Duration = Duration::from_secs(20);

/// One end: its socket, and a line to the other that is not the connection under test.
pub(crate) struct End<'a> {
    pub(crate) stream: TcpStream,
    line: &'a mut Line,
}

impl End<'_> {
    /// Tells the other end that this one is so far.
    pub(crate) fn tell(&mut self, word: &str) -> Result<(), Errno> {
        Ok(self.line.say(word)?)
    }

    /// Waits until the other end is so far.
    pub(crate) fn wait(&mut self, word: &str) -> Result<(), Errno> {
        let heard = self.line.hear()?;
        if heard == word { Ok(()) } else { Err(Errno(libc_eproto())) }
    }

    /// Waits until the other end's kernel has acknowledged what went through the stack: until then what follows does, too.
    pub(crate) fn settle(&self) -> Result<(), Errno> {
        // `struct tcp_info`: how many segments are not acknowledged.
        const UNACKNOWLEDGED: usize = 24;
        let waits = || {
            let info = raw_option(self.stream.as_fd(), SOL_TCP, TCP_INFO, 28)?;
            Ok::<_, Errno>(
                info.get(UNACKNOWLEDGED..).is_some_and(|count| count.iter().any(|&byte| byte != 0)),
            )
        };
        while waits()? {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Writes all of it.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads exactly so much.
    pub(crate) fn take(&mut self, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads until the other end is done.
    pub(crate) fn rest(&mut self) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// `EPROTO`: the test itself is wrong.
fn libc_eproto() -> i32 {
    rustix::io::Errno::PROTO.raw_os_error()
}

/// A stage whose workload `cart` is redirected to a sidecar that each run brings along.
pub(crate) struct Duo {
    pub(crate) stage: Stage,
}

/// What the books say of all chosen connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) short: u64,
    pub(crate) long: u64,
    pub(crate) messages: Value,
}

impl Duo {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self { stage: Stage::new()? })
    }

    /// Redirects to the sidecar, and accelerates where asked to.
    pub(crate) fn apply(&self, accelerated: bool) -> Result<Value, Failure> {
        let accelerate = if accelerated { "accelerate local" } else { "" };
        self.stage.apply_rules(&format!("redirect outbound -> 15005\nexclude outbound tcp 443\n{accelerate}"))
    }

    /// Runs both ends of a connection. Each has read from the other before its body begins, so that both are known
    /// to read by plain calls.
    pub(crate) fn run<A: Told, B: Told>(
        &self,
        client: impl FnOnce(&mut End<'_>) -> Result<A, Errno>,
        server: impl FnOnce(&mut End<'_>) -> Result<B, Errno>,
    ) -> Result<Ended<A, B>, Failure> {
        let open = Client::to(address(TARGET)?);
        self.between(&self.stage.beside(), address(SIDECAR)?, &self.stage.cart(), open, client, server)
    }

    /// The same with ends of which neither is known to read by plain calls.
    pub(crate) fn run_strangers<A: Told, B: Told>(
        &self,
        client: impl FnOnce(&mut End<'_>) -> Result<A, Errno>,
        server: impl FnOnce(&mut End<'_>) -> Result<B, Errno>,
    ) -> Result<Ended<A, B>, Failure> {
        let open = Client::to(address(TARGET)?);
        self.strangers(&self.stage.beside(), address(SIDECAR)?, &self.stage.cart(), open, client, server)
    }

    /// [`Duo::run`] between any two places.
    pub(crate) fn between<A: Told, B: Told>(
        &self,
        there: &Place,
        listen: SocketAddr,
        here: &Place,
        open: Client,
        client: impl FnOnce(&mut End<'_>) -> Result<A, Errno>,
        server: impl FnOnce(&mut End<'_>) -> Result<B, Errno>,
    ) -> Result<Ended<A, B>, Failure> {
        let known_client = |end: &mut End<'_>| {
            end.send(b"?")?;
            end.take(1)?;
            end.send(b"?")?;
            end.wait("known")?;
            end.settle()?;
            client(end)
        };
        let known_server = |end: &mut End<'_>| {
            end.take(1)?;
            end.send(b"!")?;
            end.take(1)?;
            end.settle()?;
            end.tell("known")?;
            server(end)
        };
        self.strangers(there, listen, here, open, known_client, known_server)
    }

    /// [`Duo::run_strangers`] between any two places.
    pub(crate) fn strangers<A: Told, B: Told>(
        &self,
        there: &Place,
        listen: SocketAddr,
        here: &Place,
        open: Client,
        client: impl FnOnce(&mut End<'_>) -> Result<A, Errno>,
        server: impl FnOnce(&mut End<'_>) -> Result<B, Errno>,
    ) -> Result<Ended<A, B>, Failure> {
        let opens = || Ok(open.open()?.socket().try_clone()?);
        ends(there, || listener(listen, None), here, opens, client, server)
    }

    /// What the books say now.
    pub(crate) fn books(&self) -> Result<Books, Failure> {
        let status = self.stage.ask(&["status"])?;
        let Some(rule) = status.pointer("/acceleration/rules/0") else { return Ok(Books::default()) };
        let bytes = |way| rule.get(way).and_then(Value::as_u64).unwrap_or_default();
        Ok(Books {
            short: bytes("short_bytes"),
            long: bytes("long_bytes"),
            messages: rule.get("messages").cloned().unwrap_or_default(),
        })
    }

    /// What a counter of the programs says now.
    pub(crate) fn counter(&self, name: &str) -> Result<u64, Failure> {
        let status = self.stage.ask(&["status"])?;
        let counters = status.get("counters").and_then(Value::as_array).into_iter().flatten();
        let found = counters.filter(|it| it.get("name").is_some_and(|it| it == name));
        Ok(found.filter_map(|it| it.get("value")?.as_u64()).next().unwrap_or(0))
    }

    /// The same case without and with acceleration: both must come to the same, and with it bytes must have
    /// taken the short way.
    pub(crate) fn both_ways<T: PartialEq + std::fmt::Debug>(
        &self,
        case: impl Fn() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.apply(false)?;
        let plain = case()?;
        self.apply(true)?;
        let before = self.books()?;
        let accelerated = case()?;
        let after = self.books()?;
        assert_eq!(accelerated, plain, "accelerated, then plain");
        assert!(after.short > before.short, "no byte took the short way: {before:?} then {after:?}");
        Ok(accelerated)
    }
}

/// Runs both ends of a connection, whatever their sockets are.
pub(crate) fn ends<A: Told, B: Told>(
    there: &Place,
    listens: impl FnOnce() -> Result<TcpListener, Errno>,
    here: &Place,
    opens: impl FnOnce() -> Result<TcpStream, Errno>,
    client: impl FnOnce(&mut End<'_>) -> Result<A, Errno>,
    server: impl FnOnce(&mut End<'_>) -> Result<B, Errno>,
) -> Result<Ended<A, B>, Failure> {
    let mut far = there.spawn(|line| {
        let listener = listens()?;
        line.say("listens")?;
        let (stream, _) = listener.accept()?;
        drop(listener);
        patient(&stream)?;
        server(&mut End { stream, line })
    })?;
    far.line().hear()?;
    let mut near = here.spawn(|line| {
        let stream = opens()?;
        patient(&stream)?;
        client(&mut End { stream, line })
    })?;
    relay(&mut near, &mut far);
    Ok((near.join()?, far.join()?))
}

pub(crate) fn patient(stream: &TcpStream) -> Result<(), Errno> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream.set_write_timeout(Some(PATIENCE))?)
}

/// A socket that listens, of TCP or of another protocol.
pub(crate) fn listener(address: SocketAddr, protocol: Option<Protocol>) -> Result<TcpListener, Errno> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, protocol)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    Ok(socket.into())
}

/// Carries each end's words to the other until both have ended.
fn relay<A: DeserializeOwned, B: DeserializeOwned>(near: &mut Task<A>, far: &mut Task<B>) {
    let (mut near_ended, mut far_ended) = (false, false);
    while !near_ended || !far_ended {
        if !near_ended && !near.line().is_silent() {
            match near.line().hear() {
                Ok(word) => drop(far.line().say(&word)),
                Err(_) => near_ended = true,
            }
        }
        if !far_ended && !far.line().is_silent() {
            match far.line().hear() {
                Ok(word) => drop(near.line().say(&word)),
                Err(_) => far_ended = true,
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Sizes of calls, taken in turn: odd ones, a page, more than a message of the short way holds.
pub(crate) const SHAPES: [usize; 8] = [1, 7, 64, 1000, 4096, 16_384, 65_537, 300_000];

/// Bytes that no two places of a stream share by accident.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"pattern").finalize_xof().fill(&mut bytes);
    bytes
}

/// Waits for a socket to be ready.
pub(crate) fn ready(end: &End<'_>, what: PollFlags) -> Result<(), Errno> {
    let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&end.stream, what)], Some(&patience))?;
    if ready == 0 { Err(Errno::ETIMEDOUT) } else { Ok(()) }
}
