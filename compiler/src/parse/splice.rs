//! A long set of which a few items have changed: of those that stand before and behind the change only the first and
//! the last are read again.
//!
//! Behind an address the grammar is in one state, wherever in the list that is. So what lies from the end of one address
//! to that of another can be left out, and what lies from the start of one to that of the last, if that is then read as
//! an address where it begins: in no comment, and in no list of ports. Where it is not, or a mistake is found, nothing is
//! said: the set is read as a whole.

use mesh_grammar::{Rule, statement};

use super::build::{Builder, Statement as Built};
use super::errors::Errors;
use super::message::Statement;
use super::shift::{Shift, Shifted};
use crate::ast::{Set, SetItem};
use crate::source::{FileId, Span};

/// Shorter statements are read as a whole, in bytes.
pub(super) const LONG: usize = 2048;

/// A set as it was read.
#[derive(Clone, Copy)]
pub(super) struct Before<'k> {
    pub(super) words: &'k str,
    /// Where it began in its file.
    pub(super) base: u32,
    pub(super) set: &'k Set,
}

/// How many bytes two texts have in common at their start.
pub(super) fn common_start(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

/// Reads a set that was `before`. `None` where that takes the whole text.
pub(super) fn read(before: Before<'_>, statement: Statement<'_>) -> Option<Built> {
    let cut = Cut::of(before, statement.words())?;
    let left = cut.read(statement.words())?;
    cut.join(left, before, statement)
}

/// What is left out. Places are bytes from the start of the statement.
struct Cut {
    head: Option<Head>,
    tail: Option<Tail>,
}

/// Left out from the end of the first item to that of another.
struct Head {
    first: usize,
    /// That item.
    item: usize,
    end: usize,
}

/// Left out from the start of an item to that of the last, as they are in the new text.
struct Tail {
    /// That item.
    item: usize,
    start: usize,
    last: usize,
}

impl Cut {
    fn of(Before { words, base, set }: Before<'_>, new: &str) -> Option<Self> {
        let at = |place: u32| place.wrapping_sub(base) as usize;
        let address = |index: usize| match set.items.get(index)? {
            SetItem::Address(address) => Some((at(address.span.start), at(address.span.end))),
            _ => None,
        };
        let common = common_start(words, new);
        let longest = words.len().min(new.len()) - common;
        let ends = words.bytes().rev().zip(new.bytes().rev()).take(longest);
        let behind = words.len() - ends.take_while(|(one, other)| one == other).count();
        let moved = |place: usize| (place + new.len()).checked_sub(words.len());
        // What follows an item is part of what it ends with.
        let is_apart = |end: usize| words.as_bytes().get(end).is_some_and(|byte| b", \t\r\n#".contains(byte));
        let same = set.items.partition_point(|item| at(span(item).end) < common);
        let head = (1..same).rev().find(|&index| address(index).is_some_and(|(_, end)| is_apart(end)));
        let head = head.and_then(|item| Some(Head { first: address(0)?.1, item, end: address(item)?.1 }));
        let follows = |start: usize| start > behind && is_apart(start - 1);
        let last = set.items.len().checked_sub(1)?;
        let same = set.items.partition_point(|item| at(span(item).start) < behind);
        let tail = (same..last).find(|&index| address(index).is_some_and(|(start, _)| follows(start)));
        let tail = tail.and_then(|item| {
            Some(Tail { item, start: moved(address(item)?.0)?, last: moved(address(last)?.0)? })
        });
        (head.is_some() || tail.is_some()).then_some(Self { head, tail })
    }

    /// The set without what is left out, where it stands in the new text.
    fn read(&self, new: &str) -> Option<Set> {
        let mut left = String::new();
        let mut next = 0;
        if let Some(Head { first, end, .. }) = self.head {
            left.push_str(new.get(..first)?);
            next = end;
        }
        let mut begins_last = None;
        if let Some(Tail { start, last, .. }) = self.tail {
            left.push_str(new.get(next..start)?);
            begins_last = Some(left.len());
            next = last;
        }
        left.push_str(new.get(next..)?);
        let mut errors = Errors::default();
        let mut pairs = statement::parse(Rule::set_statement, &left).ok()?;
        let mut builder = Builder { file: FileId::new(0), base: 0, errors: &mut errors };
        let Some(Built::Set(Set { name, mut items, span: whole })) = builder.statement(pairs.next()?) else {
            return None;
        };
        if errors.len() > 0 {
            return None;
        }
        let is_address = |item: &SetItem| matches!(item, SetItem::Address(_));
        if let Some(begins) = begins_last {
            items.pop().filter(|item| is_address(item) && span(item).start as usize == begins)?;
        }
        if let Some(Head { first, end, .. }) = self.head {
            items.first().filter(|item| is_address(item) && span(item).end as usize == first)?;
            items.remove(0);
            let by = u32::try_from(end - first).ok()?;
            items.iter_mut().for_each(|item| item.shift(Shift { file: span(item).file, by }));
        }
        Some(Set { name, items, span: whole })
    }

    /// The whole set.
    fn join(&self, mut left: Set, before: Before<'_>, statement: Statement<'_>) -> Option<Built> {
        let Before { words, base, set } = before;
        let span = statement.span();
        let shift = |by: u32| Shift { file: span.file, by };
        let by = span.start.wrapping_sub(base);
        let grown = (span.end - span.start).wrapping_sub(u32::try_from(words.len()).ok()?);
        let known = |items: Option<&[SetItem]>, by: u32| {
            let mut items = items.unwrap_or_default().to_vec();
            items.shift(shift(by));
            items
        };
        let head = self.head.as_ref().and_then(|head| set.items.get(..=head.item));
        let tail = self.tail.as_ref().and_then(|tail| set.items.get(tail.item..));
        left.shift(shift(span.start));
        let mut items = known(head, by);
        items.append(&mut left.items);
        items.extend(known(tail, by.wrapping_add(grown)));
        Some(Built::Set(Set { name: left.name, items, span }))
    }
}

fn span(item: &SetItem) -> Span {
    match item {
        SetItem::Ports(ports) => ports.span,
        SetItem::Address(address) => address.span,
        SetItem::Service(name) | SetItem::Name(name) => name.span,
    }
}

#[cfg(test)]
mod tests {
    use mesh_grammar::scan::Extent;

    use super::super::{Statements, parse_file, parse_file_after};
    use super::*;
    use crate::ast::File;
    use crate::random::Random;

    /// A long set, an item a line, with some that are no addresses.
    fn long(random: &mut Random) -> Vec<String> {
        let several = random.below(2) == 0;
        let line = |n: usize| {
            let more = if several { format!(" 10.7.{}.0/24, fd00::{n:x},", n % 256) } else { String::new() };
            format!("    10.{}.{}.0/24,{more}", n / 256, n % 256)
        };
        let mut lines: Vec<String> = (0..300).map(line).collect();
        for odd in [
            "    private,",
            "    # why",
            "    tcp 53, 54,",
            "    service a/b, fd00::/8, # why",
            "    10.9.9.9, 10.9.9.8,",
        ] {
            if random.below(2) == 0 {
                lines.insert(random.below(lines.len()), odd.to_owned());
            }
        }
        lines
    }

    fn text(lines: &[String]) -> String {
        format!("# a\nset private = 10.0.0.0/8\nset s = [\n{}\n]\ndeny outbound to s\n", lines.join("\n"))
    }

    /// The long set of a text, with its words.
    fn set<'a>(text: &'a str, file: &'a File) -> Option<Before<'a>> {
        let set = file.sets.iter().find(|set| set.items.len() > 100)?;
        Some(Before {
            words: &text[set.span.start as usize..set.span.end as usize],
            base: set.span.start,
            set,
        })
    }

    /// Every version of random edits is read as if there had been no other, and most are not read as a whole.
    #[test]
    fn what_is_read_is_what_the_whole_text_says() {
        const NEW: [&str; 14] = [
            "    10.200.0.0/24,",
            "    10.200.0.0/24",
            "    10.1",
            "    , ,",
            "    #",
            "    \"",
            "]",
            "    tcp 80,",
            "    udp,",
            "    private,",
            "    10.200.0.1, 10.200.0.2,",
            "",
            "    10.0.0.1/8,",
            "    80,",
        ];
        let mut spliced = 0;
        for seed in 1..=60u64 {
            let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut lines = long(&mut random);
            let mut known = Statements::default();
            let mut last: Option<(String, File)> = None;
            for _ in 0..12 {
                let text = format!("{}{}", "# more\n".repeat(random.below(3)), text(&lines));
                // Its name is before all items.
                let text = if random.below(8) == 0 { text.replace("set s =", "set longer =") } else { text };
                known.next_version();
                let read = parse_file_after(FileId::new(0), &text, Some(&mut known));
                assert_eq!(format!("{read:?}"), format!("{:?}", parse_file(FileId::new(0), &text)), "{text}");
                if let Some((before, file)) = &last
                    && let (Some(before), Some(now)) = (set(before, file), set(&text, &read.0))
                {
                    let extent = Extent { start: now.set.span.start, end: now.set.span.end };
                    let statement = Statement { file: FileId::new(0), text: &text, extent };
                    if let Some(Built::Set(built)) = super::read(before, statement) {
                        assert_eq!(format!("{built:?}"), format!("{:?}", now.set), "{text}");
                        spliced += 1;
                    }
                }
                let before = lines.clone();
                let at = random.below(lines.len());
                match random.below(4) {
                    0 => drop(lines.remove(at)),
                    1 => lines.insert(at, random.of(&NEW).to_owned()),
                    2 => lines[at] = random.of(&NEW).to_owned(),
                    _ => {
                        let place = random.below(lines[at].len() + 1);
                        lines[at].insert_str(place, random.of(&["1", ",", " ", "#", "/", "a", "\r", "-"]));
                    }
                }
                // A mistake is mostly taken back.
                if !read.1.is_empty() && random.below(4) > 0 {
                    lines = before;
                    lines.truncate(280);
                }
                last = Some((text, read.0));
            }
        }
        assert!(spliced > 30, "{spliced}");
    }
}
