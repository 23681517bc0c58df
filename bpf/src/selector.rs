//! Compiled selectors: which endpoints a workload selects.
//!
//! They are part of the image, evaluated by the compiler against an inventory and by the runtime
//! against the endpoints that are attached, so that both answer alike.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::prefix::Prefix;

/// Something that can be a member: a pod (by its network namespace) or a host workload (by its cgroup).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's name, or the unit's.
    pub name: String,
    /// The Kubernetes namespace; none for a host workload.
    pub namespace: Option<String>,
    /// Labels by key.
    pub labels: BTreeMap<String, String>,
    /// Labels of that namespace, by key: shared by all its pods.
    pub namespace_labels: Arc<BTreeMap<String, String>>,
    /// The service account it runs as.
    pub service_account: Option<String>,
    /// Its own addresses, never v4-mapped.
    pub addresses: Vec<IpAddr>,
    /// Absolute cgroup v2 path, for a host workload.
    pub cgroup: Option<String>,
}

/// One line of a workload that must hold, after `address` and `cgroup` lines were taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Condition {
    /// What is compared.
    pub subject: Subject,
    /// The accepted values, sorted and distinct. Empty only for a label, also of a namespace: presence is enough.
    pub values: Vec<String>,
    /// `not`: holds where the plain condition does not, also where the subject is absent.
    pub negated: bool,
}

/// What a [`Condition`] looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Subject {
    /// `namespace`
    Namespace,
    /// `label KEY`
    Label(String),
    /// `service-account`
    ServiceAccount,
    /// `pod`
    Pod,
    // Stands last: what is compiled of a policy without it has the bytes that it had before there was such.
    /// `namespace-label KEY`
    NamespaceLabel(String),
}

impl Subject {
    /// What an endpoint has of it.
    #[must_use]
    pub fn of<'e>(&self, endpoint: &'e Endpoint) -> Option<&'e str> {
        match self {
            Self::Namespace => endpoint.namespace.as_deref(),
            Self::Label(key) => endpoint.labels.get(key).map(String::as_str),
            Self::NamespaceLabel(key) => endpoint.namespace_labels.get(key).map(String::as_str),
            Self::ServiceAccount => endpoint.service_account.as_deref(),
            Self::Pod => Some(endpoint.name.as_str()).filter(|_| endpoint.cgroup.is_none()),
        }
    }
}

/// All selectors of one workload. `places` (addresses and cgroups) add up; conditions must all hold.
/// A selector without places and conditions is `any`.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Selector {
    /// `address` lines: sorted, distinct, never `Any`.
    pub addresses: Vec<Prefix>,
    /// `cgroup` lines: sorted, distinct absolute paths; each covers its descendants.
    pub cgroups: Vec<String>,
    /// All other lines, sorted.
    pub conditions: Vec<Condition>,
}

impl Condition {
    /// Whether the endpoint satisfies it.
    #[must_use]
    pub fn holds(&self, endpoint: &Endpoint) -> bool {
        let value = self.subject.of(endpoint);
        let plain = value.is_some_and(|value| {
            self.values.is_empty() || self.values.iter().any(|accepted| accepted == value)
        });
        plain != self.negated
    }
}

impl Condition {
    /// Whether `wider` holds wherever this one does: the same and less is asked of one subject.
    #[must_use]
    pub fn implies(&self, wider: &Self) -> bool {
        let all_in = |some: &[String], others: &[String]| some.iter().all(|value| others.contains(value));
        let (own, other) = (&self.values, &wider.values);
        self.subject == wider.subject
            && match (self.negated, wider.negated) {
                (false, false) => other.is_empty() || (!own.is_empty() && all_in(own, other)),
                // `not label k` asks that it is absent, which is more than not to have some values.
                (true, true) => own.is_empty() || (!other.is_empty() && all_in(other, own)),
                (false, true) => {
                    !own.is_empty() && !other.is_empty() && !own.iter().any(|value| other.contains(value))
                }
                (true, false) => false,
            }
    }
}

impl Selector {
    /// Whether only addresses choose its members, so that it can stand for those prefixes in a rule.
    #[must_use]
    pub const fn is_by_address(&self) -> bool {
        !self.addresses.is_empty() && self.cgroups.is_empty() && self.conditions.is_empty()
    }

    /// Whether the endpoint is selected, and how narrowly; `None` where it is not.
    #[must_use]
    pub fn select(&self, endpoint: &Endpoint) -> Option<Narrowness> {
        if !self.conditions.iter().all(|condition| condition.holds(endpoint)) {
            return None;
        }
        let prefix = (self.addresses.iter())
            .filter(|prefix| endpoint.addresses.iter().any(|&address| prefix.contains(address)))
            .map(|prefix| prefix_len(*prefix))
            .max();
        let depth = (self.cgroups.iter())
            .filter(|path| endpoint.cgroup.as_deref().is_some_and(|cgroup| cgroup_covers(path, cgroup)))
            .map(|path| path.matches('/').count())
            .max();
        if prefix.is_none() && depth.is_none() && !(self.addresses.is_empty() && self.cgroups.is_empty()) {
            return None;
        }
        Some(Narrowness { depth, prefix })
    }

    /// Whether every endpoint that it selects is selected by `wider` for reasons of conditions alone:
    /// `wider` asks the same and less.
    #[must_use]
    pub fn asks_all_of(&self, wider: &Self) -> bool {
        (wider.conditions.iter())
            .all(|asked| self.conditions.iter().any(|condition| condition.implies(asked)))
    }
}

/// How narrowly the places of a selector hold an endpoint: the deeper cgroup and the longer prefix win.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Narrowness {
    /// Components of the deepest cgroup path that covers the endpoint.
    pub depth: Option<usize>,
    /// Bits of the longest prefix that holds one of its addresses, IPv4 counted as v4-mapped.
    pub prefix: Option<u8>,
}

const fn prefix_len(prefix: Prefix) -> u8 {
    match prefix {
        Prefix::Any => 0,
        Prefix::V4 { len, .. } => len + 96,
        Prefix::V6 { len, .. } => len,
    }
}

/// Whether `path` is `cgroup` or one of its ancestors. Both are absolute, without a slash at the end
/// (`/` itself is the root).
#[must_use]
pub fn cgroup_covers(path: &str, cgroup: &str) -> bool {
    path == "/" || cgroup.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The deepest of some paths that is `cgroup` or one of its ancestors, with what belongs to it.
#[must_use]
pub fn deepest<'p, T>(paths: &'p [(String, T)], cgroup: Option<&str>) -> Option<&'p (String, T)> {
    let cgroup = cgroup?;
    paths.iter().filter(|(path, _)| cgroup_covers(path, cgroup)).max_by_key(|(path, _)| path.len())
}

/// What a packet comes by that stays in its network namespace. No exemption covers it.
pub const LOOPBACK: &str = "lo";

/// Whether a pattern of an exemption covers an interface: its name, or where the pattern ends with `*` its beginning.
#[must_use]
pub fn interface_covers(pattern: &str, name: &str) -> bool {
    let is_covered = pattern.strip_suffix('*').map_or(pattern == name, |first| name.starts_with(first));
    is_covered && name != LOOPBACK
}

/// The order of patterns that cover one name, the most specific last: the whole name says more than any beginning of it.
#[must_use]
pub fn interface_depth(pattern: &str) -> usize {
    if pattern.ends_with('*') { pattern.len() } else { usize::MAX }
}

/// The most specific of some patterns that covers an interface, with what belongs to it.
#[must_use]
pub fn interface_by<'p, T>(patterns: &'p [(String, T)], name: Option<&str>) -> Option<&'p (String, T)> {
    let name = name?;
    (patterns.iter())
        .filter(|(pattern, _)| interface_covers(pattern, name))
        .max_by_key(|(pattern, _)| interface_depth(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_label_holds_where_the_label_is_absent() {
        let not_debug =
            Condition { subject: Subject::Label("tier".into()), values: vec!["debug".into()], negated: true };
        assert!(not_debug.holds(&Endpoint::default()));
        let debug = Endpoint { labels: [("tier".into(), "debug".into())].into(), ..Endpoint::default() };
        assert!(!not_debug.holds(&debug));
    }

    #[test]
    fn a_condition_implies_what_asks_less() {
        let label = |values: &[&str], negated| Condition {
            subject: Subject::Label("k".into()),
            values: values.iter().map(|&value| value.into()).collect(),
            negated,
        };
        assert!(label(&["a"], false).implies(&label(&["a", "b"], false)));
        assert!(label(&["a"], false).implies(&label(&[], false)));
        assert!(label(&["a"], false).implies(&label(&["b"], true)));
        assert!(label(&["a", "b"], true).implies(&label(&["a"], true)));
        assert!(label(&[], true).implies(&label(&["a"], true)));
        assert!(!label(&["a", "b"], false).implies(&label(&["a"], false)));
        assert!(!label(&[], false).implies(&label(&["a"], true)));
        assert!(!label(&["a"], true).implies(&label(&["b"], false)));
    }

    #[test]
    fn a_cgroup_covers_its_descendants_but_not_its_namesakes() {
        assert!(cgroup_covers("/a", "/a/b"));
        assert!(cgroup_covers("/a", "/a"));
        assert!(!cgroup_covers("/a", "/ab"));
        assert!(cgroup_covers("/", "/a"));
    }

    #[test]
    fn the_most_specific_pattern_covers_an_interface() {
        let patterns = ["*", "eth*", "eth0", "eth0*", "lo", "l*"].map(|pattern| (pattern.to_owned(), ()));
        let by = |name: &str| interface_by(&patterns, Some(name)).map(|(pattern, ())| pattern.as_str());
        assert_eq!(by("eth0"), Some("eth0"));
        assert_eq!(by("eth01"), Some("eth0*"));
        assert_eq!(by("eth1"), Some("eth*"));
        assert_eq!((by("eth"), by("et")), (Some("eth*"), Some("*")));
        assert_eq!((by("lo"), by("lo0")), (None, Some("l*")));
        assert_eq!(interface_by(&patterns, None), None);
        assert_eq!(interface_by(&patterns[2..3], Some("eth")), None);
    }
}
