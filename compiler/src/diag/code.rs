//! The codes of diagnostics. A code is a word: it is what `# meshc: allow(…)` and `explain-code` take.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The policy is refused.
    Error,
    /// The policy compiles, and probably not to what was meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// What a diagnostic is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The text is not a policy.
    Syntax,
    /// A name that nothing declares.
    UnknownName,
    /// Two declarations of one name.
    DuplicateName,
    /// A name that stands for something else than the place needs.
    WrongKind,
    /// An import that cannot be read.
    ImportMissing,
    /// Files that import each other.
    ImportCycle,
    /// Groups that contain each other.
    GroupCycle,
    /// Sets that contain each other.
    SetCycle,
    /// Not a port.
    BadPort,
    /// A range that ends before it begins.
    BadRange,
    /// Not an address or a prefix.
    BadAddress,
    /// Not a user or group id.
    BadId,
    /// Not a cgroup path.
    BadPath,
    /// No name that an interface can have.
    BadInterface,
    /// No name that a Kubernetes service can have.
    BadService,
    /// A Kubernetes service whose addresses are not known.
    UnknownService,
    /// Redirects that tie and lead to different places.
    Conflict,
    /// One endpoint could fall in two workloads.
    MembershipOverlap,
    /// A redirect that would catch the sidecar itself.
    RedirectLoop,
    /// The language can say it, and the kernel cannot do it.
    Unsupported,
    /// The result does not fit the kernel's maps.
    OverCapacity,
    /// A test line that does not hold.
    TestFailed,
    /// A mesh without workloads.
    EmptyMesh,
    /// A workload that selects nothing.
    EmptyWorkload,
    /// A rule, or an item of one, that decides nothing.
    NoEffect,
    /// A declaration that nothing uses.
    Unused,
    /// An exemption that covers more than a sidecar.
    WideExempt,
    /// UDP goes straight out where TCP is redirected.
    Leak,
    /// A file of another mesh's settings that is no YAML.
    BadYaml,
    /// A file is no listing of a packet filter's rules, as `meshc import iptables` takes them.
    BadRuleset,
    /// A setting of another mesh that cannot be read.
    BadSetting,
    /// A setting of another mesh that no rule stands for.
    NotImported,
}

impl Code {
    /// All codes, in the order of the reference.
    pub const ALL: [Self; 32] = [
        Self::Syntax,
        Self::UnknownName,
        Self::DuplicateName,
        Self::WrongKind,
        Self::ImportMissing,
        Self::ImportCycle,
        Self::GroupCycle,
        Self::SetCycle,
        Self::BadPort,
        Self::BadRange,
        Self::BadAddress,
        Self::BadId,
        Self::BadPath,
        Self::BadInterface,
        Self::BadService,
        Self::UnknownService,
        Self::Conflict,
        Self::MembershipOverlap,
        Self::RedirectLoop,
        Self::Unsupported,
        Self::OverCapacity,
        Self::TestFailed,
        Self::EmptyMesh,
        Self::EmptyWorkload,
        Self::NoEffect,
        Self::Unused,
        Self::WideExempt,
        Self::Leak,
        Self::BadYaml,
        Self::BadRuleset,
        Self::BadSetting,
        Self::NotImported,
    ];

    /// The word that people write and read.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::UnknownName => "unknown-name",
            Self::DuplicateName => "duplicate-name",
            Self::WrongKind => "wrong-kind",
            Self::ImportMissing => "import-missing",
            Self::ImportCycle => "import-cycle",
            Self::GroupCycle => "group-cycle",
            Self::SetCycle => "set-cycle",
            Self::BadPort => "bad-port",
            Self::BadRange => "bad-range",
            Self::BadAddress => "bad-address",
            Self::BadId => "bad-id",
            Self::BadPath => "bad-path",
            Self::BadInterface => "bad-interface",
            Self::BadService => "bad-service",
            Self::UnknownService => "unknown-service",
            Self::Conflict => "conflict",
            Self::MembershipOverlap => "membership-overlap",
            Self::RedirectLoop => "redirect-loop",
            Self::Unsupported => "unsupported",
            Self::OverCapacity => "over-capacity",
            Self::TestFailed => "test-failed",
            Self::EmptyMesh => "empty-mesh",
            Self::EmptyWorkload => "empty-workload",
            Self::NoEffect => "no-effect",
            Self::Unused => "unused",
            Self::WideExempt => "wide-exempt",
            Self::Leak => "leak",
            Self::BadYaml => "bad-yaml",
            Self::BadRuleset => "bad-ruleset",
            Self::BadSetting => "bad-setting",
            Self::NotImported => "not-imported",
        }
    }

    /// The code of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.word() == word)
    }

    /// How bad it is, unless the diagnostic itself says otherwise.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::NoEffect | Self::Unused | Self::WideExempt | Self::Leak | Self::BadSetting => {
                Severity::Warning
            }
            // A node refuses the policy: see `Compilation::require_services`.
            Self::UnknownService | Self::NotImported => Severity::Note,
            _ => Severity::Error,
        }
    }

    /// The page behind `explain-code`, as Markdown.
    #[must_use]
    pub const fn page(self) -> &'static str {
        match self {
            Self::Syntax => include_str!("pages/syntax.md"),
            Self::UnknownName => include_str!("pages/unknown-name.md"),
            Self::DuplicateName => include_str!("pages/duplicate-name.md"),
            Self::WrongKind => include_str!("pages/wrong-kind.md"),
            Self::ImportMissing => include_str!("pages/import-missing.md"),
            Self::ImportCycle => include_str!("pages/import-cycle.md"),
            Self::GroupCycle => include_str!("pages/group-cycle.md"),
            Self::SetCycle => include_str!("pages/set-cycle.md"),
            Self::BadPort => include_str!("pages/bad-port.md"),
            Self::BadRange => include_str!("pages/bad-range.md"),
            Self::BadAddress => include_str!("pages/bad-address.md"),
            Self::BadId => include_str!("pages/bad-id.md"),
            Self::BadPath => include_str!("pages/bad-path.md"),
            Self::BadInterface => include_str!("pages/bad-interface.md"),
            Self::BadService => include_str!("pages/bad-service.md"),
            Self::UnknownService => include_str!("pages/unknown-service.md"),
            Self::Conflict => include_str!("pages/conflict.md"),
            Self::MembershipOverlap => include_str!("pages/membership-overlap.md"),
            Self::RedirectLoop => include_str!("pages/redirect-loop.md"),
            Self::Unsupported => include_str!("pages/unsupported.md"),
            Self::OverCapacity => include_str!("pages/over-capacity.md"),
            Self::TestFailed => include_str!("pages/test-failed.md"),
            Self::EmptyMesh => include_str!("pages/empty-mesh.md"),
            Self::EmptyWorkload => include_str!("pages/empty-workload.md"),
            Self::NoEffect => include_str!("pages/no-effect.md"),
            Self::Unused => include_str!("pages/unused.md"),
            Self::WideExempt => include_str!("pages/wide-exempt.md"),
            Self::Leak => include_str!("pages/leak.md"),
            Self::BadYaml => include_str!("pages/bad-yaml.md"),
            Self::BadRuleset => include_str!("pages/bad-ruleset.md"),
            Self::BadSetting => include_str!("pages/bad-setting.md"),
            Self::NotImported => include_str!("pages/not-imported.md"),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_of_its_own() {
        for code in Code::ALL {
            assert!(code.page().starts_with(&format!("# {code}\n")), "{code}");
        }
    }

    #[test]
    fn words_lead_back_to_their_codes() {
        for code in Code::ALL {
            assert_eq!(Code::from_word(code.word()), Some(code));
        }
    }
}
