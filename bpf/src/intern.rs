//! Things that occur often, each kept once and known by a number.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

/// Distinct values, numbered in the order in which they came.
///
/// Values are hashed with a seed of this process, by multiplication: port tables are long, and most of lowering
/// is asking whether one is known. The seed changes no number.
#[derive(Clone)]
pub struct Interner<T> {
    values: Vec<T>,
    /// By hash, the last value that has it.
    heads: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    /// For each value, the one before it with the same hash.
    chain: Vec<u32>,
    seed: u64,
}

impl<T: fmt::Debug> fmt::Debug for Interner<T> {
    /// The values: how they are found is of this process alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.values).finish()
    }
}

/// No value.
const END: u32 = u32::MAX;

impl<T> Default for Interner<T> {
    fn default() -> Self {
        let seed = RandomState::new().hash_one(0u8);
        Self { values: Vec::new(), heads: HashMap::default(), chain: Vec::new(), seed }
    }
}

impl<T: Hash + Eq> Interner<T> {
    /// The number of `value`, which is kept if it is new.
    pub fn intern(&mut self, value: T) -> u32 {
        let hash = self.hash(&value);
        if let Some(known) = self.find(hash, &value) {
            return known;
        }
        // Memory is full before so many values exist.
        let number = u32::try_from(self.values.len()).unwrap_or(END);
        self.chain.push(self.heads.insert(hash, number).unwrap_or(END));
        self.values.push(value);
        number
    }

    /// The number of `value`, if it is kept.
    #[must_use]
    pub fn get(&self, value: &T) -> Option<u32> {
        self.find(self.hash(value), value)
    }

    /// All values, by number.
    #[must_use]
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// All values, by number.
    #[must_use]
    pub fn into_values(self) -> Vec<T> {
        self.values
    }

    fn hash(&self, value: &T) -> u64 {
        let mut hasher = Mixer(self.seed);
        value.hash(&mut hasher);
        hasher.finish()
    }

    fn find(&self, hash: u64, value: &T) -> Option<u32> {
        let mut next = *self.heads.get(&hash)?;
        while let Some(known) = self.values.get(next as usize) {
            if known == value {
                return Some(next);
            }
            next = *self.chain.get(next as usize)?;
        }
        None
    }
}

/// Folds 128-bit products.
struct Mixer(u64);

impl Mixer {
    #[expect(clippy::cast_possible_truncation, reason = "both halves of the product are folded")]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(crate::item::K1);
        self.0 = (product >> 64) as u64 ^ product as u64;
        // Zero would stay zero.
        self.0 = self.0.wrapping_add(crate::item::K2);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.mix(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.mix(word.into());
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Takes a hash for what it is.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_one_number() {
        let mut interner = Interner::default();
        let numbers: Vec<u32> =
            ["a", "b", "a", "", "b", "ab"].iter().map(|text| interner.intern((*text).to_owned())).collect();
        assert_eq!(numbers, [0, 1, 0, 2, 1, 3]);
        assert_eq!(interner.get(&"ab".to_owned()), Some(3));
        assert_eq!(interner.get(&"c".to_owned()), None);
        assert_eq!(interner.into_values(), ["a", "b", "", "ab"]);
    }

    #[test]
    fn values_with_one_hash_stay_apart() {
        #[derive(PartialEq, Eq)]
        struct Same(u32);
        impl Hash for Same {
            fn hash<H: Hasher>(&self, _: &mut H) {}
        }
        let mut interner = Interner::default();
        assert_eq!([0, 1, 0, 2, 1].map(|n| interner.intern(Same(n))), [0, 1, 0, 2, 1]);
    }
}
