//! Kept generations: back to one, after a mistake or a boot.

use mesh_bpf::image::MapImage;
use mesh_bpf::tables::Tables;

use crate::commands::status::Head;
use crate::error::{Error, Result};
use crate::generation::confirmation::{self, PendingConfirmation};
use crate::generation::request::{Applied, Apply};
use crate::owner::Owner;
use crate::runtime::Runtime;
use crate::state::record::{self, Record};
use crate::system::System;

/// A generation that the state directory remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What is known of it.
    pub record: Record,
    /// It is the one that the kernel holds.
    pub is_live: bool,
    /// Its policy is kept, so that a rollback can bring it back.
    pub is_kept: bool,
}

impl<S: System> Runtime<S> {
    /// Every generation that is remembered, oldest first.
    ///
    /// # Errors
    /// Where the state directory or the kernel cannot be read.
    pub fn history(&self) -> Result<Vec<Kept>> {
        let live = self.head()?.generation;
        let artifacts = self.system.list(&self.instance.artifacts())?.unwrap_or_default();
        Ok((record::history(self.node())?.into_iter())
            .map(|record| Kept {
                is_live: record.generation == live,
                is_kept: artifacts.contains(&record.digest),
                record,
            })
            .collect())
    }

    /// The live generation, where it is taken back unless somebody confirms it.
    ///
    /// # Errors
    /// Where the state directory or the kernel cannot be read.
    pub fn pending(&self) -> Result<Option<PendingConfirmation>> {
        let waiting = confirmation::read(self.node())?;
        let live = self.head()?.generation;
        Ok(waiting.filter(|it| it.generation == live && it.boot_id == self.instance.boot_id))
    }

    /// The policy of a generation, from its artifact, all of it checked.
    ///
    /// # Errors
    /// Where it is not kept, or damaged.
    pub fn kept(&self, generation: u64) -> Result<(Record, Tables, MapImage)> {
        let file = self.instance.history().join(generation.to_string());
        let record: Record = record::read(&self.system, &file)?.ok_or(Error::NotKept(generation))?;
        let policy = record::artifact(self.node(), &record.digest)?;
        let (tables, image) = policy.ok_or(Error::NotKept(generation))?;
        Ok((record, tables, image))
    }

    /// Which line of which file each item of a policy is from, by its digest in hexadecimal: what [`Apply::lines`] was
    /// when it was last applied. `None` where nobody said.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn lines(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.system.read(&self.instance.lines(digest))?)
    }

    /// Makes a kept policy live again, as a new generation and with today's members: that of `generation`,
    /// or else the last that was live before this policy and was not taken back.
    ///
    /// # Errors
    /// Where there is none, or as [`Runtime::apply`].
    pub fn rollback(&self, generation: Option<u64>, owner: Owner, override_owner: bool) -> Result<Applied> {
        let head = self.head()?;
        let generation = generation.map_or_else(|| self.before(&head), Ok)?;
        self.bring_back(generation, &head, (owner, override_owner), &format!("rollback to {generation}"))
    }

    /// Applies the policy of a kept generation in the place of what is live.
    pub(crate) fn bring_back(
        &self,
        generation: u64,
        head: &Head,
        (owner, override_owner): (Owner, bool),
        origin: &str,
    ) -> Result<Applied> {
        let (_, tables, _) = self.kept(generation)?;
        let expected = Some(head.generation);
        self.apply(Apply { owner, override_owner, origin, expected, ..Apply::of(&tables) })
    }

    /// The last generation before what is live that has another policy and was not taken back.
    fn before(&self, head: &Head) -> Result<u64> {
        let records = record::history(self.node())?;
        let earlier = records.iter().rev().filter(|record| record.generation < head.generation);
        let mut others = earlier.filter(|record| record.digest != head.digest && !record.taken_back);
        others.next().map(|record| record.generation).ok_or(Error::NothingBefore)
    }
    /// After a boot: makes the policy live that was live before; paused if it was paused. What was never
    /// confirmed is not restored: the policy before it is. `None` where there is nothing to restore.
    ///
    /// # Errors
    /// As [`Runtime::apply`], or where the policy is not kept.
    pub fn restore(&self) -> Result<Option<Applied>> {
        let Some(mut record) = record::read::<Record>(&self.system, &self.instance.current())? else {
            return Ok(None);
        };
        if let Some(waiting) = confirmation::read(self.node())?
            && waiting.generation == record.generation
            && self.head()?.generation == 0
        {
            self.system.remove(&self.instance.confirm())?;
            if waiting.back_to == 0 {
                self.system.remove(&self.instance.current())?;
                return Ok(None);
            }
            record = self.kept(waiting.back_to)?.0;
        }
        let not_kept = Error::NotKept(record.generation);
        let policy = record::artifact(self.node(), &record.digest)?;
        let (tables, _) = policy.ok_or(not_kept)?;
        let origin = format!("restore of {}", record.generation);
        let paused = self.system.inode(&self.instance.paused())?.is_some();
        let request = Apply { owner: record.owner, origin: &origin, paused, ..Apply::of(&tables) };
        self.apply(request).map(Some)
    }
}
