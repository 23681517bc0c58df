//! The compiled output: a map image as text for people who review pull requests.
//!
//! It is TOML, made from the image alone, so that what a kernel holds prints byte for byte as what was
//! applied. On top stands what becomes of each workload's traffic (where workloads share what is long, once for
//! all of them); below, every entry, one a line.
//!
//! Edits of different workloads must merge without conflict. So there is nothing here that counts or sums
//! up, no line speaks of two workloads, names of port tables do not reach beyond their profile, and every
//! workload has its place in every map, with lines around it that stay, whether or not it has entries there.

mod entries;
mod names;
mod summary;
#[cfg(test)]
mod tests;
mod toml;

pub use entries::{Entry, Key, Map, Value, for_each_entry};
pub use names::{TableName, selector_lines, table_name};

use mesh_bpf::image::MapImage;

/// The compiled output. Ends with a newline.
#[must_use]
pub fn emit(image: &MapImage) -> String {
    let mut text = String::new();
    text.push_str(
        "# Compiled by meshc. What becomes of each workload's traffic, then every entry of the maps.\n",
    );
    text.push_str("# A flow is decided by the longest prefix that holds its address, then by its port.\n");
    summary::write(&mut text, image);
    entries::write(&mut text, image);
    text
}
