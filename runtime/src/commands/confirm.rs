//! A policy that takes itself back unless somebody confirms it: for changes that may cut off whoever makes
//! them.

use crate::error::{Error, Result};
use crate::generation::confirmation;
use crate::runtime::Runtime;
use crate::state::record::{self, Record};
use crate::system::System;

/// What happened to a generation that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing waits: it was confirmed, or something else went live.
    Settled,
    /// This many milliseconds are left.
    Waits(u64),
    /// It was taken back; the generation is now this one, 0 for none.
    TakenBack(u64),
}

impl<S: System> Runtime<S> {
    /// Keeps the live generation for good. Returns it.
    ///
    /// # Errors
    /// Where nothing waits to be confirmed.
    pub fn confirm(&self) -> Result<u64> {
        let waiting = confirmation::read(self.node())?.ok_or(Error::NothingWaits)?;
        if self.head()?.generation != waiting.generation {
            return Err(Error::NothingWaits);
        }
        self.mark_taken_back(waiting.generation, false)?;
        self.system.remove(&self.instance.confirm())?;
        Ok(waiting.generation)
    }

    /// Takes back what nobody confirmed in time. Whoever applied it calls this until it is settled.
    ///
    /// # Errors
    /// As [`Runtime::rollback`].
    pub fn expire(&self) -> Result<Expiry> {
        let Some(waiting) = confirmation::read(self.node())? else {
            return Ok(Expiry::Settled);
        };
        let head = self.head()?;
        if head.generation != waiting.generation {
            return Ok(Expiry::Settled);
        }
        let now = self.system.clock();
        if waiting.boot_id == self.instance.boot_id && now < waiting.deadline {
            return Ok(Expiry::Waits(waiting.deadline - now));
        }
        self.mark_taken_back(waiting.generation, true)?;
        if waiting.back_to == 0 {
            self.detach_all(false)?;
            self.system.remove(&self.instance.confirm())?;
            return Ok(Expiry::TakenBack(0));
        }
        // The apply forgets what waited.
        let origin = format!("{} was not confirmed: back to {}", waiting.generation, waiting.back_to);
        let applied = self.bring_back(waiting.back_to, &head, (head.owner, true), &origin)?;
        Ok(Expiry::TakenBack(applied.generation))
    }

    /// Notes in a generation's record whether it was taken back: before it is, so that a process that is killed
    /// meanwhile leaves no failed policy for `rollback` to find.
    fn mark_taken_back(&self, generation: u64, taken_back: bool) -> Result<()> {
        let file = self.instance.history().join(generation.to_string());
        match record::read::<Record>(&self.system, &file)? {
            Some(found) if found.taken_back != taken_back => {
                record::write(&self.system, &file, &Record { taken_back, ..found }, true)
            }
            _ => Ok(()),
        }
    }
}
