//! What a proof finds where it fails.

use std::fmt;

use mesh_bpf::flow::{Flow, Identity};

/// What the tables say, and what they should say: a bug of the compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disproof {
    /// `mesh/workload`, where it is about one.
    pub workload: Option<String>,
    /// A flow that is decided otherwise, where it is about flows.
    pub flow: Option<Flow>,
    /// One of the processes that open it, where it is about some.
    pub identity: Option<Identity>,
    /// What the policy means.
    pub expected: String,
    /// What the tables say.
    pub found: String,
}

impl fmt::Display for Disproof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tables differ from the policy")?;
        if let Some(workload) = &self.workload {
            write!(f, " for `{workload}`")?;
        }
        if let Some(flow) = &self.flow {
            let own = if flow.own { "its own " } else { "" };
            let preposition = flow.direction.preposition();
            let Flow { direction, protocol, address, port, .. } = flow;
            write!(f, ", {direction} {protocol} {port} {preposition} {own}{address}")?;
        }
        if let Some(identity) = &self.identity {
            f.write_str(if identity.node { ", an address of the node" } else { "" })?;
            f.write_str(&identity.clause())?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)
    }
}

impl std::error::Error for Disproof {}

/// A difference that is about no flow.
pub(super) fn plain(expected: impl fmt::Display, found: impl fmt::Display) -> Box<Disproof> {
    Box::new(Disproof {
        workload: None,
        flow: None,
        identity: None,
        expected: expected.to_string(),
        found: found.to_string(),
    })
}
