//! The laws on programs and bytes from seeds: a short run on every machine of what `fuzz/run` does for hours.

use mesh_fuzz::choice::Choices;
use mesh_fuzz::random::Random;
use mesh_fuzz::{cluster, law, program};

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
