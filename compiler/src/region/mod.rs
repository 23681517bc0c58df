//! Boxes and regions of flow space: what the checks, the evaluator, the proof, `diff` and `explain` share.
//!
//! Decisions are piecewise constant over finitely many boxes, so whatever is to be known of a policy
//! can be known exactly by looking at one flow of each piece. Nothing here decides anything, and nothing
//! here knows how a policy is lowered.

mod addresses;
mod boxes;
mod merge;

pub use addresses::{AddressRange, Cell, Family, cells};
pub use boxes::{FlowBox, applies, reaches, real_ports};
pub use merge::{Patch, addresses_text, complement, join, merge};
