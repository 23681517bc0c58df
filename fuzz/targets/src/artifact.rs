//! Any bytes as an artifact, and artifacts with changes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_fuzz::law;

fuzz_target!(|bytes: &[u8]| {
    law::artifact(bytes).unwrap_or_else(|broken| panic!("{broken}"));
});
