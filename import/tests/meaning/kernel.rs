//! Rules that a kernel has, as its own programs list them, beside the policy that comes of them: where connections of a
//! namespace with these rules end up.

#![expect(clippy::disallowed_methods, reason = "rules are handed to iptables-restore in a file")]

use std::net::{IpAddr, SocketAddr};

use mesh_bpf::flow::{Direction, Protocol, Verdict};
use mesh_import::{Origin, import};
use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Netns, Pair, Place, Server, Tested, tool};

use crate::same::{Pod, decides};
use crate::tables::Asked;

const PORTS: [u16; 5] = [25, 80, 443, 3306, 9090];
const USERS: [u32; 4] = [1337, 1000, 1500, 2000];
const REMOTE: [&str; 5] = ["192.168.7.1", "10.1.1.1", "10.1.2.3", "172.16.0.9", "fd10::5"];

/// Rules of both families, in the words of `iptables-restore`.
const RULES: [(&str, &str); 2] = [
    (
        "iptables",
        "*nat\n:TO_PROXY - [0:0]\n:PROXY - [0:0]\n-A PREROUTING -p tcp -m multiport --dports 9090,3306 -j RETURN\n-A PREROUTING -p tcp \
         ! -s 10.1.1.1/32 -j REDIRECT --to-ports 15006\n-A OUTPUT -o lo -j RETURN\n-A OUTPUT -m owner --uid-owner 1337 -j \
         RETURN\n-A OUTPUT -p tcp -j TO_PROXY\n-A OUTPUT -p tcp --dport 443 -j REDIRECT --to-ports 15002\n-A TO_PROXY -p tcp \
         --dport 3306 -m owner --uid-owner 1000-1999 -j RETURN\n-A TO_PROXY ! -d 10.0.0.0/8 -p tcp -m owner ! --uid-owner 2000 -g \
         PROXY\n-A TO_PROXY -d 10.1.2.0/24 -p tcp -m multiport --dports 80:443 -j PROXY\n-A PROXY -d 172.16.0.0/12 -p tcp --dport 80 -j \
         RETURN\n-A PROXY -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n*filter\n-A OUTPUT -d 10.0.0.0/8 -p tcp --dport 25 -m owner \
         ! --uid-owner 1337 -j REJECT\nCOMMIT\n",
    ),
    (
        "ip6tables",
        "*nat\n-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 15006\n-A OUTPUT -o lo -j RETURN\n-A OUTPUT -m owner \
         --uid-owner 1337 -j RETURN\n-A OUTPUT -d fd10::/16 -p tcp -m multiport --dports 80,443 -j REDIRECT --to-ports 15001\nCOMMIT\n",
    ),
];

/// The same kind of rules, in the words of `nft`.
const TABLE: &str = "table inet proxy {
    set databases { type inet_service; flags interval; elements = { 3306, 9000-9999 }; }
    chain out {
        type nat hook output priority -100; policy accept;
        oifname lo return
        meta skuid 1337 return
        tcp dport @databases meta skuid 1000-1999 return
        ip daddr 10.1.2.0/24 meta l4proto tcp goto proxy
        ip6 daddr fd10::/16 tcp dport != 80 jump proxy
        tcp dport { 80, 443 } meta skuid != 2000 redirect to :15002
    }
    chain proxy {
        tcp dport 25 return
        meta l4proto tcp redirect to :15001
    }
    chain into {
        type nat hook prerouting priority -100; policy accept;
        ip saddr 10.1.1.1 return
        tcp dport 80-443 redirect to :15006
    }
    chain last {
        type filter hook output priority 0; policy accept;
        meta skuid 1500 tcp dport 25 reject
    }
}
";

fn everywhere(ports: &[u16]) -> Vec<SocketAddr> {
    let all = ["0.0.0.0", "::"].map(|all| all.parse::<IpAddr>().unwrap());
    all.iter().flat_map(|all| ports.iter().map(|port| SocketAddr::new(*all, *port))).collect()
}

/// Who answers at each of these; nobody, where a connection is refused.
fn answers(targets: &[SocketAddr], from: Option<IpAddr>) -> Vec<String> {
    let one = |target: &SocketAddr| {
        let client = Client::to(*target);
        let client = match from {
            Some(from) => client.from(SocketAddr::new(from, 0)),
            None => client,
        };
        match client.dial() {
            Ok(dialled) => dialled.arrival.who,
            Err(Errno::ECONNREFUSED) => "nobody".to_owned(),
            Err(error) => format!("{error:?}"),
        }
    };
    targets.iter().map(one).collect()
}

fn hold(pair: &Pair, listings: Vec<(String, Vec<u8>)>) -> Tested {
    let found = import(Origin::Iptables, listings, false);
    let policy = found.policy.unwrap();
    let decides = decides(&policy, &Pod::new("cart", "shop", &[]));
    let mut servers = vec![Server::start(&pair.server, "straight", &everywhere(&PORTS))?];
    servers.push(Server::start(&pair.client, "straight", &everywhere(&PORTS))?);
    for port in [15001, 15002, 15006] {
        servers.push(Server::start(&pair.client, &port.to_string(), &everywhere(&[port]))?);
    }
    let mut held = 0;
    let mut check = |direction, address: IpAddr, port, uid, answer: &str| {
        let asked = Asked { protocol: Protocol::Tcp, address, port, uid, gid: uid, interface: "eth0" };
        let expected = match decides(direction, &asked) {
            Verdict::Redirected { port, .. } => port.to_string(),
            Verdict::Excluded => "straight".to_owned(),
            Verdict::Denied => "nobody".to_owned(),
        };
        assert_eq!(answer, expected, "{direction:?} {asked:?}\n{policy}");
        held += 1;
    };
    let remote: Vec<IpAddr> = REMOTE.map(|address| address.parse().unwrap()).into();
    let targets: Vec<SocketAddr> =
        remote.iter().flat_map(|&address| PORTS.map(|port| SocketAddr::new(address, port))).collect();
    for uid in USERS {
        let place = Place::here().netns(&pair.client).gid(uid).uid(uid);
        for (target, answer) in targets.iter().zip(place.run(|| answers(&targets, None))?) {
            check(Direction::Outbound, target.ip(), target.port(), uid, &answer);
        }
    }
    for from in remote {
        let pod = if from.is_ipv4() { "192.168.7.2" } else { "fd07::2" };
        let targets = PORTS.map(|port| SocketAddr::new(pod.parse().unwrap(), port));
        let place = Place::here().netns(&pair.server);
        for (target, answer) in targets.iter().zip(place.run(|| answers(&targets, Some(from)))?) {
            check(Direction::Inbound, from, target.port(), 0, &answer);
        }
    }
    assert_eq!(held, (USERS.len() + 1) * REMOTE.len() * PORTS.len());
    Ok(())
}

fn listed(netns: &Netns, program: &str, arguments: &[&str]) -> Result<(String, Vec<u8>), std::io::Error> {
    Ok((program.to_owned(), netns.run(|| tool(program, arguments))??.into_bytes()))
}

#[test]
fn rules_of_iptables_do_what_the_policy_says() -> Tested {
    let pair = Pair::new()?;
    let dir = tempfile::tempdir()?;
    for (program, rules) in RULES {
        let file = dir.path().join(program);
        std::fs::write(&file, rules)?;
        let file = file.to_str().unwrap();
        pair.client.run(|| tool(&format!("{program}-restore"), &[file]))??;
    }
    let listings = ["iptables-save", "ip6tables-save"].map(|program| listed(&pair.client, program, &[]));
    hold(&pair, listings.into_iter().collect::<Result<_, _>>()?)
}

#[test]
fn a_table_of_nft_does_what_the_policy_says() -> Tested {
    let pair = Pair::new()?;
    pair.client.run(|| tool("nft", &[TABLE]))??;
    hold(&pair, vec![listed(&pair.client, "nft", &["-j", "list", "ruleset"])?])
}
