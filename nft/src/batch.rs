//! Batches: messages that the kernel obeys all together, or not at all.
//!
//! A batch is one datagram. None is made that may fail: what it deletes is there, what it adds is not, or may be there
//! already; kernels of before late 2025 keep checking all chains at each change after a batch that failed.
//!
//! While a ruleset is loaded, the base chains stay. A translation that conntrack keeps needs a chain of type `nat` on its
//! hook and an expression that needs conntrack: without one of them, established connections are reset. So [`pause`] leaves
//! both chains with a rule that asks for the state of a flow, and only [`remove`] ends them.

use std::fmt;

use crate::encode::message::{ACK, BEGIN, END, Message, SUBSYSTEM};
use crate::encode::{self, BASE, Names};
use crate::held::{Held, TableName};
use crate::marker::Marker;
use crate::ruleset::{Action, ChainId, Counter, Element, Map, MapId, Match, Rule, Ruleset};

/// Messages to be sent as one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    chunks: Vec<Vec<u8>>,
    steps: Vec<Step>,
    len: usize,
}

/// What a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The batch begins: an answer to it is about all of it, also where its end is refused.
    Begin,
    /// The table itself.
    Table,
    /// A chain of this name.
    Chain(String),
    /// A rule of this chain.
    Rule(String),
    /// A map of this name.
    Map(String),
    /// Elements of this map.
    Elements(String),
    /// A counter of this name.
    Counter(String),
    /// The same, of something that is no longer needed.
    Delete(Box<Step>),
    /// The batch ends.
    End,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("the change as a whole"),
            Self::Table => f.write_str("the table"),
            Self::Chain(name) => write!(f, "chain {name}"),
            Self::Rule(chain) => write!(f, "a rule of chain {chain}"),
            Self::Map(name) => write!(f, "map {name}"),
            Self::Elements(name) => write!(f, "elements of map {name}"),
            Self::Counter(name) => write!(f, "counter {name}"),
            Self::Delete(step) => write!(f, "the removal of {step}"),
            Self::End => f.write_str("the end of the change"),
        }
    }
}

/// Bytes of a chunk, about.
const CHUNK: usize = 1 << 20;

impl Batch {
    /// The bytes, in pieces: all of them are one datagram. There are fewer pieces than one call takes (`IOV_MAX`) up to a
    /// gigabyte.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().map(Vec::as_slice)
    }

    /// How many bytes there are: what the socket's send buffer must hold.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none, which is never so.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the message with this sequence number is for. The first one's number is 1.
    #[must_use]
    pub fn step(&self, sequence: u32) -> Option<&Step> {
        self.steps.get(sequence.checked_sub(1)? as usize)
    }

    /// The number of the one message that is answered even where all goes well: the last before the end. The kernel
    /// answers to none before it has obeyed or refused all.
    #[must_use]
    pub fn acknowledged(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX).saturating_sub(1)
    }
}

/// A batch while it grows.
pub(crate) struct Writer<S> {
    sink: S,
    message: Message,
    /// A message that was written, and is not handed over yet: it may be the last.
    pending: Option<Message>,
    steps: Vec<Step>,
}

/// Where messages go.
pub(crate) trait Sink {
    fn take(&mut self, message: &[u8]);
}

#[derive(Default)]
struct Chunks(Vec<Vec<u8>>);

impl Sink for Chunks {
    fn take(&mut self, message: &[u8]) {
        match self.0.last_mut() {
            Some(last) if last.len() + message.len() <= last.capacity() => last.extend_from_slice(message),
            _ => {
                // A small batch is one small piece.
                let few = self.0.is_empty() && message.len() < 1 << 12;
                let mut chunk = Vec::with_capacity(if few { 1 << 14 } else { CHUNK.max(message.len()) });
                chunk.extend_from_slice(message);
                self.0.push(chunk);
            }
        }
    }
}

impl Sink for blake3::Hasher {
    fn take(&mut self, message: &[u8]) {
        self.update(message);
    }
}

impl<S: Sink> Writer<S> {
    fn new(sink: S) -> Self {
        let mut writer = Self { sink, message: Message::default(), pending: None, steps: Vec::new() };
        writer.put(Step::Begin, |message| message.head(BEGIN, 0, [0, 0, 0, SUBSYSTEM]));
        writer
    }

    fn put(&mut self, step: Step, write: impl FnOnce(&mut Message)) {
        write(&mut self.message);
        self.written(step);
    }

    /// Takes the message that was written.
    fn written(&mut self, step: Step) {
        let message = std::mem::take(&mut self.message);
        self.flush(0);
        self.steps.push(step);
        self.pending = Some(message);
    }

    fn flush(&mut self, flags: u16) {
        if let Some(mut message) = self.pending.take() {
            let sequence = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
            self.sink.take(message.finish(sequence, flags));
            // Its memory serves the next.
            self.message = message;
        }
    }

    fn end(mut self) -> (S, Vec<Step>) {
        self.flush(ACK);
        self.put(Step::End, |message| message.head(END, 0, [0, 0, 0, SUBSYSTEM]));
        self.flush(0);
        (self.sink, self.steps)
    }

    fn rule(&mut self, at: (&TableName, &str), names: Names, counters: &[Counter], rule: &Rule) {
        self.put(Step::Rule(at.1.to_owned()), |message| encode::new_rule(message, at, names, counters, rule));
    }

    /// Counters, maps and chains, with all that is in them.
    fn objects(&mut self, table: &TableName, names: Names, ruleset: &Ruleset) {
        for &counter in &ruleset.counters {
            self.put(Step::Counter(counter.name()), |message| encode::new_counter(message, table, counter));
        }
        for (id, chain) in (0..).map(ChainId).zip(&ruleset.chains) {
            let name = names.chain(id);
            self.put(Step::Chain(name.clone()), |message| {
                encode::new_chain(message, table, &name, &chain.comment);
            });
        }
        for (id, map) in (0..).map(MapId).zip(&ruleset.maps) {
            let name = names.map(id);
            let number = id.0.saturating_add(1);
            self.put(Step::Map(name.clone()), |message| encode::new_map(message, table, &name, number, map));
            self.elements((table, &name, true), (names, map), map.elements());
        }
        for (id, chain) in (0..).map(ChainId).zip(&ruleset.chains) {
            let name = names.chain(id);
            for rule in &chain.rules {
                self.rule((table, &name), names, &ruleset.counters, rule);
            }
        }
    }

    /// Adds elements to a map, or takes them away.
    fn elements(
        &mut self,
        at: (&TableName, &str, bool),
        of: (Names, &Map),
        elements: impl Iterator<Item = Element<u128>>,
    ) {
        let (_, name, is) = at;
        let mut message = std::mem::take(&mut self.message);
        encode::put_elements(&mut message, at, of, elements, |message| {
            std::mem::swap(&mut self.message, message);
            let step = Step::Elements(name.to_owned());
            self.written(if is { step } else { Step::Delete(step.into()) });
            std::mem::swap(&mut self.message, message);
        });
        self.message = message;
    }

    /// What the base chains have; those that are there are emptied, those that are not are made.
    fn base(&mut self, at: (&TableName, &Held), names: Names, counters: &[Counter], rules: [&[Rule]; 2]) {
        let (table, held) = at;
        for ((name, hook), rules) in BASE.into_iter().zip(rules) {
            if held.has(name) {
                self.put(Step::Delete(Step::Rule(name.to_owned()).into()), |message| {
                    encode::flush(message, table, name);
                });
            } else {
                self.put(Step::Chain(name.to_owned()), |message| {
                    encode::new_base(message, table, name, hook);
                });
            }
            for rule in rules {
                self.rule((table, name), names, counters, rule);
            }
        }
    }

    fn marker(&mut self, (table, held): (&TableName, &Held), marker: &Marker) {
        let name = marker.name();
        if !held.has(&name) {
            self.put(Step::Chain(name.clone()), |message| encode::new_chain(message, table, &name, ""));
        }
    }

    /// What was loaded before: rules first, since they hold maps and chains, then maps, which hold chains.
    fn old(&mut self, table: &TableName, held: &Held, marker: &Marker) {
        let kept = marker.name();
        let is_old = |name: &&String| **name != kept && BASE.iter().all(|(base, _)| base != name);
        let deleted = |step: Step| Step::Delete(step.into());
        for name in held.chains.iter().filter(is_old) {
            self.put(deleted(Step::Rule(name.clone())), |message| encode::flush(message, table, name));
        }
        for name in &held.sets {
            self.put(deleted(Step::Map(name.clone())), |message| encode::delete_set(message, table, name));
        }
        for name in held.chains.iter().filter(is_old) {
            self.put(deleted(Step::Chain(name.clone())), |message| {
                encode::delete_chain(message, table, name);
            });
        }
    }
}

fn batch(write: impl FnOnce(&mut Writer<Chunks>)) -> Batch {
    let mut writer = Writer::new(Chunks::default());
    write(&mut writer);
    let (Chunks(chunks), steps) = writer.end();
    Batch { len: chunks.iter().map(Vec::len).sum(), chunks, steps }
}

impl Ruleset {
    /// Loads it in place of what a table holds, which may be nothing. Counters stay as they are, and so do those that no
    /// rule of it counts with.
    #[must_use]
    pub fn replace(&self, table: &TableName, marker: &Marker, held: &Held) -> Batch {
        let names = Names { suffix: held.free_suffix() };
        batch(|writer| {
            writer.put(Step::Table, |message| encode::new_table(message, table));
            writer.objects(table, names, self);
            match &self.base {
                Some(base) => {
                    let rules = [base.output.as_slice(), &base.prerouting];
                    writer.base((table, held), names, &self.counters, rules);
                }
                None => idle(writer, table, held),
            }
            writer.marker((table, held), marker);
            writer.old(table, held, marker);
        })
    }

    /// Loads it in place of a ruleset that is loaded and differs from it in elements of maps alone: these are added and taken
    /// away, and all else stays. None where more differs, or the table does not hold what is said: [`Self::replace`] does it
    /// then. A prefix more or less in a list of 100,000 is such a change.
    #[must_use]
    pub fn change(
        &self,
        table: &TableName,
        marker: &Marker,
        (old, old_marker): (&Self, &Marker),
        held: &Held,
    ) -> Option<Batch> {
        let suffix = held.only_suffix()?;
        let is_loaded = held.has(&old_marker.name())
            && !old_marker.paused
            && held.sets.len() == old.maps.len()
            && held.chains.len() == old.chains.len() + BASE.len() + 1;
        let is_alike = |(one, other): (&Map, &Map)| (one.key, one.interval) == (other.key, other.interval);
        let differs_in_elements = self.base.is_some()
            && (&self.base, &self.chains, &self.counters) == (&old.base, &old.chains, &old.counters)
            && self.maps.len() == old.maps.len()
            && self.maps.iter().zip(&old.maps).all(is_alike);
        if !(is_loaded && differs_in_elements) {
            return None;
        }
        let names = Names { suffix };
        Some(batch(|writer| {
            writer.put(Step::Table, |message| encode::new_table(message, table));
            for (id, (new, old)) in (0..).map(MapId).zip(self.maps.iter().zip(&old.maps)) {
                let name = names.map(id);
                writer.elements((table, &name, false), (names, old), old.without(new));
                writer.elements((table, &name, true), (names, new), new.without(old));
            }
            writer.marker((table, held), marker);
            if old_marker != marker {
                let name = old_marker.name();
                writer.put(Step::Delete(Step::Chain(name.clone()).into()), |message| {
                    encode::delete_chain(message, table, &name);
                });
            }
        }))
    }

    /// A digest of all that would be loaded, which is the same for equal rulesets. For [`Marker::ruleset`].
    #[must_use]
    pub fn digest(&self) -> [u8; 8] {
        let (table, names) = (TableName::of(""), Names { suffix: 0 });
        let mut writer = Writer::new(blake3::Hasher::new());
        writer.objects(&table, names, self);
        if let Some(base) = &self.base {
            let rules = [base.output.as_slice(), &base.prerouting];
            writer.base((&table, &Held::default()), names, &self.counters, rules);
        }
        let [a, b, c, d, e, f, g, h, ..] = *writer.end().0.finalize().as_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// Decides nothing any more, and keeps the translations of established connections. Nothing is made where no chain is.
fn idle<S: Sink>(writer: &mut Writer<S>, table: &TableName, held: &Held) {
    let rule = Rule { matches: vec![Match::New(true)], action: Action::Accept };
    if BASE.iter().any(|(name, _)| held.has(name)) {
        writer.base((table, held), Names { suffix: 0 }, &[], [std::slice::from_ref(&rule); 2]);
    }
}

/// Stops deciding: new connections go straight, those that were redirected live on. The marker says so.
#[must_use]
pub fn pause(table: &TableName, marker: &Marker, held: &Held) -> Batch {
    let marker = Marker { paused: true, ..*marker };
    batch(|writer| {
        writer.put(Step::Table, |message| encode::new_table(message, table));
        idle(writer, table, held);
        writer.marker((table, held), &marker);
        writer.old(table, held, &marker);
    })
}

/// Leaves nothing. Established connections that were redirected are reset, unless others keep chains of type `nat` there.
#[must_use]
pub fn remove(table: &TableName) -> Batch {
    batch(|writer| {
        // What is not there cannot be deleted.
        writer.put(Step::Table, |message| encode::new_table(message, table));
        writer.put(Step::Delete(Step::Table.into()), |message| encode::delete_table(message, table));
    })
}

/// Deletes counters that are there and that no rule counts with.
#[must_use]
pub fn drop_counters(table: &TableName, counters: &[Counter]) -> Batch {
    batch(|writer| {
        writer.put(Step::Table, |message| encode::new_table(message, table));
        for &counter in counters {
            writer.put(Step::Delete(Step::Counter(counter.name()).into()), |message| {
                encode::delete_counter(message, table, counter);
            });
        }
    })
}
