//! What the proof is worth: an image with a mistake in it is refused.

use mesh_compiler::compile::{Compilation, compile};
use mesh_compiler::prove::prove;
use mesh_compiler::resolve::{Location, NoImports};
use mesh_fuzz::choice::Choices;
use mesh_fuzz::law::{Came, MISTAKES, all_mistakes, damaged};
use mesh_fuzz::program;
use mesh_fuzz::random::Random;

fn compiled(text: &str) -> Compilation {
    let place = Location { key: "a.mesh".to_owned(), name: "a.mesh".to_owned() };
    compile(vec![(place, text.as_bytes().to_vec())], &mut NoImports, None)
}

/// Each kind of mistake is made many times in a policy that has a place for all of them.
#[test]
fn no_mistake_survives_the_proof() {
    let compilation = compiled(include_str!("everything.mesh"));
    let all = compilation.compiled.expect("it compiles");
    let program = &compilation.resolution.program;
    prove(program, &all.tables).expect("it is proved as it is");
    for (seed, mistake) in (0u64..).zip(MISTAKES) {
        let mut random = Random::new(seed);
        let mut refused = 0;
        for _ in 0..60 {
            match damaged(program, &all, mistake, &mut random) {
                Ok(came) => refused += usize::from(came == Came::Refused),
                Err(broken) => panic!("{broken}"),
            }
        }
        assert!(refused > 3, "{}: only {refused} of 60 were refused", mistake.0);
    }
}

#[test]
fn no_mistake_in_random_policies_survives_the_proof() {
    let mut compile = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let text = program::program(&mut Choices::new(&random.bytes(300)));
        let compilation = compiled(&text);
        let Some(all) = &compilation.compiled else { continue };
        compile += 1;
        if let Err(broken) = all_mistakes(&compilation.resolution.program, all, 4, &mut random) {
            panic!("seed {seed}: {broken}\nof\n{text}");
        }
    }
    assert!(compile > 15, "{compile} of 60 compile");
}
