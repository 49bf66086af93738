//! Numbers that a seed decides.
//!
//! Every part of a simulation draws from a [`Chance`] of its own, named after it: a part that draws once more than
//! before does not shift what the others draw, so that a seed stays as interesting as it was.

use crate::trace::Fnv;
use std::{ops::RangeInclusive, time::Duration};

/// SplitMix64: one addition and one mix for each draw, every seed as good as any other.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn of(seed: u64, whose: &str) -> Self {
        let mut hash = Fnv::default();
        hash.add(&seed.to_le_bytes());
        hash.add(whose.as_bytes());
        Self(hash.value())
    }

    /// Goes on where another one stood.
    pub(crate) fn resume(position: u64) -> Self {
        Self(position)
    }

    pub(crate) fn position(&self) -> u64 {
        self.0
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The bias towards small numbers is below one in 2^40 for every range that is used here.
    pub(crate) fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.draw() % (range.end() - range.start() + 1)
    }

    pub(crate) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.between(range))
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.draw().is_multiple_of(n)
    }
}
