//! Bytes past the stack arrive as TCP would have brought them: each case runs without and with acceleration, must
//! come to the same, and the books must show that bytes took the short way.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::Duration;

use mesh_testbed::{Client, Errno, Failure, Tested, kernel_is_usable, long_runs_are_wanted, storage, until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{SpliceFlags, pipe, splice};

use crate::duo::{Books, Duo, End, SIDECAR, TARGET};
use crate::seen::Seen;
use crate::stage::{SIDECAR_UID, address};

/// Sizes of calls, taken in turn: odd ones, a page, more than a message of the short way holds.
pub(crate) const SHAPES: [usize; 8] = [1, 7, 64, 1000, 4096, 16_384, 65_537, 300_000];

/// Bytes that no two places of a stream share by accident.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"pattern").finalize_xof().fill(&mut bytes);
    bytes
}

/// Sends `total` bytes by calls of all shapes, beginning with one of them, and returns their digest.
fn send_shapes(end: &mut End<'_>, total: usize, first: usize) -> Result<String, Errno> {
    let bytes = pattern(1 << 20);
    let (mut sent, mut hash) = (0, blake3::Hasher::new());
    for size in SHAPES.into_iter().cycle().skip(first) {
        if sent == total {
            break;
        }
        let size = size.min(total - sent);
        let from = sent % ((1 << 20) - size);
        let part = bytes.get(from..from + size).unwrap_or_default();
        end.send(part)?;
        hash.update(part);
        sent += size;
    }
    Ok(hash.finalize().to_hex().to_string())
}

/// Reads `total` bytes by calls of all shapes, and returns their digest.
fn take_shapes(end: &mut End<'_>, total: usize, first: usize) -> Result<String, Errno> {
    let (mut taken, mut hash) = (0, blake3::Hasher::new());
    let mut room = vec![0; 300_000];
    for size in SHAPES.into_iter().cycle().skip(first) {
        if taken == total {
            break;
        }
        let part = room.get_mut(..size.min(total - taken)).unwrap_or_default();
        let count = end.stream.read(part)?;
        if count == 0 {
            return Err(Errno::ECONNRESET);
        }
        hash.update(part.get(..count).unwrap_or_default());
        taken += count;
    }
    Ok(hash.finalize().to_hex().to_string())
}

#[test]
fn streams_of_all_shapes_arrive_as_they_were_sent() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    let total = if long_runs_are_wanted() { 1 << 30 } else { 24 << 20 };
    for (write, read) in [(0, 3), (5, 0), (7, 7)] {
        duo.both_ways(|| {
            let (sent, taken) =
                duo.run(|end| send_shapes(end, total, write), |end| take_shapes(end, total, read))?;
            assert_eq!(sent?, taken?);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn questions_and_answers_of_all_sizes_take_the_short_way() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    duo.apply(true)?;
    for (listen, target, mapped) in
        [(SIDECAR, TARGET, false), ("[::1]:15005", "[fd10::9]:80", false), (SIDECAR, TARGET, true)]
    {
        let open = Client::to(address(target)?);
        let open = if mapped { open.mapped() } else { open };
        let before = duo.books()?;
        let rounds = |end: &mut End<'_>, asks: bool| {
            for size in SHAPES.into_iter().cycle().take(200) {
                let (question, answer) = (pattern(size), pattern(size / 2 + 1));
                if asks {
                    end.send(&question)?;
                    assert!(end.take(answer.len())? == answer, "an answer of {size}");
                } else {
                    assert!(end.take(size)? == question, "a question of {size}");
                    end.send(&answer)?;
                }
            }
            Ok(())
        };
        let (beside, cart) = (duo.stage.beside(), duo.stage.cart());
        let (near, far) = duo.between(
            &beside,
            address(listen)?,
            &cart,
            open,
            |end| rounds(end, true),
            |end| rounds(end, false),
        )?;
        near?;
        far?;
        let after = duo.books()?;
        let (short, long) = (after.short - before.short, after.long - before.long);
        assert!(short > 10 * long, "{target}: {short} short, {long} long: {}", after.messages);
    }
    Ok(())
}

#[test]
fn a_sidecar_reaches_its_own_application_by_the_short_way() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    duo.both_ways(|| {
        let (application, sidecar) = (duo.stage.cart(), duo.stage.cart().uid(SIDECAR_UID));
        let (near, far) = duo.between(
            &application,
            address("127.0.0.1:8080")?,
            &sidecar,
            Client::to(address("127.0.0.1:8080")?),
            |end| {
                end.send(&pattern(1000))?;
                end.take(2000)
            },
            |end| {
                let asked = end.take(1000)?;
                end.send(&pattern(2000))?;
                Ok(asked)
            },
        )?;
        assert!(near? == pattern(2000) && far? == pattern(1000));
        Ok(())
    })
}

#[test]
fn what_is_not_chosen_never_enters() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    let stage = &duo.stage;
    let held = |target: &str| -> Result<usize, Failure> {
        let target = address(target)?;
        let mut held = stage.cart().spawn(|line| {
            let stream = Client::to(target).open();
            let _ = line.say("open").and_then(|()| line.hear());
            stream.is_ok()
        })?;
        held.line().hear()?;
        let sockets = storage::sockets_with_storage(&stage.pin("ends")?)?;
        assert_eq!(storage::entries(&stage.pin("pairs")?)?, sockets / 2, "{target}");
        held.line().say("close")?;
        held.join()?;
        Ok(sockets)
    };
    stage.apply_rules(
        "redirect outbound -> 15001\nexclude outbound tcp 443\ndeny outbound tcp 25\n\
         accelerate local for cart tcp 80, 443, 25",
    )?;
    assert_eq!(held("10.0.3.9:80")?, 2, "both ends of the one that is chosen");
    for other in ["10.0.3.9:443", "10.0.3.9:25", "10.0.3.9:8080"] {
        assert_eq!(held(other)?, 0, "{other}");
    }
    assert_eq!(stage.dial("10.0.3.9:443")?, Seen::Straight);
    for map in ["pairs", "openings"] {
        assert_eq!(storage::entries(&stage.pin(map)?)?, 0, "{map}");
    }
    Ok(())
}

#[test]
fn either_end_may_close_its_half_first() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    let first = |end: &mut End<'_>| {
        end.send(&pattern(100_000))?;
        end.stream.shutdown(Shutdown::Write)?;
        let late = end.stream.write(b"late").map_err(|error| error.kind());
        Ok::<_, Errno>((format!("{late:?}"), end.rest()?.len()))
    };
    let expected = ("Err(BrokenPipe)".to_owned(), 50_000);
    let second = |end: &mut End<'_>| {
        let asked = end.rest()?;
        end.send(&pattern(50_000))?;
        end.stream.shutdown(Shutdown::Write)?;
        Ok(asked == pattern(100_000))
    };
    duo.both_ways(|| {
        let (near, far) = duo.run(first, second)?;
        assert!(far?);
        assert_eq!(near?, expected);
        Ok(())
    })?;
    duo.both_ways(|| {
        let (near, far) = duo.run(second, first)?;
        assert!(near?);
        assert_eq!(far?, expected);
        Ok(())
    })?;
    Ok(())
}

#[test]
fn data_that_is_queued_at_shutdown_and_at_close_arrives_before_the_end() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    for closes in [false, true] {
        duo.both_ways(|| {
            let (near, far) = duo.run(
                |end| {
                    end.send(&pattern(200_000))?;
                    end.stream.shutdown(if closes { Shutdown::Both } else { Shutdown::Write })?;
                    end.tell("shut")
                },
                |end| {
                    end.wait("shut")?;
                    Ok(end.rest()? == pattern(200_000))
                },
            )?;
            near?;
            assert!(far?, "closes: {closes}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_reset_reaches_the_other_end() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    let resets = |end: &mut End<'_>| {
        end.send(b"before")?;
        end.wait("read")?;
        Ok(socket2::SockRef::from(&end.stream).set_linger(Some(Duration::ZERO))?)
    };
    let tells = |end: &mut End<'_>| {
        end.take(6)?;
        end.tell("read")
    };
    let told = |end: &mut End<'_>| {
        let read = end.stream.read(&mut [0; 10]).map_err(|error| error.kind());
        let write = end.stream.write(b"x").map_err(|error| error.kind());
        format!("{read:?} {write:?}")
    };
    // As event loops wait, and as a thread that is woken does.
    let seen = duo.both_ways(|| {
        let (near, far) = duo.run(resets, |end| {
            tells(end)?;
            ready(end, PollFlags::IN)?;
            Ok(told(end))
        })?;
        near?;
        Ok(far?)
    })?;
    assert_eq!(seen, "Err(ConnectionReset) Err(BrokenPipe)");
    // A thread that waits in `read` itself is woken with EAGAIN, and told when it asks again: documented.
    duo.apply(true)?;
    let (near, far) = duo.run(resets, |end| {
        tells(end)?;
        let began = std::time::Instant::now();
        let mut woken = end.stream.read(&mut [0; 10]).map_err(|error| error.kind());
        let at_once = began.elapsed() < Duration::from_secs(10);
        if woken == Err(ErrorKind::WouldBlock) {
            woken = end.stream.read(&mut [0; 10]).map_err(|error| error.kind());
        }
        Ok((at_once, woken == Err(ErrorKind::ConnectionReset)))
    })?;
    near?;
    assert_eq!(far?, (true, true));
    Ok(())
}

#[test]
fn who_closes_with_unread_bytes_is_counted_where_its_peer_sees_an_end_and_no_reset() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let before = duo.books()?.short;
        let (near, far) = duo.run(
            |end| {
                end.send(&pattern(1000))?;
                end.tell("sent")?;
                ready(end, PollFlags::IN)?;
                Ok(format!("{:?}", end.stream.read(&mut [0; 10]).map_err(|error| error.kind())))
            },
            |end| {
                end.wait("sent")?;
                // Ends here, with the bytes unread.
                ready(end, PollFlags::IN)
            },
        )?;
        far?;
        let status = duo.stage.ask(&["status"])?;
        let counters = status["counters"].as_array().into_iter().flatten();
        let counted = counters.filter(|it| it["name"] == "closed_unread").find_map(|it| it["value"].as_u64());
        let (expected, count) = if accelerated { ("Ok(0)", 1) } else { ("Err(ConnectionReset)", 0) };
        assert_eq!((near?.as_str(), counted), (expected, Some(count)), "accelerated: {accelerated}");
        assert_eq!(duo.books()?.short >= before + 1000, accelerated);
    }
    Ok(())
}

#[test]
fn a_reader_that_never_reads_stops_its_writer_as_with_tcp() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    let mut taken = Vec::new();
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let before = duo.books()?;
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
            let after = duo.books()?;
            assert!(after.short > before.short, "{after:?}");
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

#[test]
fn partial_writes_go_on_where_they_stopped() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
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

/// Waits for a socket to be ready.
pub(crate) fn ready(end: &End<'_>, what: PollFlags) -> Result<(), Errno> {
    let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&end.stream, what)], Some(&patience)).map_err(std::io::Error::from)?;
    if ready == 0 { Err(Errno::ETIMEDOUT) } else { Ok(()) }
}

#[test]
fn peeking_and_asking_how_much_is_there_take_nothing_away() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
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
                let waiting = rustix::io::ioctl_fionread(&end.stream).map_err(std::io::Error::from)?;
                let mut room = [0; 10];
                let peeked =
                    recv(end.stream.as_fd(), &mut room, RecvFlags::PEEK).map_err(std::io::Error::from)?;
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
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let (beside, cart) = (duo.stage.beside(), duo.stage.cart());
        let open = Client::to(address(TARGET)?);
        let (near, far) = duo.strangers(
            &beside,
            address(SIDECAR)?,
            &cart,
            open,
            // Nothing was read yet, so this takes the long way.
            |end| end.send(&pattern(1000)),
            |end| {
                ready(end, PollFlags::IN)?;
                let waiting = rustix::io::ioctl_fionread(&end.stream).map_err(std::io::Error::from)?;
                Ok((waiting, end.take(1000)? == pattern(1000)))
            },
        )?;
        near?;
        let (waiting, whole) = far?;
        assert!(whole);
        // Newer kernels count only what came by the short way, older ones only what did not: documented.
        assert!(waiting == 1000 || (accelerated && waiting == 0), "{waiting}, accelerated: {accelerated}");
    }
    Ok(())
}

#[test]
fn files_are_sent_and_pipes_spliced_into_the_socket() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    let total = 3 << 20;
    let path = duo.stage.ground().write("file", pattern(total))?;
    duo.both_ways(|| {
        let (near, far) = duo.run(
            |end| {
                let file = std::fs::File::open(&path)?;
                let mut sent = 0;
                while sent < total {
                    sent += rustix::fs::sendfile(&end.stream, &file, None, total - sent)
                        .map_err(std::io::Error::from)?;
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
    let (out, into) = pipe().map_err(std::io::Error::from)?;
    let mut sent = 0;
    while sent < total {
        let filled = splice(file, None, &into, None, total - sent, SpliceFlags::empty())
            .map_err(std::io::Error::from)?;
        let mut left = filled;
        while left > 0 {
            left -= splice(&out, None, &end.stream, None, left, SpliceFlags::empty())
                .map_err(std::io::Error::from)?;
        }
        sent += filled;
    }
    Ok(())
}

#[test]
fn an_edge_triggered_reader_misses_no_byte() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
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
    let wrong = std::io::Error::from;
    let edges = epoll::create(epoll::CreateFlags::empty()).map_err(wrong)?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    end.stream.set_nonblocking(true)?;
    epoll::add(&edges, &end.stream, epoll::EventData::new_u64(1), flags).map_err(wrong)?;
    let (mut taken, mut room) = (0, vec![0; 7000]);
    loop {
        let mut found = Vec::with_capacity(4);
        let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
        epoll::wait(&edges, rustix::buffer::spare_capacity(&mut found), Some(&patience)).map_err(wrong)?;
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
fn an_idle_connection_goes_on_and_one_whose_peer_dies_ends() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    let idle = if long_runs_are_wanted() { Duration::from_secs(180) } else { Duration::from_secs(3) };
    let seen = duo.both_ways(|| {
        let (near, far) = duo.run(
            |end| {
                let socket = socket2::SockRef::from(&end.stream);
                socket.set_tcp_keepalive(
                    &socket2::TcpKeepalive::new()
                        .with_time(Duration::from_secs(1))
                        .with_interval(Duration::from_secs(1)),
                )?;
                end.send(b"question")?;
                end.take(6)?;
                std::thread::sleep(idle);
                end.send(b"question")?;
                end.take(6)?;
                // Ends here: the process dies with the connection open.
                Ok(())
            },
            |end| {
                for _ in 0..2 {
                    end.take(8)?;
                    end.send(b"answer")?;
                }
                Ok(end.rest()?.len())
            },
        )?;
        near?;
        Ok(far?)
    })?;
    assert_eq!(seen, 0, "an end, after everything");
    Ok(())
}

#[test]
fn a_stream_stays_whole_while_acceleration_is_switched_on_and_off() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    duo.apply(true)?;
    let switches = if long_runs_are_wanted() { 60 } else { 6 };
    let stop = duo.stage.ground().folder().join("stop");
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

/// Takes the pair off the short way by every means, and back, and detaches in the end.
fn switch_often(duo: &Duo, switches: usize) -> Tested {
    for switch in 0..switches {
        goes_on(duo, |books| &mut books.short)?;
        if switch % 2 == 0 {
            duo.apply(false)?;
            std::thread::sleep(Duration::from_millis(20));
            duo.apply(true)?;
        } else {
            duo.stage.ask(&["pause"])?;
            goes_on(duo, |books| &mut books.long)?;
            duo.stage.ask(&["resume"])?;
        }
    }
    let detached = duo.stage.ask(&["detach", "--all"])?;
    assert_eq!(detached.get("changed"), Some(&true.into()));
    Ok(())
}

/// Waits until more bytes went one of the ways.
fn goes_on(duo: &Duo, way: impl Fn(&mut Books) -> &mut u64) -> Tested {
    let before = *way(&mut duo.books()?);
    let more = until(Duration::from_secs(10), || duo.books().is_ok_and(|mut now| *way(&mut now) > before));
    assert!(more, "nothing more went that way: {:?}", duo.books()?);
    Ok(())
}

#[test]
fn a_reader_that_splices_from_the_first_is_never_accelerated() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    duo.apply(true)?;
    let total = 4 << 20;
    let (beside, cart) = (duo.stage.beside(), duo.stage.cart());
    let (near, far) = duo.strangers(
        &beside,
        address(SIDECAR)?,
        &cart,
        Client::to(address(TARGET)?),
        |end| {
            // A pause after each message: all of it is read when the next is sent.
            for size in SHAPES {
                end.send(&pattern(size))?;
                end.wait("read")?;
            }
            send_shapes(end, total, 2)
        },
        |end| {
            for size in SHAPES {
                splice_all(end, size)?;
                end.tell("read")?;
            }
            splice_all(end, total)
        },
    )?;
    assert_eq!(near?, far?);
    let books = duo.books()?;
    assert_eq!(books.short, 0, "{books:?}");
    Ok(())
}

#[test]
fn a_thread_that_reads_while_another_writes_may_have_to_ask_again_and_reads_all() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    let (total, half) = (32 << 20, 100_000);
    let woken = |duo: &Duo| -> Result<u64, Failure> {
        let status = duo.stage.ask(&["status"])?;
        let counters = status["counters"].as_array().into_iter().flatten();
        Ok(counters.filter(|it| it["name"] == "woken_early").find_map(|it| it["value"].as_u64()).unwrap_or(0))
    };
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let before = woken(&duo)?;
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
        assert_eq!(woken(&duo)? - before, empty, "each is counted; accelerated: {accelerated}");
        assert!(accelerated || empty == 0, "TCP wakes nobody for nothing");
    }
    Ok(())
}

#[test]
fn a_reader_that_turns_to_splice_is_refused_or_noticed_and_no_byte_overtakes_another() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    duo.apply(true)?;
    let (near, far) = duo.run(
        |end| {
            end.send(b"short")?;
            end.tell("sent")?;
            end.wait("spliced")?;
            // Refused where the kernel let the reader splice, else by the long way.
            let next = end.stream.write(b"next").map_err(|error| error.kind());
            end.tell("tried")?;
            end.wait("read")?;
            // The kernel keeps to a refusal.
            let last = end.stream.write(b"last").map_err(|error| error.kind());
            end.stream.shutdown(Shutdown::Write)?;
            Ok(format!("{next:?} {last:?}"))
        },
        |end| {
            end.wait("sent")?;
            ready(end, PollFlags::IN)?;
            let (_out, into) = pipe().map_err(std::io::Error::from)?;
            let flags = SpliceFlags::NONBLOCK;
            let spliced = splice(&end.stream, None, &into, None, 100, flags).map_err(std::io::Error::from);
            end.tell("spliced")?;
            end.wait("tried")?;
            end.stream.set_nonblocking(true)?;
            let mut room = [0; 100];
            let count = end.stream.read(&mut room)?;
            let mut all = room.get(..count).unwrap_or_default().to_vec();
            end.stream.set_nonblocking(false)?;
            end.tell("read")?;
            all.extend(end.rest()?);
            Ok((spliced.map_err(|error| error.kind() == ErrorKind::InvalidInput), all))
        },
    )?;
    let (near, (spliced, all)) = (near?, far?);
    let status = duo.stage.ask(&["status"])?;
    let counter = |name: &str| {
        let counters = status["counters"].as_array().into_iter().flatten();
        counters.filter(|it| it["name"] == name).find_map(|it| it["value"].as_u64()).unwrap_or(0)
    };
    let refused = status["acceleration"]["refuses_splice"] == true;
    assert_eq!(spliced, Err(refused), "`splice` sees nothing, or is refused: {status}");
    assert_eq!(counter("splice_refused") > 0, refused);
    assert_eq!(counter("splice_stranded") > 0, !refused);
    if refused {
        assert_eq!((near.as_str(), all.as_slice()), ("Ok(4) Ok(4)", &b"shortnextlast"[..]));
    } else {
        let denied = "Err(PermissionDenied) Err(PermissionDenied)";
        assert_eq!((near.as_str(), all.as_slice()), (denied, &b"short"[..]));
        assert!(duo.books()?.messages["stranded"].as_u64() > Some(0), "{status}");
    }
    assert_eq!(status["acceleration"]["splicers"].as_array().map(Vec::len), Some(1), "{status}");
    // The program is known now: none of its connections gets anything by the short way.
    let before = duo.books()?;
    let (near, far) = duo.run(
        |end| {
            end.send(&pattern(100))?;
            end.take(1)
        },
        |end| {
            end.take(100)?;
            end.send(b"!")
        },
    )?;
    near?;
    far?;
    let after = duo.books()?;
    assert_eq!(after.short, before.short, "{after:?}");
    assert!(after.messages["reader_splices"].as_u64() > Some(0), "{after:?}");
    Ok(())
}

/// Splices from the socket, as Go's `io.Copy` does, and returns the digest of what came.
fn splice_all(end: &mut End<'_>, total: usize) -> Result<String, Errno> {
    let wrong = std::io::Error::from;
    let (out, into) = pipe().map_err(wrong)?;
    let (mut taken, mut hash) = (0, blake3::Hasher::new());
    let mut out = std::fs::File::from(out);
    let mut room = vec![0; 1 << 16];
    while taken < total {
        let count = splice(&end.stream, None, &into, None, 1 << 16, SpliceFlags::empty()).map_err(wrong)?;
        let part = room.get_mut(..count).unwrap_or_default();
        out.read_exact(part)?;
        hash.update(part);
        taken += count;
        if count == 0 {
            break;
        }
    }
    Ok(hash.finalize().to_hex().to_string())
}

#[test]
fn readers_that_want_whole_answers_get_them() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
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
            let (_, count) =
                recv(end.stream.as_fd(), &mut room, RecvFlags::WAITALL).map_err(std::io::Error::from)?;
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
    let books = duo.books()?;
    assert!(books.messages["reader_waits_for_all"].as_u64() > Some(0), "{books:?}");
    Ok(())
}

/// Two pods, each with a sidecar, whose workloads `a` and `b` this policy speaks of.
fn two_pods(duo: &Duo, accelerate: &str) -> Tested {
    let text = format!(
        "exempt uid {SIDECAR_UID}\nredirect outbound -> 15001\nredirect inbound -> 15003\n\
         mesh bookstore {{\nexclude inbound tcp 9091\n{accelerate}\n\
         workload a {{ label app = a }}\nworkload b {{ label app = b }}\n}}\n"
    );
    let policy = duo.stage.ground().write("pods.mesh", text)?;
    duo.stage.apply(&policy)?;
    for (name, netns) in [("a", &duo.stage.pair().client), ("b", &duo.stage.pair().server)] {
        let (path, label) = (netns.path().display().to_string(), format!("app={name}"));
        duo.stage.ask(&["attach", "--netns", &path, "--name", name, "--label", &label])?;
    }
    Ok(())
}

/// The sidecar of `a` asks that of `b`, whichever port `b`'s sidecar listens on, by the port that is dialled.
fn ask_peer(duo: &Duo, listen: &str, target: &str) -> Result<Books, Failure> {
    let before = duo.books()?;
    let here = duo.stage.beside().uid(SIDECAR_UID);
    let there = duo.stage.beside().netns(&duo.stage.pair().server).uid(SIDECAR_UID);
    let rounds = |end: &mut End<'_>, asks: bool| {
        for size in [10, 1000, 20_000].into_iter().cycle().take(30) {
            if asks {
                end.send(&pattern(size))?;
            }
            assert!(end.take(size)? == pattern(size));
            if !asks {
                end.send(&pattern(size))?;
            }
        }
        Ok(())
    };
    let (near, far) = duo.between(
        &there,
        address(listen)?,
        &here,
        Client::to(address(target)?),
        |end| rounds(end, true),
        |end| rounds(end, false),
    )?;
    near?;
    far?;
    let after = duo.books()?;
    Ok(Books { short: after.short - before.short, long: after.long - before.long, messages: after.messages })
}

#[test]
fn sidecars_of_two_pods_exchange_bytes_by_the_short_way_where_they_are_chosen() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    for accelerate in [
        "accelerate a <-> b tcp not 7000",
        "accelerate within both tcp not 7000\ngroup both = a, b",
        "accelerate all tcp not 7000",
    ] {
        let duo = Duo::new()?;
        two_pods(&duo, accelerate)?;
        for (listen, target) in [("0.0.0.0:15003", "192.168.7.1:8088"), ("[::]:15003", "[fd07::1]:8088")] {
            let books = ask_peer(&duo, listen, target)?;
            assert!(books.short > 5 * books.long, "{accelerate}, {target}: {books:?}");
        }
        // Not accelerated, and excluded: there the application itself is reached.
        for (listen, target) in
            [("0.0.0.0:15003", "192.168.7.1:7000"), ("192.168.7.1:9091", "192.168.7.1:9091")]
        {
            let books = ask_peer(&duo, listen, target)?;
            assert_eq!((books.short, books.long), (0, 0), "{accelerate}, {target}: it never entered");
        }
        for map in ["pairs", "openings"] {
            assert_eq!(storage::entries(&duo.stage.pin(map)?)?, 0, "{map}");
        }
    }
    Ok(())
}

#[test]
fn sidecars_of_pods_that_are_not_chosen_never_enter() -> Tested {
    if !kernel_is_usable() {
        return Ok(());
    }
    let duo = Duo::new()?;
    // The workload `a` has a peer, and it is not `b`.
    two_pods(&duo, "accelerate within own\ngroup own = a")?;
    let books = ask_peer(&duo, "0.0.0.0:15003", "192.168.7.1:8088")?;
    assert_eq!((books.short, books.long), (0, 0));
    Ok(())
}
