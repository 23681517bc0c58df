//! State about a connection goes when the connection does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{
    Client, Errno, Failure, Manner, ServerTask, Tested, UdpClient, UdpServerTask, long_runs_are_wanted,
    storage, tool, until,
};
use serde::{Deserialize, Serialize};

use crate::fixtures::stage::{SIDECAR_UID, Stage, address, as_member};

/// Connections that are open when they must be counted.
const HELD: usize = 50;

/// Port 5432 is redirected to where nobody listens, 8080 to where nobody ever answers, 9090 to a sidecar that takes
/// data with the SYN.
const RULES: &str = "redirect outbound -> 15001
redirect outbound tcp 5432 -> 15999
redirect outbound tcp 8080 -> 15998
redirect outbound tcp 9090 -> 15005
redirect outbound udp 53 -> 15053
exclude outbound tcp 3306
deny outbound tcp 25";

/// How a connection begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Closed,
    Reset,
    Refused,
    FastOpen,
    Excluded,
    Denied,
    Datagram,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Closed,
        Self::Reset,
        Self::Refused,
        Self::FastOpen,
        Self::Excluded,
        Self::Denied,
        Self::Datagram,
    ];

    fn port(self) -> u16 {
        match self {
            Self::Closed => 80,
            Self::Reset => 443,
            Self::Refused => 5432,
            Self::FastOpen => 9090,
            Self::Excluded => 3306,
            Self::Denied => 25,
            Self::Datagram => 53,
        }
    }

    /// Opens and ends one; whether it went as it must.
    fn runs(self, target: SocketAddr) -> bool {
        let client = Client::to(target);
        match self {
            Self::Closed | Self::Excluded => client.dial().is_ok(),
            Self::Reset => client.open().and_then(|mut stream| stream.greeting().and(stream.reset())).is_ok(),
            Self::Refused => client.dial() == Err(Errno::ECONNREFUSED),
            Self::Denied => client.dial() == Err(Errno::EPERM),
            Self::FastOpen => {
                client.fast_open().open().and_then(|mut stream| stream.greeting().and(stream.was_fast()))
                    == Ok(true)
            }
            Self::Datagram => UdpClient::new(Manner::Unconnected).ask(target, "who?").is_ok(),
        }
    }
}

#[test]
fn after_many_connections_of_all_kinds_no_flow_state_is_left() -> Tested {
    let (stage, _sidecars) = stage()?;
    // More than a million in the long run, in parts: each is a process, whose end closes what it left open.
    let (parts, rounds) = if long_runs_are_wanted() { (96, 2_000) } else { (2, 300) };
    let expected: BTreeMap<Kind, usize> = Kind::ALL.map(|kind| (kind, rounds)).into();
    for part in 0..parts {
        let exempt = part % 8 == 7;
        let place = if exempt { stage.cart().uid(SIDECAR_UID) } else { stage.cart() };
        let kinds = if exempt { vec![Kind::Closed] } else { Kind::ALL.to_vec() };
        let ran = as_member(&place, || many(rounds, &kinds))?;
        assert_eq!(
            ran,
            expected.iter().filter(|(kind, _)| kinds.contains(kind)).map(|(k, n)| (*k, *n)).collect()
        );
    }
    nothing_is_left(&stage)
}

#[test]
fn connections_that_nobody_answers_leave_nothing_when_they_are_given_up_or_time_out() -> Tested {
    let (stage, _sidecars) = stage()?;
    let client = &stage.pair().client;
    // The kernel gives up after one repetition, three seconds in all.
    client.set("net/ipv4/tcp_syn_retries", "1")?;
    let drop =
        "table inet silence { chain in { type filter hook input priority 0; tcp dport 15998 drop; }; }";
    client.run(|| tool("nft", &[drop]))??;
    assert_eq!(as_member(&stage.cart(), || given_up(200))?, 200);
    nothing_is_left(&stage)?;

    // Half open: each is explained by a living socket.
    let mut waiting = stage.cart().spawn(|line| {
        let threads: Vec<_> =
            (0..HELD).map(|_| std::thread::spawn(|| silent().open().map(std::mem::drop))).collect();
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(()))).collect();
        let _ = line.say("they timed out").and_then(|()| line.hear());
        ended
    })?;
    let half_open = [HELD, 0, HELD, 0, 0];
    assert!(until(Duration::from_secs(20), || counted(&stage).is_ok_and(|counts| counts == half_open)));
    waiting.line().hear()?;
    nothing_is_left(&stage)?;
    waiting.line().say("enough")?;
    assert_eq!(waiting.join()?, vec![Err(Errno::ETIMEDOUT); HELD]);

    // A process that is killed in the middle.
    let killed = stage.cart().spawn(|line| {
        let mut all: Vec<_> =
            (0..HELD).map(|_| std::thread::spawn(|| silent().open().map(std::mem::drop))).collect();
        let open: Vec<_> = (0..HELD).map(|_| Client::to(([10, 0, 0, 1], 80).into()).open()).collect();
        let _ = line.hear();
        all.clear();
        open.len()
    })?;
    let both = [2 * HELD, HELD, HELD, 0, 0];
    assert!(
        until(Duration::from_secs(20), || counted(&stage).is_ok_and(|counts| counts == both)),
        "{:?}",
        counted(&stage)
    );
    std::mem::drop(killed);
    nothing_is_left(&stage)
}

/// The stage with all sidecars that [`RULES`] name.
fn stage() -> Result<(Stage, (ServerTask, UdpServerTask)), Failure> {
    let stage = Stage::new()?;
    let client = &stage.pair().client;
    client.set("net/ipv4/ip_local_port_range", "16000 65000")?;
    // Clients send, and listeners made from now on take, data with the SYN and without a cookie.
    client.set("net/ipv4/tcp_fastopen", "1543")?;
    let fast = ServerTask::start(&stage.beside(), "sidecar", &[address("127.0.0.1:15005")?])?;
    let dns = UdpServerTask::start(&stage.beside(), "sidecar", &[address("127.0.0.1:15053")?], 1)?;
    stage.apply_rules(RULES)?;
    Ok((stage, (fast, dns)))
}

/// A client of whom nobody answers; it waits as long as the kernel does.
fn silent() -> Client {
    Client::to(([10, 0, 0, 1], 8080).into()).patience(Duration::from_secs(30))
}

/// Begins `rounds` connections that nobody answers and gives them up.
fn given_up(rounds: usize) -> usize {
    let client = silent().nonblocking().patience(Duration::from_millis(1));
    (0..rounds).filter(|_| client.open().is_err_and(|error| error == Errno::ETIMEDOUT)).count()
}

/// Opens and ends `rounds` connections of each kind, and returns how many went as they must.
fn many(rounds: usize, kinds: &[Kind]) -> BTreeMap<Kind, usize> {
    let mut ran = BTreeMap::new();
    for round in 0..rounds {
        let host = u8::try_from(round % 200).unwrap_or_default() + 1;
        for kind in kinds {
            *ran.entry(*kind).or_default() += usize::from(kind.runs(([10, 0, 0, host], kind.port()).into()));
        }
    }
    ran
}

#[test]
fn open_connections_are_counted_until_their_end() -> Tested {
    let stage = Stage::ruled("redirect outbound -> 15001")?;
    let target = address("10.0.3.9:80")?;
    let mut client = stage.cart().spawn(|line| {
        let mut streams = Vec::new();
        for _ in 0..HELD {
            let mut stream = Client::to(target).open()?;
            stream.greeting()?;
            streams.push(stream);
        }
        let _ = line.say("open").and_then(|()| line.hear());
        Ok::<_, Errno>(streams.len())
    })?;
    client.line().hear()?;
    for map in ["client_flows", "accepted_flows"] {
        assert_eq!(storage::sockets_with_storage(&stage.pin(map)?)?, HELD, "{map}");
    }
    client.line().say("close")?;
    assert_eq!(client.join()?, Ok(HELD));
    nothing_is_left(&stage)
}

/// Sockets with storage as clients, as accepted ones and as datagram sockets, connections in the hand-over, exempt
/// connections.
fn counted(stage: &Stage) -> Result<[usize; 5], Failure> {
    Ok([
        storage::sockets_with_storage(&stage.pin("client_flows")?)?,
        storage::sockets_with_storage(&stage.pin("accepted_flows")?)?,
        storage::entries(&stage.pin("handover")?)?,
        storage::sockets_with_storage(&stage.pin("udp_servers")?)?,
        storage::entries(&stage.pin("exempt_flows")?)?,
    ])
}

fn nothing_is_left(stage: &Stage) -> Tested {
    // The last sockets may still be on their way out.
    until(Duration::from_secs(20), || counted(stage).is_ok_and(|counts| counts == [0; 5]));
    assert_eq!(counted(stage)?, [0; 5], "client, accepted, hand-over, asked, exempt");
    Ok(())
}
