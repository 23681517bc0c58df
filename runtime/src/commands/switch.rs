//! Stops a policy from deciding, brings it back, and takes everything away.

use crate::acceleration;
use crate::attach::hooks;
use crate::error::{Error, Result};
use crate::generation::session::Session;
use crate::maps::pinned::{ControlMap, sweep};
use crate::members::{command_cgroups, reserved_ports};
use crate::runtime::Runtime;
use crate::state::record;
use crate::system::{System, Word};

/// What pause or resume found and left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switched {
    /// The generation that was stopped or brought back.
    pub generation: u64,
    /// Whether it was not already so.
    pub changed: bool,
}

/// What `detach --all` removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detached {
    /// Whether there was anything in the kernel.
    pub changed: bool,
    /// Accelerated sockets whose unread bytes were lost; `None` where the kernel does not tell.
    pub lost: Option<usize>,
}

impl<S: System> Runtime<S> {
    /// Stops interception at once and keeps everything. Established connections go on as they are.
    ///
    /// # Errors
    /// Where no policy is live.
    pub fn pause(&self) -> Result<Switched> {
        if self.is_by_rulesets() {
            return self.switch_rulesets(true);
        }
        let (session, control) = self.switch()?;
        let words = control.load(session.node.system);
        if words.generation == 0 {
            return Ok(Switched { generation: words.paused, changed: false });
        }
        // In this order: killed between, it is live, and what is to be brought back is forgotten.
        control.set(session.node.system, Word::Paused, words.generation)?;
        change(&session, &control, words.generation, 0)?;
        record::mark_paused(session.node, true)?;
        Ok(Switched { generation: words.generation, changed: true })
    }

    /// Brings back what was paused.
    ///
    /// # Errors
    /// Where no policy is live or paused.
    pub fn resume(&self) -> Result<Switched> {
        if self.is_by_rulesets() {
            return self.switch_rulesets(false);
        }
        let (session, control) = self.switch()?;
        let words = control.load(session.node.system);
        if words.generation != 0 {
            return Ok(Switched { generation: words.generation, changed: false });
        }
        change(&session, &control, 0, words.paused)?;
        control.set(session.node.system, Word::Paused, 0)?;
        record::mark_paused(session.node, false)?;
        Ok(Switched { generation: words.paused, changed: true })
    }

    /// Takes everything out of the kernel; works on what any version left. With `purge` the state directory
    /// goes too: records, kept policies, and which endpoints were attached.
    ///
    /// Bytes that went the fast path and that nobody has read yet are waited for, and where they stay unread, it is
    /// refused. Where accelerated connections go on, the kernel keeps the program and the maps that they are in
    /// until the last of them ends.
    ///
    /// # Errors
    /// What the kernel says. Whatever is left is removed by the next `detach --all`.
    pub fn detach_all(&self, purge: bool) -> Result<Detached> {
        self.detach_everything(purge, false)
    }

    /// The same, whatever is unread: it is counted and lost, and accelerated connections go on as any other.
    ///
    /// # Errors
    /// As [`Runtime::detach_all`].
    pub fn detach_all_dropping_unread(&self, purge: bool) -> Result<Detached> {
        self.detach_everything(purge, true)
    }

    fn detach_everything(&self, purge: bool, drop_unread: bool) -> Result<Detached> {
        if self.is_by_rulesets() {
            return self.detach_rulesets(purge);
        }
        let session = Session::blind(self.node(), &self.options)?;
        let changed = session.is_some();
        let mut lost = Some(0);
        if let Some(session) = session {
            sweep(&self.system, &self.instance.new_maps())?;
            match ControlMap::open(self.node())? {
                Some(control) => {
                    lost = drain(&session, &control, drop_unread)?;
                    session.take_down(&control)?;
                }
                None => {
                    acceleration::detach(self.node())?;
                    hooks::detach(self.node())?;
                    sweep(&self.system, &self.instance.maps())?;
                }
            }
            reserved_ports::release_all(self.node())?;
            command_cgroups::sweep_cgroups(self.node())?;
            self.system.remove(&self.instance.pending())?;
            self.system.remove(&self.instance.placement_file())?;
            self.system.remove_dir(&self.instance.pins())?;
        }
        // Of a file system that was unmounted, or is covered by another one. Only CAP_SYS_ADMIN may look for them; who
        // has found pins has found what was attached.
        let lost_links = match hooks::detach_lost(self.node()) {
            Err(Error::System(cause)) if changed && cause.is_refusal() => 0,
            found => found?,
        };
        if !changed && lost_links > 0 {
            reserved_ports::release_all(self.node())?;
            command_cgroups::sweep_cgroups(self.node())?;
            self.system.remove(&self.instance.pending())?;
            self.system.remove(&self.instance.placement_file())?;
        }
        let changed = changed || lost_links > 0;
        if purge {
            record::purge(self.node())?;
        }
        Ok(Detached { changed, lost })
    }

    fn switch(&self) -> Result<(Session<'_, S>, ControlMap<S>)> {
        let session = Session::begin(self.node(), &self.options)?;
        let session = session.ok_or(Error::NoPolicy)?;
        let control = ControlMap::open(self.node())?.ok_or(Error::NoPolicy)?;
        Ok((session, control))
    }
}

/// Sends nothing more over the fast path, and waits until what went by it is read. Where it is not, all is as before,
/// or it is dropped; then says how many sockets lose something, as far as the kernel tells.
fn drain<S: System>(
    session: &Session<'_, S>,
    control: &ControlMap<S>,
    drop_unread: bool,
) -> Result<Option<usize>> {
    let node = session.node;
    let words = control.load(node.system);
    if words.generation == 0 && words.paused == 0 {
        return Ok(Some(0));
    }
    control.set(node.system, Word::Generation, 0)?;
    if drop_unread {
        // A kernel that does not tell must not keep anyone from detaching.
        let unread = acceleration::unread(node).ok().map(|unread| unread.unwrap_or(0));
        acceleration::release(node)?;
        return Ok(unread);
    }
    let error = match acceleration::drain(node) {
        Ok(0) => return Ok(Some(0)),
        Ok(unread) => Error::Unread(unread),
        Err(Error::System(cause)) if cause.is_refusal() => Error::UnreadUnknown(cause),
        Err(error) => error,
    };
    control.set(node.system, Word::Generation, words.generation)?;
    Err(error)
}

/// Nobody else writes the word while the lock is held, unless the lock's directory was removed.
fn change<S: System>(session: &Session<'_, S>, control: &ControlMap<S>, old: u64, new: u64) -> Result<()> {
    if control.exchange(session.node.system, Word::Generation, old, new)? {
        return Ok(());
    }
    Err(Error::Stale { expected: old, live: control.load(session.node.system).generation })
}
