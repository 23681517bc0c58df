//! Programs on a JVM, whose sockets are all of IPv6: the mesh that this one replaces let them past.

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Arrival, Failure, Tested, UdpAnswer, UdpServer};

use crate::fixtures::command::Answer;
use crate::fixtures::stage::{Stage, address};

const PROGRAM: &str = include_str!("../../../../testbed/programs/Dial.java");

#[test(long)]
fn sockets_channels_and_datagrams_of_a_jvm_are_redirected_excluded_and_denied() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules(
        "redirect outbound any -> 15001\nexclude outbound tcp 3306\ndeny outbound tcp 25\nexclude outbound udp 443",
    )?;
    let program = stage.ground().write("Dial.java", PROGRAM)?;
    let listen = [address("127.0.0.1:15001")?, address("[::1]:15001")?];
    let _sidecar = UdpServer::start(&stage.pair().client, "sidecar", &listen)?;
    let listen = [address("10.0.3.9:443")?, address("[fd10::9]:443")?];
    let _application = UdpServer::start(&stage.pair().server, "application", &listen)?;
    let dial = |option: &str, ips: &[&str], more: &[(&str, u16)]| -> Result<Answer, Failure> {
        let mut java = stage.cart().command("java");
        java.arg(option).arg(&program);
        for ip in ips {
            for (manner, port) in more {
                java.args([manner, *ip, &port.to_string()]);
            }
        }
        Answer::of(&mut java)
    };
    let tcp = [("socket", 80), ("channel", 80), ("socket", 3306), ("channel", 3306)];
    let udp = [("datagram", 53), ("connected", 53), ("datagram", 443), ("connected", 443)];
    for (option, ips) in [
        ("-Djava.net.preferIPv4Stack=false", &["10.0.3.9", "fd10::9"][..]),
        ("-Djava.net.preferIPv4Stack=true", &["10.0.3.9"]),
    ] {
        let heard = dial(option, ips, &tcp)?.done()?.stdout;
        let mut lines = heard.lines();
        for ip in ips {
            for (manner, port) in tcp {
                let target = address(&if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                })?;
                let arrival: Arrival = serde_json::from_str(lines.next().unwrap_or_default())?;
                let expected = if port == 80 { ("sidecar", Some(target)) } else { ("application", None) };
                assert_eq!(
                    (arrival.who.as_str(), arrival.original()),
                    expected,
                    "{option} {manner} {target}"
                );
            }
        }
        let heard = dial(option, ips, &udp)?.done()?.stdout;
        let answers = heard.lines().map(serde_json::from_str).collect::<Result<Vec<UdpAnswer>, _>>()?;
        let who: Vec<_> = answers.iter().map(|answer| answer.who.as_str()).collect();
        assert_eq!(who, ["sidecar", "sidecar", "application", "application"].repeat(ips.len()), "{option}");
        let denied = dial(option, ips, &[("socket", 25)])?;
        // What a JVM makes of EPERM.
        assert!(denied.code != 0 && denied.stderr.contains("Operation not permitted"), "{denied:?}");
    }
    Ok(())
}
