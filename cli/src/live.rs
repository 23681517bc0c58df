//! The policy that this node holds.

use mesh_bpf::image::MapImage;
use mesh_bpf::tables::Tables;
use mesh_bpf::unpack::unpack;

use crate::args::InstanceArgs;
use crate::failure::Failure;
use crate::node::{failure, open};
use crate::policy::Policy;

/// The image of what is live.
pub fn live_image(args: &InstanceArgs) -> Result<MapImage, Failure> {
    let live = open(args)?.live().map_err(failure)?;
    image(&live.ok_or_else(no_policy)?.tables)
}

/// Where what is live is asked for and nothing is.
pub fn no_policy() -> Failure {
    Failure::refused("no-policy", "no policy is live").help("`meshc apply` a policy first")
}

/// The live policy with its generation and digest; none where nothing is live.
pub fn live_policy(args: &InstanceArgs) -> Result<Option<Policy>, Failure> {
    let Some(live) = open(args)?.live().map_err(failure)? else { return Ok(None) };
    Ok(Some(Policy { image: image(&live.tables)?, tables: live.tables }))
}

/// The image of tables that were read back.
pub fn image(tables: &Tables) -> Result<MapImage, Failure> {
    unpack(tables).map_err(|damaged| {
        Failure::cannot("damaged", damaged.to_string()).help("`meshc apply` the policy again")
    })
}
