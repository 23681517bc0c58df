//! What applications set on their sockets, and then expect of them: low-water marks, urgent data, sending without a
//! copy. Each case runs without and with acceleration.

use std::io::{IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Errno, Tested, allow_zero_copy, send_zero_copy, set_raw_option, zero_copied};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use socket2::Protocol;

use crate::fixtures::duo::{Duo, End, SIDECAR, TARGET, ends, listener, pattern, ready};
use crate::fixtures::stage::address;

/// What a reader with a low-water mark waits for.
const MARK: usize = 1000;

/// How often a case is repeated on one connection.
const ROUNDS: usize = 20;

const SOL_SOCKET: i32 = 1;
const SO_RCVLOWAT: i32 = 18;
const SO_ZEROCOPY: i32 = 60;

/// `SO_RCVLOWAT`: the socket is ready to be read where so much is there.
fn set_mark(end: &End<'_>, mark: usize) -> Result<(), Errno> {
    let mark = u32::try_from(mark).map_err(|_| Errno::EINVAL)?;
    set_raw_option(end.stream.as_fd(), SOL_SOCKET, SO_RCVLOWAT, &mark.to_ne_bytes())
}

/// Whether the socket says now that it can be read.
fn is_ready(end: &End<'_>) -> Result<bool, Errno> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&end.stream, PollFlags::IN)], Some(&now));
    Ok(ready? > 0)
}

/// Sends what the reader waits for in two parts, and waits for the answer to the whole.
fn in_two_parts(end: &mut End<'_>) -> Result<(), Errno> {
    let bytes = pattern(MARK);
    let (first, second) = bytes.split_at(600);
    for _ in 0..ROUNDS {
        end.send(first)?;
        end.tell("a part")?;
        end.wait("seen")?;
        end.send(second)?;
        end.take(1)?;
    }
    Ok(())
}

/// Reads the same; says how often it was ready for a part, and how often the whole was not there at once.
fn wholes(end: &mut End<'_>) -> Result<(usize, usize), Errno> {
    let (mut early, mut torn) = (0, 0);
    for _ in 0..ROUNDS {
        end.wait("a part")?;
        early += usize::from(is_ready(end)?);
        end.tell("seen")?;
        ready(end, PollFlags::IN)?;
        let mut room = vec![0; MARK];
        let (_, count) = recv(&end.stream, &mut room, RecvFlags::empty())?;
        torn += usize::from(count < MARK);
        if count < MARK {
            room.truncate(count);
            room.extend(end.take(MARK - count)?);
        }
        if room != pattern(MARK) {
            return Err(Errno::EINVAL);
        }
        end.send(b"!")?;
    }
    Ok((early, torn))
}

#[test]
fn a_reader_that_sets_a_low_water_mark_before_it_reads_is_woken_for_nothing_less() -> Tested {
    let duo = Duo::new()?;
    let seen = duo.both_ways(|| {
        let (near, far) = duo.run_strangers(in_two_parts, |end| {
            set_mark(end, MARK)?;
            wholes(end)
        })?;
        near?;
        Ok(far?)
    })?;
    assert_eq!(seen, (0, 0));
    let counts = duo.counts()?;
    assert!(counts.messages["reader_low_water"].as_u64() > Some(0), "{counts:?}");
    Ok(())
}

#[test]
fn a_reader_that_sets_a_low_water_mark_between_two_messages_is_woken_for_nothing_less() -> Tested {
    let duo = Duo::new()?;
    let seen = duo.both_ways(|| {
        let (near, far) = duo.run(
            |end| {
                end.send(&pattern(5000))?;
                end.take(1)?;
                in_two_parts(end)?;
                // Set back to one byte: all is as before.
                end.wait("set back")?;
                end.send(&pattern(300))
            },
            |end| {
                let first = end.take(5000)? == pattern(5000);
                set_mark(end, MARK)?;
                end.send(b"!")?;
                let seen = wholes(end)?;
                set_mark(end, 1)?;
                end.tell("set back")?;
                ready(end, PollFlags::IN)?;
                Ok((first, seen, end.take(300)? == pattern(300)))
            },
        )?;
        near?;
        Ok(far?)
    })?;
    assert_eq!(seen, (true, (0, 0), true));
    let counts = duo.counts()?;
    assert_eq!(counts.messages["reader_low_water"].as_u64(), Some(ROUNDS as u64), "{counts:?}");
    Ok(())
}

#[test]
fn a_reader_that_sets_a_low_water_mark_over_unread_bytes_is_woken_early_and_never_waits_in_vain() -> Tested {
    let duo = Duo::new()?;
    // Whether the reader takes what it is woken for before the rest comes. It waits in `poll`: who waits in `read`
    // with a mark may stall with plain TCP, too, which takes a part and is not woken for the rest.
    for takes_at_once in [true, false] {
        for accelerated in [false, true] {
            duo.apply(accelerated)?;
            let before = duo.counts()?;
            let (near, far) = duo.run(
                |end| {
                    for _ in 0..ROUNDS {
                        end.send(&pattern(100))?;
                        end.tell("sent")?;
                        end.wait("set")?;
                        end.send(&pattern(900))?;
                        end.take(1)?;
                    }
                    Ok(())
                },
                |end| {
                    let (mut early, mut whole) = (0, 0);
                    for _ in 0..ROUNDS {
                        end.wait("sent")?;
                        set_mark(end, MARK)?;
                        let at_once = is_ready(end)?;
                        early += usize::from(at_once);
                        let mut bytes = Vec::new();
                        if at_once && takes_at_once {
                            bytes = end.take(100)?;
                        }
                        end.tell("set")?;
                        while bytes.len() < MARK {
                            ready(end, PollFlags::IN)?;
                            let mut room = vec![0; MARK - bytes.len()];
                            let count = end.stream.read(&mut room)?;
                            bytes.extend_from_slice(room.get(..count).unwrap_or_default());
                        }
                        whole += usize::from(bytes == [pattern(100), pattern(900)].concat());
                        end.send(b"!")?;
                    }
                    Ok((early, whole))
                },
            )?;
            near?;
            let case = format!("takes at once: {takes_at_once}, accelerated: {accelerated}");
            let (early, whole) = far?;
            assert_eq!(whole, ROUNDS, "{case}");
            assert_eq!(early > 0, accelerated, "{case}: {early}");
            assert_eq!(duo.counts()?.fast > before.fast, accelerated, "{case}");
        }
    }
    Ok(())
}

/// Sends one urgent byte, by `send` or by `sendmsg`.
fn send_urgent(end: &End<'_>, byte: &[u8], as_message: bool) -> Result<(), Errno> {
    let sent = if as_message {
        let (part, mut nothing) = ([IoSlice::new(byte)], SendAncillaryBuffer::default());
        sendmsg(&end.stream, &part, &mut nothing, SendFlags::OOB)
    } else {
        send(&end.stream, byte, SendFlags::OOB)
    };
    sent?;
    Ok(())
}

#[test]
fn urgent_data_is_urgent_and_plain_bytes_keep_their_places() -> Tested {
    let duo = Duo::new()?;
    for as_message in [false, true] {
        let counted = duo.counter("urgent_sent")?;
        let heard = duo.both_ways(|| {
            let (near, far) = duo.run(
                |end| {
                    end.send(&pattern(10_000))?;
                    end.take(1)?;
                    for (plain, byte) in [(b"one", b"1"), (b"two", b"2"), (b"six", b"6")] {
                        send_urgent(end, byte, as_message)?;
                        end.send(plain)?;
                        end.tell("urgent")?;
                        end.wait("read")?;
                    }
                    end.send(&pattern(50_000))?;
                    end.stream.shutdown(Shutdown::Write)?;
                    // Whoever is blocked in `read` is woken when the end of its half is acknowledged.
                    ready(end, PollFlags::IN)?;
                    end.rest()
                },
                |end| {
                    let mut heard = Vec::new();
                    end.take(10_000)?;
                    end.send(b"!")?;
                    for _ in 0..3 {
                        end.wait("urgent")?;
                        let mut room = [0; 10];
                        ready(end, PollFlags::PRI)?;
                        let (_, urgent) = recv(&end.stream, &mut room, RecvFlags::OOB)?;
                        heard.push(
                            String::from_utf8_lossy(room.get(..urgent).unwrap_or_default()).into_owned(),
                        );
                        heard.push(String::from_utf8_lossy(&end.take(3)?).into_owned());
                        end.tell("read")?;
                    }
                    let whole = end.rest()? == pattern(50_000);
                    end.send(b"done")?;
                    Ok((heard, whole))
                },
            )?;
            assert_eq!(near?, b"done");
            Ok(far?)
        })?;
        assert_eq!(heard, (["1", "one", "2", "two", "6", "six"].map(str::to_owned).to_vec(), true));
        assert_eq!(duo.counter("urgent_sent")? - counted, 3);
        let counts = duo.counts()?;
        assert!(counts.messages["urgent"].as_u64() >= Some(6), "all from the first on: {counts:?}");
    }
    Ok(())
}

#[test]
fn who_asks_for_urgent_data_before_it_has_read_what_came_past_the_stack_gets_that_first() -> Tested {
    let duo = Duo::new()?;
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let before = duo.counts()?.fast;
        let (near, far) = duo.run(
            |end| {
                end.send(b"one")?;
                send_urgent(end, b"1", false)?;
                end.tell("urgent")?;
                end.wait("read")?;
                end.send(b"end")
            },
            |end| {
                end.wait("urgent")?;
                ready(end, PollFlags::PRI)?;
                let mut heard = Vec::new();
                for _ in 0..2 {
                    let mut room = [0; 10];
                    let count = recv(&end.stream, &mut room, RecvFlags::OOB).map_or(0, |(_, count)| count);
                    heard.push(String::from_utf8_lossy(room.get(..count).unwrap_or_default()).into_owned());
                }
                end.tell("read")?;
                let rest = if accelerated { end.take(3)? } else { end.take(6)? };
                heard.push(String::from_utf8_lossy(&rest).into_owned());
                Ok(heard)
            },
        )?;
        near?;
        // The kernel's sockmap does not look at MSG_OOB: documented.
        let expected = if accelerated { ["one", "1", "end"] } else { ["1", "", "oneend"] };
        assert_eq!(far?, expected);
        assert_eq!(duo.counts()?.fast > before, accelerated);
    }
    Ok(())
}

#[test]
fn the_first_byte_of_a_connection_may_be_urgent() -> Tested {
    let duo = Duo::new()?;
    // The very first thing that is sent: it takes the slow path, since nobody has read yet.
    let heard = duo.both_ways(|| {
        let (near, far) = duo.run_strangers(
            |end| {
                send_urgent(end, b"!", false)?;
                end.send(b"plain")?;
                end.tell("sent")?;
                end.take(5)?;
                end.send(b"more")?;
                end.take(5)
            },
            |end| {
                end.wait("sent")?;
                let mut room = [0; 1];
                let (_, urgent) = recv(&end.stream, &mut room, RecvFlags::OOB)?;
                let plain = end.take(5)?;
                end.send(b"heard")?;
                let more = end.take(4)?;
                end.send(b"heard")?;
                Ok((urgent, room, plain, more))
            },
        )?;
        near?;
        Ok(far?)
    })?;
    assert_eq!(heard, (1, *b"!", b"plain".to_vec(), b"more".to_vec()));
    Ok(())
}

/// How many messages the sender of these cases sends without a copy.
const CALLS: usize = 12;

/// Sends them, each when the one before is answered; says by how many calls, and of which it was told that they are
/// done.
fn without_copies(end: &mut End<'_>) -> Result<(u32, Vec<u32>), Errno> {
    let (bytes, mut calls) = (pattern(150_000), 0);
    for _ in 0..CALLS {
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let count = send_zero_copy(end.stream.as_fd(), left)?;
            left = left.get(count..).unwrap_or_default();
            calls += 1;
        }
        // Whoever is blocked in `read` is woken when a copy is done, and may have to ask again: here the answer is
        // there.
        end.wait("answered")?;
        end.take(1)?;
    }
    // All is read at the other end, so that nothing is still to be told.
    let mut told = Vec::new();
    while let Some((from, to)) = zero_copied(end.stream.as_fd())? {
        told.extend(from..=to);
    }
    told.sort_unstable();
    Ok((calls, told))
}

/// Reads the same; says whether all of it came as it was sent.
fn copies(end: &mut End<'_>) -> Result<bool, Errno> {
    let mut same = true;
    for _ in 0..CALLS {
        same &= end.take(150_000)? == pattern(150_000);
        end.send(b"!")?;
        end.tell("answered")?;
    }
    Ok(same)
}

#[test]
fn who_sends_without_a_copy_is_told_of_every_call_once_and_never_accelerated() -> Tested {
    let duo = Duo::new()?;
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let one = 1_u32.to_ne_bytes();
        let open = Client::to(address(TARGET)?).option(SOL_SOCKET, SO_ZEROCOPY, &one);
        let (beside, cart) = (duo.stage.beside(), duo.stage.cart());
        let (near, far) = duo.between(&beside, address(SIDECAR)?, &cart, open, without_copies, copies)?;
        let (calls, told) = near?;
        assert!(told.into_iter().eq(0..calls), "{calls} calls, accelerated: {accelerated}");
        assert!(far?);
        assert_eq!(duo.counter("not_eligible")?, u64::from(accelerated));
        assert_eq!((duo.counts()?.fast, duo.counts()?.slow), (0, 0), "it never entered");
    }
    Ok(())
}

#[test]
fn a_server_that_listens_with_sending_without_a_copy_is_told_of_every_call_once() -> Tested {
    let duo = Duo::new()?;
    let (listen, open) = (address(SIDECAR)?, Client::to(address(TARGET)?));
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let (near, far) = ends(
            &duo.stage.beside(),
            || {
                // What it accepts inherits it.
                let listener = listener(listen, None)?;
                allow_zero_copy(listener.as_fd())?;
                Ok(listener)
            },
            &duo.stage.cart(),
            || Ok(open.open()?.socket().try_clone()?),
            copies,
            without_copies,
        )?;
        let (calls, told) = far?;
        assert!(told.into_iter().eq(0..calls), "{calls} calls, accelerated: {accelerated}");
        assert!(near?);
        assert_eq!(duo.counter("not_eligible")?, u64::from(accelerated));
        let counts = duo.counts()?;
        // The client is in, and finds nobody.
        assert_eq!(counts.fast, 0, "{counts:?}");
        assert_eq!(counts.messages["no_peer"].as_u64() > Some(0), accelerated, "{counts:?}");
    }
    Ok(())
}

#[test]
fn who_turns_to_sending_without_a_copy_is_told_of_every_call_at_least_once() -> Tested {
    let duo = Duo::new()?;
    duo.both_ways(|| {
        let (near, far) = duo.run(
            |end| {
                end.send(&pattern(5000))?;
                end.take(1)?;
                allow_zero_copy(end.stream.as_fd())?;
                without_copies(end)
            },
            |end| {
                let first = end.take(5000)? == pattern(5000);
                end.send(b"!")?;
                Ok(copies(end)? && first)
            },
        )?;
        let (calls, told) = near?;
        let count = u32::try_from(told.len())?;
        // The kernel's sockmap takes one call for several: documented.
        assert!(count >= calls && told.into_iter().eq(0..count), "{calls} calls, told of {count}");
        assert!(far?);
        Ok(())
    })?;
    let counts = duo.counts()?;
    assert_eq!(counts.messages["zero_copy"].as_u64(), Some(CALLS as u64), "{counts:?}");
    Ok(())
}

#[test]
fn connections_with_mptcp_at_either_end_or_both_carry_the_same_and_subflows_never_enter() -> Tested {
    let duo = Duo::new()?;
    let rounds = |end: &mut End<'_>, asks: bool| {
        let mut hash = blake3::Hasher::new();
        for size in [1, 1000, 70_000, 7].into_iter().cycle().take(40) {
            if asks {
                end.send(&pattern(size))?;
            }
            hash.update(&end.take(size)?);
            if !asks {
                end.send(&pattern(size))?;
            }
        }
        Ok(hash.finalize().to_hex().to_string())
    };
    for (listens, dials) in [(false, true), (true, false), (true, true)] {
        for (listen, target) in [(SIDECAR, TARGET), ("[::1]:15005", "[fd10::9]:80")] {
            let (listen, target) = (address(listen)?, address(target)?);
            let mut digests = Vec::new();
            for accelerated in [false, true] {
                duo.apply(accelerated)?;
                let (before, unfit, full) =
                    (duo.counts()?, duo.counter("not_eligible")?, duo.counter("acceleration_full")?);
                let open = if dials { Client::to(target).multipath() } else { Client::to(target) };
                let protocol = listens.then_some(Protocol::MPTCP);
                let (near, far) = ends(
                    &duo.stage.beside(),
                    || listener(listen, protocol),
                    &duo.stage.cart(),
                    || Ok(open.open()?.socket().try_clone()?),
                    |end| rounds(end, true),
                    |end| rounds(end, false),
                )?;
                digests.extend([near?, far?]);
                let case =
                    format!("{target}, listens: {listens}, dials: {dials}, accelerated: {accelerated}");
                let after = duo.counts()?;
                // A client's subflow never enters. What a server of MPTCP accepts of TCP is TCP.
                let enters = accelerated && !dials;
                assert_eq!(after.fast > before.fast, enters, "{case}: {after:?}");
                assert_eq!(duo.counter("not_eligible")? > unfit, accelerated && dials, "{case}");
                assert_eq!(duo.counter("acceleration_full")?, full, "{case}");
            }
            assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
        }
    }
    Ok(())
}

/// Reads nothing, as often as a reader does that polls.
fn read_in_vain(end: &End<'_>) -> Result<bool, Errno> {
    let mut room = [0; 1];
    let mut all = true;
    for _ in 0..32 {
        all &= recv(&end.stream, &mut room, RecvFlags::DONTWAIT).is_err();
    }
    Ok(all)
}

#[test]
fn a_reader_that_polls_gets_its_bytes_through_the_stack_until_it_sleeps_again() -> Tested {
    let duo = Duo::new()?;
    let seen = duo.both_ways(|| {
        let (near, far) = duo.run(
            |end| {
                end.send(&pattern(100))?;
                end.take(1)?;
                end.wait("polled")?;
                for byte in b"12345678" {
                    end.send(&[*byte])?;
                    end.take(1)?;
                }
                Ok(())
            },
            |end| {
                let first = end.take(100)? == pattern(100);
                end.send(b"!")?;
                let in_vain = read_in_vain(end)?;
                end.tell("polled")?;
                let mut others = Vec::new();
                for _ in 0..8 {
                    others.extend(end.take(1)?);
                    end.send(b"!")?;
                }
                Ok((first, in_vain, others))
            },
        )?;
        near?;
        Ok(far?)
    })?;
    assert_eq!(seen, (true, true, b"12345678".to_vec()));
    let counts = duo.counts()?;
    // The second may not know yet that its reader sleeps again; either may find bytes of the stack in flight first.
    let polled = counts.messages["reader_polls"].as_u64();
    assert!(polled == Some(1) || polled == Some(2), "{counts:?}");
    Ok(())
}
