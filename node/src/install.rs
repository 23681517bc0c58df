//! Puts the CNI plugin in place: the program into the directory of plugins, and an entry at the end of a
//! network's list of plugins. It keeps both there, and takes both away again without a trace.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::cni::{NAME, Site};
use crate::splice::{self, NoArray};

/// The key of a network's list of plugins.
const PLUGINS: &str = "plugins";

/// Where the plugin and its entry belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallTarget {
    /// The directory of networks' configurations.
    pub networks: PathBuf,
    /// The directory of plugins.
    pub plugins: PathBuf,
    /// The network's file; without it the first one, which is the one that a kubelet's container runtime uses.
    pub file: Option<String>,
    /// The instance that pods are attached to.
    pub site: Site,
}

impl InstallTarget {
    /// The directories to watch.
    #[must_use]
    pub fn dirs(&self) -> BTreeSet<PathBuf> {
        [self.networks.clone(), self.plugins.clone()].into()
    }
}

/// Why it cannot be put in place, or taken away.
#[derive(Debug)]
pub enum Error {
    /// There is no network yet.
    NoNetwork(PathBuf),
    /// The network has one plugin and no list.
    NoList(PathBuf),
    /// Its file is not understood; perhaps it is being written.
    Damaged(PathBuf, String),
    /// A file cannot be read or written.
    Io(PathBuf, io::Error),
}

impl Error {
    /// What kind it is: a word that stays as it is while the wording changes.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoNetwork(_) => "no-network",
            Self::NoList(_) => "no-list",
            Self::Damaged(..) => "damaged",
            Self::Io(..) => "io",
        }
    }

    /// The file or directory that it is about.
    #[must_use]
    pub fn path(&self) -> String {
        let (Self::NoNetwork(path) | Self::NoList(path) | Self::Damaged(path, _) | Self::Io(path, _)) = self;
        path.display().to_string()
    }

    /// The cause and the thing.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::NoNetwork(dir) => format!("`{}` has no network's configuration", dir.display()),
            Self::NoList(file) => {
                format!("`{}` is of one plugin, and a chained plugin needs a list", file.display())
            }
            Self::Damaged(file, why) => format!("`{}` is no network's configuration: {why}", file.display()),
            Self::Io(file, error) => format!("`{}`: {error}", file.display()),
        }
    }

    /// What to do.
    #[must_use]
    pub const fn help(&self) -> &'static str {
        match self {
            Self::NoNetwork(_) => {
                "`--watch` waits until the cluster's network is there; `--conf-dir` names another directory"
            }
            Self::NoList(_) => {
                "write it as a `.conflist`, with `plugins`, or name another file with `--file`"
            }
            Self::Damaged(..) => "a network's configuration is a JSON object with a list `plugins`",
            Self::Io(..) => "this needs root, and directories that can be written",
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The program was written or removed.
    pub program: bool,
    /// Files of networks that were changed.
    pub files: Vec<PathBuf>,
}

impl Done {
    /// Whether anything was not as it should be.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.program || !self.files.is_empty()
    }
}

/// Puts program and entry in place. Where both are, nothing is written.
///
/// # Errors
/// The program is in place before the entry that names it, so that no pod fails for want of it.
pub fn put(target: &InstallTarget, program: &Path) -> Result<Done, Error> {
    let file = network(target)?;
    let text = read(&file)?;
    let damaged = |NoArray(why): NoArray| Error::Damaged(file.clone(), why);
    let is_there = splice::values(&text, PLUGINS).map_err(damaged)?.contains(&entry(&target.site));
    let mut done = Done { program: put_program(target, program)?, files: Vec::new() };
    if !is_there {
        // One of ours that says something else is of an earlier installation.
        let damaged = |NoArray(why): NoArray| Error::Damaged(file.clone(), why);
        let without =
            splice::remove(&text, PLUGINS, |value| is_ours(value, &target.site)).map_err(damaged)?;
        let with =
            splice::append(without.as_deref().unwrap_or(&text), PLUGINS, &entry(&target.site).to_string());
        replace(&file, with.map_err(damaged)?.as_bytes(), mode(&file)?)?;
        done.files.push(file);
    }
    Ok(done)
}

/// Takes the entry out of every network, and then the program away, unless another instance's entry names it.
///
/// # Errors
/// Then what is left works as before.
pub fn remove(target: &InstallTarget) -> Result<Done, Error> {
    let mut done = Done::default();
    let mut others = false;
    for file in lists(&target.networks)? {
        let text = read(&file)?;
        // What is no list of plugins has no entry of ours.
        if let Ok(Some(without)) = splice::remove(&text, PLUGINS, |value| is_ours(value, &target.site)) {
            replace(&file, without.as_bytes(), mode(&file)?)?;
            done.files.push(file.clone());
        }
        let left = splice::values(&read(&file)?, PLUGINS).unwrap_or_default();
        others |= left.iter().any(|value| value.get("type").is_some_and(|kind| kind == NAME));
    }
    let program = target.plugins.join(NAME);
    if !others {
        match fs::remove_file(&program) {
            Ok(()) => done.program = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::Io(program, error)),
        }
    }
    Ok(done)
}

/// The entry in a network's list of plugins.
fn entry(site: &Site) -> Value {
    let mut entry = Map::new();
    entry.insert("type".into(), NAME.into());
    entry.insert("capabilities".into(), json!({ "io.kubernetes.cri.pod-annotations": true }));
    if let Some(instance) = &site.instance {
        entry.insert("instance".into(), instance.as_str().into());
    }
    for (key, dir) in [("bpffs", &site.bpffs), ("cgroup", &site.cgroup), ("state", &site.state)] {
        if let Some(dir) = dir {
            entry.insert(key.into(), dir.to_string_lossy().into());
        }
    }
    Value::Object(entry)
}

/// Whether an entry is of the same instance. Instances are told apart by name, and by the state directory.
fn is_ours(value: &Value, site: &Site) -> bool {
    let ours = entry(site);
    ["type", "instance", "state"].iter().all(|key| value.get(key) == ours.get(*key))
}

fn put_program(target: &InstallTarget, program: &Path) -> Result<bool, Error> {
    let file = target.plugins.join(NAME);
    let bytes = fs::read(program).map_err(|error| Error::Io(program.into(), error))?;
    if fs::read(&file).is_ok_and(|found| found == bytes) && mode(&file)? & 0o111 == 0o111 {
        return Ok(false);
    }
    fs::create_dir_all(&target.plugins).map_err(|error| Error::Io(target.plugins.clone(), error))?;
    replace(&file, &bytes, 0o755)?;
    Ok(true)
}

fn network(target: &InstallTarget) -> Result<PathBuf, Error> {
    if let Some(name) = &target.file {
        let file = target.networks.join(name);
        return if file.exists() { Ok(file) } else { Err(Error::NoNetwork(file)) };
    }
    let first = names(&target.networks)?.into_iter().next();
    let first = first.ok_or_else(|| Error::NoNetwork(target.networks.clone()))?;
    if is_list(&first) { Ok(first) } else { Err(Error::NoList(first)) }
}

fn lists(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut names = names(dir)?;
    names.retain(|name| is_list(name));
    Ok(names)
}

/// Files that container runtimes take for networks, in their order.
fn names(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error| Error::Io(dir.into(), error);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|kind| kind == "conf" || kind == "conflist" || kind == "json")
            && path.is_file()
        {
            names.push(path);
        }
    }
    names.sort();
    Ok(names)
}

fn is_list(file: &Path) -> bool {
    file.extension().is_some_and(|kind| kind == "conflist")
}

fn read(file: &Path) -> Result<String, Error> {
    fs::read_to_string(file).map_err(|error| Error::Io(file.into(), error))
}

fn mode(file: &Path) -> Result<u32, Error> {
    let found = fs::metadata(file).map_err(|error| Error::Io(file.into(), error))?;
    Ok(found.permissions().mode() & 0o7777)
}

/// Puts a file in place at once. Its name until then is none that a container runtime reads.
fn replace(file: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = file.with_file_name(format!(".{name}.meshc-{}", std::process::id()));
    let written = fs::write(&beside, bytes)
        .and_then(|()| fs::set_permissions(&beside, fs::Permissions::from_mode(mode)))
        .and_then(|()| File::open(&beside)?.sync_all())
        .and_then(|()| fs::rename(&beside, file));
    written.map_err(|error| {
        // What could not be renamed is of no use.
        let _ = fs::remove_file(&beside);
        Error::Io(file.into(), error)
    })
}
