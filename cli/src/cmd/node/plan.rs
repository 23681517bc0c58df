//! `meshc plan`: what apply would do to this node.

use mesh_bpf::artifact;
use serde_json::json;

use crate::args::Plan as Args;
use crate::candidate::{Candidate, candidate};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files;
use crate::live::{paused, policy};
use crate::node::{failure, open, told_beside};
use crate::output::Output;
use crate::plan::Plan;
use crate::policy::{Policy, beside, compare};
use crate::render::difference;
use crate::render::moves::Changes;
use crate::render::size::size;
use crate::tint::Tint;

/// Compares the policy with what is live. Exit code 3 where apply would do something.
pub fn run(output: &Output, args: &Args) -> Result<Exit, Failure> {
    let Some(candidate) = candidate(output, &args.program)? else { return Ok(Exit::Refused) };
    let Candidate { tables, image: meaning, places, .. } = candidate;
    let runtime = open(&args.instance)?;
    let live = runtime.live().map_err(failure)?;
    let generation = live.as_ref().map_or(0, |live| live.generation);
    let old = match &live {
        Some(live) => Some(policy(&runtime, live.tables.clone())?),
        None => None,
    };
    let old_digest = live.as_ref().map(|live| mesh_runtime::hex(&live.tables.digest()));
    let new = Policy::of(meaning, tables, places.unwrap_or_default());
    let changes = compare(old.as_ref(), Some(&new))?;
    let new_digest = mesh_runtime::hex(&new.tables.digest());
    let equal = old_digest.as_ref() == Some(&new_digest);
    if let Some(file) = &args.output {
        let plan = Plan {
            generation,
            live: old_digest.clone().unwrap_or_default(),
            artifact: artifact::encode(&new.tables),
            places: new.places.clone(),
        };
        files::write(file, &plan.encode()?)?;
    }
    let beside = beside(old.as_ref(), Some(&new), &changes);
    let told = told_beside(&runtime, args.program.inventory.as_deref())?;
    let members = Changes(runtime.transition_told(&new.image, &told).map_err(failure)?);
    let is_done = equal && members.0.moves.is_empty();
    let mut answer = difference::object(&changes, &beside, args.entries || output.verbose);
    answer.extend(members.answer());
    answer.insert("live".into(), json!(old_digest));
    answer.insert("new".into(), json!(new_digest));
    answer.insert("equal".into(), equal.into());
    answer.insert("generation".into(), generation.into());
    let is_paused = live.as_ref().is_some_and(|live| live.paused);
    answer.insert("paused".into(), is_paused.into());
    answer.insert("bytes".into(), new.tables.size().into());
    output.tinted(&serde_json::Value::Object(answer), Tint::Verdicts, || {
        if is_done {
            return format!("nothing to do: generation {generation} is this policy\n");
        }
        let from = if generation == 0 {
            "nothing is live".into()
        } else {
            format!("generation {generation} is live")
        };
        if equal {
            let head =
                format!("generation {generation} is this policy; other labels of namespaces come with it\n");
            return head + &members.text(false);
        }
        let head = format!(
            "{from}; apply would make generation {}, {} of tables\n",
            generation + 1,
            size(new.tables.size())
        );
        format!(
            "{head}{}{}",
            members.text(false),
            difference::text(&changes, &beside, args.entries || output.verbose)
        )
    });
    if is_paused {
        output.warn(&paused(generation));
    }
    if let (Some(file), false) = (&args.output, output.is_json()) {
        output.info(&format!("`meshc apply {}` applies it, if this is still what is live", file.display()));
    }
    Ok(if is_done { Exit::Done } else { Exit::Different })
}
