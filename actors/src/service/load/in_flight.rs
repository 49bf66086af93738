//! A request on its way, and what its outcome means for the endpoint.

use super::{Average, Bound, Load, Out, Phase, Run};
use crate::service::verdict::{Failed, Failure};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What a failure counts as at least, and at most.
const FAILURE_MIN: Duration = Duration::from_millis(10);
const FAILURE_MAX: Duration = Duration::from_secs(10);

/// A request on its way to an endpoint. Dropping it ends it, whatever came of it; one that is dropped without an outcome, because its
/// caller went away, says nothing of the endpoint.
#[derive(Debug)]
pub struct InFlight {
    pub(super) load: Arc<Load>,
    pub(super) began: Instant,
    /// It was sent to learn whether the endpoint's last failure was one of many.
    pub(super) recheck: bool,
    /// Of the trial that it takes part in and that has not been told of its outcome; zero if there is none.
    pub(super) round: AtomicU32,
    /// The run of failures that its answer has ended, one more than it; zero if it was not answered well.
    pub(super) ended: AtomicU64,
}

impl InFlight {
    /// The head of the answer arrived. The request stays in flight while the body does.
    pub fn answered(&self, status: u16, now: Instant) {
        if status >= 500 {
            return self.failed(Failure::Status(status), now);
        }
        let load = &*self.load;
        load.hot.successes.fetch_add(1, Relaxed);
        // One nanosecond at least: zero means that nothing is known.
        let took = (now.saturating_duration_since(self.began).as_nanos() as f32).max(1.0);
        if self.is_trial() {
            self.proves(took, now);
        } else {
            load.observe(|_| took, now);
        }
        // Read first: while all is well, nobody writes.
        let run = load.hot.run.load(Relaxed);
        if run != 0 {
            load.hot.run.store(0, Relaxed);
        }
        self.ended.store(run.saturating_add(1), Relaxed);
        load.weigh(false, now);
    }

    /// It could not be sent, was not answered in time, was broken off, or the endpoint said that it failed. If its head had
    /// seemed well before, that counts no more.
    #[cold]
    pub fn failed(&self, failure: Failure, now: Instant) {
        let load = &*self.load;
        let stamp = load.stamp(now);
        let counter = match failure {
            Failure::Status(502..=504) => &load.cold.gateway_failures,
            Failure::Status(_) => &load.cold.server_errors,
            Failure::Connect => &load.cold.connects,
            Failure::Timeout => &load.cold.timeouts,
            Failure::Reset => &load.cold.resets,
        };
        counter.fetch_add(1, Relaxed);
        let ended = match self.ended.swap(0, Relaxed) {
            0 => 0,
            ended => {
                load.hot.successes.fetch_sub(1, Relaxed);
                ended - 1
            }
        };
        load.hot.failed.store(u64::from(stamp) << 32 | u64::from(Failed::of(failure).0), Relaxed);
        let took = now.saturating_duration_since(self.began).max(FAILURE_MIN).as_nanos() as f32;
        load.observe(|average| took.max(2.0 * average.at(stamp)).min(took.max(FAILURE_MAX.as_nanos() as f32)), now);

        let breaker = &load.hot.breaker;
        if let Some(round) = self.told() {
            let length = |out, times| breaker.length(out == Out::Open, times, load.chance(now));
            if load.change(Bound::None, |standing| standing.failed(round, stamp, length)).is_some() {
                load.mark(now);
            }
            return;
        }
        let next = |word: u64| Run(if word == 0 { ended } else { word }).and(failure);
        // The closure always has an answer, so it is the word before.
        let before = load.hot.run.fetch_update(Relaxed, Relaxed, |word| Some(next(word).0)).unwrap_or_default();
        if let Some(reached) = breaker.reached(next(before)) {
            let bound = if reached.unreachable { Bound::None } else { Bound::Share };
            load.take_out(Out::Ejected, reached.why, bound, load.chance(now), now);
        }
        load.weigh(true, now);
    }

    /// Whether it was sent to an endpoint that was believed to fail, so that its caller should not have to bear the outcome.
    pub fn is_trial(&self) -> bool {
        self.recheck || self.round.load(Relaxed) != 0
    }

    pub fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// The endpoint is well, or one step nearer to it. What its failures were counted as is not held against it any more.
    #[cold]
    fn proves(&self, took: f32, now: Instant) {
        let load = &*self.load;
        let stamp = load.stamp(now);
        match self.told() {
            Some(round) => {
                let half_open = load.hot.breaker.half_open();
                let after = load.change(Bound::None, |standing| standing.passed(round, half_open, stamp));
                if after.is_some_and(|standing| standing.phase(stamp) == Phase::In) {
                    load.begin_anew(took, now);
                }
            }
            None => load.hot.latency.store(Average::of(took, stamp).pack(), Relaxed),
        }
    }

    /// The round that is to be told of an outcome, once.
    fn told(&self) -> Option<u32> {
        match self.round.load(Relaxed) {
            0 => None,
            round => {
                self.round.store(0, Relaxed);
                Some(round)
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.hot.in_flight.fetch_sub(1, Relaxed);
        // Whether the round is still the one that is going on is not known without the time: the word itself knows.
        if let Some(round) = self.told() {
            self.load.change(Bound::None, |standing| standing.given_up(round, round));
        }
    }
}
