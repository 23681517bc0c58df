//! System calls by which applications read and write do what they do on a connection of TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Tested};
use rustix::event::{PollFlags, Timespec};
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{SpliceFlags, pipe, splice};

use crate::fixtures::duo::{Duo, End, pattern, ready};

#[test]
fn partial_writes_go_on_where_they_stopped() -> Tested {
    let duo = Duo::new()?;
    let total = 16 << 20;
    duo.both_ways(|| {
        let (near, far) = duo.run(
            |end| {
                end.stream.set_nonblocking(true)?;
                let bytes = pattern(total);
                let mut sent = 0;
                while sent < total {
                    match end.stream.write(bytes.get(sent..).unwrap_or_default()) {
                        Ok(count) => sent += count,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => ready(end, PollFlags::OUT)?,
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(())
            },
            |end| {
                let mut slow = Vec::new();
                let mut part = vec![0; 200_000];
                while slow.len() < total {
                    let count = end.stream.read(&mut part)?;
                    slow.extend_from_slice(part.get(..count).unwrap_or_default());
                    if count == 0 {
                        break;
                    }
                }
                Ok(blake3::hash(&slow).to_hex().to_string())
            },
        )?;
        near?;
        assert_eq!(far?, blake3::hash(&pattern(total)).to_hex().to_string());
        Ok(())
    })
}

#[test]
fn peeking_and_asking_how_much_is_there_take_nothing_away() -> Tested {
    let duo = Duo::new()?;
    let seen = duo.both_ways(|| {
        let (near, far) = duo.run(
            |end| {
                end.send(&pattern(1000))?;
                end.tell("sent")?;
                end.wait("read")
            },
            |end| {
                end.wait("sent")?;
                ready(end, PollFlags::IN)?;
                let waiting = rustix::io::ioctl_fionread(&end.stream)?;
                let mut room = [0; 10];
                let peeked = recv(end.stream.as_fd(), &mut room, RecvFlags::PEEK)?;
                let whole = end.take(1000)?;
                end.tell("read")?;
                Ok((waiting, peeked.1, whole.starts_with(&room), whole == pattern(1000)))
            },
        )?;
        near?;
        Ok(far?)
    })?;
    assert_eq!(seen, (1000, 10, true, true));
    Ok(())
}

#[test]
fn what_came_through_the_stack_is_read_also_where_the_kernel_does_not_count_it() -> Tested {
    let duo = Duo::new()?;
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let (near, far) = duo.run_strangers(
            // Nothing was read yet, so this takes the slow path.
            |end| end.send(&pattern(1000)),
            |end| {
                ready(end, PollFlags::IN)?;
                let waiting = rustix::io::ioctl_fionread(&end.stream)?;
                Ok((waiting, end.take(1000)? == pattern(1000)))
            },
        )?;
        near?;
        let (waiting, whole) = far?;
        assert!(whole);
        // Newer kernels count only what came over the fast path, older ones only what did not: documented.
        assert!(waiting == 1000 || (accelerated && waiting == 0), "{waiting}, accelerated: {accelerated}");
    }
    Ok(())
}

#[test]
fn files_are_sent_and_pipes_spliced_into_the_socket() -> Tested {
    let duo = Duo::new()?;
    let total = 3 << 20;
    let path = duo.stage.ground().write("file", pattern(total))?;
    duo.both_ways(|| {
        let (near, far) = duo.run(
            |end| {
                let file = std::fs::File::open(&path)?;
                let mut sent = 0;
                while sent < total {
                    sent += rustix::fs::sendfile(&end.stream, &file, None, total - sent)?;
                }
                end.wait("next")?;
                splice_into(end, &std::fs::File::open(&path)?, total)
            },
            |end| {
                let sent = end.take(total)?;
                end.tell("next")?;
                let spliced = end.take(total)?;
                Ok((sent == pattern(total), spliced == pattern(total)))
            },
        )?;
        near?;
        assert_eq!(far?, (true, true));
        Ok(())
    })
}

/// Splices a file into the socket through a pipe.
fn splice_into(end: &End<'_>, file: &std::fs::File, total: usize) -> Result<(), Errno> {
    let (out, into) = pipe()?;
    let mut sent = 0;
    while sent < total {
        let filled = splice(file, None, &into, None, total - sent, SpliceFlags::empty())?;
        let mut left = filled;
        while left > 0 {
            left -= splice(&out, None, &end.stream, None, left, SpliceFlags::empty())?;
        }
        sent += filled;
    }
    Ok(())
}

#[test]
fn an_edge_triggered_reader_misses_no_byte() -> Tested {
    let duo = Duo::new()?;
    duo.both_ways(|| {
        let (near, far) = duo.run(
            |end| {
                let bytes = pattern(300_000);
                for size in [1, 10, 1000, 60_000, 1].into_iter().cycle().take(500) {
                    end.send(bytes.get(..size).unwrap_or_default())?;
                    if size == 1 {
                        end.take(1)?;
                    }
                }
                end.stream.shutdown(Shutdown::Write)?;
                Ok(end.rest()?.len())
            },
            edge_triggered,
        )?;
        near?;
        assert_eq!(far?, 100 * (1 + 10 + 1000 + 60_000 + 1));
        Ok(())
    })
}

/// Reads as event loops do: until it would block, and then not before the next edge. Answers each time.
fn edge_triggered(end: &mut End<'_>) -> Result<usize, Errno> {
    use rustix::event::epoll;
    let edges = epoll::create(epoll::CreateFlags::empty())?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    end.stream.set_nonblocking(true)?;
    epoll::add(&edges, &end.stream, epoll::EventData::new_u64(1), flags)?;
    let (mut taken, mut room) = (0, vec![0; 7000]);
    loop {
        let mut found = Vec::with_capacity(4);
        let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
        epoll::wait(&edges, rustix::buffer::spare_capacity(&mut found), Some(&patience))?;
        if found.is_empty() {
            return Err(Errno::ETIMEDOUT);
        }
        loop {
            match end.stream.read(&mut room) {
                Ok(0) => return Ok(taken),
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let _ = end.stream.write(b"!");
    }
}

#[test]
fn a_thread_that_reads_while_another_writes_may_have_to_ask_again_and_reads_all() -> Tested {
    let duo = Duo::new()?;
    let (total, half) = (32 << 20, 100_000);
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let before = duo.counter("woken_early")?;
        let (near, far) = duo.run(
            |end| {
                end.stream.set_read_timeout(None)?;
                let mut writer = end.stream.try_clone()?;
                std::thread::scope(|scope| {
                    let writing = scope.spawn(move || writer.write_all(&pattern(total)));
                    let (mut taken, mut empty, mut room) = (Vec::new(), 0, vec![0; half]);
                    while taken.len() < half {
                        match end.stream.read(&mut room) {
                            Ok(0) => break,
                            Ok(count) => taken.extend_from_slice(room.get(..count).unwrap_or_default()),
                            Err(error) if error.kind() == ErrorKind::WouldBlock => empty += 1,
                            Err(error) => return Err(error.into()),
                        }
                    }
                    writing.join().map_err(|_| Errno(0))??;
                    Ok((taken == pattern(half), empty))
                })
            },
            |end| {
                let all = end.take(total)? == pattern(total);
                end.send(&pattern(half))?;
                Ok(all)
            },
        )?;
        let (whole, empty) = near?;
        assert!(whole && far?, "{accelerated}");
        assert_eq!(
            duo.counter("woken_early")? - before,
            empty,
            "each is counted; accelerated: {accelerated}"
        );
        assert!(accelerated || empty == 0, "TCP wakes nobody for nothing");
    }
    Ok(())
}

#[test]
fn readers_that_want_whole_answers_get_them() -> Tested {
    let duo = Duo::new()?;
    duo.apply(true)?;
    let halves = |end: &mut End<'_>| {
        for _ in 0..50 {
            end.send(&pattern(600))?;
            std::thread::sleep(Duration::from_millis(1));
            end.send(&pattern(400))?;
            end.take(1)?;
        }
        Ok(())
    };
    // MSG_WAITALL from the first read of a message on.
    let (near, far) = duo.run(halves, |end| {
        let mut short = 0;
        for _ in 0..50 {
            let mut room = [0; 1000];
            let (_, count) = recv(end.stream.as_fd(), &mut room, RecvFlags::WAITALL)?;
            short += usize::from(count < 1000);
            if count < 1000 {
                end.take(1000 - count)?;
            }
            end.send(b"!")?;
        }
        Ok(short)
    })?;
    near?;
    assert!(far? <= 1, "it is known after the first");
    let counts = duo.counts()?;
    assert!(counts.messages["reader_waits_for_all"].as_u64() > Some(0), "{counts:?}");
    Ok(())
}
