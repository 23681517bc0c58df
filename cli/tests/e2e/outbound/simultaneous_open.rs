//! Both ends connect to each other at one time: a member's end is decided as what it is, a connection that it opens.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Failure, Line, Place, Task, Tested};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::fixtures::stage::{Stage, address};

/// Longer than SYNs take that are sent again and again.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    /// It is connected to the other.
    Met,
    Failed(Errno),
}

/// Connects from an address to another when it is told to, and says that it has begun.
fn end(place: &Place, from: SocketAddr, to: SocketAddr) -> Result<Task<End>, Failure> {
    Ok(place.spawn(move |line: &mut Line| {
        let mut ended = || -> Result<(), Errno> {
            line.hear()?;
            let socket = Socket::new(Domain::for_address(from), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(from))?;
            socket.set_nonblocking(true)?;
            let begun = socket.connect(&SockAddr::from(to)).map_err(|error| error.raw_os_error());
            line.say("begun")?;
            match begun {
                Err(Some(number)) if number != rustix::io::Errno::INPROGRESS.raw_os_error() => {
                    return Err(Errno(number));
                }
                _ => {}
            }
            let mut waits = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::OUT)];
            let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
            if rustix::event::poll(&mut waits, Some(&patience))? == 0 {
                return Err(Errno::ETIMEDOUT);
            }
            if let Some(error) = socket.take_error()? {
                return Err(error.into());
            }
            // Whoever it is connected to has the other end.
            line.say("ended")?;
            line.hear()?;
            Ok(())
        };
        ended().map_or_else(End::Failed, |()| End::Met)
    })?)
}

/// Both connect while no packet reaches the other side, which then do.
fn crossed(stage: &Stage, port: u16) -> Result<[End; 2], Failure> {
    let pair = stage.pair();
    let (here, there) = (address(&format!("192.168.7.2:{port}"))?, address(&format!("192.168.7.1:{port}"))?);
    let mut member = end(&stage.cart(), here, there)?;
    let mut other = end(&Place::here().netns(&pair.server), there, here)?;
    let nobody = "lladdr 02:00:00:00:00:99 dev eth0 nud permanent";
    pair.client.ip(&format!("neigh replace 192.168.7.1 {nobody}"))?;
    pair.server.ip(&format!("neigh replace 192.168.7.2 {nobody}"))?;
    for end in [&mut member, &mut other] {
        end.line().say("go")?;
        end.line().hear()?;
    }
    // Both have sent a SYN that nobody heard.
    pair.client.ip("neigh del 192.168.7.1 dev eth0")?;
    pair.server.ip("neigh del 192.168.7.2 dev eth0")?;
    let mut both = Vec::new();
    for mut end in [member, other] {
        // An end that failed has said nothing.
        if end.line().hear().is_ok() {
            both.push((end, true));
        } else {
            both.push((end, false));
        }
    }
    let mut ends = Vec::new();
    for (mut end, waits) in both {
        if waits {
            end.line().say("end")?;
        }
        ends.push(end.join()?);
    }
    ends.try_into().map_err(|_| "two ends".into())
}

#[test]
fn a_simultaneous_open_is_a_connection_that_its_member_opens() -> Tested {
    let rules = "redirect outbound tcp 6002 -> 15001\ndeny outbound tcp 6001\nexclude outbound tcp 6000\n\
                 deny inbound tcp 6000";
    let stage = Stage::ruled(rules)?;
    // None of it was inbound: it is connected to whom it called.
    assert_eq!(crossed(&stage, 6000)?, [End::Met, End::Met]);
    assert_eq!(crossed(&stage, 6001)?, [End::Failed(Errno::EPERM), End::Failed(Errno::ECONNREFUSED)]);
    // The member's end is bound to its address, and goes to the sidecar from there.
    assert_eq!(crossed(&stage, 6002)?, [End::Met, End::Failed(Errno::ECONNREFUSED)]);
    Ok(())
}
