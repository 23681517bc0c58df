//! A compiled policy as one file: the tables, exactly as the kernel will hold them.
//!
//! Little-endian: 8 bytes `meshcart`, policy ABI (4), number of tables (4), the policy's digest (32); then for
//! each table its length in bytes (8); then the tables. It is known by its first bytes, never by its name.
//!
//! The policy's digest covers the ABI and the length and digest of every table, so that a flipped bit anywhere
//! is found, and what was hashed to read a policy need not be hashed again to apply it.

use crate::abi::POLICY_ABI;
use crate::image::MapImage;
use crate::map::{TABLES, Table};
use crate::tables::{Damaged, TableData, Tables};
use crate::unpack::unpack;

/// What an artifact begins with.
pub const MAGIC: [u8; 8] = *b"meshcart";
const HEAD: usize = 48;

/// A file that is no usable artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadArtifact {
    /// Other first bytes.
    #[error("it is not a compiled policy")]
    NotAnArtifact,
    /// Written by a meshc with other tables.
    #[error("it was compiled for policy ABI {found}, and this meshc has {POLICY_ABI}; compile it again")]
    OtherAbi {
        /// The ABI that it was written for.
        found: u32,
    },
    /// Shorter or longer than it says, or a byte differs.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// Its digest is right, and its tables are not.
    #[error(transparent)]
    Tables(#[from] Damaged),
}

/// Whether a file that begins so is an artifact.
#[must_use]
pub fn is_artifact(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Writes an artifact.
#[must_use]
pub fn encode(tables: &Tables) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + TABLES * 8 + tables.size());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&POLICY_ABI.to_le_bytes());
    out.extend_from_slice(&crate::abi::TABLE_COUNT.to_le_bytes());
    out.extend_from_slice(&tables.digest());
    for table in Table::ALL {
        out.extend_from_slice(&(tables.get(table).bytes().len() as u64).to_le_bytes());
    }
    for table in Table::ALL {
        out.extend_from_slice(tables.get(table).bytes());
    }
    out
}

/// Reads an artifact, checks all of it, and returns its tables and the image that they hold.
///
/// # Errors
/// Where it is not exactly what [`encode`] wrote of a valid image.
pub fn decode(bytes: &[u8]) -> Result<(Tables, MapImage), BadArtifact> {
    let mut input = Input(bytes);
    if input.take(MAGIC.len()) != Some(&MAGIC) {
        return Err(BadArtifact::NotAnArtifact);
    }
    let short = || BadArtifact::Damaged("it is cut off");
    let found = input.u32().ok_or_else(short)?;
    if found != POLICY_ABI || input.u32().ok_or_else(short)? != crate::abi::TABLE_COUNT {
        return Err(BadArtifact::OtherAbi { found });
    }
    let digest = input.take(32).ok_or_else(short)?;
    let mut lengths = Vec::with_capacity(TABLES);
    for _ in 0..TABLES {
        lengths.push(input.u64().and_then(|length| usize::try_from(length).ok()).ok_or_else(short)?);
    }
    let mut tables = Tables::default();
    for (table, length) in Table::ALL.into_iter().zip(lengths) {
        tables.set(table, TableData::from_bytes(input.take(length).ok_or_else(short)?));
    }
    if !input.0.is_empty() {
        return Err(BadArtifact::Damaged("it goes on after its end"));
    }
    if digest != tables.digest() || !tables.get(Table::Manifest).bytes().is_empty() {
        return Err(BadArtifact::Damaged("its digest does not fit its content"));
    }
    let image = unpack(&tables)?;
    Ok((tables, image))
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}
