//! A stream stays whole while acceleration is switched.

use std::io::Read;
use std::net::Shutdown;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Failure, Tested, long_runs_are_wanted, until};

use crate::fixtures::duo::{ByteCounts, Duo, SHAPES, pattern};

#[test]
fn a_stream_stays_whole_while_acceleration_is_switched_on_and_off() -> Tested {
    let duo = Duo::new()?;
    duo.apply(true)?;
    let switches = if long_runs_are_wanted() { 60 } else { 6 };
    let stop = duo.stage.ground().dir().join("stop");
    let (near, far) = std::thread::scope(|scope| -> Result<_, Failure> {
        let run = scope.spawn(|| {
            duo.run(
                |end| {
                    let mut hash = blake3::Hasher::new();
                    let bytes = pattern(1 << 20);
                    for round in 0.. {
                        let size = SHAPES.get(round % SHAPES.len()).copied().unwrap_or(1);
                        let part = bytes.get(..size).unwrap_or_default();
                        end.send(part)?;
                        hash.update(part);
                        if round % 16 == 0 {
                            end.take(1)?;
                            if stop.exists() {
                                break;
                            }
                        }
                    }
                    end.stream.shutdown(Shutdown::Write)?;
                    Ok(hash.finalize().to_hex().to_string())
                },
                |end| {
                    let mut hash = blake3::Hasher::new();
                    let (mut room, mut round, mut left) = (vec![0; 300_000], 0, 1);
                    loop {
                        let count = end.stream.read(&mut room)?;
                        if count == 0 {
                            return Ok(hash.finalize().to_hex().to_string());
                        }
                        hash.update(room.get(..count).unwrap_or_default());
                        // Answers every sixteenth message once it is whole.
                        let mut count = count;
                        while count > 0 {
                            let part = count.min(left);
                            (count, left) = (count - part, left - part);
                            if left == 0 {
                                if round % 16 == 0 {
                                    end.send(b"!")?;
                                }
                                round += 1;
                                left = SHAPES.get(round % SHAPES.len()).copied().unwrap_or(1);
                            }
                        }
                    }
                },
            )
        });
        let switched = switch_often(&duo, switches);
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&stop, "")?;
        let ended = run.join().map_err(|_| "a panic")?;
        switched?;
        ended
    })?;
    assert_eq!(near?, far?);
    Ok(())
}

/// Takes the pair off the fast path by every means, and back, and detaches in the end.
fn switch_often(duo: &Duo, switches: usize) -> Tested {
    for switch in 0..switches {
        goes_on(duo, |counts| &mut counts.fast)?;
        if switch % 2 == 0 {
            duo.apply(false)?;
            std::thread::sleep(Duration::from_millis(20));
            duo.apply(true)?;
        } else {
            duo.stage.ask(&["pause"])?;
            goes_on(duo, |counts| &mut counts.slow)?;
            duo.stage.ask(&["resume"])?;
        }
    }
    let detached = duo.stage.ask(&["detach", "--all"])?;
    assert_eq!(detached.get("changed"), Some(&true.into()));
    Ok(())
}

/// Waits until more bytes went one of the ways.
fn goes_on(duo: &Duo, way: impl Fn(&mut ByteCounts) -> &mut u64) -> Tested {
    let before = *way(&mut duo.counts()?);
    let more = until(Duration::from_secs(10), || duo.counts().is_ok_and(|mut now| *way(&mut now) > before));
    assert!(more, "nothing more went that way: {:?}", duo.counts()?);
    Ok(())
}
