//! Readers that splice, from the first on or in mid-connection, lose no byte and see none out of order.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Tested};
use rustix::event::PollFlags;
use rustix::pipe::{SpliceFlags, pipe, splice};

use super::shapes::send_shapes;
use crate::fixtures::duo::{Duo, End, SHAPES, pattern, ready};

#[test]
fn a_reader_that_splices_from_the_first_is_never_accelerated() -> Tested {
    let duo = Duo::new()?;
    duo.apply(true)?;
    let total = 4 << 20;
    let (near, far) = duo.run_strangers(
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
    let counts = duo.counts()?;
    assert_eq!(counts.fast, 0, "{counts:?}");
    Ok(())
}

#[test]
fn a_reader_that_turns_to_splice_is_refused_or_noticed_and_no_byte_overtakes_another() -> Tested {
    let duo = Duo::new()?;
    duo.apply(true)?;
    let (near, far) = duo.run(
        |end| {
            end.send(b"short")?;
            end.tell("sent")?;
            end.wait("spliced")?;
            // Refused where the kernel let the reader splice, else over the slow path.
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
            let (_out, into) = pipe()?;
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
    let refused = status["acceleration"]["refuses_splice"] == true;
    assert_eq!(spliced, Err(refused), "`splice` sees nothing, or is refused: {status}");
    assert_eq!(duo.counter("splice_refused")? > 0, refused);
    assert_eq!(duo.counter("splice_stranded")? > 0, !refused);
    if refused {
        assert_eq!((near.as_str(), all.as_slice()), ("Ok(4) Ok(4)", &b"shortnextlast"[..]));
    } else {
        let denied = "Err(PermissionDenied) Err(PermissionDenied)";
        assert_eq!((near.as_str(), all.as_slice()), (denied, &b"short"[..]));
        assert!(duo.counts()?.messages["stranded"].as_u64() > Some(0), "{status}");
    }
    assert_eq!(status["acceleration"]["splice_readers"].as_array().map(Vec::len), Some(1), "{status}");
    // The program is known now: none of its connections gets anything over the fast path.
    let before = duo.counts()?;
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
    let after = duo.counts()?;
    assert_eq!(after.fast, before.fast, "{after:?}");
    assert!(after.messages["reader_splices"].as_u64() > Some(0), "{after:?}");
    Ok(())
}

/// Splices from the socket, as Go's `io.Copy` does, and returns the digest of what came.
fn splice_all(end: &mut End<'_>, total: usize) -> Result<String, Errno> {
    let (out, into) = pipe()?;
    let (mut taken, mut hash) = (0, blake3::Hasher::new());
    let mut out = std::fs::File::from(out);
    let mut room = vec![0; 1 << 16];
    while taken < total {
        let count = splice(&end.stream, None, &into, None, 1 << 16, SpliceFlags::empty())?;
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
