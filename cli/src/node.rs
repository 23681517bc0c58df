//! The instance that the arguments name, on this node.

use std::path::{Path, PathBuf};

use mesh_bpf::program::Inbound;
use mesh_runtime::{Class, Error, Instance, Options, Runtime, is_bpffs};

use crate::args::{self, InstanceArgs};
use crate::exit::Exit;
use crate::failure::Failure;

/// The runtime of the instance that the arguments name.
pub fn open(args: &InstanceArgs) -> Result<Runtime, Failure> {
    let options = Options {
        lock_timeout: args.lock_timeout.saturating_mul(1000),
        command: std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" "),
    };
    Runtime::open(instance(args)?, options).map_err(failure)
}

fn instance(args: &InstanceArgs) -> Result<Instance, Failure> {
    let (bpffs, name) = pins(args)?;
    let state =
        args.state.clone().unwrap_or_else(|| Path::new("/var/lib").join(default_name(&args.instance)));
    let hierarchy = hierarchy()?;
    let cgroup = args.cgroup.clone().unwrap_or_else(|| hierarchy.clone());
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let inbound = match args.inbound {
        Some(args::Inbound::SkLookup) => Inbound::SkLookup,
        Some(args::Inbound::Tc) => Inbound::Tc,
        None => mesh_runtime::kept_inbound(&state),
    };
    Ok(Instance { name, bpffs, cgroup, hierarchy, state, inbound, boot_id: boot_id.trim().to_owned() })
}

fn default_name(instance: &str) -> String {
    if instance == "default" { "meshc".into() } else { format!("meshc-{instance}") }
}

/// The directory that pins are below, and the name of the instance's own directory in it.
pub fn pins(args: &InstanceArgs) -> Result<(PathBuf, String), Failure> {
    let named = default_name(&args.instance);
    let Some(dir) = &args.bpffs else { return Ok(("/sys/fs/bpf".into(), named)) };
    let whole = std::path::absolute(dir)
        .map_err(|error| Failure::usage(format!("`--bpffs {}`: {error}", dir.display())))?;
    match (whole.parent(), whole.file_name().and_then(|name| name.to_str())) {
        (Some(parent), Some(name)) if is_bpffs(parent).unwrap_or_default() => {
            Ok((parent.into(), name.into()))
        }
        // The mount point itself: the instance's directory is below it.
        _ => Ok((whole, named)),
    }
}

/// Where version 2 of the cgroup hierarchy is mounted.
pub fn hierarchy() -> Result<PathBuf, Failure> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| {
        Failure::cannot("no-cgroup", format!("cannot read `/proc/self/mountinfo`: {error}"))
    })?;
    mesh_runtime::find_hierarchy(&mountinfo).ok_or_else(|| {
        Failure::cannot("no-cgroup", "no cgroup v2 hierarchy is mounted here").help(
            "mount one (`mount -t cgroup2 none /sys/fs/cgroup/unified`); `ip netns exec` hides it behind a \
             /sys of its own, `nsenter --net=FILE` does not",
        )
    })
}

/// A failure of the runtime, as a command reports it.
pub fn failure(error: Error) -> Failure {
    let exit = match error.class() {
        Class::Refused => Exit::Refused,
        Class::Node => Exit::Cannot,
        Class::Busy => Exit::Busy,
    };
    Failure::new(exit, error.code(), error.to_string()).help(error.help())
}
