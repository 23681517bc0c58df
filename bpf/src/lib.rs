//! The contract that compiler, runtime and BPF programs share.
//!
//! Nothing here knows the policy language, and nothing here touches a kernel. The code reads from the
//! meaning to the bytes: values of the flow space ([`flow`], [`ports`], [`prefix`]), text as it may be shown ([`text`]), the map image
//! ([`image`], [`selector`]), how it is laid out ([`abi`], [`map`], [`program`]), the way there and back
//! ([`pack`], [`unpack`], [`artifact`]), and the programs' walk through it ([`sim`]).

#[cfg(target_endian = "big")]
compile_error!("tables and artifacts are little-endian, as every machine that runs meshc is");

pub mod flow;
pub mod ports;
pub mod prefix;
pub mod text;

mod canonical;
pub mod image;
pub mod intern;
pub mod membership;
pub mod selector;

pub mod abi;
#[cfg(feature = "acceleration")]
pub mod accelerator;
pub mod header;
pub mod item;
pub mod map;
pub mod program;
pub mod table;

mod classes;
mod sink;
mod tree;

pub mod artifact;
pub mod binding;
pub mod pack;
pub mod sim;
pub mod tables;
pub mod unpack;
