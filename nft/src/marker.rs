//! What is loaded, in the name of a chain: all that a kernel has to be asked.

/// The chain without rules that says what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The generation of the policy.
    pub generation: u64,
    /// The first 8 bytes of the digest of the policy's tables.
    pub tables: [u8; 8],
    /// Of the ruleset that was made of them for a namespace: [`Ruleset::digest`](crate::Ruleset::digest).
    pub ruleset: [u8; 8],
    /// Whether it decides nothing, and waits.
    pub paused: bool,
}

impl Marker {
    /// The name of the chain: `g7_0123456789abcdef_0123456789abcdef`, with `_paused` behind where it is.
    #[must_use]
    pub fn name(&self) -> String {
        let [tables, ruleset] = [self.tables, self.ruleset].map(u64::from_be_bytes);
        let paused = if self.paused { PAUSED } else { "" };
        format!("g{}_{tables:016x}_{ruleset:016x}{paused}", self.generation)
    }

    /// The marker of this name. None where it is another chain's.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, paused) = name.strip_suffix(PAUSED).map_or((name, false), |rest| (rest, true));
        let mut words = rest.strip_prefix('g')?.split('_');
        let generation = words.next()?.parse().ok()?;
        let mut digest = || u64::from_str_radix(words.next()?, 16).ok().map(u64::to_be_bytes);
        let marker = Self { generation, tables: digest()?, ruleset: digest()?, paused };
        (marker.name() == name).then_some(marker)
    }
}

const PAUSED: &str = "_paused";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_from_its_name_and_from_no_other() {
        for paused in [false, true] {
            let marker =
                Marker { generation: u64::MAX, tables: [0, 1, 2, 3, 4, 5, 6, 7], ruleset: [0xff; 8], paused };
            assert_eq!(Marker::parse(&marker.name()), Some(marker));
        }
        let name = "g7_0123456789abcdef_0123456789abcdef";
        assert_eq!(Marker::parse(name).map(|marker| marker.name()), Some(name.to_owned()));
        for other in ["g07_0123456789abcdef_0123456789abcdef", "output", "g7_1_2", "g7", "c1_0", "g"] {
            assert_eq!(Marker::parse(other), None, "{other}");
        }
    }
}
