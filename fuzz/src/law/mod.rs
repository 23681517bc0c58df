//! The laws, by kind of input.

mod artifact;
mod damaged;
mod edited;
mod flow;
mod import;
mod program;
mod ruleset;
mod text;

pub use artifact::{artifact, artifact_policy};
pub use damaged::{Came, MISTAKES, all_mistakes, damaged};
pub use edited::edited;
pub use flow::flow;
pub use import::{RULES, import};
pub use program::program;
pub use ruleset::{answer, ruleset};
pub use text::text;
