//! What a container runtime says by environment variables.

use std::path::PathBuf;

use super::Failure;

/// The `CNI_*` variables of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`
    pub command: String,
    container: String,
    netns: String,
    interface: String,
    arguments: String,
}

impl Environment {
    /// Reads them; one that is not set is empty.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name| variable(name).unwrap_or_default();
        Self {
            command: read("CNI_COMMAND"),
            container: read("CNI_CONTAINERID"),
            netns: read("CNI_NETNS"),
            interface: read("CNI_IFNAME"),
            arguments: read("CNI_ARGS"),
        }
    }

    /// The container's id: begins with a letter or digit, and has besides only `_`, `.` and `-`.
    pub(super) fn container(&self) -> Result<&str, Failure> {
        let is_alphanumeric = |c: char| c.is_ascii_alphanumeric();
        let fits = |c: char| is_alphanumeric(c) || matches!(c, '_' | '.' | '-');
        if self.container.starts_with(is_alphanumeric) && self.container.chars().all(fits) {
            return Ok(&self.container);
        }
        Err(Failure::environment(format!("CNI_CONTAINERID `{}` is no container's id", self.container)))
    }

    /// The interface's name inside the pod, as the kernel allows it.
    pub(super) fn interface(&self) -> Result<&str, Failure> {
        let name = &self.interface;
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace();
        if name.is_empty() || name.len() > 15 || matches!(name.as_str(), "." | "..") || name.contains(odd) {
            return Err(Failure::environment(format!("CNI_IFNAME `{name}` is no interface's name")));
        }
        Ok(name)
    }

    /// The file that stands for the pod's network namespace; at DEL it may be unknown.
    pub(super) fn netns(&self) -> Option<PathBuf> {
        (!self.netns.is_empty()).then(|| PathBuf::from(&self.netns))
    }

    /// `CNI_ARGS` is `KEY=VALUE;KEY=VALUE`.
    pub(super) fn argument(&self, key: &str) -> Option<&str> {
        let pairs = self.arguments.split(';').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value).next_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Environment {
        Environment::read(|asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn a_containers_id_leads_to_no_other_place() {
        for id in ["a", "default-web", "0a1b_2.c"] {
            assert_eq!(with("CNI_CONTAINERID", id).container().unwrap(), id);
        }
        for id in ["", "../a", "a/b", "-a", ".a", "a b"] {
            assert!(with("CNI_CONTAINERID", id).container().is_err(), "{id}");
        }
    }

    #[test]
    fn an_interface_has_a_name_that_the_kernel_allows() {
        assert_eq!(with("CNI_IFNAME", "eth0").interface().unwrap(), "eth0");
        for name in ["", "..", "a/b", "a b", "sixteen-letters-"] {
            assert!(with("CNI_IFNAME", name).interface().is_err(), "{name}");
        }
    }

    #[test]
    fn arguments_are_pairs() {
        let environment = with("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=;X=a=b");
        assert_eq!(environment.argument("K8S_POD_NAME"), Some("web"));
        assert_eq!(environment.argument("K8S_POD_NAMESPACE"), None);
        assert_eq!(environment.argument("X"), Some("a=b"));
        assert_eq!(environment.argument("K8S_POD_UID"), None);
    }
}
