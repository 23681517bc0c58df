//! `grammar.js` to `src/parser.c`: what `tree-sitter generate --abi 14` does.

use std::process::ExitCode;

use tree_sitter_generate::{OptLevel, generate_parser_in_directory};

/// The oldest that can be made: neovim 0.7 reads no newer one, and all that came later read it.
const ABI: usize = 14;

fn main() -> ExitCode {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: mesh-editors-generate DIRECTORY");
        return ExitCode::from(2);
    };
    let mut said = Vec::new();
    let made = generate_parser_in_directory(
        directory,
        None::<String>,
        None::<String>,
        ABI,
        None,
        Some("node"),
        true,
        OptLevel::default(),
        &mut said,
    );
    for it in said {
        eprintln!("{it:?}");
    }
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
