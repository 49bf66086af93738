//! What is known of one endpoint of a service: published in atomics, written by what happens to requests, read by every pick.
//!
//! Its latency is a peak-sensitive moving average, as Finagle and linkerd have it: a sample above the average replaces it at
//! once, one below pulls it down with a time constant of ten seconds, and silence lets it fall the same way, so
//! that an endpoint that was slow is asked again after a while. A failure counts as a sample of at least twice the
//! average: one alone is forgiven within seconds, a run of them soon costs more than any answer.
//!
//! Beside it stands what is believed of the endpoint. A run of failures takes it out at once, on the path of the request that
//! ends the run: no actor has to be awake for it. Its time out ends by itself, a few requests then try it, and if all
//! are answered well it is back. Actors add what takes longer to see: probes, success rates, an operator's wish.

mod average;
mod in_flight;
mod run;
mod shown;
mod standing;
mod window;

pub use self::in_flight::InFlight;
pub(super) use self::run::{Reached, Run};

use self::{
    average::Average,
    standing::{Flag, Out, Phase, Standing},
    window::Window,
};
use super::{
    breaker::{Bound, Breaker, Refused},
    verdict::Why,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What an endpoint is believed to need while its first answer is awaited: others are preferred meanwhile.
const UNKNOWN: Duration = Duration::from_secs(1);

/// So long after its last failure an endpoint in doubt is asked once, whatever it seems to cost: otherwise its cost would keep away
/// the very answer that could end the doubt, or settle it.
const RECHECK: Duration = Duration::from_secs(1);

/// How fine the time of the last change is told, as a power of two in milliseconds. 32 bits then last for eight years.
const COARSE: u32 = 6;

/// One endpoint's load and standing, as one service sees it. Every request to the endpoint writes the first of its two cache lines;
/// the second is written when something fails.
#[derive(Debug)]
pub struct Load {
    hot: Hot,
    cold: Cold,
}

#[derive(Debug)]
#[repr(align(64))]
struct Hot {
    /// [`Average`].
    latency: AtomicU64,
    picks: AtomicU64,
    successes: AtomicU64,
    /// [`Standing`].
    standing: AtomicU64,
    /// [`Run`].
    run: AtomicU64,
    /// [`Failed`], with its stamp in the upper half.
    failed: AtomicU64,
    in_flight: AtomicU32,
    /// When its standing last changed, coarsely; zero if it never did.
    since: AtomicU32,
    breaker: Arc<Breaker>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Cold {
    epoch: Instant,
    server_errors: AtomicU64,
    gateway_failures: AtomicU64,
    connects: AtomicU64,
    timeouts: AtomicU64,
    resets: AtomicU64,
    /// [`Window`].
    window: AtomicU64,
}

/// What became of the requests to an endpoint, since the beginning. A request that was tried here and elsewhere counts once here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Tally {
    /// Sent, whatever became of them.
    pub picks: u64,
    /// Answered with a status below 500.
    pub successes: u64,
    /// Answered with a status of 500 or above that is none of the next.
    pub server_errors: u64,
    /// Answered with 502, 503 or 504.
    pub gateway_failures: u64,
    /// No connection came about.
    pub connects: u64,
    /// Not answered in time.
    pub timeouts: u64,
    /// Broken off, or answered with what is no answer.
    pub resets: u64,
}

impl Tally {
    pub fn failures(&self) -> u64 {
        self.server_errors + self.gateway_failures + self.connects + self.timeouts + self.resets
    }

    pub fn outcomes(&self) -> u64 {
        self.successes + self.failures()
    }
}

impl Load {
    /// A load that nothing is known of and that nobody judges. `epoch` lies before every instant it will be told of.
    pub fn new(epoch: Instant) -> Self {
        Self::judged(Arc::new(Breaker::idle()), epoch)
    }

    /// The load of an endpoint of the service that the breaker belongs to.
    pub fn judged(breaker: Arc<Breaker>, epoch: Instant) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            hot: Hot {
                latency: zero(),
                picks: zero(),
                successes: zero(),
                standing: zero(),
                run: zero(),
                failed: zero(),
                in_flight: AtomicU32::new(0),
                since: AtomicU32::new(0),
                breaker,
            },
            cold: Cold {
                epoch,
                server_errors: zero(),
                gateway_failures: zero(),
                connects: zero(),
                timeouts: zero(),
                resets: zero(),
                window: zero(),
            },
        }
    }

    /// What it shares with the other endpoints of its service.
    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.hot.breaker
    }

    /// Counts a request in, if the endpoint may have it, until what it returns is dropped.
    ///
    /// An endpoint that is ejected, unhealthy or draining takes requests all the same: who asks for it has nobody better.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Result<InFlight, Refused> {
        let round = match self.standing() {
            standing if standing.is_free() => 0,
            standing => self.try_out(standing, self.stamp(now))?,
        };
        let (in_flight, before) = self.enter(round, now);
        if before >= self.hot.breaker.endpoint_max() {
            return Err(Refused::EndpointFull);
        }
        self.hot.picks.fetch_add(1, Relaxed);
        Ok(in_flight)
    }

    /// Counts a request in whatever is believed of the endpoint.
    pub fn begin(self: &Arc<Self>, now: Instant) -> InFlight {
        self.hot.picks.fetch_add(1, Relaxed);
        self.enter(0, now).0
    }

    /// Returns how many were in flight before, too.
    fn enter(self: &Arc<Self>, round: u32, now: Instant) -> (InFlight, u32) {
        let before = self.hot.in_flight.fetch_add(1, Relaxed);
        let recheck = self.is_in_doubt(before, now);
        (InFlight { load: Arc::clone(self), began: now, recheck, round: AtomicU32::new(round), ended: AtomicU64::new(0) }, before)
    }

    /// Takes a place among those who try an endpoint that is half-open. Returns the round, or zero where there is none.
    #[cold]
    fn try_out(&self, standing: Standing, stamp: u32) -> Result<u32, Refused> {
        match standing.phase(stamp) {
            Phase::In | Phase::Out(Out::Ejected) => Ok(0),
            Phase::Out(Out::Open) => Err(Refused::Open),
            Phase::HalfOpen(out) => {
                let half_open = self.hot.breaker.half_open();
                match self.change(Bound::None, |standing| standing.tried(stamp, half_open)) {
                    Some(after) => Ok(after.stamp()),
                    None if out == Out::Open => Err(Refused::Open),
                    None => Err(Refused::HalfOpen),
                }
            }
        }
    }

    pub fn in_flight(&self) -> u32 {
        self.hot.in_flight.load(Relaxed)
    }

    /// Requests ever sent here, retries included.
    pub fn picks(&self) -> u64 {
        self.hot.picks.load(Relaxed)
    }

    /// The average as it stands now; zero if nothing was ever answered.
    pub fn latency(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.average().at(self.stamp(now)) as u64)
    }

    pub fn tally(&self) -> Tally {
        Tally {
            picks: self.picks(),
            successes: self.hot.successes.load(Relaxed),
            server_errors: self.cold.server_errors.load(Relaxed),
            gateway_failures: self.cold.gateway_failures.load(Relaxed),
            connects: self.cold.connects.load(Relaxed),
            timeouts: self.cold.timeouts.load(Relaxed),
            resets: self.cold.resets.load(Relaxed),
        }
    }

    /// Whether requests that have the choice go here: it is in, or half-open with a place left for one more to try it.
    pub fn eligible(&self, now: Instant) -> bool {
        let standing = self.standing();
        standing.is_free() || standing.is_eligible(self.stamp(now), self.hot.breaker.half_open())
    }

    /// Publishes what probes say. An endpoint that is well again begins without a past.
    pub fn set_healthy(&self, healthy: bool, now: Instant) {
        self.flag(Flag::Unhealthy, !healthy, now);
    }

    /// Publishes an operator's wish that it gets no more requests.
    pub fn set_draining(&self, draining: bool, now: Instant) {
        self.flag(Flag::Draining, draining, now);
    }

    /// Says whether the configuration takes it out of service. Balancers are told by themselves; here it only says whether it takes a
    /// place of those that may be out.
    pub(super) fn set_withdrawn(&self, withdrawn: bool) {
        self.change(Bound::None, |standing| standing.flagged(Flag::Withdrawn, withdrawn));
    }

    /// It has come to its service, now or again: its share may grow slowly.
    pub fn join(&self, now: Instant) {
        self.change(Bound::None, |standing| standing.flagged(Flag::Retired, false));
        self.hot.since.store(self.coarse(now), Relaxed);
    }

    /// It has left its service, and takes no place of those that may be out. Requests in flight end as they would.
    pub fn retire(&self) {
        self.change(Bound::None, |standing| standing.flagged(Flag::Retired, true));
    }

    /// Ejects it, if so many may be out. Returns whether it was in and is out now. `chance` decides on the jitter.
    pub fn eject(&self, why: Why, chance: u64, now: Instant) -> bool {
        self.take_out(Out::Ejected, why, Bound::Share, chance, now)
    }

    /// Ends an ejection early: it is half-open now, and requests may try it. Returns whether it was ejected.
    pub fn relent(&self, now: Instant) -> bool {
        let stamp = self.stamp(now);
        self.change(Bound::None, |standing| standing.relented(stamp)).inspect(|_| self.mark(now)).is_some()
    }

    /// Brings it back without a trial, from an ejection and from an open breaker. Returns whether it was out.
    pub fn restore(&self, now: Instant) -> bool {
        let stamp = self.stamp(now);
        let back = self.change(Bound::None, |standing| standing.back(stamp)).is_some();
        if back {
            self.begin_anew(0.0, now);
        }
        back
    }

    /// What one more request costs here: the latency, as many times over as there would be requests for each `share` of
    /// the work. An endpoint that has not answered yet is tried by one request at once and then by as few as possible; one that
    /// waits for somebody to try it costs nothing.
    pub(super) fn cost(&self, share: f64, now: Instant) -> f64 {
        let (in_flight, average) = (self.in_flight(), self.average());
        if !self.standing().is_free() && self.is_half_open(now) || self.is_in_doubt(in_flight, now) {
            return 0.0;
        }
        let nanos = match average.nanos {
            0.0 if in_flight == 0 => 0.0,
            0.0 => UNKNOWN.as_nanos() as f64,
            _ => f64::from(average.at(self.stamp(now))),
        };
        nanos * (f64::from(in_flight) / share + 1.0)
    }

    /// Whether its time out is over and it has a place for one more to try it.
    fn is_half_open(&self, now: Instant) -> bool {
        let (standing, stamp) = (self.standing(), self.stamp(now));
        matches!(standing.phase(stamp), Phase::HalfOpen(_)) && standing.is_eligible(stamp, self.hot.breaker.half_open())
    }

    /// Whether nothing has followed its last failure, nor is about to, for long enough.
    fn is_in_doubt(&self, in_flight: u32, now: Instant) -> bool {
        if self.hot.run.load(Relaxed) == 0 || in_flight > 0 {
            return false;
        }
        let last = (self.hot.failed.load(Relaxed) >> 32) as u32;
        u128::from(self.stamp(now).wrapping_sub(last)) >= RECHECK.as_millis()
    }

    /// Publishes a verdict as probes would, at no particular time.
    #[cfg(test)]
    pub(super) fn set_eligible(&self, eligible: bool) {
        self.set_healthy(eligible, self.cold.epoch);
    }

    fn flag(&self, flag: Flag, raised: bool, now: Instant) {
        if self.change(Bound::None, |standing| standing.flagged(flag, raised)).is_some() {
            if raised { self.mark(now) } else { self.begin_anew(0.0, now) }
        }
    }

    fn take_out(&self, out: Out, why: Why, bound: Bound, chance: u64, now: Instant) -> bool {
        let (stamp, breaker) = (self.stamp(now), &self.hot.breaker);
        let length = |times| breaker.length(out == Out::Open, times, chance);
        let taken = self.change(bound, |standing| standing.taken_out(out, why, stamp, breaker.forget(), length)).is_some();
        if taken {
            self.hot.run.store(0, Relaxed);
            self.cold.window.store(0, Relaxed);
            self.mark(now);
        }
        taken
    }

    /// Exchanges the standing for what follows from it, and with it the place among those of a service that may be out. Returns nothing if
    /// there is nothing to change, or no place.
    fn change(&self, bound: Bound, next: impl Fn(Standing) -> Option<Standing>) -> Option<Standing> {
        let breaker = &self.hot.breaker;
        let mut before = self.standing();
        loop {
            let after = next(before)?;
            let takes = after.is_counted() && !before.is_counted();
            if takes && !breaker.take_place(bound) {
                return None;
            }
            match self.hot.standing.compare_exchange_weak(before.0, after.0, Relaxed, Relaxed) {
                Ok(_) => {
                    if before.is_counted() && !after.is_counted() {
                        breaker.give_place();
                    }
                    return Some(after);
                }
                Err(seen) => {
                    if takes {
                        breaker.give_place();
                    }
                    before = Standing(seen);
                }
            }
        }
    }

    /// What failed before it was out says nothing of what it is now.
    fn begin_anew(&self, nanos: f32, now: Instant) {
        self.hot.run.store(0, Relaxed);
        self.hot.latency.store(Average::of(nanos, self.stamp(now)).pack(), Relaxed);
        self.mark(now);
    }

    fn mark(&self, now: Instant) {
        self.hot.since.store(self.coarse(now), Relaxed);
    }

    fn observe(&self, sample: impl Fn(Average) -> f32, now: Instant) {
        let stamp = self.stamp(now);
        let update = |word| {
            let average = Average::unpack(word);
            let next = average.observe(sample(average), stamp);
            (next != average).then_some(next.pack())
        };
        // It fails only if there is nothing to change.
        let _ = self.hot.latency.fetch_update(Relaxed, Relaxed, update);
    }

    /// Counts an outcome for the breaker's ratio, and opens it where a failure made it too high.
    fn weigh(&self, failed: bool, now: Instant) {
        let length = self.hot.breaker.window();
        if length == 0 {
            return;
        }
        let stamp = self.stamp(now);
        let update = |word| Some(Window(word).and(failed, stamp, length).0);
        // The closure always has an answer, so it is the word before.
        let before = self.cold.window.fetch_update(Relaxed, Relaxed, update).unwrap_or_default();
        let window = Window(before).and(failed, stamp, length);
        if failed && self.hot.breaker.is_too_many(window.failed(), window.total()) {
            self.take_out(Out::Open, Why::ErrorRatio, Bound::None, self.chance(now), now);
        }
    }

    /// As good as chance for a jitter: nodes begin at different instants, and the nanoseconds of one say nothing of the others'.
    fn chance(&self, now: Instant) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        (now.saturating_duration_since(self.cold.epoch).as_nanos() as u64).wrapping_mul(GOLDEN)
    }

    fn average(&self) -> Average {
        Average::unpack(self.hot.latency.load(Relaxed))
    }

    fn standing(&self) -> Standing {
        Standing(self.hot.standing.load(Relaxed))
    }

    fn stamp(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.cold.epoch).as_millis() as u32
    }

    fn coarse(&self, now: Instant) -> u32 {
        let millis = now.saturating_duration_since(self.cold.epoch).as_millis();
        // Zero says never.
        u32::try_from(millis >> COARSE).unwrap_or(u32::MAX).max(1)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if self.standing().is_counted() {
            self.hot.breaker.give_place();
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
