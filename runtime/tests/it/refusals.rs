//! Nodes that cannot have a policy: refused before the first write, and left as they were.

use std::path::Path;
use std::process::Command;

use mesh_runtime::system::Files;
use mesh_runtime::system::faults::{Faulty, Injected};
use mesh_runtime::system::memory::Memory;
use mesh_runtime::{Apply, Drift, Error, Instance, Kernel, Options, Runtime};
use mesh_testbed::Ground;
use mesh_testbed::kernel_test;

use crate::common::{self, Policy, request};
use crate::steps::machine;

fn options() -> Options {
    Options { lock_timeout: 50, command: "apply x.mesh".into() }
}

/// Applies a policy to a machine in memory where a file of `/proc` says `text`.
fn with_proc(file: &str, text: &str, more: &[(&str, &str)]) -> Error {
    let (memory, instance) = machine();
    for (file, text) in more.iter().chain([&(file, text)]) {
        let dirs: Vec<&Path> = Path::new(file).parent().unwrap().ancestors().collect();
        for dir in dirs.into_iter().rev() {
            memory.create_dir(dir).unwrap();
        }
        memory.write(Path::new(file), text.as_bytes(), false).unwrap();
    }
    let runtime = Runtime::on(memory.clone(), instance.clone(), options()).unwrap();
    let error = runtime.apply(request(&Policy::new().redirect(80, 15001).tables())).unwrap_err();
    untouched(&memory, &instance);
    error
}

fn untouched(memory: &Memory, instance: &Instance) {
    assert_eq!(memory.objects(), Vec::<String>::new());
    for path in [instance.pins(), instance.state.clone()] {
        assert!(!memory.exists(&path), "{}", path.display());
    }
}

#[test]
fn missing_rights_are_named_before_anything_is_written() {
    let error = with_proc("/proc/thread-self/status", "Name:\tmeshc\nCapEff:\t0000000000001000\n", &[]);
    assert_eq!(error.to_string(), "this process lacks CAP_SYS_ADMIN, CAP_BPF");
}

#[test]
fn a_limit_that_the_policy_cannot_fit_into_is_named() {
    let (_, instance) = machine();
    let above = instance.hierarchy.join("pods/memory.max");
    let own = instance.hierarchy.join("pods/one/memory.max");
    let files = [(above.to_str().unwrap(), "512\n"), (own.to_str().unwrap(), "max\n")];
    let error = with_proc("/proc/self/cgroup", "0::/pods/one\n", &files);
    let Error::TooLittleMemory { needed, limit, file } = error else { panic!("{error}") };
    assert!(needed > limit && limit == 512);
    assert_eq!(file, above);
}

#[test]
fn a_directory_that_is_no_bpffs_and_one_that_is_read_only_are_refused() {
    let (memory, instance) = machine();
    let elsewhere = Instance { bpffs: "/var".into(), ..instance.clone() };
    let refused = |instance: &Instance| {
        let runtime = Runtime::on(memory.clone(), instance.clone(), options()).unwrap();
        let error = runtime.apply(request(&Policy::new().redirect(80, 15001).tables())).unwrap_err();
        untouched(&memory, instance);
        error
    };
    let error = refused(&elsewhere);
    assert!(matches!(&error, Error::NotBpffs(path) if path == Path::new("/var")), "{error}");
    memory.make_read_only(&instance.bpffs);
    let error = refused(&instance);
    assert!(matches!(&error, Error::ReadOnly(path) if *path == instance.bpffs), "{error}");
}

/// What a refused apply leaves of an instance on the kernel.
fn refused(ground: &Ground, instance: Instance) -> Error {
    let before = names(ground.bpffs());
    let (pins, state) = (instance.pins(), instance.state.clone());
    let runtime = Runtime::on(Kernel::new(), instance, options()).unwrap();
    let error = runtime.apply(request(&Policy::new().redirect(80, 15001).tables())).unwrap_err();
    assert!(!state.exists() || pins.exists());
    assert_eq!(names(ground.bpffs()), before);
    error
}

fn names(dir: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[kernel_test]
fn a_read_only_bpffs_is_refused() {
    let ground = Ground::new().unwrap();
    let remount = |options: &str| {
        let status = Command::new("mount").args(["-o", options]).arg(ground.bpffs()).status().unwrap();
        assert!(status.success());
    };
    remount("remount,bind,ro");
    let error = refused(&ground, common::instance(&ground));
    remount("remount,bind,rw");
    assert!(matches!(&error, Error::ReadOnly(path) if path == ground.bpffs()), "{error}");
}

#[kernel_test]
fn a_cgroup_of_the_first_version_is_refused() {
    let ground = Ground::new().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let first =
        mounts.lines().find(|line| line.contains(" - cgroup ")).and_then(|line| line.split(' ').nth(4));
    // A machine without one has plain directories, which are none either.
    let cgroup = first.unwrap_or("/proc").into();
    let error = refused(&ground, Instance { cgroup, ..common::instance(&ground) });
    assert!(matches!(error, Error::NotACgroup(_)), "{error}");
}

#[kernel_test]
fn programs_of_another_meshc_above_are_named() {
    let ground = Ground::new().unwrap();
    common::runtime(&ground).apply(request(&Policy::new().redirect(80, 15001).tables())).unwrap();
    let below = ground.cgroup().child("below").unwrap();
    let second = Instance {
        name: "second".into(),
        cgroup: below.path().into(),
        state: ground.state().with_extension("second"),
        ..common::instance(&ground)
    };
    let error = refused(&ground, second);
    let Error::AnotherMesh { programs, .. } = &error else { panic!("{error}") };
    assert!(!programs.is_empty() && programs.iter().all(|name| name.contains("(program ")), "{error}");
}

#[kernel_test]
fn programs_of_another_meshc_below_are_named() {
    let ground = Ground::new().unwrap();
    let between = ground.cgroup().child("between").unwrap();
    let below = between.child("below").unwrap();
    let policy = Policy::new().redirect(80, 15001).tables();
    let second = Instance {
        name: "second".into(),
        cgroup: below.path().into(),
        state: ground.state().with_extension("second"),
        ..common::instance(&ground)
    };
    let second = Runtime::on(Kernel::new(), second, options()).unwrap();
    second.apply(request(&policy)).unwrap();
    let error = refused(&ground, common::instance(&ground));
    let Error::AnotherMesh { programs, .. } = &error else { panic!("{error}") };
    assert!(!programs.is_empty() && programs.iter().all(|name| name.contains("(program ")), "{error}");
    second.detach_all(true).unwrap();
    common::runtime(&ground).apply(request(&policy)).unwrap();
}

#[test]
fn a_bpffs_that_ends_with_its_mount_namespace_is_refused() {
    let first = "31 22 0:30 / /bpf rw - bpf bpf rw\n";
    let own = "31 22 0:30 / /bpf rw - bpf bpf rw\n90 31 0:77 / /bpf rw - bpf bpf rw\n";
    let error =
        with_proc("/proc/self/mountinfo", own.trim_start_matches(first), &[("/proc/1/mountinfo", first)]);
    assert!(matches!(&error, Error::PrivateBpffs(path) if path == Path::new("/bpf")), "{error}");
}

#[test]
fn more_cgroups_than_fit_are_refused() {
    let (memory, instance) = machine();
    let runtime = Runtime::on(memory.clone(), instance.clone(), options()).unwrap();
    let many = (0..=mesh_bpf::map::CGROUPS.capacity).map(|number| format!("/ground/{number}"));
    let policy = many.fold(Policy::new().redirect(80, 15001), Policy::cgroup);
    let error = runtime.apply(request(&policy.tables())).unwrap_err();
    let Error::OverCapacity { map: "cgroups", needed, capacity } = error else { panic!("{error}") };
    assert_eq!(needed, capacity as usize + 1);
    untouched(&memory, &instance);
}

#[test]
fn a_kernel_that_lacks_something_is_left_as_it_was_and_told_what_is_needed() {
    let (memory, instance) = machine();
    let load = {
        let counted = Runtime::on(Faulty::new(memory.clone(), Injected::Never), instance.clone(), options());
        let counted = counted.unwrap();
        counted.apply(request(&Policy::new().redirect(80, 15001).tables())).unwrap();
        counted.detach_all(true).unwrap();
        counted.system().steps().iter().position(|step| step.starts_with("load_programs")).unwrap()
    };
    let faulty = Faulty::new(memory.clone(), Injected::Fail(load, 22));
    let runtime = Runtime::on(faulty, instance.clone(), options()).unwrap();
    let error = runtime.apply(request(&Policy::new().redirect(80, 15001).tables())).unwrap_err();
    assert!(error.help().contains("Linux 6.1"), "{}", error.help());
    assert_eq!(memory.objects(), Vec::<String>::new());
    assert!(!memory.exists(&instance.maps()) && !memory.exists(&instance.pins().join("links")));
}

/// What holds the programs can be removed: nothing is decided then, and that is said once, with its cause.
#[test]
fn a_cgroup_that_was_removed_is_drift_and_the_cause_of_what_fails() {
    let (system, instance) = machine();
    let runtime = Runtime::on(system.clone(), instance.clone(), Options::default()).unwrap();
    let tables = Policy::new().redirect(80, 15001).tiers(&["web"]).tables();
    runtime.apply(request(&tables)).unwrap();
    assert_eq!(runtime.status().unwrap().drift, []);
    system.remove_cgroup(&instance.cgroup);
    assert_eq!(runtime.status().unwrap().drift, [Drift::AttachedCgroupGone(instance.cgroup.clone())]);
    for error in [runtime.join("shop/cart").unwrap_err(), runtime.apply(request(&tables)).unwrap_err()] {
        assert_eq!(error.code(), "no-cgroup", "{error}");
    }
    system.make_cgroup(&instance.cgroup);
    assert_ne!(runtime.status().unwrap().drift, []);
    runtime.apply(Apply { repair: true, ..request(&tables) }).unwrap();
    assert_eq!(runtime.status().unwrap().drift, []);
}
