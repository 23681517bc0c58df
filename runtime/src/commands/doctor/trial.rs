//! Real connections of a member, in a network namespace of its own.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use mesh_bpf::flow::Verdict;
use mesh_bpf::image::{
    Decision, MapImage, Node, PortTable, PortTableId, Profile, ProfileId, Side, Source, SourceId, SourceKind,
    Workload,
};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::selector::Selector;
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};

use super::feature::{Feature, TRIALS};
use crate::system::linux::new_network;

/// The sidecar's port, in a namespace where nobody else is.
const SIDECAR: u16 = 15001;
/// What is dialled: documentation addresses, to which there is no route.
const TARGET4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const TARGET6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const REDIRECTED: u16 = 80;
const DENIED: u16 = 25;
/// The same, for a namespace in which there must be a way to them.
pub(super) const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(TARGET4), IpAddr::V6(TARGET6)];
/// How programs refuse a connection, and how a ruleset does.
const FORBIDDEN: ErrorKind = ErrorKind::PermissionDenied;
pub(super) const REFUSED: ErrorKind = ErrorKind::ConnectionRefused;
const PATIENCE: Duration = Duration::from_secs(2);

/// The policy of the trial: `redirect outbound any 80 -> 15001`, `deny outbound tcp 25`.
pub(super) fn policy() -> MapImage {
    let rule = |head: &str| Source { kind: SourceKind::Rule, head: head.into(), ..Source::default() };
    let decision = |verdict, source| Decision { verdict, source: SourceId(source), up: 0 };
    let straight = decision(Verdict::Excluded, 0);
    let redirected = decision(Verdict::Redirected { port: SIDECAR, transparent: false }, 1);
    let ports = vec![
        (0, straight),
        (DENIED, decision(Verdict::Denied, 2)),
        (DENIED + 1, straight),
        (REDIRECTED, redirected),
        (REDIRECTED + 1, straight),
    ];
    let node = |table| Node { prefix: Prefix::Any, source: SourceId(0), ports: [PortTableId(table); 2] };
    let side = |table| Side { tree: vec![node(table)], own: vec![node(1)] };
    MapImage {
        meshes: vec!["doctor".into()],
        sources: vec![Source::default(), rule("redirect outbound any 80"), rule("deny outbound any 25")],
        port_tables: vec![PortTable { stretches: ports }, PortTable { stretches: vec![(0, straight)] }],
        profiles: vec![Profile {
            name: "doctor/patient".into(),
            sides: [side(0), side(1)],
            ..Profile::default()
        }],
        workloads: vec![Workload {
            name: "doctor/patient".into(),
            selector: Selector::default(),
            profile: ProfileId(0),
        }],
    }
    .canonical()
}

/// Opens connections as a member of the trial's mesh, in a new network namespace, and says of each part by its
/// name how it went. For a process of its own.
///
/// # Errors
/// Where the namespace cannot be made.
pub fn trial() -> io::Result<Vec<(&'static str, Result<(), String>)>> {
    new_network(&[])?;
    let parts = connections(TRIALS, FORBIDDEN).into_iter();
    Ok(parts.map(|(part, result)| (part.name, result.map_err(|error| error.to_string()))).collect())
}

/// Opens the connections of the trial in this thread's namespace. `denied` is how a denied one ends.
pub(super) fn connections(parts: [Feature; 4], denied: ErrorKind) -> Vec<(Feature, io::Result<()>)> {
    let results = [
        redirected((Ipv4Addr::LOCALHOST, SIDECAR).into(), (TARGET4, REDIRECTED).into()),
        redirected((Ipv6Addr::LOCALHOST, SIDECAR).into(), (TARGET6, REDIRECTED).into()),
        answered(),
        refused(denied),
    ];
    parts.into_iter().zip(results).collect()
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> io::Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(io::Error::other(format!("{what} is {found:?}, not {expected:?}")))
}

fn redirected(sidecar: SocketAddr, target: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(sidecar)?;
    let client = TcpStream::connect_timeout(&target, PATIENCE)?;
    expect("getpeername", &client.peer_addr()?, &target)?;
    listener.set_nonblocking(true)?;
    let (accepted, from) = listener.accept()?;
    expect("the client", &from, &client.local_addr()?)?;
    let original: SocketAddr = match target {
        SocketAddr::V4(_) => ip_original_dst(&accepted)?.into(),
        SocketAddr::V6(_) => ipv6_original_dst(&accepted)?.into(),
    };
    expect("the original destination", &original, &target)
}

fn answered() -> io::Result<()> {
    let target: SocketAddr = (TARGET4, REDIRECTED).into();
    let sidecar = UdpSocket::bind((Ipv4Addr::LOCALHOST, SIDECAR))?;
    let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    for socket in [&sidecar, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let mut buffer = [0; 8];
    client.send_to(b"ask", target)?;
    let (_, from) = sidecar.recv_from(&mut buffer)?;
    sidecar.send_to(b"answer", from)?;
    let (_, from) = client.recv_from(&mut buffer)?;
    expect("the sender of the answer", &from, &target)
}

fn refused(how: ErrorKind) -> io::Result<()> {
    match TcpStream::connect_timeout(&(TARGET4, DENIED).into(), PATIENCE) {
        Err(error) if error.kind() == how => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("it was not denied")),
    }
}
