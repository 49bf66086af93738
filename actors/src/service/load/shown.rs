//! What is shown of an endpoint: its standing and its past, in words and ages.

use super::{COARSE, Flag, Load, Out, Phase};
use crate::service::verdict::{Failed, Failure, Verdict, Why};
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

impl Load {
    pub fn verdict(&self, now: Instant) -> Verdict {
        let standing = self.standing();
        match standing.phase(self.stamp(now)) {
            _ if standing.has(Flag::Draining) => Verdict::Draining,
            _ if standing.has(Flag::Unhealthy) => Verdict::Unhealthy,
            Phase::Out(Out::Open) => Verdict::Open,
            Phase::Out(Out::Ejected) => Verdict::Ejected,
            Phase::HalfOpen(_) => Verdict::HalfOpen,
            Phase::In => Verdict::Healthy,
        }
    }

    /// Why the verdict is not healthy.
    pub fn why(&self) -> Option<Why> {
        let standing = self.standing();
        match () {
            () if standing.has(Flag::Draining) => Some(Why::DrainByHand),
            () if standing.has(Flag::Unhealthy) => Some(Why::Probes),
            () => standing.why(),
        }
    }

    /// How long the verdict has been what it is, to a sixteenth of a second; `None` if it never was another.
    pub fn unchanged_for(&self, now: Instant) -> Option<Duration> {
        let (standing, stamp) = (self.standing(), self.stamp(now));
        let since = self.hot.since.load(Relaxed);
        if let (Verdict::HalfOpen, Phase::HalfOpen(_)) = (self.verdict(now), standing.phase(stamp)) {
            return Some(Duration::from_millis(u64::from(stamp.wrapping_sub(standing.stamp()))));
        }
        (since > 0).then(|| Duration::from_millis(u64::from(self.coarse(now).saturating_sub(since)) << COARSE))
    }

    /// How long the endpoint has been in since it was last out or came new, to a sixteenth of a second; `None` if it has been in from
    /// the beginning, or is not in. Whoever lets its share grow slowly goes by this.
    pub fn in_for(&self, now: Instant) -> Option<Duration> {
        let since = self.hot.since.load(Relaxed);
        let in_since = since > 0 && self.standing().is_free();
        in_since.then(|| Duration::from_millis(u64::from(self.coarse(now).saturating_sub(since)) << COARSE))
    }

    /// Whether probes have nothing against it.
    pub fn is_healthy(&self) -> bool {
        !self.standing().has(Flag::Unhealthy)
    }

    /// Whether it has left its service.
    pub fn is_retired(&self) -> bool {
        self.standing().has(Flag::Retired)
    }

    /// Whether an operator wants it to get no more requests.
    pub fn is_draining(&self) -> bool {
        self.standing().has(Flag::Draining)
    }

    /// Whether an operator or the configuration wants it to get no more requests.
    pub fn is_leaving(&self) -> bool {
        self.is_draining() || self.standing().has(Flag::Withdrawn)
    }

    /// When it will be tried again, counted from now; `None` unless it is out for a time.
    pub fn out_for(&self, now: Instant) -> Option<Duration> {
        let (standing, stamp) = (self.standing(), self.stamp(now));
        match standing.phase(stamp) {
            Phase::Out(_) => Some(Duration::from_millis(u64::from(standing.stamp().wrapping_sub(stamp)))),
            _ => None,
        }
    }

    /// How often it was out in a row.
    pub fn times_out(&self, now: Instant) -> u32 {
        self.standing().times(self.stamp(now), self.hot.breaker.forget())
    }

    /// The last failure, and how long ago it was; past 49 days, how long is not told right.
    pub fn last_failure(&self, now: Instant) -> Option<(Failure, Duration)> {
        let word = self.hot.failed.load(Relaxed);
        let failure = Failed(word as u32).failure()?;
        Some((failure, Duration::from_millis(u64::from(self.stamp(now).wrapping_sub((word >> 32) as u32)))))
    }

    /// Failures that have come one after another without a good answer between them.
    pub fn is_failing(&self) -> bool {
        self.hot.run.load(Relaxed) != 0
    }
}
