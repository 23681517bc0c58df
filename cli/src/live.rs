//! The policy that this node holds.

use mesh_bpf::image::MapImage;
use mesh_bpf::tables::Tables;
use mesh_bpf::unpack::unpack;
use mesh_runtime::{Runtime, hex};

use crate::args::InstanceArgs;
use crate::failure::Failure;
use crate::node::{failure, open};
use crate::places::Places;
use crate::policy::Policy;

/// Where what is live is asked for and nothing is.
pub fn no_policy() -> Failure {
    Failure::refused("no-policy", "no policy is live").help("`meshc apply` a policy first")
}

/// What is said beside an answer about a policy that is live and paused.
pub fn paused(generation: u64) -> String {
    format!(
        "generation {generation} is paused: connections go straight; this is what `meshc resume` brings back"
    )
}

/// The live policy; none where nothing is live.
pub fn live_policy(args: &InstanceArgs) -> Result<Option<Policy>, Failure> {
    let runtime = open(args)?;
    let Some(live) = runtime.live().map_err(failure)? else { return Ok(None) };
    policy(&runtime, live.tables).map(Some)
}

/// A kept generation.
pub fn kept_policy(args: &InstanceArgs, generation: u64) -> Result<Policy, Failure> {
    let runtime = open(args)?;
    let (_, tables, _) = runtime.kept(generation).map_err(failure)?;
    policy(&runtime, tables)
}

/// Tables that were read back, with the sets that were kept of their policy.
pub fn policy(runtime: &Runtime, tables: Tables) -> Result<Policy, Failure> {
    let places = Places::kept(runtime, &hex(&tables.digest()));
    Ok(Policy::of(image(&tables)?, tables, places))
}

/// The image of tables that were read back.
pub fn image(tables: &Tables) -> Result<MapImage, Failure> {
    unpack(tables).map_err(|damaged| {
        Failure::cannot("damaged", damaged.to_string()).help("`meshc apply` the policy again")
    })
}
