//! State about a connection goes when the connection does.

use std::time::Duration;

use mesh_testbed::{
    Client, Errno, Failure, Tested, kernel_is_usable, long_runs_are_wanted, storage, tool, until,
};

use crate::stage::{SIDECAR_UID, Stage, address, as_member};

/// Connections that are open when the iterator must see them.
const HELD: usize = 50;

#[test]
fn after_many_connections_of_all_kinds_no_flow_state_is_left() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let stage = Stage::new()?;
    stage.pair().client.set("net/ipv4/ip_local_port_range", "16000 65000")?;
    // Port 5432 is redirected to where nobody listens, 8080 to where nobody ever answers.
    stage.apply_rules(
        "redirect outbound -> 15001
         redirect outbound tcp 5432 -> 15999
         redirect outbound tcp 8080 -> 15998
         exclude outbound tcp 3306
         deny outbound tcp 25",
    )?;
    let rounds = if long_runs_are_wanted() { 200_000 } else { 4_000 };
    let ports = [80, 443, 5432, 3306, 25];
    let ended = as_member(&stage.cart(), || many(rounds, ports))??;
    assert_eq!(ended, [rounds; 5], "connections by port {ports:?}");
    let exempt = stage.cart().uid(SIDECAR_UID);
    assert_eq!(as_member(&exempt, || many(1_000, [80; 5]))??, [1_000; 5]);
    let drop =
        "table inet silence { chain in { type filter hook input priority 0; tcp dport 15998 drop; }; }";
    stage.pair().client.run(|| tool("nft", &[drop]))??;
    assert_eq!(as_member(&stage.cart(), || abandoned(200))?, 200);
    nothing_is_left(&stage)
}

/// Begins `rounds` connections that nobody answers and gives them up.
fn abandoned(rounds: usize) -> usize {
    let client = Client::to(([10, 0, 0, 1], 8080).into()).nonblocking().patience(Duration::from_millis(1));
    (0..rounds).filter(|_| client.open().is_err_and(|error| error == Errno::ETIMEDOUT)).count()
}

/// Opens and ends `rounds` connections to each port, and returns how many ended as they must.
fn many(rounds: usize, ports: [u16; 5]) -> Result<[usize; 5], Errno> {
    let mut ended = [0; 5];
    for round in 0..rounds {
        for (port, count) in ports.iter().zip(&mut ended) {
            let host = u8::try_from(round % 200).unwrap_or_default() + 1;
            let dialled = Client::to((([10, 0, 0, host]), *port).into()).dial();
            let expected = match port {
                25 => Err(Errno::EPERM),
                5432 => Err(Errno::ECONNREFUSED),
                _ => Ok(()),
            };
            if dialled.map(drop) == expected {
                *count += 1;
            }
        }
    }
    Ok(ended)
}

#[test]
fn the_iterator_sees_open_connections_and_their_end() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15001")?;
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

fn nothing_is_left(stage: &Stage) -> Tested {
    let count = || -> Result<[usize; 4], Failure> {
        Ok([
            storage::sockets_with_storage(&stage.pin("client_flows")?)?,
            storage::sockets_with_storage(&stage.pin("accepted_flows")?)?,
            storage::entries(&stage.pin("handover")?)?,
            storage::entries(&stage.pin("exempt_flows")?)?,
        ])
    };
    // The last sockets may still be on their way out.
    until(Duration::from_secs(5), || count().is_ok_and(|counts| counts == [0; 4]));
    assert_eq!(count()?, [0; 4], "client storage, accepted storage, hand-over, exempt flows");
    Ok(())
}
