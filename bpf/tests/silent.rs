//! Programs count and report; they never print. Printing to the kernel's trace pipe for each connection costs another
//! mesh most of what its acceleration gains.

#![expect(clippy::disallowed_methods, reason = "the test reads files")]

use std::fs;
use std::path::Path;

#[test]
fn no_program_prints() {
    let mut sources = 0;
    for dir in ["programs", "include"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "c" || extension == "h") {
                let text = fs::read_to_string(&path).unwrap();
                assert!(!text.contains("printk"), "{}", path.display());
                sources += 1;
            }
        }
    }
    assert!(sources > 15, "{sources} sources");
}
