//! Sockets that another process made, or that are older than their owner's membership: whoever connects is decided.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Failure, Line, Place, Task, Tested, UdpServer, receive_socket, send_socket};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::fixtures::stage::{SIDECAR_UID, Stage, address};
use crate::fixtures::town::Pod;

/// What becomes of a connection whose socket is of another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Went {
    /// It reached this port.
    To(u16),
    Failed(Errno),
}

const REFUSED: Went = Went::Failed(Errno::EPERM);

fn to(address: SocketAddr) -> SockAddr {
    SockAddr::from(address)
}

/// Connects, and says where to. A redirected socket is connected to the sidecar, whatever `getpeername` says.
fn connect(socket: &Socket, target: SocketAddr) -> Went {
    let went = || -> Result<u16, Errno> {
        socket.connect(&to(target))?;
        let mut greeting = std::io::BufReader::new(socket.try_clone()?);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut greeting, &mut line)?;
        let arrival: mesh_testbed::Arrival = serde_json::from_str(&line).map_err(|_| Errno(71))?;
        Ok(arrival.local.port())
    };
    went().map_or_else(Went::Failed, Went::To)
}

fn send(socket: &Socket, target: SocketAddr) -> Went {
    let sent = socket.send_to(b"?", &to(target)).map_err(Errno::from);
    sent.map_or_else(Went::Failed, |_| Went::To(target.port()))
}

/// Makes sockets at one place and hands each over to another; what `tried` with them there says.
fn handed<T: Serialize + serde::de::DeserializeOwned>(
    path: &Path,
    [from, by]: [&Place; 2],
    made: impl Fn() -> Result<Vec<Socket>, Errno>,
    tried: impl Fn(Vec<Socket>) -> T,
) -> Result<T, Failure> {
    let _ = std::fs::remove_file(path);
    let way = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    // The giver inherits nothing: it comes to the listener by its path, as the taker does.
    let giver = from.spawn(|_| -> Result<(), Errno> {
        let way = UnixStream::connect(path)?;
        for socket in made()? {
            send_socket(&way, socket.as_fd())?;
        }
        let mut end = [0];
        let _ = std::io::Read::read(&mut &way, &mut end)?;
        Ok(())
    })?;
    let (given, _) = way.accept()?;
    let mut taker = by.spawn(|line: &mut Line| -> Result<T, Errno> {
        let way = UnixStream::connect(path)?;
        let count: usize = line.hear()?.parse().map_err(|_| Errno(22))?;
        let sockets: Result<Vec<_>, Errno> =
            (0..count).map(|_| receive_socket(&way).map(Socket::from)).collect();
        Ok(tried(sockets?))
    })?;
    let (taken, _) = way.accept()?;
    // Through the test, which is neither of them: who only holds a socket is not asked.
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for _ in 0..COUNT {
        sockets.push(receive_socket(&given)?);
    }
    for socket in &sockets {
        send_socket(&taken, socket.as_fd())?;
    }
    taker.line().say(&COUNT.to_string())?;
    let tried = taker.join()??;
    drop(given);
    giver.join()??;
    Ok(tried)
}

/// Sockets that are handed over at a time.
const COUNT: usize = 4;

/// Three that nobody has connected: of TCP twice, and a datagram socket; and one that is connected to `allowed`.
fn sockets(allowed: SocketAddr) -> Result<Vec<Socket>, Errno> {
    let domain = Domain::for_address(allowed);
    let connected = Socket::new(domain, Type::DGRAM, None)?;
    connected.connect(&to(allowed))?;
    Ok(vec![
        Socket::new(domain, Type::STREAM, None)?,
        Socket::new(domain, Type::STREAM, None)?,
        Socket::new(domain, Type::DGRAM, None)?,
        connected,
    ])
}

/// What the taker does: to what is denied and what is redirected by TCP, to what is denied by either datagram socket.
fn all(sockets: &[Socket], targets: [SocketAddr; 3]) -> Option<[Went; 4]> {
    let [first, second, datagrams, connected] = sockets else { return None };
    let [denied, redirected, datagram] = targets;
    Some([
        connect(first, denied),
        connect(second, redirected),
        send(datagrams, datagram),
        send(connected, datagram),
    ])
}

#[test]
fn a_socket_that_is_handed_over_is_decided_for_whoever_connects_it() -> Tested {
    let rules = "redirect outbound tcp 80 -> 15001\ndeny outbound any 25, 53\nexclude outbound udp 443";
    let stage = Stage::ruled(rules)?;
    let path = stage.ground().dir().join("way");
    std::fs::set_permissions(stage.ground().dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let (member, stranger) = (stage.cart(), stage.beside());
    let exempt = stage.cart().uid(SIDECAR_UID);
    for (host, allowed) in [("10.0.3.9", "10.0.3.9:443"), ("[fd10::9]", "[fd10::9]:443")] {
        let allowed = address(allowed)?;
        let of = |port: u16| SocketAddr::new(allowed.ip(), port);
        let targets = [of(25), of(80), of(53)];
        let decided = [REFUSED, Went::To(15001), REFUSED, REFUSED];
        let straight = [Went::To(25), Went::To(80), Went::To(53), Went::To(53)];
        for (from, by, expected) in [
            (&stranger, &member, decided),
            (&exempt, &member, decided),
            (&member, &stranger, straight),
            (&member, &exempt, straight),
            (&stage.batch(), &member, decided),
        ] {
            let seen = handed(&path, [from, by], || sockets(allowed), |sockets| all(&sockets, targets))?;
            assert_eq!(seen, Some(expected), "{host}, from {from:?} to {by:?}");
        }
    }
    Ok(())
}

/// Makes sockets, is told to go on, and tries them.
fn older(
    place: &Place,
    allowed: SocketAddr,
    targets: [SocketAddr; 3],
) -> Result<Task<Option<[Went; 4]>>, Failure> {
    let mut task = place.spawn(|line| {
        let made = sockets(allowed).ok()?;
        line.say("made").ok()?;
        line.hear().ok()?;
        all(&made, targets)
    })?;
    task.line().hear()?;
    Ok(task)
}

#[test]
fn a_socket_from_before_its_process_joined_a_cgroup_is_decided() -> Tested {
    let rules = "redirect outbound tcp 80 -> 15001\ndeny outbound any 25, 53";
    let stage = Stage::ruled(rules)?;
    for host in ["10.0.3.9", "fd10::9"] {
        let of = |port: u16| Ok::<_, Failure>(SocketAddr::new(host.parse()?, port));
        let mut task = older(&stage.beside(), of(443)?, [of(25)?, of(80)?, of(53)?])?;
        std::fs::write(stage.cart_cgroup().path().join("cgroup.procs"), task.id().to_string())?;
        task.line().say("go on")?;
        assert_eq!(task.join()?, Some([REFUSED, Went::To(15001), REFUSED, REFUSED]), "{host}");
    }
    Ok(())
}

#[test]
fn a_socket_from_before_its_pod_was_attached_is_decided() -> Tested {
    let rules = "redirect outbound tcp 80 -> 15001\ndeny outbound any 25, 53";
    let pod = Pod::new("sk_lookup")?;
    pod.apply(rules)?;
    let sidecar = crate::fixtures::town::addresses(&["127.0.0.1:15001", "[::1]:15001"])?;
    let _sidecar = mesh_testbed::ServerTask::start(&pod.sidecar_place(), "sidecar", &sidecar)?;
    let far = crate::fixtures::town::addresses(&["0.0.0.0:53", "[::]:53"])?;
    let _far = UdpServer::start(&pod.town().far, "far", &far)?;
    let mut tasks = Vec::new();
    for host in ["10.44.0.2", "fd44::2"] {
        let of = |port: u16| Ok::<_, Failure>(SocketAddr::new(host.parse()?, port));
        tasks.push(older(&pod.place(), of(443)?, [of(25)?, of(80)?, of(53)?])?);
    }
    pod.attach()?;
    for mut task in tasks {
        task.line().say("go on")?;
        assert_eq!(task.join()?, Some([REFUSED, Went::To(15001), REFUSED, REFUSED]));
    }
    Ok(())
}
