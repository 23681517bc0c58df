//! Where something in a compiled policy comes from.

use crate::source::Span;

/// What is answerable for an entry, a region or a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// These words of the policy.
    Written(Span),
    /// The language itself, where the policy says nothing: a flow without a rule is excluded.
    Derived,
    /// A rule that every policy has: addresses apart, a member's own addresses, a redirect's own port.
    BuiltIn,
}

impl Origin {
    /// The words, if someone wrote it.
    #[must_use]
    pub const fn span(self) -> Option<Span> {
        match self {
            Self::Written(span) => Some(span),
            Self::Derived | Self::BuiltIn => None,
        }
    }
}
