//! Streams of gigabytes, both ways at once, by calls of every kind and size, while acceleration is switched on and off.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Tested, long_runs_are_wanted, until};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg, sockopt};

use crate::fixtures::duo::{Duo, pattern};

/// After this many bytes they come again: no size of a call divides it.
const PERIOD: usize = (4 << 20) + 7;

/// The largest call.
const LARGEST: usize = 1 << 20;

/// Numbers that look like chance, the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % below.max(1)
    }

    /// One byte up to a mebibyte, each magnitude as often as the others.
    fn size(&mut self) -> usize {
        let magnitude = self.next(21);
        (1 << magnitude) + self.next(1 << magnitude).min(LARGEST - (1 << magnitude))
    }
}

/// What every stream consists of, long enough that any call's part is in one piece.
fn material() -> Vec<u8> {
    let mut bytes = pattern(PERIOD);
    bytes.extend_from_within(..LARGEST);
    bytes
}

/// Sends `total` bytes by calls of all kinds, and ends its half. Returns their digest.
fn sends(mut stream: &TcpStream, seed: u64, total: usize) -> Result<String, Errno> {
    let (bytes, mut dice, mut hash) = (material(), Dice(seed), blake3::Hasher::new());
    let mut sent = 0;
    while sent < total {
        let size = dice.size().min(total - sent);
        let part = bytes.get(sent % PERIOD..sent % PERIOD + size).unwrap_or_default();
        let (first, rest) = part.split_at(dice.next(size));
        let (second, third) = rest.split_at(dice.next(rest.len()));
        let parts = [first, second, third].map(IoSlice::new);
        let more = if dice.next(2) == 0 { SendFlags::MORE } else { SendFlags::empty() };
        let count = match dice.next(8) {
            0 => send(stream, part, more)?,
            1 => sendmsg(stream, &parts, &mut SendAncillaryBuffer::default(), more)?,
            2 => {
                sockopt::set_tcp_nodelay(stream, dice.next(2) == 0)?;
                stream.write_vectored(&parts)?
            }
            3 => {
                sockopt::set_tcp_cork(stream, dice.next(2) == 0)?;
                stream.write(part)?
            }
            4 | 5 => stream.write_vectored(&parts)?,
            _ => stream.write(part)?,
        };
        hash.update(part.get(..count).unwrap_or_default());
        sent += count;
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(hash.finalize().to_hex().to_string())
}

/// Reads to the end by calls of all kinds. Returns how much it was, its digest, and where the first byte was that was
/// not as it should be.
fn reads(mut stream: &TcpStream, seed: u64) -> Result<(usize, String, Option<usize>), Errno> {
    let (bytes, mut dice, mut hash) = (material(), Dice(seed), blake3::Hasher::new());
    let mut room = vec![0; LARGEST];
    let (mut taken, mut wrong, mut empty) = (0, None, 0);
    loop {
        let size = dice.size();
        let part = room.get_mut(..size).unwrap_or_default();
        let began = std::time::Instant::now();
        let read = match dice.next(4) {
            0 => {
                let (first, rest) = part.split_at_mut(dice.next(size));
                let (second, third) = rest.split_at_mut(rest.len() / 2);
                stream.read_vectored(&mut [first, second, third].map(IoSliceMut::new))
            }
            1 => recv(stream, part, RecvFlags::empty()).map(|(_, count)| count).map_err(Into::into),
            _ => stream.read(part),
        };
        let count = match read {
            Ok(0) if size > 0 => return Ok((taken, hash.finalize().to_hex().to_string(), wrong)),
            Ok(count) => count,
            // Woken while the other thread writes: documented. Whoever reads nothing for so often stalls.
            Err(error)
                if error.kind() == ErrorKind::WouldBlock
                    && empty < 100_000
                    && began.elapsed() < Duration::from_secs(15) =>
            {
                empty += 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (got, at) = (room.get(..count).unwrap_or_default(), taken % PERIOD);
        if wrong.is_none() && bytes.get(at..at + count) != Some(got) {
            let same = got.iter().zip(bytes.iter().skip(at)).take_while(|(got, sent)| got == sent).count();
            wrong = Some(taken + same);
        }
        hash.update(got);
        taken += count;
    }
}

#[test]
fn gigabytes_both_ways_at_once_arrive_as_they_were_sent_while_acceleration_is_switched() -> Tested {
    let total = if long_runs_are_wanted() { 12 << 30 } else { 512 << 20 };
    let duo = Duo::new()?;
    duo.apply(true)?;
    let both = |stream: &TcpStream, seed: u64| {
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || {
                // Whoever cannot go on ends, or both would wait.
                sends(stream, seed, total).inspect_err(|_| drop(stream.shutdown(Shutdown::Both)))
            });
            let read = reads(stream, seed ^ 0x5555);
            Ok((writing.join().map_err(|_| Errno(0))??, read?))
        })
    };
    let (ended, switches) = std::thread::scope(|scope| {
        let run = scope.spawn(|| duo.run(|end| both(&end.stream, 1), |end| both(&end.stream, 2)));
        // What is opened while the mesh is paused is not redirected.
        let begun = until(Duration::from_secs(15), || duo.counts().is_ok_and(|counts| counts.fast > 0));
        assert!(begun, "no byte took the fast path");
        let mut switches = 0;
        // On a busy machine it may all be carried before the second switch.
        while !run.is_finished() || switches < 2 {
            let step = match switches % 4 {
                0 => duo.stage.ask(&["pause"]),
                1 => duo.stage.ask(&["resume"]),
                2 => duo.apply(false),
                _ => duo.apply(true),
            };
            step?;
            switches += 1;
            // Accelerated, for longer than not.
            let pause = if switches % 2 == 0 { 100 } else { 30 };
            std::thread::sleep(Duration::from_millis(pause));
        }
        Ok::<_, mesh_testbed::Failure>((run.join().map_err(|_| "a panic")??, switches))
    })?;
    let ((near_sent, near_read), (far_sent, far_read)) = (ended.0?, ended.1?);
    assert_eq!(near_read, (total, far_sent, None), "what the client read");
    assert_eq!(far_read, (total, near_sent, None), "what the server read");
    duo.apply(true)?;
    let counts = duo.counts()?;
    println!("{switches} switches, {counts:?}");
    assert!(switches > 1 && counts.messages["off"].as_u64() > Some(0), "{counts:?}");
    assert!(counts.fast > (total / 100) as u64, "{counts:?}");
    Ok(())
}
