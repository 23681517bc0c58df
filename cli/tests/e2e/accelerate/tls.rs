//! Connections that turn TLS of the kernel on in mid-stream.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Errno, Failure, Tested, set_raw_option};

use crate::fixtures::duo::{Duo, End, pattern};

const SOL_TCP: i32 = 6;
const TCP_ULP: i32 = 31;
const SOL_TLS: i32 = 282;
const TLS_TX: i32 = 1;
const TLS_RX: i32 = 2;

/// `struct tls12_crypto_info_aes_gcm_128`: TLS 1.2 with keys that only a test can have.
fn keys(of: u8) -> [u8; 40] {
    const VERSION: [u8; 2] = 0x0303_u16.to_ne_bytes();
    const AES_GCM_128: [u8; 2] = 51_u16.to_ne_bytes();
    let mut info = [of; 40];
    info[..2].copy_from_slice(&VERSION);
    info[2..4].copy_from_slice(&AES_GCM_128);
    info[32..].fill(0);
    info
}

/// Turns it on for both directions; says whether the kernel took the keys. Newer ones do not for accelerated sockets.
fn turn_on(end: &End<'_>, own: u8, other: u8) -> Result<bool, Errno> {
    set_raw_option(end.stream.as_fd(), SOL_TCP, TCP_ULP, b"tls")?;
    match set_raw_option(end.stream.as_fd(), SOL_TLS, TLS_TX, &keys(own)) {
        Err(Errno::EINVAL) => return Ok(false),
        taken => taken?,
    }
    set_raw_option(end.stream.as_fd(), SOL_TLS, TLS_RX, &keys(other))?;
    Ok(true)
}

/// Whether the kernel has it; where it was promised (`MESHC_TEST_TLS=1`, by the test that boots such a kernel) it has.
fn tls_is_there() -> Result<bool, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let answer = set_raw_option(stream.as_fd(), SOL_TCP, TCP_ULP, b"tls");
    let promised = std::env::var_os("MESHC_TEST_TLS").is_some_and(|value| value == "1");
    if let Err(error) = answer {
        if promised {
            return Err(format!("no TLS in this kernel: {error}").into());
        }
        eprintln!("not run: no TLS in this kernel ({error}); the boot tests run it on another one");
    }
    Ok(answer.is_ok())
}

#[test]
fn who_turns_tls_of_the_kernel_on_carries_the_same_by_the_long_way() -> Tested {
    if !tls_is_there()? {
        return Ok(());
    }
    let duo = Duo::new()?;
    let rounds = |end: &mut End<'_>, asks: bool| {
        let mut right = 0;
        for size in [1, 1000, 40_000, 16_384].into_iter().cycle().take(20) {
            if asks {
                end.send(&pattern(size))?;
            }
            right += usize::from(end.take(size)? == pattern(size));
            if !asks {
                end.send(&pattern(size))?;
            }
        }
        Ok::<_, Errno>(right)
    };
    let mut taken = Vec::new();
    for accelerated in [false, true] {
        duo.apply(accelerated)?;
        let (near, far) = duo.run(
            |end| {
                let plain = rounds(end, true)?;
                let on = turn_on(end, 1, 2)?;
                end.tell("tried")?;
                end.wait("tried")?;
                Ok((on, plain, rounds(end, true)?))
            },
            |end| {
                let plain = rounds(end, false)?;
                // One end after the other.
                end.wait("tried")?;
                let on = turn_on(end, 2, 1)?;
                end.tell("tried")?;
                // Where the keys were refused, a library encrypts by itself: here plain bytes stand for those.
                Ok((on, plain, rounds(end, false)?))
            },
        )?;
        let ((near_on, near_plain, near_after), (far_on, far_plain, far_after)) = (near?, far?);
        assert_eq!((near_plain, near_after, far_plain, far_after), (20, 20, 20, 20), "{accelerated}");
        assert_eq!(near_on, far_on, "{accelerated}");
        taken.push(near_on);
    }
    assert_eq!(taken.first(), Some(&true), "without acceleration the kernel takes the keys");
    println!("with acceleration the kernel takes the keys: {:?}", taken.last());
    let counts = duo.counts()?;
    assert!(counts.messages["upper_protocol"].as_u64() > Some(0), "{counts:?}");
    // Nothing of what is encrypted went past the stack: the plain rounds are less than this.
    assert!(counts.fast < 2 * 20 * 16_000, "{counts:?}");
    Ok(())
}
