//! Any text as a flow that `explain` is asked about.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_fuzz::law;

fuzz_target!(|bytes: &[u8]| {
    law::flow(&String::from_utf8_lossy(bytes)).unwrap_or_else(|broken| panic!("{broken}"));
});
