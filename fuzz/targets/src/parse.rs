//! Any bytes as a policy: read, formatted, compiled.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_fuzz::law;
use mesh_fuzz::random::Random;

fuzz_target!(|bytes: &[u8]| {
    law::text(bytes).unwrap_or_else(|broken| panic!("{broken}"));
    let mut random = Random::of_bytes(bytes);
    law::program(&String::from_utf8_lossy(bytes), &mut random).unwrap_or_else(|broken| panic!("{broken}"));
});
