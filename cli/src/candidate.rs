//! What is to be applied: an artifact, a plan, or the source of a policy.

use mesh_bpf::artifact;
use mesh_bpf::image::MapImage;
use mesh_bpf::tables::Tables;
use mesh_compiler::compile::Compiled;
use mesh_compiler::diag::Severity;

use crate::args::Program;
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Places;
use crate::plan::{self, Plan};
use crate::policy::Policy;
use crate::{files, program};

/// What is to be applied.
pub struct Candidate {
    /// As the kernel will hold it.
    pub tables: Tables,
    /// What it means.
    pub image: MapImage,
    /// Which line each item is from; an artifact does not say.
    pub places: Option<Places>,
    /// The generation that it was planned against, and the digest of its policy.
    pub planned: Option<(u64, String)>,
}

/// Reads an artifact or a plan, or compiles a policy. `None` where it was refused, and its diagnostics
/// are said.
pub fn candidate(output: &Output, args: &Program) -> Result<Option<Candidate>, Failure> {
    if let [path] = args.paths.as_slice()
        && path.is_file()
    {
        if let Some(Policy { image, tables, .. }) = Policy::read(path)? {
            return Ok(Some(Candidate { tables, image, places: None, planned: None }));
        }
        if plan::is_plan(&files::open(path)?.0) {
            let damaged = |code, why: String| {
                Failure::refused(code, format!("`{}`: {why}", path.display()))
                    .help("make it again from the policy")
            };
            let plan = Plan::decode(&files::read(path)?).map_err(|why| damaged("bad-plan", why))?;
            let (tables, image) = artifact::decode(&plan.artifact)
                .map_err(|error| damaged("bad-artifact", error.to_string()))?;
            let planned = Some((plan.generation, plan.live));
            let places = Some(plan.places).filter(|places| !places.is_empty());
            return Ok(Some(Candidate { tables, image, places, planned }));
        }
    }
    let compilation = program::compile_proved(output, args)?;
    if compilation.compiled.is_some() && !program::knows_services(output, &compilation, Severity::Error) {
        return Ok(None);
    }
    let places = Places::of(&compilation);
    Ok(compilation.compiled.map(|Compiled { image, tables, .. }| Candidate {
        tables,
        image,
        places: Some(places),
        planned: None,
    }))
}
