//! What the numbers of an event mean.

use std::collections::BTreeMap;

use mesh_bpf::image::{MapImage, SourceKind};
use mesh_bpf::prefix::Prefix;
use mesh_bpf::unpack::unpack;

use super::event::Reason;
use crate::commands::status::hits::each_item;
use crate::error::Result;
use crate::members::files;
use crate::runtime::Runtime;
use crate::state::record::hex;
use crate::system::linux::Kernel;

/// Policies by generation and members by id, as far as they came up.
#[derive(Debug, Default)]
pub(super) struct Names {
    policies: BTreeMap<u64, Option<Policy>>,
    members: BTreeMap<u32, Option<String>>,
}

/// What an observer needs of a policy.
#[derive(Debug)]
struct Policy {
    digest: String,
    image: MapImage,
    workloads: Vec<String>,
    /// Source and address of every item, by the key of its counter.
    items: BTreeMap<u64, (usize, Prefix)>,
}

/// Policies that are kept in memory at once: who applies all day long is observed all the same.
const POLICIES: usize = 4;

impl Names {
    /// Reads the policy of a generation, unless that was done or tried before.
    pub(super) fn learn(&mut self, runtime: &Runtime<Kernel>, generation: u64) -> Result<()> {
        if self.policies.contains_key(&generation) {
            return Ok(());
        }
        let live = runtime.live()?.filter(|live| live.generation == generation);
        let policy = match live {
            Some(live) => {
                unpack(&live.tables).ok().map(|image| Policy::new(hex(&live.tables.digest()), image))
            }
            None => runtime.kept(generation).ok().map(|(record, _, image)| Policy::new(record.digest, image)),
        };
        self.policies.insert(generation, policy);
        while self.policies.len() > POLICIES {
            self.policies.pop_first();
        }
        Ok(())
    }

    /// Reads the members, unless this one is known.
    pub(super) fn learn_member(&mut self, runtime: &Runtime<Kernel>, id: u32) -> Result<()> {
        if self.members.contains_key(&id) {
            return Ok(());
        }
        for member in files::members(runtime.node())? {
            self.members.insert(member.id, Some(member.name));
        }
        // It has left already: it is not looked for again.
        self.members.entry(id).or_default();
        Ok(())
    }

    fn policy(&self, generation: u64) -> Option<&Policy> {
        self.policies.get(&generation)?.as_ref()
    }

    pub(super) fn digest(&self, generation: u64) -> Option<&str> {
        self.policy(generation).map(|policy| policy.digest.as_str())
    }

    pub(super) fn workloads(&self, generation: u64) -> &[String] {
        self.policy(generation).map_or(&[], |policy| &policy.workloads)
    }

    pub(super) fn member(&self, id: u32) -> Option<&str> {
        self.members.get(&id)?.as_deref()
    }

    pub(super) fn reason(&self, generation: u64, item: u64) -> Reason {
        let Some(policy) = self.policy(generation) else { return Reason::Unknown };
        let Some(&(source, prefix)) = policy.items.get(&item) else { return Reason::Unknown };
        let Some(source) = policy.image.sources.get(source) else { return Reason::Unknown };
        let text = if source.kind == SourceKind::BuiltIn { source.head.clone() } else { source.text(prefix) };
        Reason::Item { kind: source.kind, scope: source.scope.clone(), text, key: item }
    }
}

impl Policy {
    fn new(digest: String, image: MapImage) -> Self {
        let mut items = BTreeMap::new();
        each_item(&image, |source, prefix, key| {
            items.insert(key, (source, prefix));
        });
        let workloads = image.workloads.iter().map(|workload| workload.name.clone()).collect();
        Self { digest, image, workloads, items }
    }
}
