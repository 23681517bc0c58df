//! The instance that the arguments name, on this node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mesh_bpf::program::Inbound;
use mesh_runtime::{Backend, Class, Error, Instance, Labels, Options, Placement, Runtime, is_bpffs};

use crate::args::{self, InstanceArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::inventory;

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
    let state = state(args);
    let hierarchy = hierarchy()?;
    let Placement { bpffs, name, cgroup } = placement(args, &state, &hierarchy)?;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let inbound = match args.inbound {
        Some(args::Inbound::SkLookup) => Inbound::SkLookup,
        Some(args::Inbound::Tc) => Inbound::Tc,
        None => mesh_runtime::kept_inbound(&state),
    };
    let backend = backend(args);
    Ok(Instance {
        name,
        bpffs,
        cgroup,
        hierarchy,
        state,
        inbound,
        backend,
        boot_id: boot_id.trim().to_owned(),
    })
}

/// What decides, or is to: as the arguments say, else as the last apply was told.
pub fn backend(args: &InstanceArgs) -> Backend {
    match args.backend {
        Some(args::Backend::Bpf) => Backend::Bpf,
        Some(args::Backend::Nft) => Backend::Nft,
        None => mesh_runtime::kept_backend(&state(args)),
    }
}

fn state(args: &InstanceArgs) -> PathBuf {
    args.state.clone().unwrap_or_else(|| Path::new("/var/lib").join(default_name(&args.instance)))
}

/// Where the arguments say, else where the instance is, else where it would be: nothing is done to it there.
pub fn looked_at(args: &InstanceArgs, hierarchy: &Path) -> Result<Placement, Failure> {
    let asked = asked(args, hierarchy)?;
    Ok(match Placement::kept(&state(args)) {
        Some(kept) => remembered(args, asked, kept),
        None => asked,
    })
}

/// Where the instance is: as the arguments say, else as its last apply was told.
fn placement(args: &InstanceArgs, state: &Path, hierarchy: &Path) -> Result<Placement, Failure> {
    let asked = asked(args, hierarchy)?;
    let Some(kept) = Placement::kept(state) else { return Ok(asked) };
    if kept.is_in_use() {
        let pins = |it: &Placement| it.bpffs.join(&it.name);
        if args.bpffs.is_some() && pins(&asked) != pins(&kept) {
            return Err(elsewhere("pinned", "--bpffs", &pins(&kept), &pins(&asked)));
        }
        if args.cgroup.is_some() && !is_same(&asked.cgroup, &kept.cgroup) {
            return Err(elsewhere("attached", "--cgroup", &kept.cgroup, &asked.cgroup));
        }
    }
    Ok(remembered(args, asked, kept))
}

/// As the arguments say, and where nothing is remembered.
fn asked(args: &InstanceArgs, hierarchy: &Path) -> Result<Placement, Failure> {
    let (bpffs, name) = pins(args)?;
    let cgroup = match &args.cgroup {
        // It is remembered, wherever the next command is started.
        Some(dir) => whole(dir, "--cgroup")?,
        None => hierarchy.into(),
    };
    Ok(Placement { bpffs, name, cgroup })
}

/// What the arguments leave open is as it is remembered.
fn remembered(args: &InstanceArgs, asked: Placement, kept: Placement) -> Placement {
    let (bpffs, name) =
        if args.bpffs.is_some() { (asked.bpffs, asked.name) } else { (kept.bpffs, kept.name) };
    let cgroup = if args.cgroup.is_some() { asked.cgroup } else { kept.cgroup };
    Placement { bpffs, name, cgroup }
}

/// Whether two paths name the same directory.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    real(one) == real(other)
}

fn elsewhere(what: &str, option: &str, kept: &Path, asked: &Path) -> Failure {
    let (kept, asked) = (kept.display(), asked.display());
    Failure::refused("elsewhere", format!("this instance is {what} at `{kept}`, and `{option}` says `{asked}`")).help(
        format!(
            "leave out `{option}`: it is remembered; to move it, `meshc detach --all` first; a second mesh beside it \
             has a name of its own, by `--instance`"
        ),
    )
}

fn default_name(instance: &str) -> String {
    if instance == "default" { "meshc".into() } else { format!("meshc-{instance}") }
}

/// A path that an option names, from the root.
fn whole(path: &Path, option: &str) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("`{option} {}`: {error}", path.display())))
}

/// The directory that pins are below, and the name of the instance's own directory in it.
fn pins(args: &InstanceArgs) -> Result<(PathBuf, String), Failure> {
    let named = default_name(&args.instance);
    let Some(dir) = &args.bpffs else { return Ok(("/sys/fs/bpf".into(), named)) };
    let whole = whole(dir, "--bpffs")?;
    match (whole.parent(), whole.file_name().and_then(|name| name.to_str())) {
        (Some(parent), Some(name)) if is_bpffs(parent).unwrap_or_default() => {
            Ok((parent.into(), name.into()))
        }
        // The mount point itself: the instance's directory is below it.
        _ => Ok((whole, named)),
    }
}

/// Labels, as options name them.
pub fn labels(given: &[String]) -> Result<Labels, Failure> {
    (given.iter())
        .map(|label| {
            let pair = label.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
            pair.ok_or_else(|| {
                Failure::usage(format!("the label `{label}` has no value")).help("write KEY=VALUE")
            })
        })
        .collect()
}

/// What an inventory tells the node of the labels of namespaces: what it does not have any more has none.
pub fn told(runtime: &Runtime, inventory: &Path) -> Result<BTreeMap<String, Labels>, Failure> {
    all_told(runtime, inventory::read(inventory)?.labels())
}

/// The same of one that a policy is compiled against: where it names no namespace, what is known stays.
pub fn told_beside(runtime: &Runtime, inventory: Option<&Path>) -> Result<BTreeMap<String, Labels>, Failure> {
    let Some(file) = inventory else { return Ok(BTreeMap::new()) };
    let labels = inventory::read(file)?.labels();
    if labels.is_empty() { Ok(labels) } else { all_told(runtime, labels) }
}

fn all_told(
    runtime: &Runtime,
    mut labels: BTreeMap<String, Labels>,
) -> Result<BTreeMap<String, Labels>, Failure> {
    for name in runtime.namespaces().map_err(failure)?.into_keys() {
        labels.entry(name).or_default();
    }
    Ok(labels)
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
