//! Random numbers that are the same on every machine: xorshift, from a seed.

/// A row of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// From a seed. Any will do.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // 0 is the one state that xorshift never leaves.
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15 | 1 }
    }

    /// From bytes: equal ones give equal rows.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let digest = *blake3::hash(bytes).as_bytes();
        Self::new(digest.iter().fold(0, |seed, &byte| seed.rotate_left(8) ^ u64::from(byte)))
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// A number below `end`; 0 where `end` is.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        self.number().checked_rem(end).and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Another order of the same things.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for end in (1..things.len()).rev() {
            things.swap(end, self.below(end + 1));
        }
    }

    /// That many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.number().to_le_bytes()).flatten().take(length).collect()
    }
}
