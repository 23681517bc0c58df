//! What is noted of a connection on its way belongs to the socket that noted it, whoever has the same ends.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Failure, Level, Place, Task, Tested, original_destination};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::fixtures::stage::{Stage, address};
use crate::fixtures::town::{POD, Pod};

/// Longer than a SYN takes that is sent again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of an accepted connection: its client, and where that was going.
type Taken = (SocketAddr, Option<SocketAddr>);

/// Listens with room for one connection that waits, when it is told to; takes two when it is told to.
fn narrow(place: &Place, at: SocketAddr) -> Result<Task<Result<Vec<Taken>, Errno>>, Failure> {
    Ok(place.spawn(move |line| {
        line.hear()?;
        let listener = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        listener.set_reuse_address(true)?;
        listener.bind(&SockAddr::from(at))?;
        listener.listen(0)?;
        listener.set_read_timeout(Some(PATIENCE))?;
        line.say("listens")?;
        line.hear()?;
        let mut taken = Vec::new();
        for _ in 0..2 {
            let stream = TcpStream::from(listener.accept()?.0);
            let level = if at.is_ipv4() { Level::V4 } else { Level::V6 };
            taken.push((stream.peer_addr()?, original_destination(stream.as_fd(), level).ok()));
        }
        Ok(taken)
    })?)
}

/// Of two sockets that are bound to one port, the first is on its way to `first` and waits for room; the second fails
/// to go to `second`, since there would be two connections with the same ends.
fn collide(
    place: &Place,
    server: &mut Task<Result<Vec<Taken>, Errno>>,
    source: SocketAddr,
    [first, second]: [SocketAddr; 2],
) -> Tested {
    let mut client = place.spawn(|line| {
        let bound = |port: u16| {
            let socket = Socket::new(Domain::for_address(source), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(SocketAddr::new(source.ip(), port)))?;
            Ok::<_, Errno>(socket)
        };
        let to = SockAddr::from;
        let late = bound(source.port())?;
        // Nobody listens yet. From now on the mesh is told when this socket is closed.
        let refused = late.connect(&to(second)).map_err(Errno::from);
        line.say("refused")?;
        line.hear()?;
        let filler = bound(0)?;
        filler.connect(&to(first))?;
        let early = bound(source.port())?;
        early.set_nonblocking(true)?;
        let begun = early.connect(&to(first)).map_err(|error| error.raw_os_error());
        let collided = late.connect(&to(second)).map_err(Errno::from);
        line.say("collided")?;
        line.hear()?;
        Ok::<_, Errno>((refused, begun, collided))
    })?;
    client.line().hear()?;
    server.line().say("listen")?;
    server.line().hear()?;
    client.line().say("go on")?;
    client.line().hear()?;
    server.line().say("accept")?;
    // The client's end stays open until then.
    let taken = server.line().hear();
    client.line().say("end")?;
    let (refused, begun, collided) = client.join()??;
    assert!(taken.is_err(), "the server has ended");
    assert_eq!(refused, Err(Errno::ECONNREFUSED));
    assert_eq!(begun, Err(Some(rustix::io::Errno::INPROGRESS.raw_os_error())));
    assert_eq!(collided, Err(Errno(rustix::io::Errno::ADDRNOTAVAIL.raw_os_error())));
    Ok(())
}

#[test]
fn a_connection_that_fails_takes_no_others_destination_with_it() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15009")?;
    for (sidecar, source, targets) in [
        ("127.0.0.1:15009", "127.0.0.1:23456", ["10.0.3.9:80", "10.0.3.10:81"]),
        ("[::1]:15009", "[::1]:23456", ["[fd10::9]:80", "[fd10::10]:81"]),
    ] {
        let targets = [address(targets[0])?, address(targets[1])?];
        let mut server = narrow(&stage.beside(), address(sidecar)?)?;
        let source = address(source)?;
        collide(&stage.cart(), &mut server, source, targets)?;
        let taken = server.join()??;
        assert!(taken.contains(&(source, Some(targets[0]))), "{taken:?}");
    }
    Ok(())
}

#[test]
fn a_sidecars_connection_that_fails_takes_no_others_exemption_with_it() -> Tested {
    let made = || Pod::ruled(crate::fixtures::town::WAY, "redirect inbound from 10.42.0.2, fd42::2 -> 15003");
    let pod = made()?;
    let _sidecar = pod.serve("sidecar", &crate::fixtures::town::SIDECAR)?;
    for own in POD {
        let at = |port: u16| Ok::<_, Failure>(SocketAddr::new(own.parse()?, port));
        let mut server = narrow(&pod.place(), at(8080)?)?;
        collide(&pod.sidecar_place(), &mut server, at(23456)?, [at(8080)?; 2])?;
        let taken = server.join()??;
        assert!(taken.contains(&(at(23456)?, None)), "{taken:?}");
    }
    Ok(())
}
