//! Another kernel than this machine's: Debian's, emulated by QEMU, with a disk that outlives a reboot.
//!
//! Needs the packages `qemu-system-x86` and `busybox-static`, and fetches the kernel's package; nothing of it
//! is installed. A boot takes some seconds, without hardware virtualisation.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::ground::Directory;
use crate::tool::{tool, with_input};
use crate::{Failure, Process, until};

/// How long a machine may run.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// What every kernel is told. On a busy machine the emulated timer comes too late for the check at boot, which panics.
const PARAMETERS: &str = "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check";

/// The kernel's modules that a machine loads, in this order, where they are not built in: what its disk needs, and
/// pairs of interfaces.
const MODULES: [&str; 7] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "drivers/net/veth",
];

/// What the machine does before and after the script: `/disk` is kept from boot to boot.
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
for module in /modules/*; do insmod $module || poweroff -f; done
mount -t ext4 /dev/vda /disk || poweroff -f
echo; echo '-- begin'
sh -e /script 2>&1
echo \"-- end $?\"
umount /disk
poweroff -f
";

/// The same where systemd is the first process and runs the script as a unit, when all others are started.
const SYSTEMD_INIT: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module || poweroff -f; done
mount -t ext4 /dev/vda /disk || poweroff -f
mkdir -p /disk/lib && mount --bind /disk/lib /var/lib
exec /lib/systemd/systemd
";
const SYSTEMD_SCRIPT: &str = "echo; echo '-- begin'
sh -e /script 2>&1
echo \"-- end $?\"
sync
poweroff -f
";
const DEFAULT_TARGET: &str = "[Unit]
Requires=multi-user.target
Wants=script.service
AllowIsolate=yes
";
const SCRIPT_SERVICE: &str = "[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /run-script
StandardOutput=tty
TTYPath=/dev/console
";
/// Units of systemd's own that others are ordered by.
const TARGETS: [&str; 12] = [
    "basic",
    "final",
    "local-fs",
    "local-fs-pre",
    "multi-user",
    "paths",
    "shutdown",
    "slices",
    "sockets",
    "swap",
    "sysinit",
    "timers",
];

/// A machine that is off; every [`Vm::boot`] starts its kernel again, with the same disk.
#[derive(Debug)]
pub struct Vm {
    dir: Directory,
    kernel: PathBuf,
    parameters: &'static str,
}

impl Vm {
    /// A machine with the kernel of Debian's package `linux-image-VERSION-cloud-amd64`; the current one of
    /// this release for `None`.
    ///
    /// # Errors
    /// If a package is missing, or the kernel's cannot be fetched.
    pub fn new(version: Option<&str>) -> Result<Self, Failure> {
        let package = match version {
            Some(version) => format!("linux-image-{version}-cloud-amd64"),
            None => current()?,
        };
        Self::of(&package, "")
    }

    /// A machine with Debian's newest cloud kernel of a series, for example `6.12`.
    ///
    /// # Errors
    /// If there is none, a package is missing, or the kernel's cannot be fetched.
    pub fn newest(series: &str) -> Result<Self, Failure> {
        let names = tool("apt-cache", &["pkgnames", &format!("linux-image-{series}.")])?;
        let patch = |name: &str| -> Option<u32> {
            let version =
                name.strip_prefix(&format!("linux-image-{series}."))?.strip_suffix("-cloud-amd64")?;
            version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let newest = names.lines().filter_map(|name| Some((patch(name)?, name))).max();
        Self::of(newest.ok_or(format!("apt knows no cloud kernel {series}: run apt-get update"))?.1, "")
    }

    /// A machine with the cloud kernel of this version that Debian's backports for this release have.
    ///
    /// # Errors
    /// If they do not have it, a package is missing, or the kernel's cannot be fetched.
    pub fn backport(version: &str) -> Result<Self, Failure> {
        let package = format!("linux-image-{version}-cloud-amd64");
        if kept(&package).join("boot").is_dir() {
            return Self::of(&package, "");
        }
        // Known to apt for this once, and to nobody else.
        let dir = Directory::new()?;
        let place = dir.path().display();
        let release = fs::read_to_string("/etc/os-release")?;
        let release = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        fs::write(
            dir.path().join("sources"),
            format!(
                "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
                 http://deb.debian.org/debian {}-backports main\n",
                release.ok_or("no code name in /etc/os-release")?
            ),
        )?;
        let options = format!(
            "-o Dir::Etc::sourcelist={place}/sources -o Dir::Etc::sourceparts=- \
             -o Dir::State::lists={place}/lists -o Dir::Cache={place}/cache"
        );
        for dir in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(Path::new(&place.to_string()).join(dir))?;
        }
        tool("sh", &["-c", &format!("apt-get {options} -qq update")])?;
        Self::of(&package, &options)
    }

    /// The same machine, whose kernel guards itself against root, as under Secure Boot.
    #[must_use]
    pub fn locked_down(self) -> Self {
        Self { parameters: "lockdown=integrity", ..self }
    }

    fn of(package: &str, options: &str) -> Result<Self, Failure> {
        let kernel = fetched(package, options)?;
        let dir = Directory::new()?;
        let machine = Self { dir, kernel, parameters: "" };
        machine.prepare()?;
        Ok(machine)
    }

    fn prepare(&self) -> Result<(), Failure> {
        let root = self.root();
        for dir in ["bin", "proc", "sys", "dev", "run", "disk", "tmp", "var/tmp", "modules"] {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))?;
        for applet in tool("busybox", &["--list"])?.lines().filter(|applet| *applet != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        self.modules(&MODULES)?;
        executable(&root.join("init"), INIT)?;
        let disk = self.dir.path().join("disk");
        fs::File::create(&disk)?.set_len(64 << 20)?;
        tool("/sbin/mkfs.ext4", &["-q", &disk.display().to_string()])?;
        Ok(())
    }

    /// Has these modules of its kernel loaded at boot, in this order and after all others, where they are not built in.
    ///
    /// # Errors
    /// If one cannot be unpacked.
    pub fn modules(&self, names: &[&str]) -> Result<(), Failure> {
        let dir = self.root().join("modules");
        let kept = single(&self.kernel.join("lib/modules"))?.join("kernel");
        for name in names {
            // They are loaded in the order of their names.
            let at = fs::read_dir(&dir)?.count();
            let (plain, to) = (kept.join(format!("{name}.ko")), dir.join(format!("{at:02}")));
            let packed = plain.with_extension("ko.xz");
            if packed.exists() {
                tool("sh", &["-c", &format!("xz -dc {} > {}", packed.display(), to.display())])?;
            } else if plain.exists() {
                fs::copy(plain, to)?;
            }
        }
        Ok(())
    }

    /// Puts a program of this machine into the other one, with the libraries that it is linked with.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn program(&self, at: &str, program: &Path) -> Result<(), Failure> {
        let (root, from) = (self.root(), program.display().to_string());
        let to = inside(&root, at);
        fs::create_dir_all(to.parent().unwrap_or(&root))?;
        tool("strip", &["-o", &to.display().to_string(), &from])?;
        for line in tool("ldd", &[&from])?.lines() {
            let library = line.split_whitespace().find(|word| word.starts_with('/'));
            if let Some(library) = library {
                let to = inside(&root, library);
                fs::create_dir_all(to.parent().unwrap_or(&root))?;
                fs::copy(library, to)?;
            }
        }
        Ok(())
    }

    /// Puts a file into the machine.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn file(&self, at: &str, content: &str) -> io::Result<()> {
        let to = inside(&self.root(), at);
        fs::create_dir_all(to.parent().unwrap_or(Path::new("/")))?;
        fs::write(to, content)
    }

    /// Makes systemd of this machine the first process of the other one. `/var/lib` is kept from boot to boot.
    ///
    /// # Errors
    /// If the package `systemd` is not there.
    pub fn systemd(&self) -> Result<(), Failure> {
        for program in ["/lib/systemd/systemd", "/bin/systemctl"] {
            self.program(program, Path::new(program))?;
        }
        for target in TARGETS {
            let unit = format!("/lib/systemd/system/{target}.target");
            self.file(&unit, &fs::read_to_string(&unit)?)?;
        }
        fs::create_dir_all(self.root().join("var/lib"))?;
        self.file("/etc/machine-id", &format!("{:032x}\n", 7))?;
        self.file("/etc/passwd", "root:x:0:0::/:/bin/sh\n")?;
        // What it says to the console would be amid what the script says.
        self.file("/etc/systemd/system.conf", "[Manager]\nLogLevel=alert\n")?;
        self.file("/etc/systemd/system/default.target", DEFAULT_TARGET)?;
        self.file("/etc/systemd/system/script.service", SCRIPT_SERVICE)?;
        self.file("/run-script", SYSTEMD_SCRIPT)?;
        Ok(executable(&self.root().join("init"), SYSTEMD_INIT)?)
    }

    /// Has a unit started at boot (`enable`), or not any more (`disable`), as an administrator does.
    ///
    /// # Errors
    /// If `systemctl` refuses.
    pub fn systemctl(&self, verb: &str, unit: &str) -> io::Result<()> {
        tool("systemctl", &["--root", &self.root().display().to_string(), verb, unit]).map(drop)
    }

    /// Boots, runs a shell script as root, switches off, and returns what the script printed.
    ///
    /// # Errors
    /// If the script fails, or the machine does not come up and go down within five minutes: the error is what
    /// it printed.
    pub fn boot(&self, script: &str) -> Result<String, Failure> {
        executable(&self.root().join("script"), script)?;
        let (root, archive) = (self.root(), self.dir.path().join("initramfs"));
        let names = tool("find", &[&root.display().to_string(), "-mindepth", "1", "-printf", "%P\\n"])?;
        let pack = format!("cd {} && busybox cpio -o -H newc > {}", root.display(), archive.display());
        with_input("sh", &["-c", &pack], &names)?;
        let mut machine = self.start(&archive)?;
        let down = until(PATIENCE, || !machine.is_running());
        let printed = machine.output()?.replace('\r', "");
        let said = printed.split_once("-- begin\n").and_then(|(_, rest)| rest.rsplit_once("-- end "));
        match said {
            Some((said, rest)) if down && rest.starts_with("0\n") => Ok(said.to_owned()),
            _ => Err(format!("the other kernel's machine says:\n{printed}").into()),
        }
    }

    fn start(&self, archive: &Path) -> Result<Process, Failure> {
        let kernel = single_starting(&self.kernel.join("boot"), "vmlinuz")?;
        let disk = format!("file={},if=virtio,format=raw", self.dir.path().join("disk").display());
        let mut command = std::process::Command::new("qemu-system-x86_64");
        command
            .args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "768", "-nographic"])
            .args(["-no-reboot", "-net", "none", "-drive", &disk])
            .args(["-append", &format!("{PARAMETERS} {}", self.parameters)])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(archive);
        Ok(Process::start(&mut command, &self.dir.path().join("console"))?)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }
}

fn inside(root: &Path, at: &str) -> PathBuf {
    root.join(at.trim_start_matches('/'))
}

fn executable(path: &Path, content: &str) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// The package of the kernel that this release's newest cloud kernel is.
fn current() -> Result<String, Failure> {
    let depends = tool("apt-cache", &["depends", "linux-image-cloud-amd64"])?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(package.ok_or("apt knows no cloud kernel: run apt-get update")?.to_owned())
}

fn kept(package: &str) -> PathBuf {
    Path::new("/var/tmp").join(format!("mesh-testbed-{package}"))
}

/// The unpacked package; kept between runs, since it never changes.
fn fetched(package: &str, options: &str) -> Result<PathBuf, Failure> {
    let kept = kept(package);
    if kept.join("boot").is_dir() {
        return Ok(kept);
    }
    // Beside its place, so that it can be renamed.
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let fetch = format!(
        "cd {0} && apt-get {options} -qq download {package} && dpkg -x {package}_*.deb unpacked",
        dir.path().display()
    );
    tool("sh", &["-c", &fetch])?;
    match fs::rename(dir.path().join("unpacked"), &kept) {
        // Another test was first.
        Err(_) if kept.join("boot").is_dir() => Ok(kept),
        moved => Ok(moved.map(|()| kept)?),
    }
}

fn single(dir: &Path) -> Result<PathBuf, Failure> {
    single_starting(dir, "")
}

fn single_starting(dir: &Path, start: &str) -> Result<PathBuf, Failure> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(start) {
            return Ok(entry.path());
        }
    }
    Err(format!("nothing begins with `{start}` in {}", dir.display()).into())
}
