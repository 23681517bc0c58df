//! Interfaces that a policy exempts: a pod with two networks, each behind a bridge of its own. What goes by the second is
//! left alone, in both directions, and everything else is decided as ever.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{
    Client, Errno, Failure, Manner, Netns, Process, ServerTask, Tested, UdpClient, UdpServer, UdpServerTask,
    control, until, veth,
};
use serde_json::{Value, json};

use crate::fixtures::command::Answer;
use crate::fixtures::datagrams::asked;
use crate::fixtures::recipes::recipe;
use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{address, as_member};
use crate::fixtures::town::{APPLICATION, Pod, Reached, addresses, reach};

const RULES: &str = "redirect outbound -> 15001
redirect outbound udp 53 -> 15053
redirect inbound -> 15003
exempt interface \"net1\", \"data*\"";

/// What the second network is for: it, what is routed there, one address there that is routed elsewhere.
const BY_NET1: [&str; 4] = ["192.168.5.1:80", "[fd55::1]:80", "172.20.7.7:80", "[fd72::7]:80"];
/// What goes by the first network.
const BY_ETH0: [&str; 4] = ["10.42.0.1:80", "[fd42::1]:80", "172.20.9.9:80", "[fd72:9::9]:80"];

const PATIENCE: Duration = Duration::from_secs(10);
const USER: u32 = 1000;

/// The pod of a town, with a second network.
struct TwoNetworks {
    _sidecar: ServerTask,
    _datagrams: UdpServerTask,
    _servers: Vec<ServerTask>,
    pod: Pod,
    /// The bridge of the second network, and what is behind it.
    lan: Netns,
}

impl TwoNetworks {
    fn new(way: &'static str, rules: &str) -> Result<Self, Failure> {
        let this = Self::bare(way)?;
        this.pod.apply(rules)?;
        this.attach()?;
        Ok(this)
    }

    /// Without a policy.
    fn bare(way: &'static str) -> Result<Self, Failure> {
        let pod = Pod::new(way)?;
        let (town, lan) = (pod.town(), Netns::new()?);
        lan.ip("link add br1 type bridge\nlink set br1 up\naddr add 192.168.5.1/24 dev br1\naddr add fd55::1/64 dev br1 nodad")?;
        lan.forward()?;
        lan.own("172.20.0.0/16")?;
        lan.own("fd72::/16")?;
        veth((&town.pod, "net1", &["192.168.5.2/24", "fd55::2/64"]), (&lan, "port1", &[]))?;
        lan.ip(
            "link set port1 master br1\nroute add default via 192.168.5.2\nroute add default via fd55::2",
        )?;
        town.pod.ip("route add 172.20.0.0/16 via 192.168.5.1\nroute add 172.20.9.9/32 via 10.42.0.1\n\
             route add fd72::/32 via fd55::1\nroute add fd72:9::/32 via fd42::1")?;
        for range in ["172.20.9.9/32", "fd72:9::/32"] {
            town.host.own(range)?;
        }
        let serve = |netns: &Netns, who: &str, listen: &[&str]| pod.serve_in(netns, who, listen);
        let tcp = ["127.0.0.1:15001", "[::1]:15001", "127.0.0.1:15003", "[::1]:15003"];
        let udp = addresses(&["127.0.0.1:15053", "[::1]:15053"])?;
        let datagrams = UdpServerTask::start(&pod.sidecar_place(), "15053", &udp, 1)?;
        Ok(Self {
            _sidecar: ServerTask::start(&pod.sidecar_place(), "sidecar", &addresses(&tcp)?)?,
            _datagrams: datagrams,
            _servers: vec![
                serve(&town.host, "host", &["0.0.0.0:80", "[::]:80"])?,
                serve(&lan, "lan", &["0.0.0.0:80", "[::]:80"])?,
                pod.serve("application", &APPLICATION)?,
            ],
            lan,
            pod,
        })
    }

    fn attach(&self) -> Result<Value, Failure> {
        let netns = self.pod.town().pod.path().display().to_string();
        self.pod.ask(&["attach", "--netns", &netns, "--name", "cart-1", "--label", "app=cart"])
    }

    fn dial(&self, target: &str) -> Result<Seen, Failure> {
        self.dial_by(Client::to(address(target)?), target)
    }

    fn dial_by(&self, client: Client, target: &str) -> Result<Seen, Failure> {
        let target = address(target)?;
        as_member(&self.pod.place(), || seen(&client, target))
    }

    fn dial_all(&self, targets: [&str; 4]) -> Result<Vec<Seen>, Failure> {
        targets.iter().map(|target| self.dial(target)).collect()
    }

    /// From the second network to the pod, by both families; then from the first one.
    fn reach_all(&self) -> Result<[Reached; 4], Failure> {
        let host = &self.pod.town().host;
        Ok([
            reach(&self.lan, "192.168.5.2:8080")?,
            reach(&self.lan, "[fd55::2]:8080")?,
            reach(host, "10.42.0.2:8080")?,
            reach(host, "[fd42::2]:8080")?,
        ])
    }

    fn member(&self) -> Result<Value, Failure> {
        Ok(self.pod.ask(&["status"])?.pointer("/members/0/exempt").cloned().unwrap_or_default())
    }

    fn drift(&self) -> Result<Vec<String>, Failure> {
        let drift = self.pod.ask(&["status"])?.get("drift").cloned().unwrap_or_default();
        let codes = drift.as_array().into_iter().flatten().filter_map(|it| it.get("code")?.as_str());
        Ok(codes.map(str::to_owned).collect())
    }

    fn counter(&self, name: &str) -> Result<u64, Failure> {
        let status = self.pod.ask(&["status"])?;
        let all = status.get("counters").and_then(Value::as_array).into_iter().flatten();
        let found = all.filter(|it| it.get("name").and_then(Value::as_str) == Some(name));
        Ok(found.filter_map(|it| it.get("value")?.as_u64()).sum())
    }

    /// The agent, with a policy of these rules.
    fn agent(&self, rules: &str) -> Result<Process, Failure> {
        let policy = self.pod.policy(rules)?;
        let mut command = self.pod.meshc();
        command.args(["agent", "--interval", "1h", "--policy"]).args(policy.parent());
        let agent = Process::start(&mut command, &self.pod.ground().dir().join("agent.log"))?;
        let pid = Some(Value::from(agent.id()));
        let answers = || self.pod.ask(&["status"]).is_ok_and(|it| it.pointer("/agent/pid").cloned() == pid);
        if until(PATIENCE, answers) { Ok(agent) } else { Err(agent.output()?.into()) }
    }
}

fn straight(who: &str) -> Reached {
    Reached::Straight(who.into())
}

fn sidecar() -> Reached {
    Reached::Redirected("sidecar".into())
}

fn left_alone_inbound() -> [Reached; 4] {
    [straight("application"), straight("application"), sidecar(), sidecar()]
}

#[test]
fn what_goes_by_an_exempt_interface_is_left_alone_in_both_directions() -> Tested {
    for way in ["sk_lookup", "tc"] {
        let all = TwoNetworks::new(way, RULES)?;
        assert_eq!(all.dial_all(BY_NET1)?, [Seen::Straight; 4], "{way}");
        assert_eq!(all.dial_all(BY_ETH0)?, [Seen::Redirected(15001); 4], "{way}");
        assert_eq!(all.reach_all()?, left_alone_inbound(), "{way}");
        assert_eq!(all.counter("exempt")?, 6, "{way}");
        let exempt = all.member()?;
        let interfaces = json!([{ "name": "eth0", "exempt": false }, { "name": "net1", "exempt": true }]);
        assert_eq!(exempt.get("interfaces"), Some(&interfaces), "{way}");
        assert_eq!(exempt.get("special_routes"), Some(&json!(0)), "{way}");
        // Without the exemption all of it is the sidecar's.
        all.pod.apply("redirect outbound -> 15001\nredirect inbound -> 15003")?;
        assert_eq!(all.dial_all(BY_NET1)?, [Seen::Redirected(15001); 4], "{way}");
        assert_eq!(all.reach_all()?, [sidecar(), sidecar(), sidecar(), sidecar()], "{way}");
        assert_eq!((all.member()?, all.drift()?), (Value::Null, Vec::new()), "{way}");
        let entries = all.pod.ask(&["status"])?.get("maps").cloned().unwrap_or_default();
        let kept = entries.as_array().into_iter().flatten().filter(|map| {
            let name = map.get("name").and_then(Value::as_str).unwrap_or_default();
            name.starts_with("exempt_") && map.get("entries") != Some(&json!(0))
        });
        // Those of the policy before go with the one after.
        all.pod.apply("redirect outbound -> 15002\nredirect inbound -> 15003")?;
        assert!(kept.count() <= 2, "{way}: {entries}");
        let left = all.pod.ask(&["status"])?.get("maps").cloned().unwrap_or_default();
        let left = left.as_array().into_iter().flatten().filter(|map| {
            let name = map.get("name").and_then(Value::as_str).unwrap_or_default();
            matches!(name, "exempt_ifaces" | "exempt_routes") && map.get("entries") == Some(&json!(0))
        });
        assert_eq!(left.count(), 2, "{way}");
    }
    Ok(())
}

#[test]
fn the_recipe_for_a_second_network_does_what_it_promises() -> Tested {
    let all = TwoNetworks::bare("sk_lookup")?;
    let policy = all.pod.ground().write("recipe.mesh", recipe("A second network", 0, "label app = cart")?)?;
    all.pod.ask(&["apply", &policy.display().to_string()])?;
    all.attach()?;
    assert_eq!(all.dial_all(BY_NET1)?, [Seen::Straight; 4]);
    assert_eq!(all.dial_all(BY_ETH0)?, [Seen::Redirected(15001); 4]);
    assert_eq!(all.reach_all()?, left_alone_inbound());
    Ok(())
}

#[test]
fn an_exempt_interface_passes_always_rules_and_denials() -> Tested {
    let rules = "always deny outbound\nalways deny inbound\nexempt interface \"net1\"";
    for way in ["sk_lookup", "tc"] {
        let all = TwoNetworks::new(way, rules)?;
        assert_eq!(all.dial_all(BY_NET1)?, [Seen::Straight; 4], "{way}");
        assert_eq!(all.dial_all(BY_ETH0)?, [Seen::Denied; 4], "{way}");
        let refused = || Reached::Failed(Errno::ECONNREFUSED);
        let [v4, v6] = [straight("application"), straight("application")];
        assert_eq!(all.reach_all()?, [v4, v6, refused(), refused()], "{way}");
    }
    Ok(())
}

#[test]
fn a_socket_that_names_its_interface_goes_by_that_whatever_the_routes_say() -> Tested {
    let all = TwoNetworks::new("sk_lookup", RULES)?;
    // Nobody there answers to eth0's network by net1, so they are made to.
    all.lan.own("10.42.0.1/32")?;
    all.lan.own("fd42::1/128")?;
    let net1 = &all.pod.town().pod;
    net1.set("net/ipv4/conf/all/rp_filter", "0")?;
    net1.set("net/ipv4/conf/net1/rp_filter", "0")?;
    for target in ["10.42.0.1:80", "[fd42::1]:80"] {
        let target_address = address(target)?;
        assert_eq!(all.dial(target)?, Seen::Redirected(15001), "{target}");
        let place = all.pod.place();
        // Bound to the second network, it is on its own: it does not matter whether somebody answers.
        let bound = || {
            let client = Client::to(target_address).through("net1").patience(Duration::from_millis(500));
            matches!(seen(&client, target_address), Seen::Redirected(_))
        };
        assert!(!as_member(&place, bound)?, "{target}");
    }
    assert_eq!(all.counter("exempt")?, 2);
    // Bound to the first network, what would leave by the second is the policy's.
    for target in ["192.168.5.1:80", "[fd55::1]:80"] {
        let client = Client::to(address(target)?).through("eth0");
        assert_eq!(all.dial_by(client, target)?, Seen::Redirected(15001), "{target}");
    }
    assert_eq!(all.counter("exempt")?, 2);
    Ok(())
}

#[test]
fn a_source_address_chooses_no_interface() -> Tested {
    let all = TwoNetworks::new("sk_lookup", RULES)?;
    for (target, source, expected) in [
        ("10.42.0.1:80", "192.168.5.2:0", Seen::Redirected(15001)),
        ("[fd42::1]:80", "[fd55::2]:0", Seen::Redirected(15001)),
        ("192.168.5.1:80", "10.42.0.2:0", Seen::Straight),
        ("[fd55::1]:80", "[fd42::2]:0", Seen::Straight),
    ] {
        let client = Client::to(address(target)?).from(address(source)?);
        assert_eq!(all.dial_by(client, target)?, expected, "{target} from {source}");
    }
    Ok(())
}

#[test]
fn datagrams_go_by_what_each_names() -> Tested {
    const SOL_IP: i32 = 0;
    const IP_PKTINFO: i32 = 8;
    const IP_UNICAST_IF: i32 = 50;
    let all = TwoNetworks::new("sk_lookup", RULES)?;
    let listen = addresses(&["0.0.0.0:53", "[::]:53"])?;
    let _lan = UdpServer::start(&all.lan, "lan", &listen)?;
    let _host = UdpServer::start(&all.pod.town().host, "host", &listen)?;
    for manner in [Manner::Connected, Manner::Unconnected] {
        for (targets, expected) in [
            (["192.168.5.1:53", "[fd55::1]:53"], Seen::Straight),
            (["10.42.0.1:53", "[fd42::1]:53"], Seen::Redirected(15053)),
        ] {
            for target in targets {
                let to = address(target)?;
                let found = as_member(&all.pod.place(), || asked(to, manner))?;
                assert_eq!(found, expected, "{target} {manner:?}");
            }
        }
    }
    // What leaves by the interface that one datagram names, or all of a socket's.
    let (net1, target) = (all.pod.town().pod.interface("net1")?, address("10.42.0.1:53")?);
    let before = all.counter("exempt")?;
    let named = || {
        let info = [&net1.to_ne_bytes()[..], &[0; 8]].concat();
        let socket = UdpClient::new(Manner::Unconnected).open(target)?;
        socket.send_with(Some(target), "one", &control(SOL_IP, IP_PKTINFO, &info))?;
        UdpClient::new(Manner::Unconnected)
            .option(SOL_IP, IP_UNICAST_IF, &net1.to_be_bytes())
            .open(target)?
            .send(target, "all")
    };
    as_member(&all.pod.place(), named)?.map_err(|error: Errno| Failure::from(error.to_string()))?;
    assert_eq!(all.counter("exempt")?, before + 2);
    Ok(())
}

#[test]
fn an_ordinary_user_keeps_a_socket_that_is_bound_to_an_exempt_interface() -> Tested {
    let all = TwoNetworks::new("sk_lookup", RULES)?;
    let target = address("192.168.5.1:80")?;
    let user = all.pod.place().uid(USER);
    let found = as_member(&user, || seen(&Client::to(target).through("net1"), target))?;
    assert_eq!(found, Seen::Straight);
    let target = address("10.42.0.1:80")?;
    let found = as_member(&user, || seen(&Client::to(target).through("eth0"), target))?;
    assert_eq!(found, Seen::Denied);
    Ok(())
}

#[test]
fn what_a_pod_sends_to_an_address_of_its_own_did_not_come_in_by_an_interface() -> Tested {
    let rules = "deny inbound tcp 8080 from 192.168.5.2, fd55::2\nredirect outbound -> 15001\nexempt interface \"net1\"";
    for way in ["sk_lookup", "tc"] {
        let all = TwoNetworks::new(way, rules)?;
        for target in ["192.168.5.2:8080", "[fd55::2]:8080"] {
            let to = address(target)?;
            let found = as_member(&all.pod.place(), || Client::to(to).dial().map(drop))?;
            assert_eq!(found, Err(Errno::ECONNREFUSED), "{way} {target}");
        }
        assert_eq!(all.counter("exempt")?, 0, "{way}");
    }
    Ok(())
}

#[test]
fn interfaces_and_routes_that_change_are_followed_by_an_agent() -> Tested {
    for way in ["sk_lookup", "tc"] {
        let all = TwoNetworks::bare(way)?;
        let town = all.pod.town();
        let _agent = all.agent(RULES)?;
        assert!(
            until(PATIENCE, || all.pod.ask(&["status"]).is_ok_and(|it| it["state"] == "active")),
            "{way}"
        );
        all.attach()?;
        assert_eq!(all.dial("172.20.7.7:80")?, Seen::Straight, "{way}");
        let becomes = |target: &str, expected: Seen| {
            until(PATIENCE, || all.dial(target).is_ok_and(|found| found == expected))
        };
        // A route that goes, comes back, and is beaten by one with a lower metric.
        town.pod.ip("route del 172.20.0.0/16")?;
        assert!(becomes("172.20.7.7:80", Seen::Redirected(15001)), "{way}");
        town.pod.ip("route add 172.20.0.0/16 via 192.168.5.1 metric 50")?;
        assert!(becomes("172.20.7.7:80", Seen::Straight), "{way}");
        town.pod.ip("route add 172.20.0.0/16 via 10.42.0.1 metric 10")?;
        assert!(becomes("172.20.7.7:80", Seen::Redirected(15001)), "{way}");
        // An interface that appears later, with addresses and routes.
        veth((&town.pod, "data0", &["192.168.6.2/24"]), (&all.lan, "port2", &["192.168.6.1/24"]))?;
        assert!(becomes("192.168.6.1:80", Seen::Straight), "{way}");
        let inbound = || reach(&all.lan, "192.168.6.2:8080").is_ok_and(|it| it == straight("application"));
        assert!(until(PATIENCE, inbound), "{way}");
        // One that goes, and one that is called otherwise.
        town.pod.ip("link set data0 down\nlink set data0 name other0\nlink set other0 up")?;
        assert!(becomes("192.168.6.1:80", Seen::Redirected(15001)), "{way}");
        assert!(
            until(PATIENCE, || reach(&all.lan, "192.168.6.2:8080").is_ok_and(|it| it == sidecar())),
            "{way}"
        );
        town.pod.ip("link del net1")?;
        assert!(until(PATIENCE, || all.member().is_ok_and(|it| it["routes"] == 0)), "{way}");
        assert_eq!(all.drift()?, Vec::<String>::new(), "{way}");
    }
    Ok(())
}

#[test]
fn without_an_agent_changes_are_drift_until_a_repair() -> Tested {
    let all = TwoNetworks::new("sk_lookup", RULES)?;
    let town = all.pod.town();
    assert_eq!(all.drift()?, Vec::<String>::new());
    town.pod.ip("route del 172.20.0.0/16")?;
    assert_eq!(all.drift()?, ["member-interfaces"]);
    assert_eq!(Answer::of(all.pod.meshc().args(["status", "--check"]))?.code, 3);
    // It goes to where nobody is, as the kernel has it.
    assert!(matches!(all.dial("172.20.7.7:80")?, Seen::Wrong(_)));
    all.pod.ask(&["apply", "--repair", &all.pod.policy(RULES)?.display().to_string()])?;
    assert_eq!(all.drift()?, Vec::<String>::new());
    assert_eq!(all.dial("172.20.7.7:80")?, Seen::Redirected(15001));
    // So does another attach.
    town.pod.ip("route add 172.20.0.0/16 via 192.168.5.1")?;
    all.attach()?;
    assert_eq!((all.drift()?, all.dial("172.20.7.7:80")?), (Vec::new(), Seen::Straight));
    Ok(())
}

#[test]
fn more_routes_than_are_followed_are_told_and_left_to_the_policy() -> Tested {
    let all = TwoNetworks::new("sk_lookup", RULES)?;
    let routes = |verb: &str, count: u32| -> String {
        let one = |n: u32| format!("route {verb} 172.22.{}.{}/32 via 192.168.5.1\n", n / 256, n % 256);
        (0..count).map(one).collect()
    };
    all.pod.town().pod.ip(&routes("add", 1100))?;
    all.attach()?;
    assert_eq!(all.drift()?, ["member-routes-many"]);
    let exempt = all.member()?;
    assert_eq!((&exempt["too_many_routes"], &exempt["routes"]), (&json!(true), &json!(0)));
    assert_eq!(all.dial_all(BY_NET1)?, [Seen::Redirected(15001); 4]);
    // What comes in, and what is bound, is left alone all the same.
    assert_eq!(all.reach_all()?, left_alone_inbound());
    let client = Client::to(address("192.168.5.1:80")?).through("net1");
    assert_eq!(all.dial_by(client, "192.168.5.1:80")?, Seen::Straight);
    all.pod.town().pod.ip(&routes("del", 1100))?;
    all.attach()?;
    assert_eq!((all.drift()?, all.dial_all(BY_NET1)?), (Vec::new(), vec![Seen::Straight; 4]));
    Ok(())
}

#[test]
fn rules_by_source_are_counted_and_not_followed() -> Tested {
    let all = TwoNetworks::new("sk_lookup", RULES)?;
    all.pod
        .town()
        .pod
        .ip("rule add from 192.168.5.2 lookup 100\nroute add default via 192.168.5.1 table 100")?;
    assert_eq!((all.member()?["special_routes"].clone(), all.drift()?), (json!(1), Vec::new()));
    // The kernel would send it by net1; the routes for everybody say eth0.
    let client = Client::to(address("10.44.0.2:80")?).from(address("192.168.5.2:0")?);
    assert_eq!(all.dial_by(client, "10.44.0.2:80")?, Seen::Redirected(15001));
    let text = Answer::of(all.pod.meshc().args(["status"]))?.done()?.stdout;
    assert!(text.contains("cart-1: net1, with ") && text.contains("is not followed"), "{text}");
    Ok(())
}

#[test]
fn an_interface_that_nobody_has_is_told_by_status() -> Tested {
    let rules = "redirect outbound -> 15001\nexempt interface \"net1\", \"net9\"";
    let all = TwoNetworks::new("sk_lookup", rules)?;
    let absent = |all: &TwoNetworks| Ok::<_, Failure>(all.pod.ask(&["status"])?["absent_interfaces"].clone());
    assert_eq!(absent(&all)?, json!(["shop: exempt interface \"net9\""]));
    assert_eq!(Answer::of(all.pod.meshc().args(["status", "--check"]))?.code, 0);
    all.pod
        .town()
        .pod
        .ip("link add net9 type dummy\n")
        .or_else(|_| all.pod.town().pod.ip("link add net9 type bridge"))?;
    assert_eq!(absent(&all)?, json!([]));
    Ok(())
}

#[test]
fn a_hit_and_an_event_name_the_exemption() -> Tested {
    let all = TwoNetworks::new("sk_lookup", RULES)?;
    assert_eq!(all.dial("192.168.5.1:80")?, Seen::Straight);
    assert_eq!(reach(&all.lan, "192.168.5.2:8080")?, straight("application"));
    let rules = all.pod.ask(&["status"])?["rules"].clone();
    let hits = rules.as_array().into_iter().flatten().find(|it| it["text"] == "exempt interface \"net1\"");
    assert_eq!(hits.map(|it| it["hits"].clone()), Some(json!(2)), "{rules}");
    let output =
        Answer::of(all.pod.meshc().args(["--format", "json", "observe", "--since", "1m"]))?.done()?.stdout;
    let events: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let exempt: Vec<&Value> = events.iter().filter(|it| it.pointer("/rule/exempt").is_some()).collect();
    let directions: Vec<&Value> = exempt.iter().map(|it| &it["direction"]).collect();
    assert_eq!(directions, [&json!("outbound"), &json!("inbound")], "{output}");
    Ok(())
}

#[test]
fn connections_by_an_interface_that_becomes_exempt_are_not_closed_as_redirected() -> Tested {
    let all = TwoNetworks::new("sk_lookup", "exclude outbound\nexclude inbound")?;
    let target: SocketAddr = address("192.168.5.1:80")?;
    let mut task = all.pod.place().spawn(move |line| {
        let mut stream = Client::to(target).open()?;
        stream.greeting()?;
        line.say("open").map_err(Errno::from)?;
        line.hear().map_err(Errno::from)?;
        stream.exchange("still there").map(drop)
    })?;
    assert_eq!(task.line().hear()?, "open");
    let policy = all.pod.policy(RULES)?.display().to_string();
    let applied = all.pod.ask(&["apply", "--reset-changed", &policy])?;
    assert_eq!(applied["closed"], 0, "{applied}");
    task.line().say("go")?;
    assert_eq!(task.join()?, Ok(()));
    Ok(())
}
