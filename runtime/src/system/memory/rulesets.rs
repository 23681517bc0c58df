//! Rulesets: names of what batches add and delete. Nothing goes through them.

use std::collections::BTreeMap;
use std::path::Path;

use mesh_nft::Batch;

use super::batch::{About, Act, Message, messages};
use super::world::{Memory, error};
use crate::system::nftables::Kind;
use crate::system::{Held, Rulesets, SysResult, Tracked};

impl Memory {
    /// The tables of nftables in a network namespace, by name.
    ///
    /// # Errors
    /// If the file stands for no namespace.
    pub fn tables(&self, netns: &Path) -> SysResult<BTreeMap<String, Held>> {
        self.namespace(netns).map(|(_, namespace)| namespace.tables.borrow().clone())
    }

    /// From now on a namespace refuses every batch with this error; with `None` none.
    ///
    /// # Errors
    /// If the file stands for no namespace.
    pub fn refuse_rulesets(&self, netns: &Path, errno: Option<i32>) -> SysResult<()> {
        self.namespace(netns).map(|(_, namespace)| namespace.refuses.set(errno))
    }

    /// Somebody else changes a table of nftables: takes away one of its chains.
    ///
    /// # Errors
    /// If the file stands for no namespace.
    pub fn take_chain(&self, netns: &Path, table: &str, chain: &str) -> SysResult<()> {
        let (_, namespace) = self.namespace(netns)?;
        namespace.commits.set(namespace.commits.get() + 1);
        if let Some(held) = namespace.tables.borrow_mut().get_mut(table) {
            held.chains.remove(chain);
        }
        Ok(())
    }

    /// What a message does to the tables; the error where it cannot be done.
    fn follow(&self, tables: &mut BTreeMap<String, Held>, message: Message<'_>) -> Result<(), i32> {
        let table = message.table().ok_or(libc::EINVAL)?;
        match (message.about, message.act) {
            (About::Table, Act::Add) => drop(tables.entry(table.into()).or_default()),
            (About::Table, Act::Delete) => drop(tables.remove(table).ok_or(libc::ENOENT)?),
            _ => return self.follow_in(tables.get_mut(table).ok_or(libc::ENOENT)?, message),
        }
        Ok(())
    }

    fn follow_in(&self, held: &mut Held, message: Message<'_>) -> Result<(), i32> {
        let handle = u64::from(self.number());
        let exclusive = i32::from(message.flags) & libc::NLM_F_EXCL != 0;
        let kind = match message.about {
            About::One(kind) => kind,
            About::Elements if message.name().is_some_and(|name| held.sets.contains_key(name)) => {
                return Ok(());
            }
            _ => return Err(libc::ENOENT),
        };
        match (kind, message.act, message.name()) {
            // All rules of the table.
            (Kind::Rule, Act::Delete, None) => held.chains.values_mut().for_each(|(_, rules)| rules.clear()),
            (Kind::Rule, Act::Delete, Some(name)) => {
                held.chains.get_mut(name).ok_or(libc::ENOENT)?.1.clear();
            }
            (Kind::Rule, Act::Add, Some(name)) => {
                held.chains.get_mut(name).ok_or(libc::ENOENT)?.1.push(handle);
            }
            (Kind::Chain, Act::Add, Some(name)) if exclusive && held.chains.contains_key(name) => {
                return Err(libc::EEXIST);
            }
            (Kind::Chain, Act::Add, Some(name)) => {
                held.chains.entry(name.into()).or_insert((handle, Vec::new()));
            }
            (Kind::Chain, Act::Delete, Some(name)) => drop(held.chains.remove(name).ok_or(libc::ENOENT)?),
            (Kind::Set, Act::Add, Some(name)) => {
                held.sets.entry(name.into()).or_insert(handle);
            }
            (Kind::Set, Act::Delete, Some(name)) => {
                held.sets.remove(name).ok_or(libc::ENOENT)?;
            }
            (Kind::Object, Act::Add, Some(name)) => {
                held.counters.entry(name.into()).or_insert(0);
            }
            (Kind::Object, Act::Delete, Some(name)) => {
                held.counters.remove(name).ok_or(libc::ENOENT)?;
            }
            _ => return Err(libc::EINVAL),
        }
        Ok(())
    }
}

impl Rulesets for Memory {
    fn commit(&self, netns: &Path, cookie: u64, batch: &Batch) -> SysResult<()> {
        let namespace = self.inside(netns, cookie)?;
        let mut tables = namespace.tables.borrow().clone();
        let refused = namespace.refuses.get().map_or(Ok(()), Err);
        let bytes = batch.chunks().collect::<Vec<_>>().concat();
        let done =
            refused.and_then(|()| messages(&bytes).try_for_each(|message| self.follow(&mut tables, message)));
        done.map_err(|errno| error("loading a ruleset", netns, errno))?;
        *namespace.tables.borrow_mut() = tables;
        namespace.commits.set(namespace.commits.get() + 1);
        Ok(())
    }

    fn commits(&self, netns: &Path, cookie: u64) -> SysResult<u32> {
        Ok(self.inside(netns, cookie)?.commits.get())
    }

    fn table(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<Option<Held>> {
        Ok(self.inside(netns, cookie)?.tables.borrow().get(table).cloned())
    }

    fn chains(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<Vec<String>> {
        let held = self.table(netns, cookie, table)?;
        Ok(held.map(|held| held.chains.into_keys().collect()).unwrap_or_default())
    }

    fn packets(&self, netns: &Path, cookie: u64, table: &str) -> SysResult<BTreeMap<String, u64>> {
        Ok(self.table(netns, cookie, table)?.map(|held| held.counters).unwrap_or_default())
    }

    fn tracked(&self, netns: &Path, cookie: u64) -> SysResult<Vec<Tracked>> {
        Ok(self.inside(netns, cookie)?.tracked.borrow().clone())
    }

    fn forget(&self, netns: &Path, cookie: u64, connections: &[Tracked]) -> SysResult<()> {
        self.inside(netns, cookie)?.tracked.borrow_mut().retain(|one| !connections.contains(one));
        Ok(())
    }
}
