//! What an apply and a status do for acceleration.

use super::{Acceleration, Counting, programs, report, stalled};
use crate::error::Result;
use crate::node::Node;
use crate::system::System;
use crate::warning::Warning;

/// Whether this build can accelerate.
#[expect(clippy::unnecessary_wraps, reason = "a build without acceleration cannot")]
pub(crate) const fn check() -> Result<()> {
    Ok(())
}

/// Sees to it that acceleration is in force. `again`: programs were replaced.
pub(crate) fn enforce<S: System>(node: Node<'_, S>, again: bool) -> Result<()> {
    if !again && programs::missing(node)?.is_empty() {
        return Ok(());
    }
    programs::attach(node)
}

/// What acceleration does not promise here. Readers that stall are helped.
pub(crate) fn warnings<S: System>(node: Node<'_, S>) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    match programs::counting(node)? {
        Counting::Noticed => warnings.push(Warning::FionreadNoticed),
        Counting::Wrong => warnings.push(Warning::FionreadWrong),
        Counting::Unused | Counting::Right | Counting::Repaired => {}
    }
    match stalled::rescue(node) {
        Ok(helped) => warnings.extend(helped.into_iter().map(Warning::ReaderHelped)),
        // The policy is live all the same.
        Err(error) => warnings.push(Warning::ReadersNotHelped((&error).into())),
    }
    if !programs::refuses_splice(node)? {
        warnings.push(Warning::SpliceNotRefused);
    }
    Ok(warnings)
}

/// What acceleration did so far.
pub(crate) fn status<S: System>(node: Node<'_, S>) -> Result<Option<Acceleration>> {
    let stuck = stalled::stuck(node)?;
    Ok(Some(Acceleration { stuck, ..report::read(node)? }))
}

/// Whether anything is accelerated, so that readers may have to be helped.
pub(crate) fn works<S: System>(node: Node<'_, S>) -> Result<bool> {
    Ok(node.system.list(&node.instance.accelerators())?.is_some())
}
