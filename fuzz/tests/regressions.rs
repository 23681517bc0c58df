//! Every input that once broke a law. The first line of a `.mesh` file, or the name of a file of bytes, says
//! what broke.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use mesh_fuzz::random::Random;
use mesh_fuzz::{Held, law};

/// Every input of a directory with its path.
fn inputs(of: &str) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(of);
    let paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<BTreeSet<_>>>()?;
    paths.into_iter().map(|path| fs::read(&path).map(|bytes| (path, bytes))).collect()
}

#[track_caller]
fn replay(of: &str, law: impl Fn(&[u8]) -> Held) {
    let inputs = inputs(of).unwrap_or_default();
    assert!(!inputs.is_empty(), "no inputs in {of}");
    for (path, bytes) in inputs {
        let held = law(&bytes);
        assert!(
            held.is_ok(),
            "{}: {}",
            path.display(),
            held.err().map_or_else(String::new, |b| b.to_string())
        );
    }
}

#[test]
fn programs_that_once_broke_a_law_keep_it() {
    replay("program", |bytes| {
        law::text(bytes)?;
        // What is moved about differs each time: the mistake may need one order.
        (0..8).try_for_each(|seed| law::program(&String::from_utf8_lossy(bytes), &mut Random::new(seed)))
    });
}

#[test]
fn artifacts_that_once_broke_a_law_keep_it() {
    replay("artifact", law::artifact);
}

#[test]
fn flows_that_once_broke_a_law_keep_it() {
    replay("flow", |bytes| law::flow(&String::from_utf8_lossy(bytes)));
}
