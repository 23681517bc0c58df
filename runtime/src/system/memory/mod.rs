//! A machine in memory: enough of a kernel's maps, links, pins and directories that every command runs, so
//! that each of their steps can be failed without root and in no time.
//!
//! Objects live as the kernel's do: as long as a handle, a pin or a map-in-map holds them.

#[cfg(feature = "acceleration")]
mod acceleration;
mod batch;
mod clock;
mod files;
mod links;
mod maps;
mod netns;
mod programs;
mod readers;
mod rulesets;
mod sockets;
mod world;

pub use world::{Memory, MemoryLink, MemoryLock, MemoryMap, MemoryProgram, Read};
