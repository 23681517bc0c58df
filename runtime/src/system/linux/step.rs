//! What the kernel answered, as the outcome of a step.

use std::io;
use std::path::Path;

use crate::system::{SysError, SysResult};

pub(super) fn at<T>(call: &'static str, path: &Path, result: io::Result<T>) -> SysResult<T> {
    result.map_err(|cause| SysError::new(call, path.display().to_string(), cause))
}

pub(super) fn on<T>(call: &'static str, object: &str, result: io::Result<T>) -> SysResult<T> {
    result.map_err(|cause| SysError::new(call, object, cause))
}

pub(super) fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        // Below a file there is nothing either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
