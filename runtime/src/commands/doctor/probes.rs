//! The probes, in the order in which one needs what the one before found.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mesh_bpf::abi::{Counter, LINE, Member};
use mesh_bpf::map::{self, MAPS, MapKind, Table};
use mesh_bpf::pack::pack;
use mesh_bpf::program::{Hook, Inbound, Policies, ProgramDef};
use mesh_bpf::tables::TableData;

#[cfg(feature = "acceleration")]
use super::acceleration;
use super::checkup::{DoctorTarget, Finding, Outcome};
use super::feature::{self, Feature};
use super::findings::{Findings, Probe, words};
use super::namespace::{HERE, in_a_namespace};
use super::nftables;
#[cfg(not(feature = "acceleration"))]
use super::no_acceleration as acceleration;
use super::trial;
use crate::attach::dispatch;
use crate::commands::status::hits;
use crate::error::Error;
use crate::instance::{Backend, Instance};
use crate::maps::pinned::PinnedMaps;
use crate::maps::slot;
use crate::node::Node;
use crate::system::linux::{Bare, Detached, Kernel, KernelMap};
use crate::system::{Clock, Files, Links, Maps, Netns, Prepared, Programs, SysResult, Word};

/// What a cgroup of ours begins with.
const CGROUP: &str = "meshc-doctor-";

/// Whether this process may do what commands do.
pub(super) fn rights(missing: &[&str]) -> Finding {
    let outcome = match missing {
        [] => Outcome::Works,
        _ => Outcome::Fails(format!("this process lacks {}", missing.join(", "))),
    };
    Finding { feature: feature::RIGHTS, outcome }
}

/// Everything, for a process that may do it.
pub(super) fn all(kernel: &Kernel, target: &DoctorTarget, member: Command) -> Vec<Finding> {
    let mut findings = Findings(vec![rights(&[])]);
    let cgroup = Cgroup::new(kernel, target);
    findings.note(feature::CGROUP, cgroup.as_ref().map(drop).map_err(Clone::clone));
    findings.note(feature::BPFFS, bpffs(kernel, target));
    findings.note(feature::BTF, btf());
    maps(kernel, &mut findings);
    cookies(kernel, &mut findings);
    findings.note(feature::TCX, tcx(kernel));
    acceleration::alone(&mut findings);
    programs(kernel, cgroup.as_ref().ok(), member, &mut findings);
    let member = cgroup.as_ref().ok().and_then(|cgroup| kernel.inode(&cgroup.member).ok().flatten());
    nftables::all(kernel, member, &mut findings);
    findings.0
}

/// A cgroup of this look's own; it goes when this is dropped.
struct Cgroup<'a> {
    kernel: &'a Kernel,
    dir: PathBuf,
    member: PathBuf,
}

impl<'a> Cgroup<'a> {
    fn new(kernel: &'a Kernel, target: &DoctorTarget) -> Result<Self, String> {
        target.hierarchy.as_ref().ok_or("no cgroup v2 hierarchy is mounted here")?;
        let above = &target.cgroup;
        if kernel.inode(&above.join("cgroup.controllers")).map_err(words)?.is_none() {
            return Err(format!("`{}` is no directory of a cgroup v2 hierarchy", above.display()));
        }
        sweep(kernel, above);
        let process = kernel.this_process();
        let dir = above.join(format!("{CGROUP}{}-{}", process.pid, process.start));
        let member = dir.join("member");
        let made = Self { kernel, dir, member };
        kernel.create_dir(&made.dir).and_then(|()| kernel.create_dir(&made.member)).map_err(words)?;
        Ok(made)
    }
}

impl Drop for Cgroup<'_> {
    fn drop(&mut self) {
        // A process that has just ended keeps its cgroup for a moment.
        for _ in 0..100 {
            let removed =
                (self.kernel.remove_dir(&self.member)).and_then(|()| self.kernel.remove_dir(&self.dir));
            if removed.is_ok() {
                return;
            }
            self.kernel.sleep(10);
        }
    }
}

/// Removes the cgroups of looks that were killed.
fn sweep(kernel: &Kernel, above: &Path) {
    for name in kernel.list(above).ok().flatten().unwrap_or_default() {
        let maker = name.strip_prefix(CGROUP).and_then(|rest| rest.split_once('-'));
        let process = maker.and_then(|(pid, start)| {
            Some(crate::system::Process { pid: pid.parse().ok()?, start: start.parse().ok()? })
        });
        if process.is_some_and(|process| !kernel.is_alive(process)) {
            let dir = above.join(&name);
            let _ = kernel.remove_dir(&dir.join("member"));
            let _ = kernel.remove_dir(&dir);
        }
    }
}

fn bpffs(kernel: &Kernel, target: &DoctorTarget) -> Probe {
    // The instance's own directory is not there before the first apply.
    let dir = target.bpffs.ancestors().find(|dir| dir.exists()).unwrap_or(&target.bpffs);
    if !kernel.is_bpffs(dir).map_err(words)? {
        return Err(format!("`{}` is not on a BPF file system", target.bpffs.display()));
    }
    if !kernel.is_writable(dir).map_err(words)? {
        return Err(format!("`{}` is mounted read-only", target.bpffs.display()));
    }
    Ok(())
}

fn btf() -> Probe {
    let mut magic = [0; 2];
    let file = "/sys/kernel/btf/vmlinux";
    std::fs::File::open(file)
        .and_then(|mut file| file.read_exact(&mut magic))
        .map_err(|error| format!("{file}: {error}"))?;
    if magic == 0xeb9f_u16.to_ne_bytes() { Ok(()) } else { Err(format!("{file} is no type information")) }
}

/// Each kind of map, as it is used.
fn maps(kernel: &Kernel, findings: &mut Findings) {
    findings.note(feature::MEMLOCK, kernel.unlocked_map(&map::CONTROL).map(drop).map_err(words));
    findings.note(feature::MMAP, mapped(kernel).map_err(words));
    findings.note(feature::FREEZE, frozen(kernel).map_err(words));
    findings.note(feature::INNER, unequal(kernel).map_err(words));
    findings.note(
        feature::HASH,
        of_kind(kernel, &[MapKind::Hash, MapKind::PerCpuArray, MapKind::Array]).map_err(words),
    );
    findings.note(feature::BATCH, batches(kernel).map_err(words));
    findings.note(feature::STORAGE, of_kind(kernel, &[MapKind::SkStorage]).map_err(words));
    findings.note(feature::RING, ring(kernel).map_err(words));
}

fn of_kind(kernel: &Kernel, kinds: &[MapKind]) -> SysResult<()> {
    for def in MAPS.iter().filter(|def| kinds.contains(&def.kind)) {
        kernel.create_map(def, def.capacity, None)?;
    }
    Ok(())
}

fn mapped(kernel: &Kernel) -> SysResult<()> {
    let control = kernel.create_map(&map::CONTROL, 1, None)?;
    let words = kernel.words(&control)?;
    kernel.exchange(&words, Word::Commits, 0, 1)?;
    let table = kernel.create_map(&map::INNER, 2, None)?;
    kernel.fill(&table, &[7; LINE])
}

fn frozen(kernel: &Kernel) -> SysResult<()> {
    let table = kernel.create_map(&map::INNER, 1, None)?;
    kernel.freeze(&table)
}

/// One wait for several elements, of other sizes than the map of maps was made with.
fn unequal(kernel: &Kernel) -> SysResult<()> {
    let [small, large, larger] = [1, 100, 1000].map(|lines| kernel.create_map(&map::INNER, lines, None));
    let outer = kernel.create_map(&map::TABLES_MAP, map::TABLES_MAP.capacity, Some(&small?))?;
    let (large, larger) = (large?, larger?);
    // One by one: batches are another question.
    kernel.put_map(&outer, 0, &large)?;
    kernel.put_map(&outer, 1, &larger)
}

fn batches(kernel: &Kernel) -> SysResult<()> {
    let inner = kernel.create_map(&map::INNER, 1, None)?;
    let outer = kernel.create_map(&map::TABLES_MAP, map::TABLES_MAP.capacity, Some(&inner))?;
    kernel.put_maps(&outer, &[(0, &inner), (1, &inner)])?;
    let endpoints = kernel.create_map(&map::ENDPOINTS, map::ENDPOINTS.capacity, None)?;
    kernel.entries(&endpoints).map(drop)
}

fn ring(kernel: &Kernel) -> SysResult<()> {
    let shape = kernel.create_map(&map::EVENT, map::EVENT.capacity, None)?;
    let outer = kernel.create_map(&map::EVENTS, map::EVENTS.capacity, Some(&shape))?;
    let (ring, _reader) = kernel.ring(1 << 16)?;
    kernel.put_map(&outer, 0, &ring)
}

fn cookies(kernel: &Kernel, findings: &mut Findings) {
    let cookie = kernel.netns_cookie(Path::new(HERE));
    findings.note(feature::COOKIE, cookie.map(drop).map_err(words));
    let in_programs = [Bare::SockAddr, Bare::SockOps, Bare::SockOpt].into_iter().try_for_each(|kind| {
        kind.load_asking_for_netns().map(drop).map_err(|error| format!("{kind:?}: {error}"))
    });
    findings.note(feature::COOKIE_IN_PROGRAMS, in_programs);
}

fn tcx(kernel: &Kernel) -> Probe {
    in_a_namespace(&[], || {
        let program = Bare::Classifier.load().map_err(words)?;
        kernel.attach_loopback(&program).map(drop).map_err(words)
    })
}

/// The real programs: that of a pod, which goes on to the one that decides.
fn sk_lookup(node: Node<'_, Kernel>) -> Probe {
    in_a_namespace(&[], || {
        let pod = node.system.netns_cookie(Path::new(HERE)).map_err(words)?;
        dispatch::ensure_target(node, Inbound::SkLookup, false, None).map_err(|error| match error {
            Error::CannotDecideInbound { cause, .. } => words(cause),
            error => words(error),
        })?;
        let program = node.system.load_entry(&node.instance.maps(), pod, Inbound::SkLookup).map_err(words)?;
        node.system.attach_here(&program).map(drop).map_err(words)
    })
}

/// An iterator, run over the one socket of a namespace that is a member's. Whether it could be noted is another
/// question.
fn iterator(kernel: &Kernel, link: &OwnedFd, maps: &PinnedMaps<Kernel>, findings: &mut Findings) -> Probe {
    let endpoints = &maps.endpoints;
    let ran = in_a_namespace(&[], || {
        let cookie = kernel.netns_cookie(Path::new(HERE)).map_err(words)?;
        let here = format!("/proc/self/task/{}/ns/net", rustix::thread::gettid());
        let _socket = std::net::TcpListener::bind("0.0.0.0:0").map_err(words)?;
        let member = bytemuck::bytes_of(&Member { id: 1, ..Member::default() }).to_vec();
        kernel.update(endpoints, &cookie.to_ne_bytes(), &member).map_err(words)?;
        let ran = kernel.iterate(link, Path::new(&here), cookie).map_err(words);
        kernel.delete(endpoints, &cookie.to_ne_bytes()).map_err(words)?;
        ran
    });
    let noted = || {
        let counted = hits::sums(kernel, &maps.counters).map_err(words)?;
        let is_counted = |counter: Counter| counted.get(&(counter as u64)).is_some_and(|&count| count > 0);
        match (is_counted(Counter::Listens), is_counted(Counter::ListenerLocked)) {
            (true, _) => Ok(()),
            (_, true) => Err("this kernel holds the spin lock of a socket while it shows it"),
            _ => Err("the socket was not seen"),
        }
        .map_err(str::to_owned)
    };
    match &ran {
        Ok(()) => drop(findings.note(feature::LISTENERS, noted())),
        Err(_) => findings.untried(feature::LISTENERS, "it needs the iterator"),
    }
    ran
}

/// The real programs, on the cgroup, with connections that they decide.
fn programs(kernel: &Kernel, cgroup: Option<&Cgroup<'_>>, member: Command, findings: &mut Findings) {
    let features: Vec<Feature> = mesh_bpf::program::PROGRAMS.iter().map(feature::of).collect();
    let rest = |findings: &mut Findings, why: &str| {
        let others = [feature::LISTENERS, feature::SK_LOOKUP, feature::LINK, feature::REPLACE];
        let accelerators = acceleration::features();
        let all = features.iter().copied().chain(accelerators).chain(others).chain(feature::TRIALS);
        all.for_each(|feature| findings.untried(feature, why));
    };
    let mounts = ["bpf", "tmpfs"].map(Detached::new);
    let mounted = mounts.iter().find_map(|mount| mount.as_ref().err());
    findings.note(feature::DETACHED, mounted.map_or(Ok(()), |error| Err(error.to_string())));
    let ([Ok(pins), Ok(state)], Some(cgroup)) = (&mounts, cgroup) else {
        return rest(findings, "it needs a cgroup and detached mounts");
    };
    let instance = instance(pins, state, cgroup);
    let node = Node { system: kernel, instance: &instance };
    let tried = load(node);
    let (maps, tried) = match tried {
        Ok(found) => found,
        Err(error) => return rest(findings, &error),
    };
    let (mut links, mut all) = (Vec::new(), true);
    for (def, program) in tried {
        let attached =
            program.and_then(|program| Ok((kernel.attach(&program, def.hook, &cgroup.dir)?, program)));
        let works = match &attached {
            Ok((link, _)) if def.hook == Hook::Iterator => iterator(kernel, link, &maps, findings),
            other => other.as_ref().map(drop).map_err(words),
        };
        findings.note(feature::of(def), works);
        all &= attached.is_ok() || def.policies != Policies::All;
        links.extend(attached.ok().map(|(link, program)| (def.hook, link, program)));
    }
    findings.note(feature::SK_LOOKUP, sk_lookup(node));
    acceleration::programs(kernel, &instance, &cgroup.dir, findings);
    let Some((_, link, program)) = links.iter().find(|(hook, ..)| hook.is_of_cgroup()) else {
        findings.note(feature::LINK, Err("no program could be attached".into()));
        findings.untried(feature::REPLACE, "it needs a link");
        return feature::TRIALS.iter().for_each(|&part| findings.untried(part, "it needs every hook"));
    };
    findings.note(feature::LINK, kernel.link_info(link).map(drop).map_err(words));
    findings.note(feature::REPLACE, kernel.replace(link, program).map_err(words));
    if !all {
        return feature::TRIALS.iter().for_each(|&part| findings.untried(part, "it needs every hook"));
    }
    connections(kernel, &maps, cgroup, member, findings);
}

/// An instance that nobody else can name: its pins and its state are in mounts of ours.
fn instance(pins: &Detached, state: &Detached, cgroup: &Cgroup<'_>) -> Instance {
    Instance {
        name: "doctor".into(),
        bpffs: pins.root(),
        cgroup: cgroup.dir.clone(),
        hierarchy: cgroup.dir.clone(),
        state: state.root(),
        inbound: Inbound::default(),
        backend: Backend::Bpf,
        boot_id: String::new(),
    }
}

type Loaded = Vec<(&'static ProgramDef, SysResult<OwnedFd>)>;

fn load(node: Node<'_, Kernel>) -> Result<(PinnedMaps<Kernel>, Loaded), String> {
    node.system.create_dir(&node.instance.pins()).map_err(words)?;
    let maps = PinnedMaps::create(node, &mut Prepared::default()).map_err(words)?;
    let tried = node.system.try_programs(&node.instance.maps()).map_err(words)?;
    Ok((maps, tried))
}

/// Makes the trial's policy live, for the member's cgroup alone, and lets the member try it.
fn connections(
    kernel: &Kernel,
    maps: &PinnedMaps<Kernel>,
    cgroup: &Cgroup<'_>,
    member: Command,
    findings: &mut Findings,
) {
    let said = live(kernel, maps, &cgroup.member).and_then(|()| run(kernel, &cgroup.member, member));
    for part in feature::TRIALS {
        let result = match &said {
            Ok(said) => result_of(said, part.name),
            Err(error) => Err(error.clone()),
        };
        findings.note(part, result);
    }
}

/// The first generation.
const GENERATION: u64 = 1;

fn live(kernel: &Kernel, maps: &PinnedMaps<Kernel>, member: &Path) -> Probe {
    let tables = pack(&trial::policy()).map_err(words)?;
    let manifest = tables.manifest(GENERATION, 0);
    let content = |table| if table == Table::Manifest { &manifest } else { tables.get(table) };
    let made: Vec<(u32, KernelMap)> = (Table::ALL.into_iter())
        .map(|table| Ok((table.index(map::slot(GENERATION)), made(kernel, table, content(table))?)))
        .collect::<Result<_, String>>()?;
    let elements: Vec<(u32, &KernelMap)> = made.iter().map(|(index, map)| (*index, map)).collect();
    kernel.put_maps(&maps.tables, &elements).map_err(words)?;
    let id = kernel.inode(member).map_err(words)?.ok_or("the cgroup is gone")?;
    let entry = Member { id: 1, ..Member::default() };
    kernel.update(&maps.cgroups, &id.to_ne_bytes(), bytemuck::bytes_of(&entry)).map_err(words)?;
    maps.control.set(kernel, Word::Generation, GENERATION).map_err(words)
}

fn made(kernel: &Kernel, table: Table, content: &TableData) -> Result<KernelMap, String> {
    slot::make(kernel, table, content).map_err(words)
}

/// What the member printed.
fn run(kernel: &Kernel, cgroup: &Path, mut member: Command) -> Result<String, String> {
    member.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = kernel.spawn_in(member, cgroup).map_err(words)?;
    let output = child.wait_with_output().map_err(words)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    Err(format!(
        "the member ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

/// Lines are `NAME: ok` or `NAME: why not`.
fn result_of(said: &str, name: &str) -> Probe {
    let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    match line {
        Some("ok") => Ok(()),
        Some(why) => Err(why.into()),
        None => Err("the member said nothing of it".into()),
    }
}
