//! Messages of netlink, and their attributes.

pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
/// `NLM_F_ROOT | NLM_F_MATCH`.
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYSTEM: u8 = 10;
/// `NFPROTO_INET`.
const INET: u8 = 1;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
pub(crate) const BEGIN: u16 = 0x10;
pub(crate) const END: u16 = 0x11;
const NESTED: u16 = 0x8000;

/// One message, written from its head to its last attribute.
#[derive(Default)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Begins a message of the subsystem, in place of what was there.
    pub(crate) fn begin(&mut self, kind: u8, flags: u16) {
        self.head(u16::from(SUBSYSTEM) << 8 | u16::from(kind), flags, [INET, 0, 0, 0]);
    }

    /// Begins a message with the head of the netfilter family: family, version, number in network order.
    pub(crate) fn head(&mut self, kind: u16, flags: u16, family: [u8; 4]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(&family);
    }

    /// The message, with its length, and its place in the order of messages.
    pub(crate) fn finish(&mut self, sequence: u32, flags: u16) -> &[u8] {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.set(0, &len.to_ne_bytes());
        self.set(8, &sequence.to_ne_bytes());
        if flags != 0 {
            let kept =
                self.bytes.get(6..8).and_then(|flags| flags.try_into().ok()).map_or(0, u16::from_ne_bytes);
            self.set(6, &(kept | flags).to_ne_bytes());
        }
        &self.bytes
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// An attribute; the next begins at a multiple of 4.
    pub(crate) fn bytes(&mut self, kind: u16, content: &[u8]) {
        let len = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// A number in network order, as all of `nf_tables` are.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A text, with a zero behind it.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        let len = u16::try_from(5 + text.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An attribute that has attributes in it.
    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) {
        let start = self.open(kind);
        inner(self);
        self.close(start);
    }

    /// Begins such an attribute, and says where.
    pub(crate) fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        start
    }

    /// Bytes since an attribute began.
    pub(crate) const fn since(&self, start: usize) -> usize {
        self.bytes.len() - start
    }

    /// Ends it.
    pub(crate) fn close(&mut self, start: usize) {
        let len = u16::try_from(self.since(start)).unwrap_or(u16::MAX);
        self.set(start, &len.to_ne_bytes());
    }
}
