//! A build without acceleration.

use std::path::Path;

use super::feature::{Feature, NO_ACCELERATION, part};
use super::findings::Findings;
use crate::instance::Instance;
use crate::system::linux::Kernel;

const ACCELERATION: Feature = part(
    "acceleration",
    "",
    NO_ACCELERATION,
    "a build with the cargo feature `acceleration`, which is on unless it is switched off",
);

pub(super) fn alone(findings: &mut Findings) {
    findings.note(ACCELERATION, Err("this build of meshc has none".into()));
}

pub(super) fn features() -> impl Iterator<Item = Feature> {
    [].into_iter()
}

pub(super) const fn programs(_: &Kernel, _: &Instance, _: &Path, _: &mut Findings) {}
