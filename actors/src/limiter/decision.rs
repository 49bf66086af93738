//! What the limiter answers: granted or refused, and what a caller may be told about each limit.

use super::{
    bucket::{Rule, duration},
    few::Few,
    policy::Policy,
};
use std::{cmp::Reverse, time::Duration};

/// The answer to one request, over all limits it was put to.
#[derive(Clone, Debug)]
pub struct Decision {
    granted: bool,
    verdicts: Few<Verdict>,
}

/// What one limit said. Durations count from the instant that the request was decided at.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    granted: bool,
    shadow: bool,
    overflowed: bool,
    debt: u64,
    cost: u64,
    rule: Rule,
}

impl Decision {
    pub(crate) fn new(granted: bool, verdicts: Few<Verdict>) -> Self {
        Self { granted, verdicts }
    }

    /// Whether every limit that refuses at all has granted. If not, nothing was taken of any.
    pub fn granted(&self) -> bool {
        self.granted
    }

    /// One verdict for each take, in their order.
    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter()
    }

    /// Which limit a caller should be told of: one that refused, by the longest wait; else the one with the fewest tokens
    /// left, and of those the one that takes longest to be full. `None` if only limits in shadow mode were asked.
    pub fn tightest(&self) -> Option<usize> {
        let enforced = self.verdicts.iter().enumerate().filter(|(_, verdict)| !verdict.shadow);
        enforced.max_by_key(|(index, verdict)| (verdict.urgency(), Reverse(*index))).map(|(index, _)| index)
    }

    /// How long until every limit that refused would grant; zero if none did, `None` if one never will.
    pub fn retry_after(&self) -> Option<Duration> {
        self.verdicts.iter().filter(|verdict| !verdict.shadow).try_fold(Duration::ZERO, |longest, verdict| {
            let wait = verdict.retry_after()?;
            Some(longest.max(wait))
        })
    }
}

impl Verdict {
    pub(crate) fn new(policy: &Policy, cost: u64, debt: u64, granted: bool) -> Self {
        Self { granted, shadow: policy.shadow(), overflowed: false, debt, cost, rule: policy.rule() }
    }

    pub(crate) fn overflowed(self) -> Self {
        Self { overflowed: true, ..self }
    }

    /// Whether this limit had what was asked of it. A refusal in shadow mode does not refuse the request.
    pub fn granted(&self) -> bool {
        self.granted
    }

    pub fn shadow(&self) -> bool {
        self.shadow
    }

    /// Whether the key had no cell of its own and was counted together with others.
    pub fn shared(&self) -> bool {
        self.overflowed
    }

    pub fn cost(&self) -> u64 {
        self.cost
    }

    pub fn burst(&self) -> u64 {
        self.rule.burst
    }

    /// Whole tokens that are left.
    pub fn remaining(&self) -> u64 {
        self.rule.remaining(self.debt)
    }

    /// Until the bucket is full, if nothing more is taken.
    pub fn reset(&self) -> Duration {
        duration(self.debt)
    }

    /// Until the cost would be granted, if nobody else takes anything; zero if it was. `None` if it never will be,
    /// because it is more than the burst.
    pub fn retry_after(&self) -> Option<Duration> {
        if self.granted { Some(Duration::ZERO) } else { self.rule.wait(self.debt, self.cost).map(duration) }
    }

    pub(crate) fn lets_pass(&self) -> bool {
        self.granted || self.shadow
    }

    fn urgency(&self) -> impl Ord + use<> {
        let wait = self.retry_after().unwrap_or(Duration::MAX);
        (!self.granted, wait, Reverse(self.remaining()), self.debt)
    }
}
