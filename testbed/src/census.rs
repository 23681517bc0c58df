//! Which BPF objects the kernel holds, so that a test can show that nothing was left.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use libc::c_long;

use crate::{raw, until};

/// The kernel frees programs and links after a grace period.
const FREEING: Duration = Duration::from_secs(10);

/// The kinds of objects that have ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A program.
    Program,
    /// A map.
    Map,
    /// A link: a program's attachment.
    Link,
    /// Type information, loaded with a program or map.
    Btf,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Program, Self::Map, Self::Link, Self::Btf];

    /// `BPF_*_GET_NEXT_ID`.
    fn next_id(self) -> c_long {
        match self {
            Self::Program => 11,
            Self::Map => 12,
            Self::Link => 31,
            Self::Btf => 23,
        }
    }

    /// `BPF_*_GET_FD_BY_ID`, and where the info of the object has its name.
    fn name_by_id(self) -> Option<(c_long, usize)> {
        match self {
            Self::Program => Some((13, 64)),
            Self::Map => Some((14, 24)),
            Self::Link | Self::Btf => None,
        }
    }
}

/// One BPF object of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its id, which the kernel does not use again soon.
    pub id: u32,
}

impl Object {
    /// The name that its maker gave it, as far as the kernel tells.
    pub fn name(&self) -> Option<String> {
        let (command, at) = self.kind.name_by_id()?;
        let fd = raw::bpf_fd(command, self.id).ok()?;
        let info = raw::bpf_info(fd.as_fd()).ok()?;
        let name = info.get(at..at + 16)?.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(name).into_owned())
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.kind, self.id, self.name().unwrap_or_default())
    }
}

/// All BPF objects of the kernel at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census(BTreeSet<Object>);

impl Census {
    /// Takes it. Only what a test made on [`crate::Ground::alone`] ground can be told from other tests' objects.
    ///
    /// # Errors
    /// If the kernel does not let us, as it does not let anyone but root.
    pub fn take() -> io::Result<Self> {
        let mut objects = BTreeSet::new();
        for kind in Kind::ALL {
            let mut id = 0;
            while let Some(next) = raw::next_bpf_id(kind.next_id(), id)? {
                objects.insert(Object { kind, id: next });
                id = next;
            }
        }
        Ok(Self(objects))
    }

    /// What is there now and was not there at this census.
    ///
    /// # Errors
    /// As [`Census::take`].
    pub fn added(&self) -> io::Result<Vec<Object>> {
        Ok(Self::take()?.0.difference(&self.0).cloned().collect())
    }

    /// The same, after the kernel had time to free what nobody holds any more: what is left for good.
    ///
    /// # Errors
    /// As [`Census::take`].
    pub fn left(&self) -> io::Result<Vec<Object>> {
        let mut left = Ok(Vec::new());
        until(FREEING, || {
            left = self.added();
            left.as_ref().map_or(true, Vec::is_empty)
        });
        left
    }

    /// How many objects of one kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.0.iter().filter(|object| object.kind == kind).count()
    }
}
