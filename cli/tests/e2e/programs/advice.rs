//! What the manual and the compiler advise, run with the programs that it is about: glibc and dig, curl and
//! nginx. The policies are the recipes' own, as they stand in docs/recipes.md; only who the workload is differs.

use mesh_testbed::kernel_test as test;
use mesh_testbed::proxy::{Dnsmasq, Nginx};
use mesh_testbed::{Client, Errno, Failure, Netns, Place, Tested, tool, veth};

use serde_json::json;

use crate::fixtures::command::Answer;
use crate::fixtures::observer::{Observer, parts};
use crate::fixtures::recipes::{Scene, recipe};
use crate::fixtures::stage::{address, as_member};
use crate::fixtures::town::{Pod, addresses};

fn curl(place: &Place, url: &str) -> Result<(i32, String), Failure> {
    let answer = Answer::of(place.command("curl").args(["-sS", "-m", "20", url]))?;
    Ok((answer.code, answer.stdout))
}

#[test]
fn names_are_found_where_dns_is_excluded_as_the_compiler_advises() -> Tested {
    let scene = Scene::new()?;
    let _resolver = scene.resolver()?;
    // What the help of `leak` says of a catch-all.
    scene.ruled("redirect outbound -> 15001\nexclude outbound udp 53\ndeny outbound udp 443")?;
    assert!(scene.glibc(&["10.43.0.10"])?.done()?.stdout.contains("10.9.9.9"));
    assert_eq!(scene.dig("10.43.0.10", &[])?.done()?.stdout, "10.9.9.9\n");
    Ok(())
}

/// Why it does not advise to deny it.
#[test]
fn resolvers_do_not_fall_back_to_tcp_where_dns_is_denied() -> Tested {
    let scene = Scene::new()?;
    let resolver = scene.resolver()?;
    scene.ruled("exclude outbound tcp\ndeny outbound udp 53, 443")?;
    assert_eq!(scene.dig("10.43.0.10", &["+tcp"])?.done()?.stdout, "10.9.9.9\n", "by TCP it would be heard");
    let heard = resolver.questions()?;
    let glibc = scene.glibc(&["10.43.0.10"])?;
    assert_eq!((glibc.code, glibc.stdout.as_str()), (2, ""), "{glibc:?}");
    let dig = scene.dig("10.43.0.10", &[])?;
    assert!(!dig.stdout.contains("10.9.9.9"), "{dig:?}");
    assert_eq!(resolver.questions()?, heard);
    Ok(())
}

#[test]
fn names_are_found_by_the_one_resolver_that_the_recipe_leaves() -> Tested {
    let scene = Scene::new()?;
    let _resolver = scene.resolver()?;
    scene.apply(&recipe("DNS", 2, &scene.selector()?)?)?;
    for servers in [&["10.43.0.10"][..], &["203.0.113.8", "10.43.0.10"]] {
        assert!(scene.glibc(servers)?.done()?.stdout.contains("10.9.9.9"), "{servers:?}");
    }
    assert_eq!(scene.dig("10.43.0.10", &["+tcp"])?.done()?.stdout, "10.9.9.9\n");
    assert!(!scene.dig("10.43.0.11", &[])?.stdout.contains("10.9.9.9"));
    Ok(())
}

#[test]
fn the_sidecar_s_resolver_is_asked_in_the_place_of_all_others_and_of_the_stub() -> Tested {
    let scene = Scene::new()?;
    let names = [("shop.test", "10.9.9.9".parse()?)];
    let resolver = Dnsmasq::start(&scene.beside(), &[address("127.0.0.1:15053")?], &names)?;
    scene.apply(&recipe("DNS", 0, &scene.selector()?)?)?;
    assert!(scene.glibc(&["10.43.0.10"])?.done()?.stdout.contains("10.9.9.9"));
    assert!(!scene.dig("127.0.0.53", &[])?.stdout.contains("10.9.9.9"), "loopback was not named");
    scene.apply(&recipe("DNS", 1, &scene.selector()?)?)?;
    for more in [&[][..], &["+tcp"]] {
        assert_eq!(scene.dig("127.0.0.53", more)?.done()?.stdout, "10.9.9.9\n", "{more:?}");
    }
    assert!(scene.glibc(&["127.0.0.53"])?.done()?.stdout.contains("10.9.9.9"));
    assert_eq!(resolver.questions()?, 4);
    Ok(())
}

#[test]
fn init_containers_fetch_before_there_is_a_sidecar() -> Tested {
    let scene = Scene::new()?;
    let listen = addresses(&["10.20.0.5:443", "10.30.0.5:443"])?;
    let _store = Nginx::start(&Place::here().netns(&scene.pair().server), "store", &listen)?;
    let [store, elsewhere] = ["http://10.20.0.5:443/", "http://10.30.0.5:443/"];
    let fetched = (0, "store answers 192.168.7.2\n".to_owned());
    // 7 is curl's word for a connection that was refused.
    let refused = (7, String::new());
    scene.apply(&recipe("Init containers", 0, &scene.selector()?)?)?;
    assert_eq!(curl(&scene.cart(), store)?, fetched);
    assert_eq!(curl(&scene.cart(), elsewhere)?, refused);
    let init = scene.cart().uid(1600);
    scene.apply(&recipe("Init containers", 1, &scene.selector()?)?)?;
    assert_eq!([curl(&init, store)?, curl(&init, elsewhere)?], [fetched.clone(), refused.clone()]);
    assert_eq!(curl(&scene.cart().uid(1000), store)?, refused);
    scene.apply(&recipe("Init containers", 2, &scene.selector()?)?)?;
    assert_eq!([curl(&init, store)?, curl(&init, elsewhere)?], [fetched.clone(), fetched]);
    assert_eq!(curl(&scene.cart().uid(1000), store)?, refused);
    Ok(())
}

/// The recipe for probes, with the namespaces' addresses, and what it says that comes by it.
#[test]
fn probes_come_straight_on_their_ports_and_so_does_what_the_node_masquerades() -> Tested {
    let pod = Pod::new(crate::fixtures::town::WAY)?;
    let town = pod.town();
    let listen = addresses(&["10.42.0.2:8080", "10.42.0.2:8081"])?;
    let _application = Nginx::start(&pod.place(), "application", &listen)?;
    let _sidecar = Nginx::start(&pod.place(), "sidecar", &addresses(&["127.0.0.1:15003"])?)?;
    let policy = recipe("Kubelet probes", 0, "label app = cart")?;
    let file = pod.ground().write("probes.mesh", policy)?;
    Answer::of(pod.meshc().args(["apply", "--allow-leaving"]).arg(file))?.done()?;
    pod.attach()?;
    let probe = |from: &Netns, port: u16| -> Result<String, Failure> {
        let (_, answer) = curl(&Place::here().netns(from), &format!("http://10.42.0.2:{port}/"))?;
        Ok(answer.split(' ').next().unwrap_or_default().to_owned())
    };
    assert_eq!([probe(&town.host, 8081)?, probe(&town.host, 8080)?], ["application", "sidecar"]);
    assert_eq!([probe(&town.far, 8081)?, probe(&town.far, 8080)?], ["sidecar", "sidecar"]);
    // As kube-proxy does for a service whose traffic policy is `Cluster`.
    let masquerade = "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; \
                      add rule ip nat out oifname \"pod\" masquerade";
    let nft = town.host.run(|| tool("nft", &[masquerade]).map_err(|error| error.to_string()))?;
    nft?;
    assert_eq!([probe(&town.far, 8081)?, probe(&town.far, 8080)?], ["application", "sidecar"]);
    pod.detach()?;
    Ok(())
}

/// A limit of docs/datapath.md: its own connections are not those of the pod around it.
#[test]
fn a_network_namespace_within_a_pod_is_no_member_until_it_is_attached() -> Tested {
    let pod = Pod::ruled(crate::fixtures::town::WAY, "redirect outbound -> 15001")?;
    let within = Netns::new()?;
    veth((&pod.town().pod, "within", &["10.50.0.1/24"]), (&within, "eth0", &["10.50.0.2/24"]))?;
    let target = address("10.50.0.1:8080")?;
    let _application = pod.serve("application", &["10.50.0.1:8080"])?;
    let inner = pod.ground().cgroup().child("within")?;
    let place = Place::here().netns(&within).cgroup(&inner);
    let dial =
        |place: &Place| as_member(place, || Client::to(target).dial().map(|dialled| dialled.arrival.who));
    assert_eq!(dial(&place)?, Ok("application".to_owned()));
    // What one looks at: the namespace is another, and `status` knows one of them.
    let status = pod.ask(&["status"])?;
    assert_eq!(status["members"].as_array().map(Vec::len), Some(1), "{status}");
    let path = within.path().display().to_string();
    pod.ask(&["attach", "--netns", &path, "--name", "cart-2", "--label", "app=cart"])?;
    assert_eq!(dial(&place)?, Err(Errno::ECONNREFUSED), "now it needs a sidecar of its own");
    pod.ask(&["detach", "--netns", &path])?;
    pod.detach()?;
    Ok(())
}

/// A limit of docs/datapath.md: no rule names port 0, and programs dial it.
#[test]
fn port_0_is_decided_as_port_1_and_observed() -> Tested {
    let scene = Scene::new()?;
    let target = address("10.0.3.9:0")?;
    let dial = || as_member(&scene.cart(), || Client::to(target).dial().map(drop));
    scene.ruled("deny outbound tcp 1\nexclude outbound tcp 2-65535")?;
    let observer = Observer::of(scene.meshc(), &scene.ground().dir().join("observed"), &[])?;
    assert_eq!(dial()?, Err(Errno::EPERM));
    let lines = observer.wait(1)?;
    assert_eq!(
        parts(&lines[0], &["destination", "verdict"]),
        [json!("10.0.3.9:0"), json!("denied")],
        "{lines:?}"
    );
    // Nobody listens there, or can.
    scene.ruled("exclude outbound tcp 1\ndeny outbound tcp 2-65535")?;
    assert_eq!(dial()?, Err(Errno::ECONNREFUSED));
    Ok(())
}
