//! Flat search trees in lines of one cache line each.
//!
//! A sorted list of stretches (where each begins, and what it stands for) becomes a B+ tree: lines of keys,
//! children side by side, so that a look-up touches one line a level and needs no pointer. With eight
//! children a line, 200,000 stretches are six lines deep; a kernel trie of 100,000 prefixes costs about
//! as many cache misses, and 109 bytes and more than a microsecond for each entry when it is filled.
//!
//! Over IPv4 addresses, which most decisions look up, the lines are narrower: fifteen children, and a leaf's values
//! right behind it, so that 200,000 stretches are five lines deep, of which the last two are fetched together.

use bytemuck::Zeroable;

use crate::abi::{NARROW_DEPTH, NARROW_KEYS, NarrowLine, PORT_KEYS, PortLine, TREE_KEYS, TreeLine};
use crate::sink::Sink;

/// A kind of line: how many keys, of which type.
pub(crate) trait Line: Copy + Zeroable {
    /// What is searched for.
    type Key: Copy + Ord;
    /// Children at the most.
    const FANOUT: usize;

    /// A line whose children `1 …` begin at `keys`.
    fn new(keys: impl Iterator<Item = Self::Key>, first: u32, leaf: bool) -> Self;
    /// The keys in use.
    fn keys(&self) -> &[Self::Key];
    /// Index of child 0.
    fn first(&self) -> u32;
    /// Whether its children are values.
    fn is_leaf(&self) -> bool;
}

macro_rules! line {
    ($name:ident, $key:ty, $keys:expr) => {
        impl Line for $name {
            type Key = $key;
            const FANOUT: usize = $keys + 1;

            fn new(keys: impl Iterator<Item = $key>, first: u32, leaf: bool) -> Self {
                let mut line = Self { first, leaf: leaf.into(), ..Self::zeroed() };
                line.key = [<$key>::MAX; $keys];
                for (slot, key) in line.key.iter_mut().zip(keys) {
                    *slot = key;
                    line.count += 1;
                }
                line
            }

            fn keys(&self) -> &[$key] {
                self.key.get(..usize::from(self.count)).unwrap_or(&self.key)
            }

            fn first(&self) -> u32 {
                self.first
            }

            fn is_leaf(&self) -> bool {
                self.leaf != 0
            }
        }
    };
}

line!(TreeLine, u64, TREE_KEYS);
line!(PortLine, u16, PORT_KEYS);
line!(NarrowLine, u32, NARROW_KEYS);

/// The values of a narrow leaf, in the line behind it.
type Values = [u32; 16];

/// Appends a tree over `stretches` (sorted, the first at key 0) to `lines` and `values` and returns its
/// root. `None` where an index would not fit 31 bits, or there are no stretches.
pub(crate) fn build<L: Line, V: Copy>(
    lines: &mut impl Sink<L>,
    values: &mut impl Sink<V>,
    stretches: &[(L::Key, V)],
) -> Option<u32> {
    let first = index(values.len())?;
    for &(_, value) in stretches {
        values.push(value);
    }
    let mut first_child = first;
    let mut level = index(lines.len())?;
    let mut begins = lines_of(lines, stretches, |&(key, _)| key, &mut first_child, true)?;
    index(values.len())?;
    while begins.len() > 1 {
        first_child = level;
        level = index(lines.len())?;
        begins = lines_of(lines, &begins, |&key| key, &mut first_child, false)?;
    }
    (!begins.is_empty()).then_some(level)
}

/// Appends one level of a tree, and returns where each of its lines begins.
fn lines_of<L: Line, T>(
    lines: &mut impl Sink<L>,
    children: &[T],
    key: impl Fn(&T) -> L::Key,
    first: &mut u32,
    leaf: bool,
) -> Option<Vec<L::Key>> {
    let mut begins = Vec::with_capacity(children.len() / L::FANOUT + 1);
    for chunk in children.chunks(L::FANOUT) {
        let (begin, keys) = chunk.split_first()?;
        lines.push(L::new(keys.iter().map(&key), *first, leaf));
        *first = first.checked_add(index(chunk.len())?)?;
        begins.push(key(begin));
    }
    index(lines.len())?;
    Some(begins)
}

/// The index of the value that serves `key`, exactly as the programs find it.
#[must_use]
pub(crate) fn find<L: Line>(lines: &[L], root: u32, key: L::Key, depth: u32) -> Option<u32> {
    let mut at = root;
    for _ in 0..depth {
        let line = lines.get(at as usize)?;
        let child = line.keys().iter().filter(|&&begin| begin <= key).count();
        at = line.first().checked_add(index(child)?)?;
        if line.is_leaf() {
            return Some(at);
        }
    }
    None
}

/// Every stretch of a tree in order: where it begins, and the index of its value. `None` where the lines
/// are no tree that [`build`] makes (a reference out of range, too deep, or out of order).
#[must_use]
pub(crate) fn stretches<L: Line>(
    lines: &[L],
    root: u32,
    zero: L::Key,
    depth: u32,
) -> Option<Vec<(L::Key, u32)>> {
    let mut found: Vec<(L::Key, u32)> = Vec::new();
    let mut open = vec![(root, zero, depth)];
    let mut seen = 0;
    while let Some((at, begin, depth)) = open.pop() {
        let line = lines.get(at as usize)?;
        // A tree leads to each line once. Lines that lead to others again and again are none, and a walk
        // over all their ways would not end.
        seen += 1;
        if depth == 0 || seen > lines.len() {
            return None;
        }
        let indices = line.first()..line.first().checked_add(index(L::FANOUT)?)?;
        let children = std::iter::once(begin).chain(line.keys().iter().copied()).zip(indices);
        if !line.is_leaf() {
            let bottom = open.len();
            open.extend(children.map(|(begin, child)| (child, begin, depth - 1)));
            open.get_mut(bottom..)?.reverse();
            continue;
        }
        for (begin, value) in children {
            if found.last().is_some_and(|&(last, _)| last >= begin) {
                return None;
            }
            found.push((begin, value));
        }
    }
    Some(found)
}

/// Appends a tree of narrow lines over `stretches` (sorted, the first at key 0) to `lines` and returns its root.
/// `None` where an index would not fit 31 bits, or there are no stretches.
pub(crate) fn build_narrow(lines: &mut impl Sink<TreeLine>, stretches: &[(u32, u32)]) -> Option<u32> {
    // A line and the one behind it are fetched together where the first of the two is even.
    if lines.len() % 2 == 1 {
        lines.push(TreeLine::zeroed());
    }
    let mut level = index(lines.len())?;
    let mut begins = Vec::with_capacity(stretches.len() / NarrowLine::FANOUT + 1);
    for chunk in stretches.chunks(NarrowLine::FANOUT) {
        let (&(begin, _), others) = chunk.split_first()?;
        let mut values = Values::default();
        for (place, &(_, value)) in values.iter_mut().zip(chunk) {
            *place = value;
        }
        let line = NarrowLine::new(others.iter().map(|&(key, _)| key), 0, true);
        lines.push(bytemuck::cast(line));
        lines.push(bytemuck::cast(values));
        begins.push(begin);
    }
    while begins.len() > 1 {
        let (mut first, mut above) = (level, Vec::with_capacity(begins.len() / NarrowLine::FANOUT + 1));
        level = index(lines.len())?;
        for chunk in begins.chunks(NarrowLine::FANOUT) {
            let (begin, others) = chunk.split_first()?;
            lines.push(bytemuck::cast(NarrowLine::new(others.iter().copied(), first, false)));
            lines.push(TreeLine::zeroed());
            first = first.checked_add(index(2 * chunk.len())?)?;
            above.push(*begin);
        }
        begins = above;
    }
    index(lines.len())?;
    (!begins.is_empty()).then_some(level)
}

/// A narrow line.
fn narrow(lines: &[TreeLine], at: u32) -> Option<NarrowLine> {
    lines.get(at as usize).map(|line| bytemuck::cast(*line))
}

/// The values behind a narrow leaf.
fn values(lines: &[TreeLine], leaf: u32) -> Option<Values> {
    lines.get(leaf as usize + 1).map(|line| bytemuck::cast(*line))
}

/// The value that serves `key`, exactly as the programs find it.
#[must_use]
pub(crate) fn find_narrow(lines: &[TreeLine], root: u32, key: u32) -> Option<u32> {
    let mut at = root;
    for _ in 0..NARROW_DEPTH {
        let line = narrow(lines, at)?;
        let child = line.keys().iter().filter(|&&begin| begin <= key).count();
        if line.is_leaf() {
            return values(lines, at)?.get(child).copied();
        }
        at = line.first().checked_add(index(2 * child)?)?;
    }
    None
}

/// Every stretch of a narrow tree in order: where it begins, and its value. `None` where the lines are no tree that
/// [`build_narrow`] makes.
#[must_use]
pub(crate) fn narrow_stretches(lines: &[TreeLine], root: u32) -> Option<Vec<(u32, u32)>> {
    let mut found: Vec<(u32, u32)> = Vec::new();
    let mut open = vec![(root, 0, NARROW_DEPTH)];
    let mut seen = 0;
    while let Some((at, begin, depth)) = open.pop() {
        let line = narrow(lines, at)?;
        seen += 1;
        if depth == 0 || seen > lines.len() {
            return None;
        }
        let begins = std::iter::once(begin).chain(line.keys().iter().copied());
        if !line.is_leaf() {
            let bottom = open.len();
            for (child, begin) in begins.enumerate() {
                open.push((line.first().checked_add(index(2 * child)?)?, begin, depth - 1));
            }
            open.get_mut(bottom..)?.reverse();
            continue;
        }
        for (begin, value) in begins.zip(values(lines, at)?) {
            if found.last().is_some_and(|&(last, _)| last >= begin) {
                return None;
            }
            found.push((begin, value));
        }
    }
    Some(found)
}

fn index(len: usize) -> Option<u32> {
    u32::try_from(len).ok().filter(|&index| index < crate::abi::SPAN_SUBTREE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{PORT_DEPTH, TREE_DEPTH};

    #[test]
    fn an_index_leaves_the_bit_of_subtrees_alone() {
        let bit = crate::abi::SPAN_SUBTREE;
        assert_eq!([bit - 1, bit].map(|index| super::index(index as usize)), [Some(bit - 1), None]);
    }

    #[test]
    fn finds_what_a_sorted_list_says() {
        for n in [1u64, 2, 7, 8, 9, 63, 64, 65, 513, 5000] {
            let list: Vec<(u64, u32)> = (0..n).map(|i| (i * 10, u32::try_from(i).unwrap() + 7)).collect();
            let (mut lines, mut values) = (vec![TreeLine::zeroed()], vec![0u32]);
            let root = build(&mut lines, &mut values, &list).unwrap();
            for key in (0..n * 10 + 20).chain([u64::MAX]) {
                let expect = list[list.partition_point(|&(begin, _)| begin <= key) - 1].1;
                assert_eq!(
                    values[find(&lines, root, key, TREE_DEPTH).unwrap() as usize],
                    expect,
                    "{n} {key}"
                );
            }
            let back: Vec<(u64, u32)> = (stretches(&lines, root, 0, TREE_DEPTH).unwrap().into_iter())
                .map(|(begin, at)| (begin, values[at as usize]))
                .collect();
            assert_eq!(back, list);
        }
    }

    #[test]
    fn a_narrow_tree_finds_what_a_sorted_list_says() {
        for n in [1u32, 2, 14, 15, 16, 30, 224, 225, 226, 3375, 3376, 5000] {
            let list: Vec<(u32, u32)> = (0..n).map(|i| (i * 10, i + 7)).collect();
            // Behind an odd number of lines, and behind an even one.
            for before in [1, 2] {
                let mut lines = vec![TreeLine::zeroed(); before];
                let root = build_narrow(&mut lines, &list).unwrap();
                assert_eq!(root % 2, 0, "a line and the one behind it are of one pair");
                for key in (0..n * 10 + 20).chain([u32::MAX]) {
                    let expect = list[list.partition_point(|&(begin, _)| begin <= key) - 1].1;
                    assert_eq!(find_narrow(&lines, root, key), Some(expect), "{n} {key}");
                }
                assert_eq!(narrow_stretches(&lines, root).unwrap(), list);
            }
        }
    }

    #[test]
    fn the_last_address_may_have_a_stretch_of_its_own() {
        let list = [(0, 1), (u32::MAX, 2)];
        let mut lines = Vec::new();
        let root = build_narrow(&mut lines, &list).unwrap();
        assert_eq!(find_narrow(&lines, root, u32::MAX), Some(2));
        assert_eq!(find_narrow(&lines, root, u32::MAX - 1), Some(1));
    }

    #[test]
    fn narrow_lines_that_lead_to_themselves_are_no_tree_and_no_endless_walk() {
        let lines: [TreeLine; 8] = [bytemuck::cast(NarrowLine::new(1..15, 0, false)); 8];
        assert_eq!(narrow_stretches(&lines, 0), None);
        assert_eq!(find_narrow(&lines, 0, 0), None);
    }

    #[test]
    fn the_last_key_may_be_all_ones() {
        let list = [(0u16, 1u32), (u16::MAX, 2)];
        let (mut lines, mut values) = (Vec::<PortLine>::new(), Vec::new());
        let root = build(&mut lines, &mut values, &list).unwrap();
        assert_eq!(find(&lines, root, u16::MAX, PORT_DEPTH), Some(1));
        assert_eq!(find(&lines, root, u16::MAX - 1, PORT_DEPTH), Some(0));
    }

    #[test]
    fn every_port_apart_is_no_deeper_than_programs_walk() {
        let list: Vec<(u16, u32)> = (0..=u16::MAX).map(|port| (port, u32::from(port))).collect();
        let (mut lines, mut values) = (Vec::<PortLine>::new(), Vec::new());
        let root = build(&mut lines, &mut values, &list).unwrap();
        assert_eq!(find(&lines, root, 40_000, PORT_DEPTH), Some(40_000));
        assert_eq!(stretches(&lines, root, 0, PORT_DEPTH).unwrap().len(), 65_536);
    }

    #[test]
    fn a_line_that_points_at_itself_is_no_tree() {
        let lines = [TreeLine::new([1, 2].into_iter(), 0, false)];
        assert_eq!(stretches(&lines, 0, 0, TREE_DEPTH), None);
        assert_eq!(find(&lines, 0, 0, TREE_DEPTH), None);
    }

    #[test]
    fn lines_that_point_at_each_other_are_no_tree_and_no_endless_walk() {
        let lines = [TreeLine::new(1..8, 0, false); 8];
        assert_eq!(stretches(&lines, 0, 0, TREE_DEPTH), None);
        assert_eq!(stretches(&[TreeLine::new(1..8, u32::MAX, true)], 0, 0, TREE_DEPTH), None);
    }

    #[test]
    fn a_tree_deeper_than_programs_walk_is_none() {
        let list: Vec<(u16, u32)> = (0..500).map(|port| (port, u32::from(port))).collect();
        let (mut lines, mut values) = (Vec::<PortLine>::new(), Vec::new());
        let root = build(&mut lines, &mut values, &list).unwrap();
        let depth = (1..).find(|&depth| stretches(&lines, root, 0, depth).is_some()).unwrap();
        assert!(depth > 1);
        assert_eq!(stretches(&lines, root, 0, depth - 1), None);
        assert_eq!(find(&lines, root, 7, depth - 1), None);
    }

    /// A leaf below so many lines that are first children, each with leaves beside it.
    fn chain(above: u32) -> (Vec<TreeLine>, u32) {
        let leaf = |begin: u32| {
            let line = NarrowLine::new(begin + 1..begin + 15, 0, true);
            [bytemuck::cast(line), bytemuck::cast(Values::default())]
        };
        let mut lines: Vec<TreeLine> = leaf(0).into();
        let mut root = 0;
        for level in 1..=above {
            let begins = (1..15).map(|child| level * 1000 + child * 20);
            let (first, below) = (index(lines.len()).unwrap(), root as usize);
            lines.extend_from_within(below..below + 2);
            lines.extend(begins.clone().flat_map(leaf));
            root = index(lines.len()).unwrap();
            lines.extend([bytemuck::cast(NarrowLine::new(begins, first, false)), TreeLine::zeroed()]);
        }
        (lines, root)
    }

    #[test]
    fn a_narrow_tree_deeper_than_programs_walk_is_none() {
        let (lines, root) = chain(NARROW_DEPTH - 1);
        assert_eq!(narrow_stretches(&lines, root).unwrap().len(), 15 + 14 * 15 * 7);
        assert_eq!(find_narrow(&lines, root, 7), Some(0));
        let (lines, root) = chain(NARROW_DEPTH);
        assert_eq!(narrow_stretches(&lines, root), None);
        assert_eq!(find_narrow(&lines, root, 7), None);
    }
}
