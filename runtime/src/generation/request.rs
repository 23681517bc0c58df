//! What an apply is asked for, and what it did.

use std::collections::BTreeSet;

use mesh_bpf::tables::Tables;
use mesh_nft::Difference;

use super::confirmation;
use crate::error::Result;
use crate::node::Node;
use crate::owner::Owner;
use crate::state::record::{self, Record};
use crate::system::{Prepared, Programs, System};
use crate::warning::Warning;

/// A policy to make live.
#[derive(Debug)]
pub struct Apply<'a, S: Programs> {
    /// Its tables.
    pub tables: &'a Tables,
    /// Which line of which file each item is from: bytes that the caller understands. They are kept with the policy,
    /// for [`Runtime::lines`](crate::Runtime::lines). With `None`, what was kept of the same policy stays.
    pub lines: Option<&'a [u8]>,
    /// Who applies it.
    pub owner: Owner,
    /// Go on although somebody else applied what is live.
    pub override_owner: bool,
    /// The generation it was planned against, 0 for none; with `None` whatever is live.
    pub expected: Option<u64>,
    /// Rewrite all tables and attach what is missing, even where nothing seems to differ.
    pub repair: bool,
    /// Do not let it decide: keep it for `resume`. Where the mesh is paused, it stays so in any case; where a
    /// policy decides, this changes nothing.
    pub paused: bool,
    /// Milliseconds after which it is taken back unless it is confirmed: see
    /// [`Runtime::expire`](crate::Runtime::expire).
    pub confirm_within: Option<u64>,
    /// Where another version's maps or tables are in the kernel, which this one cannot take over: start over,
    /// with a moment in which nothing is intercepted.
    pub drop_flows: bool,
    /// Close established connections that it decides otherwise than when they were opened.
    pub reset_changed: bool,
    /// Whether the programs keep the last decisions, for [`Runtime::recall`](crate::Runtime::recall); with `None` as before,
    /// and at first they do.
    pub keep_decisions: Option<bool>,
    /// Where it came from, in words: for the history.
    pub origin: &'a str,
    /// What [`Runtime::prepare`](crate::Runtime::prepare) began for it.
    pub prepared: Prepared<S>,
}

impl<'a, S: Programs> Apply<'a, S> {
    /// A plain apply from the command line.
    #[must_use]
    pub fn of(tables: &'a Tables) -> Self {
        Self {
            tables,
            lines: None,
            owner: Owner::Cli,
            override_owner: false,
            expected: None,
            repair: false,
            paused: false,
            confirm_within: None,
            drop_flows: false,
            reset_changed: false,
            keep_decisions: None,
            origin: "apply",
            prepared: Prepared::default(),
        }
    }
}

impl<S: Programs> Apply<'_, S> {
    /// Notes the generation that is about to be live after `live`, and until when it waits to be confirmed: before it is, so
    /// that neither is forgotten.
    pub(crate) fn announce(
        &self,
        node: Node<'_, impl System>,
        generation: u64,
        digest: String,
        live: u64,
    ) -> Result<Record> {
        let record = record::new(node, generation, digest, (self.owner, self.origin));
        record::write(node.system, &node.instance.pending(), &record, true)?;
        confirmation::wait_for(node, self.confirm_within, generation, live)?;
        Ok(record)
    }
}

/// What an apply did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The live generation.
    pub generation: u64,
    /// The policy's digest, in hexadecimal.
    pub digest: String,
    /// Whether there is a new generation. Not where the same policy was live.
    pub changed: bool,
    /// The mesh is paused, and `resume` brings this generation back.
    pub paused: bool,
    /// Programs that were replaced by those of this build.
    pub upgraded: usize,
    /// Tables that were written, with their bytes; the others were taken over.
    pub written: Vec<(&'static str, usize)>,
    /// Network namespaces whose rulesets were loaded; none where programs decide.
    pub namespaces: Option<usize>,
    /// What looks otherwise by rulesets than by programs, as far as it was not so with the policy before.
    pub differences: BTreeSet<Difference>,
    /// Members whose entries were written or removed.
    pub members_changed: usize,
    /// Cgroups that the policy names and that are not there.
    pub missing_cgroups: Vec<String>,
    /// Milliseconds until the free slot could be written, to write it, and to commit.
    pub milliseconds: [u64; 3],
    /// Established connections that were closed; none where that was not asked for.
    pub closed: Option<usize>,
    /// It is live, but something after the commit failed, drifted, or costs something.
    pub warnings: Vec<Warning>,
}
