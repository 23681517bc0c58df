//! The law of deciding, for boxes that all match one flow.

use mesh_bpf::flow::Verdict;

use crate::bounds::FlowBox;

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

/// How the contest went. Numbers are indices of contenders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contest {
    /// The verdict, and the first contender that won; none where there were no contenders.
    pub winner: Option<(Verdict, usize)>,
    /// Other contenders of the same verdict that nothing beats.
    pub also: Vec<usize>,
    /// Contenders that lost, and to whom.
    pub beaten: Vec<(usize, usize)>,
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
            contest.beaten.push((index, beater(one, &unbeaten, first)));
        }
    }
    contest
}

/// Who beat `loser`: the first narrower box among those that nothing beats; else the winner, by its
/// strength or by `always`.
fn beater(loser: &Contender<'_>, unbeaten: &[(usize, &Contender<'_>)], winner: usize) -> usize {
    let narrower = |&&(_, one): &&(usize, &Contender<'_>)| {
        one.always == loser.always && one.bounds.is_narrower(&loser.bounds)
    };
    let of_winners = unbeaten.iter().find(|one| one.0 == winner && narrower(one));
    of_winners.or_else(|| unbeaten.iter().find(narrower)).map_or(winner, |&(index, _)| index)
}

/// `deny` beats `exclude` beats `redirect`.
pub(super) const fn weakness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Denied => 0,
        Verdict::Excluded => 1,
        Verdict::Redirected { .. } => 2,
    }
}
