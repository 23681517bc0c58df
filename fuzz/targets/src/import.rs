//! Choices as objects of a cluster and as rules, and any bytes as such: read, and written as a policy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_fuzz::choice::Choices;
use mesh_fuzz::{cluster, law, ruleset};

fuzz_target!(|bytes: &[u8]| {
    law::import(bytes).unwrap_or_else(|broken| panic!("{broken}"));
    let (first, rest) = bytes.split_at(bytes.len().min(1));
    let text = [first, cluster::cluster(&mut Choices::new(rest)).as_bytes()].concat();
    law::import(&text).unwrap_or_else(|broken| panic!("{broken}\nof\n{}", String::from_utf8_lossy(&text)));
    let text = [&[law::RULES][..], ruleset::ruleset(&mut Choices::new(rest)).as_bytes()].concat();
    law::import(&text).unwrap_or_else(|broken| panic!("{broken}\nof\n{}", String::from_utf8_lossy(&text)));
});
