//! A compiled policy, and how two of them differ.

use std::io::Read;
use std::path::Path;

use mesh_bpf::artifact;
use mesh_bpf::image::MapImage;
use mesh_bpf::tables::Tables;
use mesh_compiler::diff::{Difference, Side, diff};
use mesh_compiler::emit::Sets;

use crate::failure::Failure;
use crate::{files, heap};

/// What a policy was compiled to.
pub struct Policy {
    /// What it means.
    pub image: MapImage,
    /// As the programs read it.
    pub tables: Tables,
    /// Its sets, as far as they are known: an artifact has none.
    pub sets: Sets,
}

/// How often the content of an artifact is in memory while it is read and written.
const COPIES: usize = 3;

impl Policy {
    /// The one that a file holds as an artifact; `None` where it is something else.
    pub fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let Some(found) = path.metadata().ok().filter(std::fs::Metadata::is_file) else { return Ok(None) };
        let (first, rest) = files::open(path)?;
        if !artifact::is_artifact(&first) {
            return Ok(None);
        }
        heap::reserve(usize::try_from(found.len()).unwrap_or(usize::MAX).saturating_mul(COPIES));
        let (tables, image) = artifact::read(first.as_slice().chain(rest), found.len()).map_err(|error| {
            Failure::refused("bad-artifact", format!("`{}`: {error}", path.display()))
                .help("make it again from the policy")
        })?;
        Ok(Some(Self { image, tables, sets: Sets::default() }))
    }

    fn side(&self) -> Side<'_> {
        Side { image: &self.image, tables: &self.tables, sets: &self.sets }
    }
}

/// All differences between two policies, or a policy and none.
pub fn compare(old: Option<&Policy>, new: Option<&Policy>) -> Result<Difference, Failure> {
    diff(old.map(Policy::side), new.map(Policy::side))
        .map_err(|damaged| Failure::cannot("damaged", damaged.to_string()))
}
