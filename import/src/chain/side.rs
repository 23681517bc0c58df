//! One side of a rule: a list of items, of which an empty one is all. What lies in an item of a list, and what meets some, is
//! found by the items' ends, without a look at each.

use ipnet::IpNet;
use mesh_bpf::flow::Protocol;

/// An item of a list: all from one end to the other.
pub trait Item: Clone + Ord {
    /// What its ends are.
    type End: Ord + Clone;

    /// The first and the last of what lies in it.
    fn ends(&self) -> (Self::End, Self::End);

    /// What lies in both; `None` where that is nothing.
    fn both(&self, other: &Self) -> Option<Self>;

    /// The least item in which two lie that have something in common.
    fn around(&self, other: &Self) -> Self {
        if self.ends().0 <= other.ends().0 { self.clone() } else { other.clone() }
    }

    /// The item in which all others lie, where there is one.
    #[must_use]
    fn all() -> Option<Self> {
        None
    }
}

impl Item for Protocol {
    type End = Self;

    fn ends(&self) -> (Self, Self) {
        (*self, *self)
    }

    fn both(&self, other: &Self) -> Option<Self> {
        (self == other).then_some(*self)
    }
}

fn common<T: Ord + Copy>(a: &(T, T), b: &(T, T)) -> Option<(T, T)> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 <= both.1).then_some(both)
}

/// A range of ports.
impl Item for (u16, u16) {
    type End = u16;

    fn around(&self, other: &Self) -> Self {
        (self.0.min(other.0), self.1.max(other.1))
    }

    fn ends(&self) -> Self {
        *self
    }

    fn both(&self, other: &Self) -> Option<Self> {
        common(self, other)
    }

    fn all() -> Option<Self> {
        Some((0, u16::MAX))
    }
}

/// A range of ids.
impl Item for (u32, u32) {
    type End = u32;

    fn around(&self, other: &Self) -> Self {
        (self.0.min(other.0), self.1.max(other.1))
    }

    fn ends(&self) -> Self {
        *self
    }

    fn both(&self, other: &Self) -> Option<Self> {
        common(self, other)
    }
}

impl Item for IpNet {
    type End = (bool, u128);

    fn ends(&self) -> (Self::End, Self::End) {
        match self {
            Self::V4(net) => {
                ((false, u32::from(net.network()).into()), (false, u32::from(net.broadcast()).into()))
            }
            Self::V6(net) => ((true, net.network().into()), (true, net.broadcast().into())),
        }
    }

    fn both(&self, other: &Self) -> Option<Self> {
        if self.contains(other) { Some(*other) } else { other.contains(self).then_some(*self) }
    }
}

/// The path of a cgroup, with all below it.
impl Item for String {
    type End = Self;

    fn ends(&self) -> (Self, Self) {
        let below = format!("{}/", self.trim_end_matches('/'));
        (below.clone(), format!("{below}{}", char::MAX))
    }

    fn both(&self, other: &Self) -> Option<Self> {
        let lies_in = |inner: &Self, outer: &Self| inner.ends().0.starts_with(&outer.ends().0);
        if lies_in(other, self) { Some(other.clone()) } else { lies_in(self, other).then(|| self.clone()) }
    }
}

/// A list, to be asked what lies in it.
#[derive(Debug)]
pub struct Side<I: Item> {
    /// By their first ends.
    items: Vec<(I::End, I::End, I)>,
    /// The greatest last end of the items up to each.
    reach: Vec<I::End>,
}

/// Items of a list on one side of a cut: none at all, or some, of which an empty list is all.
type Part<I> = Option<Vec<I>>;

impl<I: Item> Side<I> {
    /// A list.
    pub fn new(list: &[I]) -> Self {
        let mut items: Vec<(I::End, I::End, I)> = list
            .iter()
            .map(|item| {
                let (first, last) = item.ends();
                (first, last, item.clone())
            })
            .collect();
        items.sort();
        let mut reach: Vec<I::End> = Vec::with_capacity(items.len());
        for (_, last, _) in &items {
            let most = reach.last().filter(|most| *most > last).unwrap_or(last).clone();
            reach.push(most);
        }
        Self { items, reach }
    }

    fn is_all(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether an item lies in one of the list.
    pub fn has(&self, item: &I) -> bool {
        let (first, last) = item.ends();
        let begun = self.items.partition_point(|(start, ..)| *start <= first);
        self.is_all()
            || begun.checked_sub(1).and_then(|at| self.reach.get(at)).is_some_and(|end| *end >= last)
    }

    /// Whether each item of another list lies in one of this.
    pub fn has_all(&self, list: &[I]) -> bool {
        match list {
            [] => self.is_all() || I::all().is_some_and(|all| self.has(&all)),
            items => items.iter().all(|item| self.has(item)),
        }
    }

    /// The items of a list that lie in one of this, and the others.
    pub fn cut(&self, list: &[I]) -> (Part<I>, Part<I>) {
        if self.has_all(list) {
            return (Some(list.to_vec()), None);
        }
        let (inside, outside): (Vec<I>, Vec<I>) = list.iter().cloned().partition(|item| self.has(item));
        ((!inside.is_empty()).then_some(inside), Some(outside))
    }

    /// What a list has in common with this; `None` where that is nothing.
    pub fn meet(&self, list: &[I]) -> Option<Vec<I>> {
        if self.is_all() {
            return Some(list.to_vec());
        }
        if list.is_empty() {
            let mut all: Vec<I> = self.items.iter().map(|(.., item)| item.clone()).collect();
            all.sort();
            return Some(all);
        }
        let mut common = Vec::new();
        for item in list {
            let (first, last) = item.ends();
            let begun = self.items.partition_point(|(start, ..)| *start <= last);
            let before = self.items.iter().zip(&self.reach).take(begun).rev();
            // Nothing further to the front reaches it.
            let near = before.take_while(|(_, reach)| **reach >= first);
            common.extend(near.filter_map(|((.., own), _)| own.both(item)));
        }
        common.sort();
        common.dedup();
        (!common.is_empty()).then_some(common)
    }
}

/// The same in items that have nothing in common.
#[must_use]
pub fn disjoint<I: Item>(mut list: Vec<I>) -> Vec<I> {
    // What others lie in comes before them.
    list.sort_by_cached_key(|item| {
        let (first, last) = item.ends();
        (first, std::cmp::Reverse(last))
    });
    let mut kept: Vec<I> = Vec::with_capacity(list.len());
    for item in list {
        match kept.last_mut() {
            Some(last) if last.both(&item).is_some() => *last = last.around(&item),
            _ => kept.push(item),
        }
    }
    kept.sort();
    kept
}

/// What two lists have in common; `None` where that is nothing.
pub fn meet<I: Item>(a: &[I], b: &[I]) -> Option<Vec<I>> {
    Side::new(a).meet(b)
}
