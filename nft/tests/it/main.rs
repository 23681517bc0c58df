//! Rulesets in the kernel: what is loaded is what is written and judged, and connections become what the tables say.

mod fixtures;

mod changes;
mod decisions;
mod listing;
mod model;
