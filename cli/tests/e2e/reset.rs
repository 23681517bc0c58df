//! Established connections keep their path when the policy changes; `--reset-changed` closes those that the new
//! one decides otherwise, and no others.

use std::net::SocketAddr;

use mesh_testbed::{Client, Failure, Line, Place, Stream, Task, Tested, kernel_is_usable};
use serde_json::json;

use crate::stage::{SIDECAR_UID, Stage, address};

const BEFORE: &str = "redirect outbound -> 15001\nexclude outbound tcp 3306, 8080";
const AFTER: &str = "redirect outbound -> 15001\nredirect outbound tcp 443 -> 15002\n\
                     deny outbound tcp 3306\nexclude outbound tcp 8080";

/// To the sidecar on another port; and refused.
const CHANGED: [&str; 2] = ["443", "3306"];
/// To the same sidecar; and straight.
const UNCHANGED: [&str; 2] = ["80", "8080"];

/// A process with connections to these ports, of both families and one more by a v4-mapped socket.
struct Connected(Task<()>);

impl Connected {
    fn open(place: &Place, ports: &[&str]) -> Result<Self, Failure> {
        let mut targets = Vec::new();
        for port in ports {
            let (v4, v6) = (address(&format!("10.0.3.9:{port}"))?, address(&format!("[fd10::9]:{port}"))?);
            targets.extend([Client::to(v4), Client::to(v6), Client::to(v4).mapped()]);
        }
        let mut task = place.spawn(move |line| {
            let opened: Result<Vec<_>, _> = targets.iter().map(open).collect();
            match opened {
                Ok(mut streams) => drop(answer(line, &mut streams)),
                Err(error) => drop(line.say(&format!("failed: {error}"))),
            }
        })?;
        match task.line().hear()?.as_str() {
            "open" => Ok(Self(task)),
            other => Err(other.into()),
        }
    }

    /// The ports whose connections all still carry a line there and back; those whose connections have all
    /// ended are left out.
    fn alive(&mut self) -> Result<Vec<String>, Failure> {
        self.0.line().say("try")?;
        let said = self.0.line().hear()?;
        let mut ports: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
        assert!(
            ports.chunks(3).all(|three| three.iter().all(|port| Some(port) == three.first())),
            "{ports:?}"
        );
        ports.dedup();
        Ok(ports)
    }
}

fn open(client: &Client) -> Result<(SocketAddr, Stream), mesh_testbed::Errno> {
    let mut stream = client.open()?;
    let greeting = stream.greeting()?;
    Ok((greeting.peer, stream))
}

fn answer(line: &mut Line, streams: &mut [(SocketAddr, Stream)]) -> std::io::Result<()> {
    line.say("open")?;
    while line.hear()? == "try" {
        let alive = streams.iter_mut().filter_map(|(peer, stream)| {
            stream.exchange("hello").is_ok_and(|heard| heard == "hello").then(|| peer.port().to_string())
        });
        let alive = alive.collect::<Vec<_>>().join(" ");
        line.say(&alive)?;
    }
    Ok(())
}

#[test]
fn connections_keep_their_path_unless_they_are_reset() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let stage = Stage::new()?;
    stage.apply_rules(BEFORE)?;
    let all = [UNCHANGED, CHANGED].concat();
    let mut member = Connected::open(&stage.cart(), &all)?;
    let mut exempt = Connected::open(&stage.cart().uid(SIDECAR_UID), &all)?;
    let mut other = Connected::open(&stage.beside(), &all)?;
    let applied = stage.apply_rules(AFTER)?;
    assert_eq!(applied.get("closed"), Some(&json!(null)));
    assert_eq!(member.alive()?, all);

    // The policy is live already, and old connections still are on their old path.
    let policy = stage.policy("policy.mesh", AFTER)?.display().to_string();
    let reset = stage.ask(&["apply", &policy, "--reset-changed"])?;
    assert_eq!(
        (reset.get("changed"), reset.get("closed")),
        (Some(&json!(false)), Some(&json!(6))),
        "{reset}"
    );
    assert_eq!(member.alive()?, UNCHANGED);
    for stays in [&mut exempt, &mut other] {
        assert_eq!(stays.alive()?, all);
    }
    let again = stage.ask(&["apply", &policy, "--reset-changed"])?;
    assert_eq!(again.get("closed"), Some(&json!(0)), "{again}");
    Ok(())
}

#[test]
fn the_apply_that_changes_them_resets_them() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let stage = Stage::new()?;
    stage.apply_rules(BEFORE)?;
    let mut cart = Connected::open(&stage.cart(), &CHANGED)?;
    let mut batch = Connected::open(&stage.batch(), &CHANGED)?;
    // `batch` is no workload of this policy any more: what the sidecar had goes straight.
    let text = std::fs::read_to_string(stage.policy("with.mesh", BEFORE)?)?;
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("workload batch")).collect();
    let without = stage.ground().write("without.mesh", without.join("\n"))?.display().to_string();
    let reset = stage.ask(&["apply", &without, "--reset-changed"])?;
    assert_eq!((reset.get("changed"), reset.get("closed")), (Some(&json!(true)), Some(&json!(3))));
    assert_eq!(cart.alive()?, CHANGED);
    assert_eq!(batch.alive()?, ["3306"]);
    Ok(())
}
