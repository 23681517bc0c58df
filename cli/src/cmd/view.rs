//! `meshc view`: a policy as a page, or two of them and what changes.

use serde_json::json;

use crate::args::View;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::given::{Place, find};
use crate::output::Output;
use crate::render::size::size;
use crate::{files, page};

/// Writes the page.
pub fn run(output: &Output, args: &View) -> Result<Exit, Failure> {
    let place = Place { inventory: args.inventory.as_deref(), instance: &args.instance };
    let Some(first) = find(output, place, &args.policy)? else { return Ok(Exit::Refused) };
    let page = match &args.new {
        None => page::of_one(&args.policy, &first.ok_or_else(no_policy)?),
        Some(new) => {
            let Some(second) = find(output, place, new)? else { return Ok(Exit::Refused) };
            page::of_two([&args.policy, new], [first.as_ref(), second.as_ref()])?
        }
    };
    match &args.output {
        Some(file) => {
            files::write(file, page.html.as_bytes())?;
            output.info(&format!("wrote {}, {}", file.display(), size(page.html.len())));
        }
        None => output.document(&json!({ "page": page.html }), || page.html.clone()),
    }
    Ok(Exit::Done)
}

fn no_policy() -> Failure {
    Failure::refused("no-policy", "no policy is live").help("`meshc apply` a policy first")
}
