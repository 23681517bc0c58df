//! Says what a file found by `fuzz/run` breaks: `cargo run -p mesh-fuzz --example replay -- TARGET FILE`.

use std::error::Error;

use mesh_fuzz::choice::Choices;
use mesh_fuzz::random::Random;
use mesh_fuzz::{law, program};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, file] = arguments.as_slice() else {
        return Err("which target (parse, compile, artifact, flow), and which file?".into());
    };
    let bytes = std::fs::read(file)?;
    let text = String::from_utf8_lossy(&bytes);
    match target.as_str() {
        "parse" => {
            law::text(&bytes)?;
            law::program(&text, &mut Random::of_bytes(&bytes))?;
        }
        "compile" => {
            let text = program::program(&mut Choices::new(&bytes));
            println!("{text}");
            law::program(&text, &mut Random::of_bytes(&bytes))?;
        }
        "artifact" => {
            println!("{}", law::artifact_policy(&bytes));
            law::artifact(&bytes)?;
        }
        "flow" => law::flow(&text)?,
        _ => return Err(format!("there is no target `{target}`").into()),
    }
    println!("all laws hold");
    Ok(())
}
