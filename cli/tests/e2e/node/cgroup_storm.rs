//! Cgroups that come and go by thousands at a path that a policy names: whoever lives in one is decided.

use std::fs;
use std::io;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Tested, storage};

use crate::fixtures::seen::Seen;
use crate::fixtures::stage::{Stage, address};

/// How often the cgroup is made.
const TIMES: usize = 3_000;

#[test]
fn a_storm_of_cgroups_leaves_nobody_undecided_and_nothing_behind() -> Tested {
    let stage = Stage::new()?;
    let dir = stage.ground().cgroup().path().join("storm");
    let within = format!("{}/storm", stage.ground().cgroup().within()?);
    let cart = stage.cart_cgroup().within()?;
    let text = format!(
        "exempt uid 1500\nmesh m {{\nredirect outbound -> 15001\ndeny outbound tcp 25\nworkload storm {{ cgroup \"{within}\" }}\n\
         workload cart {{ cgroup \"{cart}\" }}\n}}\n"
    );
    stage.apply(&stage.ground().write("storm.mesh", text)?)?;
    let drift = || Ok::<_, mesh_testbed::Failure>(stage.ask(&["status"])?["drift"].clone());
    let before = (storage::entries(&stage.pin("cgroups")?)?, drift()?);
    let (redirected, denied) = (address("10.0.3.9:80")?, address("10.0.3.9:25")?);
    // Another member is at work all the while.
    let mut other = stage.cart().spawn(|line| -> Result<usize, Errno> {
        let mut times = 0;
        while line.is_silent() {
            let arrival = Client::to(redirected).dial()?.arrival;
            if arrival.original() != Some(redirected) || Client::to(denied).open().is_ok() {
                return Err(Errno::EINVAL);
            }
            times += 1;
        }
        line.hear()?;
        Ok(times)
    })?;
    // So is who makes them, and who joins each that is made.
    let place = mesh_testbed::Place::here().netns(&stage.pair().client);
    let home = stage.ground().cgroup().path().join("beside/cgroup.procs");
    let tried = place.run(|| -> Result<Vec<bool>, Errno> {
        let join = |procs: &std::path::Path| -> io::Result<()> { fs::write(procs, "0") };
        let mut seen = Vec::new();
        for time in 0..TIMES {
            fs::create_dir(&dir)?;
            if time % 10 == 0 {
                join(&dir.join("cgroup.procs"))?;
                seen.push(Client::to(denied).open().map(drop) == Err(Errno::EPERM));
                join(&home)?;
            }
            fs::remove_dir(&dir)?;
        }
        Ok(seen)
    })??;
    other.line().say("end")?;
    assert!(other.join()?? > 0);
    assert_eq!((tried.len(), tried.iter().all(|denied| *denied)), (TIMES / 10, true));
    assert_eq!((storage::entries(&stage.pin("cgroups")?)?, drift()?), before);
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    Ok(())
}
