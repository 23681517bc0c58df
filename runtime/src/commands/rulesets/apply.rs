//! Makes a policy live, stops it, and takes it away.

use mesh_bpf::tables::Tables;

use crate::commands::preflight::own_missing_rights;
use crate::commands::switch::{Detached, Switched};
use crate::error::{Error, Result};
use crate::generation::request::{Applied, Apply};
use crate::members::{command_cgroups, reserved_ports};
use crate::rulesets::live::Live;
use crate::rulesets::publish::{Publish, reapply};
use crate::rulesets::session::Session;
use crate::runtime::Runtime;
use crate::state::record;
use crate::system::System;

/// The rights that rulesets need: of those that programs do all but one.
const NOT_NEEDED: &str = "CAP_BPF";

impl<S: System> Runtime<S> {
    /// Whether this process may load rulesets, and cgroups are where the instance says.
    pub(crate) fn preflight_rulesets(&self) -> Result<()> {
        if !self.node().is_cgroup()? {
            return Err(Error::NotACgroup(self.instance.cgroup.clone()));
        }
        let mut missing = own_missing_rights(&self.system);
        missing.retain(|right| *right != NOT_NEEDED);
        if missing.is_empty() { Ok(()) } else { Err(Error::NoRights(missing)) }
    }

    pub(crate) fn apply_rulesets(&self, request: &Apply<'_, S>) -> Result<Applied> {
        let began = self.system.clock();
        self.preflight_rulesets()?;
        refuse_what_needs_programs(request)?;
        refuse_unsupported(request.tables)?;
        let node = self.node();
        let session = Session::create(node, &self.options)?;
        self.check_backend()?;
        let live = match session.live() {
            Err(Error::PolicyLost(_)) if request.expected.is_none() => None,
            live => live?,
        };
        check_basis(live.as_ref(), request)?;
        if let Some(live) = &live
            && live.digest == record::hex(&request.tables.digest())
            && !request.repair
        {
            let applied = reapply(&session, live, false)?;
            record::keep_lines(node, &applied.digest, request.lines)?;
            return Ok(applied);
        }
        record::keep_placement(node)?;
        let before = self.keep_backend(self.instance.backend)?;
        let published = Publish { session: &session, live: live.as_ref(), request, began }.run();
        if published.is_err() && live.is_none() {
            // Otherwise the next command goes where nothing is.
            let _ = self.keep_backend(before);
        }
        published
    }

    pub(crate) fn refresh_rulesets(&self) -> Result<Option<Applied>> {
        let Some(session) = Session::begin(self.node(), &self.options)? else { return Ok(None) };
        let Some(live) = session.live()? else { return Ok(None) };
        reapply(&session, &live, true).map(Some)
    }

    /// Pause and resume.
    pub(crate) fn switch_rulesets(&self, paused: bool) -> Result<Switched> {
        let session = Session::begin(self.node(), &self.options)?.ok_or(Error::NoPolicy)?;
        let (generation, changed) = session.switch(paused)?.ok_or(Error::NoPolicy)?;
        Ok(Switched { generation, changed })
    }

    pub(crate) fn detach_rulesets(&self, purge: bool) -> Result<Detached> {
        let node = self.node();
        let mut changed = false;
        if let Some(session) = Session::begin_blind(node, &self.options)? {
            changed = session.take_down()?;
            reserved_ports::release_all(node)?;
            command_cgroups::sweep_cgroups(node)?;
            self.system.remove(&self.instance.pending())?;
            self.system.remove(&self.instance.placement_file())?;
        }
        if purge {
            record::purge(node)?;
        }
        Ok(Detached { changed, lost: Some(0) })
    }
}

/// Options of an apply that nothing comes of.
fn refuse_what_needs_programs<S: System>(request: &Apply<'_, S>) -> Result<()> {
    let refuse = |what, instead| Err(Error::NotByRulesets { what, instead });
    if request.reset_changed {
        return refuse(
            "`--reset-changed`",
            "leave it out, and restart what must not go on as it is: connections that are open go on as they were decided",
        );
    }
    if request.keep_decisions == Some(true) {
        return refuse(
            "`--keep-decisions on`",
            "leave it out: `meshc status --rules` says how often each rule decided",
        );
    }
    Ok(())
}

fn refuse_unsupported(tables: &Tables) -> Result<()> {
    let unsupported = mesh_nft::unsupported(tables)?;
    if unsupported.is_empty() { Ok(()) } else { Err(Error::Unsupported(unsupported)) }
}

fn check_basis<S: System>(live: Option<&Live>, request: &Apply<'_, S>) -> Result<()> {
    let generation = live.map_or(0, |live| live.generation);
    if let Some(expected) = request.expected.filter(|&expected| expected != generation) {
        return Err(Error::Stale { expected, live: generation });
    }
    crate::commands::apply::check_owner(live.map(|live| live.owner), request)
}
