//! `meshc diff`: the flows whose verdict changes between two policies, then entries.

use serde_json::Value;

use crate::args::Diff;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::given::{Place, find};
use crate::output::Output;
use crate::policy::{beside, compare};
use crate::render::difference::{object, text};
use crate::tint::Tint;

/// Compares two policies. Exit code 3 where anything differs.
pub fn run(output: &Output, args: &Diff) -> Result<Exit, Failure> {
    let place = Place { inventory: args.inventory.as_deref(), instance: &args.instance };
    let Some(old) = find(output, place, &args.old)? else { return Ok(Exit::Refused) };
    let old = old.map(|given| given.policy);
    let Some(new) = find(output, place, &args.new)? else { return Ok(Exit::Refused) };
    let new = new.map(|given| given.policy);
    let difference = compare(old.as_ref(), new.as_ref())?;
    let beside = beside(old.as_ref(), new.as_ref(), &difference);
    output.tinted(
        &Value::Object(object(&difference, &beside, args.entries || output.verbose)),
        Tint::Verdicts,
        || text(&difference, &beside, args.entries || output.verbose),
    );
    Ok(if difference.is_empty() { Exit::Done } else { Exit::Different })
}
