//! Attributes of netlink, and those by which nf_tables names things: `linux/netfilter/nf_tables.h`.

/// What is in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Chain,
    Rule,
    Set,
    Object,
}

/// The first attribute, its type without flags, its content, and what is behind it.
pub(crate) fn attribute(attributes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, _) = attributes.split_at_checked(4)?;
    let [a, b, c, d] = head.try_into().ok()?;
    let (len, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
    let content = attributes.get(4..len)?;
    let rest = attributes.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((kind & libc::NLA_TYPE_MASK as u16, content, rest))
}

/// The content of the first attribute of a type.
pub(crate) fn content(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (kind, found, rest) = attribute(attributes)?;
        if kind == wanted {
            return Some(found);
        }
        attributes = rest;
    }
}

/// A name: a string that ends with a zero.
pub(crate) fn word(attributes: &[u8], wanted: u16) -> Option<&str> {
    let bytes = content(attributes, wanted)?;
    std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
}

/// A number in network order: of 2, 4 or 8 bytes.
pub(crate) fn number(attributes: &[u8], wanted: u16) -> Option<u64> {
    let bytes = content(attributes, wanted)?;
    Some(match *bytes {
        [a, b] => u16::from_be_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_be_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => return None,
    })
}

impl Kind {
    /// Which attributes name the table, the thing, and its handle there. A rule is named by its chain.
    const fn attributes(self) -> (u16, u16, u16) {
        match self {
            Self::Chain => (1, 3, 2),
            Self::Rule => (1, 2, 3),
            Self::Set => (1, 2, 16),
            Self::Object => (1, 2, 6),
        }
    }

    /// The table that a message is about.
    pub(crate) fn table(self, attributes: &[u8]) -> Option<&str> {
        word(attributes, self.attributes().0)
    }

    /// The thing that it is about.
    pub(crate) fn name(self, attributes: &[u8]) -> Option<&str> {
        word(attributes, self.attributes().1)
    }

    /// Its number in the table; no number comes again there.
    pub(crate) fn handle(self, attributes: &[u8]) -> Option<u64> {
        number(attributes, self.attributes().2)
    }
}
