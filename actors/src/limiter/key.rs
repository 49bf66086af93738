//! Names a bucket: a keyed hash over the limit's identity and the values that its key looks at.
//!
//! SipHash-1-3 with 128 bits, keyed with a seed that no caller knows: nobody can choose values that land in one shard or
//! share a bucket. Sixty-four bits find the cell and thirty-two more check it, so two keys share a bucket by accident
//! with a probability of 2⁻⁹⁶ a pair.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::{fmt, hash::Hasher};

/// Stands in place of a length where there is no value.
const ABSENT: u8 = 0xfe;
/// Stands behind a length of eight bytes; shorter values have a length of one byte.
const LONG: u8 = 0xff;

/// What a bucket is found by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Never 0: a cell whose key is 0 belongs to nobody.
    pub(crate) hash: u64,
    pub(crate) check: u32,
}

impl Key {
    /// Sixty-four of its bits, for a balancer or a split that goes by a key.
    pub fn bits(self) -> u64 {
        self.hash
    }

    /// What every overflow cell is known by; it stands in no table.
    pub(crate) const OVERFLOW: Self = Self { hash: u64::MAX, check: 0 };

    /// The uppermost `bits` of the hash. They place a key: in a shard of this node, and among the nodes of a cluster.
    pub(crate) fn place(self, bits: u32) -> usize {
        (self.hash >> (64 - bits)) as usize
    }
}

/// Builds a [`Key`] from the values of one request, without allocating.
#[derive(Clone, Copy)]
pub struct KeyHasher(SipHasher13);

impl KeyHasher {
    /// Begins with the name of what the keys belong to, hashed to eight bytes: a limit, or a service that balances by a hash.
    pub fn new(seed: &[u8; 16], name: &str) -> Self {
        let empty = SipHasher13::new_with_key(seed);
        let mut hasher = empty;
        hasher.write(&empty.hash(name.as_bytes()).h1.to_le_bytes());
        Self(hasher)
    }

    /// Adds one value. Lengths are hashed too: `ab`, `c` is another key than `a`, `bc`. They stand behind the values, where
    /// they can be read back from the end as well, and where the first value lies on whole words, which is quicker.
    #[inline]
    pub fn value(&mut self, value: &[u8]) -> &mut Self {
        self.0.write(value);
        match u8::try_from(value.len()) {
            Ok(len) if len < ABSENT => self.0.write(&[len]),
            _ => {
                self.0.write(&(value.len() as u64).to_le_bytes());
                self.0.write(&[LONG]);
            }
        }
        self
    }

    /// Adds a value that the request does not have, which differs from an empty one.
    pub fn absent(&mut self) -> &mut Self {
        self.0.write(&[ABSENT]);
        self
    }

    #[inline]
    pub fn finish(&self) -> Key {
        let hash = self.0.finish128();
        Key { hash: hash.h1.max(1), check: hash.h2 as u32 }
    }
}

/// Says nothing: the state begins with the seed.
impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8, limit: &str, values: &[Option<&str>]) -> Key {
        let mut hasher = KeyHasher::new(&[seed; 16], limit);
        for value in values {
            match value {
                Some(value) => hasher.value(value.as_bytes()),
                None => hasher.absent(),
            };
        }
        hasher.finish()
    }

    #[test]
    fn every_difference_makes_another_key() {
        let keys = [
            key(1, "a", &[]),
            key(2, "a", &[]),
            key(1, "b", &[]),
            key(1, "a", &[Some("")]),
            key(1, "a", &[None]),
            key(1, "a", &[Some(""), Some("")]),
            key(1, "a", &[Some("ab"), Some("c")]),
            key(1, "a", &[Some("a"), Some("bc")]),
            key(1, "a", &[Some("abc")]),
            key(1, "aabc", &[]),
            key(1, "a", &[Some(&"x".repeat(0xfd))]),
            key(1, "a", &[Some(&"x".repeat(0xfe))]),
            key(1, "a", &[Some(&"x".repeat(0xff))]),
            key(1, "a", &[Some(&"x".repeat(0x100))]),
        ];
        let mut distinct = keys.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), keys.len());
    }

    /// The numbers come from another implementation of SipHash-1-3-128, over the hashed name and each value before its length.
    #[test]
    fn every_node_with_the_seed_makes_the_same_key() {
        let expected = Key { hash: 0x9e1a_6601_ae33_cd78, check: 0x0219_8461 };
        assert_eq!(key(7, "per-client", &[Some("192.0.2.1"), None]), expected);
    }
}
