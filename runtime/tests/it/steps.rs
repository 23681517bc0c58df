//! Every command, killed and failed at every one of its steps: what decides afterwards is what decided before
//! or what was asked for, entire, and the next command recovers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use mesh_bpf::prefix::Prefix;
use mesh_bpf::program::Inbound;
use mesh_bpf::program::{PROGRAMS, Role};
use mesh_bpf::tables::Tables;
use mesh_runtime::system::faults::{Faulty, Injected};
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{HOST_NETNS, System};
use mesh_runtime::{
    Attachment, Backend, Drift, Instance, Joined, Kernel, Labels, Options, Owner, Pod, PodSelector, Result,
    Runtime, State,
};
use mesh_testbed::kernel_test;
use mesh_testbed::{Ground, Netns, Place, long_runs_are_wanted};

use crate::common::{Policy, instance, request};

/// A command under attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    First,
    Another,
    Same,
    Repair,
    WhilePaused,
    Waiting,
    Pause,
    Resume,
    DetachAll,
    Purge,
    Rollback,
    Restore,
    Join,
    Leave,
    Attach,
    Again,
    Relabel,
    Namespace,
    Shrink,
    Detach,
}

impl Act {
    const ALL: [Self; 20] = [
        Self::First,
        Self::Another,
        Self::Same,
        Self::Repair,
        Self::WhilePaused,
        Self::Waiting,
        Self::Pause,
        Self::Resume,
        Self::DetachAll,
        Self::Purge,
        Self::Rollback,
        Self::Restore,
        Self::Join,
        Self::Leave,
        Self::Attach,
        Self::Again,
        Self::Relabel,
        Self::Namespace,
        Self::Shrink,
        Self::Detach,
    ];

    /// Whether it changes a pod that is a member before and after.
    fn keeps_a_member(self) -> bool {
        matches!(self, Self::Again | Self::Relabel | Self::Namespace | Self::Shrink)
    }
}

/// The namespace `shop` with this label.
fn mesh(value: &str) -> BTreeMap<String, Labels> {
    [("shop".into(), [("mesh".into(), value.into())].into())].into()
}

/// A place to be attacked: the instance on it is made again for each fault.
struct Bed<'a> {
    instance: &'a Instance,
    old: Tables,
    new: Tables,
}

impl<'a> Bed<'a> {
    /// `cgroups` are the paths of two cgroups that are there; the second only joins before [`Act::Same`].
    fn new(instance: &'a Instance, cgroups: [&str; 2]) -> Self {
        let old = Policy::new().redirect(80, 15001).cgroup(cgroups[0]).exempt(cgroups[1]).prefixes(2);
        let old = old.tiers(&["web", "db"]).meshes(&["on", "off"]).exempt_interface("net*");
        let new = Policy::new().deny(80).cgroup(cgroups[1]).exempt(cgroups[0]).prefixes(40);
        Self { instance, old: old.tables(), new: new.tables() }
    }

    /// An apply of a policy, with the lines of its items.
    fn apply<'t, S: System>(&self, tables: &'t Tables) -> mesh_runtime::Apply<'t, S> {
        mesh_runtime::Apply { lines: Some(self.lines(tables)), ..request(tables) }
    }

    /// The lines of the items of a policy.
    fn lines(&self, tables: &Tables) -> &'static [u8] {
        if *tables == self.old { b"of the old" } else { b"of the new" }
    }

    fn runtime<S: System>(&self, system: S) -> Runtime<S> {
        // A process that another test forks holds our locks until it has closed them.
        let options = Options { lock_timeout: 5_000, command: "test".into() };
        Runtime::on(system, self.instance.clone(), options).unwrap()
    }

    fn pod(&self) -> Pod {
        Pod {
            netns: self.instance.state.parent().unwrap().join("netns"),
            name: "pod".into(),
            labels: [("tier".into(), "web".into())].into(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            ..Pod::default()
        }
    }

    /// The same pod, of another workload and with another address.
    fn relabelled(&self) -> Pod {
        let labels = [("tier".into(), "db".into())].into();
        Pod { labels, addresses: vec!["10.0.0.2".parse().unwrap()], ..self.pod() }
    }

    /// A pod that is selected by a label of its namespace alone.
    fn of_a_namespace(&self) -> Pod {
        Pod { labels: Labels::new(), namespace: Some("shop".into()), ..self.pod() }
    }

    /// One of its two interfaces, as a container runtime attaches it.
    fn interface(&self, interface: &str, address: &str) -> Pod {
        let attachment = Attachment {
            container: "a".into(),
            network: "pods".into(),
            interface: interface.into(),
            ..Attachment::default()
        };
        Pod { addresses: vec![address.parse().unwrap()], attachment: Some(attachment), ..self.pod() }
    }

    fn one_interface() -> PodSelector {
        PodSelector::Container { container: "a".into(), interface: Some("net1".into()), netns: None }
    }

    /// What there is before the command comes.
    fn prepare<S: System>(&self, act: Act, runtime: &Runtime<S>) -> Option<Joined> {
        if act == Act::First {
            // It came before there was a policy, and gets its program with the first one.
            runtime.attach(&self.pod()).unwrap();
            return None;
        }
        runtime.apply(self.apply(&self.old)).unwrap();
        match act {
            Act::Resume | Act::WhilePaused => drop(runtime.pause().unwrap()),
            Act::Rollback => drop(runtime.apply(self.apply(&self.new)).unwrap()),
            Act::Detach | Act::Repair | Act::Again | Act::Relabel => {
                drop(runtime.attach(&self.pod()).unwrap());
            }
            Act::Namespace => {
                runtime.label_namespaces(&mesh("on")).unwrap();
                runtime.attach(&self.of_a_namespace()).unwrap();
            }
            Act::Shrink => {
                runtime.attach(&self.interface("eth0", "10.0.0.1")).unwrap();
                runtime.attach(&self.interface("net1", "10.0.0.2")).unwrap();
            }
            Act::Restore => drop(runtime.detach_all(false).unwrap()),
            Act::Leave => return Some(runtime.join("shop/cart").unwrap()),
            _ => {}
        }
        None
    }

    fn act<S: System>(&self, act: Act, runtime: &Runtime<S>, joined: Option<&Joined>) -> Result<()> {
        match act {
            Act::First => drop(runtime.apply(self.apply(&self.old))?),
            Act::Another => {
                let reset_changed = self.instance.backend == Backend::Bpf;
                drop(runtime.apply(mesh_runtime::Apply { reset_changed, ..self.apply(&self.new) })?);
            }
            Act::WhilePaused => drop(runtime.apply(self.apply(&self.new))?),
            Act::Same => drop(runtime.apply(self.apply(&self.old))?),
            Act::Repair => {
                drop(runtime.apply(mesh_runtime::Apply { repair: true, ..self.apply(&self.old) })?);
            }
            Act::Waiting => drop(
                runtime
                    .apply(mesh_runtime::Apply { confirm_within: Some(60_000), ..self.apply(&self.new) })?,
            ),
            Act::Pause => drop(runtime.pause()?),
            Act::Resume => drop(runtime.resume()?),
            Act::DetachAll => drop(runtime.detach_all(false)?),
            Act::Purge => drop(runtime.detach_all(true)?),
            Act::Rollback => drop(runtime.rollback(Some(1), Owner::Cli, false)?),
            Act::Restore => drop(runtime.restore()?),
            Act::Join => drop(runtime.join("shop/cart")?),
            Act::Leave => runtime.leave(joined.unwrap())?,
            Act::Attach | Act::Again => drop(runtime.attach(&self.pod())?),
            Act::Relabel => drop(runtime.attach(&self.relabelled())?),
            Act::Namespace => drop(runtime.label_namespaces(&mesh("off"))?),
            Act::Shrink => drop(runtime.detach(&Self::one_interface())?),
            Act::Detach => drop(runtime.detach(&PodSelector::Netns(self.pod().netns))?),
        }
        Ok(())
    }

    /// What decides, and by which policy.
    fn view<S: System>(&self, runtime: &Runtime<S>) -> (State, String) {
        let head = runtime.head().unwrap();
        if head.state == State::Active || head.state == State::Paused {
            let live = runtime.live().unwrap().unwrap();
            assert!(live.tables == self.old || live.tables == self.new);
            let kept = runtime.lines(&head.digest).unwrap();
            assert_eq!(kept.as_deref(), Some(self.lines(&live.tables)));
            assert_eq!(mesh_runtime::hex(&live.tables.digest()), head.digest);
        }
        match head.state {
            // Nothing decides, and pins are swept by the next command.
            State::Unfinished => (State::None, head.digest),
            state => (state, head.digest),
        }
    }

    /// What is registered of the pod, after a command that has nothing to do with it has cleaned up, and after making
    /// sure that the kernel has the same.
    fn settled<S: System>(&self, runtime: &Runtime<S>) -> Vec<(Option<String>, Vec<IpAddr>)> {
        assert!(!runtime.detach(&PodSelector::Name(None, "nobody".into())).unwrap());
        let status = runtime.status().unwrap();
        assert_eq!(status.drift, Vec::<Drift>::new());
        let pods = status.members.into_iter().filter(|member| member.name == "pod");
        pods.map(|member| (member.workload, member.addresses)).collect()
    }

    /// The members' workloads, after making sure that all is as the live policy says.
    fn members<S: System>(&self, runtime: &Runtime<S>) -> Vec<Option<String>> {
        let status = runtime.status().unwrap();
        assert_eq!(status.drift, Vec::<Drift>::new());
        status.members.into_iter().map(|member| member.workload).collect()
    }
}

/// Takes the command through without a fault and returns what it leads to: the view and the members before
/// and after, and how many steps it has.
struct Calm {
    before: (State, String),
    after: (State, String),
    members: Vec<Option<String>>,
    /// The pod before and after.
    pod: [Vec<(Option<String>, Vec<IpAddr>)>; 2],
    steps: usize,
}

fn calm<S: System>(bed: &Bed<'_>, act: Act, system: impl Fn() -> S) -> Calm {
    let runtime = bed.runtime(system());
    let joined = bed.prepare(act, &runtime);
    let before = bed.view(&runtime);
    let pod = || if act.keeps_a_member() { bed.settled(&runtime) } else { Vec::new() };
    let pod_before = pod();
    let counted = bed.runtime(Faulty::new(system(), Injected::Never));
    bed.act(act, &counted, joined.as_ref()).unwrap();
    let steps = counted.system().steps().len();
    let pod = [pod_before, pod()];
    assert_eq!(pod[0] != pod[1], matches!(act, Act::Relabel | Act::Namespace | Act::Shrink), "{pod:?}");
    let calm = Calm { before, after: bed.view(&runtime), members: bed.members(&runtime), pod, steps };
    runtime.detach_all(true).unwrap();
    calm
}

/// The command, struck by one blow after the other; and then what is left must be one of the two, and the next
/// command must come through.
fn inject<S: System>(
    bed: &Bed<'_>,
    act: Act,
    calm: &Calm,
    blows: Vec<Injected>,
    system: impl Fn() -> S,
    attack: impl Fn(&dyn Fn(Faulty<S>) -> Result<()>, Injected) -> Result<(), String>,
    settle: impl Fn(),
) {
    let mut blows = blows.into_iter().peekable();
    while blows.peek().is_some() {
        let runtime = bed.runtime(system());
        let joined = bed.prepare(act, &runtime);
        let body = |faulty: Faulty<S>| bed.act(act, &bed.runtime(faulty), joined.as_ref());
        let mut struck = Vec::new();
        for blow in blows.by_ref() {
            struck.push(blow);
            let result = attack(&body, blow);
            settle();
            let view = bed.view(&runtime);
            assert!(
                view == calm.before || view == calm.after,
                "{act:?} {struck:?}: {view:?} after {result:?}"
            );
            if result.is_ok() {
                assert_eq!(view, calm.after, "{act:?} {struck:?} said that it was done");
            }
            if act.keeps_a_member() {
                let pod = bed.settled(&runtime);
                assert!(calm.pod.contains(&pod), "{act:?} {struck:?}: {pod:?} after {result:?}");
                if result.is_ok() {
                    assert_eq!(pod, calm.pod[1], "{act:?} {struck:?} said that it was done");
                }
                // What is done cannot be asked for again where it was a removal.
                if pod == calm.pod[1] {
                    break;
                }
            }
            // What failed and left everything as it was may fail once more; what is before it need not be recreated.
            if result.is_ok() || view == calm.after {
                break;
            }
        }
        bed.act(act, &runtime, joined.as_ref()).unwrap_or_else(|error| panic!("{act:?} {struck:?}: {error}"));
        assert_eq!(bed.view(&runtime), calm.after, "{act:?} {struck:?}, then again");
        assert_eq!(bed.members(&runtime), calm.members, "{act:?} {struck:?}, then again");
        runtime.detach_all(true).unwrap();
        assert!(runtime.system().inode(&bed.instance.state).unwrap().is_none(), "{act:?} {struck:?}");
        assert!(runtime.system().inode(&bed.instance.pins()).unwrap().is_none(), "{act:?} {struck:?}");
    }
}

/// A machine in memory with an instance's places.
pub fn machine() -> (Memory, Instance) {
    machine_by(Backend::Bpf)
}

/// The same, where this decides.
fn machine_by(backend: Backend) -> (Memory, Instance) {
    let instance = Instance {
        name: "test".into(),
        bpffs: "/bpf".into(),
        cgroup: "/cgroup/ground".into(),
        hierarchy: "/cgroup".into(),
        state: "/var/state".into(),
        inbound: Inbound::default(),
        backend,
        boot_id: "boot-1".into(),
    };
    let memory = Memory::new(&[Path::new("/bpf"), Path::new("/var"), Path::new("/cgroup")]);
    memory.make_cgroup(&instance.cgroup);
    for name in ["one", "two"] {
        memory.make_cgroup(&instance.cgroup.join(name));
    }
    memory.mount_bpffs(&instance.bpffs);
    let netns = Path::new("/var/netns");
    memory.make_netns(netns, &[1, 2]);
    memory.route_by(netns, 2, "net1", &["10.2.0.0".parse::<IpAddr>().map(Prefix::host).unwrap()]).unwrap();
    (memory, instance)
}

/// Answering programs are attached whenever deciding ones are.
fn hooks_are_ordered(memory: &Memory) -> bool {
    let answering = PROGRAMS.iter().filter(|def| def.role == Role::Answers).count();
    memory.hooks(Role::Decides).is_empty() || memory.hooks(Role::Answers).len() == answering
}

/// No namespace has a table.
fn nothing_is_loaded(memory: &Memory) -> bool {
    let netns = [HOST_NETNS, "/var/netns"].map(Path::new);
    netns.iter().all(|netns| memory.tables(netns).unwrap().is_empty())
}

fn in_memory(backend: Backend, act: Act, injections: impl Fn(usize) -> Vec<Injected>) {
    let (_, place) = machine_by(backend);
    let bed = Bed::new(&place, ["/ground/one", "/ground/two"]);
    let calm = {
        let (memory, _) = machine_by(backend);
        calm(&bed, act, || memory.clone())
    };
    assert!(calm.steps > 0, "{act:?}");
    for step in 0..calm.steps {
        for blow in injections(step) {
            let (memory, _) = machine_by(backend);
            let attack = |body: &dyn Fn(Faulty<Memory>) -> Result<()>, blow| {
                body(Faulty::new(memory.clone(), blow)).map_err(|error| error.to_string())
            };
            inject(
                &bed,
                act,
                &calm,
                vec![blow],
                || memory.clone(),
                attack,
                || {
                    memory.next_process();
                    assert!(hooks_are_ordered(&memory), "{act:?} {blow:?}");
                },
            );
            assert_eq!(memory.objects(), Vec::<String>::new(), "{act:?} {blow:?}");
            assert!(nothing_is_loaded(&memory), "{act:?} {blow:?}");
        }
    }
}

fn by_each_backend() -> impl Iterator<Item = (Backend, Act)> {
    Backend::ALL.into_iter().flat_map(|backend| Act::ALL.map(|act| (backend, act)))
}

#[test]
fn killed_at_any_step_in_memory() {
    for (backend, act) in by_each_backend() {
        in_memory(backend, act, |step| vec![Injected::Kill(step)]);
    }
}

/// What kernels answer when they do not do it.
const ERRORS: [i32; 6] = [libc::ENOMEM, libc::E2BIG, libc::EPERM, libc::EBUSY, libc::EINTR, libc::ENOSPC];

fn error_of(number: usize) -> i32 {
    ERRORS[number % ERRORS.len()]
}

#[test]
fn failed_at_any_step_in_memory() {
    for (backend, act) in by_each_backend() {
        in_memory(backend, act, |step| {
            // Each step with some of them, all of them in the long run.
            let some = if long_runs_are_wanted() { ERRORS.len() } else { 3 };
            (0..some).map(|nth| Injected::Fail(step, error_of(step + nth))).collect()
        });
    }
}

/// A namespace of two pods: where one of them cannot be moved, the other is not, and what was known of the namespace
/// holds for those that come.
#[test]
fn pods_of_a_namespace_move_together_or_not_at_all() {
    let (_, place) = machine();
    let bed = Bed::new(&place, ["/ground/one", "/ground/two"]);
    for step in 0.. {
        let (memory, _) = machine();
        memory.make_netns(Path::new("/var/other"), &[3, 4]);
        let runtime = bed.runtime(memory.clone());
        runtime.apply(bed.apply(&bed.old)).unwrap();
        runtime.label_namespaces(&mesh("on")).unwrap();
        let one = bed.of_a_namespace();
        let other = Pod { netns: "/var/other".into(), name: "other".into(), ..one.clone() };
        runtime.attach(&one).unwrap();
        runtime.attach(&other).unwrap();
        let faulty = bed.runtime(Faulty::new(memory.clone(), Injected::Fail(step, libc::EIO)));
        let done = faulty.label_namespaces(&mesh("off"));
        let workload = if done.is_ok() { "shop/off" } else { "shop/on" };
        let members = runtime.status().unwrap().members.into_iter();
        let of_pods: Vec<_> = members.filter(|member| member.cgroup.is_none()).collect();
        assert_eq!(of_pods.len(), 2);
        for member in of_pods {
            assert_eq!(member.workload.as_deref(), Some(workload), "{step}: {} {done:?}", member.name);
        }
        assert_eq!(runtime.attach(&one).unwrap().workload.as_deref(), Some(workload), "{step}: {done:?}");
        assert_eq!(runtime.status().unwrap().drift, Vec::<Drift>::new(), "{step}: {done:?}");
        if done.is_ok() {
            assert!(step > 10, "{step}");
            return;
        }
    }
}

/// The same on the real kernel: each fault in a process of its own, which ends. Since every step was struck
/// in memory, one in `stride` is enough here, unless `MESHC_TEST_LONG=1`.
fn on_the_kernel(backend: Backend, stride: usize, injections: impl Fn(usize) -> Vec<Injected>) {
    let every = long_runs_are_wanted();
    let ground = Ground::new().unwrap();
    let place = Instance { backend, ..instance(&ground) };
    let cgroups = ["one", "two"].map(|name| ground.cgroup().child(name).unwrap());
    let paths = cgroups.each_ref().map(|cgroup| cgroup.within().unwrap());
    let bed = Bed::new(&place, [&paths[0], &paths[1]]);
    let netns = Netns::new().unwrap();
    std::os::unix::fs::symlink(netns.path(), bed.pod().netns).unwrap();
    for act in Act::ALL {
        let calm = calm(&bed, act, Kernel::new);
        println!("{act:?}: {} steps", calm.steps);
        for step in (0..calm.steps).step_by(if every { 1 } else { stride }) {
            let attack = |body: &dyn Fn(Faulty<Kernel>) -> Result<()>, blow| {
                let body = || body(Faulty::new(Kernel::new(), blow)).map_err(|error| error.to_string());
                Place::here().run(body).unwrap()
            };
            inject(&bed, act, &calm, injections(step), Kernel::new, attack, || {});
            ground.give_way().unwrap();
        }
    }
    // Nothing outlives these processes but what is pinned, and each run looked that no pin was left.
    // Nor a cgroup of a process that has ended; those of this one are its own to remove.
    let ours = format!("meshc-test-{}-", std::process::id());
    let left = dirs(ground.cgroup().path()).into_iter().filter(|name| !name.starts_with(&ours));
    assert_eq!(left.collect::<Vec<_>>(), ["one", "two"]);
}

fn killed(step: usize) -> Vec<Injected> {
    vec![Injected::Kill(step)]
}

fn failed(step: usize) -> Vec<Injected> {
    let some = if long_runs_are_wanted() { ERRORS.len() } else { 1 };
    (0..some).map(|nth| Injected::Fail(step, error_of(step + nth))).collect()
}

#[kernel_test]
fn killed_at_any_step_on_the_kernel() {
    on_the_kernel(Backend::Bpf, 23, killed);
}

#[kernel_test]
fn failed_at_any_step_on_the_kernel() {
    on_the_kernel(Backend::Bpf, 53, failed);
}

/// Rulesets are loaded into the namespace that a command is in: one of the test's own.
#[kernel_test]
fn killed_at_any_step_with_rulesets_on_the_kernel() {
    Netns::new().unwrap().run(|| on_the_kernel(Backend::Nft, 13, killed)).unwrap();
}

#[kernel_test]
fn failed_at_any_step_with_rulesets_on_the_kernel() {
    Netns::new().unwrap().run(|| on_the_kernel(Backend::Nft, 29, failed)).unwrap();
}

fn dirs(path: &Path) -> Vec<String> {
    let entries = path.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let dirs = entries.filter(|path| path.is_dir());
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = dirs.map(name).collect();
    names.sort();
    names
}
