//! A random program, and edits of it as somebody types them: compiled version by version, and told to a language server.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_fuzz::law;

fuzz_target!(|bytes: &[u8]| {
    law::edited(bytes).unwrap_or_else(|broken| panic!("{broken}"));
});
