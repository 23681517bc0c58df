//! The laws on programs and bytes from seeds: a short run on every machine of what `fuzz/run` does for hours.

use mesh_fuzz::choice::Choices;
use mesh_fuzz::random::Random;
use mesh_fuzz::{cluster, law, program, ruleset};

const SEEDS: u64 = 150;

#[test]
fn random_programs_keep_the_laws() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let length = 40 + random.below(600);
        let text = program::program(&mut Choices::new(&random.bytes(length)));
        if let Err(broken) = law::program(&text, &mut random).and_then(|()| law::text(text.as_bytes())) {
            panic!("seed {seed}: {broken}\nof\n{text}");
        }
    }
}

#[test]
fn damaged_programs_keep_the_laws() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut bytes = program::program(&mut Choices::new(&random.bytes(300))).into_bytes();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, b"{}[],;\"#->=\n 0\xff"[random.below(15)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(broken) = law::text(&bytes).and_then(|()| law::program(&text, &mut random)) {
            panic!("seed {seed}: {broken}\nof\n{text}");
        }
    }
}

#[test]
fn damaged_artifacts_keep_the_laws() {
    for seed in 0..SEEDS * 4 {
        let bytes = Random::new(seed).bytes(250);
        if let Err(broken) = law::artifact(&bytes) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn edited_programs_keep_the_laws() {
    for seed in 0..SEEDS / 2 {
        let mut random = Random::new(seed);
        let length = 160 + random.below(80);
        if let Err(broken) = law::edited(&random.bytes(length)) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn rulesets_of_random_programs_keep_the_laws() {
    let mut compile = 0;
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let length = 40 + random.below(600);
        let text = program::program(&mut Choices::new(&random.bytes(length)));
        let Some(compiled) = compiled(&text) else { continue };
        compile += 1;
        if let Err(broken) = law::ruleset(&compiled, &mut random) {
            panic!("seed {seed}: {broken}\nof\n{text}");
        }
    }
    assert!(compile > 40, "{compile} of {SEEDS} compile");
    let compiled = compiled(include_str!("everything.mesh")).expect("it compiles");
    for seed in 0..20 {
        if let Err(broken) = law::ruleset(&compiled, &mut Random::new(seed)) {
            panic!("everything.mesh, seed {seed}: {broken}");
        }
    }
}

#[test]
fn damaged_answers_of_a_kernel_keep_the_laws() {
    for seed in 0..SEEDS * 4 {
        let mut random = Random::new(seed);
        let mut bytes = answer();
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes.truncate(at.max(1)),
                _ => bytes[at] = random.below(256) as u8,
            }
        }
        if let Err(broken) = law::answer(&bytes) {
            panic!("seed {seed}: {broken}");
        }
    }
}

/// What a kernel answers about a chain, a map and a counter, and that it is done.
fn answer() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name) in [(3u8, 3u8), (9, 2), (18, 2), (15, 1)] {
        let attribute = |kind: u8, text: &[u8]| {
            let mut bytes = vec![4 + text.len() as u8, 0, kind, 0];
            bytes.extend_from_slice(text);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let count = [attribute(1, &[0; 8]), attribute(2, &[0, 0, 0, 0, 0, 0, 0, 7])].concat();
        let parts =
            [attribute(1, b"meshc-a\0"), attribute(name, b"h0123456789abcdef\0"), attribute(4, &count)];
        let parts = parts.concat();
        bytes.extend_from_slice(&(20 + parts.len() as u32).to_ne_bytes());
        bytes.extend_from_slice(&[kind, 10, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        bytes.extend_from_slice(&parts);
    }
    bytes
}

fn compiled(text: &str) -> Option<mesh_compiler::compile::Compiled> {
    use mesh_compiler::resolve::{Location, NoImports};
    let place = Location { key: "a".to_owned(), name: "a".to_owned() };
    mesh_compiler::compile::compile(vec![(place, text.as_bytes().to_vec())], &mut NoImports, None).compiled
}

/// What means something in YAML.
const DAMAGE: &[u8] = b"{}[],:'\"#->&*!|%@` \n\t\xff";

#[test]
fn random_clusters_keep_the_laws() {
    for seed in 0..SEEDS * 4 {
        let mut random = Random::new(seed);
        let length = 20 + random.below(200);
        let mut bytes = vec![random.below(256) as u8];
        bytes.extend(cluster::cluster(&mut Choices::new(&random.bytes(length))).into_bytes());
        // Every second is damaged.
        for _ in 0..(seed % 2) * 3 {
            let at = 1 + random.below(bytes.len() - 1);
            match random.below(3) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, DAMAGE[random.below(DAMAGE.len())]),
                _ => bytes.truncate(at.max(2)),
            }
        }
        if let Err(broken) = law::import(&bytes) {
            panic!("seed {seed}: {broken}\nof\n{}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn random_rules_keep_the_laws() {
    for seed in 0..SEEDS * 4 {
        let mut random = Random::new(seed);
        let length = 20 + random.below(300);
        let mut bytes = vec![law::RULES + (seed % 2) as u8];
        bytes.extend(ruleset::ruleset(&mut Choices::new(&random.bytes(length))).into_bytes());
        // Every third is damaged.
        if seed % 3 == 0 {
            let at = 1 + random.below(bytes.len() - 1);
            match random.below(3) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, DAMAGE[random.below(DAMAGE.len())]),
                _ => bytes.truncate(at.max(2)),
            }
        }
        if let Err(broken) = law::import(&bytes) {
            panic!("seed {seed}: {broken}\nof\n{}", String::from_utf8_lossy(&bytes));
        }
    }
}

/// Without this the others would hold of programs that are all refused.
#[test]
fn most_random_programs_compile() {
    use mesh_compiler::compile::{Inventory, compile};
    use mesh_compiler::resolve::{Location, NoImports};
    let compiles = |seed: &u64| {
        let text = program::program(&mut Choices::new(&Random::new(*seed).bytes(300)));
        let place = Location { key: "a".to_owned(), name: "a".to_owned() };
        let inventory = Inventory { services: program::services(), endpoints: None };
        compile(vec![(place, text.into_bytes())], &mut NoImports, Some(inventory)).compiled.is_some()
    };
    let count = (0..200).filter(compiles).count();
    assert!(count > 80, "{count} of 200");
}
