//! What policies promise in their `test` blocks, carried out: each line of them is one connection by curl or one
//! question by dig, with nginx, HAProxy and dnsmasq as peers. The policies are the manual's recipes, its page for who
//! comes from another mesh and the policies beside it, the tutorial, and the first page.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::proxy::{Dnsmasq, HaProxy, Nginx};
use mesh_testbed::{Cgroup, Failure, Ground, Netns, Place, Tested, UdpServer, until, veth};

use crate::fixtures::command::{Answer, meshc};
use crate::fixtures::town::WAY;

const OWN: [&str; 2] = ["10.42.1.2", "fd00:42:1::2"];
/// Where policies have the sidecar's resolver.
const RESOLVER: u16 = 15053;
/// What the name has for an address, by who is asked.
const THERE: &str = "10.8.8.8";
const BESIDE: &str = "10.9.9.9";

/// A program of the manual, or a file of `policies/`.
struct Program {
    name: String,
    text: String,
    /// The name and the text of its inventory.
    inventory: Option<(String, String)>,
}

impl Program {
    fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), inventory: None }
    }

    /// The addresses of the services that its inventory knows.
    fn services(&self) -> Result<BTreeMap<String, Vec<String>>, Failure> {
        let text = self.inventory.as_ref().map_or("", |(_, text)| text);
        let found: toml::Table = text.parse()?;
        let mut services = BTreeMap::new();
        for service in found.get("service").and_then(toml::Value::as_array).into_iter().flatten() {
            let word = |key: &str| service.get(key).and_then(toml::Value::as_str).map(str::to_owned);
            let name = word("name").ok_or("a service without a name")?;
            let name =
                word("namespace").map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"));
            let addresses = service.get("addresses").and_then(toml::Value::as_array).into_iter().flatten();
            services.insert(name, addresses.filter_map(|one| Some(one.as_str()?.to_owned())).collect());
        }
        Ok(services)
    }
}

/// One line of a `test` block.
#[derive(Debug)]
struct Promise {
    line: String,
    /// The workload that dials, or that is dialled.
    workload: String,
    /// From where it is dialled.
    from: Option<IpAddr>,
    to: Option<IpAddr>,
    protocol: String,
    port: u16,
    uid: Option<u32>,
    cgroup: Option<String>,
    verdict: String,
    sidecar: Option<u16>,
}

impl Promise {
    fn read(line: &str) -> Result<Self, Failure> {
        let wrong = || format!("no promise: {line}");
        let (flow, verdict) = line.split_once(" is ").ok_or_else(wrong)?;
        let mut words = flow.split_whitespace();
        let mut next = || words.next().ok_or_else(wrong);
        let source = next()?;
        if next()? != "->" {
            return Err(wrong().into());
        }
        let (target, protocol, port) = (next()?, next()?.to_owned(), next()?.parse()?);
        let (mut uid, mut cgroup) = (None, None);
        match words.collect::<Vec<_>>().as_slice() {
            [] => {}
            ["as", "uid", id] => uid = Some(id.parse()?),
            ["as", "cgroup", path] => cgroup = Some(path.trim_matches('"').to_owned()),
            _ => return Err(wrong().into()),
        }
        let (from, to): (Option<IpAddr>, Option<IpAddr>) = (source.parse().ok(), target.parse().ok());
        if from.is_some() == to.is_some() {
            return Err(wrong().into());
        }
        let workload = if from.is_some() { target } else { source }.to_owned();
        let (verdict, sidecar) = match verdict.split_once(' ') {
            Some((verdict, port)) => (verdict, Some(port.parse()?)),
            None => (verdict, None),
        };
        let (line, verdict) = (line.to_owned(), verdict.to_owned());
        Ok(Self { line, workload, from, to, protocol, port, uid, cgroup, verdict, sidecar })
    }

    /// Whether dig asks: HTTP is spoken over TCP, and not to resolvers.
    fn is_a_question(&self) -> bool {
        self.protocol == "udp" || self.port == 53
    }
}

/// The lines of all `test` blocks.
fn promises(program: &Program) -> Result<Vec<Promise>, Failure> {
    let services = program.services()?;
    let mut found = Vec::new();
    // What is promised of a service is promised of each of its addresses.
    let mut read = |line: &str| -> Tested {
        // The pod here has one interface: what goes by others is tried in `pods::interfaces`.
        if line.contains(" by interface ") {
            return Ok(());
        }
        let Some((before, after)) = line.split_once("service ") else {
            found.push(Promise::read(line)?);
            return Ok(());
        };
        let (name, after) = after.split_once(' ').ok_or("a service without a name")?;
        for address in services.get(name).ok_or_else(|| format!("no service {name}"))? {
            found.push(Promise::read(&format!("{before}{address} {after}"))?);
        }
        Ok(())
    };
    let text = &program.text;
    let mut inside = false;
    for line in text.lines().map(|line| line.split(" # ").next().unwrap_or(line).trim()) {
        if let Some(rest) = line.strip_prefix("test \"") {
            let body = rest.split_once('{').map_or("", |(_, body)| body).trim();
            if let Some(body) = body.strip_suffix('}') {
                read(body.trim())?;
            } else {
                inside = true;
            }
        } else if line == "}" {
            inside = false;
        } else if inside && !line.is_empty() {
            read(line)?;
        }
    }
    Ok(found)
}

/// The programs of a page, in their order.
fn programs(page: &str, text: &str) -> Vec<Program> {
    let mut heading = page;
    let mut programs = Vec::new();
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(words) = line.strip_prefix("## ") {
            heading = words;
        }
        let body = |lines: &mut std::str::Lines<'_>| {
            lines.take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect::<String>()
        };
        if let Some(file) = line.strip_prefix("```toml ") {
            files.insert(file, body(&mut lines));
            continue;
        }
        let file = line.strip_prefix("```mesh inventory=");
        let name = match line.strip_prefix("```mesh") {
            Some(_) if file.is_some() => format!("{page}: {heading}"),
            Some("") => format!("{page}: {heading}"),
            Some(name) if name.starts_with(' ') => name.trim().trim_start_matches("shows=").to_owned(),
            _ => continue,
        };
        let inventory = file.and_then(|file| Some((file.to_owned(), files.get(file)?.clone())));
        programs.push(Program { name, text: body(&mut lines), inventory });
    }
    programs
}

/// A pod, and one namespace for all the world.
struct World {
    // Dropped in this order: the namespaces before the cgroups that their processes are in.
    pod: Netns,
    there: Netns,
    cgroups: BTreeMap<String, Cgroup>,
    inside: Cgroup,
    ground: Ground,
}

impl World {
    fn new() -> Result<Self, Failure> {
        let (ground, pod, there) = (Ground::new()?, Netns::new()?, Netns::new()?);
        veth(
            (&pod, "eth0", &["10.42.1.2/24", "fd00:42:1::2/64"]),
            (&there, "pod", &["10.42.1.1/24", "fd00:42:1::1/64"]),
        )?;
        pod.ip("route add default via 10.42.1.1\nroute add default via fd00:42:1::1")?;
        // To dial from one of these is to bind to it.
        there.set("net/ipv6/ip_nonlocal_bind", "1")?;
        there.ip(&everywhere_but()?)?;
        let inside = ground.cgroup().child("inside")?;
        Ok(Self { pod, there, cgroups: BTreeMap::new(), inside, ground })
    }

    fn meshc(&self) -> Command {
        let mut command = meshc();
        command
            .env("MESHC_BPFFS", self.ground.bpffs().join("mesh"))
            .env("MESHC_STATE", self.ground.state())
            .env("MESHC_CGROUP", self.ground.cgroup().path())
            .env("MESHC_INBOUND", WAY);
        command
    }

    fn place(&self) -> Place {
        Place::here().netns(&self.pod).cgroup(&self.inside)
    }

    /// Makes the cgroup that a policy names, below this test's own, with all above it.
    fn make_cgroup(&mut self, path: &str) -> Tested {
        let mut above = String::new();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let parent = self.cgroups.get(&above).unwrap_or_else(|| self.ground.cgroup());
            let next = format!("{above}/{name}");
            if !self.cgroups.contains_key(&next) {
                let made = parent.child(name)?;
                self.cgroups.insert(next.clone(), made);
            }
            above = next;
        }
        Ok(())
    }

    fn cgroup(&self, path: &str) -> Result<&Cgroup, Failure> {
        self.cgroups.get(path).ok_or_else(|| format!("no cgroup {path}").into())
    }

    /// Makes what a program is about, and keeps each of its promises.
    fn carry_out(&mut self, program: &Program) -> Result<usize, Failure> {
        let promises = promises(program)?;
        if promises.is_empty() {
            return Ok(0);
        }
        for path in program.text.split("cgroup \"").skip(1).chain(program.text.split("\", \"/").skip(1)) {
            let path = path.split('"').next().unwrap_or_default().trim_start_matches('/');
            self.make_cgroup(path)?;
        }
        let own = self.ground.cgroup().within()?;
        let text = program.text.replace("cgroup \"/", &format!("cgroup \"{own}/"));
        let text = text.replace("\", \"/", &format!("\", \"{own}/"));
        let file = self.ground.write("policy.mesh", text)?;
        let mut apply = self.meshc();
        apply.args(["apply", "--allow-leaving"]);
        if let Some((name, text)) = &program.inventory {
            apply.arg("--inventory").arg(self.ground.write(name, text)?);
        }
        Answer::of(apply.arg(file))?.done()?;
        let platform = std::fs::read_to_string(self.ground.dir().join("platform.mesh")).unwrap_or_default();
        let imported = program.text.contains("import \"platform.mesh\"");
        let text = if imported { platform + &program.text } else { program.text.clone() };
        let peers = Peers::of(self, &text, &promises)?;
        let workloads: BTreeSet<&str> = promises.iter().map(|promise| promise.workload.as_str()).collect();
        for workload in workloads {
            let member = self.join(program, workload)?;
            for promise in promises.iter().filter(|promise| promise.workload == workload) {
                peers.keep(self, &member, promise).map_err(|error| format!("`{}`: {error}", promise.line))?;
            }
            if let Member::Pod = member {
                let netns = self.pod.path().display().to_string();
                Answer::of(self.meshc().args(["detach", "--netns", &netns]))?.done()?;
            }
        }
        Ok(promises.len())
    }

    /// Makes somebody a member of a workload, as its selectors ask.
    fn join(&self, program: &Program, workload: &str) -> Result<Member, Failure> {
        let missing = || format!("no workload {workload}");
        let (_, body) = program.text.split_once(&format!("workload {workload} ")).ok_or_else(missing)?;
        let body = body.split('}').next().unwrap_or_default();
        if let Some((_, path)) = body.split_once("cgroup \"") {
            return Ok(Member::Cgroup(path.split('"').next().unwrap_or_default().to_owned()));
        }
        let netns = self.pod.path().display().to_string();
        let mut command = self.meshc();
        command.args(["attach", "--netns", &netns, "--name", "pod-1"]);
        for line in body.split(['\n', '{', ';']).map(|line| line.split(" # ").next().unwrap_or(line).trim()) {
            let first = |rest: &str| rest.split(',').next().unwrap_or_default().trim().to_owned();
            if let Some(rest) = line.strip_prefix("namespace ") {
                command.args(["--namespace", &first(rest)]);
            } else if let Some(rest) = line.strip_prefix("service-account ") {
                command.args(["--service-account", &first(rest)]);
            } else if let Some(rest) = line.strip_prefix("label ") {
                command.args(["--label", &first(rest).replace(' ', "")]);
            }
        }
        let answer = Answer::of(&mut command)?.done()?;
        if answer.words().contains(workload) { Ok(Member::Pod) } else { Err(answer.words().into()) }
    }
}

/// Routes by which every network is one's own, but the pod's, and those of link-local addresses and multicast.
fn everywhere_but() -> Result<String, Failure> {
    let [v4, v6] = OWN;
    let (v4, v6): (Ipv4Addr, Ipv6Addr) = (v4.parse()?, v6.parse()?);
    // Of each length the one that differs from the pod's in its last bit.
    let narrow = (1..=24).map(|length| {
        let beside = v4.to_bits() ^ 1 << (32 - length);
        format!("{}/{length}", Ipv4Addr::from_bits(beside >> (32 - length) << (32 - length)))
    });
    let wide = (1..=64).filter(|length| *length != 7).map(|length| {
        let beside = v6.to_bits() ^ 1 << (128 - length);
        format!("{}/{length}", Ipv6Addr::from_bits(beside >> (128 - length) << (128 - length)))
    });
    Ok(narrow.chain(wide).map(|range| format!("route add local {range} dev lo\n")).collect())
}

/// How a workload has its member.
enum Member {
    Pod,
    Cgroup(String),
}

/// Who is dialled, and who takes what is redirected.
struct Peers {
    there: Nginx,
    _application: Option<Nginx>,
    _itself: Option<Nginx>,
    sidecars: BTreeMap<u16, HaProxy>,
    wide: Nginx,
    _resolvers: (Vec<Dnsmasq>, UdpServer),
}

impl Peers {
    fn of(world: &World, text: &str, promises: &[Promise]) -> Result<Self, Failure> {
        let numbers = |before: &str| -> Vec<u32> {
            let rests = text.split(before).skip(1);
            let digits = rests.map(|rest| rest.split(|next: char| !next.is_ascii_digit()).next());
            digits.filter_map(|digits| digits?.parse().ok()).collect()
        };
        let sidecars: BTreeSet<u16> =
            numbers("-> ").into_iter().filter_map(|port| port.try_into().ok()).collect();
        // Addresses stand after an arrow, too.
        let sidecars: Vec<u16> =
            sidecars.into_iter().filter(|port| *port > 1000 && *port != RESOLVER).collect();
        let mut beside = world.place();
        if let Some(uid) = numbers("exempt uid ").first().copied() {
            beside = beside.uid(uid);
        } else if let Some((_, path)) = text.split_once("exempt cgroup \"") {
            beside = beside.cgroup(world.cgroup(path.split('"').next().unwrap_or_default())?);
        }
        let everywhere = |ports: BTreeSet<u16>| -> Vec<SocketAddr> {
            let both = |port| [SocketAddr::from(([0; 4], port)), SocketAddr::from(([0u16; 8], port))];
            ports.into_iter().flat_map(both).collect()
        };
        let spoken = promises.iter().filter(|promise| !promise.is_a_question());
        let dialled = spoken.clone().filter(|promise| promise.to.is_some()).map(|promise| promise.port);
        let itself = spoken.clone().filter_map(|promise| Some(SocketAddr::new(promise.to?, promise.port)));
        let itself: BTreeSet<SocketAddr> = itself.filter(|address| address.ip().is_loopback()).collect();
        let inbound = spoken.filter(|promise| promise.from.is_some()).map(|promise| promise.port);
        let mut dialled: BTreeSet<u16> = dialled.collect();
        dialled.insert(80);
        let there = Nginx::start(&Place::here().netns(&world.there), "there", &everywhere(dialled))?;
        let in_the_pod = |who, at: &[SocketAddr]| match at {
            [] => Ok(None),
            at => Nginx::start(&world.place(), who, at).map(Some),
        };
        let application = in_the_pod("application", &everywhere(inbound.collect()))?;
        let itself = in_the_pod("itself", &itself.into_iter().collect::<Vec<_>>())?;
        let wide: Vec<SocketAddr> =
            sidecars.iter().map(|port| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], *port))).collect();
        let wide = Nginx::start(&world.place(), "sidecar", &wide)?;
        let start =
            |port: &u16| Ok((*port, HaProxy::start(&beside, &[SocketAddr::from(([127, 0, 0, 1], *port))])?));
        let sidecars = sidecars.iter().map(start).collect::<Result<_, Failure>>()?;
        Ok(Self {
            there,
            _application: application,
            _itself: itself,
            sidecars,
            wide,
            _resolvers: resolvers(world, text, promises)?,
        })
    }

    /// How many connections the sidecars have carried.
    fn carried(&self) -> Result<BTreeMap<u16, Vec<SocketAddr>>, Failure> {
        self.sidecars.iter().map(|(port, sidecar)| Ok((*port, sidecar.destinations()?))).collect()
    }

    fn keep(&self, world: &World, member: &Member, promise: &Promise) -> Tested {
        let mut place = match member {
            Member::Pod => world.place(),
            Member::Cgroup(path) => Place::here().netns(&world.pod).cgroup(world.cgroup(path)?),
        };
        if let Some(uid) = promise.uid {
            place = place.uid(uid);
        }
        if let Some(path) = &promise.cgroup {
            place = place.cgroup(world.cgroup(path)?);
        }
        match promise.to {
            Some(to) if promise.is_a_question() => asked(&place, to, promise),
            Some(to) => self.fetched(&place, to, promise),
            None => self.inbound(world, promise),
        }
    }

    fn fetched(&self, place: &Place, to: IpAddr, promise: &Promise) -> Tested {
        let target = SocketAddr::new(to, promise.port);
        let before = self.carried()?;
        let heard = |server: &Nginx| server.requests().map(|requests| requests.len());
        let (there, wide) = (heard(&self.there)?, heard(&self.wide)?);
        // Its log comes after its answer.
        let is_logged = |server: &Nginx, before: usize| {
            assert!(until(Duration::from_secs(20), || heard(server).is_ok_and(|now| now > before)));
        };
        let answer =
            Answer::of(place.command("curl").args(["-sSv", "-m", "20", &format!("http://{target}/")]))?;
        let straight = |who: &str| match to.is_loopback() {
            true => (0, format!("itself answers {to}\n")),
            false => (0, format!("{who} answers {}\n", own(to))),
        };
        match promise.verdict.as_str() {
            "denied" => {
                assert_eq!((answer.code, answer.stdout.as_str()), (7, ""), "{answer:?}");
                assert!(answer.stderr.contains("Operation not permitted"), "{answer:?}");
                assert_eq!(heard(&self.there)?, there, "{}", promise.line);
            }
            "excluded" => {
                assert_eq!((answer.code, answer.stdout.clone()), straight("there"), "{answer:?}");
                if !to.is_loopback() {
                    is_logged(&self.there, there);
                }
            }
            "redirected" if to.is_ipv4() => {
                assert_eq!(answer.code, 0, "{answer:?}");
                assert!(answer.stdout.starts_with("there answers "), "{answer:?}");
                is_logged(&self.there, there);
                return self.was_carried(target, &before, promise.sidecar);
            }
            "redirected" => {
                assert!(answer.stdout.starts_with("sidecar answers "), "{answer:?}");
                let port = promise.sidecar.ok_or("which sidecar?")?;
                is_logged(&self.wide, wide);
                let requests = self.wide.requests()?;
                let end = requests.last().map(String::as_str).unwrap_or_default();
                assert!(end.contains(&format!(":{port} ")), "{end}");
            }
            verdict => return Err(verdict.into()),
        }
        assert_eq!(self.carried()?, before, "{} was carried by a sidecar", promise.line);
        Ok(())
    }

    fn inbound(&self, world: &World, promise: &Promise) -> Tested {
        let from = promise.from.ok_or("from nowhere")?;
        let target = SocketAddr::new(own(from).parse()?, promise.port);
        let before = self.carried()?;
        let mut curl = Place::here().netns(&world.there).command("curl");
        curl.args(["-sS", "-m", "20", "--interface", &from.to_string(), &format!("http://{target}/")]);
        let answer = Answer::of(&mut curl)?;
        match promise.verdict.as_str() {
            "excluded" => {
                let expected = (0, format!("application answers {from}\n"));
                assert_eq!((answer.code, answer.stdout.clone()), expected, "{answer:?}");
                assert_eq!(self.carried()?, before, "{} was carried by a sidecar", promise.line);
                Ok(())
            }
            "redirected" if from.is_ipv4() => {
                let expected = (0, format!("application answers {}\n", own(from)));
                assert_eq!((answer.code, answer.stdout.clone()), expected, "{answer:?}");
                self.was_carried(target, &before, promise.sidecar)
            }
            verdict => Err(verdict.into()),
        }
    }

    /// One more connection than before, to this target, and by this sidecar.
    fn was_carried(
        &self,
        target: SocketAddr,
        before: &BTreeMap<u16, Vec<SocketAddr>>,
        port: Option<u16>,
    ) -> Tested {
        let port = port.or_else(|| self.sidecars.keys().next().copied()).ok_or("there is no sidecar")?;
        let mut expected = before.clone();
        expected.entry(port).or_default().push(target);
        // Its log comes when the connection has ended.
        until(Duration::from_secs(20), || self.carried().is_ok_and(|carried| carried == expected));
        assert_eq!(self.carried()?, expected);
        Ok(())
    }
}

/// Asked with dig.
fn asked(place: &Place, to: IpAddr, promise: &Promise) -> Tested {
    let mut dig = place.command("dig");
    dig.args([&format!("@{to}"), "-p", &promise.port.to_string(), "+short", "+tries=1", "+timeout=10"]);
    if promise.protocol == "tcp" {
        dig.arg("+tcp");
    }
    let answer = Answer::of(dig.args(["shop.test", "A"]))?;
    match promise.verdict.as_str() {
        "denied" => {
            assert_eq!(answer.code, 9, "{answer:?}");
            // A datagram socket is told by the kernel, at once, and does not wait for its time to be out.
            assert!(answer.stdout.contains("refused") || answer.stdout.contains("permitted"), "{answer:?}");
        }
        "excluded" => assert_eq!(answer.done()?.stdout.trim(), THERE),
        "redirected" => assert_eq!(answer.done()?.stdout.trim(), BESIDE),
        verdict => return Err(verdict.into()),
    }
    Ok(())
}

/// Who answers the questions of these promises.
fn resolvers(world: &World, text: &str, promises: &[Promise]) -> Result<(Vec<Dnsmasq>, UdpServer), Failure> {
    let mut listen: BTreeMap<(bool, u16), BTreeSet<SocketAddr>> = BTreeMap::new();
    let mut denied = BTreeSet::new();
    for promise in promises.iter().filter(|promise| promise.is_a_question()) {
        let to = promise.to.ok_or("who is asked?")?;
        if promise.verdict == "denied" && promise.protocol == "udp" {
            denied.insert(SocketAddr::new(to, promise.port));
            continue;
        }
        let beside = to.is_loopback();
        listen.entry((beside, promise.port)).or_default().insert(SocketAddr::new(to, promise.port));
    }
    let denied: Vec<_> = denied.into_iter().collect();
    // Who is not to be asked has no TCP: a web server may be there.
    let unheard = UdpServer::start(&world.there, "there", &denied)?;
    let mut resolvers = Vec::new();
    for ((beside, _), addresses) in listen {
        let place = if beside { world.place() } else { Place::here().netns(&world.there) };
        let addresses: Vec<_> = addresses.into_iter().collect();
        resolvers.push(Dnsmasq::start(&place, &addresses, &[("shop.test", THERE.parse()?)])?);
    }
    if text.contains(&format!("-> {RESOLVER}")) {
        let both = ["127.0.0.1".parse()?, "::1".parse()?].map(|ip: IpAddr| SocketAddr::new(ip, RESOLVER));
        resolvers.push(Dnsmasq::start(&world.place(), &both, &[("shop.test", BESIDE.parse()?)])?);
    }
    Ok((resolvers, unheard))
}

/// The pod's own address of the family of `ip`.
fn own(ip: IpAddr) -> &'static str {
    let [v4, v6] = OWN;
    if ip.is_ipv4() { v4 } else { v6 }
}

/// Carries out all of them, and tells how many promises were kept.
fn carried_out(programs: &[Program]) -> Result<usize, Failure> {
    let mut world = World::new()?;
    let mut kept = 0;
    for program in programs {
        if Path::new(&program.name).extension().is_some_and(|kind| kind == "mesh") {
            world.ground.write(&program.name, &program.text)?;
        }
        kept += world.carry_out(program).map_err(|error| format!("{}: {error}", program.name))?;
    }
    Ok(kept)
}

#[test]
fn recipes_do_what_their_tests_say() -> Tested {
    let programs = programs("recipes", include_str!("../../../../docs/recipes.md"));
    let kept = carried_out(&programs)?;
    assert_eq!(kept, 71);
    Ok(())
}

#[test]
fn policies_of_who_comes_from_another_mesh_do_what_the_settings_there_did() -> Tested {
    let mut programs = programs("migrating", include_str!("../../../../docs/migrating.md"));
    assert_eq!(programs.len(), 5);
    for (name, text) in [
        ("from-consul", include_str!("../../../../policies/from-consul.mesh")),
        ("from-istio", include_str!("../../../../policies/from-istio.mesh")),
        ("from-kuma", include_str!("../../../../policies/from-kuma.mesh")),
        ("from-linkerd", include_str!("../../../../policies/from-linkerd.mesh")),
        ("from-osm", include_str!("../../../../policies/from-osm.mesh")),
    ] {
        programs.push(Program::new(name, text));
    }
    let kept = carried_out(&programs)?;
    assert_eq!(kept, 85);
    Ok(())
}

#[test]
fn the_tutorial_and_the_first_page_do_what_their_tests_say() -> Tested {
    let mut programs = programs("tutorial", include_str!("../../../../docs/tutorial.md"));
    programs.extend(self::programs("README", include_str!("../../../../README.md")));
    let kept = carried_out(&programs)?;
    assert_eq!(kept, 13);
    Ok(())
}
