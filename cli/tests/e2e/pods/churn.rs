//! Pods come and go, with and without a word, and leave nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Netns, Tested, long_runs_are_wanted, storage, tool, until};
use serde_json::{Value, json};

use crate::fixtures::town::Pod;

#[test]
fn pods_that_come_and_go_leave_nothing() -> Tested {
    let pod = Pod::new(crate::fixtures::town::WAY)?;
    pod.apply("redirect inbound -> 15003")?;
    let (rounds, count) = if long_runs_are_wanted() { (50, 20) } else { (1, 8) };
    let mut programs = BTreeSet::new();
    for _ in 0..rounds {
        programs.extend(come_and_go(&pod, count)?);
        // The kernel ends a namespace in its own time, and the next command sees it.
        assert!(until(Duration::from_secs(20), || swept(&pod).is_ok_and(|left| left == Some(0))));
    }
    assert_eq!(programs.len(), rounds * count, "each pod had a program of its own");
    nothing_is_left(&pod, &programs)
}

/// Attaches this many pods; half of them are detached, and the namespaces of the others just end. Returns the ids
/// of their programs.
fn come_and_go(pod: &Pod, count: usize) -> Result<Vec<u64>, Failure> {
    let pods = (0..count).map(|_| Netns::new()).collect::<Result<Vec<_>, _>>()?;
    let mut listening = Vec::new();
    for (number, netns) in pods.iter().enumerate() {
        let path = netns.path().display().to_string();
        let (name, address) = (format!("pod-{number}"), format!("10.47.0.{number}"));
        pod.ask(&[
            "attach",
            "--netns",
            &path,
            "--name",
            &name,
            "--label",
            "app=cart",
            "--address",
            &address,
        ])?;
        if number < 3 {
            listening.push(pod.serve_in(netns, "sidecar", &["127.0.0.1:15003"])?);
        }
    }
    let status = pod.ask(&["status"])?;
    assert_eq!(status.pointer("/drift"), Some(&json!([])));
    assert_eq!(status.pointer("/members_total"), Some(&json!(count)));
    for netns in pods.iter().step_by(2) {
        pod.ask(&["detach", "--netns", &netns.path().display().to_string()])?;
    }
    let inbound = rows(&status, "programs").filter(|it| it.get("name") == Some(&json!("mesh_inbound")));
    Ok(inbound.filter_map(id).collect())
}

/// How many members there are after a command that changes nothing else.
fn swept(pod: &Pod) -> Result<Option<u64>, Failure> {
    pod.apply("redirect inbound -> 15003")?;
    Ok(pod.ask(&["status"])?.get("members_total").and_then(Value::as_u64))
}

fn nothing_is_left(pod: &Pod, programs: &BTreeSet<u64>) -> Tested {
    let status = pod.ask(&["status"])?;
    assert_eq!(status.pointer("/members_total"), Some(&json!(0)));
    assert_eq!(status.pointer("/drift"), Some(&json!([])));
    for map in ["endpoints", "own_addresses", "listeners"] {
        let left = || entries(pod, map);
        until(Duration::from_secs(10), || left().is_ok_and(|left| left == 0));
        assert_eq!(left()?, 0, "{map}");
    }
    assert_eq!(std::fs::read_dir(pod.ground().bpffs().join("mesh/pods"))?.count(), 0);
    let left = || -> Result<usize, Failure> {
        let all: Vec<Value> = serde_json::from_str(&tool("bpftool", &["-j", "prog", "list"])?)?;
        Ok(all.iter().filter_map(id).filter(|id| programs.contains(id)).count())
    };
    until(Duration::from_secs(10), || left().is_ok_and(|left| left == 0));
    assert_eq!(left()?, 0, "programs");
    Ok(())
}

/// By `status` for a map of sockets, which `bpftool` does not list.
fn entries(pod: &Pod, map: &str) -> Result<u64, Failure> {
    if map != "listeners" {
        return Ok(storage::entries(&pod.pin(map))? as u64);
    }
    let status = pod.ask(&["status"])?;
    let mut maps = rows(&status, "maps").filter(|it| it.get("name") == Some(&json!(map)));
    maps.find_map(|it| it.get("entries")?.as_u64()).ok_or("not in status".into())
}

fn rows<'a>(status: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    status.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn id(row: &Value) -> Option<u64> {
    row.get("id")?.as_u64()
}
