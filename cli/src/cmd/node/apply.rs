//! `meshc apply`.

use std::io::Read;
use std::time::Instant;

use mesh_bpf::artifact::{self, BadArtifact};
use mesh_bpf::flow::{Direction, Protocol};
use mesh_bpf::image::{MapImage, SourceId, SourceKind, Workload};
use mesh_bpf::ports::{PortRange, PortSet};
use mesh_bpf::tables::Tables;
use mesh_compiler::compile::Compiled;
use mesh_compiler::diff::EntryChanges;
use mesh_runtime::{Applied, Apply as Request, Unheard};
use serde_json::json;

use super::{confirm, failure, live_policy, open, sidecars};
use crate::args::{Apply, Program};
use crate::cmd::diff::{Policy, compare};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Places;
use crate::{files, heap, plan, program};

/// How often the content of an artifact is in memory while it is read and written.
const COPIES: usize = 3;

/// Compiles (or reads an artifact) and makes it live.
pub fn run(output: &Output, args: &Apply) -> Result<Exit, Failure> {
    let began = Instant::now();
    // What is wrong with the place is told after what is wrong with the policy.
    let ready = open(&args.instance).inspect(mesh_runtime::Runtime::prepare);
    let Some(candidate) = candidate(output, &args.program)? else { return Ok(Exit::Refused) };
    let Candidate { tables, image, places, planned } = &candidate;
    let compiled = began.elapsed();
    if image.workloads.is_empty() {
        return Err(Failure::refused("no-mesh", "the policy has no workload, so there is nothing to apply")
            .help("give the files of a mesh too; `meshc detach --all` takes everything away"));
    }
    for caution in not_carried_out(image).into_iter().chain(streams_too(image)) {
        output.warn(&caution);
    }
    let runtime = ready?;
    if let Some((_, planned)) = planned {
        check_plan(planned, &runtime.head().map_err(failure)?.digest)?;
    }
    // What entries change is for scripts: people see it in `plan`.
    let before = if output.is_json() { live_policy(&args.instance)? } else { None };
    let origin = args.program.paths.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let origin = format!("apply {origin}");
    let request = Request {
        origin: &origin,
        expected: planned.as_ref().map(|(generation, _)| *generation),
        repair: args.repair,
        override_owner: args.override_owner,
        confirm_within: args.confirm_within.map(milliseconds),
        reset_changed: args.reset_changed,
        drop_flows: args.drop_flows,
        ..Request::of(tables)
    };
    let mut applied = runtime.apply(request).map_err(failure)?;
    if let Err(failed) = places.as_ref().map_or(Ok(()), |places| places.write(&runtime.instance().places())) {
        applied.warnings.push(failed.message);
    }
    // It is live all the same, and sidecars may come later.
    let unheard = match runtime.unheard(image) {
        Ok(unheard) => unheard,
        Err(error) => {
            applied.warnings.push(format!("whether sidecars listen cannot be told: {error}"));
            Vec::new()
        }
    };
    if args.confirm_within.is_some() && applied.changed {
        confirm::start_waiting(&args.instance)?;
        output.say("it takes itself back unless `meshc confirm` comes in time");
    }
    let entries = match output.is_json() && applied.changed {
        true => {
            let new = Policy { image: image.clone(), tables: tables.clone() };
            compare(before.as_ref(), Some(&new))?.entries
        }
        false => EntryChanges::default(),
    };
    report(output, &applied, compiled.as_millis(), &entries, &unheard);
    Ok(Exit::Done)
}

/// A generation's number can come again after everything was detached; its policy's digest does not lie.
fn check_plan(planned: &str, live: &str) -> Result<(), Failure> {
    if planned == live {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Busy,
        "stale",
        "another policy is live than the one that this was planned against",
    )
    .help("plan again, and look at what changed"))
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

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
        && let Ok(found) = path.metadata()
        && found.is_file()
    {
        let damaged = |code, why: String| {
            Failure::refused(code, format!("`{}`: {why}", path.display()))
                .help("make it again from the policy")
        };
        let bad_artifact = |error: BadArtifact| damaged("bad-artifact", error.to_string());
        let (first, rest) = files::open(path)?;
        if artifact::is_artifact(&first) {
            heap::reserve(usize::try_from(found.len()).unwrap_or(usize::MAX).saturating_mul(COPIES));
            let (tables, image) =
                artifact::read(first.as_slice().chain(rest), found.len()).map_err(bad_artifact)?;
            return Ok(Some(Candidate { tables, image, places: None, planned: None }));
        }
        if plan::is_plan(&first) {
            let plan = plan::Plan::decode(&files::read(path)?).map_err(|why| damaged("bad-plan", why))?;
            let (tables, image) = artifact::decode(&plan.artifact).map_err(bad_artifact)?;
            let planned = Some((plan.generation, plan.live));
            return Ok(Some(Candidate { tables, image, places: Some(plan.places), planned }));
        }
    }
    let compilation = program::compile_proved(output, args)?;
    let places = Places::of(&compilation);
    Ok(compilation.compiled.map(|Compiled { image, tables, .. }| Candidate {
        tables,
        image,
        places: Some(places),
        planned: None,
    }))
}

/// What the policy says and the programs of this version do not do, or not for every application. Nothing is
/// silent.
pub fn not_carried_out(image: &MapImage) -> Vec<String> {
    let hosts = || image.workloads.iter().filter(|workload| !workload.selector.cgroups.is_empty());
    let mut missing = Vec::new();
    for workload in hosts() {
        let name = &workload.name;
        let profile = image.profile(workload.profile);
        let decided =
            profile.into_iter().flat_map(|profile| profile.decided(Direction::Inbound, image, Protocol::Udp));
        let (built_in, by_rules): (Vec<_>, Vec<_>) =
            decided.partition(|(_, decision)| image.source(decision.source).kind == SourceKind::BuiltIn);
        if !by_rules.is_empty() {
            missing.push(format!(
                "inbound rules of `{name}` for udp are kept, but only TCP is decided for processes that are members by \
                 their cgroup"
            ));
        }
        if !built_in.is_empty() {
            let ports: PortSet = built_in.into_iter().map(|(ports, _)| ports).collect();
            missing.push(format!(
                "udp {ports} of `{name}` stays open to others: only TCP is decided for processes that are members by \
                 their cgroup"
            ));
        }
    }
    let peers =
        |of: &&Workload| image.profile(of.profile).is_some_and(|it| !it.acceleration.peers.is_empty());
    missing.extend(hosts().filter(peers).map(|workload| {
        format!(
            "connections to the sidecar of `{}` are not accelerated: a cgroup's sidecar is not known by its \
             namespace; those that it opens to pods are",
            workload.name
        )
    }));
    missing
}

/// That streams are accelerated, too, where a policy names no ports.
pub fn streams_too(image: &MapImage) -> Option<String> {
    let is_every = |ranges: &Vec<(PortRange, SourceId)>| {
        // Ranges of one list neither overlap nor touch, unless different items credit them.
        let ports: u32 = ranges.iter().map(|(range, _)| u32::from(range.last - range.first) + 1).sum();
        ports >= u32::from(u16::MAX)
    };
    let takes_every = |workload: &&Workload| {
        image.profile(workload.profile).is_some_and(|it| {
            is_every(&it.acceleration.local) || it.acceleration.peers.values().any(is_every)
        })
    };
    image.workloads.iter().find(takes_every).map(|workload| {
        format!(
            "every port of `{}` is accelerated: bulk transfer, too, which takes 1.5 times the CPU a byte where both \
             ends are on one CPU; name the ports of questions and answers, such as `accelerate local tcp not 9092`",
            workload.name
        )
    })
}

pub fn report(
    output: &Output,
    applied: &Applied,
    compile: u128,
    entries: &EntryChanges,
    unheard: &[Unheard],
) {
    for warning in applied.warnings.iter().cloned().chain(sidecars::warnings(unheard)) {
        output.warn(&warning);
    }
    for path in &applied.missing_cgroups {
        output.warn(&format!("the cgroup `{path}` does not exist yet; it joins when it is made"));
    }
    let [wait, write, commit] = applied.milliseconds;
    let answer = json!({
        "generation": applied.generation,
        "digest": applied.digest,
        "changed": applied.changed,
        "paused": applied.paused,
        "bytes": applied.written.iter().map(|(_, bytes)| bytes).sum::<usize>(),
        "tables": applied.written.iter().map(|(table, _)| table).collect::<Vec<_>>(),
        "entries": {
            "added": entries.added.len(), "removed": entries.removed.len(), "changed": entries.changed.len(),
        },
        "members_changed": applied.members_changed,
        "missing_cgroups": applied.missing_cgroups,
        "closed": applied.closed,
        "warnings": applied.warnings,
        "unheard": sidecars::unheard(unheard),
        "milliseconds": { "compile": compile, "wait": wait, "write": write, "commit": commit },
    });
    output.answer(&answer, || text(applied));
}

fn text(applied: &Applied) -> String {
    let digest = applied.digest.get(..12).unwrap_or(&applied.digest);
    let paused = if applied.paused { " (paused: `meshc resume` brings it back)" } else { "" };
    let closed = applied.closed.map_or_else(String::new, |closed| match closed {
        1 => "1 connection that it decides otherwise was closed\n".to_owned(),
        closed => format!("{closed} connections that it decides otherwise were closed\n"),
    });
    if !applied.changed {
        return format!(
            "nothing to do: generation {} ({digest}) is this policy{paused}\n{closed}",
            applied.generation
        );
    }
    let bytes: usize = applied.written.iter().map(|(_, bytes)| bytes).sum();
    format!(
        "applied generation {} ({digest}): {} of {} tables written, {bytes} bytes{paused}\n{closed}",
        applied.generation,
        applied.written.len(),
        mesh_bpf::map::TABLES,
    )
}
