//! `meshc detach`: one pod, or everything.

use mesh_runtime::{PodSelector, Runtime};
use serde_json::json;

use crate::args::Detach;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::node::{failure, open};
use crate::output::Output;

/// Takes a pod out of the mesh, or everything of the instance out of the kernel.
pub fn run(output: &Output, args: &Detach) -> Result<Exit, Failure> {
    if !args.all {
        return pod(output, args);
    }
    let runtime = open(&args.instance)?;
    #[cfg(feature = "node")]
    refuse_under_an_agent(runtime.instance())?;
    let done = match args.drop_unread {
        true => runtime.detach_all_dropping_unread(args.purge),
        false => runtime.detach_all(args.purge),
    };
    let done = done.map_err(failure)?;
    output.answer(&json!({ "changed": done.changed, "purged": args.purge, "lost": done.lost }), || {
        let kernel =
            if done.changed { "detached: nothing is left in the kernel" } else { "nothing was attached" };
        let state = if args.purge { ", and the state directory is removed" } else { "" };
        let lost = match done.lost {
            None => "; whether accelerated connections lost bytes, this kernel does not tell".to_owned(),
            Some(0) => String::new(),
            Some(1) => "; one accelerated connection lost bytes that nobody had read".to_owned(),
            Some(lost) => format!("; {lost} accelerated connections lost bytes that nobody had read"),
        };
        format!("{kernel}{state}{lost}\n")
    });
    Ok(Exit::Done)
}

/// An agent that has a policy to keep live would bring back everything within moments.
#[cfg(feature = "node")]
fn refuse_under_an_agent(instance: &mesh_runtime::Instance) -> Result<(), Failure> {
    let Some(report) = crate::agent_client::report(instance) else { return Ok(()) };
    let Some(dir) = report.directory else { return Ok(()) };
    let message = format!(
        "the agent of this instance (process {}) keeps the policy of `{dir}` live, and would bring everything back",
        report.pid
    );
    Err(Failure::refused("agent", message).help(
        "stop it first (`systemctl stop meshc-agent`); to stop interception at once, `meshc pause`: the agent leaves it so",
    ))
}

fn pod(output: &Output, args: &Detach) -> Result<Exit, Failure> {
    let which = match (&args.netns, &args.name) {
        (Some(netns), _) => PodSelector::Netns(netns.clone()),
        (None, Some(name)) => PodSelector::Name(args.namespace.clone(), name.clone()),
        (None, None) => {
            return Err(Failure::usage("say which pod: `--netns FILE`, or `--all` for everything"));
        }
    };
    let runtime = open(&args.instance)?;
    let name = match (&args.netns, &args.namespace, &args.name) {
        (Some(netns), ..) => format!("the pod of `{}`", netns.display()),
        (None, Some(namespace), Some(name)) => format!("`{namespace}/{name}`"),
        (None, _, name) => format!("`{}`", name.as_deref().unwrap_or_default()),
    };
    if !runtime.detach(&which).map_err(failure)? {
        return Err(not_attached(&runtime, which));
    }
    output.answer(&json!({ "changed": true }), || format!("detached {name}\n"));
    Ok(Exit::Done)
}

fn not_attached(runtime: &Runtime, which: PodSelector) -> Failure {
    match which {
        PodSelector::Name(namespace, name) => {
            runtime.not_attached(namespace, name).map_or_else(failure, failure)
        }
        _ => Failure::refused("not-attached", "no pod with this network namespace is attached")
            .help("`meshc status` lists the pods that are"),
    }
}
