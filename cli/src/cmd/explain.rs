//! `meshc explain`: what happens to a flow, and why.

use std::path::{Path, PathBuf};

use mesh_bpf::flow::Direction;
use mesh_compiler::compile::Compilation;
use mesh_compiler::diag::Diagnostic;
use mesh_compiler::explain::explain;
use mesh_compiler::parse::parse_flow;
use mesh_compiler::question::Question;

use crate::args::{Explain, Program};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Locations;
use crate::render::explanation::{Shown, answer};
use crate::{program, render};

/// Explains a flow of a policy.
pub fn run(output: &Output, args: &Explain) -> Result<Exit, Failure> {
    let Some((flow, paths)) = args.arguments.split_last() else {
        return Err(Failure::usage("no flow was given"));
    };
    if paths.is_empty() && Path::new(flow).exists() {
        return Err(Failure::usage(format!("`{flow}` stands alone, and a flow is needed too"))
            .help("meshc explain POLICY 'cart -> 10.0.3.9 tcp 3306'; or `--live` to ask the kernel's maps"));
    }
    let here = [".".to_owned()];
    let paths = if paths.is_empty() { &here } else { paths };
    let program = Program {
        stdin_name: args.stdin_name.clone(),
        inventory: args.inventory.clone(),
        ..Program::of(paths.iter().map(PathBuf::from).collect())
    };
    let mut compilation = program::compile(&program)?;
    let Some(compiled) = compilation.compiled.take() else {
        let (sources, found) = (&compilation.files.sources, &compilation.diagnostics);
        render::say(output, sources, found);
        return Ok(Exit::Refused);
    };
    let (question, other) = match ask(&mut compilation, flow, args.mesh.as_deref()) {
        Ok(asked) => asked,
        Err(found) => {
            render::say(output, &compilation.files.sources, &found);
            return Ok(Exit::Usage);
        }
    };
    let program = &compilation.resolution.program;
    let found = explain(program, &compiled.image, &compilation.members, &question);
    let locations = Locations::Sources(&compilation.files.sources);
    let shown = Shown { locations, asked: flow, other: &other, direction: question.direction };
    answer(output, &shown, &found, |_| Vec::new(), &[])
}

/// Reads the flow against the names of the program: the question, and the words of the other end.
fn ask(
    compilation: &mut Compilation,
    flow: &str,
    mesh: Option<&str>,
) -> Result<(Question, String), Vec<Diagnostic>> {
    let (id, found) = compilation.files.sources.add("<flow>", flow.as_bytes().to_vec());
    if !found.is_empty() {
        return Err(found);
    }
    let flow = parse_flow(id, flow)?;
    let (program, members) = (&compilation.resolution.program, &compilation.members);
    let question = Question::of_asked(program, members, &flow, mesh).map_err(|found| vec![found])?;
    let other = if question.direction == Direction::Outbound { &flow.to } else { &flow.from };
    Ok((question, compilation.files.sources.slice(other.span()).to_owned()))
}
