//! The compiled output: a map image as text for people who review pull requests.
//!
//! It is TOML, made from the image and the policy's sets, so that what a kernel holds prints byte for byte as what
//! was applied. First comes what people read: the sets, and for each workload (for each profile, where workloads share
//! one) the rules that decide, narrower ones first. Then come the entries: for each profile its addresses in
//! classes with equal rulings, each with the ports that it decides otherwise than the prefix around it.
//!
//! Edits of different workloads must merge without conflict, and an edit of one item must change few lines. So there
//! is nothing here that counts or sums up. What is named has the name of a set, of a scope or of its own content, so
//! that no name depends on what stands beside it. Every workload has its place among the entries, with lines around it
//! that stay, whether or not it has entries there.

mod classes;
mod entries;
mod names;
mod processes;
mod services;
mod sets;
mod summary;
#[cfg(test)]
mod tests;
mod toml;

pub(crate) use classes::own_rulings;
pub(crate) use entries::ports_text;
pub use entries::{Entry, Map, entries, entries_of};
pub use names::selector_lines;
pub(crate) use processes::{ClassName, class_name, class_text};
pub use sets::{NamedService, NamedSet, Sets};

use mesh_bpf::image::MapImage;

use self::sets::Namer;

const HEADER: &str = "\
# Compiled by meshc. First what becomes of each workload's traffic: rules that decide, narrower ones before wider ones.
# Then every entry: what addresses and ports are decided otherwise than the prefix around them.
";

/// Whether a file is compiled output, also of an older version, rather than a policy.
#[must_use]
pub fn is_compiled(bytes: &[u8]) -> bool {
    bytes.starts_with(b"# Compiled by meshc. ")
}

/// The compiled output. Ends with a newline. Two images that differ have outputs that differ, but for addresses of
/// services: those have names alone.
#[must_use]
pub fn emit(image: &MapImage, sets: &Sets) -> String {
    let namer = Namer::of(sets);
    let mut text = HEADER.to_owned();
    sets.write(&mut text);
    let told = summary::write(&mut text, image, &namer);
    entries::write(&mut text, image, &namer, &told);
    text
}
