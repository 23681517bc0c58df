//! Where the live policy sends connections and no sidecar waits for them, in words and for scripts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh_bpf::flow::{Direction, Verdict};
use mesh_bpf::unpack::unpack;
use mesh_runtime::{Decided, Family, Held, NotTaken, Port, Runtime, Stranger, Unheard};
use serde_json::{Value, json};

/// This many are named, the others counted.
const NAMED: usize = 8;

/// What was found stays true for so long, where decisions are many.
const FRESH: Duration = Duration::from_secs(1);
/// No more answers are kept.
const KEPT: usize = 4096;

/// As scripts read it.
pub fn unheard(all: &[Unheard]) -> Value {
    let one = |it: &Unheard| {
        json!({
            "member": it.member, "namespace": it.namespace, "workload": it.workload,
            "direction": it.port.direction.to_string(), "protocol": it.port.protocol.to_string(),
            "family": it.port.family.to_string(), "port": it.port.port,
            "elsewhere": it.elsewhere.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "not_taken": it.not_taken, "text": unheard_text(it),
        })
    };
    all.iter().map(one).collect()
}

/// Ports of sidecars that others hold.
pub fn held(all: &[Held]) -> Value {
    let by = |it: &Stranger| {
        let (process, command) =
            it.process.as_ref().map_or((None, None), |(id, name)| (Some(id), Some(name)));
        json!({ "at": it.at.to_string(), "uid": it.uid, "pid": process, "command": command })
    };
    let one = |it: &Held| {
        json!({
            "member": it.member, "namespace": it.namespace, "workload": it.workload,
            "direction": it.port.direction.to_string(), "protocol": it.port.protocol.to_string(),
            "family": it.port.family.to_string(), "port": it.port.port,
            "by": it.by.iter().map(by).collect::<Vec<_>>(), "text": held_text(it),
        })
    };
    all.iter().map(one).collect()
}

/// A port at which nobody waits, for people.
pub fn unheard_text(it: &Unheard) -> String {
    let Port { direction, protocol, family, port } = it.port;
    let place = match direction {
        Direction::Outbound => SocketAddr::new(it.port.loopback(), port).to_string(),
        Direction::Inbound => format!("port {port} for {family}"),
    };
    let kind = if it.is_pod { "pod" } else { "member" };
    let elsewhere: Vec<String> = it.elsewhere.iter().map(ToString::to_string).collect();
    let elsewhere = match elsewhere.is_empty() {
        true => String::new(),
        false => format!("; somebody does on {}", elsewhere.join(", ")),
    };
    let not_taken = match it.not_taken {
        0 => String::new(),
        1 => "; 1 connection was not taken".into(),
        many => format!("; {many} connections were not taken"),
    };
    let Unheard { member, workload, .. } = it;
    format!(
        "nobody listens on {place} ({protocol}, {direction}) in the {kind} `{member}` of {workload}{elsewhere}{not_taken}"
    )
}

/// A sidecar's port that others hold, for people.
pub fn held_text(it: &Held) -> String {
    let Held { member, workload, .. } = it;
    let Port { direction, protocol, family, port } = it.port;
    let by: Vec<String> = it.by.iter().map(stranger).collect();
    format!(
        "port {port} for {family} ({protocol}, {direction}) in the pod `{member}` of {workload} is held by {}, whom the \
         policy does not exempt: it gets what is for the sidecar. Stop it, or let the sidecar run as who `exempt` names",
        by.join(" and ")
    )
}

fn stranger(it: &Stranger) -> String {
    let Stranger { at, uid, process } = it;
    match process {
        Some((process, name)) => format!("`{name}` (process {process}, user {uid}) at {at}"),
        None => format!("a process of user {uid} at {at}"),
    }
}

/// The same of what sidecars did not take.
pub fn not_taken(all: &[NotTaken]) -> Value {
    let one = |it: &NotTaken| {
        json!({
            "member": it.member, "direction": it.direction.to_string(), "family": it.family.to_string(),
            "port": it.port, "times": it.times,
        })
    };
    all.iter().map(one).collect()
}

/// A warning each, and one for all that are left.
pub fn warnings(all: &[Unheard]) -> Vec<String> {
    let mut said: Vec<String> = all.iter().take(NAMED).map(unheard_text).collect();
    if all.len() > NAMED {
        said.push(format!("{} more ports at which nobody listens: `meshc status`", all.len() - NAMED));
    }
    said
}

/// Of the policy that is live; nothing where that cannot be told, which `status` says.
pub fn of_live(runtime: &Runtime) -> Vec<Unheard> {
    let Ok(Some(live)) = runtime.live() else { return Vec::new() };
    unpack(&live.tables).ok().and_then(|image| runtime.unheard(&image).ok()).unwrap_or_default()
}

/// Whether somebody waits where decisions send connections, asked now and then.
#[derive(Default)]
pub struct Heard(BTreeMap<(u64, Port), (Instant, Option<bool>)>);

impl Heard {
    /// Of one decision; nothing where it sends nobody anywhere, or it cannot be told.
    pub fn of(&mut self, runtime: &Runtime, decided: &Decided) -> Option<bool> {
        let Verdict::Redirected { port, .. } = decided.verdict else { return None };
        // Inbound traffic comes from the other end, and both ends have one family.
        let address = decided.destination.0.or(decided.source.0)?;
        let port = Port {
            direction: decided.direction,
            protocol: decided.protocol,
            family: Family::of(address),
            port,
        };
        let key = (decided.netns, port);
        if let Some((asked, answer)) = self.0.get(&key)
            && asked.elapsed() < FRESH
        {
            return *answer;
        }
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        let answer = runtime.is_heard(decided.netns, port).ok().flatten();
        self.0.insert(key, (Instant::now(), answer));
        answer
    }
}
