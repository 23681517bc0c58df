//! A step that failed.

use std::io;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} of `{object}` failed: {source}")]
pub struct SysError {
    /// The step, in words.
    pub call: &'static str,
    /// What it was done to.
    pub object: String,
    /// What the kernel said.
    pub source: io::Error,
    /// What a verifier or loader said beside it; often empty.
    pub log: String,
}

impl SysError {
    /// An error of `call` on `object`.
    pub fn new(call: &'static str, object: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { call, object: object.into(), source: source.into(), log: String::new() }
    }

    /// The kernel's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether what it was done to has ended: it is not there, or something else is in its place.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ESTALE))
    }

    /// Whether the kernel has no such thing, or lets nobody use it; not where something has run out.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        /// `ENOTSUPP`, which the kernel keeps to itself elsewhere.
        const NOT_SUPPORTED: i32 = 524;
        matches!(
            self.errno(),
            Some(libc::EPERM | libc::EACCES | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS | NOT_SUPPORTED)
        )
    }
}

/// The result of a step.
pub type SysResult<T> = Result<T, SysError>;
