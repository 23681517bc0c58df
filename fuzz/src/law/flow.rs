//! Any text as a flow: it is read without a panic, and what reads can be asked.

use mesh_compiler::compile::{Compilation, compile};
use mesh_compiler::explain::explain;
use mesh_compiler::parse::parse_flow;
use mesh_compiler::question::Question;
use mesh_compiler::resolve::{Location, NoImports};
use mesh_compiler::source::Sources;

use super::text::every_place_is_real;
use crate::{Held, holds};

/// A policy that flows can be asked of.
const POLICY: &str = "
exempt uid 1500-1502
exempt cgroup \"/exempt\"
exempt interface \"net*\"
redirect outbound -> 15001
redirect inbound -> 15003
mesh m {
    exclude outbound tcp 80-90 to 10.0.0.0/8, fd00::/8
    always deny outbound udp 443
    workload a { address 10.42.1.0/24, fd00:42:1::/64 }
    workload b { label app = b }
    accelerate all
}
";

/// What holds of any text that is given as a flow.
///
/// # Errors
/// The law that it breaks.
pub fn flow(text: &str) -> Held {
    let mut sources = Sources::default();
    let (id, _) = sources.add("flow", text.as_bytes().to_vec());
    let flow = match parse_flow(id, text) {
        Ok(flow) => flow,
        Err(found) => {
            holds("a flow that does not read has a message", !found.is_empty(), || "none".to_owned())?;
            return every_place_is_real(&sources, &found);
        }
    };
    let policy = policy();
    let program = &policy.resolution.program;
    let question = match Question::of_asked(program, &policy.members, &flow, None) {
        Ok(question) => question,
        Err(found) => return every_place_is_real(&sources, &[found]),
    };
    let Some(compiled) = &policy.compiled else { return holds("the policy compiles", false, String::new) };
    let answers = explain(program, &compiled.image, &policy.members, &question);
    holds("a flow has an answer", !answers.is_empty(), || format!("{question:?}"))
}

fn policy() -> Compilation {
    let place = Location { key: "m.mesh".to_owned(), name: "m.mesh".to_owned() };
    compile(vec![(place, POLICY.as_bytes().to_vec())], &mut NoImports, None)
}
