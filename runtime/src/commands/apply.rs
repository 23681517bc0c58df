//! Makes a policy live.

use mesh_bpf::program::Inbound;

use crate::attach::hooks;
use crate::error::{Error, Result};
use crate::generation::publish::{Publish, publish_first, reapply_unchanged};
use crate::generation::request::{Applied, Apply};
use crate::generation::reset;
use crate::generation::session::{Session, tell_holder};
use crate::maps::live::{Live, live};
use crate::maps::pinned::{ControlMap, PinnedMaps};
use crate::maps::recent;
use crate::members::files;
use crate::members::registry::Registry;
use crate::owner::Owner;
use crate::runtime::Runtime;
use crate::state::record;
use crate::system::linux::Kernel;
use crate::system::{Files, Prepared, System, Word};
use crate::warning::Warning;

impl Runtime<Kernel> {
    /// Begins what an apply needs whatever its policy says, beside whatever is done until then. Where nothing is in the
    /// kernel, it makes maps and programs: nobody else sees them, and they end with this process, where nothing is
    /// applied after all. Otherwise it waits for the programs that run. Nothing where an apply would be refused.
    #[must_use]
    pub fn prepare(&self) -> Prepared<Kernel> {
        if self.is_by_rulesets() {
            return Prepared::default();
        }
        let maps = self.instance.maps();
        match self.system.inode(&maps) {
            Ok(Some(_)) => self.system.wait_ahead(&maps),
            Ok(None) => {
                let cpus = std::thread::available_parallelism().map_or(1, usize::from);
                if cpus > 1 && self.preflight().is_ok() && self.check_fixed().is_ok() {
                    self.system.make_ahead(self.instance.inbound)
                } else {
                    Prepared::default()
                }
            }
            Err(_) => Prepared::default(),
        }
    }
}

impl<S: System> Runtime<S> {
    /// Makes a policy live. The same policy again changes nothing but what drifted among its members.
    ///
    /// # Errors
    /// Then what was live is live, entire.
    pub fn apply(&self, mut request: Apply<'_, S>) -> Result<Applied> {
        if self.is_by_rulesets() {
            return self.apply_rulesets(&request);
        }
        let mut prepared = std::mem::take(&mut request.prepared);
        let began = self.system.clock();
        self.preflight()?;
        if request.drop_flows {
            self.drop_other_version(&request)?;
        }
        self.check_backend()?;
        let session = Session::create(self.node(), &self.options)?;
        let applied = self.apply_locked(&session, &request, &mut prepared, began);
        if applied.is_err() && session.maps.is_none() {
            // The directory was made for its lock. Otherwise the next command sweeps it.
            let _ = self.system.remove_dir(&self.instance.pins());
        }
        let mut applied = applied?;
        self.change_inbound_mode(&session)?;
        self.keep_backend(self.instance.backend)?;
        // The policy is live, whatever becomes of this.
        let followed = PinnedMaps::open(self.node())
            .and_then(|maps| maps.map_or(Ok(()), |maps| recent::follow(self.node(), &maps)));
        applied.warnings.extend(followed.err().map(|error| Warning::KeepingUnchanged((&error).into())));
        Ok(applied)
    }

    /// Where another mode is asked for than at the last apply, pods that are there are decided by it from now on.
    /// What is kept says so last: whoever is killed before is gone on with by the next apply.
    fn change_inbound_mode(&self, session: &Session<'_, S>) -> Result<()> {
        let node = self.node();
        let kept = record::read::<String>(node.system, &node.instance.inbound_mode_file())?;
        let wanted = node.instance.inbound.word();
        if kept.as_deref().unwrap_or(Inbound::default().word()) == wanted {
            return Ok(());
        }
        let Some(maps) = PinnedMaps::open(node)? else { return Ok(()) };
        let _registry = session.lock_registry()?.ok_or(Error::DetachedMeanwhile)?;
        Registry::new(node, &maps).attach_pods()?;
        record::write(node.system, &node.instance.inbound_mode_file(), &wanted.to_owned(), false)
    }

    /// Takes away what another version left, if this one cannot go on with it.
    fn drop_other_version(&self, request: &Apply<'_, S>) -> Result<()> {
        let node = self.node();
        let Some(session) = Session::blind(node, &self.options)? else { return Ok(()) };
        let Some(control) = ControlMap::open(node)? else { return Ok(()) };
        let open = || PinnedMaps::open(node)?.map_or(Ok(None), |maps| live(node.system, &maps));
        match open() {
            Err(error) if error.is_of_another_version() => {}
            other => return other.map(drop),
        }
        // Every version can read who applied what, and under which number.
        let head = self.head()?;
        check_owner(Some(head.owner).filter(|_| head.generation != 0), request)?;
        if let Some(expected) = request.expected.filter(|&expected| expected != head.generation) {
            return Err(Error::Stale { expected, live: head.generation });
        }
        session.take_down(&control)
    }

    /// Brings members in line with what is live: cgroups that were made since, or recreated, are registered, and so is
    /// whoever should be and is not; pods' own addresses are those of their interfaces. `None` where nothing is live.
    ///
    /// # Errors
    /// Then what was live is live.
    pub fn refresh(&self) -> Result<Option<Applied>> {
        if self.is_by_rulesets() {
            return self.refresh_rulesets();
        }
        let session = Session::begin(self.node(), &self.options)?;
        let Some(session) = session else { return Ok(None) };
        let (Some(maps), Some(live)) = (&session.maps, session.live()?) else { return Ok(None) };
        reapply_unchanged(&session, maps, &live, true).map(Some)
    }

    fn apply_locked(
        &self,
        session: &Session<'_, S>,
        request: &Apply<'_, S>,
        prepared: &mut Prepared<S>,
        began: u64,
    ) -> Result<Applied> {
        let live = match session.live() {
            // Tables of another version are no damage: programs of this one must never see them.
            Err(other @ Error::OtherAbi { found: 1.. }) => return Err(other),
            Err(_) if request.repair => session.unreadable(request.tables)?,
            live => live?,
        };
        check_basis(live.as_ref(), request)?;
        if live.is_none() {
            hooks::check_alone(self.node())?;
        }
        self.check_capacity(request.tables)?;
        self.check_memory(request.tables, live.is_none())?;
        if request.reset_changed && !self.system.can_close()? {
            return Err(Error::CannotClose);
        }
        record::create_dirs(self.node())?;
        files::create_dir(self.node())?;
        if live.is_none() {
            let _ = tell_holder(self.node(), &self.options);
        }
        match (&live, &session.maps) {
            (Some(live), Some(maps)) if *live.digest() == request.tables.digest() && !request.repair => {
                let applied = reapply_unchanged(session, maps, live, false)?;
                record::keep_lines(self.node(), &applied.digest, request.lines)?;
                recent::note(self.node(), request.keep_decisions)?;
                Ok(self.reset(maps, request, applied))
            }
            (Some(live), Some(maps)) => {
                let applied = Publish { session, maps, live: Some(live), request, began }.run(prepared);
                if applied.is_err() {
                    // Otherwise the next command does it.
                    let _ = maps.control.set(&self.system, Word::Claim, 0);
                }
                applied.map(|applied| self.reset(maps, request, applied))
            }
            _ => publish_first(session, request, prepared, began),
        }
    }
}

impl<S: System> Runtime<S> {
    /// Closes what the policy, now live, decides otherwise, where that is asked for. A policy that is paused
    /// decides nothing.
    fn reset(&self, maps: &PinnedMaps<S>, request: &Apply<'_, S>, mut applied: Applied) -> Applied {
        if request.reset_changed && !applied.paused {
            match reset::close_changed(self.node(), maps, request.tables) {
                Ok(closed) => applied.closed = Some(closed),
                Err(error) => applied.warnings.push(Warning::ConnectionsNotReset((&error).into())),
            }
        }
        applied
    }
}

fn check_basis<S: System>(live: Option<&Live>, request: &Apply<'_, S>) -> Result<()> {
    let generation = live.map_or(0, |live| live.generation);
    if let Some(expected) = request.expected.filter(|&expected| expected != generation) {
        return Err(Error::Stale { expected, live: generation });
    }
    check_owner(live.map(Live::owner), request)
}

pub(super) fn check_owner<S: System>(owner: Option<Owner>, request: &Apply<'_, S>) -> Result<()> {
    match owner {
        // An agent follows its cluster; it does not ask.
        Some(Owner::Agent) if request.owner == Owner::Cli && !request.override_owner => {
            Err(Error::Owned(Owner::Agent))
        }
        Some(Owner::Cli) if request.owner == Owner::Agent && !request.override_owner => {
            Err(Error::Owned(Owner::Cli))
        }
        _ => Ok(()),
    }
}
