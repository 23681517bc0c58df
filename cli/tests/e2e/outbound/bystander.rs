//! Who is no member notices nothing.

use std::os::fd::AsFd;

use mesh_testbed::kernel_test as test;
use mesh_testbed::{Client, Level, Tested, original_destination, raw_option};

use crate::fixtures::seen::{Seen, seen};
use crate::fixtures::stage::{Stage, address, as_member};

#[test]
fn a_process_beside_the_members_is_not_touched() -> Tested {
    let stage = Stage::new()?;
    stage.apply_rules("redirect outbound -> 15001\ndeny outbound tcp 25")?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001), "the member is");
    for target in ["10.0.3.9:80", "[fd10::9]:80", "10.0.3.9:25"] {
        let target = address(target)?;
        let seen = as_member(&stage.beside(), || seen(&Client::to(target), target))?;
        assert_eq!(seen, Seen::Straight, "{target}");
    }
    Ok(())
}

#[test]
fn socket_options_answer_the_same_with_and_without_programs() -> Tested {
    let stage = Stage::new()?;
    let target = address("10.0.3.9:80")?;
    let answers = || -> Result<_, mesh_testbed::Failure> {
        as_member(&stage.beside(), || {
            let stream = Client::to(target).open()?;
            let socket = stream.socket().as_fd();
            let mut answers = Vec::new();
            for (level, option, length) in OPTIONS {
                answers.push(raw_option(socket, level, option, length));
            }
            let original = [Level::V4, Level::V6].map(|level| original_destination(socket, level).is_ok());
            Ok::<_, mesh_testbed::Errno>((answers, original))
        })?
        .map_err(Into::into)
    };
    let before = answers()?;
    stage.apply_rules("redirect outbound -> 15001")?;
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001), "the programs are attached");
    assert_eq!(answers()?, before);
    Ok(())
}

/// Level, option and length: of both levels that proxies ask, the same number at other levels, and more than
/// the 4096 bytes that a program can see.
const OPTIONS: [(i32, i32, u32); 7] = [
    (1, 3, 4),     // SOL_SOCKET, SO_TYPE
    (6, 1, 4),     // SOL_TCP, TCP_NODELAY
    (6, 80, 16),   // SOL_TCP, the number of SO_ORIGINAL_DST: no such option
    (1, 80, 16),   // SOL_SOCKET, the same number
    (0, 2, 4),     // SOL_IP, IP_TTL
    (1, 3, 8192),  // more than a page
    (6, 13, 5000), // SOL_TCP, TCP_CONGESTION, more than a page
];
