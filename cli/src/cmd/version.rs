//! `meshc version`: what a bug report needs to say.

use mesh_bpf::abi::{FLOW_ABI, POLICY_ABI};
use serde_json::json;

use crate::exit::Exit;
use crate::output::Output;
use crate::version::{COMMIT, IS_DIRTY, LINE};

/// What can be left out of a build.
const FEATURES: [(&str, bool); 3] = [
    ("kernel", cfg!(feature = "kernel")),
    ("node", cfg!(feature = "node")),
    ("acceleration", cfg!(feature = "acceleration")),
];

/// Says which one this is.
pub fn run(output: &Output) -> Exit {
    let features: Vec<&str> = FEATURES.iter().filter(|(_, is_in)| *is_in).map(|(name, _)| *name).collect();
    let answer = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": COMMIT,
        "dirty": IS_DIRTY,
        "debug": cfg!(debug_assertions),
        "policy_abi": POLICY_ABI,
        "flow_abi": FLOW_ABI,
        "features": features,
    });
    output.answer(&answer, || {
        let features = if features.is_empty() { "none".into() } else { features.join(", ") };
        format!("meshc {LINE}\npolicy ABI {POLICY_ABI}, flow ABI {FLOW_ABI}\nfeatures: {features}\n")
    });
    Exit::Done
}
