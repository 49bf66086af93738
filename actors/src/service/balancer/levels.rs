//! Decides how much of a service's traffic each level gets, from how much of each level is healthy.
//!
//! The nearest level gets everything that it can carry, the next one what is left, and so on. A level can carry its
//! healthy share times `spill`, at most everything: at 1.4 it needs no help as long as 72 % of it are healthy. Traffic leaves
//! a level at once when that falls, and comes back only when the level has been able to carry more throughout the time of
//! hysteresis, so that a level that comes and goes does not drag the traffic with it. Waiting is a preference and no refusal:
//! what nobody else can carry goes back before its time.
//!
//! Only if all levels together cannot carry everything may a level panic: one of which less than the threshold is healthy has
//! its health ignored. That so many are down is less likely than that we see it wrongly; and if it is true, the few that
//! are left would go down next.

use super::{LEVELS_MAX, Rank, Shares};
use config::SpreadPolicy;
use std::time::Instant;

/// Less than this share of the traffic is nothing.
const NOTHING: f64 = 1e-9;

/// What one level consists of, in weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    pub rank: Rank,
    pub total: u64,
    /// What is not draining.
    pub staying: u64,
    /// What of that is healthy.
    pub healthy: u64,
}

#[derive(Debug)]
pub struct Levels {
    policy: SpreadPolicy,
    /// Nearest first, at most [`LEVELS_MAX`].
    trusts: Vec<Trust>,
    shares: Shares,
}

/// How much a level is trusted with, as a share of all traffic.
#[derive(Debug)]
struct Trust {
    capacity: Capacity,
    trusted: f64,
    rise: Option<Rise>,
}

/// A level that could carry more than it is trusted with: since when, and how little at worst since then.
#[derive(Clone, Copy, Debug)]
struct Rise {
    since: Instant,
    least: f64,
}

impl Capacity {
    /// The share of all traffic that it can carry. Who is leaving carries nothing, though it is not sick.
    fn carries(&self, spill: f64) -> f64 {
        if self.total == 0 { 0.0 } else { (self.healthy as f64 / self.total as f64 * spill).min(1.0) }
    }

    fn panics(&self, threshold: f64) -> bool {
        (self.healthy as f64) < threshold * self.staying as f64
    }
}

impl Trust {
    fn observe(&mut self, carries: f64, policy: &SpreadPolicy, now: Instant) {
        if carries <= self.trusted {
            self.trusted = carries;
            self.rise = None;
            return;
        }
        let rise = self.rise.get_or_insert(Rise { since: now, least: carries });
        rise.least = rise.least.min(carries);
        if now.saturating_duration_since(rise.since) >= policy.hysteresis {
            self.trusted = rise.least;
            self.rise = (carries > self.trusted).then_some(Rise { since: now, least: carries });
        }
    }
}

impl Levels {
    /// Every level is trusted with what it can carry: at the beginning there is nothing to come back from.
    pub fn new(policy: SpreadPolicy, capacities: &[Capacity]) -> Self {
        let mut levels = Self { policy, trusts: Vec::new(), shares: Shares::default() };
        levels.trusts = capacities.iter().take(LEVELS_MAX).map(|capacity| levels.begin(*capacity)).collect();
        levels.shares = levels.decide();
        levels
    }

    /// Goes on from what was decided before by somebody of whom nothing is left but that. A level that got less than it could carry
    /// was waiting, and begins to wait anew.
    pub fn resume(policy: SpreadPolicy, capacities: &[Capacity], published: Shares, now: Instant) -> Self {
        let mut levels = Self::new(policy, capacities);
        let fresh = levels.shares;
        for (at, trust) in levels.trusts.iter_mut().enumerate() {
            if published.percent(at) < fresh.percent(at) {
                let least = trust.trusted;
                trust.trusted = f64::from(published.percent(at)) / 100.0;
                trust.rise = Some(Rise { since: now, least });
            }
        }
        levels.shares = levels.decide();
        levels
    }

    /// Takes what the levels consist of now, nearest first, and returns the new decision if it differs. Levels are known by
    /// their ranks: one that appears is trusted at once.
    pub fn observe(&mut self, capacities: &[Capacity], now: Instant) -> Option<Shares> {
        let mut before = std::mem::take(&mut self.trusts);
        for capacity in capacities.iter().take(LEVELS_MAX) {
            let known = before.iter().position(|trust| trust.capacity.rank == capacity.rank);
            let mut trust = known.map_or_else(|| self.begin(*capacity), |at| before.swap_remove(at));
            trust.capacity = *capacity;
            trust.observe(capacity.carries(self.policy.spill), &self.policy, now);
            self.trusts.push(trust);
        }
        self.settle()
    }

    /// Takes other choices of a reload. What is trusted stays.
    pub fn reconfigure(&mut self, policy: SpreadPolicy, now: Instant) -> Option<Shares> {
        self.policy = policy;
        self.expire(now)
    }

    /// When a level has waited long enough to get more.
    pub fn deadline(&self) -> Option<Instant> {
        self.trusts.iter().filter_map(|trust| trust.rise).map(|rise| rise.since + self.policy.hysteresis).min()
    }

    /// Gives more to levels that have waited long enough; returns the new decision if it differs.
    pub fn expire(&mut self, now: Instant) -> Option<Shares> {
        for trust in &mut self.trusts {
            trust.observe(trust.capacity.carries(self.policy.spill), &self.policy, now);
        }
        self.settle()
    }

    pub fn shares(&self) -> Shares {
        self.shares
    }

    fn begin(&self, capacity: Capacity) -> Trust {
        Trust { capacity, trusted: capacity.carries(self.policy.spill), rise: None }
    }

    fn settle(&mut self) -> Option<Shares> {
        let decided = self.decide();
        let changed = decided != self.shares;
        self.shares = decided;
        changed.then_some(decided)
    }

    fn decide(&self) -> Shares {
        let mut given = [0.0; LEVELS_MAX];
        let mut left = 1.0;
        for (given, trust) in given.iter_mut().zip(&self.trusts) {
            *given = trust.trusted.min(left);
            left -= *given;
        }
        // Nobody else can take it: what a level could carry is better than what it is trusted with.
        for (given, trust) in given.iter_mut().zip(&self.trusts) {
            let more = (trust.capacity.carries(self.policy.spill) - *given).clamp(0.0, left);
            *given += more;
            left -= more;
        }
        let overwhelmed = left > NOTHING;
        if overwhelmed {
            self.overcommit(&mut given, 1.0 - left);
        }
        let mut sum = 0.0;
        let mut percents = 0;
        Shares::new(self.trusts.iter().zip(given).map(|(trust, given)| {
            // Rounding the sums and not the shares keeps the whole at a hundred.
            sum += given;
            let upto = (sum * 100.0).round().clamp(0.0, 100.0) as u8;
            let percent = upto.saturating_sub(percents);
            percents = percents.max(upto);
            (percent, overwhelmed && trust.capacity.panics(self.policy.panic_threshold.0))
        }))
    }

    /// Shares out more than there is strength for: by what is healthy, of which `carried` can be carried; by what is there, if
    /// nothing is healthy; and if all are leaving, to the nearest.
    fn overcommit(&self, given: &mut [f64; LEVELS_MAX], carried: f64) {
        let staying: u64 = self.trusts.iter().map(|trust| trust.capacity.staying).sum();
        for (given, trust) in given.iter_mut().zip(&self.trusts) {
            if carried > NOTHING {
                *given /= carried;
            } else if staying > 0 {
                *given = trust.capacity.staying as f64 / staying as f64;
            }
        }
        if carried <= NOTHING && staying == 0 {
            given[0] = 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::load::tests::epoch;
    use config::{Locality, Ratio, SlowStart};
    use proptest::prelude::*;
    use std::time::Duration;

    const HYSTERESIS: Duration = Duration::from_secs(30);

    fn policy() -> SpreadPolicy {
        let slow_start = SlowStart { window: Duration::from_secs(30), weight_min: Ratio(0.1) };
        SpreadPolicy { panic_threshold: Ratio(0.5), slow_start, spill: 1.4, hysteresis: HYSTERESIS }
    }

    /// `healthy/total`, or `healthy/staying/total` where some are draining.
    fn capacities(levels: &str) -> Vec<Capacity> {
        let level = |(priority, level): (u16, &str)| {
            let numbers: Vec<u64> = level.split('/').map(|number| number.parse().expect("a number")).collect();
            let (healthy, total) = (numbers[0], numbers[numbers.len() - 1]);
            Capacity {
                rank: Rank { priority, locality: Locality::Zone, doubted: false },
                healthy,
                staying: numbers[numbers.len() - 2].max(if numbers.len() == 2 { total } else { 0 }),
                total,
            }
        };
        (0..).zip(levels.split(' ')).map(level).collect()
    }

    fn check(levels: &str, expected: &str) {
        assert_eq!(format!("{:?}", Levels::new(policy(), &capacities(levels)).shares()), expected, "{levels}");
    }

    #[test]
    fn the_nearest_level_gets_what_it_can_carry() {
        check("5/5", "100");
        check("5/5 5/5 5/5", "100");
        check("72/100 1/1", "100");
        check("7/10 10/10", "98 2");
        check("1/2 2/2", "70 30");
        check("0/2 2/2", "0 100");
        check("1/4 1/4 4/4", "35 35 30");
    }

    #[test]
    fn a_level_panics_only_if_nobody_can_help() {
        check("2/5", "100!");
        check("1/2", "100");
        check("0/3", "100!");
        check("1/5 5/5", "28 72");
        check("1/5 1/5", "50! 50!");
        check("1/5 5/10", "29! 71");
        check("0/3 0/1", "75! 25!");
    }

    #[test]
    fn who_is_leaving_is_no_strength_and_no_sickness() {
        check("1/1/4", "100");
        check("1/1/4 4/4", "35 65");
        check("0/0/4 0/4", "0 100!");
        check("0/0/4 0/0/2", "100");
    }

    #[test]
    fn a_threshold_of_nothing_never_panics() {
        let calm = SpreadPolicy { panic_threshold: Ratio(0.0), ..policy() };
        assert_eq!(format!("{:?}", Levels::new(calm, &capacities("0/3 1/9")).shares()), "0 100");
    }

    /// Steps of `at levels`, in seconds; after each the shares.
    fn follow(steps: &str, expected: &str) {
        let epoch = epoch();
        let mut levels: Option<Levels> = None;
        let shares: Vec<String> = steps
            .split(", ")
            .map(|step| {
                let (at, step) = step.split_once(' ').expect("a step is a time and levels");
                let now = epoch + Duration::from_secs(at.parse().expect("seconds"));
                let levels = levels.get_or_insert_with(|| Levels::new(policy(), &capacities(step)));
                while levels.deadline().is_some_and(|due| due <= now) {
                    let due = levels.deadline().expect("there is one");
                    levels.expire(due);
                }
                levels.observe(&capacities(step), now);
                format!("{:?}", levels.shares())
            })
            .collect();
        assert_eq!(shares.join(", "), expected, "{steps}");
    }

    #[test]
    fn traffic_leaves_at_once_and_returns_after_a_while() {
        follow("0 2/2 2/2, 1 0/2 2/2, 2 2/2 2/2, 31 2/2 2/2, 32 2/2 2/2", "100, 0 100, 0 100, 0 100, 100");
    }

    #[test]
    fn a_level_that_comes_and_goes_keeps_nobody() {
        follow("0 0/2 2/2, 10 2/2 2/2, 35 0/2 2/2, 36 2/2 2/2, 60 2/2 2/2, 66 2/2 2/2", "0 100, 0 100, 0 100, 0 100, 0 100, 100");
    }

    #[test]
    fn what_returns_is_what_was_there_throughout() {
        follow("0 0/4 4/4, 1 2/4 4/4, 20 4/4 4/4, 31 4/4 4/4, 61 4/4 4/4", "0 100, 0 100, 0 100, 70 30, 100");
    }

    #[test]
    fn nobody_waits_while_nobody_else_can_help() {
        follow("0 0/2 2/2, 10 2/2 2/2, 11 2/2 0/2, 12 2/2 1/2", "0 100, 0 100, 100, 100");
    }

    #[test]
    fn who_goes_on_for_another_changes_nothing() {
        let epoch = epoch();
        let check = |before: &str, now: &str, expected: &str| {
            let published = Levels::new(policy(), &capacities(before)).shares();
            let mut levels = Levels::resume(policy(), &capacities(now), published, epoch);
            let mut shares = vec![format!("{:?}", levels.shares())];
            if let Some(due) = levels.deadline() {
                levels.expire(due);
                shares.push(format!("{:?}", levels.shares()));
            }
            assert_eq!(shares.join(", "), expected, "{before}, {now}");
        };
        check("2/2 2/2", "2/2 2/2", "100");
        check("1/2 2/2", "1/2 2/2", "70 30");
        check("0/2 2/2", "2/2 2/2", "0 100, 100");
        check("1/2 2/2", "2/2 2/2", "70 30, 100");
        check("2/2 2/2", "0/2 2/2", "0 100, 0 100");
        check("1/5 1/5", "1/5 1/5", "50! 50!");
    }

    #[test]
    fn a_new_level_is_trusted_at_once() {
        let epoch = epoch();
        let far = capacities("9/9 2/2")[1];
        let mut levels = Levels::new(policy(), &[far]);
        assert_eq!(levels.observe(&capacities("2/2 2/2"), epoch), None, "the nearest has everything, as before");
        assert_eq!(levels.observe(&[far], epoch), None);
        assert_eq!(levels.deadline(), None);
    }

    proptest! {
        #[test]
        fn the_shares_are_whole_and_nobody_without_strength_has_one(
            levels in prop::collection::vec((0..6u64, 0..6u64, 0..6u64), 1..12),
        ) {
            let capacities: Vec<Capacity> = (0..)
                .zip(&levels)
                .map(|(priority, (healthy, sick, leaving))| Capacity {
                    rank: Rank { priority, locality: Locality::Region, doubted: false },
                    healthy: *healthy,
                    staying: healthy + sick,
                    total: (healthy + sick + leaving).max(1),
                })
                .collect();
            let shares = Levels::new(policy(), &capacities).shares();
            prop_assert_eq!((0..LEVELS_MAX).map(|level| u32::from(shares.percent(level))).sum::<u32>(), 100);
            let healthy = capacities.iter().take(LEVELS_MAX).any(|capacity| capacity.healthy > 0);
            for (level, capacity) in capacities.iter().take(LEVELS_MAX).enumerate() {
                prop_assert!(!healthy || capacity.healthy > 0 || shares.percent(level) == 0, "{shares:?}");
                prop_assert!(!shares.is_panicking(level) || 2 * capacity.healthy < capacity.staying, "{shares:?}");
            }
        }

        /// While the far level can carry all, the near one has no more than it could carry at every moment of the last half minute.
        #[test]
        fn nothing_oscillates_faster_than_the_hysteresis(steps in prop::collection::vec((1..20u64, 0..=10u64), 1..80)) {
            let epoch = epoch();
            let near = |healthy| Capacity { healthy, total: 10, staying: 10, rank: Rank { priority: 0, locality: Locality::Zone, doubted: false } };
            let far = Capacity { healthy: 1, total: 1, staying: 1, rank: Rank { priority: 1, locality: Locality::Zone, doubted: false } };
            let mut levels = Levels::new(policy(), &[near(0), far]);
            let mut history = vec![(epoch, 0)];
            let mut now = epoch;
            for (step, healthy) in steps {
                now += Duration::from_secs(step);
                while let Some(due) = levels.deadline().filter(|due| *due <= now) {
                    levels.expire(due);
                }
                levels.observe(&[near(healthy), far], now);
                history.push((now, healthy));
                let from = history.iter().rposition(|(at, _)| *at + HYSTERESIS <= now).unwrap_or(0);
                let least = history[from..].iter().map(|(_, healthy)| *healthy).min().unwrap_or(0);
                let most = (near(least).carries(1.4) * 100.0).round() as u8;
                prop_assert!(levels.shares().percent(0) <= most, "{:?} with {history:?}", levels.shares());
            }
            // A level that stays healthy is trusted again in the end.
            levels.observe(&[near(10), far], now);
            for _ in 0..2 {
                if let Some(due) = levels.deadline() {
                    levels.expire(due);
                }
            }
            prop_assert_eq!(levels.shares().percent(0), 100);
        }
    }
}
