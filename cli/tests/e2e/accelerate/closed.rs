//! How an accelerated connection ends is how one of TCP ends.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Tested, long_runs_are_wanted};
use rustix::event::PollFlags;

use crate::fixtures::duo::{Duo, End, pattern, ready};

#[test]
fn either_end_may_close_its_half_first() -> Tested {
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
    let duo = Duo::new()?;
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let before = duo.counts()?.fast;
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
        let counted = duo.counter("closed_unread")?;
        let (expected, count) = if accelerated { ("Ok(0)", 1) } else { ("Err(ConnectionReset)", 0) };
        assert_eq!((near?.as_str(), counted), (expected, count), "accelerated: {accelerated}");
        assert_eq!(duo.counts()?.fast >= before + 1000, accelerated);
    }
    Ok(())
}

#[test]
fn an_idle_connection_goes_on_and_one_whose_peer_dies_ends() -> Tested {
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
