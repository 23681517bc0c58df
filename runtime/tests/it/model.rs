//! Random commands, some of them killed, against a model of a few lines that says what must be so afterwards.

use std::collections::BTreeMap;
use std::path::Path;

use mesh_bpf::tables::Tables;
use mesh_runtime::faults::{Faulty, Strike};
use mesh_runtime::memory::Memory;
use mesh_runtime::store::Store;
use mesh_runtime::{Apply, Error, Instance, Options, Owner, Pod, Result, Runtime, State, Which};
use mesh_testbed::long_runs_are_wanted;

use crate::common::{Policy, request};
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

struct World {
    memory: Memory,
    instance: Instance,
    policies: Vec<Tables>,
}

impl World {
    fn new() -> Self {
        let (memory, instance) = machine();
        for pod in 0..PODS {
            memory.write(Path::new(&format!("/var/pod{pod}")), b"", false).unwrap();
        }
        let policy = |number: usize| {
            let port = u16::try_from(80 + number).unwrap();
            let cgroup = ["/ground/one", "/ground/two"][number / 2];
            Policy::new().redirect(port, 15001).cgroup(cgroup).tables()
        };
        let tiered = |number: usize| Policy::new().deny(80).label("tier", TIERS[number % 2]).tables();
        let policies = (0..POLICIES).map(|n| if n % 2 == 0 { policy(n) } else { tiered(n / 2) });
        Self { policies: policies.collect(), memory, instance }
    }

    fn runtime<S: Store>(&self, store: S) -> Runtime<S> {
        Runtime::on(store, self.instance.clone(), Options { lock_timeout: 0, command: "test".into() })
            .unwrap()
    }

    fn pod(&self, pod: usize, tier: usize) -> Pod {
        Pod {
            netns: format!("/var/pod{pod}").into(),
            name: format!("pod{pod}"),
            labels: [("tier".into(), TIERS[tier].into())].into(),
            addresses: vec![format!("10.0.0.{pod}").parse().unwrap()],
            ..Pod::default()
        }
    }

    fn run<S: Store>(&self, command: Command, runtime: &Runtime<S>) -> Result<()> {
        match command {
            Command::Apply(policy) => drop(runtime.apply(request(&self.policies[policy]))?),
            Command::Repair(policy) => {
                drop(runtime.apply(Apply { repair: true, ..request(&self.policies[policy]) })?);
            }
            Command::Upgrade(policy) => {
                self.memory.upgrade();
                drop(runtime.apply(request(&self.policies[policy]))?);
            }
            Command::Rollback => drop(runtime.rollback(None, Owner::Cli, false)?),
            Command::Pause => drop(runtime.pause()?),
            Command::Resume => drop(runtime.resume()?),
            Command::DetachAll => drop(runtime.detach_all(false)?),
            Command::Attach(pod, tier) => drop(runtime.attach(&self.pod(pod, tier))?),
            Command::Detach(pod) => {
                runtime.detach(&Which::Netns(format!("/var/pod{pod}").into()))?;
            }
        }
        Ok(())
    }

    fn policy_of(&self, digest: &str) -> Option<usize> {
        self.policies.iter().position(|tables| mesh_runtime::hex(&tables.digest()) == digest)
    }

    /// What a rollback would bring back: the last other policy before the live one.
    fn rollback(&self) -> Option<usize> {
        let runtime = self.runtime(self.memory.clone());
        let head = runtime.head().unwrap();
        let history = runtime.history().unwrap();
        let before = history.iter().rev().filter(|kept| kept.record.generation < head.generation);
        let other = before.into_iter().find(|kept| kept.record.digest != head.digest)?;
        self.policy_of(&other.record.digest)
    }

    /// What is so.
    fn seen(&self) -> Model {
        let runtime = self.runtime(self.memory.clone());
        let head = runtime.head().unwrap();
        let held = matches!(head.state, State::Active | State::Paused);
        let members = self.memory.list(&self.instance.members()).unwrap().unwrap_or_default();
        let pod = |pod: usize| {
            let netns = self.memory.netns_cookie(Path::new(&format!("/var/pod{pod}"))).unwrap();
            let name = format!("netns-{netns}");
            let file = members.contains(&name).then(|| self.instance.members().join(name))?;
            let text = String::from_utf8(self.memory.read(&file).unwrap()?).unwrap();
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

fn walk(seed: u64, length: usize) {
    let world = World::new();
    let mut dice = Dice(seed);
    let mut model = Model::default();
    for number in 0..length {
        let command = Command::random(&mut dice);
        let after = model.after(command, world.rollback());
        let at = format!("seed {seed:#x}, command {number}: {command:?}, from {model:?}");
        if dice.below(3) == 0 {
            let strike = match dice.below(3) {
                0 => Strike::Fail(dice.below(60), libc::ENOMEM),
                _ => Strike::Kill(dice.below(60)),
            };
            let faulty = Faulty::new(world.memory.clone(), strike);
            let _ = world.run(command, &world.runtime(faulty));
            world.memory.next_process();
            let seen = world.seen();
            // Pods that were joining or leaving are finished by the next command.
            let (live, paused) = (seen.live, seen.paused);
            assert!(
                (live, paused) == (model.live, model.paused) || (live, paused) == (after.live, after.paused),
                "{at}, {strike:?}: {seen:?}"
            );
            (model.live, model.paused) = (live, paused);
        }
        let after = model.after(command, world.rollback());
        match world.run(command, &world.runtime(world.memory.clone())) {
            Ok(()) => {}
            Err(error) => assert!(is_excused(&error), "{at}: {error}"),
        }
        let seen = world.seen();
        assert_eq!(seen, after, "{at}");
        if seen.live.is_some() {
            let status = world.runtime(world.memory.clone()).status().unwrap();
            assert_eq!(status.drift, Vec::<String>::new(), "{at}");
        }
        model = seen;
    }
    world.runtime(world.memory.clone()).detach_all(true).unwrap();
    assert_eq!(world.memory.objects(), Vec::<String>::new(), "seed {seed:#x}");
}

#[test]
fn five_hundred_random_commands_end_where_the_model_says() {
    let seed = std::env::var("MESHC_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let long = long_runs_are_wanted();
    let seeds: Vec<u64> = seed.map_or_else(|| (1..=if long { 100 } else { 5 }).collect(), |seed| vec![seed]);
    for seed in seeds {
        walk(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 100);
    }
}
