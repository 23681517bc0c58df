//! Files that are there for others to import.

/// How a file says that what it has need not be used in it, at the end of a help.
pub(super) const HELP: &str =
    "; `# meshc: library` at the top of a file says that it is there for others to import";
