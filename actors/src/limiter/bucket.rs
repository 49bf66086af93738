//! The arithmetic of one bucket, on plain numbers: the generic cell rate algorithm (GCRA) of ITU-T I.371.
//!
//! A bucket is one instant: when it would be full again if nothing more were taken (its *time*). Taking `cost` moves
//! that instant `cost` intervals further away, and is granted if it then lies no more than `burst` intervals ahead.
//! What lies between now and that instant is the bucket's *debt*; no debt means a full bucket.
//!
//! Everything is counted in ticks of four nanoseconds since the limiter's epoch. An interval is rounded up to whole
//! ticks, so that rounding never grants more than the rate: it grants less by at most `rate × 4 ns` of itself, which
//! is 0.4 % at a million a second and nothing that anyone could see at a thousand.

use cluster::limits::Terms;
use config::Rate;
use std::time::{Duration, Instant};

const TICK_NANOS: u64 = 4;
const GENERATION_BITS: u32 = 8;

/// The last tick, nine years after the epoch. Time stands still there, and whatever would need a later tick is refused.
pub(crate) const LAST_TICK: u64 = (1 << (64 - GENERATION_BITS)) - 1;

/// The most that a bucket may owe: four and a half years.
const DEBT_MAX: u64 = 1 << 55;

/// Turns instants into ticks since the epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: Instant,
}

impl Clock {
    pub(crate) const TICKS_PER_SECOND: u64 = 1_000_000_000 / TICK_NANOS;

    pub(crate) fn new(epoch: Instant) -> Self {
        Self { epoch }
    }

    /// An instant before the epoch counts as the epoch.
    pub(crate) fn ticks(self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        let whole = since.as_secs().saturating_mul(Self::TICKS_PER_SECOND);
        whole.saturating_add(u64::from(since.subsec_nanos()) / TICK_NANOS).min(LAST_TICK)
    }
}

pub(crate) fn duration(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.saturating_mul(TICK_NANOS))
}

/// A bucket's whole state: 56 bits of time and 8 bits of generation.
///
/// The generation moves on whenever the bucket forgets its past: when something is taken after it had become full
/// again, and when its cell is given to another key. Whoever remembers a word can therefore tell, by the generation
/// alone, whether what was taken since still lies on top of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) fn new(time: u64, generation: u8) -> Self {
        Self(time << GENERATION_BITS | u64::from(generation))
    }

    pub(crate) fn time(self) -> u64 {
        self.0 >> GENERATION_BITS
    }

    pub(crate) fn generation(self) -> u8 {
        (self.0 & ((1 << GENERATION_BITS) - 1)) as u8
    }

    pub(crate) fn debt(self, now: u64) -> u64 {
        self.time().saturating_sub(now)
    }

    /// The same time in the next generation.
    pub(crate) fn turned(self) -> Self {
        Self::new(self.time(), self.generation().wrapping_add(1))
    }
}

/// A rate and a burst, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rule {
    /// Between two tokens; at least one tick.
    pub(crate) interval: u64,
    /// The debt of an empty bucket: `burst` intervals.
    pub(crate) tolerance: u64,
    /// In whole tokens.
    pub(crate) burst: u64,
}

impl Rule {
    /// A burst that would take more than four and a half years to come back is cut to what comes back in that time.
    pub(crate) fn new(rate: Rate, burst: u64) -> Self {
        let ticks_per_token = rate.per.as_nanos().div_ceil(u128::from(rate.count) * u128::from(TICK_NANOS));
        let interval = u64::try_from(ticks_per_token).unwrap_or(DEBT_MAX).clamp(1, DEBT_MAX);
        let burst = burst.clamp(1, DEBT_MAX / interval);
        Self { interval, tolerance: burst * interval, burst }
    }

    /// In tokens, as it is counted here.
    pub(crate) fn terms(self) -> Terms {
        Terms { rate: Clock::TICKS_PER_SECOND as f64 / self.interval as f64, burst: self.burst as f64 }
    }

    /// What a bucket owes that has so many tokens left; negative for one that owes more than it can hold.
    pub(crate) fn debt_of(self, left: f64) -> u64 {
        // A float that is too large becomes the largest number.
        ((self.burst as f64 - left).max(0.0) * self.interval as f64) as u64
    }

    /// Tokens in a bucket that owes `debt`.
    pub(crate) fn left(self, debt: u64) -> f64 {
        self.burst as f64 - debt as f64 / self.interval as f64
    }

    /// Whether a bucket that owes `debt` has `cost` tokens.
    pub(crate) fn grants(self, debt: u64, cost: u64) -> bool {
        cost <= self.burst && debt.saturating_add(cost * self.interval) <= self.tolerance
    }

    /// The bucket after `cost` was taken, or what it owes if it does not have so much.
    pub(crate) fn take(self, word: Word, now: u64, cost: u64) -> Result<Word, u64> {
        let debt = word.debt(now);
        if !self.grants(debt, cost) {
            return Err(debt);
        }
        let (since, generation) =
            if word.time() < now { (now, word.generation().wrapping_add(1)) } else { (word.time(), word.generation()) };
        let time = since + cost * self.interval;
        if time > LAST_TICK { Err(debt) } else { Ok(Word::new(time, generation)) }
    }

    /// The bucket after `cost` that was taken in `generation` came back, or `None` if it came back by itself: a bucket
    /// that has been full since owes nothing for it, and a token more would be one too many.
    pub(crate) fn give_back(self, word: Word, generation: u8, cost: u64) -> Option<Word> {
        (word.generation() == generation).then(|| Word::new(word.time().saturating_sub(cost * self.interval), generation))
    }

    /// Whole tokens in a bucket that owes `debt`.
    pub(crate) fn remaining(self, debt: u64) -> u64 {
        self.tolerance.saturating_sub(debt) / self.interval
    }

    /// Ticks until a bucket that owes `debt` has `cost` tokens; `None` if it never holds so many.
    pub(crate) fn wait(self, debt: u64, cost: u64) -> Option<u64> {
        (cost <= self.burst).then(|| debt.saturating_add(cost * self.interval).saturating_sub(self.tolerance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(count: u64, per: Duration, burst: u64) -> Rule {
        Rule::new(Rate { count, per }, burst)
    }

    /// One token each 10 ticks and a burst of 3; each take is `now cost`, each answer the debt after it, or `!` and the
    /// debt that stood in the way.
    fn check(takes: &str, expected: &str) {
        let rule = Rule { interval: 10, tolerance: 30, burst: 3 };
        let mut word = Word::new(0, 0);
        let answers: Vec<String> = takes
            .split(", ")
            .map(|take| {
                let (now, cost) = take.split_once(' ').expect("a take is two numbers");
                let (now, cost) = (now.parse().expect("ticks"), cost.parse().expect("tokens"));
                match rule.take(word, now, cost) {
                    Ok(next) => {
                        word = next;
                        word.debt(now).to_string()
                    }
                    Err(debt) => format!("!{debt}"),
                }
            })
            .collect();
        assert_eq!(answers.join(" "), expected, "{takes}");
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_the_rate() {
        check("100 1, 100 1, 100 1, 100 1", "10 20 30 !30");
        check("100 3, 109 1, 110 1, 119 1, 120 1", "30 !21 30 !21 30");
    }

    #[test]
    fn a_cost_is_taken_whole_or_not_at_all() {
        check("100 2, 100 2, 100 1, 110 2, 120 2", "20 !20 30 !20 30");
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_burst() {
        check("5 1, 1000000 3, 1000000 1", "10 30 !30");
        check("100 4", "!0");
    }

    #[test]
    fn a_clock_that_lags_gains_nothing() {
        check("100 3, 90 1, 50 1, 110 1", "30 !40 !80 30");
    }

    #[test]
    fn nothing_costs_nothing() {
        check("100 3, 100 0, 200 0, 200 3", "30 30 0 30");
    }

    #[test]
    fn intervals_round_up_and_bursts_stay_below_the_end_of_time() {
        let check = |count, per, burst, expected: (u64, u64)| {
            let rule = rule(count, per, burst);
            assert_eq!((rule.interval, rule.burst), expected, "{count} per {per:?}, burst {burst}");
        };
        check(1, Duration::from_secs(1), 1, (250_000_000, 1));
        check(100, Duration::from_secs(1), 20, (2_500_000, 20));
        check(3, Duration::from_secs(1), 3, (83_333_334, 3));
        check(1_000_000, Duration::from_secs(1), 1, (250, 1));
        check(u64::MAX, Duration::from_secs(1), u64::MAX, (1, DEBT_MAX));
        check(1, Duration::from_secs(86_400), 10_000, (21_600_000_000_000, 1_667));
        check(1, Duration::MAX, 7, (DEBT_MAX, 1));
        check(10, Duration::from_secs(60), 0, (1_500_000_000, 1));
    }

    #[test]
    fn at_the_end_of_time_everything_is_refused() {
        let rule = rule(10, Duration::from_secs(1), 10);
        assert_eq!(rule.take(Word::new(0, 3), LAST_TICK, 1), Err(0));
        assert!(rule.take(Word::new(0, 3), LAST_TICK - 10 * rule.interval, 10).is_ok());
    }

    #[test]
    fn what_is_given_back_after_the_bucket_was_full_is_not_given_twice() {
        let rule = Rule { interval: 10, tolerance: 30, burst: 3 };
        let first = rule.take(Word::new(0, 0), 100, 1).expect("the bucket is full");
        let second = rule.take(first, 105, 1).expect("two are left");
        let returned = rule.give_back(second, first.generation(), 1).expect("it still lies under the second");
        assert_eq!(returned.debt(105), 5 + 10 - 10);
        let later = rule.take(second, 200, 2).expect("the bucket is full");
        assert_eq!(rule.give_back(later, first.generation(), 1), None);
    }

    #[test]
    fn an_instant_before_the_epoch_is_the_epoch() {
        #[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning")]
        let epoch = Instant::now() + Duration::from_secs(10);
        let clock = Clock::new(epoch);
        assert_eq!(clock.ticks(epoch - Duration::from_secs(1)), 0);
        assert_eq!(clock.ticks(epoch + Duration::from_nanos(4_000_000_007)), 1_000_000_001);
    }

    /// A token bucket as a child would write it, in ticks and tokens scaled by the interval: no instants ahead of now.
    struct Reference {
        level: u64,
        refilled: u64,
    }

    impl Reference {
        fn take(&mut self, rule: Rule, now: u64, cost: u64) -> bool {
            self.level = (self.level + (now - self.refilled)).min(rule.tolerance);
            self.refilled = now;
            let asked = cost * rule.interval;
            let granted = asked <= self.level;
            self.level -= if granted { asked } else { 0 };
            granted
        }
    }

    fn rates() -> impl Strategy<Value = (u64, u64, u64)> {
        (1..2_000_000u64, prop_oneof![Just(1u64), Just(60), Just(3_600)], 1..500u64)
    }

    proptest! {
        #[test]
        fn every_decision_is_that_of_a_token_bucket(
            (count, per, burst) in rates(),
            steps in prop::collection::vec((0..50u64, 0..8u64, 0..10u64), 1..200),
        ) {
            let rule = rule(count, Duration::from_secs(per), burst);
            let mut word = Word::new(0, 0);
            let mut reference = Reference { level: rule.tolerance, refilled: 0 };
            let mut now = 0;
            for (steps, eighths, cost) in steps {
                now += steps * rule.interval / 8 * eighths + eighths;
                let granted = rule.take(word, now, cost);
                prop_assert_eq!(granted.is_ok(), reference.take(rule, now, cost));
                word = granted.unwrap_or(word);
                prop_assert_eq!(rule.tolerance - word.debt(now), reference.level);
                prop_assert_eq!(rule.remaining(word.debt(now)), reference.level / rule.interval);
            }
        }

        /// Against the rate as it was written, in exact fractions, rounding costs less than `rate × 4 ns`.
        #[test]
        fn a_saturated_bucket_grants_the_rate_within_the_rounding((count, per, burst) in rates(), tokens in 1..100_000u64) {
            let rule = rule(count, Duration::from_secs(per), burst);
            let exact = per as f64 * 1e9 / count as f64 / TICK_NANOS as f64;
            let elapsed = tokens * rule.interval;
            let granted = (elapsed / rule.interval + burst) as f64;
            prop_assert!(granted <= elapsed as f64 / exact + burst as f64 + 1e-6);
            prop_assert!(granted >= elapsed as f64 / exact * (1.0 - 1.0 / exact) + burst as f64 - 1.0);
        }

        #[test]
        fn no_window_holds_more_than_its_rate_and_one_burst(
            (count, per, burst) in rates(),
            takes in prop::collection::vec((0..400_000_000u64, 1..6u64), 1..120),
        ) {
            let rule = rule(count, Duration::from_secs(per), burst);
            let (mut word, mut now, mut granted) = (Word::new(0, 0), 0u64, Vec::new());
            for (step, cost) in takes {
                now += step % (rule.interval * 3);
                if let Ok(next) = rule.take(word, now, cost) {
                    word = next;
                    granted.push((now, cost));
                }
            }
            for from in 0..granted.len() {
                let mut sum = 0u128;
                for to in from..granted.len() {
                    sum += u128::from(granted[to].1);
                    let nanos = u128::from(granted[to].0 - granted[from].0) * u128::from(TICK_NANOS);
                    // sum <= rate × window + burst, without a division.
                    let per_nanos = u128::from(per) * 1_000_000_000;
                    prop_assert!(sum * per_nanos <= nanos * u128::from(count) + u128::from(burst) * per_nanos);
                }
            }
        }

        #[test]
        fn the_wait_is_exact_to_a_tick((count, per, burst) in rates(), spent in 0..500u64, cost in 1..500u64) {
            let rule = rule(count, Duration::from_secs(per), burst);
            let word = rule.take(Word::new(0, 0), 0, spent.min(burst)).expect("the bucket is full");
            match rule.wait(word.debt(0), cost) {
                None => prop_assert!(cost > burst),
                Some(0) => prop_assert!(rule.take(word, 0, cost).is_ok()),
                Some(wait) => {
                    prop_assert!(rule.take(word, wait - 1, cost).is_err());
                    prop_assert!(rule.take(word, wait, cost).is_ok());
                }
            }
        }
    }
}
