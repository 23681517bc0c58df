//! What the conditions of selectors say about one endpoint, taken together.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bpf::selector::{Selector, Subject};

/// What is asked of one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked<'p> {
    /// It must be there.
    present: bool,
    /// It must not be there.
    absent: bool,
    /// If there, one of these.
    allowed: Option<BTreeSet<&'p str>>,
    /// If there, none of these.
    denied: BTreeSet<&'p str>,
}

/// All conditions of one selector, or of two together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions<'p> {
    asked: BTreeMap<&'p Subject, Asked<'p>>,
}

impl<'p> Conditions<'p> {
    pub(super) fn of(selectors: &[&'p Selector]) -> Self {
        let mut all = Self::default();
        for condition in selectors.iter().flat_map(|selector| &selector.conditions) {
            let asked = all.asked.entry(&condition.subject).or_default();
            let values = condition.values.iter().map(String::as_str);
            match (condition.negated, condition.values.is_empty()) {
                (false, true) => asked.present = true,
                (true, true) => asked.absent = true,
                (true, false) => asked.denied.extend(values),
                (false, false) => {
                    asked.present = true;
                    let values: BTreeSet<&str> = values.collect();
                    asked.allowed = Some(match asked.allowed.take() {
                        Some(allowed) => allowed.intersection(&values).copied().collect(),
                        None => values,
                    });
                }
            }
        }
        all
    }

    /// A subject of which too much is asked: no endpoint has it so.
    pub(super) fn contradiction(&self) -> Option<&'p Subject> {
        self.asked.iter().find(|(_, asked)| asked.is_impossible()).map(|(subject, _)| *subject)
    }

    /// The values of which one is needed, if the conditions say so.
    pub(super) fn values(&self, subject: &Subject) -> Option<&BTreeSet<&'p str>> {
        self.asked.get(subject)?.allowed.as_ref()
    }

    /// The subjects of which values are named.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &'p Subject> {
        self.asked.iter().filter(|(_, asked)| asked.allowed.is_some()).map(|(subject, _)| *subject)
    }

    /// An endpoint that meets them, in words.
    pub(super) fn example(&self) -> String {
        let facts: Vec<String> =
            self.asked.iter().filter_map(|(subject, asked)| asked.example(subject)).collect();
        if facts.is_empty() {
            "any endpoint".to_owned()
        } else {
            format!("an endpoint with {}", facts.join(", "))
        }
    }
}

impl Asked<'_> {
    fn is_impossible(&self) -> bool {
        let no_value = self.allowed.as_ref().is_some_and(|allowed| allowed.is_subset(&self.denied));
        no_value || (self.present && self.absent)
    }

    fn example(&self, subject: &Subject) -> Option<String> {
        let value = self.allowed.as_ref().and_then(|allowed| allowed.difference(&self.denied).next());
        let value = value.map(|value| format!("`{value}`"));
        let labelled = |what, key| match &value {
            Some(value) => Some(format!("{what} `{key}` = {value}")),
            None => self.present.then(|| format!("{what} `{key}`")),
        };
        match subject {
            Subject::Namespace => value.map(|value| format!("namespace {value}")),
            Subject::ServiceAccount => value.map(|value| format!("service-account {value}")),
            Subject::Pod => value.map(|value| format!("pod name {value}")),
            Subject::Label(key) => labelled("label", key),
            Subject::NamespaceLabel(key) => labelled("namespace-label", key),
        }
    }
}

/// A subject as the language writes it.
pub(super) fn words(subject: &Subject) -> String {
    match subject {
        Subject::Namespace => "`namespace`".to_owned(),
        Subject::ServiceAccount => "`service-account`".to_owned(),
        Subject::Pod => "`pod`".to_owned(),
        Subject::Label(key) => format!("`label {key}`"),
        Subject::NamespaceLabel(key) => format!("`namespace-label {key}`"),
    }
}
