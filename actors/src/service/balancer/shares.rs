//! What each level gets, in one word: a byte for each, with its share in percent and whether it panics.

use std::fmt;

/// As many levels as a word has bytes: three localities of two priorities, and two more.
pub const LEVELS_MAX: usize = 8;

const PANIC: u64 = 0x80;

/// A decision about levels, small enough that picks can read it whole. A balancer reads the levels that it has and
/// ignores the others.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Shares(pub(super) u64);

impl Shares {
    /// Percents that sum up to a hundred, and whether health is ignored there.
    pub(super) fn new(levels: impl Iterator<Item = (u8, bool)>) -> Self {
        let byte = |(percent, panics): (u8, bool)| u64::from(percent) | if panics { PANIC } else { 0 };
        Self(levels.take(LEVELS_MAX).enumerate().fold(0, |word, (at, level)| word | byte(level) << (8 * at)))
    }

    /// How many of a hundred requests begin at this level.
    pub fn percent(self, level: usize) -> u8 {
        (self.byte(level) & !PANIC) as u8
    }

    /// Whether the level is so sick, with nobody to help it, that health is ignored there.
    pub fn is_panicking(self, level: usize) -> bool {
        self.byte(level) & PANIC != 0
    }

    /// Whether any level panics.
    pub fn any_panicking(self) -> bool {
        (0..LEVELS_MAX).any(|level| self.is_panicking(level))
    }

    /// The level that an evenly drawn number falls on; beyond the last one if the shares do not sum up.
    pub(super) fn level(self, drawn: u64) -> usize {
        let mut point = ((u128::from(drawn) * 100) >> 64) as u64;
        for level in 0..LEVELS_MAX {
            let percent = u64::from(self.percent(level));
            if point < percent {
                return level;
            }
            point -= percent;
        }
        LEVELS_MAX
    }

    fn byte(self, level: usize) -> u64 {
        if level < LEVELS_MAX { self.0 >> (8 * level) & 0xff } else { 0 }
    }
}

/// `70 30`, with `!` behind a level that panics.
impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = (0..LEVELS_MAX).rev().find(|level| self.byte(*level) != 0).unwrap_or(0);
        for level in 0..=last {
            let space = if level > 0 { " " } else { "" };
            write!(f, "{space}{}{}", self.percent(level), if self.is_panicking(level) { "!" } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_tells_what_was_put_in() {
        let shares = Shares::new([(70, false), (0, true), (30, true)].into_iter());
        assert_eq!(format!("{shares:?}"), "70 0! 30!");
        assert_eq!((shares.percent(2), shares.percent(3), shares.percent(64)), (30, 0, 0));
        assert!(shares.any_panicking() && !Shares::new([(100, false)].into_iter()).any_panicking());
    }

    #[test]
    fn a_drawn_number_falls_on_levels_by_their_shares() {
        let shares = Shares::new([(70, false), (0, false), (30, false)].into_iter());
        let step = u64::MAX / 100 + 1;
        let counts = (0..100).fold([0; LEVELS_MAX], |mut counts, at| {
            counts[shares.level(at * step)] += 1;
            counts
        });
        assert_eq!(counts[..3], [70, 0, 30]);
        assert_eq!(Shares::default().level(u64::MAX), LEVELS_MAX);
    }
}
