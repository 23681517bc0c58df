//! What whoever compiles tests may promise, by a variable of the environment that is `1`.

/// A promise.
pub(crate) struct Promise {
    /// The variable.
    pub(crate) name: &'static str,
    /// What a test needs that rests on it.
    pub(crate) what: &'static str,
}

/// What `./test` promises as root.
pub(crate) const KERNEL: Promise =
    Promise { name: "MESHC_TEST_KERNEL", what: "root and a kernel that may be used" };

/// What `./test --long` promises.
pub(crate) const LONG: Promise = Promise { name: "MESHC_TEST_LONG", what: "minutes" };

impl Promise {
    pub(crate) fn is_given(&self) -> bool {
        std::env::var_os(self.name).is_some_and(|value| value == "1")
    }
}
