//! Services of the host, members by their cgroup: inbound traffic to them, told apart by who listens.
//!
//! The host is a namespace made for the test, in which meshc runs too.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mesh_bpf::flow::Protocol;
use mesh_testbed::kernel_test as test;
use mesh_testbed::{
    Cgroup, Client, Errno, Failure, Ground, Place, Process, Server, ServerTask, Tested, Town, act_as,
    leave_users, storage, until,
};
use serde_json::Value;

use super::model::ReachedAt;
use crate::fixtures::command::Answer;
use crate::fixtures::compiled::compiled;
use crate::fixtures::connected::Connected;
use crate::fixtures::stage::{PORTS, SIDECAR_PORTS, SIDECAR_UID, address};
use crate::fixtures::town::{Reached, SIDECAR, addresses, reach, reached};

const PATIENCE: Duration = Duration::from_secs(20);

/// A host with a service, a sidecar and something that is no member.
struct Host {
    town: Town,
    service: Cgroup,
    beside: Cgroup,
    ground: Ground,
}

impl Host {
    fn new() -> Result<Self, Failure> {
        let ground = Ground::new()?;
        let (service, beside) = (ground.cgroup().child("service")?, ground.cgroup().child("beside")?);
        Ok(Self { town: Town::new()?, service, beside, ground })
    }

    /// Where the service lives, below the cgroup that the policy names.
    fn service(&self) -> Place {
        Place::here().netns(&self.town.host).cgroup(&self.service)
    }

    fn beside(&self) -> Place {
        Place::here().netns(&self.town.host).cgroup(&self.beside)
    }

    /// meshc, on this host.
    fn meshc(&self) -> Command {
        let mut command = Place::here().netns(&self.town.host).command(env!("CARGO_BIN_EXE_meshc"));
        command
            .env("MESHC_BPFFS", self.ground.bpffs().join("mesh"))
            .env("MESHC_STATE", self.ground.state())
            .env("MESHC_CGROUP", self.ground.cgroup().path());
        command
    }

    fn ask(&self, arguments: &[&str]) -> Result<Value, Failure> {
        Answer::of(self.meshc().args(["--format", "json"]).args(arguments))?.done()?.json()
    }

    /// A policy with these rules for the service.
    fn policy(&self, rules: &str) -> Result<String, Failure> {
        let cgroup = self.service.within()?;
        Ok(format!(
            "exempt uid {SIDECAR_UID}\nmesh host {{\n{rules}\nworkload svc {{ cgroup \"{cgroup}\" }}\n}}\n"
        ))
    }

    fn apply(&self, rules: &str) -> Result<Value, Failure> {
        self.ask(&["apply", "--allow-leaving", &self.written(rules)?.display().to_string()])
    }

    /// The same policy as a file.
    fn written(&self, rules: &str) -> Result<PathBuf, Failure> {
        Ok(self.ground.write("policy.mesh", self.policy(rules)?)?)
    }

    /// The agent, with the policies of a directory.
    fn agent(&self, dir: &Path) -> Result<Process, Failure> {
        let mut command = self.meshc();
        command.args(["agent", "--interval", "1s", "--policy"]).arg(dir);
        let log = self.ground.dir().join("agent.log");
        let agent = Process::start(&mut command, &log)?;
        let pid = Some(Value::from(agent.id()));
        let answers = || self.ask(&["status"]).is_ok_and(|it| it.pointer("/agent/pid").cloned() == pid);
        if until(PATIENCE, answers) {
            return Ok(agent);
        }
        Err(format!("the agent does not answer: {}", agent.output()?).into())
    }

    /// How many programs the host's namespace has, where nothing drifted.
    fn programs(&self) -> Result<usize, Failure> {
        let status = self.ask(&["status", "--check"])?;
        let all = status.get("programs").and_then(Value::as_array).into_iter().flatten();
        Ok(all.filter(|it| it["attached_to"] == "host").count())
    }

    /// How often something was denied.
    fn denied(&self) -> Result<u64, Failure> {
        let status = self.ask(&["status"])?;
        let all = status.get("counters").and_then(Value::as_array).into_iter().flatten();
        let denied = all.filter(|it| it["name"] == "denied");
        Ok(denied.filter_map(|it| it.get("value")?.as_u64()).sum())
    }

    fn ports(&self) -> Result<usize, Failure> {
        Ok(storage::entries(&self.ground.bpffs().join("mesh/maps/host_ports"))?)
    }
}

fn sidecar() -> Reached {
    Reached::Redirected("sidecar".into())
}

fn straight(who: &str) -> Reached {
    Reached::Straight(who.into())
}

#[test]
fn ports_of_a_service_are_redirected_and_those_of_others_are_not() -> Tested {
    let host = Host::new()?;
    let far = &host.town.far;
    // Some listened before the policy came, some will later.
    let early = ServerTask::start(&host.service(), "early", &addresses(&["0.0.0.0:8080", "[::]:8080"])?)?;
    let _other =
        ServerTask::start(&host.beside(), "other", &addresses(&["0.0.0.0:8081", "10.43.0.1:8082"])?)?;
    host.apply("redirect inbound -> 15003\ndeny inbound tcp 8090\nexclude inbound from 10.42.1.2")?;
    let place = host.beside().uid(SIDECAR_UID);
    let _sidecar = ServerTask::start(&place, "sidecar", &addresses(&SIDECAR)?)?;
    let late = ["10.42.0.1:8082", "[::]:8083", "0.0.0.0:8090"];
    let _late = ServerTask::start(&host.service(), "late", &addresses(&late)?)?;
    for (target, expected) in [
        ("10.43.0.1:8080", sidecar()),
        ("[fd43::1]:8080", sidecar()),
        ("10.43.0.1:8081", straight("other")),
        // The other listens on this address, the service on that.
        ("10.43.0.1:8082", straight("other")),
        ("10.42.0.1:8082", sidecar()),
        ("[fd43::1]:8083", sidecar()),
        ("10.43.0.1:8090", Reached::Failed(Errno::ECONNREFUSED)),
        ("10.43.0.1:9999", Reached::Failed(Errno::ECONNREFUSED)),
    ] {
        assert_eq!(reach(far, target)?, expected, "{target}");
    }
    assert_eq!(reach(&host.town.other, "10.43.0.1:8080")?, straight("early"));
    // A sidecar that knows where a connection was going reaches the service there, and not itself.
    for (target, who) in
        [("127.0.0.1:8080", "early"), ("10.43.0.1:8080", "early"), ("10.42.0.1:8082", "late")]
    {
        let target = address(target)?;
        assert_eq!(reached(place.run(|| Client::to(target).dial())?, target), straight(who), "{target}");
    }
    // Another takes the port that the service had.
    drop(early);
    let _next = ServerTask::start(&host.beside(), "next", &addresses(&["0.0.0.0:8080"])?)?;
    assert_eq!(reach(far, "10.43.0.1:8080")?, straight("next"));
    Ok(())
}

#[test]
fn kernel_and_model_agree_on_generated_connections_to_a_service() -> Tested {
    let host = Host::new()?;
    let everywhere = |port: u16| [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    let serve = |place: &Place, who: &str, ports: &[u16]| -> Result<ServerTask, Failure> {
        let listen: Vec<_> = ports.iter().copied().flat_map(everywhere).collect();
        Ok(ServerTask::start(
            place,
            who,
            &addresses(&listen.iter().map(String::as_str).collect::<Vec<_>>())?,
        )?)
    };
    let _application = serve(&host.service(), "application", &PORTS)?;
    let names = SIDECAR_PORTS.map(|port| (port, port.to_string()));
    let _sidecars = (names.iter().map(|(port, name)| serve(&host.beside(), name, &[*port])))
        .collect::<Result<Vec<_>, _>>()?;
    let addresses = ["10.43.0.1", "fd43::1"];
    let to = ReachedAt { town: &host.town, netns: &host.town.host, addresses, nodes: &[] };
    let apply = |rules: &str| {
        let policy = host.written(rules)?;
        let Some(compiled) = compiled(&policy)? else { return Ok(None) };
        host.ask(&["apply", "--allow-leaving", &policy.display().to_string()])?;
        Ok(Some(compiled))
    };
    let counts = to.agree(&[Protocol::Tcp], &PORTS, apply)?;
    for kind in ["straight", "redirected", "denied"] {
        for rest in ["tcp v4", "tcp v6", "tcp own v4"] {
            let name = format!("{kind} {rest}");
            assert!(counts.contains_key(&name), "{name}: {counts:?}");
        }
    }
    Ok(())
}

#[test]
fn inbound_traffic_of_a_command_is_decided_while_it_runs() -> Tested {
    let host = Host::new()?;
    let far = &host.town.far;
    let policy = "exempt uid 1500\nmesh host {\nredirect inbound -> 15003\ndeny inbound from 10.42.1.2\n\
                  workload cmd { label app = cmd }\n}\n";
    let policy = host.ground.write("policy.mesh", policy)?.display().to_string();
    host.ask(&["apply", &policy])?;
    let _sidecar = ServerTask::start(&host.beside().uid(SIDECAR_UID), "sidecar", &addresses(&SIDECAR)?)?;
    let _other = ServerTask::start(&host.beside(), "other", &addresses(&["0.0.0.0:8081"])?)?;
    assert_eq!(host.programs()?, 0);
    // It answers one connection, and ends.
    let mut meshc = host.meshc();
    meshc.args(["run", "--as", "cmd", "--", "busybox", "nc", "-l", "-p", "8084", "-e", "echo", "hello"]);
    let mut command = Process::start(&mut meshc, &host.ground.dir().join("run.log"))?;
    command.wait_until_it_listens(8084)?;
    assert_eq!(host.programs()?, 1);
    assert_eq!(reach(far, "10.43.0.1:8084")?, sidecar());
    assert_eq!(reach(&host.town.other, "10.43.0.1:8084")?, Reached::Failed(Errno::ECONNREFUSED));
    assert_eq!(reach(far, "10.43.0.1:8081")?, straight("other"));
    // An apply leaves it.
    host.ask(&["apply", "--repair", &policy])?;
    assert_eq!(reach(far, "10.43.0.1:8084")?, sidecar());
    let own = address("127.0.0.1:8084")?;
    let said = host.town.host.run(|| Client::to(own).open().and_then(|mut stream| stream.hear()))?;
    assert_eq!(said, Ok("hello".to_owned()));
    assert!(until(PATIENCE, || !command.is_running()), "{}", command.output()?);
    assert_eq!(host.programs()?, 0);
    Ok(())
}

#[test]
fn inbound_connections_of_services_are_reset_where_a_policy_decides_otherwise() -> Tested {
    let host = Host::new()?;
    let ports = ["0.0.0.0:8080", "[::]:8080", "0.0.0.0:8081", "[::]:8081", "0.0.0.0:8083", "[::]:8083"];
    let _service = ServerTask::start(&host.service(), "service", &addresses(&ports)?)?;
    let _other = ServerTask::start(&host.beside(), "other", &addresses(&["0.0.0.0:8082", "[::]:8082"])?)?;
    let place = host.beside().uid(SIDECAR_UID);
    let _sidecar = ServerTask::start(&place, "sidecar", &addresses(&SIDECAR)?)?;
    let open = |place: &Place| {
        let ports = [8080, 8081, 8082, 8083];
        let targets = ports.map(|port| [format!("10.43.0.1:{port}"), format!("[fd43::1]:{port}")]);
        let targets: Result<Vec<_>, Failure> =
            targets.iter().flatten().map(|target| Ok(Client::to(address(target)?))).collect();
        Connected::to(place, targets?, 2)
    };
    let reset = |rules: &str| {
        let policy = host.written(rules)?.display().to_string();
        let applied = host.ask(&["apply", "--reset-changed", &policy])?;
        Ok::<_, Failure>(applied.get("closed").cloned())
    };
    let far = Place::here().netns(&host.town.far);
    let all = ["8080", "8081", "8082", "8083"];
    let mut before = open(&far)?;
    host.apply("redirect inbound -> 15003\nexclude inbound tcp 8083")?;
    let mut inbound = open(&far)?;
    let mut sidecar = open(&place)?;
    // Of the service and not of the other, what is refused now; and what comes from the host itself is direct.
    assert_eq!(
        reset("redirect inbound -> 15003\ndeny inbound tcp 8081, 8082\nexclude inbound tcp 8083")?,
        Some(2.into())
    );
    assert_eq!(inbound.alive()?, ["8080", "8082", "8083"]);
    // Nothing is decided on the host any more.
    assert_eq!(reset("deny outbound tcp 25")?, Some(2.into()));
    assert_eq!(inbound.alive()?, ["8082", "8083"]);
    assert_eq!(reset("redirect inbound -> 15003")?, Some(2.into()));
    assert_eq!(inbound.alive()?, ["8082"]);
    for stays in [&mut before, &mut sidecar] {
        assert_eq!(stays.alive()?, all);
    }
    Ok(())
}

#[test]
fn the_host_has_a_program_only_while_a_policy_asks_for_it() -> Tested {
    let host = Host::new()?;
    host.apply("deny outbound tcp 25")?;
    assert_eq!(host.programs()?, 0);
    // Its port belongs to the service.
    host.apply("redirect outbound -> 15001")?;
    assert_eq!(host.programs()?, 1);
    host.apply("redirect inbound -> 15003")?;
    assert_eq!(host.programs()?, 1);
    let service = ServerTask::start(&host.service(), "service", &addresses(&["0.0.0.0:8080"])?)?;
    assert_eq!(reach(&host.town.far, "10.43.0.1:8080")?, Reached::Failed(Errno::ECONNREFUSED));
    assert_eq!(host.ports()?, 1);
    drop(service);
    until(Duration::from_secs(20), || host.ports().is_ok_and(|ports| ports == 0));
    assert_eq!(host.ports()?, 0, "ports whose listeners have ended");
    host.apply("deny outbound tcp 25")?;
    assert_eq!(host.programs()?, 0);
    let _server = Server::start(&host.town.host, "anybody", &addresses(&["0.0.0.0:8080"])?)?;
    assert_eq!(reach(&host.town.far, "10.43.0.1:8080")?, straight("anybody"));
    Ok(())
}

#[test]
fn the_outbound_port_of_a_service_is_its_own() -> Tested {
    let host = Host::new()?;
    host.apply("redirect outbound tcp 80 -> 15001\ndeny outbound udp 80")?;
    let all = ["0.0.0.0:15001", "[::]:15001"];
    let outbound = ServerTask::start(&host.service().uid(SIDECAR_UID), "sidecar", &addresses(&all)?)?;
    for (from, source) in [(&host.town.far, "10.44.0.2:0"), (&host.town.other, "10.42.1.2:0")] {
        for target in ["10.43.0.1:15001", "[fd43::1]:15001"] {
            assert_eq!(reach(from, target)?, Reached::Failed(Errno::ECONNREFUSED), "{source} {target}");
        }
    }
    // The service's own connections, and whoever is on the host.
    let dialled = |place: &Place, client: Client, target: &str| -> Result<Reached, Failure> {
        let target = address(target)?;
        Ok(reached(place.run(|| client.dial())?, target))
    };
    for target in ["10.44.0.2:80", "[fd44::2]:80"] {
        let client = Client::to(address(target)?);
        let seen = host.service().run(|| client.dial())?.map(|dialled| dialled.arrival.original());
        assert_eq!(seen, Ok(Some(address(target)?)));
    }
    for target in ["127.0.0.1:15001", "[::1]:15001", "10.43.0.1:15001", "[fd43::1]:15001"] {
        for place in [host.service(), host.beside()] {
            let client = Client::to(address(target)?);
            assert_eq!(dialled(&place, client, target)?, straight("sidecar"), "{target}");
        }
    }
    for (source, target) in [("10.43.0.1:0", "127.0.0.1:15001"), ("[fd43::1]:0", "[::1]:15001")] {
        let client = Client::to(address(target)?).from(address(source)?);
        assert_eq!(dialled(&host.beside(), client, target)?, straight("sidecar"), "{source}");
    }
    // Where the host lets others dial loopback, they are others still. What it answers they drop.
    host.town.host.set("net/ipv4/conf/all/route_localnet", "1")?;
    host.town.other.ip(
        "route del local 127.0.0.0/8 dev lo table local\nroute del local 127.0.0.1 dev lo table local\n\
         route add 127.0.0.0/8 via 10.42.1.1 dev eth0",
    )?;
    let before = host.denied()?;
    let through = Client::to(address("127.0.0.1:15001")?).patience(Duration::from_millis(500));
    let through = through.from(address("10.42.1.2:0")?);
    assert!(host.town.other.run(|| through.dial())?.is_err());
    assert!(until(PATIENCE, || host.denied().is_ok_and(|now| now > before)));
    drop(outbound);
    // A sidecar beside the service is no member's.
    let _outbound = ServerTask::start(&host.beside().uid(SIDECAR_UID), "beside", &addresses(&all)?)?;
    assert_eq!(reach(&host.town.far, "10.43.0.1:15001")?, straight("beside"));
    Ok(())
}

#[test]
fn listeners_stay_in_step_whether_the_agent_runs_or_not() -> Tested {
    let mut host = Host::new()?;
    let dir = host.ground.dir().join("policies");
    fs::create_dir(&dir)?;
    let write =
        |host: &Host, rules: &str| -> Tested { Ok(fs::write(dir.join("host.mesh"), host.policy(rules)?)?) };
    let serve = |place: Place, who: &str, at: &str| -> Result<ServerTask, Failure> {
        Ok(ServerTask::start(&place, who, &addresses(&[at])?)?)
    };
    let reaches = |host: &Host, target: &str, expected: Reached| {
        let far = &host.town.far;
        until(PATIENCE, || reach(far, target).is_ok_and(|seen| seen == expected))
    };
    let _sidecar = ServerTask::start(&host.beside().uid(SIDECAR_UID), "sidecar", &addresses(&SIDECAR)?)?;
    // It listens before anybody asks inbound traffic to it.
    write(&host, "deny outbound tcp 25")?;
    let mut agent = host.agent(&dir)?;
    let early = serve(host.service(), "early", "0.0.0.0:8080")?;
    assert_eq!(reach(&host.town.far, "10.43.0.1:8080")?, straight("early"));
    write(&host, "redirect inbound -> 15003")?;
    assert!(reaches(&host, "10.43.0.1:8080", sidecar()), "{}", agent.output()?);

    // The agent is away. The service is restarted, in a cgroup that is another one, and somebody takes a port of it.
    agent.kill();
    drop(early);
    host.service = {
        let old = std::mem::replace(&mut host.service, host.ground.cgroup().child("for a moment")?);
        drop(old);
        host.ground.cgroup().child("service")?
    };
    let _again = serve(host.service(), "again", "0.0.0.0:8081")?;
    let other = serve(host.beside(), "other", "0.0.0.0:8080")?;
    assert_eq!(reach(&host.town.far, "10.43.0.1:8081")?, sidecar());
    assert_eq!(reach(&host.town.far, "10.43.0.1:8080")?, straight("other"));

    // Its program is gone, and meanwhile others begin to listen: the agent finds them.
    fs::remove_file(host.ground.bpffs().join("mesh/pods/host"))?;
    assert!(reaches(&host, "10.43.0.1:8081", straight("again")));
    let _late = serve(host.service(), "late", "0.0.0.0:8082")?;
    drop(other);
    let agent = host.agent(&dir)?;
    for port in ["8081", "8082"] {
        assert!(reaches(&host, &format!("10.43.0.1:{port}"), sidecar()), "{port}: {}", agent.output()?);
    }
    // These two, the sidecar's of either family, and none of those that ended.
    assert!(until(PATIENCE, || host.ports().is_ok_and(|ports| ports == 4)), "{}", host.ports()?);
    assert_eq!(host.ask(&["status"])?["drift"], serde_json::json!([]));
    Ok(())
}

/// A server that shares its ports with all others of its user.
fn sharing(place: &Place, who: &str, at: &str) -> Result<ServerTask, Failure> {
    Ok(ServerTask::sharing(place, who, &addresses(&[at])?)?)
}

#[test]
fn a_port_that_several_share_is_a_members_as_long_as_one_of_its_sockets_is_there() -> Tested {
    let host = Host::new()?;
    let far = &host.town.far;
    host.apply("redirect inbound -> 15003\ndeny inbound tcp 8090")?;
    let _sidecar = ServerTask::start(&host.beside().uid(SIDECAR_UID), "sidecar", &addresses(&SIDECAR)?)?;
    let inner = |name: &str| host.service.child(name);
    let (one, other) = (inner("one")?, inner("other")?);
    let of = |cgroup: &Cgroup| Place::here().netns(&host.town.host).cgroup(cgroup);
    for at in ["0.0.0.0:8080", "10.43.0.1:8080"] {
        // Two cgroups of the service, in either order of their ends.
        for ends_first in [true, false] {
            let (first, second) = (sharing(&of(&one), "first", at)?, sharing(&of(&other), "second", at)?);
            assert_eq!(reach(far, "10.43.0.1:8080")?, sidecar(), "{at}");
            let (ends, _stays) = if ends_first { (first, second) } else { (second, first) };
            drop(ends);
            assert_eq!(reach(far, "10.43.0.1:8080")?, sidecar(), "{at}, {ends_first}");
        }
        // A stranger joins and leaves. While both are there, the member decides for both.
        let service = sharing(&host.service(), "service", at)?;
        let stranger = sharing(&host.beside(), "stranger", at)?;
        assert_eq!(reach(far, "10.43.0.1:8080")?, sidecar(), "{at}");
        drop(stranger);
        assert_eq!(reach(far, "10.43.0.1:8080")?, sidecar(), "{at}");
        let _stranger = sharing(&host.beside(), "stranger", at)?;
        drop(service);
        assert_eq!(reach(far, "10.43.0.1:8080")?, straight("stranger"), "{at}");
    }
    let denied = "0.0.0.0:8090";
    let (first, _second) = (sharing(&of(&one), "first", denied)?, sharing(&of(&other), "second", denied)?);
    drop(first);
    assert_eq!(reach(far, "10.43.0.1:8090")?, Reached::Failed(Errno::ECONNREFUSED));
    Ok(())
}

#[test]
fn a_user_that_listens_on_thousands_of_places_takes_no_room_of_services() -> Tested {
    let host = Host::new()?;
    host.apply("redirect inbound -> 15003")?;
    let _sidecar = ServerTask::start(&host.beside().uid(SIDECAR_UID), "sidecar", &addresses(&SIDECAR)?)?;
    let places: Vec<String> = (0..4200_u16).map(|port| format!("127.0.0.1:{}", 20_000 + port)).collect();
    let places = addresses(&places.iter().map(String::as_str).collect::<Vec<_>>())?;
    let flood = ServerTask::start(&host.beside().uid(1000), "flood", &places)?;
    assert_eq!(host.ports()?, 4096 + 2, "what one user has, and the sidecar");
    let _service = ServerTask::start(&host.service(), "service", &addresses(&["0.0.0.0:8080"])?)?;
    assert_eq!(reach(&host.town.far, "10.43.0.1:8080")?, sidecar());
    let drift = || -> Result<Vec<Value>, Failure> {
        Ok(host.ask(&["status"])?["drift"].as_array().cloned().unwrap_or_default())
    };
    let found = drift()?;
    let codes: Vec<&Value> = found.iter().map(|it| &it["code"]).collect();
    assert_eq!(codes, ["host-sockets-unknown"], "{found:?}");
    drop(flood);
    let policy = host.ground.dir().join("policy.mesh").display().to_string();
    let is_well =
        || host.ask(&["apply", "--repair", &policy]).is_ok() && drift().is_ok_and(|it| it.is_empty());
    assert!(until(PATIENCE, is_well), "{:?}", drift()?);
    assert!(until(PATIENCE, || host.ports().is_ok_and(|ports| ports == 3)), "{}", host.ports()?);
    Ok(())
}

#[test]
fn all_users_of_a_user_namespace_have_the_room_of_who_made_it() -> Tested {
    let host = Host::new()?;
    host.apply("redirect inbound -> 15003")?;
    let mut flood = host.beside().uid(1000).spawn(|line| -> Result<(), Errno> {
        leave_users()?;
        line.say("made")?;
        line.hear()?;
        let mut held = Vec::new();
        for user in 1..=3_u16 {
            act_as(user.into())?;
            let ports = (0..1500).map(|port| 20_000 + 1500 * user + port);
            held.extend(
                ports.map(|port| TcpListener::bind(("127.0.0.1", port))).collect::<Result<Vec<_>, _>>()?,
            );
        }
        line.say("listens")?;
        line.hear()?;
        Ok(())
    })?;
    assert_eq!(flood.line().hear()?, "made");
    fs::write(format!("/proc/{}/uid_map", flood.id()), "0 100000 65536")?;
    flood.line().say("mapped")?;
    if flood.line().hear().is_err() {
        return Err(format!("{:?}", flood.join()?).into());
    }
    assert_eq!(host.ports()?, 4096);
    // Who made it has no more outside.
    let _outside = ServerTask::start(&host.beside().uid(1000), "outside", &addresses(&["127.0.0.1:19000"])?)?;
    assert_eq!(host.ports()?, 4096);
    let _other = ServerTask::start(&host.beside().uid(100_001), "other", &addresses(&["127.0.0.1:19001"])?)?;
    assert_eq!(host.ports()?, 4097);
    Ok(())
}

#[test]
fn a_services_redirected_connections_come_from_the_address_that_the_host_would_take() -> Tested {
    let host = Host::new()?;
    let listen = addresses(&["127.0.0.1:15001", "[::1]:15001"])?;
    // A member, too, so that inbound traffic to it is decided.
    let _sidecar = ServerTask::start(&host.service().uid(SIDECAR_UID), "sidecar", &listen)?;
    for inbound in ["", "redirect inbound -> 15003", "deny inbound"] {
        host.apply(&format!("redirect outbound -> 15001\ndeny outbound udp 443\n{inbound}"))?;
        for (target, own) in [("10.44.0.2:80", "10.43.0.1"), ("[fd44::2]:80", "fd43::1")] {
            let target = address(target)?;
            let dialled = host.service().run(|| Client::to(target).dial())??;
            assert_eq!(dialled.arrival.who, "sidecar", "{inbound}");
            assert_eq!(dialled.arrival.original(), Some(target), "{inbound}");
            let seen = [dialled.local.ip(), dialled.arrival.peer.ip()].map(|ip| ip.to_string());
            assert_eq!(seen, [own, own], "{inbound}");
            let denied = SocketAddr::new(target.ip(), 443);
            let probe = host.service().run(|| {
                let socket = UdpSocket::bind(if denied.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
                socket.connect(denied)?;
                let own = socket.local_addr()?.ip();
                socket.send(b"hello")?;
                Ok::<_, Errno>((own, socket.recv(&mut [0; 8]).map_err(Errno::from)))
            })??;
            assert_eq!((probe.0.to_string().as_str(), probe.1), (own, Err(Errno::ECONNREFUSED)));
        }
    }
    Ok(())
}

/// The interfaces of a host: its pods are behind `pod` and `other`, all else behind `eth0`.
const BY_OTHER: &str = "redirect outbound -> 15001\nredirect inbound -> 15003\nexempt interface \"other\"";

#[test]
fn what_goes_by_an_exempt_interface_of_the_host_is_left_alone() -> Tested {
    let host = Host::new()?;
    let town = &host.town;
    host.apply(BY_OTHER)?;
    let sidecar_at = addresses(&["127.0.0.1:15001", "[::1]:15001", "127.0.0.1:15003", "[::1]:15003"])?;
    let _sidecar = ServerTask::start(&host.beside().uid(SIDECAR_UID), "sidecar", &sidecar_at)?;
    let _service =
        ServerTask::start(&host.service(), "application", &addresses(&["0.0.0.0:8080", "[::]:8080"])?)?;
    let _far = Server::start(&town.far, "far", &addresses(&["10.44.0.2:80", "[fd44::2]:80"])?)?;
    let _other = Server::start(&town.other, "other", &addresses(&["10.42.1.2:80", "[fd42:1::2]:80"])?)?;
    let dial = |place: &Place, target: &str| {
        let target = address(target)?;
        Ok::<_, Failure>(reached(place.run(|| Client::to(target).dial())?, target))
    };
    let expects = |place: Place, what: &str| -> Result<(), Failure> {
        for (target, expected) in [("10.42.1.2:80", straight("other")), ("[fd42:1::2]:80", straight("other"))]
        {
            assert_eq!(dial(&place, target)?, expected, "{what}: {target}");
        }
        for target in ["10.44.0.2:80", "[fd44::2]:80"] {
            let target = address(target)?;
            let found = place.run(|| Client::to(target).dial())??;
            assert_eq!(
                (found.arrival.who.as_str(), found.arrival.original()),
                ("sidecar", Some(target)),
                "{what}"
            );
        }
        Ok(())
    };
    expects(host.service(), "a service")?;
    assert_eq!(reach(&town.other, "10.43.0.1:8080")?, straight("application"));
    assert_eq!(reach(&town.other, "[fd43::1]:8080")?, straight("application"));
    assert_eq!(reach(&town.far, "10.43.0.1:8080")?, sidecar());
    // A cgroup that is made again at the path joins with what is known of it.
    let status = host.ask(&["status", "--check"])?;
    let exempt = status.pointer("/members/0/exempt/interfaces").and_then(Value::as_array).cloned();
    let names: Vec<Value> = exempt.into_iter().flatten().filter(|it| it["exempt"] == true).collect();
    assert_eq!(names.len(), 1, "{status}");
    Ok(())
}

#[test]
fn numbers_of_the_hosts_interfaces_mean_nothing_in_another_namespace() -> Tested {
    let host = Host::new()?;
    host.apply(BY_OTHER)?;
    let (town, beside) = (&host.town, host.beside());
    let number = town.host.interface("other")?;
    // The same number in the pod's namespace, with a route.
    town.pod.ip(&format!(
        "link add same index {number} type bridge\nlink set same up\naddr add 10.42.1.77/24 dev same"
    ))?;
    let place = Place::here().netns(&town.pod).cgroup(&host.service);
    let sidecar_at = addresses(&["127.0.0.1:15001"])?;
    let _sidecar = ServerTask::start(&beside.netns(&town.pod).uid(SIDECAR_UID), "sidecar", &sidecar_at)?;
    let target = address("10.42.1.2:80")?;
    for client in [Client::to(target), Client::to(target).through("same")] {
        let found = place.run(|| client.dial())??;
        assert_eq!(found.arrival.original(), Some(target));
    }
    Ok(())
}

#[test]
fn interfaces_of_the_host_are_followed_by_an_agent() -> Tested {
    let host = Host::new()?;
    let dir = host.ground.dir().join("policies");
    fs::create_dir(&dir)?;
    fs::write(dir.join("policy.mesh"), host.policy(BY_OTHER)?)?;
    let _agent = host.agent(&dir)?;
    let town = &host.town;
    let sidecar_at = addresses(&["127.0.0.1:15001"])?;
    let _sidecar = ServerTask::start(&host.beside().uid(SIDECAR_UID), "sidecar", &sidecar_at)?;
    let _other = Server::start(&town.other, "other", &addresses(&["0.0.0.0:80"])?)?;
    town.other.own("172.20.0.0/16")?;
    let target = address("172.20.7.7:80")?;
    let goes = |expected: &str| {
        until(PATIENCE, || {
            let dialled = host.service().run(|| Client::to(target).dial());
            matches!(dialled, Ok(Ok(found)) if found.arrival.who == expected)
        })
    };
    assert!(goes("sidecar"));
    town.host.ip("route add 172.20.0.0/16 via 10.42.1.2")?;
    assert!(goes("other"));
    town.host.ip("link set other name other1 up").or_else(|_| {
        town.host.ip("link set other down\nlink set other name other1\nlink set other1 up\n\
                      route add 172.20.0.0/16 via 10.42.1.2")
    })?;
    assert!(goes("sidecar"));
    Ok(())
}
