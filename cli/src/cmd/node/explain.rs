//! `meshc explain --live`: what the kernel's maps say of a flow.

use mesh_bpf::flow::{Direction, Flow, Identity};
use mesh_bpf::image::{MapImage, ProfileId};
use mesh_bpf::membership::Membership;
use mesh_compiler::ast::{self, Endpoint};
use mesh_compiler::explain::explain_image;
use mesh_compiler::parse::parse_flow;
use mesh_compiler::source::Sources;
use mesh_runtime::{Family, Port, Unheard, hex};

use crate::args::Explain;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::live::{image, no_policy, paused};
use crate::node::{failure, open};
use crate::output::Output;
use crate::places::{Locations, Places};
use crate::render::explanation::answer;
use crate::{render, sidecars};

/// A flow by the names of the live image.
struct Question {
    profile: ProfileId,
    workload: String,
    flow: Flow,
    identity: Identity,
}

/// Explains a flow from the live tables alone: no policy is read.
pub fn run(output: &Output, args: &Explain) -> Result<Exit, Failure> {
    let Some((flow, paths)) = args.arguments.split_last() else {
        return Err(Failure::usage("no flow was given"));
    };
    if !paths.is_empty() {
        return Err(Failure::usage("`--live` asks the kernel's maps, so it takes a flow and no policy"));
    }
    let runtime = open(&args.instance)?;
    let live = runtime.live().map_err(failure)?.ok_or_else(no_policy)?;
    let (image, tables) = (image(&live.tables)?, live.tables);
    let mut sources = Sources::default();
    let (id, _) = sources.add("<flow>", flow.as_bytes().to_vec());
    let parsed = match parse_flow(id, flow) {
        Ok(parsed) => parsed,
        Err(found) => {
            render::say(output, &sources, &found);
            return Ok(Exit::Usage);
        }
    };
    let Question { profile, workload, flow: asked, identity } = question(&image, &parsed)?;
    let found = explain_image(&image, profile, None, &asked, &identity).ok_or_else(|| {
        Failure::cannot("damaged", "the live tables do not answer")
            .help("`meshc apply --repair` rewrites them")
    })?;
    // The flow has one family, whichever end is named.
    let goes_to = |port: &Port| {
        port.protocol == asked.protocol
            && port.family == Family::of(asked.address)
            && Some(port.port) == found.verdict.port()
    };
    let all = runtime.unheard(&image).map_err(failure)?;
    let unheard: Vec<Unheard> =
        sidecars::of_flow(&all, &workload, asked.direction, goes_to).cloned().collect();
    let more = [("unheard", sidecars::unheard(&unheard)), ("paused", live.paused.into())];
    let places = Places::kept(&runtime, &hex(&tables.digest()));
    let locations = Locations::Kept(&places);
    let exit = answer(output, locations, flow, asked.direction, std::slice::from_ref(&found), &more)?;
    if live.paused {
        output.warn(&paused(live.generation));
    }
    for warning in sidecars::warnings(&unheard) {
        output.warn(&warning);
    }
    Ok(exit)
}

fn question(image: &MapImage, flow: &ast::Flow) -> Result<Question, Failure> {
    let (direction, name, address) = match (&flow.from, &flow.to) {
        (Endpoint::Name(name), Endpoint::Address(address)) => (Direction::Outbound, name, address.value),
        (Endpoint::Address(address), Endpoint::Name(name)) => (Direction::Inbound, name, address.value),
        _ => return Err(Failure::usage("`--live` takes a flow between one workload and one address")),
    };
    let membership = Membership::of(image);
    let workload = membership.workload(&name.value).ok_or_else(|| {
        let known: Vec<_> = membership.workloads.iter().map(|workload| workload.name.as_str()).collect();
        Failure::usage(format!("the live policy has no workload `{}`", name.value))
            .help(format!("it has: {}", known.join(", ")))
    })?;
    let ast::Flow { protocol, port, .. } = *flow;
    let flow_asked = Flow { direction, protocol, address: address.to_canonical(), port, own: false };
    Ok(Question {
        profile: workload.profile,
        workload: workload.name.clone(),
        flow: flow_asked,
        identity: identity(flow),
    })
}

fn identity(flow: &ast::Flow) -> Identity {
    let mut identity = Identity::default();
    for part in &flow.identity {
        match &part.value {
            ast::Identity::Uid(ids) => identity.uid = Some(ids.first),
            ast::Identity::Gid(ids) => identity.gid = Some(ids.first),
            ast::Identity::Cgroup(path) => identity.cgroup = Some(path.clone()),
        }
    }
    identity
}
