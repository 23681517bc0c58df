//! Whole random programs: compiled, proved, packed, moved about. What breaks is shown as a policy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_fuzz::choice::Choices;
use mesh_fuzz::random::Random;
use mesh_fuzz::{law, program};

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let text = program::program(&mut choices);
    let mut random = Random::of_bytes(bytes);
    law::program(&text, &mut random).unwrap_or_else(|broken| panic!("{broken}\nof\n{text}"));
});
