//! A denied connection fails at once, and says why as the kernel can.

use mesh_testbed::{Client, Tested};

use crate::fixtures::backend::{Backend, by_each_backend};
use crate::fixtures::seen::Seen;
use crate::fixtures::stage::{Stage, address, as_member};

by_each_backend! { a_denied_connection_fails_at_once }

fn a_denied_connection_fails_at_once(by: Backend) -> Tested {
    let stage = Stage::ruled_by(by, "redirect outbound -> 15001\ndeny outbound tcp 25")?;
    let (v4, v6) = (address("10.0.3.9:25")?, address("[fd10::9]:25")?);
    for client in [Client::to(v4), Client::to(v6), Client::to(v4).mapped(), Client::to(v4).nonblocking()] {
        let denied = as_member(&stage.cart(), || client.dial())?;
        assert_eq!(denied, Err(by.denied()), "{client:?}");
    }
    assert_eq!(stage.dial("10.0.3.9:80")?, Seen::Redirected(15001));
    Ok(())
}
