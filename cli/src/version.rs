//! Which meshc this is.

/// The version, with the commit that it was built from where that is known: `0.1.0 (33314e8f1c2a-dirty)`.
pub const LINE: &str = concat!(env!("CARGO_PKG_VERSION"), env!("MESHC_BUILT_FROM"));

/// The commit alone.
pub const COMMIT: Option<&str> = option_env!("MESHC_BUILT_COMMIT");

/// Whether something else was built than that commit; not known of debug builds.
pub const IS_DIRTY: Option<bool> = match option_env!("MESHC_BUILT_DIRTY") {
    Some(word) => Some(word.len() == "true".len()),
    None => None,
};
