//! Keeps retries a small share of the requests, so that an endpoint in trouble is not asked more for being in trouble.
//!
//! Each first request pays in a share of a retry, and what is not used fades with a time constant of ten seconds: after
//! an hour without trouble there is the share of about the last ten seconds to spend, not of the hour. Beside it a bucket of
//! a few retries a second lets a quiet service retry at all.

use crate::limiter::{Clock, Rule, Word};
use config::{Rate, RetryPolicy};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// In this time what was paid in falls to 1/e.
const FADE: Duration = Duration::from_secs(10);

const TOKEN: u64 = 1 << 20;
const STAMPS_PER_SECOND: u64 = 64;
const STAMP_BITS: u32 = 24;
const BALANCE_MAX: u64 = (1 << (64 - STAMP_BITS)) - 1;

/// One service's budget, shared by all its requests without a lock.
#[derive(Debug)]
pub struct RetryBudget {
    /// [`Balance`].
    balance: AtomicU64,
    /// [`Word`]: the bucket of retries that need no deposit.
    reserve: AtomicU64,
    /// What one request pays in, in parts of a token.
    deposit: u64,
    /// `None` if there is no reserve.
    rule: Option<Rule>,
    clock: Clock,
}

/// What was paid in, and when it last faded, in 1/64 s: one word. The stamp comes round after three days; who was
/// silent for exactly so long may spend once more what had faded.
#[derive(Clone, Copy)]
struct Balance {
    amount: u64,
    stamp: u64,
}

impl Balance {
    fn unpack(word: u64) -> Self {
        Self { amount: word >> STAMP_BITS, stamp: word & ((1 << STAMP_BITS) - 1) }
    }

    fn pack(self) -> u64 {
        self.amount.min(BALANCE_MAX) << STAMP_BITS | self.stamp
    }

    fn at(self, stamp: u64) -> Self {
        let passed = stamp.wrapping_sub(self.stamp) & ((1 << STAMP_BITS) - 1);
        // More than half a turn ahead is a clock that lags.
        if passed == 0 || passed >> (STAMP_BITS - 1) != 0 {
            return self;
        }
        let left = (-(passed as f64) / (FADE.as_secs() * STAMPS_PER_SECOND) as f64).exp();
        Self { amount: (self.amount as f64 * left) as u64, stamp }
    }
}

impl RetryBudget {
    /// `epoch` lies before every instant it will be asked about.
    pub fn new(policy: &RetryPolicy, epoch: Instant) -> Self {
        let reserve = u64::from(policy.budget_min);
        Self {
            balance: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
            deposit: (policy.budget.0.clamp(0.0, 1.0) * TOKEN as f64) as u64,
            rule: (reserve > 0).then(|| Rule::new(Rate { count: reserve, per: Duration::from_secs(1) }, reserve)),
            clock: Clock::new(epoch),
        }
    }

    /// Counts a request, which is not itself a retry.
    pub fn deposit(&self, now: Instant) {
        let stamp = self.stamp(now);
        self.update(|balance| {
            let balance = balance.at(stamp);
            Some(Balance { amount: balance.amount + self.deposit, ..balance })
        });
    }

    /// Whether one retry may be made. It is paid for then.
    pub fn withdraw(&self, now: Instant) -> bool {
        let ticks = self.clock.ticks(now);
        let from_reserve = self.rule.is_some_and(|rule| {
            self.reserve.fetch_update(Relaxed, Relaxed, |word| rule.take(Word(word), ticks, 1).ok().map(|word| word.0)).is_ok()
        });
        if from_reserve {
            return true;
        }
        let stamp = self.stamp(now);
        self.update(|balance| {
            let balance = balance.at(stamp);
            Some(Balance { amount: balance.amount.checked_sub(TOKEN)?, ..balance })
        })
    }

    fn update(&self, change: impl Fn(Balance) -> Option<Balance>) -> bool {
        self.balance.fetch_update(Relaxed, Relaxed, |word| change(Balance::unpack(word)).map(Balance::pack)).is_ok()
    }

    fn stamp(&self, now: Instant) -> u64 {
        (self.clock.ticks(now) / (Clock::TICKS_PER_SECOND / STAMPS_PER_SECOND)) & ((1 << STAMP_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::load::tests::epoch;
    use config::Ratio;
    use proptest::prelude::*;

    fn policy(budget: f64, budget_min: u32) -> RetryPolicy {
        let (backoff_min, backoff_max) = (Duration::from_millis(25), Duration::from_millis(250));
        RetryPolicy { max: 1, statuses: Vec::new(), budget: Ratio(budget), budget_min, backoff_min, backoff_max }
    }

    /// Steps of `at deposits withdrawals` under 20 % and a reserve; the answer is how many retries were granted in each.
    fn check(reserve: u32, steps: &str, expected: &str) {
        let epoch = epoch();
        let budget = RetryBudget::new(&policy(0.2, reserve), epoch);
        let granted: Vec<String> = steps
            .split(", ")
            .map(|step| {
                let numbers: Vec<u64> = step.split(' ').map(|number| number.parse().expect("a number")).collect();
                let now = epoch + Duration::from_millis(1_000_000 + numbers[0]);
                (0..numbers[1]).for_each(|_| budget.deposit(now));
                (0..numbers[2]).filter(|_| budget.withdraw(now)).count().to_string()
            })
            .collect();
        assert_eq!(granted.join(" "), expected, "{steps}");
    }

    #[test]
    fn a_fifth_of_the_requests_may_be_retried() {
        check(0, "0 1001 1000, 0 100 0, 0 0 100", "200 0 20");
        check(0, "0 4 1, 0 1 1, 0 1 1", "0 0 1");
    }

    #[test]
    fn a_quiet_service_has_its_reserve() {
        check(10, "0 0 20, 100 0 20, 5000 0 20", "10 1 10");
        check(10, "0 101 100", "30");
    }

    #[test]
    fn what_is_not_used_fades() {
        check(0, "0 1001 0, 10000 0 1000", "0 73");
        check(0, "0 1001 0, 60000 0 1000", "0 0");
    }

    #[test]
    fn no_budget_means_no_retry() {
        let now = epoch();
        let budget = RetryBudget::new(&policy(0.0, 0), now);
        budget.deposit(now);
        assert!(!budget.withdraw(now));
    }

    proptest! {
        #[test]
        fn retries_never_exceed_the_share_and_the_reserve(
            reserve in 0..20u32,
            steps in prop::collection::vec((0..3_000u64, 0..50u64, 0..50u64), 1..60),
        ) {
            let epoch = epoch();
            let budget = RetryBudget::new(&policy(0.2, reserve), epoch);
            let (mut at, mut requests, mut retries) = (0, 0, 0);
            for (step, deposits, withdrawals) in steps {
                at += step;
                let now = epoch + Duration::from_millis(at);
                (0..deposits).for_each(|_| budget.deposit(now));
                requests += deposits;
                retries += (0..withdrawals).filter(|_| budget.withdraw(now)).count() as u64;
                let reserve = u64::from(reserve);
                prop_assert!(retries * 5_000 <= requests * 1_000 + reserve * 5 * (at + 1_000));
            }
        }
    }
}
