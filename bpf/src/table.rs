//! The tables of a policy, and the slots that hold them.

/// The tables of a slot. All have one shape, an array of lines, so that one outer map holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Table {
    /// [`ManifestHeader`](crate::abi::ManifestHeader), then one [`ManifestTable`](crate::abi::ManifestTable) for each table.
    Manifest = 0,
    /// [`Profile`](crate::abi::Profile), one a line.
    Profiles = 1,
    /// [`TreeLine`](crate::abi::TreeLine): search trees on addresses, ids and peers. Line 0 is unused: 0 means "no tree".
    Trees = 2,
    /// `u32`: what the stretches between a tree's keys stand for.
    Spans = 3,
    /// [`Node`](crate::abi::Node).
    Nodes = 4,
    /// [`PortLine`](crate::abi::PortLine): search trees on ports. Line 0 is unused: 0 means "no tree".
    Ports = 5,
    /// [`Decision`](crate::abi::Decision).
    Decisions = 6,
    /// [`Source`](crate::abi::Source).
    Sources = 7,
    /// Names, texts of items and compiled selectors, for user space: see `pack`.
    Names = 8,
}

/// How many tables a slot has.
pub const TABLES: usize = 9;

impl Table {
    /// All of them, in index order.
    pub const ALL: [Self; TABLES] = [
        Self::Manifest,
        Self::Profiles,
        Self::Trees,
        Self::Spans,
        Self::Nodes,
        Self::Ports,
        Self::Decisions,
        Self::Sources,
        Self::Names,
    ];

    /// The name in messages, `status`, and in C with `MESH_TABLE_` before it and in capitals.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Profiles => "profiles",
            Self::Trees => "trees",
            Self::Spans => "spans",
            Self::Nodes => "nodes",
            Self::Ports => "ports",
            Self::Decisions => "decisions",
            Self::Sources => "sources",
            Self::Names => "names",
        }
    }

    /// Its index in the outer map.
    #[must_use]
    pub const fn index(self, slot: u32) -> u32 {
        slot * TABLES as u32 + self as u32
    }
}

/// The slot that a generation lives in.
#[must_use]
pub const fn slot(generation: u64) -> u32 {
    (generation & 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_index_order() {
        for (index, table) in (0..).zip(Table::ALL) {
            assert_eq!(table as u32, index);
        }
    }
}
