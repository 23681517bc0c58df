//! A compiled policy, and how two of them differ.

use std::io::Read;
use std::path::Path;

use mesh_bpf::artifact;
use mesh_bpf::image::MapImage;
use mesh_bpf::tables::Tables;
use mesh_compiler::diff::{Cause, Difference, Side, causes, diff};
use mesh_compiler::emit::Sets;

use crate::failure::Failure;
use crate::places::{Place, Places};
use crate::render::difference::{Beside, CauseAt};
use crate::{files, heap};

/// What a policy was compiled to.
pub struct Policy {
    /// What it means.
    pub image: MapImage,
    /// As the programs read it.
    pub tables: Tables,
    /// Where its items are written, as far as that is known: an artifact does not say.
    pub places: Places,
    /// Its sets, likewise.
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
        Ok(Some(Self::of(image, tables, Places::default())))
    }

    /// A policy with what is known of its source.
    pub fn of(image: MapImage, tables: Tables, places: Places) -> Self {
        Self { image, tables, sets: places.sets(), places }
    }

    fn side(&self) -> Side<'_> {
        Side { image: &self.image, tables: &self.tables, sets: &self.sets }
    }
}

/// So many changes are told with their causes. Of more nobody reads them, and each takes some look-ups.
const WITH_CAUSES: usize = 256;

/// What is told beside a difference.
pub fn beside(old: Option<&Policy>, new: Option<&Policy>, difference: &Difference) -> Beside {
    let causes = difference.flows.iter().take(WITH_CAUSES).map(|change| {
        let found = causes(old.map(Policy::side), new.map(Policy::side), change);
        found.into_iter().map(|cause| CauseAt { place: place(old, new, &cause), cause }).collect()
    });
    let sets = [old, new].into_iter().flatten().map(|policy| &policy.sets);
    Beside::new(causes.collect(), sets)
}

/// Where a cause is written, in the policy in which it is.
fn place(old: Option<&Policy>, new: Option<&Policy>, cause: &Cause) -> Option<Place> {
    let policy = if cause.gone { old } else { new };
    let places = &policy?.places;
    let found = cause.items.iter().filter_map(|(counter, text)| places.find(*counter, text));
    Place::of_all(found.collect(), cause.are_more)
}

/// All differences between two policies, or a policy and none.
pub fn compare(old: Option<&Policy>, new: Option<&Policy>) -> Result<Difference, Failure> {
    diff(old.map(Policy::side), new.map(Policy::side))
        .map_err(|damaged| Failure::cannot("damaged", damaged.to_string()))
}
