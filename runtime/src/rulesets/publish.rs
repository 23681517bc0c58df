//! A new generation: into the host's namespace first, which is the commit, and then into each pod's.

use mesh_bpf::map::Table;
use mesh_bpf::membership::Membership;
use mesh_nft::{Scene, differences};

use super::live::{Live, marker};
use super::load::{self, Fault, Version};
use super::namespaces::{Aligned, align, each_pod, unload_pods};
use super::scene::Stage;
use super::session::Session;
use super::target::Target;
use super::{cgroups, datagrams, registry};
use crate::error::{Error, Result};
use crate::generation::confirmation;
use crate::generation::request::{Applied, Apply};
use crate::member::Key;
use crate::members::{addresses, files, reserved_ports};
use crate::node::Node;
use crate::state::record::{self, Record};
use crate::system::System;
use crate::warning::Warning;

/// One new generation.
pub(crate) struct Publish<'a, S: System> {
    pub(crate) session: &'a Session<'a, S>,
    pub(crate) live: Option<&'a Live>,
    pub(crate) request: &'a Apply<'a, S>,
    pub(crate) began: u64,
}

impl<S: System> Publish<'_, S> {
    pub(crate) fn run(&self) -> Result<Applied> {
        let Self { session, request, .. } = *self;
        let node = session.node;
        let membership = Membership::read(request.tables.get(Table::Names))?;
        let stage = Stage::new(node, request.tables, &membership)?;
        self.prove(&stage)?;
        let mut new = differences(request.tables)?;
        if let Some(live) = self.live {
            let known = differences(&live.tables)?;
            new.retain(|difference| !known.contains(difference));
        }
        let generation = self.next_generation()?;
        let paused = self.live.map_or(request.paused, |live| live.paused);
        let version = Version::of(generation, request.tables, paused);
        let ready = node.system.clock();
        let (digest, ()) = record::keep_artifact(node, request.tables, request.lines, || Ok(()))?;
        let record =
            self.request.announce(node, generation, digest, self.live.map_or(0, |live| live.generation))?;
        let filled = node.system.clock();
        let aligned = self.commit(&stage, version)?;
        record::mark_paused(node, paused)?;
        let mut warnings: Vec<Warning> =
            aligned.lost.iter().cloned().map(Warning::PodNamespaceMissing).collect();
        warnings.extend(self.settle(generation, &record, &stage));
        warnings.extend(datagrams::forget(node, self.live.map(|live| &live.tables), request.tables));
        Ok(Applied {
            generation,
            digest: record.digest,
            changed: true,
            paused,
            namespaces: Some(aligned.changed),
            differences: new,
            missing_cgroups: stage.missing,
            milliseconds: [ready - self.began, filled - ready, node.system.clock() - filled],
            warnings,
            ..Applied::default()
        })
    }

    /// Whether each namespace's ruleset will decide as the policy: before anything is sent to any.
    fn prove(&self, stage: &Stage<'_>) -> Result<()> {
        let node = self.session.node;
        let prove = |scene: &Scene, target: &Target| {
            stage.prove(scene, &mesh_nft::lower(stage.tables, scene)?, &target.name)
        };
        prove(&stage.host(node)?, &Target::host(node)?.ok_or(Error::HostGone)?)?;
        for member in files::members(node)? {
            if let (Some(target), Some(scene)) = (Target::of(node, &member)?, stage.pod(&member)?) {
                prove(&scene, &target)?;
            }
        }
        Ok(())
    }

    /// Loads it, the host first. What fails is taken back.
    fn commit(&self, stage: &Stage<'_>, version: Version) -> Result<Aligned> {
        let node = self.session.node;
        let host = Target::host(node)?.ok_or(Error::HostGone)?;
        host.note_host(node)?;
        self.session.begins()?;
        let scene = stage.host(node)?;
        let loaded = load::load(node, &host, &scene, (stage, version), self.request.repair)
            .and_then(|_| each_pod(node, stage, version, self.request.repair));
        match loaded {
            Ok(mut aligned) => {
                aligned.changed += 1;
                // What fails now is finished by the next command.
                let _ = self.session.is_done();
                Ok(aligned)
            }
            Err(error) => {
                if self.take_back().is_ok() {
                    let _ = self.session.is_done();
                }
                Err(error)
            }
        }
    }

    /// Makes every namespace what it was.
    fn take_back(&self) -> Result<()> {
        let node = self.session.node;
        match self.live {
            Some(live) => {
                align(node, live)?;
            }
            None => {
                if let Some(host) = Target::host(node)? {
                    load::unload(node, &host)?;
                }
                unload_pods(node)?;
            }
        }
        node.system.remove(&node.instance.pending())?;
        Ok(node.system.remove(&node.instance.confirm())?)
    }

    fn next_generation(&self) -> Result<u64> {
        let live = self.live.map_or(0, |live| live.generation);
        let history = record::history(self.session.node)?;
        Ok(history.last().map_or(0, |record| record.generation).max(live) + 1)
    }

    /// Tidies up after the commit. What fails is repaired by the next command.
    fn settle(&self, generation: u64, record: &Record, stage: &Stage<'_>) -> Option<Warning> {
        let node = self.session.node;
        let done = record::settle(node, record)
            .and_then(|()| confirmation::supersede(node, generation))
            .and_then(|()| cgroups::register(node, stage))
            .and_then(|_| reserved_ports::want(node, &reserved_ports::ports(stage.tables)))
            .and_then(|()| reserved_ports::keep_all(node, self.request.repair))
            .and_then(|()| record::prune(node));
        done.err().map(|error| Warning::NotSettled((&error).into()))
    }
}

/// The same policy again: what is not as it was loaded is loaded again, and cgroups that were made since come in; with
/// `follows`, pods' addresses are looked at.
pub(crate) fn reapply<S: System>(session: &Session<'_, S>, live: &Live, follows: bool) -> Result<Applied> {
    let node = session.node;
    let stage = Stage::new(node, &live.tables, &live.membership)?;
    let version = Version::of_live(live);
    let mut changed = 0;
    let host = Target::host(node)?.ok_or(Error::HostGone)?;
    let scene = stage.host(node)?;
    if load::fault(node, &host, &scene, (&live.tables, version))?.is_some() {
        load::load(node, &host, &scene, (&stage, version), true)?;
        changed += 1;
    }
    changed += cgroups::register(node, &stage)?;
    let mut lost = Vec::new();
    for member in files::members(node)? {
        let Some(target) = Target::of(node, &member)? else {
            if matches!(member.key, Key::Netns(_)) {
                lost.push(member.name);
            }
            continue;
        };
        let moved = if follows { addresses::moved(node.system, &member)? } else { None };
        if let Some(moved) = moved {
            registry::join(node, &moved, Some(live))?;
            changed += 1;
            continue;
        }
        if let Some(scene) = stage.pod(&member)?
            && load::fault(node, &target, &scene, (&live.tables, version))?.is_some()
        {
            load::load(node, &target, &scene, (&stage, version), true)?;
            changed += 1;
        }
    }
    reserved_ports::keep_all(node, follows)?;
    Ok(Applied {
        generation: live.generation,
        digest: live.digest.clone(),
        paused: live.paused,
        namespaces: Some(0),
        members_changed: changed,
        missing_cgroups: stage.missing.clone(),
        warnings: lost.into_iter().map(Warning::PodNamespaceMissing).collect(),
        ..Applied::default()
    })
}

/// A namespace that is not as it should be: whose, and in what.
pub(crate) type Found = (Target, Fault);

/// Namespaces that are not as they should be, and those that have a table and should not.
pub(crate) fn faults<S: System>(node: Node<'_, S>, live: &Live) -> Result<(Vec<Found>, Vec<String>)> {
    let stage = Stage::new(node, &live.tables, &live.membership)?;
    let version = Version::of_live(live);
    let mut found = Vec::new();
    if let Some(host) = Target::host(node)?
        && let Some(fault) = load::fault(node, &host, &stage.host(node)?, (&live.tables, version))?
    {
        found.push((host, fault));
    }
    for member in files::members(node)? {
        let Some(target) = Target::of(node, &member)? else { continue };
        let fault = match stage.pod(&member)? {
            Some(scene) => load::fault(node, &target, &scene, (&live.tables, version))?,
            None => marker(node, &target)?.map(|marker| Fault::Behind(marker.generation)),
        };
        found.extend(fault.map(|fault| (target, fault)));
    }
    Ok((found, stage.missing.clone()))
}
