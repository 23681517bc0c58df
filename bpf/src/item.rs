//! The key of an item's counter: stable as long as its scope, text and address do.
//!
//! The programs compute it with two multiplications, so no table has to hold a key an item.

use crate::prefix::Prefix;

/// First multiplier of the mix (odd).
pub const K1: u64 = 0x9e37_79b9_7f4a_7c15;
/// Second multiplier of the mix (odd).
pub const K2: u64 = 0xd6e8_feb8_6659_fd93;

/// The counter key of the item of a source (by its [`stable_hash`](crate::image::Source::stable_hash))
/// whose address is `prefix`.
#[must_use]
pub fn counter_key(source: u64, prefix: Prefix) -> u64 {
    let (address, len, family) = wire(prefix);
    let (high, low) = ((address >> 64) as u64, address as u64);
    let tag = u64::from(len) | u64::from(family) << 8;
    let mut hash = (high ^ tag).wrapping_mul(K1);
    hash ^= hash >> 32;
    hash = (hash ^ low).wrapping_mul(K2);
    hash ^= hash >> 29;
    source ^ hash.wrapping_mul(K1)
}

/// A prefix as a node holds it: v6-mapped address, length in v6 terms, family. `Any` is all zero.
#[must_use]
pub const fn wire(prefix: Prefix) -> (u128, u8, u8) {
    match prefix {
        Prefix::Any => (0, 0, crate::abi::FAMILY_ANY),
        Prefix::V4 { bits, len } => (0xffff_0000_0000 | bits as u128, len + 96, crate::abi::FAMILY_V4),
        Prefix::V6 { bits, len } => (bits, len, crate::abi::FAMILY_V6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What another implementation of the same words said: the kernel keeps hits under these keys.
    #[test]
    fn keys_stay_what_they_are() {
        let v4 = Prefix::V4 { bits: 0x0a00_0300, len: 24 };
        let v6 = Prefix::V6 { bits: 0x2001_0db8 << 96 | 1, len: 128 };
        assert_eq!(counter_key(1, Prefix::Any), 1);
        assert_eq!(counter_key(0x0123_4567_89ab_cdef, v4), 0x36e6_7dcf_a42c_9ca3);
        assert_eq!(counter_key(u64::MAX, v6), 0xfc49_c16f_6b8b_5e89);
        // Bits of the address where its length and family are mixed in.
        let wide = Prefix::V6 { bits: 0x2001_0db8_0000_ffff << 64, len: 64 };
        assert_eq!(counter_key(0, wide), 0x040f_b6d0_ddd6_e622);
    }
}
