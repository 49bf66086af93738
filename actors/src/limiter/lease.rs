//! What the owner of a key lends a node, and what the node has in hand of it, on plain numbers.
//!
//! A lease earns tokens, by time or by request; what was earned and not yet spent is the *hand*. It holds little:
//! a lease says how fast a node may go, and a hand only evens out requests that come in a bunch.

use super::bucket::Clock;
use cluster::limits::{LEASE_DEPTH, LEASE_DEPTH_LEAST, Lease};

/// A lease as a cell keeps it: the rate (an `f32`) above, then the portion (the upper half of one), then from when it binds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bond(pub(crate) u64);

/// Ticks in a unit of [`Bond`]'s time, as a power of two: 17 ms. Time goes round after nine minutes.
const BOND_UNIT: u32 = 22;
const BOND_TIME: u64 = (1 << 15) - 1;
const BOND_SET: u64 = 1 << 15;

impl Bond {
    pub(crate) const NONE: Self = Self(0);

    /// Binds from `from` on, in ticks.
    pub(crate) fn new(lease: Lease, from: u64) -> Self {
        let rate = u64::from(lease.rate.max(0.0).to_bits());
        let portion = u64::from(lease.portion.clamp(0.0, 1.0).to_bits() >> 16);
        Self(rate << 32 | portion << 16 | BOND_SET | (from >> BOND_UNIT) & BOND_TIME)
    }

    pub(crate) fn lease(self) -> Lease {
        let portion = (self.0 >> 16) as u32 & 0xffff;
        Lease { rate: f32::from_bits((self.0 >> 32) as u32), portion: f32::from_bits(portion << 16) }
    }

    #[inline]
    pub(crate) fn binds(self, now: u64) -> bool {
        self.0 & BOND_SET != 0 && ((now >> BOND_UNIT).wrapping_sub(self.0) & BOND_TIME) <= BOND_TIME / 2
    }
}

/// Tokens in hand, in 1/65536 of one and with a sign, above the time up to which they were earned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hand(pub(crate) u64);

/// Ticks in a unit of [`Hand`]'s time, as a power of two: 66 µs. Time goes round after 18 minutes.
const HAND_UNIT: u32 = 14;
const HAND_TIME_BITS: u32 = 24;
const HAND_TIME: u64 = (1 << HAND_TIME_BITS) - 1;
const TOKEN: f32 = 65_536.0;
/// Less is earned later: rounding takes a part each time.
const EARNED_LEAST: i64 = 256;
const UNITS_PER_SECOND: f32 = Clock::TICKS_PER_SECOND as f32 / (1 << HAND_UNIT) as f32;

impl Hand {
    pub(crate) fn new(tokens: f32, now: u64) -> Self {
        Self::of((tokens * TOKEN) as i64, now >> HAND_UNIT)
    }

    fn of(parts: i64, time: u64) -> Self {
        const MOST: i64 = (1 << (63 - HAND_TIME_BITS)) - 1;
        Self((parts.clamp(-MOST, MOST) as u64) << HAND_TIME_BITS | time & HAND_TIME)
    }

    fn parts(self) -> i64 {
        self.0 as i64 >> HAND_TIME_BITS
    }

    pub(crate) fn tokens(self) -> f32 {
        self.parts() as f32 / TOKEN
    }

    /// With what the lease has earned since, and by a request for `asked` tokens.
    pub(crate) fn earned(self, lease: Lease, now: u64, asked: u64) -> Self {
        let time = now >> HAND_UNIT;
        let passed = time.wrapping_sub(self.0) & HAND_TIME;
        // A thread whose clock is behind earns nothing.
        let passed = if passed > HAND_TIME / 2 { 0 } else { passed };
        let depth = (depth(lease) * TOKEN) as i64;
        let mut parts = self.parts();
        let mut since = self.0;
        if lease.portion > 0.0 {
            parts += (lease.portion * asked as f32 * TOKEN) as i64;
            since = time;
        } else {
            let mut gained = (lease.rate / UNITS_PER_SECOND * passed as f32 * TOKEN) as i64;
            if parts + gained >= depth {
                since = time;
            } else if gained < EARNED_LEAST {
                gained = 0;
            } else {
                let used = (gained as f32 * UNITS_PER_SECOND / (lease.rate * TOKEN)).ceil() as u64;
                since = self.0.wrapping_add(used.min(passed));
            }
            parts += gained;
        }
        Self::of(parts.min(depth.max(self.parts())), since)
    }

    /// A request for more than fits into the hand is granted by a full one, and leaves a debt.
    #[inline]
    pub(crate) fn affords(self, lease: Lease, cost: u64) -> bool {
        self.parts() as f32 >= (cost as f32).min(depth(lease)) * TOKEN * (1.0 - 1e-6)
    }

    pub(crate) fn less(self, cost: u64) -> Self {
        Self::of(self.parts() - (cost << 16) as i64, self.0)
    }

    pub(crate) fn more(self, tokens: u64) -> Self {
        Self::of(self.parts() + (tokens << 16) as i64, self.0)
    }

    /// Ticks until it affords `cost`.
    pub(crate) fn wait(self, lease: Lease, cost: u64) -> u64 {
        let lacks = (cost as f32).min(depth(lease)) - self.tokens();
        let seconds = if lease.rate > 0.0 { (lacks / lease.rate).clamp(0.0, 60.0) } else { 1.0 };
        (seconds * Clock::TICKS_PER_SECOND as f32) as u64
    }
}

/// The most that a hand holds, in tokens.
fn depth(lease: Lease) -> f32 {
    if lease.portion > 0.0 { 1.0 + lease.portion } else { (lease.rate * LEASE_DEPTH).max(LEASE_DEPTH_LEAST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = Clock::TICKS_PER_SECOND;

    /// How many of `asked` requests for `cost` tokens each, evenly spread over some seconds, are granted.
    fn granted(lease: Lease, cost: u64, asked: u64, seconds: u64) -> u64 {
        let mut hand = Hand::new(0.0, 0);
        let grants = |request: u64| {
            let now = request * seconds * SECOND / asked;
            hand = hand.earned(lease, now, cost);
            let affords = hand.affords(lease, cost);
            if affords {
                hand = hand.less(cost);
            }
            affords
        };
        (1..=asked).map(grants).filter(|granted| *granted).count() as u64
    }

    #[test]
    fn a_lease_by_time_admits_its_rate_whatever_is_asked_for() {
        let lease = |rate| Lease { rate, portion: 0.0 };
        let check = |rate, cost, asked, seconds, expected: u64| {
            let granted = granted(lease(rate), cost, asked, seconds);
            assert!(granted.abs_diff(expected) * 200 <= expected + 200, "{granted} of {asked}, {expected} expected");
        };
        check(10.0, 1, 100, 10, 100);
        check(10.0, 1, 1_000, 10, 100);
        check(10.0, 1, 1_000_000, 10, 100);
        check(0.1, 1, 10_000, 100, 10);
        check(100_000.0, 1, 1_000_000, 1, 100_000);
        check(100.0, 50, 100_000, 100, 200);
    }

    #[test]
    fn a_lease_by_request_admits_its_portion_whatever_the_time() {
        let lease = Lease { rate: 0.0, portion: 0.125 };
        assert_eq!(granted(lease, 1, 1_000, 1), 125);
        assert_eq!(granted(lease, 1, 1_000, 1_000), 125);
        assert_eq!(granted(Lease { rate: 0.0, portion: 1.0 }, 3, 50, 1), 50);
    }

    #[test]
    fn a_bond_reads_as_it_was_written() {
        let lease = Lease { rate: 123.5, portion: 0.0078125 };
        let from = 7 * SECOND;
        let bond = Bond::new(lease, from);
        assert_eq!(bond.lease(), lease);
        let binds = |now| bond.binds(now);
        assert_eq!([from - SECOND, from, from + SECOND, from + 200 * SECOND].map(binds), [false, true, true, true]);
        assert!(!Bond::NONE.binds(from));
    }
}
