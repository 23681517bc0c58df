//! Where the CNI plugin belongs.

use std::path::PathBuf;

use mesh_node::cni::Site;
use mesh_node::install::InstallTarget;

use crate::args::{InstallCni, InstanceArgs};
use crate::failure::Failure;

/// Where the arguments say that it belongs.
pub fn target(args: &InstallCni) -> Result<InstallTarget, Failure> {
    let whole = |dir: &Option<PathBuf>| {
        dir.as_ref().map(std::path::absolute).transpose().map_err(|error| Failure::usage(error.to_string()))
    };
    let InstanceArgs { instance, bpffs, cgroup, state, .. } = &args.instance;
    Ok(InstallTarget {
        networks: args.conf_dir.clone(),
        plugins: args.bin_dir.clone(),
        file: args.file.clone(),
        site: Site {
            instance: (instance != "default").then(|| instance.clone()),
            bpffs: whole(bpffs)?,
            cgroup: whole(cgroup)?,
            state: whole(state)?,
        },
    })
}
