//! What probes found.

use super::checkup::{Finding, Outcome};
use super::feature::Feature;

/// What a probe says: nothing, or why not.
pub(super) type Probe = Result<(), String>;

/// What was found so far.
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn note(&mut self, feature: Feature, probe: Probe) -> bool {
        let works = probe.is_ok();
        let outcome = probe.map_or_else(Outcome::Fails, |()| Outcome::Works);
        self.0.push(Finding { feature, outcome });
        works
    }

    pub(super) fn untried(&mut self, feature: Feature, why: &str) {
        self.0.push(Finding { feature, outcome: Outcome::Untried(why.into()) });
    }
}

pub(super) fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
