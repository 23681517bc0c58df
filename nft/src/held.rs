//! What a kernel holds of a ruleset, by name.

/// The name of a table, which is that of an instance's tables in every namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName(String);

impl TableName {
    /// The table of an instance: `meshc`, or `meshc-NAME`. What nftables has no name for is written as `_`, and what is
    /// longer than it takes is cut off.
    #[must_use]
    pub fn of(instance: &str) -> Self {
        let is_taken = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let words: String =
            instance.chars().map(|c| if is_taken(c) { c } else { '_' }).take(LONGEST).collect();
        Self(if matches!(instance, "" | DEFAULT) { DEFAULT.to_owned() } else { format!("{DEFAULT}-{words}") })
    }

    /// Whether an instance's table may have this name.
    #[must_use]
    pub fn is_one(table: &str) -> bool {
        table.strip_prefix(DEFAULT).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The table of the instance that has no name of its own.
const DEFAULT: &str = "meshc";
/// Names in the kernel have 255 bytes.
const LONGEST: usize = 200;

/// The chains and maps of a table. Empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Names of chains, base chains and the marker among them.
    pub chains: Vec<String>,
    /// Names of maps.
    pub sets: Vec<String>,
}

impl Held {
    /// Whether there is a chain of this name.
    pub(crate) fn has(&self, chain: &str) -> bool {
        self.chains.iter().any(|name| name == chain)
    }

    /// What is said of what is loaded. None where nothing is.
    #[must_use]
    pub fn marker(&self) -> Option<crate::Marker> {
        self.chains.iter().find_map(|name| crate::Marker::parse(name))
    }

    /// The number that all names of chains and maps of a ruleset end with. None where they do not, or there are none.
    pub(crate) fn only_suffix(&self) -> Option<u32> {
        let of = |kind: char| move |name: &String| name.strip_prefix(kind)?.split_once('_')?.1.parse().ok();
        let mut found = self.chains.iter().filter_map(of('c')).chain(self.sets.iter().filter_map(of('m')));
        let suffix: u32 = found.next()?;
        found.all(|other: u32| other == suffix).then_some(suffix)
    }

    /// A number that no name ends with.
    pub(crate) fn free_suffix(&self) -> u32 {
        let names = || self.chains.iter().chain(&self.sets);
        let is_free = |number: &u32| {
            let end = format!("_{number}");
            !names().any(|name| name.ends_with(&end))
        };
        (0..u32::MAX).find(is_free).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_a_name_that_nftables_takes() {
        assert_eq!(TableName::of("meshc").as_str(), "meshc");
        assert_eq!(TableName::of("").as_str(), "meshc");
        assert_eq!(TableName::of("a b/ü").as_str(), "meshc-a_b__");
        assert!(TableName::of(&"x".repeat(400)).as_str().len() < 255);
        for name in ["meshc", "a b/ü"] {
            assert!(TableName::is_one(TableName::of(name).as_str()), "{name}");
        }
        assert!(!TableName::is_one("meshctl") && !TableName::is_one("nat"));
    }

    #[test]
    fn what_is_loaded_has_names_of_its_own() {
        let held = |names: &[&str]| Held {
            chains: names.iter().map(|&name| name.to_owned()).collect(),
            sets: vec!["m0_1".to_owned()],
        };
        assert_eq!(held(&[]).free_suffix(), 0);
        assert_eq!(held(&["output", "c7_0"]).free_suffix(), 2);
        assert_eq!(held(&["c7_2"]).free_suffix(), 0);
    }
}
