//! The commands that touch this node's kernel.

mod acceleration;
#[cfg(feature = "node")]
mod agent;
mod apply;
mod attach;
#[cfg(feature = "node")]
mod cni;
mod confirm;
mod detach;
mod doctor;
mod explain;
mod history;
mod observe;
mod plan;
mod run;
mod show;
mod sidecars;
mod status;
mod switch;

use std::path::{Path, PathBuf};

use mesh_bpf::program::Inbound;
use mesh_runtime::{Class, Error, Instance, Options, Runtime};

use crate::args::{self, Command, InstanceArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

#[cfg(feature = "node")]
pub use cni::{call as cni, is_called as is_cni};
pub use explain::live as explain_live;
pub use status::live_policy;

/// Runs one of them.
pub fn run(output: &Output, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Apply(args) => apply::run(output, args),
        Command::Status(args) => status::run(output, args),
        Command::Doctor(args) => doctor::run(output, args),
        Command::DoctorTrial => doctor::member(output),
        Command::Observe(args) => observe::run(output, args),
        Command::Pause(args) => switch::pause(output, args),
        Command::Resume(args) => switch::resume(output, args),
        Command::Confirm(args) => confirm::run(output, args),
        Command::AwaitConfirmation(args) => confirm::wait(args),
        Command::History(args) => history::history(output, args),
        Command::Rollback(args) => history::rollback(output, args),
        Command::Restore(args) => history::restore(output, args),
        Command::Plan(args) => plan::run(output, args),
        Command::Show(args) => show::run(output, args),
        Command::Attach(args) => attach::run(output, args),
        Command::Detach(args) => detach::run(output, args),
        Command::Run(args) => run::run(output, args),
        #[cfg(feature = "node")]
        Command::Agent(args) => agent::run(output, args),
        #[cfg(feature = "node")]
        Command::Cni => cni::call(output),
        #[cfg(feature = "node")]
        Command::InstallCni(args) => cni::install(output, args),
        #[cfg(not(feature = "node"))]
        Command::Agent(_) | Command::Cni | Command::InstallCni(_) => {
            Err(Failure::cannot("no-node", "this meshc was built without the cargo feature `node`"))
        }
        _ => Err(Failure::usage("this command does not touch the kernel")),
    }
}

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

/// The folder that pins are below, and the name of the instance's own folder in it.
fn pins(args: &InstanceArgs) -> Result<(PathBuf, String), Failure> {
    let named = default_name(&args.instance);
    let Some(folder) = &args.bpffs else { return Ok(("/sys/fs/bpf".into(), named)) };
    let whole = std::path::absolute(folder)
        .map_err(|error| Failure::usage(format!("`--bpffs {}`: {error}", folder.display())))?;
    match (whole.parent(), whole.file_name().and_then(|name| name.to_str())) {
        (Some(parent), Some(name)) if is_bpffs(parent) => Ok((parent.into(), name.into())),
        // The mount point itself: the instance's folder is below it.
        _ => Ok((whole, named)),
    }
}

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

fn is_bpffs(folder: &Path) -> bool {
    rustix::fs::statfs(folder)
        .is_ok_and(|found| u32::try_from(found.f_type).is_ok_and(|kind| kind == BPF_FS_MAGIC))
}

fn hierarchy() -> Result<PathBuf, Failure> {
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
