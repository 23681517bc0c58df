//! What programs have to know of the types of the running kernel: where the fields of its structures are, and which of
//! its functions and tracepoints they are for.
//!
//! A kernel has more than 100,000 types, of which a few hundred are needed. They are picked out of the raw
//! information (`linux/btf.h`), since to read it all takes longer than to verify every program.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use aya::Endianness;
use aya_obj::btf::Btf;

/// Where a kernel says what its types are. Minimum kernel 5.4.
pub(super) const PLACE: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// Bytes of a header of ours.
const HEADER: u32 = 24;
/// Bytes that every type begins with: name, kind with a count, size or another type.
const HEAD: usize = 12;

const INT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
const RESTRICT: u32 = 11;
const FUNCTION: u32 = 12;
const PROTOTYPE: u32 = 13;
const VARIABLE: u32 = 14;
const SECTION: u32 = 15;
const FLOAT: u32 = 16;
const DECLARATION_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Raw type information, with the place of each type.
struct Raw<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Of the type with the id of its index; id 0 is `void` and has none.
    places: Vec<u32>,
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the type information is damaged")
}

fn u32_in(bytes: &[u8], at: usize) -> io::Result<u32> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map(u32::from_ne_bytes).ok_or_else(damaged)
}

/// How many bytes follow the head of a type.
fn rest(kind: u32, count: usize) -> io::Result<usize> {
    Ok(match kind {
        POINTER | FORWARD | TYPEDEF..=RESTRICT | FUNCTION | FLOAT | TYPE_TAG => 0,
        INT | VARIABLE | DECLARATION_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | SECTION | ENUM64 => 12 * count,
        ENUM | PROTOTYPE => 8 * count,
        _ => return Err(damaged()),
    })
}

impl<'a> Raw<'a> {
    fn new(bytes: &'a [u8]) -> io::Result<Self> {
        if bytes.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(damaged());
        }
        let word = |index: usize| u32_in(bytes, index * 4).map(|word| word as usize);
        let (header, types, types_len, strings, strings_len) =
            (word(1)?, word(2)?, word(3)?, word(4)?, word(5)?);
        let part =
            |from: usize, len: usize| bytes.get(header + from..header + from + len).ok_or_else(damaged);
        let mut raw =
            Self { types: part(types, types_len)?, strings: part(strings, strings_len)?, places: vec![0] };
        let mut at = 0;
        while at < raw.types.len() {
            raw.places.push(u32::try_from(at).map_err(io::Error::other)?);
            let info = u32_in(raw.types, at + 4)?;
            at += HEAD + rest(info >> 24 & 31, (info & 0xffff) as usize)?;
        }
        Ok(raw)
    }

    /// The bytes of a type: head and rest.
    fn bytes(&self, id: u32) -> io::Result<&'a [u8]> {
        let at = *self.places.get(id as usize).filter(|_| id != 0).ok_or_else(damaged)? as usize;
        let info = u32_in(self.types, at + 4)?;
        let len = HEAD + rest(info >> 24 & 31, (info & 0xffff) as usize)?;
        self.types.get(at..at + len).ok_or_else(damaged)
    }

    fn ids(&self) -> std::ops::Range<u32> {
        1..u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    fn kind(&self, id: u32) -> io::Result<u32> {
        Ok(u32_in(self.bytes(id)?, 4)? >> 24 & 31)
    }

    fn string(&self, at: u32) -> io::Result<&'a [u8]> {
        let text = self.strings.get(at as usize..).ok_or_else(damaged)?;
        text.split(|&byte| byte == 0).next().ok_or_else(damaged)
    }

    fn name(&self, id: u32) -> io::Result<&'a [u8]> {
        self.string(u32_in(self.bytes(id)?, 0)?)
    }
}

/// Where in a type are the names of its own and its parts, and the ids of what it is made of. A pointer's is left out: what
/// it points to is no part of it.
fn fields(bytes: &[u8]) -> io::Result<(Vec<usize>, Vec<usize>)> {
    let info = u32_in(bytes, 4)?;
    let (kind, count) = (info >> 24 & 31, (info & 0xffff) as usize);
    let parts = |size: usize| (0..count).map(move |part| HEAD + part * size);
    let (mut names, mut types) = (vec![0], Vec::new());
    match kind {
        STRUCT | UNION => {
            names.extend(parts(12));
            types.extend(parts(12).map(|part| part + 4));
        }
        ENUM => names.extend(parts(8)),
        ENUM64 => names.extend(parts(12)),
        ARRAY => types.extend([HEAD, HEAD + 4]),
        TYPEDEF..=RESTRICT | TYPE_TAG => types.push(8),
        _ => {}
    }
    Ok((names, types))
}

/// Whether programs may ask where something is in a type of that kind, or what it stands for.
const fn is_looked_into(kind: u32) -> bool {
    matches!(kind, STRUCT | UNION | ENUM | ENUM64 | TYPEDEF)
}

/// The names of the types that an object knows of: among them are those of the kernel that it looks into.
pub(super) fn structures(object: &[u8]) -> io::Result<BTreeSet<Vec<u8>>> {
    let raw = Raw::new(object)?;
    let mut names = BTreeSet::new();
    for id in raw.ids() {
        if is_looked_into(raw.kind(id)?) && !raw.name(id)?.is_empty() {
            // `pt_regs___x86` is one of several ways in which an object knows `pt_regs`.
            let name = raw.name(id)?;
            let end = name.windows(3).position(|part| part == b"___").unwrap_or(name.len());
            names.insert(name.get(..end).unwrap_or_default().to_vec());
        }
    }
    Ok(names)
}

/// What is picked out of the types of a kernel.
pub(super) struct Types {
    /// The structures that were wanted, with all that they are made of.
    pub(super) btf: Btf,
    /// By what they are for, the ids of what was wanted besides.
    pub(super) ids: BTreeMap<Traced, u32>,
}

/// What a program of tracing is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Traced {
    /// A tracepoint.
    Tracepoint(&'static str),
    /// An iterator over what has that name.
    Iterator(&'static str),
    /// A hook of the security modules.
    Security(&'static str),
}

impl Traced {
    /// The name and kind of the kernel's type.
    pub(super) fn named(self) -> (String, u32) {
        match self {
            Self::Tracepoint(name) => (format!("btf_trace_{name}"), TYPEDEF),
            Self::Iterator(name) => (format!("bpf_iter_{name}"), FUNCTION),
            Self::Security(name) => (format!("bpf_lsm_{name}"), FUNCTION),
        }
    }
}

impl Types {
    /// Picks what is wanted out of the types of a kernel, raw.
    pub(super) fn pick(
        kernel: &[u8],
        structures: &BTreeSet<Vec<u8>>,
        targets: &[Traced],
    ) -> io::Result<Self> {
        let raw = Raw::new(kernel)?;
        let wanted: BTreeMap<(Vec<u8>, u32), Traced> = (targets.iter())
            .map(|&target| {
                let (name, kind) = target.named();
                ((name.into_bytes(), kind), target)
            })
            .collect();
        let (mut ids, mut picked) = (BTreeMap::new(), Picked::default());
        for id in raw.ids() {
            match raw.kind(id)? {
                kind if is_looked_into(kind) && structures.contains(raw.name(id)?) => picked.want(id),
                kind @ (TYPEDEF | FUNCTION) => {
                    // Their names begin so; most do not.
                    let name = raw.name(id)?;
                    if name.starts_with(b"b")
                        && let Some(&target) = wanted.get(&(name.to_vec(), kind))
                    {
                        ids.insert(target, id);
                    }
                }
                _ => {}
            }
        }
        let btf = Btf::parse(&picked.write(&raw)?, Endianness::default()).map_err(io::Error::other)?;
        Ok(Self { btf, ids })
    }
}

/// Types that are wanted, in the order of their new ids.
#[derive(Default)]
struct Picked {
    order: Vec<u32>,
    new: BTreeMap<u32, u32>,
}

impl Picked {
    fn want(&mut self, id: u32) {
        if id != 0 && !self.new.contains_key(&id) {
            self.order.push(id);
            self.new.insert(id, u32::try_from(self.order.len()).unwrap_or(u32::MAX));
        }
    }

    /// All of them as raw type information of its own.
    fn write(mut self, raw: &Raw<'_>) -> io::Result<Vec<u8>> {
        let (mut types, mut strings) = (Vec::new(), vec![0]);
        let mut texts: BTreeMap<&[u8], u32> = BTreeMap::from([(&b""[..], 0)]);
        let mut next = 0;
        while let Some(&id) = self.order.get(next) {
            next += 1;
            let mut bytes = raw.bytes(id)?.to_vec();
            let (names, parts) = fields(&bytes)?;
            for at in names {
                let text = raw.string(u32_in(&bytes, at)?)?;
                let place = match texts.get(text) {
                    Some(&place) => place,
                    None => {
                        let place = u32::try_from(strings.len()).map_err(io::Error::other)?;
                        strings.extend_from_slice(text);
                        strings.push(0);
                        texts.insert(text, place);
                        place
                    }
                };
                put(&mut bytes, at, place)?;
            }
            for at in parts {
                let part = u32_in(&bytes, at)?;
                self.want(part);
                put(&mut bytes, at, self.new.get(&part).copied().unwrap_or(0))?;
            }
            if u32_in(&bytes, 4)? >> 24 & 31 == POINTER {
                put(&mut bytes, 8, 0)?;
            }
            types.extend(bytes);
        }
        let types_len = u32::try_from(types.len()).map_err(io::Error::other)?;
        let strings_len = u32::try_from(strings.len()).map_err(io::Error::other)?;
        let mut all = MAGIC.to_ne_bytes().to_vec();
        all.extend([1, 0]); // version, flags
        for word in [HEADER, 0, types_len, types_len, strings_len] {
            all.extend(word.to_ne_bytes());
        }
        all.extend(types);
        all.extend(strings);
        Ok(all)
    }
}

fn put(bytes: &mut [u8], at: usize, value: u32) -> io::Result<()> {
    bytes.get_mut(at..at + 4).ok_or_else(damaged)?.copy_from_slice(&value.to_ne_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { struct inner in; int *next; }`, `struct inner { int a; }`, `struct other`, a tracepoint's typedef.
    fn kernel() -> Vec<u8> {
        let names = b"\0int\0outer\0inner\0other\0in\0next\0a\0btf_trace_it\0";
        let name = |text: &[u8]| {
            let text = [&[0], text, &[0]].concat();
            u32::try_from(names.windows(text.len()).position(|part| part == text).unwrap() + 1).unwrap()
        };
        let words = [
            name(b"other"),
            STRUCT << 24,
            0, // 1
            name(b"int"),
            INT << 24,
            4,
            32, // 2
            0,
            POINTER << 24,
            2, // 3
            name(b"inner"),
            STRUCT << 24 | 1,
            4,
            name(b"a"),
            2,
            0, // 4
            name(b"outer"),
            STRUCT << 24 | 2,
            16,
            name(b"in"),
            4,
            0,
            name(b"next"),
            3,
            64, // 5
            name(b"btf_trace_it"),
            TYPEDEF << 24,
            3, // 6
        ];
        let len = u32::try_from(words.len() * 4).unwrap();
        let mut all = MAGIC.to_ne_bytes().to_vec();
        all.extend([1, 0]);
        for word in [HEADER, 0, len, len, u32::try_from(names.len()).unwrap()].into_iter().chain(words) {
            all.extend(word.to_ne_bytes());
        }
        all.extend(names);
        all
    }

    #[test]
    fn what_is_wanted_is_picked_with_what_it_is_made_of() {
        let kernel = kernel();
        let wanted = BTreeSet::from([b"outer".to_vec()]);
        let types = Types::pick(&kernel, &wanted, &[Traced::Tracepoint("it")]).unwrap();
        assert_eq!(types.ids, BTreeMap::from([(Traced::Tracepoint("it"), 6)]));
        let small = types.btf.to_bytes();
        assert_eq!(structures(&small).unwrap(), BTreeSet::from([b"outer".to_vec(), b"inner".to_vec()]));
        let raw = Raw::new(&small).unwrap();
        assert_eq!(raw.name(1).unwrap(), b"outer");
        // Its first field is the other structure, and its second a pointer to nobody knows what.
        let field = |at| u32_in(raw.bytes(1).unwrap(), at).unwrap();
        assert_eq!(raw.name(field(HEAD + 4)).unwrap(), b"inner");
        assert_eq!(u32_in(raw.bytes(field(HEAD + 16)).unwrap(), 8).unwrap(), 0);
    }

    #[test]
    fn what_is_damaged_is_refused_and_read_no_further() {
        let kernel = kernel();
        for len in 0..kernel.len() {
            let cut = kernel.get(..len).unwrap();
            assert!(Types::pick(cut, &BTreeSet::from([b"outer".to_vec()]), &[]).is_err(), "{len}");
        }
    }
}
