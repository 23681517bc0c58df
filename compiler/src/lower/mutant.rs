//! Deliberate mistakes, one or more for each function of lowering that decides something. A test makes each
//! of them and expects the proof to refuse the result. Outside of tests there are none.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A deliberate mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mutant { $($(#[$doc])* $name,)* }

        impl Mutant {
            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

mutants! {
    /// `ports::Resolver::layered` does not look at `always`.
    AlwaysIsIgnored,
    /// `ports::Resolver::resolve` redirects inbound connections to the sidecar's own ports.
    SidecarPortsStayOpen,
    /// `ports::Resolver::outcome` names the deciding node's prefix, wherever the item is written.
    UpIsZero,
    /// `ports::Resolver::priority` lets `redirect` beat `exclude` beat `deny`.
    VerdictsAreReversed,
    /// `ports::Resolver::lies_within` forgets the addresses.
    PrefixesDoNotNarrow,
    /// `ports::Resolver::lies_within` forgets the ports.
    PortsDoNotNarrow,
    /// `ports::Resolver::scope_within` forgets the scopes.
    ScopesDoNotNarrow,
    /// `tree::Grower::tree` lets wider rules reach into loopback.
    LoopbackInherits,
    /// `tree::Grower::contenders` forgets what is written above.
    NothingIsInherited,
    /// `exempt::push` leaves the last id of every range out.
    ExemptRangesLoseTheirEnd,
    /// `image::image` leaves the image as it comes.
    ImageIsNotCanonical,
    /// `image::Numbers::profile` drops exemptions.
    ExemptionsAreLost,
    /// `image::Numbers::profile` drops accelerations.
    AccelerationIsLost,
    /// `thin::Staircase::leave` forgets the ranges that waited.
    NobodyWaits,
}

#[cfg(test)]
thread_local! {
    static MUTANT: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this mistake is to be made.
#[cfg(test)]
pub(crate) fn mutated(mutant: Mutant) -> bool {
    MUTANT.get() == Some(mutant)
}

/// Whether this mistake is to be made: never.
#[cfg(not(test))]
pub(crate) const fn mutated(_: Mutant) -> bool {
    false
}

/// Runs `work` with one mistake.
#[cfg(test)]
pub(crate) fn with_mutant<T>(mutant: Mutant, work: impl FnOnce() -> T) -> T {
    MUTANT.set(Some(mutant));
    let result = work();
    MUTANT.set(None);
    result
}
