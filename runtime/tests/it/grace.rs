//! A program that is stopped between the word and its look-ups, while a policy goes live and the next is
//! filled into the slot that the program still reads.

use mesh_runtime::memory::Read;
use mesh_runtime::{Options, Runtime};

use crate::common::{Policy, request};
use crate::steps::machine;

/// What programs saw that were stopped before each of a few commits.
fn reads(careless: bool) -> Vec<Read> {
    let (memory, instance) = machine();
    let options = Options { lock_timeout: 50, command: "apply x.mesh".into() };
    let runtime = Runtime::on(memory.clone(), instance, options).unwrap();
    memory.stop_readers_before_commits();
    if careless {
        memory.skip_grace_periods();
    }
    for port in 80..86 {
        let policy = Policy::new().cgroup("/ground/one").redirect(port, 15001);
        assert!(runtime.apply(request(&policy.tables())).unwrap().changed);
    }
    memory.reads()
}

#[test]
fn a_program_stopped_across_two_applies_sees_one_generation() {
    let reads = reads(false);
    assert_eq!(reads.len(), 4, "{reads:?}");
    for read in reads {
        assert_eq!(read.tables, read.word);
    }
}

#[test]
fn without_the_grace_period_it_would_see_two() {
    let reads = reads(true);
    assert_eq!(reads.len(), 4, "{reads:?}");
    for read in reads {
        assert_eq!(read.tables, read.word + 2, "the slot of {} was filled again under it", read.word);
    }
}
