//! Whether two programs decide the same because they say the same in the same order, wherever it stands in their files.

use std::collections::{BTreeSet, HashMap};

use crate::hir::{
    Acceleration, AccelerationForm, AddressItem, Exempt, Group, List, Mesh, On, PortItem, Program, Rule,
    ScopeId, Service, WhoItem, Workload,
};
use crate::source::Span;

/// Whether everything that is decided and analyzed is equal, and whether their places have the same order: what is
/// known of one by its indices then holds of the other. Tests are not decided, and do not count.
pub(crate) fn same(one: &Program, other: &Program) -> bool {
    let mut pairs = Pairs::default();
    pairs.programs(one, other) && pairs.keep_order()
}

/// The scopes whose rules differ. None where anything else that is decided does.
pub(crate) fn changed(one: &Program, other: &Program) -> Option<BTreeSet<ScopeId>> {
    if !Pairs::default().beside_rules(one, other) {
        return None;
    }
    let (mut ones, mut others) = (one.rules.as_slice(), other.rules.as_slice());
    // What differs ends each comparison, so lists that were compared until then are equal.
    let mut pairs = Pairs::default();
    while let ([first, one @ ..], [other_first, other @ ..]) = (ones, others)
        && pairs.rule(first, other_first)
    {
        (ones, others) = (one, other);
    }
    let mut pairs = Pairs::default();
    while let ([one @ .., last], [other @ .., other_last]) = (ones, others)
        && pairs.rule(last, other_last)
    {
        (ones, others) = (one, other);
    }
    Some(ones.iter().chain(others).map(|rule| rule.scope).collect())
}

/// What has been compared.
#[derive(Default)]
struct Pairs {
    spans: Vec<(Span, Span)>,
    /// Lists that rules share, in both directions.
    lists: [HashMap<usize, usize>; 2],
}

impl Pairs {
    fn programs(&mut self, one: &Program, other: &Program) -> bool {
        self.beside_rules(one, other) && self.all(&one.rules, &other.rules, Self::rule)
    }

    fn beside_rules(&mut self, one: &Program, other: &Program) -> bool {
        let Program {
            meshes,
            workloads,
            groups,
            // Sets are in the rules that name them.
            sets: _,
            services,
            names,
            scopes,
            rules: _,
            exempts,
            ons,
            accelerations,
            tests: _,
        } = one;
        *names == other.names
            && *scopes == other.scopes
            && self.all(meshes, &other.meshes, Self::mesh)
            && self.all(workloads, &other.workloads, Self::workload)
            && self.all(groups, &other.groups, Self::group)
            && self.all(services, &other.services, Self::service)
            && self.all(exempts, &other.exempts, Self::exempt)
            && self.all(ons, &other.ons, Self::on)
            && self.all(accelerations, &other.accelerations, Self::acceleration)
    }

    fn all<T>(&mut self, one: &[T], other: &[T], mut equal: impl FnMut(&mut Self, &T, &T) -> bool) -> bool {
        one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(self, one, other))
    }

    fn span(&mut self, one: Span, other: Span) -> bool {
        self.spans.push((one, other));
        true
    }

    fn spans(&mut self, one: &[Span], other: &[Span]) -> bool {
        self.all(one, other, |pairs, &one, &other| pairs.span(one, other))
    }

    /// Two lists are compared once, and are shared by the same rules.
    fn list<T>(
        &mut self,
        one: &List<T>,
        other: &List<T>,
        equal: impl FnMut(&mut Self, &T, &T) -> bool,
    ) -> bool {
        let keys = (one.key(), other.key());
        let [there, back] = &mut self.lists;
        match (there.get(&keys.0), back.get(&keys.1)) {
            (None, None) => {
                there.insert(keys.0, keys.1);
                back.insert(keys.1, keys.0);
                self.all(one, other, equal)
            }
            (Some(&known), _) => known == keys.1,
            (None, Some(_)) => false,
        }
    }

    fn mesh(&mut self, one: &Mesh, other: &Mesh) -> bool {
        let Mesh { name, span } = one;
        *name == other.name && self.span(*span, other.span)
    }

    fn workload(&mut self, one: &Workload, other: &Workload) -> bool {
        let Workload { mesh, name, selector, span, selector_spans } = one;
        (mesh, name, selector) == (&other.mesh, &other.name, &other.selector)
            && self.span(*span, other.span)
            && self.spans(selector_spans, &other.selector_spans)
    }

    fn group(&mut self, one: &Group, other: &Group) -> bool {
        let Group { mesh, name, members, span } = one;
        (mesh, name, members) == (&other.mesh, &other.name, &other.members) && self.span(*span, other.span)
    }

    fn service(&mut self, one: &Service, other: &Service) -> bool {
        let Service { name, addresses, uses } = one;
        (name, addresses) == (&other.name, &other.addresses) && self.spans(uses, &other.uses)
    }

    fn rule(&mut self, one: &Rule, other: &Rule) -> bool {
        let Rule { scope, always, direction, verdict, ports, addresses, who, span } = one;
        (scope, always, direction, verdict) == (&other.scope, &other.always, &other.direction, &other.verdict)
            && self.span(*span, other.span)
            && self.list(ports, &other.ports, Self::port)
            && self.list(addresses, &other.addresses, Self::address)
            && self.list(who, &other.who, Self::who)
    }

    fn port(&mut self, one: &PortItem, other: &PortItem) -> bool {
        let PortItem { protocol, ports, span, by } = one;
        (protocol, ports, by) == (&other.protocol, &other.ports, &other.by) && self.span(*span, other.span)
    }

    fn address(&mut self, one: &AddressItem, other: &AddressItem) -> bool {
        let AddressItem { prefix, span, by } = *one;
        (prefix, by) == (other.prefix, other.by) && self.span(span, other.span)
    }

    fn who(&mut self, one: &WhoItem, other: &WhoItem) -> bool {
        let WhoItem { who, spans } = one;
        *who == other.who
            && self.all(spans, &other.spans, |pairs, one, other| match (one, other) {
                (Some(one), Some(other)) => pairs.span(*one, *other),
                (None, None) => true,
                _ => false,
            })
    }

    fn exempt(&mut self, one: &Exempt, other: &Exempt) -> bool {
        let Exempt { scope, who, span } = one;
        (scope, who) == (&other.scope, &other.who) && self.span(*span, other.span)
    }

    fn on(&mut self, one: &On, other: &On) -> bool {
        let On { scope, event, refuse, span } = one;
        (scope, event, refuse) == (&other.scope, &other.event, &other.refuse) && self.span(*span, other.span)
    }

    fn acceleration(&mut self, one: &Acceleration, other: &Acceleration) -> bool {
        let Acceleration { mesh, form, ports, span } = one;
        let form_is_equal = match (form, &other.form) {
            (AccelerationForm::Local(one), AccelerationForm::Local(other)) => one == other,
            (AccelerationForm::Between(a, b), AccelerationForm::Between(c, d)) => (a, b) == (c, d),
            _ => false,
        };
        form_is_equal
            && *mesh == other.mesh
            && self.span(*span, other.span)
            && self.all(ports, &other.ports, Self::port)
    }

    /// Whether what comes before another place, or is the same, does so in the other program.
    fn keep_order(mut self) -> bool {
        self.spans.sort_unstable();
        self.spans.windows(2).all(|pair| match pair {
            [(one, other), (next, other_next)] => one.cmp(next) == other.cmp(other_next),
            _ => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::{Location, NoImports, Services, load, resolve};

    fn program(text: &str) -> Program {
        let location = Location { key: "a".into(), name: "a".into() };
        let (files, found) = load(vec![(location, text.as_bytes().to_vec())], &mut NoImports);
        resolve(&files, found, &Services::new()).0.program
    }

    const POLICY: &str = "set s = 10.0.0.0/8, 10.1.0.0/16\nset p = tcp 80, 81\nmesh m {\n workload a { any }\n workload b { pod b }\n \
                          group g = a, b\n for g { exclude outbound p to s }\n deny outbound p to 10.2.0.0/16\n exempt uid 7\n \
                          on missing-sidecar pass\n accelerate within g tcp 80\n deny outbound udp to s as uid 5\n \
                          test \"t\" { a -> 10.0.0.1 tcp 80 is excluded }\n}\n";

    #[test]
    fn places_and_tests_do_not_count() {
        let first = program(POLICY);
        for text in [
            format!("# a comment\n\n{POLICY}"),
            POLICY.replace(" pod b ", "   pod   b # é\n"),
            POLICY.replace("is excluded", "is denied"),
            POLICY.replace("10.1.0.0/16\n", "10.1.0.0/16 # more\n"),
        ] {
            assert!(same(&first, &program(&text)), "{text}");
        }
    }

    #[test]
    fn what_is_decided_counts() {
        let first = program(POLICY);
        for (old, new) in [
            ("10.1.0.0/16", "10.1.0.0/15"),
            ("tcp 80, 81", "tcp 80, 82"),
            ("workload a", "workload c"),
            ("pod b", "pod c"),
            ("group g = a, b", "group g = a"),
            ("exclude outbound p to s", "deny outbound p to s"),
            ("exclude outbound p to s", "always exclude outbound p to s"),
            ("exclude outbound p to s", "exclude outbound p to 10.0.0.0/8, 10.1.0.0/16"),
            ("exclude outbound p to s", "exclude outbound tcp 80, 81 to s"),
            ("deny outbound p", "deny inbound p"),
            (" to 10.2.0.0/16", " to s"),
            ("exempt uid 7", "exempt uid 8"),
            ("exempt uid 7", "exempt gid 7"),
            ("sidecar pass", "sidecar refuse"),
            ("accelerate within g tcp 80", "accelerate within g tcp 81"),
            ("accelerate within g tcp 80", "accelerate local tcp 80"),
            ("as uid 5", "as uid 6"),
            ("mesh m", "mesh n"),
        ] {
            let text = POLICY.replace(old, new);
            assert_ne!(text, POLICY, "{old}");
            assert!(!same(&first, &program(&text)), "{old}: {new}");
        }
    }
}
