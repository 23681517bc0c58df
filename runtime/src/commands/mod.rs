//! One file for each thing that [`Runtime`](crate::Runtime) can be asked for.

pub(crate) mod apply;
pub(crate) mod confirm;
pub mod doctor;
pub(crate) mod failed;
pub(crate) mod history;
pub(crate) mod namespaces;
pub(crate) mod observe;
pub(crate) mod pods;
pub(crate) mod preflight;
pub(crate) mod rescue;
pub(crate) mod rulesets;
pub(crate) mod run;
pub(crate) mod sidecars;
pub(crate) mod status;
pub(crate) mod switch;
pub(crate) mod transition;
