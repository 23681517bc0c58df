//! Which of a server's addresses a program tries first, and from which of its own: as without a mesh.
//!
//! Resolvers ask the kernel by connecting datagram sockets, and send nothing.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Failure, Manner, Process, Tested, UdpClient, UdpServerTask, until};
use serde_json::Value;

use crate::fixtures::command::Answer;
use crate::fixtures::stage::address;
use crate::fixtures::town::{Pod, addresses, without};

const PATIENCE: Duration = Duration::from_secs(30);

/// Our own recipe, and two that deny what resolvers connect to.
const RULES: [&str; 3] = [
    "redirect outbound -> 15001\ndeny outbound udp 443",
    "redirect outbound -> 15001\nredirect outbound udp 53 -> 15053\ndeny outbound udp not 53",
    "redirect outbound -> 15001\ndeny outbound udp",
];

/// A server with addresses of both families, in this order in the table; one of a network that no route of its own
/// leads to.
const HOSTS: &str = "10.44.0.2 both.test\nfd44::2 both.test\n10.99.0.1 both.test\n2001:db8:9::1 both.test\n";

/// For each address, in the order in which it would be tried: where it is, and from which address.
const PYTHON: &str = "
import socket, errno
for port in (443, 80, 0, 53):
    for family, _, _, _, address in socket.getaddrinfo('both.test', port, type=socket.SOCK_STREAM):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(address)
                print(port, address[0], probe.getsockname()[0])
            except OSError as error:
                print(port, address[0], errno.errorcode[error.errno])
# One socket for all, as glibc has it: of IPv6, and dissolved between.
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
    for address in ('fd44::2', '::ffff:10.44.0.2', '2001:db8:9::1', '::ffff:10.99.0.1', '::1', 'fd44::2'):
        try:
            probe.connect((address, 443))
            print(address, probe.getsockname()[0])
        except OSError as error:
            print(address, errno.errorcode[error.errno])
        import ctypes
        ctypes.CDLL(None).connect(probe.fileno(), bytes(16), 16)
";

/// Tells who would be tried first, as applications do that open a stream.
const CURL: &str = "curl --silent --show-error --max-time 20 --output /dev/null \
    --write-out '%{http_code} %{remote_ip} %{local_ip}' http://both.test/";
const CREATE: &str = "
import socket
with socket.create_connection(('both.test', 80), timeout=20) as stream:
    print(stream.getpeername()[0], stream.getsockname()[0])
";

/// Runs a program in the pod, where `both.test` has the addresses above.
fn said(pod: &Pod, program: &[&str]) -> Result<String, Failure> {
    let hosts = pod.ground().write("hosts", HOSTS)?;
    let mut command = pod.place().command("unshare");
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(&hosts).args(program);
    Ok(Answer::of(&mut command)?.done()?.stdout)
}

/// Pods with addresses of both families, of IPv4 only and of IPv6 only. To those of one family the way in makes no
/// difference.
const LACKING: &[&str] = if matches!(super::WAY.as_bytes(), b"tc") { &[""] } else { &["", "6", "4"] };

fn pod(lacking: &str) -> Result<Pod, Failure> {
    let pod = Pod::new(super::WAY)?;
    if !lacking.is_empty() {
        without(&pod.town().pod, lacking)?;
    }
    Ok(pod)
}

fn attach(pod: &Pod, rules: &str) -> Tested {
    let netns = pod.town().pod.path().display().to_string();
    pod.apply(rules)?;
    pod.ask(&["attach", "--netns", &netns, "--name", "cart-1", "--label", "app=cart"])?;
    Ok(())
}

#[test]
fn a_servers_addresses_are_tried_in_the_same_order_and_from_the_same_source() -> Tested {
    for &lacking in LACKING {
        let pod = pod(lacking)?;
        let programs: [&[&str]; 2] = [&["python3", "-c", PYTHON], &["getent", "ahosts", "both.test"]];
        let without = programs.map(|program| said(&pod, program));
        for rules in RULES {
            attach(&pod, rules)?;
            for (program, without) in programs.iter().zip(&without) {
                let without = without.as_ref().map_err(ToString::to_string)?;
                assert!(!without.contains("EPERM") && without.lines().count() > 2, "{without}");
                assert_eq!(&said(&pod, program)?, without, "lacking {lacking:?}: {rules}");
            }
            pod.detach()?;
        }
    }
    Ok(())
}

/// What `ping` says of whom it asks and who answers, without the time that it took.
fn pinged(pod: &Pod) -> Result<String, Failure> {
    let said = said(pod, &["ping", "-c", "1", "-W", "10", "both.test"])?;
    let line = |line: &str| line.split(" time=").next().unwrap_or_default().to_owned();
    Ok(said.lines().take(2).map(line).collect::<Vec<_>>().join("\n"))
}

#[test]
fn ping_asks_the_same_address_and_is_answered_whatever_is_denied_or_redirected() -> Tested {
    for &lacking in LACKING {
        let pod = pod(lacking)?;
        let without = pinged(&pod)?;
        assert!(without.contains("icmp_seq=1"), "{without}");
        let everything =
            "redirect outbound tcp 80 -> 15001\ndeny outbound any not 80\nexclude outbound udp 80";
        for rules in RULES.into_iter().chain([everything]) {
            attach(&pod, rules)?;
            assert_eq!(pinged(&pod)?, without, "lacking {lacking:?}: {rules}");
            pod.detach()?;
        }
    }
    Ok(())
}

const MUSL: &str = r#"
#include <stdio.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
int main(void)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all = NULL;
    char name[64];
    if (getaddrinfo("both.test", "443", &hints, &all))
        return 1;
    for (; all; all = all->ai_next) {
        getnameinfo(all->ai_addr, all->ai_addrlen, name, sizeof(name), NULL, 0, NI_NUMERICHOST);
        puts(name);
    }
    return 0;
}
"#;
const GO: &str = r#"
package main

import ("context"; "fmt"; "net"; "os")

func main() {
    resolver := net.Resolver{PreferGo: true}
    found, err := resolver.LookupIPAddr(context.Background(), "both.test")
    if err != nil {
        fmt.Println(err)
        os.Exit(1)
    }
    for _, address := range found {
        fmt.Println(address.String())
        if probe, err := net.Dial("udp", net.JoinHostPort(address.String(), "443")); err == nil {
            fmt.Println(probe.LocalAddr().(*net.UDPAddr).IP)
        } else {
            fmt.Println("unreachable")
        }
    }
}
"#;
const JAVA: &str = r#"
import java.net.*;

class Select {
    public static void main(String[] all) throws Exception {
        for (InetAddress address : InetAddress.getAllByName("both.test")) {
            System.out.println(address.getHostAddress());
            try (DatagramSocket probe = new DatagramSocket()) {
                probe.connect(new InetSocketAddress(address, 443));
                System.out.println(probe.getLocalAddress().getHostAddress());
            } catch (Exception error) {
                System.out.println("unreachable");
            }
        }
    }
}
"#;
const NODE: &str = "
const probe = (address, family) => new Promise(done => {
    const socket = require('dgram').createSocket('udp' + family);
    socket.on('error', () => done('unreachable'));
    socket.connect(443, address, error => done(error ? 'unreachable' : socket.address().address));
});
require('dns').lookup('both.test', { all: true, verbatim: true }, async (error, all) => {
    for (const { address, family } of all) console.log(address, await probe(address, family));
    process.exit(0);
});
";

#[test(long)]
fn other_resolvers_and_runtimes_choose_as_without_a_mesh() -> Tested {
    for &lacking in LACKING {
        let pod = pod(lacking)?;
        let write = |name, text| Ok::<_, Failure>(pod.ground().write(name, text)?.display().to_string());
        let (c, go, java) = (write("select.c", MUSL)?, write("select.go", GO)?, write("Select.java", JAVA)?);
        let dir = pod.ground().dir().display().to_string();
        let (musl, gone) = (format!("{dir}/select-musl"), format!("{dir}/select-go"));
        Answer::of(Command::new("musl-gcc").args(["-static", "-o", &musl, &c]))?.done()?;
        let cache = format!("{dir}/cache");
        Answer::of(Command::new("go").env("GOCACHE", cache).args(["build", "-o", &gone, &go]))?.done()?;
        Answer::of(Command::new("javac").args(["-d", &dir, &java]))?.done()?;
        let programs: [&[&str]; 4] =
            [&[&musl], &[&gone], &["java", "-cp", &dir, "Select"], &["node", "-e", NODE]];
        let without = programs.map(|program| said(&pod, program));
        attach(&pod, RULES[0])?;
        for (program, without) in programs.iter().zip(without) {
            assert_eq!(said(&pod, program)?, without?, "lacking {lacking:?}");
        }
        pod.detach()?;
        attach(&pod, RULES[2])?;
        let with = programs.map(|program| said(&pod, program));
        assert!(with.iter().all(Result::is_ok), "{with:?}");
    }
    Ok(())
}

#[test]
fn a_client_of_a_name_takes_the_family_that_works() -> Tested {
    for (lacking, expected) in [("", "fd42::2"), ("6", "10.42.0.2"), ("4", "fd42::2")] {
        let pod = pod(lacking)?;
        attach(&pod, RULES[0])?;
        let dir = pod.ground().dir().display().to_string();
        let mut sidecar = pod.sidecar_place().command("python3");
        sidecar.args(["-m", "http.server", "--bind", "::", "--directory", &dir, "15001"]);
        let _sidecar = Process::start(&mut sidecar, &pod.ground().dir().join("sidecar.log"))?;
        pod.town().pod.run(|| until(PATIENCE, || TcpStream::connect("127.0.0.1:15001").is_ok()))?;
        let server = if expected.contains(':') { "fd44::2" } else { "10.44.0.2" };
        assert_eq!(said(&pod, &["sh", "-c", CURL])?, format!("200 {server} {expected}"), "{lacking:?}");
        let python = said(&pod, &["python3", "-c", CREATE])?;
        assert_eq!(python.trim_end(), format!("{server} {expected}"), "{lacking:?}");
    }
    Ok(())
}

#[test]
fn what_a_denied_socket_sends_is_refused_and_nobody_gets_it() -> Tested {
    let pod = pod("")?;
    attach(&pod, RULES[0])?;
    // Where the socket is connected to, as far as others can know.
    let _thief = UdpServerTask::start(&pod.place(), "thief", &addresses(&["0.0.0.0:1", "[::]:1"])?, 1)?;
    let before = counters(&pod)?;
    for target in ["10.44.0.2:443", "[fd44::2]:443", "10.42.0.9:443"] {
        let target = address(target)?;
        let asked = pod.place().run(|| UdpClient::new(Manner::Connected).ask(target, "who?"))?;
        assert_eq!(asked.err(), Some(Errno::ECONNREFUSED), "{target}");
        let asked = pod.place().run(|| UdpClient::new(Manner::Unconnected).ask(target, "who?"))?;
        assert_eq!(asked.err(), Some(Errno::EPERM), "{target}");
    }
    let after = counters(&pod)?;
    assert_eq!([after.0 - before.0, after.1 - before.1], [6, 3]);
    Ok(())
}

/// How often something was denied, and a denied socket's datagram refused.
fn counters(pod: &Pod) -> Result<(u64, u64), Failure> {
    let status = pod.ask(&["status"])?;
    let all: &[Value] = status.get("counters").and_then(Value::as_array).map_or(&[], Vec::as_slice);
    let value = |name: &str| {
        let named = all.iter().find(|counter| counter.get("name").is_some_and(|it| it == name));
        named.and_then(|counter| counter.get("value")?.as_u64()).unwrap_or_default()
    };
    Ok((value("denied"), value("datagram_refused")))
}
