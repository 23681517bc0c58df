//! What becomes of bytes that nobody reads, where they came past the stack: they are bounded as TCP's are, and go only
//! when somebody says so.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Failure, Tested, raw_option, until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::fixtures::command::Answer;
use crate::fixtures::duo::{ByteCounts, Duo, End, pattern, ready};

/// Nobody waits for longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the kernel says that a socket takes of its memory.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Memory {
    /// Charged to what was received.
    received: u64,
    /// The most that may be.
    receive_buffer: u64,
    /// Charged to what is to be sent.
    queued: u64,
}

fn memory(end: &End<'_>) -> Result<Memory, Errno> {
    const SOL_SOCKET: i32 = 1;
    const SO_MEMINFO: i32 = 55;
    let told = raw_option(end.stream.as_fd(), SOL_SOCKET, SO_MEMINFO, 24)?;
    let word = |at: usize| {
        let bytes = told.get(4 * at..4 * at + 4).unwrap_or_default();
        u64::from(bytes.try_into().map_or(0, u32::from_ne_bytes))
    };
    Ok(Memory { received: word(0), receive_buffer: word(1), queued: word(5) })
}

#[test]
fn a_reader_that_never_reads_costs_no_more_memory_than_with_tcp_however_small_the_messages_are() -> Tested {
    // What the kernel needs for a message past the stack beside its bytes, charged to nobody.
    const MESSAGE: u64 = 1024;
    let duo = Duo::new()?;
    for (size, most) in [(1, 300_000), (100, 300_000), (4000, 100_000), (100_000, 1_000)] {
        let mut costs = Vec::new();
        for accelerated in [false, true] {
            duo.apply(accelerated)?;
            let before = duo.counts()?;
            let (near, far) = duo.run(
                |end| {
                    end.stream.set_nonblocking(true)?;
                    let (part, mut accepted) = (pattern(size), 0);
                    for _ in 0..most {
                        match end.stream.write(&part) {
                            Ok(count) => accepted += count,
                            Err(_) => break,
                        }
                    }
                    let sender = memory(end)?;
                    end.tell("full")?;
                    end.wait("seen")?;
                    end.stream.shutdown(Shutdown::Write)?;
                    Ok((accepted, sender))
                },
                |end| {
                    end.wait("full")?;
                    let reader = memory(end)?;
                    end.tell("seen")?;
                    Ok((reader, end.rest()?.len()))
                },
            )?;
            let ((accepted, sender), (reader, read)) = (near?, far?);
            assert_eq!(read, accepted, "every byte that was accepted arrives");
            let short = fast_messages(&duo.counts()?) - fast_messages(&before);
            assert_eq!(short > 0, accelerated, "messages of {size}");
            let cost = reader.received + sender.queued + short * MESSAGE;
            println!(
                "messages of {size}, accelerated: {accelerated}: {accepted} bytes accepted, {} charged to the reader, \
                 {} queued by the sender, {short} messages past the stack: {cost} bytes",
                reader.received, sender.queued
            );
            costs.push(cost);
            // The bytes fill the buffer but for one message; all messages take twice as much at most.
            assert!(short * MESSAGE <= 2 * reader.receive_buffer + 64 * MESSAGE, "{short} messages unread");
        }
        let [plain, accelerated] = costs.as_slice() else { return Err("two runs".into()) };
        assert!(*accelerated < plain + (1 << 20), "{plain} without, {accelerated} with acceleration");
    }
    Ok(())
}

fn fast_messages(counts: &ByteCounts) -> u64 {
    counts.messages.get("fast").and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// Has a sender send 1000 bytes over the fast path, which nobody reads until `meanwhile` is done; then the sender sends
/// 100 more. Returns what the reader read, after it has seen that nothing is there where that is expected.
fn unread_while<T>(
    duo: &Duo,
    all_gone: bool,
    meanwhile: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, Vec<u8>), Failure> {
    let go_on = duo.stage.ground().dir().join("go on");
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            duo.run(
                |end| {
                    end.send(&pattern(1000))?;
                    end.wait("seen")?;
                    end.send(&pattern(100))?;
                    end.stream.shutdown(Shutdown::Write)?;
                    Ok(())
                },
                |end| {
                    ready(end, PollFlags::IN)?;
                    until(PATIENCE, || go_on.exists());
                    // They go with the map, a moment after the command.
                    let gone = all_gone && until(PATIENCE, || !holds_some(end));
                    if gone != all_gone {
                        return Err(Errno::EBUSY);
                    }
                    end.tell("seen")?;
                    end.rest()
                },
            )
        });
        let sent = until(PATIENCE, || duo.counts().is_ok_and(|counts| counts.fast >= 1000));
        let done = meanwhile();
        std::fs::write(&go_on, "")?;
        let ended = run.join().map_err(|_| "a panic")??;
        std::fs::remove_file(&go_on)?;
        assert!(sent, "no byte took the fast path");
        ended.0?;
        Ok((done?, ended.1?))
    })
}

/// Whether the socket can be read now.
fn holds_some(end: &End<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut [PollFd::new(&end.stream, PollFlags::IN)], Some(&now)), Ok(0))
}

#[test]
fn detaching_refuses_while_bytes_are_unread_and_loses_them_where_it_is_told_to() -> Tested {
    let duo = Duo::new()?;
    let whole = [pattern(1000), pattern(100)].concat();
    let detach = |format: &str, word: &[&str]| {
        Answer::of(duo.stage.meshc().args(["--format", format, "detach", "--all"]).args(word))
    };

    // A plain detach says why not, and loses nothing.
    duo.apply(true)?;
    let (refused, read) = unread_while(&duo, false, || detach("json", &[]))?;
    assert!(refused.code != 0 && refused.words().contains("unread"), "{refused:?}");
    assert!(read == whole, "{} bytes", read.len());
    let status = duo.stage.ask(&["status"])?;
    assert_eq!(status["state"], "active", "all is as before: {status}");

    // One that is told to drop them does, says so, and the stream goes on behind the gap.
    for (format, said) in [("json", "\"lost\":1"), ("text", "one accelerated connection lost bytes")] {
        duo.apply(true)?;
        let (forced, read) = unread_while(&duo, true, || detach(format, &["--drop-unread"]))?;
        let forced = forced.done()?;
        assert!(forced.words().replace(' ', "").contains(&said.replace(' ', "")), "{forced:?}");
        assert!(read == pattern(100), "{} bytes", read.len());
    }

    // Where everything is read, nothing is lost by either.
    for word in [&[][..], &["--drop-unread"]] {
        duo.apply(true)?;
        let (near, far) = duo.run(|end| end.send(&pattern(1000)), |end| end.take(1000))?;
        near?;
        assert!(far? == pattern(1000));
        let done = detach("json", word)?.done()?.json()?;
        assert_eq!((&done["changed"], &done["lost"]), (&true.into(), &0.into()), "{word:?}: {done}");
    }
    Ok(())
}

#[test]
fn a_reader_that_never_reads_stops_its_writer_as_with_tcp() -> Tested {
    let duo = Duo::new()?;
    let mut taken = Vec::new();
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let before = duo.counts()?;
        let (near, far) = duo.run(
            |end| {
                end.stream.set_nonblocking(true)?;
                let (mut accepted, part) = (0_usize, pattern(100_000));
                // Full is what stays full.
                for _ in 0..20 {
                    while let Ok(count) = end.stream.write(&part) {
                        accepted += count;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                let error = end.stream.write(b"x").map_err(|error| error.kind()).err();
                end.tell("full")?;
                end.stream.set_nonblocking(false)?;
                end.stream.shutdown(Shutdown::Write)?;
                Ok((accepted, error == Some(ErrorKind::WouldBlock)))
            },
            |end| {
                end.wait("full")?;
                Ok(end.rest()?.len())
            },
        )?;
        let (accepted, would_block) = near?;
        assert!(would_block, "the writer is told to wait");
        assert_eq!(far?, accepted, "every byte that was accepted arrives");
        if accelerated {
            let after = duo.counts()?;
            assert!(after.fast > before.fast, "{after:?}");
            assert!(after.messages["full"].as_u64() > Some(0), "{after:?}");
        }
        taken.push(accepted);
    }
    let [plain, accelerated] = taken.as_slice() else { return Err("two runs".into()) };
    // A buffer of the receiver, and one message beyond it.
    assert!(*accelerated < 2 * plain + (16 << 20), "{plain} without, {accelerated} with acceleration");
    println!("a reader that never reads: {plain} bytes without, {accelerated} with acceleration");
    Ok(())
}
