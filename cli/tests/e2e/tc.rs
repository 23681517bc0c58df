//! The tests of inbound connections once more, decided by tc, and what only that way could break.

const WAY: &str = "tc";

#[path = "inbound.rs"]
mod inbound;
#[path = "lasting.rs"]
mod lasting;
#[path = "offers.rs"]
mod offers;
