//! Who joins, leaves or changes workload by an apply, and which binding rules go: in words and for scripts.

use std::fmt::Write;

use mesh_runtime::{Move, Transition};
use serde_json::{Map, Value, json};

/// This many are named, the others counted.
const NAMED: usize = 8;

/// What somebody may not expect of an apply.
pub struct Changes(pub Transition);

impl Changes {
    /// Whether members leave the mesh, or an `always` does not hold any more.
    pub fn takes_away(&self) -> bool {
        !self.0.lost_always.is_empty() || self.0.moves.iter().any(|it| it.to.is_none())
    }

    /// Who moves where, a line each kind, before it is `done` or after; nothing where nobody does.
    pub fn text(&self, done: bool) -> String {
        let mut out = String::new();
        let of = |kind: fn(&Move) -> bool| {
            self.0.moves.iter().filter(|it| kind(it)).map(label).collect::<Vec<_>>()
        };
        for (will, did, names) in [
            ("will leave the mesh", "left the mesh", of(|it| it.to.is_none())),
            ("will join the mesh", "joined the mesh", of(|it| it.from.is_none())),
            ("will change workload", "changed workload", of(|it| it.from.is_some() && it.to.is_some())),
        ] {
            if !names.is_empty() {
                let members = if names.len() == 1 { "member" } else { "members" };
                let what = if done { did } else { will };
                let _ = writeln!(out, "{} {members} {what}: {}", names.len(), some_of(&names));
            }
        }
        for rule in &self.0.lost_always {
            let _ = writeln!(out, "`{rule}` {} hold any more", if done { "does not" } else { "will not" });
        }
        out
    }

    /// The same for scripts.
    pub fn answer(&self) -> Map<String, Value> {
        let one =
            |it: &Move| json!({ "name": it.name, "namespace": it.namespace, "from": it.from, "to": it.to });
        let moves = self.0.moves.iter().map(one).collect::<Vec<_>>();
        [("moves", json!(moves)), ("lost_always", json!(self.0.lost_always))]
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect()
    }
}

fn label(it: &Move) -> String {
    let name = it.namespace.as_ref().map_or_else(|| it.name.clone(), |space| format!("{space}/{}", it.name));
    match (&it.from, &it.to) {
        (Some(from), None) => format!("{name} (was {from})"),
        (None, Some(to)) => format!("{name} (as {to})"),
        (Some(from), Some(to)) => format!("{name} ({from} to {to})"),
        (None, None) => name,
    }
}

fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{shown} and {} more", names.len() - NAMED) } else { shown }
}
