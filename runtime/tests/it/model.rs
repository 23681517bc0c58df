//! Random commands, some of them killed, against a model of a few lines that says what must be so afterwards.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use mesh_bpf::tables::Tables;
use mesh_runtime::system::faults::{Faulty, Injected};
use mesh_runtime::system::memory::Memory;
use mesh_runtime::system::{Files, Netns as _, System};
use mesh_runtime::{
    Apply, Drift, Error, Instance, Kernel, Options, Owner, Pod, PodSelector, Result, Runtime, State,
};
use mesh_testbed::kernel_test;
use mesh_testbed::{Cgroup, Ground, Netns, Place, long_runs_are_wanted};

use crate::builds;
use crate::common::{self, Policy, request};
use crate::steps::machine;

/// xorshift64*: the same numbers for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Apply(usize),
    Repair(usize),
    Rollback,
    Pause,
    Resume,
    DetachAll,
    Attach(usize, usize),
    Detach(usize),
    Upgrade(usize),
}

impl Command {
    fn random(dice: &mut Dice) -> Self {
        match dice.below(16) {
            0..5 => Self::Apply(dice.below(POLICIES)),
            5 => Self::Repair(dice.below(POLICIES)),
            6 => Self::Rollback,
            7 => Self::Pause,
            8 | 9 => Self::Resume,
            10 => Self::DetachAll,
            11..13 => Self::Attach(dice.below(PODS), dice.below(TIERS.len())),
            13 | 14 => Self::Detach(dice.below(PODS)),
            _ => Self::Upgrade(dice.below(POLICIES)),
        }
    }
}

const POLICIES: usize = 4;
const PODS: usize = 3;
const TIERS: [&str; 2] = ["web", "db"];

/// What must be so: which policy is held and whether it decides, and the pods with their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    live: Option<usize>,
    paused: bool,
    pods: BTreeMap<usize, usize>,
}

impl Model {
    /// What the command makes of it; `rollback` is the policy that it would bring back.
    fn after(&self, command: Command, rollback: Option<usize>) -> Self {
        let mut after = self.clone();
        match command {
            Command::Apply(policy) | Command::Repair(policy) | Command::Upgrade(policy) => {
                after.live = Some(policy);
            }
            Command::Rollback => after.live = rollback.or(self.live),
            Command::Pause => after.paused = self.live.is_some(),
            Command::Resume => after.paused = false,
            Command::DetachAll => (after.live, after.paused) = (None, false),
            Command::Attach(pod, tier) => drop(after.pods.insert(pod, tier)),
            Command::Detach(pod) => drop(after.pods.remove(&pod)),
        }
        after
    }
}

/// What the commands are given to: a machine in memory, or the kernel.
trait Machine {
    type System: System;
    /// The machine, as one process has it.
    fn system(&self) -> Self::System;
    /// The processes after this have programs of another build.
    fn upgrade(&self);
    /// Runs a command in a process that does not live on.
    fn process(&self, body: impl FnOnce(Self::System));
    /// A file that stands for a pod's network namespace.
    fn netns(&self, pod: usize) -> PathBuf;
    /// Two cgroups, as a policy writes them.
    fn cgroups(&self) -> [String; 2];
    fn instance(&self) -> Instance;
    /// Nothing is left of the instance, whose state directory is removed.
    fn is_empty(&self) -> bool;
}

impl Machine for Memory {
    type System = Self;

    fn system(&self) -> Self {
        self.clone()
    }

    fn upgrade(&self) {
        Self::upgrade(self);
    }

    fn process(&self, body: impl FnOnce(Self)) {
        body(self.clone());
        self.next_process();
    }

    fn netns(&self, pod: usize) -> PathBuf {
        let file = PathBuf::from(format!("/var/pod{pod}"));
        self.make_netns(&file, &[1, 2]);
        file
    }

    fn cgroups(&self) -> [String; 2] {
        ["/ground/one", "/ground/two"].map(str::to_owned)
    }

    fn instance(&self) -> Instance {
        machine().1
    }

    fn is_empty(&self) -> bool {
        self.objects().is_empty()
    }
}

/// The kernel, and two builds of the programs.
struct Real {
    pods: [Netns; PODS],
    cgroups: [Cgroup; 2],
    later: Vec<u8>,
    is_later: Cell<bool>,
    ground: Ground,
}

impl Real {
    fn new() -> Self {
        let ground = Ground::new().unwrap();
        Self {
            pods: std::array::from_fn(|_| Netns::new().unwrap()),
            cgroups: ["one", "two"].map(|name| ground.cgroup().child(name).unwrap()),
            later: builds::object(&ground, "later"),
            is_later: Cell::default(),
            ground,
        }
    }
}

impl Machine for Real {
    type System = Kernel;

    fn system(&self) -> Kernel {
        if self.is_later.get() { Kernel::with_programs(self.later.clone()) } else { Kernel::new() }
    }

    fn upgrade(&self) {
        self.is_later.set(!self.is_later.get());
    }

    fn process(&self, body: impl FnOnce(Kernel)) {
        Place::here().run(|| body(self.system())).unwrap();
    }

    fn netns(&self, pod: usize) -> PathBuf {
        self.pods[pod].path()
    }

    fn cgroups(&self) -> [String; 2] {
        self.cgroups.each_ref().map(|cgroup| cgroup.within().unwrap())
    }

    fn instance(&self) -> Instance {
        common::instance(&self.ground)
    }

    fn is_empty(&self) -> bool {
        let instance = common::instance(&self.ground);
        !instance.pins().exists() && !instance.state.exists()
    }
}

struct World<M: Machine> {
    machine: M,
    instance: Instance,
    policies: Vec<Tables>,
}

impl<M: Machine> World<M> {
    fn new(machine: M) -> Self {
        let cgroups = machine.cgroups();
        let policy = |number: usize| {
            let port = u16::try_from(80 + number).unwrap();
            Policy::new().redirect(port, 15001).cgroup(&cgroups[number / 2]).tables()
        };
        let tiered = |number: usize| Policy::new().deny(80).label("tier", TIERS[number % 2]).tables();
        let policies = (0..POLICIES).map(|n| if n % 2 == 0 { policy(n) } else { tiered(n / 2) });
        Self { policies: policies.collect(), instance: machine.instance(), machine }
    }

    /// A process of its own, that nothing goes wrong with.
    fn calm(&self) -> Runtime<M::System> {
        self.runtime(self.machine.system())
    }

    fn runtime<S: System>(&self, system: S) -> Runtime<S> {
        // On the kernel, a process that another test forks holds our locks until it has closed them.
        let options = Options { lock_timeout: 5_000, command: "test".into() };
        Runtime::on(system, self.instance.clone(), options).unwrap()
    }

    fn pod(&self, pod: usize, tier: usize) -> Pod {
        Pod {
            netns: self.machine.netns(pod),
            name: format!("pod{pod}"),
            labels: [("tier".into(), TIERS[tier].into())].into(),
            addresses: vec![format!("10.0.0.{pod}").parse().unwrap()],
            ..Pod::default()
        }
    }

    fn run<S: System>(&self, command: Command, runtime: &Runtime<S>) -> Result<()> {
        match command {
            Command::Apply(policy) | Command::Upgrade(policy) => {
                drop(runtime.apply(request(&self.policies[policy]))?);
            }
            Command::Repair(policy) => {
                drop(runtime.apply(Apply { repair: true, ..request(&self.policies[policy]) })?);
            }
            Command::Rollback => drop(runtime.rollback(None, Owner::Cli, false)?),
            Command::Pause => drop(runtime.pause()?),
            Command::Resume => drop(runtime.resume()?),
            Command::DetachAll => drop(runtime.detach_all(false)?),
            Command::Attach(pod, tier) => drop(runtime.attach(&self.pod(pod, tier))?),
            Command::Detach(pod) => drop(runtime.detach(&PodSelector::Netns(self.machine.netns(pod)))?),
        }
        Ok(())
    }

    fn policy_of(&self, digest: &str) -> Option<usize> {
        self.policies.iter().position(|tables| mesh_runtime::hex(&tables.digest()) == digest)
    }

    /// What a rollback would bring back: the last other policy before the live one.
    fn rollback(&self) -> Option<usize> {
        let runtime = self.calm();
        let head = runtime.head().unwrap();
        let history = runtime.history().unwrap();
        let before = history.iter().rev().filter(|kept| kept.record.generation < head.generation);
        let other = before.into_iter().find(|kept| kept.record.digest != head.digest)?;
        self.policy_of(&other.record.digest)
    }

    /// What is so.
    fn seen(&self) -> Model {
        let runtime = self.calm();
        let system = runtime.system();
        let head = runtime.head().unwrap();
        let held = matches!(head.state, State::Active | State::Paused);
        let members = system.list(&self.instance.members()).unwrap().unwrap_or_default();
        let pod = |pod: usize| {
            let netns = system.netns_cookie(&self.machine.netns(pod)).unwrap();
            let name = format!("netns-{netns}");
            let file = members.contains(&name).then(|| self.instance.members().join(name))?;
            let text = String::from_utf8(system.read(&file).unwrap()?).unwrap();
            TIERS.iter().position(|tier| text.contains(&format!("\"{tier}\""))).map(|tier| (pod, tier))
        };
        Model {
            live: if held { self.policy_of(&head.digest) } else { None },
            paused: head.state == State::Paused,
            pods: (0..PODS).filter_map(pod).collect(),
        }
    }
}

/// A failed command may say so only where the model says that it can have nothing to do.
fn is_excused(error: &Error) -> bool {
    matches!(error, Error::NoPolicy | Error::NothingBefore | Error::NotKept(_))
}

fn walk<M: Machine>(machine: M, seed: u64, length: usize) {
    let world = World::new(machine);
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut model = Model::default();
    for number in 0..length {
        let command = Command::random(&mut dice);
        let after = model.after(command, world.rollback());
        let at = format!("MESHC_TEST_SEED={seed}, command {number}: {command:?}, from {model:?}");
        if matches!(command, Command::Upgrade(_)) {
            world.machine.upgrade();
        }
        if dice.below(3) == 0 {
            let injected = match dice.below(3) {
                0 => Injected::Fail(dice.below(120), libc::ENOMEM),
                _ => Injected::Kill(dice.below(120)),
            };
            world.machine.process(|system| {
                let _ = world.run(command, &world.runtime(Faulty::new(system, injected)));
            });
            let seen = world.seen();
            // Pods that were joining or leaving are finished by the next command.
            let (live, paused) = (seen.live, seen.paused);
            assert!(
                (live, paused) == (model.live, model.paused) || (live, paused) == (after.live, after.paused),
                "{at}, {injected:?}: {seen:?}"
            );
            (model.live, model.paused) = (live, paused);
        }
        let after = model.after(command, world.rollback());
        match world.run(command, &world.calm()) {
            Ok(()) => {}
            Err(error) => assert!(is_excused(&error), "{at}: {error}"),
        }
        let seen = world.seen();
        assert_eq!(seen, after, "{at}");
        if seen.live.is_some() {
            assert_eq!(world.calm().status().unwrap().drift, Vec::<Drift>::new(), "{at}");
        }
        model = seen;
    }
    world.calm().detach_all(true).unwrap();
    assert!(world.machine.is_empty(), "MESHC_TEST_SEED={seed}");
}

/// The seeds of one test: the one that failed, where it is named.
fn seeds(many: u64) -> Vec<u64> {
    let named = std::env::var("MESHC_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    named.map_or_else(|| (1..=many).collect(), |seed| vec![seed])
}

#[test]
fn five_hundred_random_commands_end_where_the_model_says() {
    for seed in seeds(if long_runs_are_wanted() { 100 } else { 5 }) {
        walk(machine().0, seed, 100);
    }
}

#[kernel_test]
fn so_do_random_commands_on_the_kernel() {
    let (many, length) = if long_runs_are_wanted() { (10, 100) } else { (1, 30) };
    for seed in seeds(many) {
        walk(Real::new(), seed, length);
    }
}
