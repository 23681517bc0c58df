//! A compiled policy as one file: the tables, exactly as the kernel will hold them.
//!
//! Little-endian: 8 bytes `meshcart`, policy ABI (4), number of tables (4), the policy's digest (32); then for
//! each table its length in bytes (8); then the tables. It is known by its first bytes, never by its name.
//!
//! The policy's digest covers the ABI and the length and digest of every table, so that a flipped bit anywhere
//! is found, and what was hashed to read a policy need not be hashed again to apply it.

use std::io::{self, Read};
use std::thread;

use crate::abi::POLICY_ABI;
use crate::image::MapImage;
use crate::map::{TABLES, Table};
use crate::tables::{Damaged, Digest, TableData, Tables, is_known};
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
    /// Its bytes cannot be had.
    #[error("it cannot be read: {0}")]
    Unreadable(io::ErrorKind),
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
    out.extend_from_slice(&head(tables));
    for content in contents(tables) {
        out.extend_from_slice(content);
    }
    out
}

/// What an artifact begins with, up to its tables.
#[must_use]
pub fn head(tables: &Tables) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + TABLES * 8);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&tables.policy_abi().to_le_bytes());
    out.extend_from_slice(&crate::abi::TABLE_COUNT.to_le_bytes());
    out.extend_from_slice(&tables.digest());
    for content in contents(tables) {
        out.extend_from_slice(&(content.len() as u64).to_le_bytes());
    }
    out
}

/// What follows its [`head`].
pub fn contents(tables: &Tables) -> impl Iterator<Item = &[u8]> {
    Table::ALL.into_iter().map(|table| tables.get(table).bytes())
}

/// Reads an artifact, checks all of it, and returns its tables and the image that they hold.
///
/// # Errors
/// Where it is not exactly what [`encode`] wrote of a valid image.
pub fn decode(bytes: &[u8]) -> Result<(Tables, MapImage), BadArtifact> {
    read(bytes, bytes.len() as u64)
}

/// The same of `length` bytes that are still to be read.
///
/// # Errors
/// The same, and where they cannot be read.
pub fn read(mut input: impl Read, length: u64) -> Result<(Tables, MapImage), BadArtifact> {
    if take::<8>(&mut input)? != MAGIC {
        return Err(BadArtifact::NotAnArtifact);
    }
    let abi = u32::from_le_bytes(take(&mut input)?);
    if !is_known(abi) || u32::from_le_bytes(take(&mut input)?) != crate::abi::TABLE_COUNT {
        return Err(BadArtifact::OtherAbi { found: abi });
    }
    let digest: Digest = take(&mut input)?;
    let mut lengths = [0; TABLES];
    let mut rest = length.checked_sub((HEAD + TABLES * 8) as u64).ok_or(CUT_OFF)?;
    for length in &mut lengths {
        *length = u64::from_le_bytes(take(&mut input)?);
        rest = rest.checked_sub(*length).ok_or(CUT_OFF)?;
    }
    if rest != 0 {
        return Err(BadArtifact::Damaged("it goes on after its end"));
    }
    let mut tables = Tables::default();
    for (table, length) in Table::ALL.into_iter().zip(lengths) {
        let length = usize::try_from(length).map_err(|_| CUT_OFF)?;
        tables.set(table, TableData::read(&mut input, length).map_err(unreadable)?);
    }
    // Both take about as long, and what is damaged is not believed, whatever it says.
    let (digested, image) = thread::scope(|scope| {
        let hashing = scope.spawn(|| tables.digest());
        let image = unpack(&tables);
        (hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), image)
    });
    if digest != digested || abi != tables.policy_abi() || !tables.get(Table::Manifest).bytes().is_empty() {
        return Err(BadArtifact::Damaged("its digest does not fit its content"));
    }
    Ok((tables, image?))
}

const CUT_OFF: BadArtifact = BadArtifact::Damaged("it is cut off");

fn unreadable(error: io::Error) -> BadArtifact {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CUT_OFF,
        kind => BadArtifact::Unreadable(kind),
    }
}

fn take<const LENGTH: usize>(input: &mut impl Read) -> Result<[u8; LENGTH], BadArtifact> {
    let mut taken = [0; LENGTH];
    input.read_exact(&mut taken).map_err(unreadable)?;
    Ok(taken)
}
