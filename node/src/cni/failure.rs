//! Errors, as the specification has them: an object with a code.

use std::fmt;

use serde_json::json;

/// Codes of the specification; from 100 on they are a plugin's own.
const INCOMPATIBLE_VERSION: u32 = 1;
const BAD_ENVIRONMENT: u32 = 4;
const IO: u32 = 5;
const NOT_DECODED: u32 = 6;
const BAD_CONFIG: u32 = 7;
const TRY_AGAIN: u32 = 11;
const UNAVAILABLE: u32 = 50;
/// The pod could not be attached, and must not start without.
const NOT_ATTACHED: u32 = 100;
/// CHECK found the pod otherwise than ADD left it.
const NOT_AS_ADDED: u32 = 101;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: u32,
    message: String,
    details: String,
}

impl Failure {
    fn new(code: u32, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into() }
    }

    pub(super) fn version(message: String) -> Self {
        Self::new(INCOMPATIBLE_VERSION, message, "")
    }

    pub(super) fn environment(message: String) -> Self {
        Self::new(BAD_ENVIRONMENT, message, "")
    }

    pub(super) fn decode(message: String) -> Self {
        Self::new(NOT_DECODED, message, "")
    }

    pub(super) fn config(message: String) -> Self {
        Self::new(BAD_CONFIG, message, "")
    }

    pub(super) fn unavailable(message: String, help: String) -> Self {
        Self::new(UNAVAILABLE, message, help)
    }

    pub(super) fn wrong(message: &str) -> Self {
        Self::new(NOT_AS_ADDED, message, "delete the pod and add it again")
    }

    pub(super) fn attach(pod: &str, code: &str, message: &str, help: String, again: bool) -> Self {
        let number = if again { TRY_AGAIN } else { NOT_ATTACHED };
        Self::new(number, format!("`{pod}` cannot be in the mesh ({code}): {message}"), help)
    }

    /// One of the runtime.
    pub(super) fn runtime(error: &mesh_runtime::Error) -> Self {
        let busy = error.class() == mesh_runtime::Class::Busy;
        Self::new(if busy { TRY_AGAIN } else { IO }, error.to_string(), error.help())
    }

    /// The instance that the configuration names cannot be.
    #[must_use]
    pub fn instance(message: String, help: String) -> Self {
        Self::new(BAD_CONFIG, message, help)
    }

    /// As a container runtime reads it.
    pub(super) fn object(&self, version: &str) -> String {
        let Self { code, message, details } = self;
        json!({ "cniVersion": version, "code": code, "msg": message, "details": details }).to_string()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}
