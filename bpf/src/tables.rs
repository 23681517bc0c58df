//! The tables of one generation: what the programs read, byte for byte.

use std::io;
use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};

use crate::abi::{
    self, LINE, MANIFEST_MAGIC, ManifestHeader, ManifestTable, POLICY_ABI, POLICY_ABI_CLASSED,
    POLICY_ABI_UNCLASSED, PROFILE_FROM_NODE, PROFILE_TO_NODE,
};
use crate::map::{TABLES, Table};

/// A BLAKE3 digest.
pub type Digest = [u8; 32];

/// 64 bytes, aligned for every structure that a table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Line(pub [u64; LINE / 8]);

/// The content of one table: whole lines, of which `bytes` are in use and the rest is zero.
#[derive(Clone, Debug, Default)]
pub struct TableData {
    lines: Vec<Line>,
    bytes: usize,
    /// Once it has been asked for; the content never changes.
    digest: OnceLock<Digest>,
}

impl PartialEq for TableData {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.lines == other.lines
    }
}

impl Eq for TableData {}

impl TableData {
    /// A table of `records`.
    #[must_use]
    pub fn from_records<T: Pod>(records: &[T]) -> Self {
        Self::from_bytes(bytemuck::cast_slice(records))
    }

    /// A table of `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut data = Self::zeroed(bytes.len());
        data.used().copy_from_slice(bytes);
        data
    }

    /// A table of the next `bytes` bytes of `input`.
    pub(crate) fn read(input: &mut impl io::Read, bytes: usize) -> io::Result<Self> {
        let mut data = Self::zeroed(bytes);
        input.read_exact(data.used())?;
        Ok(data)
    }

    fn zeroed(bytes: usize) -> Self {
        Self { lines: vec![Line::default(); bytes.div_ceil(LINE)], bytes, digest: OnceLock::new() }
    }

    fn used(&mut self) -> &mut [u8] {
        let lines: &mut [u8] = bytemuck::cast_slice_mut(&mut self.lines);
        lines.get_mut(..self.bytes).unwrap_or_default()
    }

    /// The bytes in use.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.padded().get(..self.bytes).unwrap_or_default()
    }

    /// Whole lines, as the kernel's map holds them: at least one, since no map is empty.
    #[must_use]
    pub fn padded(&self) -> &[u8] {
        static EMPTY: [Line; 1] = [Line([0; LINE / 8])];
        if self.lines.is_empty() { bytemuck::cast_slice(&EMPTY) } else { bytemuck::cast_slice(&self.lines) }
    }

    /// How many lines the kernel's map needs.
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.lines.len().max(1)
    }

    /// As records. Bytes that do not fill a record are left out.
    #[must_use]
    pub fn records<T: Pod>(&self) -> &[T] {
        let whole = self.bytes / size_of::<T>();
        let lines: &[T] = bytemuck::try_cast_slice(&self.lines).unwrap_or_default();
        lines.get(..whole).unwrap_or(lines)
    }

    /// Digest of the bytes in use: worked out when it is first asked for.
    #[must_use]
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| *blake3::hash(self.bytes()).as_bytes())
    }
}

/// All tables of one generation. The manifest is not among them: it is made from the others when a
/// generation gets its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    tables: [TableData; TABLES],
}

/// A table that does not hold what its layout says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table `{}` is damaged: {what}", .table.word())]
pub struct Damaged {
    /// Which table.
    pub table: Table,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Tables {
    /// One table. The manifest is empty.
    #[must_use]
    pub fn get(&self, table: Table) -> &TableData {
        let [manifest, profiles, trees, spans, nodes, ports, decisions, sources, names] = &self.tables;
        match table {
            Table::Manifest => manifest,
            Table::Profiles => profiles,
            Table::Trees => trees,
            Table::Spans => spans,
            Table::Nodes => nodes,
            Table::Ports => ports,
            Table::Decisions => decisions,
            Table::Sources => sources,
            Table::Names => names,
        }
    }

    /// Puts one table in place.
    pub fn set(&mut self, table: Table, data: TableData) {
        if let Some(slot) = self.tables.get_mut(table as usize) {
            *slot = data;
        }
    }

    /// Bytes that the kernel holds for it, without the manifest.
    #[must_use]
    pub fn size(&self) -> usize {
        self.tables.iter().map(|table| table.line_count() * LINE).sum()
    }

    /// The version of these tables: the least that says all that is in them.
    #[must_use]
    pub fn policy_abi(&self) -> u32 {
        let profiles: &[abi::Profile] = self.get(Table::Profiles).records();
        let asks = |profile: &abi::Profile| profile.flags & (PROFILE_TO_NODE | PROFILE_FROM_NODE) != 0;
        let is_classed = |profile: &abi::Profile| {
            profile.class_cells != 0 || profile.flags & abi::PROFILE_EXEMPT_INTERFACES != 0
        };
        if profiles.iter().any(asks) {
            POLICY_ABI
        } else if profiles.iter().any(is_classed) {
            POLICY_ABI_CLASSED
        } else {
            POLICY_ABI_UNCLASSED
        }
    }

    /// The policy's digest: over the digests of all tables but the manifest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        policy_digest(self.policy_abi(), &self.table_digests())
    }

    fn table_digests(&self) -> Vec<ManifestTable> {
        (self.tables.iter())
            .map(|table| ManifestTable {
                bytes: table.bytes as u64,
                digest: table.digest(),
                ..ManifestTable::zeroed()
            })
            .collect()
    }

    /// The manifest table of this policy as generation `generation`, applied by `owner`.
    #[must_use]
    pub fn manifest(&self, generation: u64, owner: u32) -> TableData {
        let tables = self.table_digests();
        let header = ManifestHeader {
            magic: MANIFEST_MAGIC,
            policy_abi: self.policy_abi(),
            tables: abi::TABLE_COUNT,
            digest: policy_digest(self.policy_abi(), &tables),
            generation,
            owner,
            reserve: 0,
        };
        let mut bytes = bytemuck::bytes_of(&header).to_vec();
        bytes.extend_from_slice(bytemuck::cast_slice(&tables));
        TableData::from_bytes(&bytes)
    }
}

/// The manifest of a slot, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The fixed head.
    pub header: ManifestHeader,
    /// Each table's length and digest, in index order.
    pub tables: [ManifestTable; TABLES],
}

impl Manifest {
    /// Reads a manifest table.
    ///
    /// # Errors
    /// Where it is no manifest, or of another policy ABI.
    pub fn read(data: &TableData) -> Result<Self, Damaged> {
        let damaged = |what| Damaged { table: Table::Manifest, what };
        let lines: &[ManifestTable] = data.records();
        let header: ManifestHeader =
            *data.records().first().ok_or_else(|| damaged("it is shorter than its header"))?;
        if header.magic != MANIFEST_MAGIC {
            return Err(damaged("it does not begin as a manifest does"));
        }
        if !is_known(header.policy_abi) || header.tables != abi::TABLE_COUNT {
            return Err(damaged("it was written by another version of meshc"));
        }
        let tables: [ManifestTable; TABLES] = (lines.get(1..=TABLES))
            .and_then(|tables| tables.try_into().ok())
            .ok_or_else(|| damaged("it does not name every table"))?;
        if header.digest != policy_digest(header.policy_abi, &tables) {
            return Err(damaged("its digest is not that of the tables it names"));
        }
        Ok(Self { header, tables })
    }

    /// What it says of one table.
    #[must_use]
    pub fn table(&self, table: Table) -> &ManifestTable {
        let [first, ..] = &self.tables;
        self.tables.get(table as usize).unwrap_or(first)
    }
}

/// Whether tables of this version can be read.
#[must_use]
pub const fn is_known(policy_abi: u32) -> bool {
    matches!(policy_abi, POLICY_ABI | POLICY_ABI_CLASSED | POLICY_ABI_UNCLASSED)
}

fn policy_digest(policy_abi: u32, tables: &[ManifestTable]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&policy_abi.to_le_bytes());
    for table in tables.iter().skip(1) {
        hasher.update(&table.bytes.to_le_bytes()).update(&table.digest);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_another_version_is_refused_whatever_differs() {
        let tables = Tables::default();
        let manifest = tables.manifest(7, 1);
        assert!(Manifest::read(&manifest).is_ok());
        let with = |change: fn(&mut ManifestHeader)| {
            let mut bytes = manifest.bytes().to_vec();
            let header = bytemuck::from_bytes_mut(bytes.get_mut(..size_of::<ManifestHeader>()).unwrap());
            change(header);
            Manifest::read(&TableData::from_bytes(&bytes)).unwrap_err().what
        };
        let version = "it was written by another version of meshc";
        assert_eq!(with(|header| header.policy_abi = POLICY_ABI + 1), version);
        assert_eq!(with(|header| header.policy_abi = POLICY_ABI_UNCLASSED - 1), version);
        // The digest is that of a policy without classes.
        assert_ne!(with(|header| header.policy_abi = POLICY_ABI), version);
        assert_eq!(with(|header| header.tables += 1), version);
    }

    #[test]
    fn the_size_is_that_of_whole_lines() {
        let mut tables = Tables::default();
        // None is empty: the kernel has no map without an entry.
        assert_eq!(tables.size(), TABLES * 64);
        tables.set(Table::Names, TableData::from_bytes(&[1; 65]));
        assert_eq!(tables.size(), (TABLES + 1) * 64);
    }
}
