//! The law of deciding, for boxes that all match one flow.

use mesh_bpf::flow::Verdict;

use mesh_hir::item::BuiltIn;

use crate::bounds::{FlowBox, Respects};

/// A box that matches the flow.
#[derive(Clone, Copy, Debug)]
pub struct Contender<'p> {
    /// What it covers.
    pub bounds: FlowBox<'p>,
    /// Boxes without it do not take part.
    pub always: bool,
    /// What it wants.
    pub verdict: Verdict,
}

/// Why a box that matches does not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Another one has `always`, and it has not.
    Always,
    /// Another one is narrower, in these respects.
    Narrower(Respects),
    /// Neither is narrower, and the other one's verdict is stronger.
    Stronger,
    /// The language does not let it take part there.
    BuiltIn(BuiltIn),
}

/// How the contest went. Numbers are indices of contenders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contest {
    /// The verdict, and the first contender that won; none where there were no contenders.
    pub winner: Option<(Verdict, usize)>,
    /// Other contenders of the same verdict that nothing beats.
    pub also: Vec<usize>,
    /// Contenders that lost, to whom, and why.
    pub beaten: Vec<(usize, usize, Why)>,
    /// Redirects that nothing beats and that lead elsewhere than the winner.
    pub conflict: Vec<usize>,
}

/// Finds who decides. Earlier contenders are credited before later ones of equal verdict.
#[must_use]
pub fn contest(contenders: &[Contender<'_>]) -> Contest {
    let always = contenders.iter().any(|one| one.always);
    let all = || contenders.iter().enumerate().filter(move |(_, one)| one.always == always);
    let beaten = |one: &Contender<'_>| all().any(|(_, other)| other.bounds.is_narrower(&one.bounds));
    let unbeaten: Vec<(usize, &Contender<'_>)> = all().filter(|(_, one)| !beaten(one)).collect();
    // `min_by_key` takes the first of equals.
    let Some(&(first, winner)) = unbeaten.iter().min_by_key(|(_, one)| weakness(one.verdict)) else {
        return Contest::default();
    };
    let mut contest = Contest { winner: Some((winner.verdict, first)), ..Contest::default() };
    for (index, one) in contenders.iter().enumerate().filter(|&(index, _)| index != first) {
        let stands = unbeaten.iter().any(|&(other, _)| other == index);
        if stands && one.verdict == winner.verdict {
            contest.also.push(index);
        } else if stands && weakness(one.verdict) == weakness(winner.verdict) {
            contest.conflict.push(index);
        } else {
            let (by, why) = beater(one, &unbeaten, (first, winner));
            contest.beaten.push((index, by, why));
        }
    }
    contest
}

/// Who beat `loser`: the first narrower box among those that nothing beats; else the winner, by its
/// strength or by `always`.
fn beater(
    loser: &Contender<'_>,
    unbeaten: &[(usize, &Contender<'_>)],
    (first, winner): (usize, &Contender<'_>),
) -> (usize, Why) {
    if winner.always && !loser.always {
        return (first, Why::Always);
    }
    let narrower = |one: &&(usize, &Contender<'_>)| one.1.bounds.is_narrower(&loser.bounds);
    let of_winners = unbeaten.iter().find(|one| one.0 == first && narrower(one));
    match of_winners.or_else(|| unbeaten.iter().find(narrower)) {
        Some(&(index, one)) => (index, Why::Narrower(one.bounds.narrower_in(&loser.bounds))),
        None => (first, Why::Stronger),
    }
}

/// `deny` beats `exclude` beats `redirect`.
pub(super) const fn weakness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Denied => 0,
        Verdict::Excluded => 1,
        Verdict::Redirected { .. } => 2,
    }
}

#[cfg(test)]
mod tests {
    use mesh_bpf::ports::{PortRange, PortSet};
    use mesh_bpf::prefix::Prefix;
    use mesh_hir::region::real_ports;
    use mesh_hir::{Level, Ports, Scope, Who, WorkloadId};

    use super::*;

    const DENY: Verdict = Verdict::Denied;
    const EXCLUDE: Verdict = Verdict::Excluded;

    const fn redirect(port: u16) -> Verdict {
        Verdict::Redirected { port, transparent: false }
    }

    /// A contest of rules: `always` or nothing, first and last port, and the verdict.
    fn of_ranges(rules: &[(&str, u16, u16, Verdict)]) -> Contest {
        let scope = Scope { level: Level::Mesh, name: "m".into(), members: vec![WorkloadId(0)] };
        let ports: Vec<PortSet> = (rules.iter())
            .map(|&(_, first, last, _)| real_ports(&Ports::Range(PortRange { first, last })))
            .collect();
        let contenders: Vec<Contender<'_>> = (rules.iter().zip(&ports))
            .map(|(&(always, _, _, verdict), ports)| Contender {
                bounds: FlowBox { scope: &scope, ports, prefix: Prefix::Any, who: &Who::EVERYBODY },
                always: always == "always",
                verdict,
            })
            .collect();
        contest(&contenders)
    }

    /// The same of ports from 1 on.
    fn of(rules: &[(&str, u16, Verdict)]) -> Contest {
        of_ranges(
            &rules.iter().map(|&(always, last, verdict)| (always, 1, last, verdict)).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn where_nothing_matches_nothing_wins() {
        assert_eq!(of(&[]), Contest::default());
    }

    #[test]
    fn of_equally_narrow_rules_the_strongest_verdict_wins() {
        let contest = of(&[("", 9, redirect(1)), ("", 9, EXCLUDE), ("", 9, DENY), ("", 9, EXCLUDE)]);
        assert_eq!(contest.winner, Some((DENY, 2)));
        assert_eq!(contest.beaten, [0, 1, 3].map(|index| (index, 2, Why::Stronger)));
        assert!(contest.also.is_empty() && contest.conflict.is_empty());
    }

    #[test]
    fn a_narrower_rule_wins_whatever_it_says() {
        let ports = Why::Narrower(Respects { ports: true, ..Respects::default() });
        let contest = of(&[("", 9, DENY), ("", 8, redirect(1)), ("", 9, redirect(1))]);
        assert_eq!(contest.winner, Some((redirect(1), 1)));
        assert_eq!(contest.beaten, [(0, 1, ports), (2, 1, ports)]);
        assert!(contest.also.is_empty() && contest.conflict.is_empty());
    }

    #[test]
    fn a_loser_names_the_winner_where_that_is_narrower_and_else_who_is() {
        let ports = Why::Narrower(Respects { ports: true, ..Respects::default() });
        let contest = of_ranges(&[("", 1, 20, redirect(1)), ("", 2, 9, EXCLUDE), ("", 3, 12, DENY)]);
        assert_eq!(contest.winner, Some((DENY, 2)));
        assert_eq!(contest.beaten, [(0, 2, ports), (1, 2, Why::Stronger)]);
        let contest = of_ranges(&[("", 1, 9, redirect(1)), ("", 2, 9, EXCLUDE), ("", 3, 12, DENY)]);
        assert_eq!(contest.winner, Some((DENY, 2)));
        assert_eq!(contest.beaten, [(0, 1, ports), (1, 2, Why::Stronger)]);
    }

    #[test]
    fn rules_without_always_do_not_take_part_where_one_has_it() {
        let contest = of(&[("", 1, DENY), ("always", 9, EXCLUDE), ("always", 9, EXCLUDE)]);
        assert_eq!(contest.winner, Some((EXCLUDE, 1)));
        assert_eq!((contest.also, contest.beaten), (vec![2], vec![(0, 1, Why::Always)]));
    }

    #[test]
    fn redirects_to_one_place_agree_and_to_several_tie() {
        let contest = of(&[("", 9, redirect(1)), ("", 9, redirect(2)), ("", 9, redirect(1))]);
        assert_eq!(contest.winner, Some((redirect(1), 0)));
        assert_eq!((contest.also, contest.conflict), (vec![2], vec![1]));
        // One that is beaten, or one that is weaker, ties with nothing.
        assert_eq!(of(&[("", 9, redirect(1)), ("", 8, redirect(2))]).conflict, [0usize; 0]);
        assert_eq!(of(&[("", 9, redirect(1)), ("", 9, redirect(2)), ("", 9, DENY)]).conflict, [0usize; 0]);
    }
}
