//! Streams of calls of all sizes arrive as they were sent.

use std::io::Read;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Tested, long_runs_are_wanted};

use crate::fixtures::duo::{Duo, End, SHAPES, pattern};

/// Sends `total` bytes by calls of all shapes, beginning with one of them, and returns their digest.
pub(super) fn send_shapes(end: &mut End<'_>, total: usize, first: usize) -> Result<String, Errno> {
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
