//! Bytes as a row of choices.
//!
//! A fuzzer changes bytes and looks at what becomes of them, so that a byte should mean the same choice
//! wherever possible. Where the bytes end every choice is the first one, so that whatever asks stops.

/// Choices that are still to be made.
#[derive(Clone, Debug)]
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// Choices of these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether any are left.
    #[must_use]
    pub const fn more(&self) -> bool {
        !self.rest.is_empty()
    }

    /// What is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte; 0 where none is left.
    pub fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((&byte, rest)) => {
                self.rest = rest;
                byte
            }
            None => 0,
        }
    }

    /// A number below `end`, which is at most 256; 0 where nothing is left.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()).checked_rem(end).unwrap_or(0)
    }

    /// Any 16 bits.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Any 32 bits.
    pub fn long(&mut self) -> u32 {
        u32::from(self.word()) | u32::from(self.word()) << 16
    }

    /// True once in `n`; false where nothing is left.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.more() && self.below(n) == n - 1
    }

    /// One of these; the first where nothing is left.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let index = self.below(all.len());
        all.get(index).copied()
    }

    /// One of these words.
    pub fn word_of(&mut self, all: &[&'static str]) -> &'static str {
        self.of(all).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_bytes_end_the_first_is_chosen() {
        let mut choices = Choices::new(&[5]);
        assert_eq!(choices.word_of(&["a", "b", "c"]), "c");
        assert_eq!(choices.word_of(&["a", "b", "c"]), "a");
        assert!(!choices.once_in(1));
    }
}
