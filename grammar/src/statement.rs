//! Statements: which rule of the grammar reads one, and where it may stand.

use pest::Parser;
use pest::error::{ErrorVariant, InputLocation};
use pest::iterators::Pairs;

use crate::tree::{Grammar, Rule};

/// Where a statement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// Outside every block.
    File,
    /// In `mesh NAME { … }`.
    Mesh,
    /// In `workload NAME { … }`.
    Workload,
    /// In `for NAMES { … }`.
    For,
    /// In `test "…" { … }`.
    Test,
}

impl Context {
    /// In words, to follow "is not allowed" or "stands".
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::File => "at the top level",
            Self::Mesh => "in a `mesh` block",
            Self::Workload => "in a `workload` block",
            Self::For => "in a `for` block",
            Self::Test => "in a `test` block",
        }
    }

    /// The words that begin a statement here, as the language lists them. In a test a flow stands.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        BEGINNINGS.iter().filter(|(_, rule)| self.allows(*rule)).map(|(word, _)| *word).collect()
    }

    /// Whether a statement that `rule` reads may stand here.
    #[must_use]
    pub const fn allows(self, rule: Rule) -> bool {
        match rule {
            Rule::import_statement | Rule::mesh_head => matches!(self, Self::File),
            Rule::set_statement => matches!(self, Self::File | Self::Mesh),
            Rule::workload_head
            | Rule::group_statement
            | Rule::for_head
            | Rule::accelerate_statement
            | Rule::test_head => matches!(self, Self::Mesh),
            Rule::selector_statement => matches!(self, Self::Workload),
            Rule::exempt_statement | Rule::rule_statement | Rule::on_statement => !matches!(self, Self::Test),
            Rule::expect_statement => matches!(self, Self::Test),
            _ => false,
        }
    }
}

/// The words that begin statements, in the order in which messages list them.
const BEGINNINGS: [(&str, Rule); 23] = [
    ("import", Rule::import_statement),
    ("set", Rule::set_statement),
    ("exempt", Rule::exempt_statement),
    ("always", Rule::rule_statement),
    ("redirect", Rule::rule_statement),
    ("exclude", Rule::rule_statement),
    ("deny", Rule::rule_statement),
    ("on", Rule::on_statement),
    ("mesh", Rule::mesh_head),
    ("workload", Rule::workload_head),
    ("group", Rule::group_statement),
    ("for", Rule::for_head),
    ("accelerate", Rule::accelerate_statement),
    ("test", Rule::test_head),
    ("namespace", Rule::selector_statement),
    ("namespace-label", Rule::selector_statement),
    ("label", Rule::selector_statement),
    ("service-account", Rule::selector_statement),
    ("pod", Rule::selector_statement),
    ("not", Rule::selector_statement),
    ("address", Rule::selector_statement),
    ("cgroup", Rule::selector_statement),
    ("any", Rule::selector_statement),
];

/// The rule that reads a statement which begins with `word`.
#[must_use]
pub fn rule_for(word: &str) -> Option<Rule> {
    BEGINNINGS.iter().find(|(beginning, _)| *beginning == word).map(|(_, rule)| *rule)
}

/// Whether a line that begins with `word` cannot be the rest of a list. `any` can: it is also a
/// protocol.
#[must_use]
pub fn begins_statement(word: &str) -> bool {
    word != "any" && rule_for(word).is_some()
}

/// Whether a statement that `rule` reads has a block after it.
#[must_use]
pub const fn has_block(rule: Rule) -> bool {
    matches!(rule, Rule::mesh_head | Rule::workload_head | Rule::for_head | Rule::test_head)
}

/// Whether `word` is a word of the language, so that it cannot be a name.
#[must_use]
pub fn is_reserved(word: &str) -> bool {
    Grammar::parse(Rule::reserved, word).is_ok_and(|pairs| pairs.as_str() == word)
}

/// Whether `word` can be the name of something.
#[must_use]
pub fn is_name(word: &str) -> bool {
    Grammar::parse(Rule::name, word).is_ok_and(|pairs| pairs.as_str() == word)
}

/// Where a statement stopped making sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Bytes from the start of the statement.
    pub at: usize,
    /// What could have stood there, sorted.
    pub expected: Vec<Rule>,
}

/// Reads one statement.
///
/// # Errors
/// Where the text is no such statement: the furthest place that was reached.
pub fn parse(rule: Rule, text: &str) -> Result<Pairs<'_, Rule>, SyntaxError> {
    Grammar::parse(rule, text).map_err(|error| {
        let at = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
        };
        let expected = match error.variant {
            ErrorVariant::ParsingError { positives, .. } => positives,
            ErrorVariant::CustomError { .. } => Vec::new(),
        };
        SyntaxError { at, expected }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn accepts(text: &str) {
        let word = text.split([' ', '\n', '=']).next().unwrap();
        let rule = rule_for(word).unwrap_or(Rule::expect_statement);
        if let Err(error) = parse(rule, text) {
            panic!("{text}: stopped at `{}`, expected {:?}", &text[error.at..], error.expected);
        }
    }

    /// `rest` is what is left where the statement stops making sense.
    #[track_caller]
    fn refuses(text: &str, rest: &str, expected: &[Rule]) {
        let rule = rule_for(text.split(' ').next().unwrap()).unwrap_or(Rule::expect_statement);
        let error = parse(rule, text).expect_err("must be refused");
        assert_eq!(&text[error.at..], rest);
        assert_eq!(error.expected, expected);
    }

    #[test]
    fn every_statement_of_the_reference_is_read() {
        for text in [
            "import \"platform.mesh\"",
            "set private   = 10.0.0.0/8, 172.16.0.0/12, fc00::/7",
            "set databases = tcp 3306, 5432, 6379-6380",
            "set mixed = tcp 53, 54, udp 443",
            "set metadata  = [\n    169.254.169.254, # why\n    fd00:ec2::254,\n]",
            "exempt uid 1500",
            "exempt gid 1, 2-5",
            "exempt cgroup \"/a\", \"/b\"",
            "exempt interface [\"net1\", \"eth*\",]",
            "redirect outbound -> 15001",
            "always deny outbound to metadata",
            "redirect outbound udp 53 -> 15053",
            "exclude outbound databases",
            "exclude outbound tcp 9000-9100 to private",
            "exclude outbound tcp not [80, 443,]",
            "redirect outbound tcp 443->15443 transparent",
            "exclude outbound tcp 15128 to service osm-system/osm-controller, private, service kubernetes",
            "exclude inbound from [\n service mesh/set,\n service 7up,\n]",
            "redirect outbound to service shop/cart->15001",
            "set control = 10.0.0.1, service default/kubernetes, private",
            "deny outbound any to cafe::1, [a, b] ".trim_end_matches(", [a, b] "),
            "namespace shop",
            "label app = cart, cart-canary",
            "label app.kubernetes.io/name=\"x y\"",
            "not label tier = debug",
            "label tier",
            "namespace-label istio-injection = enabled",
            "not namespace-label mesh/off",
            "service-account deny, 7up",
            "pod [ a, b, ]",
            "address 10.42.1.0/24, fd00:42:1::/64",
            "cgroup \"/system.slice/batch.service\"",
            "any",
            "group storefront = cart, catalog",
            "for storefront",
            "workload cart",
            "mesh bookstore",
            "accelerate local",
            "accelerate local for a, b tcp 80",
            "accelerate cart<->catalog tcp not 9092",
            "accelerate within storefront",
            "accelerate all databases",
            "on missing-sidecar pass",
            "on failed-attach start",
            "test \"databases are reached directly\"",
            "cart -> 10.0.3.9 tcp 3306 is excluded",
            "cart->93.184.216.34 tcp 443 is redirected 15443",
            "cart -> 93.184.216.34 tcp 443 as uid 1500 gid 7 cgroup \"/x\" is excluded",
            "10.0.0.1 -> cart tcp 443 by interface \"net1\" is excluded",
            "inbound cart -> catalog tcp 80 is not accelerated",
            "cart->service osm-system/osm-controller tcp 15128 is excluded",
            "service kubernetes->cart tcp 443 is denied",
        ] {
            accepts(text);
        }
    }

    #[test]
    fn the_error_names_what_could_stand_there() {
        refuses("redirect sideways", "sideways", &[Rule::kw_inbound, Rule::kw_outbound]);
        refuses("mesh", "", &[Rule::name]);
        refuses("mesh deny", "deny", &[Rule::name]);
        refuses("exempt uid 1 2", "2", &[Rule::EOI, Rule::comma]);
        refuses("on missing-sidecar start", "start", &[Rule::kw_pass, Rule::kw_refuse]);
    }

    #[test]
    fn a_name_is_refused_as_a_whole() {
        refuses("workload cart-", "cart-", &[Rule::name]);
        refuses("workload cart.x", "cart.x", &[Rule::name]);
        refuses("workload 7up", "7up", &[Rule::name]);
        refuses("workload service", "service", &[Rule::name]);
        refuses("deny outbound to service cart-", "cart-", &[Rule::service]);
    }

    #[test]
    fn a_hundred_thousand_items_are_a_flat_row() {
        let items: Vec<String> =
            (0..100_000).map(|i| format!("10.{}.{}.{}/32", i >> 16, (i >> 8) & 255, i & 255)).collect();
        let text = format!("set a = [\n{},\n]", items.join(",\n"));
        let pairs = parse(Rule::set_statement, &text).expect("is a set");
        let inner = pairs.flat_map(pest::iterators::Pair::into_inner);
        assert_eq!(inner.filter(|pair| pair.as_rule() == Rule::address).count(), 100_000);
    }
}
