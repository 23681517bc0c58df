//! Regions of flow space: which addresses, ports and workloads something is about.
//!
//! Decisions are piecewise constant over finitely many boxes, so whatever is to be known of a policy
//! can be known exactly by looking at one flow of each piece. Nothing here decides anything, and nothing
//! here knows how a policy is lowered.

mod addresses;
mod processes;
mod reach;

pub use addresses::{AddressRange, Cell, Family, cells, join};
pub use processes::{Cuts, holding, ids, kinds_of_processes, sides};
pub use reach::{applies, real_ports};
